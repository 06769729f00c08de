//! The gateway's memory: every window once, a context for every alert, and what an operator's word changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use eddy_runtime::client::{Client, ReadFrom};
use eddy_schemas::{
    Control, ControlKind, Scores,
    alert::{CloudEvent, Phase},
    context::{Context, Verdict},
    search::{CheckAnswer, IndexStats, Like, SearchAnswer},
};
use futures_util::TryStreamExt as _;

use crate::{
    faults::{Dice, seed},
    gateway::{Gateway, ROOMY, SITE},
    recording::{Device, fleet, send},
};

/// The message of each alert's opening, in their order.
pub async fn opened(client: &Client) -> Vec<CloudEvent> {
    let messages = client.read("DETECTIONS", &["alerts.>"], ReadFrom::Start).await.unwrap();
    let all: Vec<_> = messages.try_collect().await.unwrap();
    let events = all.iter().map(|message| serde_json::from_slice::<CloudEvent>(&message.payload).unwrap());
    events.filter(|event| event.data.phase == Phase::Opened).collect()
}

pub async fn contexts(client: &Client) -> Vec<Context> {
    let messages = client.read("CONTEXT", &[], ReadFrom::Start).await.unwrap();
    let all: Vec<_> = messages.try_collect().await.unwrap();
    all.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
}

/// Score rows that carry a vector, by series and end.
pub async fn told(client: &Client) -> BTreeSet<(String, i64)> {
    let messages = client.read("DETECTIONS", &["scores.>"], ReadFrom::Start).await.unwrap();
    let all: Vec<_> = messages.try_collect().await.unwrap();
    let mut windows = BTreeSet::new();
    for message in &all {
        let scores = Scores::decode(&message.payload).unwrap();
        for row in (0..scores.rows.len()).filter(|row| scores.window(*row).is_some()) {
            windows.insert((scores.rows.name(row).to_owned(), scores.rows.time[row]));
        }
    }
    windows
}

pub async fn stats(client: &Client) -> Option<IndexStats> {
    let answer = client.request(&format!("eddy.search.{SITE}.stats"), Bytes::new()).await.ok()?;
    Some(serde_json::from_slice(&answer).unwrap())
}

pub async fn search(client: &Client, request: serde_json::Value) -> Result<SearchAnswer, String> {
    let answer = client.request(&format!("eddy.search.{SITE}"), request.to_string().into()).await;
    answer.map(|answer| serde_json::from_slice(&answer).unwrap()).map_err(|error| error.to_string())
}

/// Waits until index has taken all of DETECTIONS and every alert has its context.
pub async fn indexed(gateway: &Gateway) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let end = gateway.client.stream("DETECTIONS").await.unwrap().unwrap().last_sequence;
        let reached = stats(&gateway.client).await.and_then(|stats| stats.position.rsplit_once(':')?.1.parse().ok());
        let alerts = opened(&gateway.client).await.len();
        if reached == Some(end) && contexts(&gateway.client).await.len() >= alerts {
            return;
        }
        assert!(Instant::now() < deadline, "index stands at {reached:?} of {end}, {alerts} alerts");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn label(client: &Client, alert: &CloudEvent, label: &str) {
    let control = Control {
        id: format!("test-{}", alert.data.alert),
        origin: "test".into(),
        time: 1,
        kind: ControlKind::Label {
            device: alert.data.device.clone(),
            alert: alert.data.alert.clone(),
            label: label.to_owned(),
        },
    };
    let subject = format!("control.{SITE}.label");
    client.publish(&subject, &[("Content-Type", "application/json")], control.to_json().into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_every_window_is_indexed_once_and_every_alert_has_one_context() {
    let mut dice = Dice(seed());
    let mut gateway = Gateway::start(&ROOMY).await;
    gateway.start_stage("index");
    let client = gateway.client.clone();
    let devices = fleet(&["harbour-1", "plaza.north 7"], 2_900);
    let sender = tokio::spawn(async move { send(&client, &devices, 100).await });
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(20 + dice.below(180))).await;
        gateway.stages[4].kill_and_restart();
    }
    sender.await.unwrap();
    gateway.wait_until_through().await;
    indexed(&gateway).await;
    let (alerts, contexts) = (opened(&gateway.client).await, contexts(&gateway.client).await);
    let of_alerts: Vec<&str> = alerts.iter().map(|event| event.data.alert.as_str()).collect();
    let mut of_contexts: Vec<&str> = contexts.iter().map(|context| context.alert.as_str()).collect();
    assert!(!alerts.is_empty() && of_contexts.len() == alerts.len(), "{of_alerts:?}\n{of_contexts:?}");
    of_contexts.sort_unstable_by_key(|alert| of_alerts.iter().position(|known| known == alert));
    assert_eq!(of_contexts, of_alerts);
    let told = told(&gateway.client).await;
    let held = stats(&gateway.client).await.unwrap();
    assert_eq!((held.windows, held.missed), (told.len() as u64, 0));
    let check = serde_json::json!({"from_sequence": 1, "sample": 500}).to_string();
    let answer = gateway.client.request(&format!("eddy.search.{SITE}.check"), check.into()).await.unwrap();
    let answer: CheckAnswer = serde_json::from_slice(&answer).unwrap();
    assert_eq!((answer.problems, answer.windows_from), (vec![], told.len() as u64));
    // Each of them, not only as many.
    let newest = serde_json::to_value(Like::Alert(of_alerts[0].to_owned())).unwrap();
    let all = search(&gateway.client, serde_json::json!({"like": newest, "k": 1000, "recall": 1})).await.unwrap();
    let mut seen = BTreeSet::new();
    for window in all.neighbours.iter().chain(&all.query) {
        let series = eddy_schemas::SeriesName::encode(&window.device, &window.channel);
        assert!(told.contains(&(series.clone(), window.end)) && seen.insert((series, window.end)), "{window:?}");
        assert!(window.start < window.end && window.filled > 0);
    }
    assert_eq!(seen.len(), told.len().min(1_001));
    assert!(
        search(&gateway.client, serde_json::json!({"like": {"alert": "none"}})).await.unwrap_err().contains("none")
    );
    assert!(search(&gateway.client, serde_json::json!({"lick": 1})).await.unwrap_err().contains("not a search"));
}

