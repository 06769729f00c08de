//! Whoever may not is refused with a reason, which is logged; and nothing is done.

use std::{sync::mpsc, time::Duration};

use eddy_runtime::audit::Bounds;
use eddy_schemas::region::wire::{GetWindowRequest, LabelRequest, ReceiptsRequest, SearchRequest, StatsRequest};
use futures_util::{StreamExt as _, stream};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::{Code, Request, Status, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_prost::ProstCodec;

use super::{
    certificates::{Ca, Good},
    hub::{Hub, ROOMY},
};
use crate::{
    answer::tests::fixture::{BUNDLE, TestRegion},
    grpc::{GrpcConfig, Tls},
    service::region_client::RegionClient,
};

fn region() -> std::sync::Arc<TestRegion> {
    let region = TestRegion::new(1, &[0]);
    region.shard(0).add(BUNDLE, "plant-1/pump", 1.0, "a1");
    region
}

fn near() -> SearchRequest {
    SearchRequest { vector: vec![0.0; 3], ..Default::default() }
}

fn label() -> LabelRequest {
    let [site, device, alert, label] = ["plant-1", "pump", "a1", "normal"].map(str::to_owned);
    LabelRequest { site, device, alert, label, time: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_certificate_of_the_ca_there_is_no_connection() {
    let (ca, other, disguised) = (Ca::new(), Ca::named("other"), Ca::new());
    let hub = Hub::start(&ca, region()).await;
    let shown = [
        (None, "CertificateRequired", "peer sent no certificates"),
        (Some(other.sign(&["bob"], Good::Now)), "UnknownCA", "UnknownIssuer"),
        (Some(disguised.sign(&["bob"], Good::Now)), "DecryptError", "BadSignature"),
        (Some(ca.sign(&["bob"], Good::Before)), "CertificateExpired", "certificate expired"),
        (Some(ca.sign(&["bob"], Good::Later)), "CertificateExpired", "not valid yet"),
    ];
    for (pair, heard, logged) in shown {
        let reason = ca.hears(&hub.address, pair.as_ref()).await;
        hub.says(logged).await;
        assert!(reason.contains(heard), "{reason} for {heard}");
    }
    // A certificate that names nobody, or several.
    for (names, logged) in [(&[][..], "no CN"), (&["alice", "bob"], "several CNs")] {
        ca.hears(&hub.address, Some(&ca.sign(names, Good::Now))).await;
        hub.says(logged).await;
    }
    // No TLS at all.
    let mut plain = TcpStream::connect(&hub.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    hub.says("TLS: received corrupt message").await;
    let refused = |[who, what, outcome, _]: &[String; 4]| {
        who.starts_with("127.0.0.1:") && (&**what, &**outcome) == ("connect", "refused")
    };
    assert!(hub.logged().iter().all(refused), "nothing else happened: {:?}", hub.logged());
    // And whoever trusts another CA does not talk to this hub.
    assert!(hub.endpoint(other.client(Some(&ca.sign(&["bob"], Good::Now)))).connect().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_role_nothing_is_done() {
    let ca = Ca::new();
    let hub = Hub::start(&ca, region()).await;
    let refused = |status: Status, who: &str, role: &str| {
        let message = status.message();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(message.contains(&format!("the role {role}, which {who:?} has not")), "{message}");
    };
    // A gateway's certificate is good for the hub's NATS only.
    for who in ["site-plant-1", "Console", "bob "] {
        let channel = hub.channel(&ca, who).await;
        let mut client = RegionClient::new(channel.clone());
        refused(client.search(near()).await.unwrap_err(), who, "reader");
        refused(client.search_stream(stream::iter([near()])).await.unwrap_err(), who, "reader");
        refused(client.get_window(GetWindowRequest::default()).await.unwrap_err(), who, "reader");
        refused(client.receipts(ReceiptsRequest::default()).await.unwrap_err(), who, "reader");
        refused(client.label(label()).await.unwrap_err(), who, "labeler");
        refused(client.stats(StatsRequest {}).await.unwrap_err(), who, "operator");
        refused(HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap_err(), who, "reader");
        let entries = hub.logged();
        let told: Vec<_> =
            entries.iter().rev().take(7).filter(|[by, _, ended, _]| by == who && ended == "refused").collect();
        assert_eq!(told.len(), 7, "{entries:?}");
    }
    let mut reader = hub.client(&ca, "console").await;
    refused(reader.label(label()).await.unwrap_err(), "console", "labeler");
    refused(reader.stats(StatsRequest {}).await.unwrap_err(), "console", "operator");
    // Nor by saying that one asks for somebody else.
    let mut disguised = Request::new(label());
    disguised.metadata_mut().insert("eddy-for", "bob".parse().unwrap());
    refused(reader.label(disguised).await.unwrap_err(), "console", "labeler");
    refused(hub.client(&ca, "alice").await.stats(StatsRequest {}).await.unwrap_err(), "alice", "operator");
    assert!(hub.region.shard(0).said.lock().unwrap().is_empty());
    let labels = hub.logged().into_iter().filter(|[_, what, ..]| what.ends_with("Label"));
    assert!(labels.clone().count() == 5 && labels.clone().all(|[_, _, ended, _]| ended == "refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_or_too_large_is_refused_and_logged() {
    let ca = Ca::new();
    let hub = Hub::start(&ca, region()).await;
    let mut operator = hub.client(&ca, "bob").await;
    type Change = fn(&mut SearchRequest);
    let malformed: [(Change, &str); 6] = [
        (|request| request.vector[1] = f32::NAN, "vector[1] = NaN"),
        (|request| request.vector.push(0.0), "4 components"),
        (|request| request.k = 1_001, "k = 1001"),
        (|request| request.radius = -1.0, "radius = -1"),
        (|request| request.shards = vec![1], "shard = 1"),
        (|request| request.vector.clear(), "neither"),
    ];
    for (change, part) in malformed {
        let mut request = near();
        change(&mut request);
        let status = operator.search(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(part), "{status}");
        let [who, what, outcome, detail] = hub.logged().pop().unwrap();
        assert_eq!((&*who, &*what, &*outcome), ("bob", "Search", "wrong"));
        assert!(detail.contains(part), "{detail}");
    }
    let large = SearchRequest { vector: vec![0.0; 1_100], ..Default::default() };
    let status = operator.search(large).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let [_, what, outcome, detail] = hub.logged().pop().unwrap();
    assert!((&*what, &*outcome) == ("Search", "wrong") && detail.contains("4096"), "{outcome} {detail}");
    // The stream ends with the first that is refused; what came before is answered.
    let requests = [near(), SearchRequest { k: 2_000, ..near() }, near()];
    let answers = operator.search_stream(stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect().await;
    assert!(answers.len() == 2 && answers[0].is_ok(), "{answers:?}");
    assert_eq!(answers[1].as_ref().unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(hub.logs("bob", "SearchStream", "ended").await, "1 searches answered");
    // Bytes that are no message, and a method that is none.
    let channel = hub.channel(&ca, "bob").await;
    let status =
        raw(channel.clone(), "/eddy.region.v1.Region/Search", LabelRequest { site: "\u{1}".into(), ..label() }).await;
    assert_eq!(status.code(), Code::Internal, "{status}");
    hub.logs("bob", "Search", "failed").await;
    let status = raw(channel, "/eddy.region.v1.Region/Drop", label()).await;
    assert!(status.code() == Code::PermissionDenied && status.message().contains("no such method"), "{status}");
    hub.logs("bob", "/eddy.region.v1.Region/Drop", "refused").await;
}

/// Calls a method with another message than its own.
async fn raw(channel: Channel, path: &'static str, message: LabelRequest) -> Status {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec: ProstCodec<LabelRequest, LabelRequest> = ProstCodec::default();
    client.unary(Request::new(message), PathAndQuery::from_static(path), codec).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_past_its_deadline_is_given_up_and_logged() {
    let ca = Ca::new();
    let hub = Hub::start(&ca, region()).await;
    let (release, held_up) = mpsc::sync_channel(1);
    *hub.region.shard(0).held_up.lock().unwrap() = Some(held_up);
    let mut reader = hub.client(&ca, "console").await;
    let mut asked = Request::new(ReceiptsRequest::default());
    asked.set_timeout(Duration::from_millis(300));
    let status = reader.receipts(asked).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    let detail = hub.logs("console", "Receipts", "deadline").await;
    assert!(detail.contains("within the deadline"), "{detail}");
    // Whoever goes away is not waited for.
    let gone = tokio::time::timeout(Duration::from_millis(100), reader.receipts(ReceiptsRequest::default())).await;
    assert!(gone.is_err());
    hub.logs("console", "Receipts", "cancelled").await;
    drop(release);
    assert!(reader.search(near()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_logged_is_not_done() {
    let ca = Ca::new();
    let hub = Hub::with(ca.config(), region(), Bounds { file_bytes_max: 600, bytes_max: 2_000, key: "" }).await;
    let mut operator = hub.client(&ca, "bob").await;
    let mut answered = 0;
    let status = loop {
        match operator.search(near()).await {
            Ok(_) => answered += 1,
            Err(status) => break status,
        }
    };
    assert!(answered > 2 && status.code() == Code::Unavailable && status.message().contains("audit log"), "{status}");
    let status = loop {
        match operator.label(label()).await {
            Ok(_) => continue,
            Err(status) => break status,
        }
    };
    let said = hub.region.shard(0).said.lock().unwrap().len();
    let asked = hub.logged().iter().filter(|[_, what, ended, _]| (&**what, &**ended) == ("Label", "asked")).count();
    assert!(status.code() == Code::Unavailable && said == asked, "{status}: {said} said, {asked} logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_connections() {
    let ca = Ca::new();
    let hub = Hub::with(GrpcConfig { connections_max: 1, ..ca.config() }, region(), ROOMY).await;
    let mut first = hub.client(&ca, "console").await;
    first.search(near()).await.unwrap();
    ca.hears(&hub.address, Some(&ca.sign(&["bob"], Good::Now))).await;
    hub.says("\"bob\" comes while all connections are taken").await;
    assert!(first.search(near()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_connections_and_says_nothing_shuts_nobody_out() {
    let ca = Ca::new();
    let hub = Hub::start(&ca, region()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        // Another address of this machine than the good caller's.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((std::net::Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
        silent.push(socket.connect(hub.address.parse().unwrap()).await.unwrap());
    }
    hub.client(&ca, "console").await.search(near()).await.unwrap();
    hub.says("handshakes from there are under way").await;
}

#[tokio::test]
async fn files_that_are_no_good_are_told_with_their_keys() {
    let ca = Ca::new();
    let good = ca.config();
    assert_eq!(Tls::load(&good).unwrap().cn, "hub");
    let rubbish = ca.folder.path().join("rubbish");
    std::fs::write(&rubbish, "rubbish").unwrap();
    let theirs = ca.folder.path().join("theirs");
    std::fs::write(&theirs, ca.sign(&["other"], Good::Now).key).unwrap();
    let missing = ca.folder.path().join("missing");
    for (config, part) in [
        (GrpcConfig { ca_file: missing.clone(), ..good.clone() }, "hub.grpc.ca_file"),
        (GrpcConfig { ca_file: rubbish.clone(), ..good.clone() }, "hub.grpc.ca_file"),
        (GrpcConfig { cert_file: rubbish.clone(), ..good.clone() }, "hub.grpc.cert_file"),
        (GrpcConfig { key_file: rubbish, ..good.clone() }, "hub.grpc.key_file"),
        (GrpcConfig { key_file: theirs, ..good.clone() }, "hub.grpc.key_file"),
        (GrpcConfig { key_file: missing, ..good.clone() }, "hub.grpc.key_file"),
    ] {
        let problem = Tls::load(&config).err().unwrap();
        assert!(problem.starts_with(part), "{problem}");
    }
}
