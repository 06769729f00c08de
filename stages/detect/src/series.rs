//! One series: how far its newest window lies from its own past, how unlikely that is, and what it remembers.

use eddy_runtime::bundle::{HEADS_MAX, Spread};
use eddy_vectors::{
    delay::{pack, packed_bytes, unpack},
    fusion::HarmonicMean,
    running::Running,
};

use crate::{
    plan::{HeadState, Plan},
    told::Told,
};

/// Distances before a head with `spread = "distances"` has a mean and deviation to speak of.
const DISTANCES_MIN: u32 = 200;
/// Rows that count as one time in the coresets' records of when something was last seen.
const EPOCH_ROWS: u32 = 1024;
/// Windows of an episode that are held, in case a control says that they are normal.
pub const HELD_ROWS_MAX: usize = 4;

/// The newest window of a series, with its vectors.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Event time.
    pub time: i64,
    /// Real samples in it.
    pub filled: u16,
    /// Whether the series is being commissioned.
    pub commissioning: bool,
    /// The series' period in nanoseconds, configured or learned; 0 where there is none (yet).
    pub period: i64,
    /// Whether it has the optional heads.
    pub spectrum: bool,
    /// One vector per head of the bundle, finite; without meaning where the row lacks the head.
    pub vectors: &'a [Vec<f32>],
}

/// What was thought of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// The largest of the heads' scores.
    pub score: f32,
    /// All of them added up.
    pub sum: f32,
    /// Tail probability, fused over the heads.
    pub tail: f64,
    /// Per series head its part of the evidence, weight over tail probability beyond 1; not normalised.
    pub evidence: [f32; HEADS_MAX],
    /// Per series head what its calibration is to learn; NaN where it has no opinion.
    value: [f32; HEADS_MAX],
    /// Per series head the distance.
    distance: [f32; HEADS_MAX],
}

/// What a window may teach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lesson {
    /// It is ordinary, or counts as that by now: it enters the memory once it is old enough.
    pub admit: bool,
    /// Its distances enter the calibration.
    pub counts: bool,
    /// It looks anomalous, has for so long that it is admitted, and was told in an alert.
    pub accepted: bool,
}

/// Which parts of a series changed since they were saved.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Changed {
    /// What changes with every row.
    pub hot: bool,
    /// Vectors that wait.
    pub delays: bool,
    /// Calibrations.
    pub calibrations: bool,
}

/// One series.
#[derive(Clone, Debug)]
pub struct Series {
    /// Canonical text.
    pub name: String,
    /// The channel, as its operator calls it.
    pub channel: String,
    /// Rows so far; windows lie that many apart.
    pub rows: u32,
    /// Rows of commissioning.
    pub commissioned_rows: u32,
    /// Past commissioning.
    pub live: bool,
    /// Time of the first row and of the newest.
    pub first: i64,
    /// See `first`.
    pub newest: i64,
    /// Nanoseconds from row to row: the period, or the mean during commissioning.
    pub hop: i64,
    /// Deviation of the value head.
    pub spread: Running,
    /// Per series head of the plan; of a series without spectra, those that every row has.
    pub heads: Vec<HeadState>,
    /// Rows on end that were gated.
    pub gated_rows: u32,
    /// What its scores are told by.
    pub told: Told,
    /// Tail probability of the newest window.
    pub tail: f64,
    /// Its evidence, as in [`Judgement`].
    pub evidence: Vec<f32>,
    /// Windows of the present or last episode, packed, all series heads of one after the other.
    pub held: Vec<u8>,
    /// Every how many rows of an episode one is held, and how many rows it had.
    pub held_stride: u32,
    /// See `held_stride`.
    pub held_seen: u32,
    /// What is to be saved.
    pub changed: Changed,
}

impl Series {
    /// A series never seen.
    pub fn new(plan: &Plan, name: &str, channel: &str) -> Self {
        Self {
            name: name.to_owned(),
            channel: channel.to_owned(),
            rows: 0,
            commissioned_rows: 0,
            live: false,
            first: 0,
            newest: 0,
            hop: 0,
            spread: Running::default(),
            heads: plan.series[..plan.every].iter().map(|head| HeadState::new(&plan.heads[*head])).collect(),
            gated_rows: 0,
            told: Told::default(),
            tail: 1.0,
            evidence: vec![0.0; plan.every],
            held: Vec::new(),
            held_stride: 1,
            held_seen: 0,
            changed: Changed { hot: true, delays: true, calibrations: true },
        }
    }

