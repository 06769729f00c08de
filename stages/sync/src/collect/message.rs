//! What a message of DETECTIONS means for the region.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use eddy_runtime::{bus::Delivery, store_loop::Gap, trace::Contexts};
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

use super::{coder::VectorCoder, noted::Noted, plain, summaries::Summaries};

/// What sync itself puts on CONTROL has an origin that begins so: the region knows it.
pub(super) const FROM_REGION: &str = "region/";
/// An alert's id that is longer is none that detect gives.
const ALERT_BYTES_MAX: usize = 128;
/// Rows that are no device's scored windows.
const UNSCORED: u16 = flags::COMMISSIONING | flags::JOINT;

/// Something for the queue.
pub(super) enum Item {
    /// An entry of a class.
    Entry(Class, wire::Entries),
    /// Messages that were gone before they were read, of a class.
    Missed(Class, Gap),
    /// An alert whose surroundings are wanted.
    Around(Noted),
}

/// What runs of messages give, and what they are read with.
pub(super) struct Reading {
    pub(super) coder: Box<dyn VectorCoder>,
    pub(super) summaries: Summaries,
    /// Whether readings around alerts are wanted.
    pub(super) snippets: bool,
    /// For the queue, in the messages' order.
    pub(super) items: Vec<Item>,
    pub(super) bytes: usize,
    /// Rows that were read.
    pub(super) rows: u64,
    /// Whether an alert, a label or a gap is among them.
    pub(super) urgent: bool,
    /// Messages that are none that detect writes.
    pub(super) refused: Vec<String>,
    /// Of the items, by their index, those that are part of sampled traces.
    pub(super) traced: Vec<(usize, Contexts)>,
    /// Alerts whose scores have not come yet, when they were stored, and their traces: the scores are next.
    alerts: Vec<(Bytes, Timestamp, Contexts)>,
    /// Codebooks that are among the items.
    books: HashSet<Bytes>,
}

/// An alert's event: which alert, and whether it opens it.
struct Event {
    alert: String,
    opens: bool,
    bundle: String,
}

/// Of a device and time there may be several, in the order of their rows.
type Events = HashMap<(String, Timestamp), VecDeque<Event>>;

impl Reading {
    pub(super) fn new(coder: Box<dyn VectorCoder>, summaries: Summaries, snippets: bool) -> Self {
        Self {
            coder,
            summaries,
            snippets,
            items: Vec::new(),
            bytes: 0,
            rows: 0,
            urgent: false,
            refused: Vec::new(),
            traced: Vec::new(),
            alerts: Vec::new(),
            books: HashSet::new(),
        }
    }

    /// What was read is committed; whether what summaries carry was saved, too.
    pub(super) fn committed(&mut self, saved: bool) {
        self.clear();
        self.coder.committed();
        self.summaries.committed(saved);
    }

    /// What was read since the last commit comes again.
    pub(super) fn rolled_back(&mut self) {
        self.clear();
        self.coder.rolled_back();
        self.summaries.rolled_back();
    }

    fn clear(&mut self) {
        self.items.clear();
        self.refused.clear();
        self.traced.clear();
        self.alerts.clear();
        self.books.clear();
        (self.bytes, self.rows, self.urgent) = (0, 0, false);
    }

    /// Reads the next message. Returns whether it completes what came before it: alerts come before the scores that they
    /// belong to, in one atomic batch.
    pub(super) fn take(&mut self, delivery: &Delivery) -> bool {
        if delivery.subject.starts_with("alerts.") {
            let contexts = delivery.provenance.contexts.clone();
            self.alerts.push((delivery.payload.clone(), delivery.stored_at, contexts));
            return false;
        }
        let events = self.alerts();
        if let Err(problem) = self.scores(delivery, events) {
            self.refused.push(format!("message {} on {}: {problem}", delivery.sequence, delivery.subject));
        }
        true
    }

    /// Reads a message of which only the summaries lack something: the rest is in the queue, and what could not be read was told.
    pub(super) fn take_again(&mut self, delivery: &Delivery) -> bool {
        if delivery.subject.starts_with("alerts.") {
            return false;
        }
        if let Ok((scores, _)) = read(&delivery.payload) {
            let mut slots = Slots::new(&scores);
            for row in 0..scores.rows.len() {
                match scores.rows.control(row).map(|control| &control.kind) {
                    Some(ControlKind::DeviceReset { device }) => self.reset(&names::encode(device)),
                    Some(_) => {}
                    None => slots.add(&mut self.summaries, &scores, row),
                }
            }
        }
        self.summaries.forget_due();
        true
    }

    /// A device's summary ends with it.
    fn reset(&mut self, token: &str) {
        let slot = self.summaries.slot(token);
        self.summaries.end(slot);
    }

    /// What came before the next message was removed. Up to `queued` only summaries missed something.
    pub(super) fn missed(&mut self, gap: Gap, queued: u64) {
        self.urgent = true;
        let entries = Gap { from: gap.from.max(queued + 1), ..gap };
        if entries.from <= entries.to {
            self.items.extend([Class::Alerts, Class::Deltas].map(|class| Item::Missed(class, entries)));
        }
        self.items.push(Item::Missed(Class::Summaries, gap));
    }

    fn push(&mut self, class: Class, entry: wire::Entries) {
        self.bytes += entry.encoded_len();
        self.items.push(Item::Entry(class, entry));
    }

