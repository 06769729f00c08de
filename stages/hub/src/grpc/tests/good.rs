//! Whoever may ask is answered, by every method.

use eddy_schemas::{
    audit::verify,
    region::wire::{GetWindowRequest, LabelRequest, ReceiptsRequest, SearchRequest, StatsRequest},
};
use futures_util::{StreamExt as _, stream};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::{certificates::Ca, hub::Hub};
use crate::answer::tests::fixture::{TestRegion, chain};

async fn hub(ca: &Ca) -> Hub {
    let region = TestRegion::new(2, &[0, 1]);
    for number in 0..20_u8 {
        region.add(&format!("plant-1/pump-{number}"), f32::from(number), &format!("a{number}"));
    }
    for (_, led) in &region.led {
        *led.chains.lock().unwrap() = vec![chain("plant-1", 9)];
    }
    Hub::start(ca, region).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_answers_who_may_ask_and_all_of_it_is_logged() {
    let ca = Ca::new();
    let hub = hub(&ca).await;
    let mut reader = hub.client(&ca, "console").await;
    let near = |x: f32| SearchRequest { vector: vec![x, 0.0, 0.0], k: 2, ..Default::default() };
    let found = reader.search(near(3.1)).await.unwrap().into_inner();
    let devices: Vec<_> = found.neighbours.iter().map(|near| near.device.as_str()).collect();
    assert_eq!(devices, ["pump-3", "pump-4"]);
    let own = &found.neighbours[0];
    let asked = GetWindowRequest { shard: own.shard, number: own.number, ..Default::default() };
    let window = reader.get_window(asked).await.unwrap().into_inner();
    assert_eq!((window.window.as_ref().unwrap().alert.as_str(), &window.vector), ("a3", &vec![3.0, 0.0, 0.0]));
    let receipts = reader.receipts(ReceiptsRequest { site: "plant-1".into() }).await.unwrap().into_inner();
    assert_eq!((receipts.chains.len(), receipts.chains[0].last), (1, 9));

    let many = stream::iter((0..50_u8).map(move |number| near(f32::from(number % 20) + 0.1)));
    let answers = reader.search_stream(many).await.unwrap().into_inner();
    let devices: Vec<String> = answers.map(|answer| answer.unwrap().neighbours[0].device.clone()).collect().await;
    assert_eq!(devices, (0..50).map(|number| format!("pump-{}", number % 20)).collect::<Vec<_>>());
    assert_eq!(hub.logs("console", "SearchStream", "ended").await, "50 searches answered");

    let said = LabelRequest {
        site: "plant-1".into(),
        device: "pump-3".into(),
        alert: "a3".into(),
        label: "bearing".into(),
        time: 0,
    };
    let mut labeler = hub.client(&ca, "alice").await;
    assert!(labeler.label(said).await.unwrap().into_inner().holds);
    let window = labeler.get_window(GetWindowRequest { alert: "a3".into(), ..Default::default() }).await.unwrap();
    assert_eq!(window.into_inner().history[0].origin, "hub/alice");
    let mut operator = hub.client(&ca, "bob").await;
    let stats = operator.stats(StatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.shards.iter().map(|shard| shard.windows).sum::<u64>(), 20);

    let log = hub.logged();
    let told: Vec<_> = log.iter().map(|[who, what, outcome, _]| format!("{who} {what} {outcome}")).collect();
    assert_eq!(
        told,
        [
            "console Search ok",
            "console GetWindow ok",
            "console Receipts ok",
            "console SearchStream ok",
            "console SearchStream ended",
            "alice Label asked",
            "alice Label ok",
            "alice GetWindow ok",
            "bob Stats ok"
        ]
    );
    let [.., label] = &log[6];
    assert!(label.contains("alert \"a3\": \"bearing\"") && label.contains("it holds"), "{label}");
    let [.., search] = &log[0];
    assert!(search.starts_with("from 127.0.0.1:") && search.contains("2 neighbours of 20 windows"), "{search}");
    assert!(verify(hub.log.path()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer_readers() {
    let ca = Ca::new();
    let hub = hub(&ca).await;
    let channel = hub.channel(&ca, "console").await;
    let service = "eddy.region.v1.Region".to_owned();
    let mut health = HealthClient::new(channel.clone());
    for service in [String::new(), service.clone()] {
        let checked = health.check(HealthCheckRequest { service }).await.unwrap().into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving);
    }
    let mut watched = health.watch(HealthCheckRequest { service: service.clone() }).await.unwrap().into_inner();
    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let symbol = ServerReflectionRequest {
        message_request: Some(MessageRequest::FileContainingSymbol(service.clone())),
        ..asked.clone()
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection.server_reflection_info(stream::iter([asked, symbol])).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let [MessageResponse::ListServicesResponse(services), MessageResponse::FileDescriptorResponse(file)] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&service.as_str()) && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    assert_eq!(file.file_descriptor_proto.len(), 1);
    // A stop is told to whoever watches, and ends.
    hub.stop.send_replace(true);
    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    drop(watched);
    assert_eq!(hub.serving.await.unwrap(), Ok(()));
}