    /// Makes room for the optional heads, if there is none yet.
    pub fn grow(&mut self, plan: &Plan) {
        let more = plan.series.iter().skip(self.heads.len());
        self.heads.extend(more.map(|head| HeadState::new(&plan.heads[*head])));
        self.evidence.resize(self.heads.len(), 0.0);
    }

    /// Whether it has had fewer rows than a usual commissioning.
    pub fn is_learning(&self, plan: &Plan) -> bool {
        !self.live && self.commissioned_rows < plan.commissioning_rows
    }

    /// Judges the newest window. Learns from it nothing but the value's spread and its time; both only if `learns`.
    pub fn judge(&mut self, plan: &Plan, window: &Window<'_>, learns: bool) -> Judgement {
        self.note_time(window);
        if window.spectrum && self.heads.len() < plan.series.len() {
            self.grow(plan);
            // What is held lacks them.
            self.drop_held();
            self.changed = Changed { hot: true, delays: true, calibrations: true };
        }
        if learns && let Some(value) = plan.value {
            self.spread.add(f64::from(window.vectors[value][0]));
        }
        let mut judgement = Judgement {
            score: 0.0,
            sum: 0.0,
            tail: 1.0,
            evidence: [0.0; HEADS_MAX],
            value: [f32::NAN; HEADS_MAX],
            distance: [f32::NAN; HEADS_MAX],
        };
        let mut mean = HarmonicMean::default();
        for (at, (state, head)) in self.heads.iter_mut().zip(&plan.series).enumerate() {
            let head = &plan.heads[*head];
            if head.optional && !window.spectrum {
                continue;
            }
            let vector = &window.vectors[plan.series[at]];
            let p = if window.filled < head.min_rows {
                1.0
            } else if let Some(distance) = state.history.nearest(vector) {
                let standardised = match head.spread {
                    Spread::Series => Some((f64::from(distance) / self.spread.deviation()) as f32),
                    Spread::Distances => (state.distances.count() >= DISTANCES_MIN)
                        .then(|| ((f64::from(distance) - state.distances.mean()) / state.distances.deviation()) as f32),
                    Spread::Commissioned => (state.commissioned > 0.0).then(|| distance / state.commissioned),
                };
                let value = if head.spread == Spread::Commissioned { Some(distance) } else { standardised };
                judgement.distance[at] = distance;
                judgement.value[at] = value.unwrap_or(f32::NAN);
                let score = head.weight * standardised.unwrap_or(0.0).max(0.0);
                judgement.score = judgement.score.max(score);
                judgement.sum += score;
                match (value, standardised) {
                    (Some(value), Some(standardised)) if standardised >= head.floor => state.calibration.tail(value),
                    _ => 1.0,
                }
            } else {
                1.0
            };
            mean.add(p, head.evidence);
            judgement.evidence[at] = (head.evidence * (1.0 / p - 1.0)) as f32;
        }
        judgement.tail = mean.p();
        self.tail = judgement.tail;
        self.evidence.copy_from_slice(&judgement.evidence[..self.heads.len()]);
        judgement
    }

    fn note_time(&mut self, window: &Window<'_>) {
        if self.rows == 0 {
            self.first = window.time;
        }
        if window.commissioning {
            self.commissioned_rows += 1;
            self.hop = if window.period > 0 {
                window.period
            } else {
                window.time.saturating_sub(self.first) / i64::from(self.rows.max(1))
            };
        }
        self.newest = window.time;
        self.changed.hot = true;
    }

    /// Whether the first window past commissioning has come; called with it.
    pub fn go_live(&mut self, plan: &Plan) {
        for (state, head) in self.heads.iter_mut().zip(&plan.series) {
            state.flush();
            if plan.heads[*head].spread == Spread::Commissioned {
                state.commissioned = state.calibration.quantile_above(0.01);
            }
        }
        self.live = true;
        self.told = Told::default();
        self.changed = Changed { hot: true, delays: true, calibrations: true };
    }

