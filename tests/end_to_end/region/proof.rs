//! What the hub's stream of a site holds, checked by code of its own: only the messages' format is shared with those who wrote it.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use eddy_schemas::{
    names,
    sync::wire::{Action, Batch, Codes, Entries, VectorDelta, entry::What},
};
use futures_util::StreamExt as _;
use prost::Message as _;

use super::truth::{Truth, Window, id};

/// A gap that a batch names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub class: String,
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub cause: i32,
}

/// All that was sent of a site.
#[derive(Debug, Default)]
pub struct Sent {
    /// Every alert's bytes, in their order.
    pub alerts: Vec<Vec<u8>>,
    /// Every window.
    pub windows: Vec<((u64, u32), Window)>,
    /// What is named as missing.
    pub gaps: Vec<Gap>,
    /// Chains by class, in their order.
    pub chains: BTreeMap<String, Vec<Vec<u8>>>,
}

/// Where a class's chain stands.
struct End {
    chain: Vec<u8>,
    number: u64,
    last: u64,
    receipt: Vec<u8>,
}

/// Reads the stream of `site` on the hub's server and follows its chains; panics where one does not hold.
pub async fn sent(url: &str, site: &str) -> Sent {
    let mut sent = Sent::default();
    let mut ends: BTreeMap<String, End> = BTreeMap::new();
    for (subject, payload) in messages(url, &format!("SITE_{}", names::encode(site))).await {
        let prefix = format!("sync.{}.", names::encode(site));
        let Some(class) = subject.strip_prefix(&prefix).map(str::to_owned) else { continue };
        let batch = Batch::decode(payload.as_slice()).unwrap();
        assert_eq!((batch.site.as_str(), batch.class().token()), (site, class.as_str()));
        follow(&mut ends, &mut sent, &class, &batch, &payload);
        for gap in &batch.gaps {
            let (first, last, count, cause) = (gap.first, gap.last, gap.count, gap.cause);
            sent.gaps.push(Gap { class: class.clone(), first, last, count, cause });
        }
        take(&mut sent, &batch);
    }
    sent
}

/// Each batch follows the one before it of its class, or begins a chain that says which one it replaces.
fn follow(ends: &mut BTreeMap<String, End>, sent: &mut Sent, class: &str, batch: &Batch, payload: &[u8]) {
    match ends.get(class) {
        Some(end) if end.chain == batch.chain => {
            assert_eq!((batch.number, batch.first), (end.number + 1, end.last + 1), "{class} has a hole");
            assert_eq!(
                batch.previous, end.receipt,
                "{class} batch {} does not hang on the one before it",
                batch.number
            );
        }
        before => {
            assert_eq!(batch.number, 1, "{class} begins in the middle");
            assert_eq!(batch.replaces, before.map(|end| end.chain.clone()).unwrap_or_default(), "{class}");
            sent.chains.entry(class.to_owned()).or_default().push(batch.chain.to_vec());
        }
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&batch.previous).update(payload);
    let receipt = hasher.finalize().as_bytes().to_vec();
    let end = End { chain: batch.chain.to_vec(), number: batch.number, last: batch.last, receipt };
    ends.insert(class.to_owned(), end);
}

fn take(sent: &mut Sent, batch: &Batch) {
    let plain = if batch.entries.is_empty() {
        Vec::new()
    } else {
        zstd::bulk::decompress(&batch.entries, batch.entries_bytes as usize).unwrap()
    };
    let entries = Entries::decode(plain.as_slice()).unwrap();
    let (mut number, mut gaps) = (batch.first, batch.gaps.iter().peekable());
    for entry in &entries.entries {
        while let Some(gap) = gaps.next_if(|gap| gap.first == number) {
            number = gap.last + 1;
        }
        assert_eq!(entry.id, number, "an entry is neither there nor in a gap");
        number += 1;
        match entry.what.as_ref().unwrap() {
            What::Alert(alert) => sent.alerts.push(alert.to_vec()),
            What::Delta(delta) if delta.action() == Action::Insert => {
                let series = entries.series[delta.series as usize - 1].clone();
                sent.windows.push(((delta.sequence, delta.row), window(series, delta)));
            }
            _ => {}
        }
    }
    for gap in gaps {
        assert_eq!(gap.first, number);
        number = gap.last + 1;
    }
    assert_eq!(number, batch.last + 1);
}

fn window(series: String, delta: &VectorDelta) -> Window {
    assert_eq!(delta.codes(), Codes::Int8);
    let vector = delta.vector.iter().map(|code| f32::from(*code as i8) * delta.scale).collect();
    Window { series, end: delta.end, score: delta.score, vector }
}

/// Everything that a gateway has was sent, once, as it is there.
pub async fn assert_sent(url: &str, site: &str, truth: &Truth) {
    let sent = sent(url, site).await;
    assert_eq!(sent.gaps, [], "{site}");
    let mut ids = BTreeSet::new();
    for alert in &sent.alerts {
        let id = id(alert);
        assert_eq!(truth.alerts.get(&id).map(|known| known.as_ref()), Some(alert.as_slice()), "{site}: alert {id}");
        assert!(ids.insert(id.clone()), "{site}: alert {id} came twice");
    }
    assert_eq!(ids.len(), truth.alerts.len(), "{site}: alerts");
    let mut keys = BTreeSet::new();
    for (key, window) in &sent.windows {
        assert_same(&truth.windows[key], window);
        assert!(keys.insert(*key), "{site}: window {key:?} came twice");
    }
    assert_eq!(keys.len(), truth.windows.len(), "{site}: windows");
}

/// The same window, its vector as near as a byte a component is.
pub fn assert_same(truth: &Window, found: &Window) {
    assert_eq!((&truth.series, truth.end, truth.score), (&found.series, found.end, found.score));
    let largest = truth.vector.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let step = largest / 127.0;
    assert_eq!(truth.vector.len(), found.vector.len());
    for (x, y) in truth.vector.iter().zip(&found.vector) {
        // Half a step, and what 16-bit floats round.
        assert!((x - y).abs() <= 0.51 * step + largest / 1_024.0, "{x} became {y} in {truth:?}");
    }
}

/// Every message of a stream: subject and payload.
async fn messages(url: &str, stream: &str) -> Vec<(String, Vec<u8>)> {
    let context = jetstream::new(async_nats::connect(url).await.unwrap());
    let consumer = context.create_consumer_on_stream(OrderedConfig::default(), stream).await.unwrap();
    let mut all = Vec::new();
    if consumer.cached_info().num_pending == 0 {
        return all;
    }
    let mut messages = consumer.messages().await.unwrap();
    while let Some(message) = messages.next().await {
        let message = message.unwrap();
        all.push((message.subject.to_string(), message.payload.to_vec()));
        if message.info().unwrap().pending == 0 {
            break;
        }
    }
    all
}
