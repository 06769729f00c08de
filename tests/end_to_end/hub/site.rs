//! A made-up gateway at the hub's server: batches as sync sends them, and what the region should hold of them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    bus::{Bus as _, Publication, PublishError, nats::NatsBus},
    config::BusConfig,
};
use eddy_schemas::{
    SeriesName,
    alert::{Alert, CloudEvent, Phase, Severity},
    sync::{
        CHAIN_BYTES, Class, receipt, stream_of, subject_of,
        wire::{self, Action, Codes, VectorDelta, entry::What},
    },
};
use prost::Message as _;

pub async fn connect(url: &str) -> NatsBus {
    let none = PathBuf::new();
    let config = BusConfig {
        url: url.into(),
        credentials_file: none.clone(),
        nkey_file: none.clone(),
        tls_ca_file: none.clone(),
        tls_cert_file: none.clone(),
        tls_key_file: none,
        inbox_prefix: String::new(),
        api_prefix: String::new(),
        connect_timeout_ms: 2_000,
        request_timeout_ms: 1_000,
    };
    NatsBus::connect(&config, "tests").await.unwrap()
}

#[derive(Default)]
struct Chain {
    number: u64,
    last: u64,
    receipt: Bytes,
}

pub struct Site {
    pub name: String,
    bus: NatsBus,
    chains: BTreeMap<Class, Chain>,
    clock: i64,
    /// Alerts' events by their ids.
    pub alerts: BTreeMap<String, Bytes>,
    /// Windows by device, channel and end.
    pub windows: BTreeMap<(String, String, i64), Vec<f32>>,
}

impl Site {
    pub fn new(name: &str, bus: &NatsBus) -> Self {
        let (chains, alerts, windows) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { name: name.into(), bus: bus.clone(), chains, clock: 0, alerts, windows }
    }

    /// One batch of alerts and one of windows, both about `count` devices.
    pub async fn send(&mut self, count: usize) {
        let (mut alerts, mut windows, mut series) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..count {
            self.clock += 1;
            let (device, channel) = (format!("pump {n}"), "t".to_owned());
            let alert = format!("{device}-{}", self.clock);
            let json = self.alert(&device, &alert);
            alerts.push(What::Alert(json));
            series.push(SeriesName::encode(&device, &channel));
            // Few enough that f16 has what they stand for.
            let codes = [self.clock as u8 & 0x1f, n as u8 & 0x1f, 1, 0];
            let vector = eddy_vectors::quantizer::int8::decode(0.5, &codes).unwrap();
            self.windows.insert((device, channel, self.clock), vector);
            windows.push(What::Delta(VectorDelta {
                action: Action::Insert.into(),
                series: series.len() as u32,
                bundle: 1,
                sequence: self.clock as u64,
                end: self.clock,
                filled: 4,
                score: 0.25,
                codes: Codes::Int8.into(),
                scale: 0.5,
                vector: codes.to_vec().into(),
                alert,
                opens: true,
                ..Default::default()
            }));
        }
        self.batch(Class::Alerts, alerts, vec![]).await;
        self.batch(Class::Deltas, windows, series).await;
    }

    fn alert(&mut self, device: &str, alert: &str) -> Bytes {
        let alert = Alert {
            alert: alert.into(),
            phase: Phase::Opened,
            severity: Severity::Minor,
            site: self.name.clone(),
            device: device.into(),
            opened: "2026-01-01T00:00:00Z".into(),
            score: 1.0,
            tail: 1e-6,
            threshold: 1e-4,
            tail_min: 1e-6,
            channels: vec![],
            heads: vec![],
            bundle: "ab".into(),
        };
        let event = CloudEvent::new(alert, 0, "2026-01-01T00:00:00Z".into());
        let json = Bytes::from(event.to_json());
        self.alerts.insert(event.id, json.clone());
        json
    }

    async fn batch(&mut self, class: Class, entries: Vec<What>, series: Vec<String>) {
        let chain = self.chains.entry(class).or_default();
        let first = chain.last + 1;
        let numbered = |(n, what)| wire::Entry { id: first + n as u64, what: Some(what) };
        let entries: Vec<_> = entries.into_iter().enumerate().map(numbered).collect();
        let last = chain.last + entries.len() as u64;
        let mut batch = wire::Batch {
            site: self.name.clone(),
            class: class.into(),
            chain: vec![5; CHAIN_BYTES].into(),
            number: chain.number + 1,
            first,
            last,
            previous: chain.receipt.clone(),
            ..Default::default()
        };
        batch.pack(&wire::Entries { entries, series, bundles: vec![Bytes::from_static(&[0xab])] });
        let message = Bytes::from(batch.encode_to_vec());
        chain.receipt = receipt(&batch.previous, &message).to_vec().into();
        (chain.number, chain.last) = (batch.number, last);
        self.store(class, message).await;
    }

    /// As sync does: guarded, and after an answer that was lost it is looked whether the message is there.
    async fn store(&self, class: Class, message: Bytes) {
        let (stream, subject) = (stream_of(&self.name), subject_of(&self.name, class));
        loop {
            let last = match self.bus.last(&stream, &subject).await {
                Ok(last) => last,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if last.as_ref().is_some_and(|last| last.payload == message) {
                return;
            }
            let guard = Some(last.map_or(0, |last| last.sequence));
            let (stream, subject, payload) = (stream.clone(), subject.clone(), message.clone());
            match self.bus.publish(vec![Publication { stream, subject, headers: vec![], payload, guard }]).await {
                Ok(_) => return,
                Err(PublishError::Fatal(problem)) => panic!("{problem}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Up to which entry a class is sent.
    pub fn last(&self, class: &str) -> u64 {
        Class::of_token(class).and_then(|class| self.chains.get(&class)).map_or(0, |chain| chain.last)
    }
}