    /// Moves on by the window that was judged. Returns whether it is new to the head that leaves the gateway.
    pub fn learn(&mut self, plan: &Plan, window: &Window<'_>, judgement: &Judgement, lesson: Lesson) -> bool {
        let mut is_new = false;
        let epoch = (self.rows / EPOCH_ROWS) as u16;
        for (at, (state, index)) in self.heads.iter_mut().zip(&plan.series).enumerate() {
            let head = &plan.heads[*index];
            if head.optional && !window.spectrum {
                continue;
            }
            let vector = &window.vectors[*index];
            let calibrates = !window.commissioning || self.rows >= plan.commissioning_rows / 2;
            // What is far from a frozen memory does not become ordinary by coming slowly: only once it was told, and persists.
            if head.frozen && !window.commissioning && !lesson.accepted {
                continue;
            }
            if !judgement.distance[at].is_nan() {
                state.distances.add(f64::from(judgement.distance[at]));
            }
            if lesson.counts && calibrates && !judgement.value[at].is_nan() {
                self.changed.calibrations |= state.calibrate(judgement.value[at]);
            }
            if head.frozen && !window.commissioning {
                continue;
            }
            if lesson.admit && window.filled >= head.min_rows && state.delay.takes(self.rows) {
                state.delay.push(self.rows, vector);
                self.changed.delays = true;
                is_new |= plan.leaving == Some(*index) && !state.history.covers(vector);
            }
        }
        self.rows = self.rows.wrapping_add(1);
        self.age(plan, epoch);
        is_new
    }

    /// Forgets what it told: nobody was listening.
    pub fn forget_told(&mut self) {
        self.told = Told::default();
        self.changed.hot = true;
    }

    /// Moves on by a window that teaches nothing.
    pub fn skip(&mut self, plan: &Plan) {
        let epoch = (self.rows / EPOCH_ROWS) as u16;
        self.rows = self.rows.wrapping_add(1);
        self.age(plan, epoch);
    }

    /// Lets what has waited long enough for the next row into the histories.
    fn age(&mut self, plan: &Plan, epoch: u16) {
        for (state, head) in self.heads.iter_mut().zip(&plan.series) {
            let mut vector = [0.0f32; 64];
            let dimensions = plan.heads[*head].dimensions;
            if dimensions <= vector.len() {
                while state.delay.pop(self.rows, &mut vector[..dimensions]) {
                    state.history.admit(&vector[..dimensions], epoch);
                    self.changed.delays = true;
                }
            } else {
                let mut vector = vec![0.0; dimensions];
                while state.delay.pop(self.rows, &mut vector) {
                    state.history.admit(&vector, epoch);
                    self.changed.delays = true;
                }
            }
        }
    }

    /// Forgets the held windows: a new episode begins.
    pub fn drop_held(&mut self) {
        self.held.clear();
        (self.held_stride, self.held_seen) = (1, 0);
        self.changed.hot = true;
    }

    /// Holds the window, if it is one of few: when there are too many, every other one goes.
    pub fn hold(&mut self, plan: &Plan, window: &Window<'_>) {
        if self.heads.len() > plan.every && !window.spectrum {
            // A grid point that was filled between two bursts.
            return;
        }
        let bytes = self.held_bytes(plan);
        if self.held_seen.is_multiple_of(self.held_stride) {
            if self.held.len() >= HELD_ROWS_MAX * bytes {
                let kept: Vec<u8> = self.held.chunks_exact(bytes).step_by(2).flatten().copied().collect();
                self.held = kept;
                self.held_stride *= 2;
            }
            if self.held_seen.is_multiple_of(self.held_stride) {
                let heads = &plan.series[..self.heads.len()];
                heads.iter().for_each(|head| pack(&window.vectors[*head], &mut self.held));
            }
        }
        self.held_seen += 1;
    }

    /// A control says that what was held is normal: it enters the memory.
    pub fn admit_held(&mut self, plan: &Plan) {
        let epoch = (self.rows / EPOCH_ROWS) as u16;
        let held = std::mem::take(&mut self.held);
        for window in held.chunks_exact(self.held_bytes(plan)) {
            let mut at = 0;
            for (state, head) in self.heads.iter_mut().zip(&plan.series) {
                let dimensions = plan.heads[*head].dimensions;
                let mut vector = vec![0.0; dimensions];
                unpack(&window[at..], &mut vector);
                at += packed_bytes(dimensions);
                state.history.admit(&vector, epoch);
            }
        }
        self.drop_held();
        self.gated_rows = 0;
    }

    fn held_bytes(&self, plan: &Plan) -> usize {
        held_bytes(plan, self.heads.len())
    }
}

/// Bytes of one held window of so many series heads.
pub fn held_bytes(plan: &Plan, heads: usize) -> usize {
    plan.series[..heads].iter().map(|head| packed_bytes(plan.heads[*head].dimensions)).sum()
}
