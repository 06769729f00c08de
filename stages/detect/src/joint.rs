//! All channels of a device together: one vector of what each says now, judged against what they said together before.
//!
//! Each channel is commissioned on its own and its rows come in a burst when it is done, so the joint vectors of
//! commissioning are joined afterwards, by time, from thinned [`crate::buffer`]s. From then on the channels' rows make
//! *rounds*: a round is complete when every channel has said something, and ends early when one comes again; what a
//! channel missed, it says as before.

use eddy_vectors::{
    calibration::bin_of,
    delay::{pack, packed_bytes, unpack},
};

use crate::{
    buffer::{Buffer, join},
    plan::{HeadPlan, HeadState},
};

/// Joint vectors that commissioning needs.
const VECTORS_MIN: usize = 32;
/// Rows that channels have to catch up with each other once the first of them is commissioned.
const GRACE_ROWS: u32 = 8;
/// Live rows at least after which a channel without another one at its device counts as alone.
const ALONE_ROWS_MIN: u32 = 64;
/// Of a slow memory one round in so many may enter: a season comes in, a fault of hours does not.
const SLOW_ROUNDS: u32 = 256;
/// Rounds over which the unit of a joint score gives way to what is ordinary by then.
const SETTLING_ROUNDS: f32 = 10_000.0;
/// No component counts as steadier than this, in deviations of its channel.
const SPREAD_MIN: f64 = 0.02;
/// Joint vectors of an episode that are held, in case a control says that they are normal.
const HELD_ROWS_MAX: usize = 4;
/// Rounds that count as one time in the coreset's record of when something was last seen.
const EPOCH_ROUNDS: u32 = 1024;

/// What a device keeps of its channels together.
#[derive(Clone, Debug)]
pub struct Joint {
    pub(crate) phase: Phase,
    /// Tail probability of the newest round.
    pub tail: f64,
    /// Event time of the newest round.
    pub time: i64,
    /// Rounds on end that were gated.
    pub(crate) gated_rounds: u32,
    /// Whether the part that changes rarely is to be saved.
    pub(crate) changed_cold: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Collecting(Vec<Buffer>),
    Running(Box<Joined>),
}

#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) channels: u16,
    /// Per component what is subtracted and what divides.
    pub(crate) scale: Vec<(f32, f32)>,
    pub(crate) state: HeadState,
    pub(crate) rounds: u32,
    /// The channels' newest vectors, scaled, one after the other.
    pub(crate) vector: Vec<f32>,
    pub(crate) delivered: Vec<bool>,
    pub(crate) newest: i64,
    pub(crate) held: Vec<u8>,
    pub(crate) held_stride: u32,
    pub(crate) held_seen: u32,
    /// From the nearest kept vector to the newest one.
    pub(crate) difference: Vec<f32>,
}

/// What was thought of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// Event time of its newest row.
    pub time: i64,
    /// Weighted standardised distance.
    pub score: f32,
    /// The same as it is told, with the highest of the channels' scores in it.
    pub told: f32,
    /// Tail probability.
    pub tail: f64,
    /// Whether the gate kept it out.
    pub gated: bool,
    /// Whether it was admitted although it looks anomalous.
    pub regime: bool,
}

/// What decides on memory.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// At or below this tail probability a window stays out.
    pub tail: f64,
    /// Gated rows on end that make a regime.
    pub regime_after_rows: u32,
    /// Under maintenance: nothing is learned.
    pub closed: bool,
    /// The device has an open episode: gated windows are held.
    pub holds: bool,
}

impl Default for Joint {
    fn default() -> Self {
        Self { phase: Phase::Collecting(Vec::new()), tail: 1.0, time: i64::MIN, gated_rounds: 0, changed_cold: true }
    }
}

impl Joint {
    /// How many channels it judges; 0 while it does not.
    pub fn channels(&self) -> u16 {
        match &self.phase {
            Phase::Running(joined) => joined.channels,
            Phase::Collecting(_) => 0,
        }
    }

    /// Takes a channel's vector (none where its window holds too few samples) and returns the rounds that end with it:
    /// one that this row cuts short, one that it completes.
    pub fn offer(
        &mut self,
        plan: &HeadPlan,
        channel: u16,
        time: i64,
        live: bool,
        vector: Option<&[f32]>,
        gate: &Gate,
    ) -> [Option<Round>; 2] {
        let at = usize::from(channel);
        if let Phase::Running(joined) = &mut self.phase
            && channel < joined.channels
        {
            let cut = if joined.delivered[at] { self.round(plan, gate) } else { None };
            let Phase::Running(joined) = &mut self.phase else { return [cut, None] };
            joined.say(at, plan.dimensions, vector, time);
            let whole = joined.delivered.iter().all(|said| *said);
            return [cut, if whole { self.round(plan, gate) } else { None }];
        }
        if self.channels() > 0 {
            // A channel that was not there at commissioning: all are joined anew.
            *self = Self::default();
        }
        if let Phase::Collecting(buffers) = &mut self.phase
            && !gate.closed
        {
            if buffers.is_empty() && at == 0 && live {
                // Alone: see below.
                return [None, None];
            }
            if buffers.len() <= at {
                buffers.resize(at + 1, Buffer::default());
            }
            buffers[at].push(time, live, vector);
            self.changed_cold = true;
            if live && let Some(joined) = Joined::commission(plan, buffers, at) {
                self.phase = Phase::Running(Box::new(joined));
            } else if let [only] = buffers.as_slice()
                && only.live > only.commissioned.max(ALONE_ROWS_MIN)
            {
                // No other channel came in as many rows as commissioning took: the device has one. Should another come, both
                // begin then.
                buffers.clear();
            }
        }
        [None, None]
    }

