//! The capture stage: INGEST and CONTROL, merged into READINGS in the order in which the server stored them.
//!
//! - **Input**: INGEST `ingest.<site>.<device>`, what a device sent, in any format of [`crate::decode`]; CONTROL
//!   `control.<site>.<kind>`, one [`Control`] as JSON. Controls meet the readings here and keep their place from now on.
//! - **Output**: READINGS, a batch for each shard: series, event time, value, quality, arrival; and bursts where there are. A message's readings
//!   keep its order, a record's channels theirs. Refused parts go to the dead letters with their own bytes.
//! - **State**: none. (Which clocks seem off is remembered for reports only: see [`crate::clock_offset`].)
//! - **Ordering**: none is needed; that of the input is kept.
//!   A control of the whole site goes to every shard.
//! - **Redelivery**: a message decodes to the same items each time, so the loop's positions cut it at an item. Only
//!   readings stamped on arrival differ if a source sends them again: they are flagged.

use std::ops::Range;

use bytes::Bytes;
use eddy_runtime::{
    bundle::Library,
    stage::{Incoming, Outbox, Scope, Spec, Stage},
};
use eddy_schemas::{Control, ControlKind, ReadingsBuilder, Timestamp, health::Health, names, side::Reason};

use crate::{
    clock_offset::ClockWatch,
    config::Config,
    decode::{self, Bad, Decoded, Original, Refused, Rules, Source},
};

/// Bytes of a control: ids, names and a label, no more.
const CONTROL_BYTES_MAX: usize = 16 * 1024;

/// The stage; see the module's documentation.
#[derive(Debug)]
pub struct Capture {
    rules: Rules,
    /// The bundles that a control may name.
    bundles: Library,
    shards: u32,
    clocks: ClockWatch,
    /// The last INGEST message whose times the clock watch has taken: it may be processed again.
    watched: u64,
}

/// A decoded message of either stream.
#[derive(Debug)]
pub enum Input {
    /// What a device sent; and per series its shard.
    Readings(Decoded, Vec<u32>),
    /// An operator's word, and the shards that it is for: its device's, or all.
    Control(Box<Control>, Range<u32>),
}

impl Input {
    /// What was decoded, for a site of so many shards.
    pub(crate) fn readings(decoded: Decoded, shards: u32) -> Self {
        let shards = match shards {
            0 | 1 => vec![0; decoded.series.len()],
            shards => {
                let of = |device: &decode::Device| names::shard_of(&device.name, shards);
                let devices: Vec<_> = decoded.devices.iter().map(of).collect();
                decoded.series.iter().map(|series| devices[series.device as usize]).collect()
            }
        };
        Self::Readings(decoded, shards)
    }
}

impl Stage for Capture {
    const SPEC: Spec = Spec {
        name: "capture",
        inputs: &[
            eddy_runtime::stage::Input { stream: "INGEST", prefix: "ingest", sharded: false },
            eddy_runtime::stage::Input { stream: "CONTROL", prefix: "control", sharded: false },
        ],
        output_stream: "READINGS",
        output_prefix: "readings",
        stateful: false,
        state_version: 1,
    };
    const DEFAULTS: &'static str = include_str!("../default.toml");
    type Config = Config;
    type Input = Input;
    type Output = ReadingsBuilder;

    fn new(config: Config, scope: &Scope) -> Result<Self, Vec<String>> {
        let bundles = Library::new(&config.bundles, &config.trusted_keys, config.allow_unsigned);
        let (rules, limits) = config.validate()?;
        Ok(Self { rules, bundles, shards: scope.shards.max(1), clocks: ClockWatch::new(limits), watched: 0 })
    }

    fn outputs(&self) -> Vec<ReadingsBuilder> {
        (0..self.shards).map(|_| ReadingsBuilder::default()).collect()
    }

    fn decode(&self, message: &Incoming) -> Result<Input, Refused> {
        if message.stream == "CONTROL" {
            return self.control(message);
        }
        let device = names::decode(last_token(&message.subject, "ingest.<site>.<device>")?);
        let content_type = message.content_type.as_deref();
        let source = Source { device: Some(&device), arrival: message.stored_at, content_type, ..Source::default() };
        Ok(Input::readings(decode::decode(&message.payload, &source, &self.rules)?, self.shards))
    }

    fn rows(input: &Input) -> usize {
        match input {
            Input::Readings(decoded, _) => decoded.len(),
            Input::Control(..) => 1,
        }
    }

