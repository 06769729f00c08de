//! What one bundle thinks of the rows: its plan, its devices, and one row's way through them.
//!
//! The active bundle's judge tells; one in the shadow judges the same rows, learns from them, and tells nobody. Where the two
//! change places each device is handed over at its next row: what one has told of an open episode is closed, and what the
//! other knows of one is opened.

use bytes::Bytes;
use eddy_runtime::{
    position::Seen,
    stage::{AlertMessage, Incoming, Outbox},
    telemetry::Tails,
};
use eddy_schemas::{
    ControlKind, Embeddings, HeadColumn, JOINT_CHANNEL, ScoresBuilder, Timestamp, Told,
    alert::{CloudEvent, Phase},
    flags, names,
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

/// What all judges of a stage share.
pub(crate) struct Court {
    pub(crate) site: String,
    pub(crate) config: Config,
}

/// A row of a message.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) message: &'a Incoming,
    pub(crate) input: &'a Embeddings,
    pub(crate) row: usize,
    /// The columns of the judge's bundle.
    pub(crate) heads: &'a [HeadColumn],
}

/// One bundle's judge.
pub(crate) struct Judge {
    pub(crate) plan: Plan,
    pub(crate) registry: Registry,
    /// Whether it began beside a bundle that had been at work: series that embed no longer commissions are commissioned here.
    pub(crate) joined: bool,
    /// Whether its bundle has been the active one.
    pub(crate) was_active: bool,
    /// Series past commissioning; kept for a judge in the shadow alone.
    pub(crate) warm: u64,
    /// Slot by dictionary entry of the message in hand.
    slots: Vec<Option<Slot>>,
    /// Head by column of the message in hand.
    columns: Vec<usize>,
    /// The row's vectors, by head.
    vectors: Vec<Vec<f32>>,
    joint_name: String,
    /// Rows judged in the message in hand, and those of them in [`DRIFT_TAIL`].
    drift: (u64, u64),
    /// Their tail probabilities, and the newest event time of all rows.
    scored: (Tails, Timestamp),
}

impl Judge {
    pub(crate) fn new(plan: Plan, joined: bool) -> Self {
        Self {
            vectors: plan.heads.iter().map(|head| vec![0.0; head.dimensions]).collect(),
            plan,
            registry: Registry::default(),
            joined,
            was_active: false,
            warm: 0,
            slots: Vec::new(),
            columns: Vec::new(),
            joint_name: String::new(),
            drift: (0, 0),
            scored: (Tails::default(), Timestamp::MIN),
        }
    }

    /// A message begins, whose vectors these are.
    pub(crate) fn begin(&mut self, input: &Embeddings, heads: &[HeadColumn]) {
        self.reset_slots(input);
        // What does not fit was refused when it was decoded.
        self.columns = self.plan.columns(heads).unwrap_or_default();
        self.drift = (0, 0);
        self.scored = (Tails::default(), Timestamp::MIN);
    }

    /// A control may have removed series.
    pub(crate) fn reset_slots(&mut self, input: &Embeddings) {
        self.slots.clear();
        self.slots.resize(input.rows.names.len(), None);
    }

    /// Rows judged since [`Self::begin`], and those of them in the upper twentieth of their own past.
    pub(crate) fn drift(&self) -> (u64, u64) {
        self.drift
    }

    /// How the rows judged since [`Self::begin`] are spread, and the newest event time since; `None` if there were none.
    pub(crate) fn scored(&self) -> Option<(Tails, Timestamp)> {
        (self.scored.1 > Timestamp::MIN).then_some(self.scored)
    }

