//! What dies, what is lost, what is removed.

use std::time::Duration;

use eddy_runtime::provision::provision;
use eddy_schemas::side::Reason;

use super::{
    Setting, opened, publish,
    receiver::{Receiver, order_of},
};
use crate::gateway::{ROOMY, SITE, connect};

/// As many as can arrive twice after a kill.
const IN_FLIGHT: usize = 3;

fn sink(url: &str) -> String {
    format!(
        "[[notify.webhook]]\nname = \"x\"\nurl = \"{url}\"\nsecret_file = \"SECRET\"\ntimeout_ms = 2000\n\
         [notify.webhook.delivery]\nin_flight_max = {IN_FLIGHT}\nretry_wait_ms_min = 20\nretry_wait_ms_max = 200\n"
    )
}

fn seed() -> u64 {
    let seed = std::env::var("EDDY_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("EDDY_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_every_alert_arrives_and_only_what_was_under_way_twice() {
    let receiver = Receiver::start().await;
    let mut setting = Setting::start(&sink(&receiver.url())).await;
    let all = opened(&["a", "b", "c", "d", "e"], 0, 300);
    let sender = {
        let (client, all) = (setting.client().clone(), all.clone());
        tokio::spawn(async move {
            for some in all.chunks(5) {
                publish(&client, some).await;
                tokio::time::sleep(Duration::from_millis(80)).await;
            }
        })
    };
    let mut dice = seed();
    let kills = 20;
    for _ in 0..kills {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(100 + (dice >> 33) % 300)).await;
        if (dice >> 40).is_multiple_of(5) {
            setting.gateway.server.kill_and_restart();
        } else {
            setting.notify.kill_and_restart();
        }
    }
    sender.await.unwrap();
    setting.wait("every alert", || receiver.times().len() == all.len()).await;
    let times = receiver.times();
    let again: usize = times.values().map(|times| times - 1).sum();
    println!("{again} of {} arrived twice in {kills} kills", all.len());
    assert!(again <= kills * IN_FLIGHT, "{again} came again: {times:?}");
    for taken in receiver.taken() {
        let event = all.iter().find(|event| event.id == taken.id).unwrap();
        assert_eq!(taken.body, event.to_json(), "the same id, the same bytes");
    }
    assert_eq!(receiver.in_order(), order_of(&all));
    // Stopped as it should be, nothing comes twice at all.
    let mut before = receiver.taken().len();
    for round in 1..4 {
        let more = opened(&["a", "b"], round * 1_000, 10);
        publish(setting.client(), &more).await;
        setting.wait("some of it", || receiver.times().contains_key(&more[0].id)).await;
        assert!(setting.notify.stop().success(), "{}", setting.notify.log());
        setting.notify.restart();
        setting.wait("the rest", || receiver.times().contains_key(&more[9].id)).await;
        setting.wait("all of it", || receiver.taken().len() >= before + 10).await;
        before += 10;
    }
    assert_eq!(receiver.taken().len(), before);
    assert!(crate::oracle::dead_letters(setting.client()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_before_it_was_read_is_a_gap_that_is_told_once() {
    let receiver = Receiver::start().await;
    let mut setting = Setting::start(&sink(&receiver.url())).await;
    publish(setting.client(), &opened(&["a"], 0, 5)).await;
    setting.wait("the first ones", || receiver.times().len() == 5).await;
    assert!(setting.notify.stop().success());
    publish(setting.client(), &opened(&["a"], 10, 20)).await;
    let nats = async_nats::connect(setting.gateway.server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(nats).get_stream("DETECTIONS").await.unwrap();
    stream.purge().filter("alerts.>").sequence(16).await.unwrap();
    setting.notify.restart();
    setting.wait("what is left", || receiver.times().len() == 15).await;
    let letters = setting.dead_letters(1).await;
    assert_eq!((letters.len(), letters[0].rejection.reason, letters[0].sequence), (1, Reason::Missed, 6));
    assert!(letters[0].rejection.detail.contains("between 6 and 15"), "{}", letters[0].rejection.detail);
    let (_, metrics) = setting.ask("/metrics").await;
    assert!(metrics.contains("eddy_sink_gaps_total{stage=\"notify\",shard=\"0\",sink=\"x\"} 1"), "{metrics}");
    // Told once.
    setting.notify.kill_and_restart();
    publish(setting.client(), &opened(&["a"], 40, 1)).await;
    setting.wait("one more", || receiver.times().len() == 16).await;
    assert_eq!(setting.dead_letters(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_state_lost_a_sink_goes_on_where_the_bus_knows_of() {
    let receiver = Receiver::start().await;
    let mut setting = Setting::start(&sink(&receiver.url())).await;
    publish(setting.client(), &opened(&["a", "b"], 0, 20)).await;
    setting.wait("the first ones", || receiver.times().len() == 20).await;
    assert!(setting.notify.stop().success());
    std::fs::remove_dir_all(setting.state()).unwrap();
    publish(setting.client(), &opened(&["a", "b"], 20, 20)).await;
    setting.notify.restart();
    setting.wait("all", || receiver.times().len() == 40).await;
    assert!(receiver.times().values().all(|times| *times == 1), "{:?}", receiver.times());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_machine_that_was_made_anew_alerts_go_out_and_the_loss_is_told() {
    let receiver = Receiver::start().await;
    let mut setting = Setting::start(&sink(&receiver.url())).await;
    publish(setting.client(), &opened(&["a"], 0, 8)).await;
    setting.wait("the old ones", || receiver.times().len() == 8).await;
    assert!(setting.notify.stop().success());
    setting.gateway.server.reimage();
    setting.gateway.client = connect(&setting.gateway.server.url()).await;
    provision(setting.client(), SITE, 1, &ROOMY).await.unwrap();
    setting.notify.restart();
    publish(setting.client(), &opened(&["a"], 20, 3)).await;
    setting.wait("the new ones", || receiver.times().len() == 11).await;
    let letters = setting.dead_letters(1).await;
    assert_eq!((letters.len(), letters[0].rejection.reason), (1, Reason::Missed));
    assert!(letters[0].rejection.detail.contains("created anew"), "{}", letters[0].rejection.detail);
    // A second instance on the same state is refused, and the first goes on.
    let folder = setting.gateway.folder.path().join("twin");
    std::fs::create_dir_all(&folder).unwrap();
    let mut twin = crate::stage::StageProcess::start("notify", &folder, setting.notify.environment());
    let ended = loop {
        if let Some(status) = twin.ended() {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(ended.code(), Some(70), "{}", twin.log());
    assert!(twin.log().contains("in use by another eddy-notify"), "{}", twin.log());
    assert!(setting.notify.ended().is_none());
}