    fn process(
        &mut self,
        message: &Incoming,
        input: &Input,
        rows: Range<usize>,
        out: &mut Outbox<ReadingsBuilder>,
    ) -> usize {
        match input {
            Input::Control(control, shards) => {
                for shard in shards.clone() {
                    out.main[shard as usize].push_control(control, message.stored_at);
                }
                out.count("control", 1);
                rows.end
            }
            Input::Readings(decoded, shards) => {
                if rows.start == 0 && decoded.missing > 0 {
                    out.count("missing_value", decoded.missing);
                }
                let reached = emit(message, decoded, shards, rows, out);
                if reached == decoded.len() {
                    self.watch_clocks(message, decoded, out);
                }
                reached
            }
        }
    }

    fn tick(&mut self, _now: Timestamp) -> Vec<Health> {
        self.clocks.take()
    }

    fn clear(&mut self) {
        self.clocks.clear();
        self.watched = 0;
    }
}

impl Capture {
    fn control(&self, message: &Incoming) -> Result<Input, Refused> {
        let kind = last_token(&message.subject, "control.<site>.<kind>")?;
        let size = message.payload.len();
        if size > CONTROL_BYTES_MAX {
            return Err((
                Reason::TooLarge,
                format!("the control has {size} bytes, at most {CONTROL_BYTES_MAX} are taken"),
            ));
        }
        let control = Control::parse(&message.payload).map_err(|problem| (Reason::Malformed, problem))?;
        // Permissions are given by subject: what is allowed to label may not reset.
        if kind != control.subject_token() {
            let (id, said) = (&control.id, control.subject_token());
            return Err((Reason::InvalidField, format!("control {id:?} says {said} and came on a subject of {kind}")));
        }
        if let ControlKind::Bundle { digest, .. } = &control.kind {
            // From here on it is obeyed wherever the recording is read: what could not be obeyed is told now.
            let opened = self.bundles.open(digest);
            opened.map_err(|error| {
                (Reason::InvalidField, format!("control {:?}: capture.bundles: {error}", control.id))
            })?;
        }
        let shards = match control.device() {
            Some(device) => {
                let shard = names::shard_of(device, self.shards);
                shard..shard + 1
            }
            None => 0..self.shards,
        };
        Ok(Input::Control(Box::new(control), shards))
    }

    fn watch_clocks(&mut self, message: &Incoming, decoded: &Decoded, out: &mut Outbox<ReadingsBuilder>) {
        // What came directly comes once.
        if message.stream == "INGEST" {
            if message.sequence <= self.watched {
                return;
            }
            self.watched = message.sequence;
        }
        let mut untracked = 0;
        for device in &decoded.devices {
            if let Some(newest) = device.newest {
                untracked += u64::from(!self.clocks.observe(&device.name, newest, message.stored_at));
            }
        }
        if untracked > 0 {
            out.count("clock_untracked", untracked);
        }
    }
}

/// Emits items until the outbox is full; returns the item that was reached.
fn emit(
    message: &Incoming,
    decoded: &Decoded,
    shards: &[u32],
    rows: Range<usize>,
    out: &mut Outbox<ReadingsBuilder>,
) -> usize {
    let mut bad = decoded.bad_before(rows.start);
    for item in rows.clone() {
        let reading = item - bad;
        match decoded.bad.get(bad) {
            Some(refused) if refused.after == reading => {
                let original = original(&message.payload, refused);
                out.reject(item, message, refused.reason, refused.detail.clone(), refused.readings, original);
                bad += 1;
            }
            _ => {
                let series = decoded.of[reading] as usize;
                let (time, value, quality) = (decoded.time[reading], decoded.value[reading], decoded.quality[reading]);
                let text = &decoded.series[series].text;
                let batch = &mut out.main[shards[series] as usize];
                batch.push(text, time, value, quality, message.stored_at);
                if let Some(burst) = decoded.bursts.get(reading) {
                    batch.burst(burst);
                }
            }
        }
        if out.is_full() {
            return item + 1;
        }
    }
    rows.end
}

fn original(payload: &Bytes, refused: &Bad) -> Bytes {
    match &refused.original {
        Original::Bytes(range) => payload.slice(range.clone()),
        Original::Message => payload.clone(),
        Original::Row(json) => Bytes::copy_from_slice(json.as_bytes()),
    }
}

/// The third and last token of a subject.
fn last_token<'a>(subject: &'a str, form: &str) -> Result<&'a str, Refused> {
    let mut tokens = subject.split('.');
    match (tokens.next(), tokens.next(), tokens.next(), tokens.next()) {
        (Some(_), Some(_), Some(last), None) if !last.is_empty() => Ok(last),
        _ => {
            let count = subject.split('.').count();
            let problem = format!("subject {subject:?} has {count} tokens, not {form}: percent-encode dots in names");
            Err((Reason::InvalidField, problem))
        }
    }
}
