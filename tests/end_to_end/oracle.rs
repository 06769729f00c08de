//! What came out of a gateway, read by a client that knows nothing of its inside.

use std::collections::{BTreeMap, BTreeSet};

use eddy_runtime::{
    client::{Client, ReadFrom},
    dead_letter::DeadLetter,
};
use eddy_schemas::{Readings, Scores, flags};
use futures_util::TryStreamExt;

use crate::recording::{Device, unique};

/// Alerts and scores by device and series: the same whatever the order between devices.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// Per subject without its severity: the alerts' bytes, in order.
    pub alerts: BTreeMap<String, Vec<String>>,
    /// Per series: its score rows, in order.
    pub scores: BTreeMap<String, Vec<String>>,
}

/// Everything in DETECTIONS.
pub async fn outcome(client: &Client) -> Outcome {
    let mut outcome = Outcome { alerts: BTreeMap::new(), scores: BTreeMap::new() };
    let messages = client.read("DETECTIONS", &[], ReadFrom::Start).await.unwrap();
    let messages: Vec<_> = messages.try_collect().await.unwrap();
    for message in messages {
        if message.subject.starts_with("alerts.") {
            let device = message.subject.rsplit('.').next().unwrap().to_owned();
            let text = String::from_utf8(message.payload.to_vec()).unwrap();
            outcome.alerts.entry(device).or_default().push(text);
        } else {
            for line in eddy_schemas::dump::rows(&message.payload).unwrap() {
                let series = line.split(' ').next().unwrap().to_owned();
                outcome.scores.entry(series).or_default().push(line);
            }
        }
    }
    outcome
}

/// How many readings (series and time) of the recording are neither scored nor late, and how many score rows are there
/// more than once. A score row that no reading stands behind is one that preprocess filled in: it may stand at the time of a
/// late one.
pub async fn lost_and_doubled(client: &Client, devices: &[Device]) -> (u64, u64) {
    let seen = scored(client).await;
    let late = late_rows(client).await;
    let is_lost = |key: &&(String, i64)| !seen.contains_key(*key) && !late.contains(*key);
    let lost = unique(devices).iter().filter(is_lost).count();
    (lost as u64, seen.values().filter(|times| **times > 1).count() as u64)
}

/// Score rows of series (not of joint vectors): how many there are of each series and time.
async fn scored(client: &Client) -> BTreeMap<(String, i64), u64> {
    let messages = client.read("DETECTIONS", &["scores.>"], ReadFrom::Start).await.unwrap();
    let messages: Vec<_> = messages.try_collect().await.unwrap();
    let mut seen = BTreeMap::<(String, i64), u64>::new();
    for message in messages {
        let scores = Scores::decode(&message.payload).unwrap();
        for row in 0..scores.rows.len() {
            if scores.flags[row] & flags::JOINT == 0 && scores.rows.control(row).is_none() {
                *seen.entry((scores.rows.name(row).to_owned(), scores.rows.time[row])).or_default() += 1;
            }
        }
    }
    seen
}

/// Series and times of the late rows in SIDE.
async fn late_rows(client: &Client) -> BTreeSet<(String, i64)> {
    let messages: Vec<_> =
        client.read("SIDE", &["late.>"], ReadFrom::Start).await.unwrap().try_collect().await.unwrap();
    let rows = messages.iter().flat_map(|message| {
        let rows = Readings::decode(&message.payload).unwrap().rows;
        (0..rows.len()).map(|row| (rows.name(row).to_owned(), rows.time[row])).collect::<Vec<_>>()
    });
    rows.collect()
}

/// Every dead letter.
pub async fn dead_letters(client: &Client) -> Vec<DeadLetter> {
    let messages: Vec<_> =
        client.read("SIDE", &["deadletter.>"], ReadFrom::Start).await.unwrap().try_collect().await.unwrap();
    messages.iter().flat_map(|message| DeadLetter::read(&message.payload).unwrap()).collect()
}

/// Fails with the first difference instead of two walls of text.
pub fn assert_same(expected: &Outcome, found: &Outcome, what: &str) {
    for (kind, expected, found) in
        [("alerts", &expected.alerts, &found.alerts), ("scores", &expected.scores, &found.scores)]
    {
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{what}: {kind}");
        for (name, lines) in expected {
            let others = &found[name];
            let at = lines.iter().zip(others).position(|(a, b)| a != b).unwrap_or(lines.len().min(others.len()));
            assert!(
                lines == others,
                "{what}: {kind} of {name}: {} and {} of them; first difference at {at}:\n{:?}\n{:?}",
                lines.len(),
                others.len(),
                lines.get(at),
                others.get(at)
            );
        }
    }
}
