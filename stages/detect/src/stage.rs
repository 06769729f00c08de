//! Detect: vectors become scores, scores become episodes, episodes are told as alerts.
//!
//! Input EMBEDDINGS, output DETECTIONS: exactly one score row per embedding, one more (channel `*`) whenever the channels
//! of a device have been judged together, every control in its place; alerts go out atomically with the rows that
//! they came with. A row is judged by the nearest of what its own series has seen, that distance by how often the series
//! had one as large, and the device by all its channels: see [`crate::series`], [`crate::joint`], [`crate::device`].
//!
//! State: [`crate::records`]. Ordering: a series' rows in time order, as embed gives them. Redelivery: none, the loop
//! suppresses it. A device's rows and alerts depend on that device's rows and controls alone, in their order: on no
//! other device, no batch and no clock.

use std::ops::Range;

use bytes::Bytes;
use eddy_runtime::{
    bundle::{Bundle, Manifest},
    stage::{AlertMessage, Incoming, Input, Outbox, SaveRecord, Scope, Spec, Stage, StateError},
};
use eddy_schemas::{
    ControlKind, Embeddings, JOINT_CHANNEL, LayoutError, ScoresBuilder, Timestamp, Told, alert::Phase, flags, names,
    side::Reason,
};

use crate::{
    Config, TellWindows,
    episode::Step,
    joint::Round,
    plan::Plan,
    registry::{CHANNELS_MAX, Registry, Slot},
    series::Window,
    turn::{Turn, round_marks},
};

/// Vectors are kept within this: their squares stay finite as f32, and what is f16 on the bus may overflow to infinity.
const COMPONENT_MAX: f32 = 1e15;

/// Rows in this tail of their own series' past are counted: their share tells whether the distribution of scores drifts.
const DRIFT_TAIL: f64 = 0.05;

/// The stage.
pub struct Detect {
    site: String,
    plan: Plan,
    config: Config,
    registry: Registry,
    /// Slot by dictionary entry of the message in hand.
    slots: Vec<Option<Slot>>,
    /// Head by column of the message in hand.
    columns: Vec<usize>,
    /// The row's vectors, by head.
    vectors: Vec<Vec<f32>>,
    joint_name: String,
    /// Rows judged in the message in hand, and those of them in [`DRIFT_TAIL`].
    drift: (u64, u64),
}

impl Stage for Detect {
    const SPEC: Spec = Spec {
        name: "detect",
        inputs: &[Input { stream: "EMBEDDINGS", prefix: "embeddings", sharded: true }],
        output_stream: "DETECTIONS",
        output_prefix: "scores",
        stateful: true,
        state_version: 3,
    };
    const DEFAULTS: &'static str = include_str!("../default.toml");
    type Config = Config;
    type Input = Embeddings;
    type Output = ScoresBuilder;

    fn new(config: Config, scope: &Scope) -> Result<Self, Vec<String>> {
        match Bundle::open(&config.bundle, &config.trusted_keys, config.allow_unsigned) {
            Ok(bundle) => Self::with_manifest(config, scope, &bundle.manifest, &bundle.digest),
            Err(error) => {
                let mut problems = config.validate();
                problems.push(format!("detect.bundle: {error}"));
                Err(problems)
            }
        }
    }

    fn outputs(&self) -> Vec<ScoresBuilder> {
        vec![ScoresBuilder::new(&self.plan.digest)]
    }

    fn decode(&self, message: &Incoming) -> Result<Embeddings, (Reason, String)> {
        let batch = Embeddings::decode(&message.payload).map_err(|error| match error {
            LayoutError::Version { .. } => (Reason::UnknownVersion, error.to_string()),
            _ => (Reason::Malformed, error.to_string()),
        })?;
        // A batch of controls alone is of no bundle in particular, but embed always names its own.
        match self.plan.refuses(&batch) {
            Some(problem) => Err((Reason::BundleMismatch, problem)),
            None => Ok(batch),
        }
    }

    fn rows(input: &Embeddings) -> usize {
        input.rows.len()
    }

    fn process(
        &mut self,
        message: &Incoming,
        input: &Embeddings,
        rows: Range<usize>,
        out: &mut Outbox<ScoresBuilder>,
    ) -> usize {
        self.reset_slots(input);
        // What does not fit was refused when it was decoded.
        self.columns = self.plan.columns(input).unwrap_or_default();
        self.drift = (0, 0);
        let mut reached = rows.start;
        for row in rows {
            match input.rows.control(row) {
                Some(control) => {
                    self.obey(&control.kind, out);
                    out.main[0].push_control(control);
                    self.reset_slots(input);
                }
                None => self.take(message, input, row, out),
            }
            reached = row + 1;
            if out.is_full() {
                break;
            }
        }
        out.count("judged", self.drift.0);
        out.count("upper_twentieth", self.drift.1);
        reached
    }

