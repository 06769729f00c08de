//! What a message of DETECTIONS means for the region.

use std::collections::HashMap;

use bytes::Bytes;
use eddy_runtime::{bus::Delivery, store_loop::Gap};
use eddy_schemas::{
    Control, ControlKind, Scores, SeriesName, Timestamp,
    alert::{CloudEvent, Phase},
    flags, names,
    sync::{
        Class,
        wire::{self, entry::What},
    },
};
use prost::Message as _;

use super::{coder::VectorCoder, plain, summaries::Summaries};

/// What sync itself puts on CONTROL has an origin that begins so: the region knows it.
pub(super) const FROM_REGION: &str = "region/";
/// Rows that are no device's scored windows.
const UNSCORED: u16 = flags::COMMISSIONING | flags::JOINT;

/// Something for the queue.
pub(super) enum Item {
    /// An entry of a class.
    Entry(Class, wire::Entries),
    /// Messages that were gone before they were read.
    Missed(Gap),
}

/// What runs of messages give, and what they are read with.
pub(super) struct Reading {
    pub(super) coder: Box<dyn VectorCoder>,
    pub(super) summaries: Summaries,
    /// For the queue, in the messages' order.
    pub(super) items: Vec<Item>,
    pub(super) bytes: usize,
    /// Rows that were read.
    pub(super) rows: u64,
    /// Whether an alert, a label or a gap is among them.
    pub(super) urgent: bool,
    /// Messages that are none that detect writes.
    pub(super) refused: Vec<String>,
    /// Alerts whose scores have not come yet: they are next.
    alerts: Vec<Bytes>,
}

/// An alert's event: which alert, and whether it opens it.
struct Event {
    alert: String,
    opens: bool,
}

type Events = HashMap<(String, Timestamp), Event>;

impl Reading {
    pub(super) fn new(coder: Box<dyn VectorCoder>, summaries: Summaries) -> Self {
        Self {
            coder,
            summaries,
            items: Vec::new(),
            bytes: 0,
            rows: 0,
            urgent: false,
            refused: Vec::new(),
            alerts: Vec::new(),
        }
    }

