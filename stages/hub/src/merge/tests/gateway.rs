//! A made-up gateway: it sends what sync sends, and remembers it.

use std::collections::BTreeMap;

use bytes::Bytes;
use eddy_runtime::bus::{Bus, Publication, memory::MemoryBus};
use eddy_schemas::{
    SeriesName,
    alert::{Alert, CloudEvent, Phase, Severity},
    names,
    sync::{
        Class, receipt, stream_of, subject_of,
        wire::{self, Action, Codes, VectorDelta, entry::What},
    },
};
use prost::Message as _;

/// xorshift64*.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % most
    }
}

/// Where a class's chain stands.
#[derive(Clone, Default)]
struct Chain {
    number: u64,
    last: u64,
    receipt: Bytes,
    guard: u64,
    replaces: Bytes,
}

/// What the region should hold of it.
#[derive(Default)]
pub struct Sent {
    /// By event id.
    pub alerts: BTreeMap<String, Bytes>,
    /// By series as filed, and end.
    pub windows: BTreeMap<(String, i64), Vec<f32>>,
    /// By alert: the word that holds, and by whom.
    pub words: BTreeMap<String, (i64, String, String)>,
    /// By alert: the series and the end of the window that opened it.
    pub opened: BTreeMap<String, (String, i64)>,
    /// By class: batches and the last entry.
    pub classes: BTreeMap<&'static str, (u64, u64, String)>,
}

pub struct Gateway {
    pub site: String,
    pub chain: u8,
    bus: MemoryBus,
    chains: BTreeMap<Class, Chain>,
    clock: i64,
    /// Entries of the last batch of alerts, and the first one's number.
    last_alerts: (Vec<What>, u64),
    pub sent: Sent,
}

impl Gateway {
    pub fn new(site: &str, bus: &MemoryBus) -> Self {
        bus.create(&stream_of(site), 7);
        let (chains, sent) = (BTreeMap::new(), Sent::default());
        let last_alerts = (Vec::new(), 0);
        Self { site: site.into(), chain: 1, bus: bus.clone(), chains, clock: 0, last_alerts, sent }
    }

    /// Another one under the same name.
    pub fn replace(&mut self) {
        let old = self.chain;
        self.chain += 1;
        for chain in self.chains.values_mut() {
            let guard = chain.guard;
            *chain = Chain { guard, replaces: Bytes::from(vec![old; 16]), ..Chain::default() };
        }
    }

    /// The hub's stream was lost: it is empty.
    pub fn forget_stream(&mut self) {
        self.chains.values_mut().for_each(|chain| chain.guard = 0);
    }

    /// It finds no checkpoint at the hub: the last batch's entries come again, as the first ones of its chain.
    pub async fn begin_again(&mut self) {
        let (entries, first) = std::mem::take(&mut self.last_alerts);
        let Some(chain) = self.chains.get_mut(&Class::Alerts) else { return };
        *chain = Chain { last: first - 1, guard: chain.guard, ..Chain::default() };
        let batch = self.batch(Class::Alerts, entries, vec![], vec![]);
        self.send(Class::Alerts, batch).await;
    }

    /// The next batch of a class, not sent.
    pub fn batch(&self, class: Class, entries: Vec<What>, series: Vec<String>, gaps: Vec<wire::Gap>) -> wire::Batch {
        let chain = self.chains.get(&class).cloned().unwrap_or_default();
        let mut id = chain.last;
        let numbered = |what| {
            id += 1;
            while let Some(gap) = gaps.iter().find(|gap| gap.first == id) {
                id = gap.last + 1;
            }
            wire::Entry { id, what: Some(what) }
        };
        let entries: Vec<_> = entries.into_iter().map(numbered).collect();
        let last = entries.last().map_or(chain.last, |entry| entry.id);
        let last = gaps.last().map_or(last, |gap| gap.last.max(last));
        let mut batch = wire::Batch {
            site: self.site.clone(),
            class: class.into(),
            chain: vec![self.chain; 16].into(),
            number: chain.number + 1,
            first: chain.last + 1,
            last,
            gaps,
            previous: chain.receipt.clone(),
            replaces: if chain.number == 0 { chain.replaces } else { Bytes::new() },
            ..Default::default()
        };
        let bundles = vec![Bytes::from_static(&[0xbb; 4])];
        batch.pack(&wire::Entries { entries, series, bundles });
        batch
    }

    /// A message on a class's subject, guarded as sync's.
    pub async fn publish(&mut self, class: Class, payload: Bytes) {
        let chain = self.chains.entry(class).or_default();
        let message = Publication {
            stream: stream_of(&self.site),
            subject: subject_of(&self.site, class),
            headers: vec![],
            payload,
            guard: Some(chain.guard),
        };
        chain.guard = self.bus.publish(vec![message]).await.unwrap();
    }

    /// Sends a batch, and goes on behind it.
    pub async fn send(&mut self, class: Class, batch: wire::Batch) {
        let message = Bytes::from(batch.encode_to_vec());
        self.publish(class, message.clone()).await;
        let chain = self.chains.entry(class).or_default();
        chain.receipt = receipt(&chain.receipt, &message).to_vec().into();
        (chain.number, chain.last) = (batch.number, batch.last);
        let hex = crate::chain::hex(&chain.receipt);
        self.sent.classes.insert(class.token(), (batch.number, batch.last, hex));
    }

