//! What the clients send, and what must come out: a device `d` sends reading `i` of channel `temperature` with the time
//! [`BASE_S`] + i seconds, so that each reading has a time of its own and says which it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::{Duration, Instant},
};

use eddy_runtime::client::{Client, ReadFrom};
use eddy_schemas::{Readings, SeriesName, flags};
use futures_util::TryStreamExt;

use crate::gateway::Gateway;

/// 2026-01-05T00:00:00Z, in seconds.
pub const BASE_S: i64 = 1_767_571_200;
/// Readings after which a series is commissioned, and some more: all of them are scored then.
pub const ENOUGH: usize = 450;
/// The channel.
pub const CHANNEL: &str = "temperature";

/// The value of reading `i`.
pub fn value(i: usize) -> f64 {
    // A slow wave with a little roughness, as a sensor's; two decimals.
    let i = i as f64;
    ((20.0 + 3.0 * (i / 40.0).sin() + 0.2 * (i * 2.399).sin()) * 100.0).round() / 100.0
}

/// Its time in nanoseconds.
pub fn time(i: usize) -> i64 {
    (BASE_S + i as i64) * 1_000_000_000
}

/// Readings as line protocol, in nanoseconds, with the device as a tag.
pub fn lines(device: &str, range: Range<usize>) -> String {
    let tag = device.replace(' ', "\\ ");
    range.map(|i| format!("{CHANNEL},device={tag} value={} {}\n", value(i), time(i))).collect()
}

/// One reading as a JSON object without its device.
pub fn json(i: usize) -> String {
    format!("{{\"ts\":{},\"{CHANNEL}\":{}}}", BASE_S + i as i64, value(i))
}

/// How often each reading came out.
pub type Counts = BTreeMap<i64, u64>;

/// The score rows of each series: how often each time is there.
pub async fn scored(client: &Client) -> BTreeMap<String, Counts> {
    let messages = client.read("DETECTIONS", &["scores.>"], ReadFrom::Start).await.unwrap();
    let messages: Vec<_> = messages.try_collect().await.unwrap();
    let mut counts = BTreeMap::<String, Counts>::new();
    for message in messages {
        let scores = eddy_schemas::Scores::decode(&message.payload).unwrap();
        for row in 0..scores.rows.len() {
            if scores.flags[row] & flags::JOINT == 0 && scores.rows.control(row).is_none() {
                let series = counts.entry(scores.rows.name(row).to_owned()).or_default();
                *series.entry(scores.rows.time[row]).or_default() += 1;
            }
        }
    }
    counts
}

/// All readings in READINGS, in order: series, time, value.
pub async fn readings(client: &Client) -> Vec<(String, i64, f64)> {
    let messages: Vec<_> = client.read("READINGS", &[], ReadFrom::Start).await.unwrap().try_collect().await.unwrap();
    let mut all = Vec::new();
    for message in messages {
        let batch = Readings::decode(&message.payload).unwrap();
        for row in (0..batch.rows.len()).filter(|row| batch.rows.control(*row).is_none()) {
            all.push((batch.rows.name(row).to_owned(), batch.rows.time[row], batch.value[row]));
        }
    }
    all
}

/// A series' encoded name.
pub fn series(device: &str, channel: &str) -> String {
    SeriesName::encode(device, channel).to_string()
}

/// Waits until READINGS has so many different readings of a device; returns how many.
pub async fn wait_for_readings(gateway: &mut Gateway, device: &str, least: usize) -> usize {
    let deadline = Instant::now() + Duration::from_secs(120);
    let prefix = series(device, "");
    loop {
        let all = readings(&gateway.client).await;
        let of_device = all.iter().filter(|(name, ..)| name.starts_with(&prefix));
        let found = of_device.map(|(name, time, _)| (name, time)).collect::<BTreeSet<_>>().len();
        if found >= least {
            return found;
        }
        assert!(Instant::now() < deadline, "{found} of {least} readings of {device}:\n{}", gateway.stages[0].log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until all is through, and checks that readings 0 to `sent` of each device were scored exactly once.
pub async fn assert_each_scored_once(gateway: &Gateway, devices: &[(&str, usize)]) {
    gateway.wait_until_through().await;
    let scored = scored(&gateway.client).await;
    for (device, sent) in devices {
        let name = series(device, CHANNEL);
        let none = Counts::new();
        let counts = scored.get(&name).unwrap_or(&none);
        let lost: Vec<usize> = (0..*sent).filter(|i| !counts.contains_key(&time(*i))).collect();
        let doubled: Vec<i64> = counts.iter().filter(|(_, times)| **times > 1).map(|(time, _)| *time).collect();
        assert!(
            lost.is_empty() && doubled.is_empty(),
            "{name}: of {sent} that were acknowledged {} are not scored, from {:?} on; {} are scored twice, from {:?} on",
            lost.len(),
            lost.first(),
            doubled.len(),
            doubled.first()
        );
    }
}