    fn round(&mut self, plan: &HeadPlan, gate: &Gate) -> Option<Round> {
        let Phase::Running(joined) = &mut self.phase else { return None };
        joined.delivered.fill(false);
        let (distance, tail) = joined.judge(plan);
        (self.tail, self.time) = (tail, joined.newest);
        let score = plan.weight * distance / joined.unit();
        let mut round = Round { time: joined.newest, score, told: score, tail, gated: false, regime: false };
        let epoch = (joined.rounds / EPOCH_ROUNDS) as u16;
        if !gate.closed {
            let unusual = tail <= gate.tail;
            self.gated_rounds = if unusual { self.gated_rounds.saturating_add(1) } else { 0 };
            // A frozen history stays as it is, but what persists becomes ordinary for its calibration.
            round.regime = unusual && self.gated_rounds > gate.regime_after_rows;
            round.gated = unusual && !round.regime;
            if !round.gated {
                self.changed_cold |= joined.learn(plan, distance);
            } else if gate.holds {
                joined.hold();
            }
        }
        joined.rounds = joined.rounds.wrapping_add(1);
        self.changed_cold |= joined.age(epoch);
        Some(round)
    }

    /// Each channel's part of the newest round's squared distance; they sum to 1 unless it is 0.
    pub fn shares(&self) -> Vec<f64> {
        let Phase::Running(joined) = &self.phase else { return Vec::new() };
        let width = joined.vector.len() / usize::from(joined.channels.max(1));
        let squared = |part: &[f32]| part.iter().map(|x| f64::from(x * x)).sum::<f64>();
        let parts: Vec<f64> = joined.difference.chunks_exact(width.max(1)).map(squared).collect();
        let whole = parts.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        parts.iter().map(|part| part / whole).collect()
    }

    /// A new episode begins: what was held is forgotten.
    pub fn drop_held(&mut self) {
        if let Phase::Running(joined) = &mut self.phase {
            joined.held.clear();
            (joined.held_stride, joined.held_seen) = (1, 0);
        }
    }

    /// A control says that what was held is normal.
    pub fn admit_held(&mut self) {
        if let Phase::Running(joined) = &mut self.phase {
            let epoch = (joined.rounds / EPOCH_ROUNDS) as u16;
            let mut vector = vec![0.0; joined.vector.len()];
            for packed in std::mem::take(&mut joined.held).chunks_exact(packed_bytes(vector.len())) {
                unpack(packed, &mut vector);
                joined.state.history.admit(&vector, epoch);
            }
            self.gated_rounds = 0;
            self.changed_cold = true;
        }
        self.drop_held();
    }
}

impl Joined {
    /// For `channels` channels, nothing known.
    pub(crate) fn new(plan: &HeadPlan, channels: u16) -> Self {
        let width = usize::from(channels) * plan.dimensions;
        // What scaling takes comes out of the same budget.
        let history_bytes = (plan.history_bytes * usize::from(channels)).saturating_sub(8 * width);
        let shape = HeadPlan { dimensions: width, history_bytes, ..plan.clone() };
        Self {
            channels,
            scale: vec![(0.0, 1.0); width],
            state: HeadState::new(&shape),
            rounds: 0,
            vector: vec![0.0; width],
            delivered: vec![false; usize::from(channels)],
            newest: i64::MIN,
            held: Vec::new(),
            held_stride: 1,
            held_seen: 0,
            difference: vec![0.0; width],
        }
    }

    /// Joins what the channels buffered, once all of them are live and had time to catch up with `newest`.
    fn commission(plan: &HeadPlan, buffers: &[Buffer], newest: usize) -> Option<Self> {
        let commissioned = buffers.iter().map(|buffer| buffer.commissioned).max().unwrap_or(0).max(64);
        let ready = |buffer: &Buffer| buffer.live > 0 && buffer.rows >= commissioned / 5 * 4;
        if buffers.len() < 2 || buffers[newest].live < GRACE_ROWS || !buffers.iter().all(ready) {
            return None;
        }
        let vectors = join(buffers);
        if vectors.len() < VECTORS_MIN {
            return None;
        }
        // At most `joint_channels_max`, which is far below u16::MAX.
        let mut joined = Self::new(plan, buffers.len() as u16);
        joined.scale = (0..joined.vector.len()).map(|at| scale_of(vectors.iter().map(|v| f64::from(v[at])))).collect();
        joined.learn_commissioning(plan, &vectors, buffers[0].stride());
        Some(joined)
    }