fn truth() -> serde_json::Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet/truth.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The true faults of the recording: device, first and last second in which an alert counts.
pub fn faults() -> Vec<(String, String, String)> {
    let truth = truth();
    let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
    let events = truth["events"].as_array().unwrap().iter().filter(|event| event["class"] == "fault");
    events.map(|event| (text(event, "device"), text(event, "start"), text(event, "end"))).collect()
}

/// The pattern of each of them: the same fault on several devices.
pub fn patterns() -> Vec<String> {
    let truth = truth();
    let events = truth["events"].as_array().unwrap().iter().filter(|event| event["class"] == "fault");
    events.map(|event| event["pattern"].as_str().unwrap().to_owned()).collect()
}

/// The fault that was going on when an alert opened; two hours after its end still count.
pub fn fault_of(faults: &[(String, String, String)], alert: &CloudEvent) -> Option<usize> {
    let opened = eddy_schemas::time_of(&alert.data.opened).unwrap();
    let at = |text: &str| eddy_schemas::time_of(text).unwrap();
    let goes_on = |(device, start, end): &(String, String, String)| {
        *device == alert.data.device && at(start) <= opened && opened <= at(end) + 7_200_000_000_000
    };
    faults.iter().position(goes_on)
}

/// The whole recording of the fleet.
pub fn whole_fleet() -> Vec<Device> {
    let truth = truth();
    let devices: Vec<&str> = truth["devices"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    fleet(&devices, 7_000)
}

/// The part of a recording before an event time; the rest stays.
fn take_until(devices: &mut [Device], until: i64) -> Vec<Device> {
    let part = |device: &mut Device| {
        let count = device.readings.iter().position(|reading| reading.1 > until).unwrap_or(device.readings.len());
        Device { name: device.name.clone(), readings: device.readings.drain(..count).collect() }
    };
    devices.iter_mut().map(part).collect()
}

/// The event times at which alerts open if nobody says anything.
async fn openings() -> BTreeSet<i64> {
    let gateway = Gateway::start(&ROOMY).await;
    send(&gateway.client, &whole_fleet(), 5_000).await;
    gateway.wait_until_through().await;
    opened(&gateway.client).await.iter().filter_map(|event| eddy_schemas::time_of(&event.data.opened)).collect()
}

/// The fleet's recording up to one alert after the other, with an operator who says of each false alert that is still open after
/// its context that it was normal. The alerts, and those that index closed by itself.
async fn with_an_operator(normal_closes: bool, openings: &BTreeSet<i64>) -> (Vec<CloudEvent>, BTreeSet<String>) {
    let faults = faults();
    let mut gateway = Gateway::start(&ROOMY).await;
    gateway.start_stage_with("index", &[("EDDY_INDEX_NORMAL_CLOSES", &normal_closes.to_string())]);
    let mut devices = whole_fleet();
    let mut said = BTreeMap::new();
    for until in openings.iter().copied().chain([i64::MAX]) {
        send(&gateway.client, &take_until(&mut devices, until), 5_000).await;
        gateway.wait_until_through().await;
        indexed(&gateway).await;
        let contexts = contexts(&gateway.client).await;
        for alert in opened(&gateway.client).await {
            let context = contexts.iter().find(|context| context.alert == alert.data.alert).unwrap();
            let closed = normal_closes && matches!(context.verdict, Verdict::KnownNormal { .. });
            let is_new = said.insert(alert.data.alert.clone(), closed).is_none();
            if is_new && !closed && fault_of(&faults, &alert).is_none() {
                label(&gateway.client, &alert, "normal").await;
            }
        }
        gateway.wait_until_through().await;
    }
    indexed(&gateway).await;
    let closed = said.into_iter().filter(|(_, closed)| *closed).map(|(alert, _)| alert).collect();
    (opened(&gateway.client).await, closed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_close_false_alerts_and_no_fault_is_lost() {
    let faults = faults();
    let found = |alerts: &[CloudEvent], closed: &BTreeSet<String>| {
        let open = alerts.iter().filter(|alert| !closed.contains(&alert.data.alert));
        let found: BTreeSet<usize> = open.clone().filter_map(|alert| fault_of(&faults, alert)).collect();
        (found.len(), open.filter(|alert| fault_of(&faults, alert).is_none()).count())
    };
    let openings = openings().await;
    let (without, none) = with_an_operator(false, &openings).await;
    let (with, closed) = with_an_operator(true, &openings).await;
    let (before, after) = (found(&without, &none), found(&with, &closed));
    println!(
        "faults found and false alerts left open: {before:?} without verdicts, {after:?} with; closed {}",
        closed.len()
    );
    assert!(after.0 >= before.0, "{before:?} {after:?}");
    assert!(after.1 * 10 <= before.1 * 7, "{before:?} {after:?}: fewer than 30% are closed");
}