    /// Forgets what was read and is not committed.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.refused.clear();
        self.alerts.clear();
        (self.bytes, self.rows, self.urgent) = (0, 0, false);
    }

    /// Reads the next message. Returns whether it completes what came before it: alerts come before the scores that they
    /// belong to, in one atomic batch.
    pub(super) fn take(&mut self, delivery: &Delivery) -> bool {
        if delivery.subject.starts_with("alerts.") {
            self.alerts.push(delivery.payload.clone());
            return false;
        }
        let events = self.alerts();
        if let Err(problem) = self.scores(delivery, events) {
            self.refuse(delivery.sequence, &delivery.subject, &problem);
        }
        true
    }

    /// What came before the next message was removed.
    pub(super) fn missed(&mut self, gap: Gap) {
        self.urgent = true;
        self.items.push(Item::Missed(gap));
    }

    fn refuse(&mut self, sequence: u64, subject: &str, problem: &str) {
        self.refused.push(format!("message {sequence} on {subject}: {problem}"));
    }

    fn push(&mut self, class: Class, entry: wire::Entries) {
        self.bytes += entry.encoded_len();
        self.items.push(Item::Entry(class, entry));
    }

    /// The alerts that came before scores: byte for byte into the queue, whatever they are.
    fn alerts(&mut self) -> Events {
        let mut events = Events::new();
        for payload in std::mem::take(&mut self.alerts) {
            match event(&payload) {
                Ok((key, event)) => drop(events.insert(key, event)),
                Err(problem) => self.refused.push(problem),
            }
            self.urgent = true;
            self.push(Class::Alerts, plain(What::Alert(payload)));
        }
        events
    }

    fn scores(&mut self, delivery: &Delivery, mut events: Events) -> Result<(), String> {
        let scores = Scores::decode(&delivery.payload).map_err(|error| error.to_string())?;
        let bundle = digest(&scores.bundle)?;
        let rows = &scores.rows;
        let mut slots: Vec<Option<usize>> = vec![None; rows.names.len()];
        for row in 0..rows.len() {
            if let Some(control) = rows.control(row) {
                self.said(control, delivery.sequence, row);
                continue;
            }
            let (name, end) = (rows.name(row), rows.time[row]);
            if scores.flags[row] & UNSCORED == 0 {
                let slot = &mut slots[rows.series[row] as usize];
                let slot = *slot.get_or_insert_with(|| self.summaries.slot(SeriesName::device_token(name)));
                self.summaries.add(slot, end, scores.score[row]);
            }
            let Some(kept) = scores.window(row) else { continue };
            let key = (SeriesName::device_token(name).to_owned(), end);
            let event = (scores.flags[row] & flags::ALERTED != 0).then(|| events.remove(&key)).flatten();
            let vector: Vec<f32> = kept.vector.iter().map(|x| x.to_f32()).collect();
            if !vector.iter().all(|x| x.is_finite()) {
                // A component beyond f16's range: such a window is near to nothing, and index has none of it either.
                continue;
            }
            let coded = self.coder.code(&bundle, &vector);
            if let Some(codebook) = coded.codebook {
                let mut entry = plain(What::Codebook(wire::Codebook { bundle: 1, ..codebook }));
                entry.bundles = vec![bundle.clone()];
                self.push(Class::Deltas, entry);
            }
            let (alert, opens) = event.map_or_else(Default::default, |event| (event.alert, event.opens));
            let delta = wire::VectorDelta {
                action: wire::Action::Insert.into(),
                series: 1,
                bundle: 1,
                sequence: delivery.sequence,
                row: row as u32,
                end,
                span: kept.span,
                filled: kept.filled.into(),
                flags: scores.flags[row].into(),
                score: scores.score[row],
                codes: coded.codes.into(),
                scale: coded.scale,
                vector: coded.vector,
                alert,
                opens,
            };
            let mut entry = plain(What::Delta(delta));
            (entry.series, entry.bundles) = (vec![name.to_owned()], vec![bundle.clone()]);
            self.push(Class::Deltas, entry);
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    fn said(&mut self, control: &Control, sequence: u64, row: usize) {
        match &control.kind {
            ControlKind::Label { device, alert, label } if !control.origin.starts_with(FROM_REGION) => {
                let label = wire::Label {
                    device: device.clone(),
                    alert: alert.clone(),
                    label: label.clone(),
                    origin: control.origin.clone(),
                    time: control.time,
                };
                self.urgent = true;
                self.push(Class::Alerts, plain(What::Label(label)));
            }
            // Whoever said it: the region forgets what the gateway forgets, in the same place among its windows.
            ControlKind::DeviceReset { device } => {
                let token = names::encode(device);
                let slot = self.summaries.slot(&token);
                self.summaries.end(slot);
                let delta = wire::VectorDelta {
                    action: wire::Action::ForgetDevice.into(),
                    series: 1,
                    sequence,
                    row: row as u32,
                    end: control.time,
                    ..Default::default()
                };
                let mut entry = plain(What::Delta(delta));
                entry.series = vec![format!("{token}/*")];
                self.push(Class::Deltas, entry);
            }
            ControlKind::Label { .. }
            | ControlKind::Maintenance { .. }
            | ControlKind::Recommission { .. }
            | ControlKind::RegionLabel { .. } => {}
        }
    }
}

/// An alert's device and event time, and what it is.
fn event(payload: &[u8]) -> Result<((String, Timestamp), Event), String> {
    let event: CloudEvent = serde_json::from_slice(payload).map_err(|error| format!("not an alert: {error}"))?;
    let time = eddy_schemas::time_of(&event.time).ok_or_else(|| format!("an alert's time {:?} is none", event.time))?;
    let opens = event.data.phase == Phase::Opened;
    Ok(((names::encode(&event.data.device), time), Event { alert: event.data.alert, opens }))
}

/// A bundle's digest as it travels: the bytes that its hex digits say, or the text where it is none.
fn digest(bundle: &str) -> Result<Bytes, String> {
    match blake3::Hash::from_hex(bundle) {
        Ok(hash) => Ok(Bytes::copy_from_slice(hash.as_bytes())),
        Err(_) if (1..=64).contains(&bundle.len()) => Ok(Bytes::copy_from_slice(bundle.as_bytes())),
        Err(_) => Err(format!("a bundle's digest of {} bytes: 64 hex digits are taken", bundle.len())),
    }
}