    fn device(&self, dice: &mut Dice) -> String {
        format!("pump/{}", dice.below(6))
    }

    /// Some alerts and labels.
    pub async fn alerts(&mut self, dice: &mut Dice) {
        let mut entries = Vec::new();
        for _ in 0..=dice.below(3) {
            self.clock += 1;
            let (device, clock) = (self.device(dice), self.clock);
            let alert = Alert {
                alert: format!("{device} {clock}"),
                phase: Phase::Opened,
                severity: Severity::Minor,
                site: self.site.clone(),
                device,
                opened: "2026-01-01T00:00:00Z".into(),
                score: 1.0,
                tail: 1e-6,
                threshold: 1e-4,
                tail_min: 1e-6,
                channels: vec![],
                heads: vec![],
                bundle: "bbbbbbbb".into(),
            };
            let event = CloudEvent::new(alert, clock as u32, "2026-01-01T00:00:00Z".into());
            let json = Bytes::from(event.to_json());
            self.sent.alerts.insert(event.id.clone(), json.clone());
            entries.push(What::Alert(json));
            if dice.below(2) == 0 {
                // Of this alert, or of one before it; by a clock that jumps.
                let about = self.clock - dice.below(3).min(self.clock as u64 - 1) as i64;
                let alerts: Vec<_> = self.sent.alerts.values().collect();
                let of = |json: &&&Bytes| String::from_utf8_lossy(json).contains(&format!(" {about}\""));
                let Some(event) = alerts.iter().find(of) else { continue };
                let event: CloudEvent = serde_json::from_slice(event).unwrap();
                let (label, time) = (format!("fault {}", dice.below(4)), dice.below(1_000) as i64);
                let origin = format!("{}/cli", self.site);
                let said = (time, origin.clone(), label.clone());
                let (device, alert) = (event.data.device, event.data.alert);
                let holds = self.sent.words.get(&alert).is_none_or(|old| said.0 >= old.0);
                if holds {
                    self.sent.words.insert(alert.clone(), said);
                }
                entries.push(What::Label(wire::Label { device, alert, label, origin: "cli".into(), time }));
            }
        }
        let batch = self.batch(Class::Alerts, entries.clone(), vec![], vec![]);
        self.last_alerts = (entries, batch.first);
        self.send(Class::Alerts, batch).await;
    }

    /// Some windows: of alerts that were told, and others; now and then a gap, or a device that is forgotten.
    pub async fn deltas(&mut self, dice: &mut Dice) {
        let (mut entries, mut series) = (Vec::new(), Vec::new());
        for _ in 0..=dice.below(6) {
            self.clock += 1;
            let device = self.device(dice);
            if dice.below(25) == 0 {
                series.push(format!("{}/*", names::encode(&device)));
                let action = Action::ForgetDevice.into();
                entries.push(What::Delta(VectorDelta { action, series: series.len() as u32, ..Default::default() }));
                let filed = crate::filed::device(&self.site, &device);
                self.sent.windows.retain(|(name, _), _| SeriesName::device_token(name) != filed);
                continue;
            }
            let channel = format!("t {}", dice.below(2));
            series.push(SeriesName::encode(&device, &channel));
            // Few enough that f16 has what they stand for.
            let codes = [dice.below(32) as u8, 255 - dice.below(32) as u8, 1];
            let vector = eddy_vectors::quantizer::int8::decode(0.5, &codes).unwrap();
            let key = (crate::filed::series(&self.site, &device, &channel), self.clock);
            self.sent.windows.insert(key.clone(), vector);
            let opener = self.sent.alerts.values().find_map(|json| {
                let event: CloudEvent = serde_json::from_slice(json).unwrap();
                let is_new = event.data.device == device && !self.sent.opened.contains_key(&event.data.alert);
                is_new.then_some(event.data.alert)
            });
            if let Some(alert) = &opener {
                self.sent.opened.insert(alert.clone(), key);
            }
            entries.push(What::Delta(VectorDelta {
                action: Action::Insert.into(),
                series: series.len() as u32,
                bundle: 1,
                sequence: self.clock as u64,
                end: self.clock,
                span: 10,
                filled: 4,
                flags: 1,
                score: 0.25,
                codes: Codes::Int8.into(),
                scale: 0.5,
                vector: codes.to_vec().into(),
                opens: opener.is_some(),
                alert: opener.unwrap_or_default(),
                ..Default::default()
            }));
        }
        let gaps = if dice.below(4) == 0 {
            let first = self.chains.get(&Class::Deltas).map_or(0, |chain| chain.last) + 1;
            let (last, cause) = (first + dice.below(5), wire::Cause::Budget.into());
            vec![wire::Gap { first, last, count: last + 1 - first, cause, detail: String::new() }]
        } else {
            vec![]
        };
        let batch = self.batch(Class::Deltas, entries, series, gaps);
        self.send(Class::Deltas, batch).await;
    }
}