    /// The alerts that came before scores: byte for byte into the queue, whatever they are.
    fn alerts(&mut self) -> Events {
        let mut events = Events::new();
        for (payload, stored_at, contexts) in std::mem::take(&mut self.alerts) {
            match event(&payload) {
                Ok((key, event)) => {
                    if self.snippets && event.opens && event.alert.len() <= ALERT_BYTES_MAX {
                        let (device, time) = key.clone();
                        self.items.push(Item::Around(Noted { alert: event.alert.clone(), device, time, stored_at }));
                    }
                    events.entry(key).or_default().push_back(event);
                }
                Err(problem) => self.refused.push(problem),
            }
            self.urgent = true;
            self.push(Class::Alerts, plain(What::Alert(payload)));
            if !contexts.is_empty() {
                self.traced.push((self.items.len() - 1, contexts));
            }
        }
        events
    }

    fn scores(&mut self, delivery: &Delivery, mut events: Events) -> Result<(), String> {
        let (scores, bundle) = read(&delivery.payload)?;
        let rows = &scores.rows;
        let mut slots = Slots::new(&scores);
        for row in 0..rows.len() {
            if let Some(control) = rows.control(row) {
                self.said(control, delivery.sequence, row);
                continue;
            }
            slots.add(&mut self.summaries, &scores, row);
            self.window(&scores, row, delivery.sequence, &bundle, &mut events);
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    /// A row that was kept or alerted, with its vector. What only this gateway's index compares episodes by stays here.
    fn window(&mut self, scores: &Scores, row: usize, sequence: u64, bundle: &Bytes, events: &mut Events) {
        let Some(kept) = scores.window(row).filter(|_| !is_local(scores.flags[row])) else { return };
        let key = (SeriesName::device_token(scores.rows.name(row)).to_owned(), scores.rows.time[row]);
        let is_alerted = scores.flags[row] & flags::ALERTED != 0;
        let event = is_alerted.then(|| next_of(events.get_mut(&key)?, &scores.bundle)).flatten();
        let vector: Vec<f32> = kept.vector.iter().map(|x| x.to_f32()).collect();
        // A component beyond f16's range: such a window is near to nothing, and index has none of it either.
        let Ok(coded) = self.coder.code(bundle, &vector) else { return };
        if let Some(codebook) = coded.codebook
            && self.books.insert(codebook.digest.clone())
        {
            let mut entry = plain(What::Codebook(wire::Codebook { bundle: 1, ..codebook }));
            entry.bundles = vec![bundle.clone()];
            self.push(Class::Deltas, entry);
        }
        let (alert, opens) = event.map_or_else(Default::default, |event| (event.alert, event.opens));
        let delta = wire::VectorDelta {
            action: wire::Action::Insert.into(),
            series: 1,
            bundle: 1,
            sequence,
            row: row as u32,
            end: scores.rows.time[row],
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
        (entry.series, entry.bundles) = (vec![scores.rows.name(row).to_owned()], vec![bundle.clone()]);
        self.push(Class::Deltas, entry);
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
                self.reset(&token);
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
            | ControlKind::Acknowledge { .. }
            | ControlKind::Maintenance { .. }
            | ControlKind::Recommission { .. }
            | ControlKind::RegionLabel { .. }
            | ControlKind::Bundle { .. } => {}
        }
    }
}

/// Whether a row is told with its vector for this gateway's index alone.
fn is_local(marks: u16) -> bool {
    marks & flags::EPISODE != 0 && marks & (flags::KEPT | flags::ALERTED) == 0
}

/// The summaries' slots of a message's series.
struct Slots(Vec<Option<usize>>);

impl Slots {
    fn new(scores: &Scores) -> Self {
        Self(vec![None; scores.rows.names.len()])
    }

    fn add(&mut self, summaries: &mut Summaries, scores: &Scores, row: usize) {
        if scores.flags[row] & UNSCORED == 0 {
            let token = SeriesName::device_token(scores.rows.name(row));
            let slot = &mut self.0[scores.rows.series[row] as usize];
            let slot = *slot.get_or_insert_with(|| summaries.slot(token));
            summaries.add(slot, scores.rows.time[row], scores.score[row]);
        }
    }
}

/// An alert's device and event time, and what it is.
fn event(payload: &[u8]) -> Result<((String, Timestamp), Event), String> {
    let event: CloudEvent = serde_json::from_slice(payload).map_err(|error| format!("not an alert: {error}"))?;
    let time = eddy_schemas::time_of(&event.time).ok_or_else(|| format!("an alert's time {:?} is none", event.time))?;
    let opens = event.data.phase == Phase::Opened;
    Ok(((names::encode(&event.data.device), time), Event { alert: event.data.alert, opens, bundle: event.data.bundle }))
}

/// The next event of these that a row of `bundle` is about. Where bundles change places the old one's alerts are closed beside
/// rows of the new one, which are about the new one's.
fn next_of(events: &mut VecDeque<Event>, bundle: &str) -> Option<Event> {
    events.retain(|event| event.bundle == bundle);
    events.pop_front()
}

/// A message of scores, and its bundle's digest.
fn read(payload: &[u8]) -> Result<(Scores, Bytes), String> {
    let scores = Scores::decode(payload).map_err(|error| error.to_string())?;
    let bundle = digest(&scores.bundle)?;
    Ok((scores, bundle))
}

/// A bundle's digest as it travels: the bytes that its hex digits say, or the text where it is none.
fn digest(bundle: &str) -> Result<Bytes, String> {
    match blake3::Hash::from_hex(bundle) {
        Ok(hash) => Ok(Bytes::copy_from_slice(hash.as_bytes())),
        Err(_) if (1..=64).contains(&bundle.len()) => Ok(Bytes::copy_from_slice(bundle.as_bytes())),
        Err(_) => Err(format!("a bundle's digest of {} bytes: 64 hex digits are taken", bundle.len())),
    }
}
