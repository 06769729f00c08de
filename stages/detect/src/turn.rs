//! One row at its device: judged, gated, learned from, and told to the episode.

use eddy_schemas::flags;

use crate::{
    Config,
    device::Device,
    episode::Step,
    joint::{Gate, Round},
    plan::Plan,
    series::{Judgement, Lesson, Series, Window},
};

/// How much the highest score of a device's channels adds to their joint score: that one sees means of many rows, not a row
/// that stands out.
const CHANNEL_WEIGHT: f32 = 2.0;

/// One row's turn at its device.
pub(crate) struct Turn<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) config: &'a Config,
    pub(crate) site: &'a str,
    pub(crate) window: Window<'a>,
    pub(crate) place: u16,
    /// Whether its bundle is the active one.
    pub(crate) tells: bool,
}

/// What was thought of a row.
pub(crate) struct Judged {
    pub(crate) judgement: Judgement,
    /// The score as it is told: see [`crate::told`].
    pub(crate) told: f32,
    pub(crate) rounds: [Option<Round>; 2],
    pub(crate) marks: u16,
    learns: bool,
}

impl Turn<'_> {
    /// Judges the row, alone and with its device's other channels, and learns from it what may be learned.
    pub(crate) fn judge(&self, device: &mut Device) -> Judged {
        let (plan, window) = (self.plan, &self.window);
        if device.maintenance.is_some_and(|until| window.time > until) {
            device.maintenance = None;
            // What was told to nobody is no standing peak.
            device.channels.iter_mut().for_each(Series::forget_told);
        }
        device.newest = device.newest.max(window.time);
        let learns = device.maintenance.is_none();
        let is_told = device.episode.open;
        let said_before = Device::said(&device.channels[usize::from(self.place)], window.time, self.config);
        let series = &mut device.channels[usize::from(self.place)];
        if window.commissioning && series.live {
            *series = Series::new(plan, &series.name, &series.channel);
            // What was learned of old tail probabilities is not true of new ones.
            device.budget = Default::default();
            if device.joint.channels() > 0 {
                device.joint = Default::default();
            }
        } else if !window.commissioning && !series.live {
            series.go_live(plan);
        }
        let judgement = series.judge(plan, window, learns);
        let told = series.told.next(judgement.score, judgement.sum, &self.config.spans());
        let mut marks = if window.commissioning { flags::COMMISSIONING } else { 0 };
        if learns {
            marks |= self.learn(series, &judgement, is_told);
        } else {
            marks |= flags::MAINTENANCE;
            series.skip(plan);
        }
        let [mut cut, mut whole] = self.offer(device, learns);
        // The round that this row cuts short ended before it.
        for (round, own) in [(&mut cut, said_before), (&mut whole, told)] {
            if let Some(round) = round {
                round.told += CHANNEL_WEIGHT * device.loudest(self.place, own, window.time, self.config);
            }
        }
        let rounds = [cut, whole];
        Judged { judgement, told, rounds, marks, learns }
    }

    /// The gate: what looks anomalous stays out of the memory, unless it persists.
    fn learn(&self, series: &mut Series, judgement: &Judgement, is_told: bool) -> u16 {
        let is_unusual = judgement.tail <= self.config.gate_tail && !self.window.commissioning;
        // A grid point that was filled between two bursts says nothing about what its series lacks there.
        let is_silent = !self.window.spectrum && series.heads.len() > self.plan.every;
        series.gated_rows = match (is_unusual, is_silent) {
            (true, _) => series.gated_rows.saturating_add(1),
            (false, true) => series.gated_rows,
            (false, false) => 0,
        };
        let is_regime = is_unusual && series.gated_rows > self.config.regime_after_rows(series.hop);
        let admit = !is_unusual || is_regime;
        // What would be a major alert by itself stays out of the calibration too, or a fault that comes again would look
        // ordinary; milder extremes are its tail, and without them the tail would be told too light.
        let counts = admit || judgement.tail > self.config.threshold(series.hop) / 10.0;
        let is_new =
            series.learn(self.plan, &self.window, judgement, Lesson { admit, counts, accepted: is_regime && is_told });
        let mut marks = if is_new { flags::KEPT } else { 0 };
        if is_regime {
            marks |= flags::REGIME;
        } else if is_unusual {
            marks |= flags::GATED;
        }
        marks
    }

    fn offer(&self, device: &mut Device, learns: bool) -> [Option<Round>; 2] {
        let (Some(head), window) = (self.plan.joint, &self.window) else { return [None, None] };
        if usize::from(self.place) >= self.config.joint_channels_max {
            return [None, None];
        }
        let hop = device.channels[usize::from(self.place)].hop;
        let gate = Gate {
            tail: self.config.joint_gate_tail,
            regime_after_rows: self.config.regime_after_rows(hop),
            closed: !learns,
            holds: device.episode.open,
        };
        let plan = &self.plan.heads[head];
        let vector = (window.filled >= plan.min_rows).then_some(window.vectors[head].as_slice());
        device.joint.offer(plan, self.place, window.time, !window.commissioning, vector, &gate)
    }

    /// Moves the device's episode on.
    pub(crate) fn step(&self, device: &mut Device, judged: &Judged) -> Step {
        if self.window.commissioning || !judged.learns {
            return Step::Nothing;
        }
        let fused = device.fuse(self.plan, self.config, self.window.time);
        let rounds = judged.rounds.iter().flatten().map(|round| round.score);
        let score = rounds.fold(judged.judgement.score, f32::max);
        let rules = device.rules(self.config);
        let threshold = device.budget.threshold(fused.threshold);
        let forgiven = device.episode.forgiven;
        let step = device.episode.step(&rules, self.window.time, fused.tail, threshold, score, self.tells);
        let (block, hop) = (device.block(&rules), device.channels[usize::from(self.place)].hop);
        // While an episode is open no other can begin.
        if !device.episode.open || step == Step::Opened {
            device.budget.note(&block, self.window.time, fused.tail, fused.threshold, self.config.allowed(hop));
        }
        if forgiven && !device.episode.forgiven {
            // It is over, or something worse has come on top of it: what was held of it is normal.
            device.admit_held(self.plan);
        }
        if step == Step::Opened {
            device.episode.grade(fused.threshold);
            device.channels.iter_mut().for_each(Series::drop_held);
            device.joint.drop_held();
            let told = self.tells;
            tracing::debug!(site = self.site, device = device.name, tail = fused.tail, told, "episode opened");
        }
        step
    }
}

/// The flags of a round that ended with a row of these flags.
pub(crate) fn round_marks(round: &Round, of_row: u16) -> u16 {
    let mut marks = flags::JOINT | (of_row & flags::MAINTENANCE);
    if round.gated {
        marks |= flags::GATED;
    }
    if round.regime {
        marks |= flags::REGIME;
    }
    marks
}