    /// The slot of a row's series; none, with the row rejected, where there is no room for it.
    fn slot(&mut self, court: &Court, at: Row<'_>, out: &mut Outbox<ScoresBuilder>) -> Option<Slot> {
        let Row { message, input, row, .. } = at;
        let entry = input.rows.series[row] as usize;
        if self.slots[entry].is_none() {
            let name = input.rows.name(row);
            self.slots[entry] = self.registry.find(name);
            if self.slots[entry].is_none() {
                let (series, channels) = (self.registry.len(), self.registry.channels(name));
                if series >= court.config.series_max || channels >= CHANNELS_MAX {
                    let detail = format!(
                        "row {row}: series {name:?} is one too many: there are {series} of detect.series_max {}, \
                         {channels} of at most {CHANNELS_MAX} on this device",
                        court.config.series_max
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

    /// Copies the row's vectors; whether it has all optional ones.
    fn read_vectors(&mut self, at: Row<'_>) -> bool {
        let mut optional = 0;
        for (column, head) in at.heads.iter().zip(&self.columns) {
            let vector = &mut self.vectors[*head];
            let is_there = column.copy_to(at.row, vector);
            optional += usize::from(is_there && column.head.optional);
            vector.iter_mut().for_each(|x| *x = finite(*x));
        }
        optional > 0 && optional == self.plan.series.len() - self.plan.every
    }

    /// One embedding's row, for a judge that tells, unless its device has seen it. Returns whether an alert opened.
    pub(crate) fn take(&mut self, court: &Court, at: Row<'_>, out: &mut Outbox<ScoresBuilder>) -> bool {
        let Some((device, place)) = self.slot(court, at, out) else { return false };
        let Row { message, input, row, .. } = at;
        if self.registry.has_seen(device, message.sequence, row) {
            return false;
        }
        let spectrum = self.read_vectors(at);
        let device = self.registry.change(device);
        device.seen = Seen::row(message.sequence, row);
        let series = &device.channels[usize::from(place)];
        let before = series.newest;
        let learns_late = self.joined && series.is_learning(&self.plan);
        let window = window(at, learns_late, spectrum, &self.vectors);
        let turn = Turn { plan: &self.plan, config: &court.config, site: &court.site, window, place, tells: true };
        let judged = turn.judge(device);
        let mut step = turn.step(device, &judged);
        if !window.commissioning && device.maintenance.is_none() && device.episode.hand_over(true) == Step::Opened {
            step = Step::Opened;
        }
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
            || court.config.tell_windows == TellWindows::All && is_whole;
        let told = leaving.filter(|_| is_told).map(|head| Told {
            span: window.period.saturating_mul(i64::from(self.plan.heads[head].window) - 1),
            filled: window.filled,
            vector: &self.vectors[head],
        });
        out.main[0].push(input.rows.name(row), window.time, judged.told, judged.judgement.tail, marks, told);
        push_round(whole, out);
        count(out, marks);
        self.scored.1 = self.scored.1.max(window.time);
        if !window.commissioning {
            self.scored.0.count(judged.judgement.tail);
            self.drift.0 += 1;
            self.drift.1 += u64::from(judged.judgement.tail <= DRIFT_TAIL);
        }
        let phase = match step {
            Step::Nothing => return false,
            Step::Opened => Phase::Opened,
            Step::Updated => Phase::Updated,
            Step::Closed => Phase::Closed,
        };
        tell(out, device.event(&self.plan, &court.config, &court.site, phase, window.time));
        phase == Phase::Opened
    }

    /// The same for a judge in the shadow: nothing goes out but the end of what it told while it was not. `None`: the series is
    /// still being commissioned, has no room, or has seen the row; else whether an alert would have opened.
    pub(crate) fn take_in_shadow(
        &mut self,
        court: &Court,
        at: Row<'_>,
        out: &mut Outbox<ScoresBuilder>,
    ) -> Option<bool> {
        let Row { message, input, row, .. } = at;
        // What has no room is rejected by the judge that tells.
        let entry = input.rows.series[row] as usize;
        let name = input.rows.name(row);
        let known = self.slots[entry].or_else(|| self.registry.find(name));
        if known.is_none()
            && (self.registry.len() >= court.config.series_max || self.registry.channels(name) >= CHANNELS_MAX)
        {
            return None;
        }
        let (device, place) = known.unwrap_or_else(|| self.registry.add(&self.plan, name));
        self.slots[entry] = Some((device, place));
        if self.registry.has_seen(device, message.sequence, row) {
            return None;
        }
        let spectrum = self.read_vectors(at);
        let device = self.registry.change(device);
        device.seen = Seen::row(message.sequence, row);
        if device.episode.hand_over(false) == Step::Closed {
            tell(out, device.event(&self.plan, &court.config, &court.site, Phase::Closed, device.newest));
        }
        let series = &device.channels[usize::from(place)];
        let learns_late = self.joined && series.is_learning(&self.plan);
        let window = window(at, learns_late, spectrum, &self.vectors);
        let was_live = series.live;
        let turn = Turn { plan: &self.plan, config: &court.config, site: &court.site, window, place, tells: false };
        let judged = turn.judge(device);
        let opened = turn.step(device, &judged) == Step::Opened;
        if judged.marks & flags::GATED != 0 && device.episode.open {
            device.channels[usize::from(place)].hold(&self.plan, &window);
        }
        let is_live = device.channels[usize::from(place)].live;
        self.warm = self.warm + u64::from(is_live) - u64::from(was_live);
        is_live.then_some(opened)
    }

    /// Counts the series that are past commissioning anew: after a control, or a load.
    pub(crate) fn count_warm(&mut self) {
        self.warm = self.registry.live();
    }

    /// Ends what was told of open episodes, for a judge that goes: the events.
    pub(crate) fn farewell(&mut self, court: &Court) -> Vec<AlertMessage> {
        let mut events = Vec::new();
        for slot in self.registry.slots() {
            let device = self.registry.change(slot);
            if device.episode.hand_over(false) == Step::Closed {
                let event = device.event(&self.plan, &court.config, &court.site, Phase::Closed, device.newest);
                events.push(AlertMessage { subject: event.nats_subject(), payload: event.to_json() });
            }
        }
        events
    }

    /// Whether an alert's id is that of a device's present or last episode.
    pub(crate) fn knows_alert(&self, court: &Court, device: &str, alert: &str) -> bool {
        let slot = self.registry.device(&names::encode(device));
        let id = |slot| self.registry.get(slot).episode_id(&self.plan, &court.config, &court.site);
        slot.and_then(id).as_deref() == Some(alert)
    }

    /// Does what a control asks of detect. `meant`: it names an alert that some bundle's judge knows; what is called normal
    /// there is normal for the other one too, if it sees an episode.
    pub(crate) fn obey(&mut self, court: &Court, kind: &ControlKind, meant: bool, out: &mut Outbox<ScoresBuilder>) {
        let device = match kind {
            ControlKind::Label { device, .. }
            | ControlKind::Maintenance { device, .. }
            | ControlKind::DeviceReset { device }
            | ControlKind::Recommission { device } => device,
            // Another site's device: its alerts are judged there. Bundles are the stage's business.
            // Nor does it matter who has seen an alert.
            ControlKind::RegionLabel { .. } | ControlKind::Bundle { .. } | ControlKind::Acknowledge { .. } => return,
        };
        let Some(slot) = self.registry.device(&names::encode(device)) else {
            // Maintenance of a device that has not been seen yet: it is remembered for when it is.
            if let ControlKind::Maintenance { on: true, until, .. } = kind {
                self.maintain_unseen(court, &names::encode(device), until.unwrap_or(Timestamp::MAX));
            }
            return;
        };
        let is_own = match kind {
            ControlKind::Label { alert, .. } => self.knows_alert(court, device, alert),
            _ => false,
        };
        let (plan, config) = (&self.plan, &court.config);
        self.registry.tell_early(plan, slot);
        let device = self.registry.change(slot);
        let ends = match kind {
            ControlKind::Label { label, .. } => (is_own || meant && device.episode.open) && label == "normal",
            ControlKind::Maintenance { on, .. } => *on,
            ControlKind::DeviceReset { .. } | ControlKind::Recommission { .. } => true,
            ControlKind::Acknowledge { .. } | ControlKind::RegionLabel { .. } | ControlKind::Bundle { .. } => false,
        };
        if ends && device.episode.open {
            let is_told = device.episode.is_told();
            match kind {
                ControlKind::Label { .. } if !device.episode.forgiven => device.episode.forgive(),
                ControlKind::Label { .. } => {}
                _ => {
                    let rules = device.rules(config);
                    device.episode.close(&rules, device.newest);
                }
            }
            if is_told {
                tell(out, device.event(plan, config, &court.site, Phase::Closed, device.newest));
            }
        }
        match kind {
            ControlKind::Label { .. } if ends => {
                device.admit_held(plan);
                out.count("admitted", u64::from(is_own));
            }
            ControlKind::Label { .. }
            | ControlKind::Acknowledge { .. }
            | ControlKind::RegionLabel { .. }
            | ControlKind::Bundle { .. } => {}
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

    /// The device is under maintenance, whether it has been seen or not.
    pub(crate) fn maintain_unseen(&mut self, court: &Court, token: &str, until: Timestamp) {
        if let Some(slot) = self.registry.expect_device(token, court.config.series_max) {
            self.registry.change(slot).maintenance = Some(until);
        }
    }
}

/// The row's window; one of commissioning if embed says so or the judge does.
fn window<'a>(at: Row<'_>, commissioning: bool, spectrum: bool, vectors: &'a [Vec<f32>]) -> Window<'a> {
    let Row { input, row, .. } = at;
    Window {
        time: input.rows.time[row],
        filled: input.filled[row],
        commissioning: commissioning || input.commissioning[row] != 0,
        period: input.period[row],
        spectrum,
        vectors,
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

fn tell(out: &mut Outbox<ScoresBuilder>, event: CloudEvent) {
    out.count(event.data.phase.as_str(), 1);
    out.alerts.push(AlertMessage { subject: event.nats_subject(), payload: event.to_json() });
}

fn finite(x: f32) -> f32 {
    if x.is_nan() { 0.0 } else { x.clamp(-COMPONENT_MAX, COMPONENT_MAX) }
}
