//! Webhooks that fail, hang, refuse and are not there.

use std::time::Duration;

use eddy_schemas::{alert::Phase, side::Reason};

use super::{
    Setting, event, opened, publish,
    receiver::{HANG, Receiver, order_of},
};

/// A sink that tries again soon.
fn sink(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[notify.webhook]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret_file = \"SECRET\"\ntimeout_ms = 400\n{more}\n\
         [notify.webhook.delivery]\nretry_wait_ms_min = 20\nretry_wait_ms_max = 200\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_fails_for_a_while_gets_each_alert_once_and_in_order() {
    let mut receiver = Receiver::start().await;
    let setting = Setting::start(&sink("phone", &receiver.url(), "")).await;
    let all = opened(&["a", "b/c", "d e", "é"], 0, 60);
    let mut sent = 0;
    for trouble in [500, HANG, 429, 1, 302, 503] {
        match trouble {
            1 => receiver.go_away().await,
            status => receiver.answer(status),
        }
        let requests = receiver.requests();
        publish(setting.client(), &all[sent..sent + 10]).await;
        sent += 10;
        match trouble {
            1 => tokio::time::sleep(Duration::from_secs(1)).await,
            _ => setting.wait("tried again", || receiver.requests() >= requests.saturating_add(4)).await,
        }
        if trouble == 1 {
            receiver.listen().await;
        }
        // Well for a moment: some get through, some are under way when it fails again.
        receiver.answer(200);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    setting.wait("all delivered", || receiver.times().len() == all.len()).await;
    assert!(receiver.times().values().all(|times| *times == 1), "{:?}", receiver.times());
    assert_eq!(receiver.in_order(), order_of(&all));
    for taken in receiver.taken() {
        assert!(taken.content_type.starts_with("application/cloudevents+json"));
        let event = all.iter().find(|event| event.id == taken.id).unwrap();
        assert_eq!(taken.body, event.to_json(), "byte for byte");
    }
    assert!(crate::oracle::dead_letters(setting.client()).await.is_empty());
    let (_, metrics) = setting.ask("/metrics").await;
    assert!(
        metrics.contains("eddy_delivered_alerts_total{stage=\"notify\",shard=\"0\",sink=\"phone\"} 60"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_filtered_out_does_not_arrive_and_the_rest_does_in_binary_mode() {
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let filter = "[notify.webhook.filter]\nseverity_min = \"major\"\ndevices = [\"pump*\"]\nphases = [\"closed\"]";
    let setting = Setting::start(&sink("x", &url, &format!("mode = \"binary\"\n{filter}"))).await;
    let mut all = Vec::new();
    for (episode, device) in ["pump 1", "pump 2", "fan", "pump 3"].into_iter().enumerate() {
        for (n, phase) in [Phase::Opened, Phase::Updated, Phase::Closed].into_iter().enumerate() {
            all.push(event(device, episode as u64, n as u32, phase));
        }
    }
    // Of episodes 0 to 3 the even ones are major.
    all.push(event("pump 9", 8, 2, Phase::Closed));
    publish(setting.client(), &all).await;
    setting.wait("the last one", || receiver.times().len() == 2).await;
    // Two devices have no order between them.
    let mut taken = receiver.taken();
    taken.sort_by(|one, other| one.device.cmp(&other.device));
    for (taken, (device, event)) in taken.iter().zip([("pump 1", &all[2]), ("pump 9", &all[12])]) {
        assert_eq!((taken.device.as_str(), taken.content_type.as_str()), (device, "application/json"));
        assert_eq!(taken.body, serde_json::to_vec(&event.data).unwrap(), "the data, byte for byte");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_put_aside_with_its_reason_while_others_go_on() {
    let receiver = Receiver::start().await;
    let mut setting = Setting::start(&format!("{}tries_max = 3\n", sink("x", &receiver.url(), ""))).await;
    receiver.answer_about("poison", 400);
    let all = opened(&["a", "poison", "b"], 0, 9);
    publish(setting.client(), &all).await;
    let rubbish = "alerts.plant.minor.rubbish";
    setting.client().publish(rubbish, &[], "{\"specversion\":".into()).await.unwrap();
    let letters = setting.dead_letters(4).await;
    setting.wait("the others", || receiver.times().len() == 6).await;
    assert_eq!(letters.len(), 4);
    let (refused, others): (Vec<_>, Vec<_>) =
        letters.into_iter().partition(|letter| letter.rejection.reason == Reason::Refused);
    assert_eq!(refused.len(), 3);
    for letter in &refused {
        assert_eq!(letter.rejection.detail, "400 Bad Request: as told");
        let original = letter.original().unwrap();
        assert!(all.iter().any(|event| event.data.device == "poison" && event.to_json() == original));
    }
    assert_eq!((others[0].rejection.reason, others[0].rejection.subject.as_str()), (Reason::Malformed, rubbish));
    // One that always fails is given up; what comes after it of the same device is not.
    receiver.answer_about("poison", 500);
    let given_up = event("poison", 100, 0, Phase::Opened);
    publish(setting.client(), std::slice::from_ref(&given_up)).await;
    let letters = setting.dead_letters(5).await;
    assert_eq!(letters[4].rejection.reason, Reason::Expired);
    assert!(letters[4].rejection.detail.starts_with("given up after 3 tries"), "{}", letters[4].rejection.detail);
    assert_eq!(letters[4].original().unwrap(), given_up.to_json());
    receiver.answer_about("nobody", 500);
    publish(setting.client(), &[event("poison", 101, 0, Phase::Opened)]).await;
    setting.wait("its device again", || receiver.times().len() == 7).await;
    // None of it comes again after a restart.
    assert!(setting.notify.stop().success(), "{}", setting.notify.log());
    setting.notify.restart();
    publish(setting.client(), &[event("c", 102, 0, Phase::Opened)]).await;
    setting.wait("after a restart", || receiver.times().len() == 8).await;
    assert!(receiver.times().values().all(|times| *times == 1));
    assert_eq!(setting.dead_letters(5).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sinks_the_dead_one_holds_nobody_and_is_told() {
    let (well, mut dead) = (Receiver::start().await, Receiver::start().await);
    dead.go_away().await;
    // More alerts than a sink holds: the dead one stops reading, and goes on where it stopped.
    let sinks = format!("pending_max = 10\n{}{}", sink("well", &well.url(), ""), sink("dead", &dead.url(), ""));
    let setting = Setting::start(&sinks).await;
    let all = opened(&["a", "b"], 0, 40);
    publish(setting.client(), &all).await;
    setting.wait("the one that is well", || well.times().len() == 40).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let (status, text) = setting.ask("/healthz").await;
        if status == 503 {
            assert!(text.contains("sink dead: 10 alerts wait"), "{text}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "a sink that stalls is not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    dead.listen().await;
    setting.wait("the one that was dead", || dead.times().len() == 40).await;
    for receiver in [&well, &dead] {
        assert!(receiver.times().values().all(|times| *times == 1));
        assert_eq!(receiver.in_order(), order_of(&all));
    }
    let (status, text) = setting.ask("/healthz").await;
    assert_eq!(status, 200, "{text}");
}
