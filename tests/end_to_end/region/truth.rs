//! What a gateway has to tell: read from its DETECTIONS.

use std::collections::BTreeMap;

use bytes::Bytes;
use eddy_runtime::client::{Client, ReadFrom};
use eddy_schemas::{Scores, names};
use futures_util::TryStreamExt as _;

/// A window that was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub series: String,
    pub end: i64,
    pub score: f32,
    pub vector: Vec<f32>,
}

/// What the region must have.
#[derive(Debug, Default)]
pub struct Truth {
    /// By the event's id.
    pub alerts: BTreeMap<String, Bytes>,
    /// By message and row.
    pub windows: BTreeMap<(u64, u32), Window>,
}

/// The id of an alert's event, read without the crate that wrote it.
pub fn id(payload: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
    json["id"].as_str().unwrap().to_owned()
}

/// All of a gateway.
pub async fn of(client: &Client, site: &str) -> Truth {
    let token = names::encode(site);
    let messages = client.read("DETECTIONS", &[], ReadFrom::Start).await.unwrap();
    let messages: Vec<_> = messages.try_collect().await.unwrap();
    let mut truth = Truth::default();
    for message in messages {
        if message.subject.starts_with(&format!("alerts.{token}.")) {
            let twice = truth.alerts.insert(id(&message.payload), message.payload);
            assert!(twice.is_none(), "the gateway itself has an alert twice");
            continue;
        }
        let scores = Scores::decode(&message.payload).unwrap();
        for row in 0..scores.rows.len() {
            let Some(window) = scores.window(row) else { continue };
            let kept = Window {
                series: scores.rows.name(row).to_owned(),
                end: scores.rows.time[row],
                score: scores.score[row],
                vector: window.vector.iter().map(|x| x.to_f32()).collect(),
            };
            truth.windows.insert((message.sequence, row as u32), kept);
        }
    }
    truth
}