    fn save(&mut self, record: &mut SaveRecord<'_>) {
        self.registry.save(&self.plan, record);
    }

    fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.registry.load(&self.plan, key, value)
    }

    fn clear(&mut self) {
        self.registry = Registry::default();
    }
}

impl Detect {
    /// Builds the stage for a manifest that is already in memory.
    ///
    /// # Errors
    /// Every problem of the config and of the manifest's part in detection.
    pub fn with_manifest(
        config: Config,
        scope: &Scope,
        manifest: &Manifest,
        digest: &str,
    ) -> Result<Self, Vec<String>> {
        let mut problems = config.validate();
        match Plan::new(manifest, digest) {
            Ok(plan) if problems.is_empty() => Ok(Self {
                site: scope.site.clone(),
                vectors: plan.heads.iter().map(|head| vec![0.0; head.dimensions]).collect(),
                plan,
                config,
                registry: Registry::default(),
                slots: Vec::new(),
                columns: Vec::new(),
                joint_name: String::new(),
                drift: (0, 0),
            }),
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more.into_iter().map(|problem| format!("detect.bundle: {problem}")));
                Err(problems)
            }
        }
    }

    fn reset_slots(&mut self, input: &Embeddings) {
        self.slots.clear();
        self.slots.resize(input.rows.names.len(), None);
    }

    /// The slot of a row's series; none, with the row rejected, where there is no room for it.
    fn slot(
        &mut self,
        message: &Incoming,
        input: &Embeddings,
        row: usize,
        out: &mut Outbox<ScoresBuilder>,
    ) -> Option<Slot> {
        let entry = input.rows.series[row] as usize;
        if self.slots[entry].is_none() {
            let name = input.rows.name(row);
            self.slots[entry] = self.registry.find(name);
            if self.slots[entry].is_none() {
                let (series, channels) = (self.registry.len(), self.registry.channels(name));
                if series >= self.config.series_max || channels >= CHANNELS_MAX {
                    let detail = format!(
                        "row {row}: series {name:?} is one too many: there are {series} of detect.series_max {}, \
                         {channels} of at most {CHANNELS_MAX} on this device",
                        self.config.series_max
                    );
                    let original = Bytes::from(format!("{name} {}", input.rows.time[row]));
                    out.reject(row, message, Reason::TooLarge, detail, 1, original);
                    return None;
                }
                self.slots[entry] = Some(self.registry.add(&self.plan, name));
            }
        }
        self.slots[entry]
    }

    /// One embedding's row.
    fn take(&mut self, message: &Incoming, input: &Embeddings, row: usize, out: &mut Outbox<ScoresBuilder>) {
        let Some((device, place)) = self.slot(message, input, row, out) else { return };
        let mut optional = 0;
        for (column, head) in input.heads.iter().zip(&self.columns) {
            let vector = &mut self.vectors[*head];
            let is_there = column.copy_to(row, vector);
            optional += usize::from(is_there && column.head.optional);
            vector.iter_mut().for_each(|x| *x = finite(*x));
        }
        let window = Window {
            time: input.rows.time[row],
            filled: input.filled[row],
            commissioning: input.commissioning[row] != 0,
            period: input.period[row],
            spectrum: optional > 0 && optional == self.plan.series.len() - self.plan.every,
            vectors: &self.vectors,
        };
        let device = self.registry.change(device);
        let before = device.channels[usize::from(place)].newest;
        let turn = Turn { plan: &self.plan, config: &self.config, site: &self.site, window, place };
        let judged = turn.judge(device);
        let step = turn.step(device, &judged);
        let mut marks = judged.marks;
        if step != Step::Nothing {
            marks |= flags::ALERTED;
        }
        let leaving = self.plan.leaving;
        let is_whole = leaving.is_some_and(|head| window.filled >= self.plan.heads[head].min_rows);
        let period = device.channels[usize::from(place)].hop;
        if is_whole && !window.commissioning && device.episode.is_compared_at(before, window.time, period) {
            marks |= flags::EPISODE;
        }
        if marks & flags::GATED != 0 && device.episode.open {
            device.channels[usize::from(place)].hold(&self.plan, &window);
        }
        self.joint_name.clear();
        let [cut, whole] = judged.rounds;
        let joint_name = &mut self.joint_name;
        let token = &device.token;
        let mut push_round = |round: Option<Round>, out: &mut Outbox<ScoresBuilder>| {
            if let Some(round) = round {
                if joint_name.is_empty() {
                    joint_name.push_str(token);
                    joint_name.push('/');
                    joint_name.push_str(JOINT_CHANNEL);
                }
                out.main[0].push(joint_name, round.time, round.told, round.tail, round_marks(&round, marks), None);
            }
        };
        push_round(cut, out);
        let is_told = marks & (flags::KEPT | flags::ALERTED | flags::EPISODE) != 0
            || self.config.tell_windows == TellWindows::All && is_whole;
        let told = leaving.filter(|_| is_told).map(|head| Told {
            span: window.period.saturating_mul(i64::from(self.plan.heads[head].window) - 1),
            filled: window.filled,
            vector: &self.vectors[head],
        });
        out.main[0].push(input.rows.name(row), window.time, judged.told, judged.judgement.tail, marks, told);
        push_round(whole, out);
        count(out, marks);
        if !window.commissioning {
            self.drift.0 += 1;
            self.drift.1 += u64::from(judged.judgement.tail <= DRIFT_TAIL);
        }
        let phase = match step {
            Step::Nothing => return,
            Step::Opened => Phase::Opened,
            Step::Updated => Phase::Updated,
            Step::Closed => Phase::Closed,
        };
        tell(out, device.event(&self.plan, &self.config, &self.site, phase, window.time));
    }

    /// Does what a control asks of detect.
    fn obey(&mut self, kind: &ControlKind, out: &mut Outbox<ScoresBuilder>) {
        let device = match kind {
            ControlKind::Label { device, .. }
            | ControlKind::Maintenance { device, .. }
            | ControlKind::DeviceReset { device }
            | ControlKind::Recommission { device } => device,
            // Another site's device: its alerts are judged there.
            ControlKind::RegionLabel { .. } => return,
        };
        let Some(slot) = self.registry.device(&names::encode(device)) else {
            // Maintenance of a device that has not been seen yet: it is remembered for when it is.
            if let ControlKind::Maintenance { on: true, until, .. } = kind {
                self.maintain_unseen(&names::encode(device), *until);
            }
            return;
        };
        let (plan, config) = (&self.plan, &self.config);
        let device = self.registry.change(slot);
        let ends = match kind {
            ControlKind::Label { alert, label, .. } => {
                let is_meant = device.episode_id(plan, config, &self.site).as_deref() == Some(alert);
                is_meant && label == "normal"
            }
            ControlKind::Maintenance { on, .. } => *on,
            ControlKind::DeviceReset { .. } | ControlKind::Recommission { .. } => true,
            ControlKind::RegionLabel { .. } => false,
        };
        if ends && device.episode.open {
            let is_told = !device.episode.forgiven;
            match kind {
                ControlKind::Label { .. } if is_told => device.episode.forgive(),
                ControlKind::Label { .. } => {}
                _ => {
                    let rules = device.rules(config);
                    device.episode.close(&rules, device.newest);
                }
            }
            if is_told {
                tell(out, device.event(plan, config, &self.site, Phase::Closed, device.newest));
            }
        }
        match kind {
            ControlKind::Label { .. } if ends => {
                device.admit_held(plan);
                out.count("admitted", 1);
            }
            ControlKind::Label { .. } | ControlKind::RegionLabel { .. } => {}
            ControlKind::Maintenance { on, until, .. } => {
                device.maintenance = on.then(|| until.unwrap_or(Timestamp::MAX));
            }
            ControlKind::DeviceReset { .. } => self.registry.remove(plan, slot),
            ControlKind::Recommission { .. } => {
                // The next commissioning rows find them live, and begin anew.
                device.channels.iter_mut().filter(|series| !series.live).for_each(|series| series.go_live(plan));
                (device.joint, device.budget) = Default::default();
            }
        }
    }

    fn maintain_unseen(&mut self, token: &str, until: Option<Timestamp>) {
        if let Some(slot) = self.registry.expect_device(token, self.config.series_max) {
            self.registry.change(slot).maintenance = Some(until.unwrap_or(Timestamp::MAX));
        }
    }
}

fn count(out: &mut Outbox<ScoresBuilder>, marks: u16) {
    for (mark, kind) in
        [(flags::GATED, "gated"), (flags::REGIME, "regime"), (flags::KEPT, "kept"), (flags::MAINTENANCE, "maintained")]
    {
        if marks & mark != 0 {
            out.count(kind, 1);
        }
    }
}

fn tell(out: &mut Outbox<ScoresBuilder>, event: eddy_schemas::alert::CloudEvent) {
    out.count(event.data.phase.as_str(), 1);
    out.alerts.push(AlertMessage { subject: event.nats_subject(), payload: event.to_json() });
}

fn finite(x: f32) -> f32 {
    if x.is_nan() { 0.0 } else { x.clamp(-COMPONENT_MAX, COMPONENT_MAX) }
}

#[cfg(test)]
mod tests;