    /// The commissioning's vectors become the history; their distances to each other calibrate.
    fn learn_commissioning(&mut self, plan: &HeadPlan, vectors: &[Vec<f32>], stride: u32) {
        let scaled: Vec<Vec<f32>> =
            vectors.iter().map(|v| v.iter().enumerate().map(|(at, x)| self.scaled(at, *x)).collect()).collect();
        let apart = plan.exclusion.div_ceil(stride as usize);
        let squared = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let mut distances: Vec<f32> = (0..scaled.len())
            .filter_map(|i| {
                let others = (0..scaled.len()).filter(|j| i.abs_diff(*j) >= apart);
                others.map(|j| squared(&scaled[i], &scaled[j])).min_by(f32::total_cmp).map(f32::sqrt)
            })
            .collect();
        let bins: Vec<u8> = distances.iter().map(|distance| bin_of(*distance)).collect();
        // Each stands for the rows that thinning left out: they would have been about as far.
        (0..stride).for_each(|_| self.state.calibration.extend(&bins));
        distances.sort_by(f32::total_cmp);
        let quantile = distances.get(distances.len() * 99 / 100).copied().unwrap_or(0.0);
        self.state.commissioned = quantile.max(1e-6);
        scaled.iter().for_each(|vector| _ = self.state.history.admit(vector, 0));
        if let Some(last) = scaled.last() {
            self.vector.copy_from_slice(last);
        }
    }

    fn scaled(&self, at: usize, value: f32) -> f32 {
        let (center, spread) = self.scale[at];
        ((value - center) / spread).clamp(-1e15, 1e15)
    }

    fn say(&mut self, at: usize, dimensions: usize, vector: Option<&[f32]>, time: i64) {
        for (i, x) in vector.unwrap_or_default().iter().enumerate() {
            self.vector[at * dimensions + i] = self.scaled(at * dimensions + i, *x);
        }
        self.delivered[at] = true;
        self.newest = self.newest.max(time);
    }

    /// The distance of the newest round, and its tail probability.
    fn judge(&mut self, plan: &HeadPlan) -> (f32, f64) {
        let Some(distance) = self.state.history.nearest_difference(&self.vector, &mut self.difference) else {
            return (0.0, 1.0);
        };
        let is_evidence = distance >= plan.floor * self.state.commissioned;
        (distance, if is_evidence { self.state.calibration.tail(distance) } else { 1.0 })
    }

    /// What a score of 1 is: the 0.99 quantile of the distances of commissioning; over [`SETTLING_ROUNDS`] it gives way to that of
    /// all ordinary distances so far, where that is larger. A memory that stands still is further from everything in another season.
    fn unit(&self) -> f32 {
        let commissioned = self.state.commissioned;
        let grown = (self.state.calibration.quantile_above(0.01) - commissioned).max(0.0);
        commissioned + grown * (self.rounds as f32 / SETTLING_ROUNDS).min(1.0)
    }

    /// Returns whether the rarely saved part changed.
    fn learn(&mut self, plan: &HeadPlan, distance: f32) -> bool {
        let calibrated = self.state.calibrate(distance);
        let is_let_in = match plan.slow {
            true => self.rounds.is_multiple_of(SLOW_ROUNDS) && distance <= self.unit(),
            false => !plan.frozen,
        };
        let waits = is_let_in && self.state.delay.takes(self.rounds);
        if waits {
            self.state.delay.push(self.rounds, &self.vector);
        }
        calibrated || waits
    }

    /// Lets what has waited long enough into the history; returns whether there was something.
    fn age(&mut self, epoch: u16) -> bool {
        // Of a slow memory one round in 256 waits: all others cost no allocation.
        if !self.state.delay.is_due(self.rounds) {
            return false;
        }
        let mut vector = vec![0.0; self.vector.len()];
        while self.state.delay.pop(self.rounds, &mut vector) {
            self.state.history.admit(&vector, epoch);
        }
        true
    }

    fn hold(&mut self) {
        let bytes = packed_bytes(self.vector.len());
        if self.held_seen.is_multiple_of(self.held_stride) && self.held.len() >= HELD_ROWS_MAX * bytes {
            self.held = self.held.chunks_exact(bytes).step_by(2).flatten().copied().collect();
            self.held_stride *= 2;
        }
        if self.held_seen.is_multiple_of(self.held_stride) {
            pack(&self.vector, &mut self.held);
        }
        self.held_seen = self.held_seen.wrapping_add(1);
    }
}

/// What to subtract from a component and what to divide it by.
fn scale_of(values: impl Iterator<Item = f64>) -> (f32, f32) {
    let mut running = eddy_vectors::running::Running::default();
    values.for_each(|value| running.add(value));
    (running.mean() as f32, running.deviation().max(SPREAD_MIN) as f32)
}
