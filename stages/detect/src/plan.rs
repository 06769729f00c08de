//! What the bundle asks of detection, checked once.

use std::ops::Range;

use arrayvec::ArrayVec;
use eddy_runtime::bundle::{Head, HeadInput, HeadScope, Manifest, Memory, Metric, Spread};
use eddy_schemas::HeadColumn;
use eddy_vectors::{calibration::Calibration, delay::Delay, history::History, running::Running};

/// Most bytes of histories in one record; a head with more has a record to itself.
const GROUP_BYTES_MAX: usize = 1600;

/// A head as detection sees it.
#[derive(Clone, Debug)]
pub struct HeadPlan {
    /// Its name in batches and alerts.
    pub name: String,
    /// Length of its vectors.
    pub dimensions: usize,
    /// Rows that a vector depends on, the last one included.
    pub window: u32,
    /// Whether rows may lack it, having no spectrum.
    pub optional: bool,
    /// Real samples that a window needs to be scored.
    pub min_rows: u16,
    /// Rows that are too near in time to be compared.
    pub exclusion: usize,
    /// What distances are divided by.
    pub spread: Spread,
    /// Weight in the score.
    pub weight: f32,
    /// Weight in the fusion of tail probabilities.
    pub evidence: f64,
    /// Standardised distances below it are never evidence.
    pub floor: f32,
    /// Budget of its history.
    pub history_bytes: usize,
    /// Whether nothing enters after commissioning.
    pub frozen: bool,
    /// Whether, after commissioning, only few of what is surely ordinary enter; of the joint head alone.
    pub slow: bool,
}

/// The bundle's part in detection.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Lower-case hex digest of the bundle.
    pub digest: String,
    /// All heads, in the order in which they stand in EMBEDDINGS.
    pub heads: Vec<HeadPlan>,
    /// Those that judge a series by itself: indices into `heads`, ascending, but first those that every row has.
    pub series: Vec<usize>,
    /// How many of these every row has; a series keeps nothing of the others before it has a row with a spectrum.
    pub every: usize,
    /// Histories that share a record: ranges of `series`.
    pub groups: Vec<Range<usize>>,
    /// What the records of each are called: `m` and its number.
    pub group_kinds: Vec<String>,
    /// The one that judges all channels of a device together.
    pub joint: Option<usize>,
    /// The one-dimensional head whose running deviation is the series' spread.
    pub value: Option<usize>,
    /// The one whose vectors stand in score rows.
    pub leaving: Option<usize>,
    /// Rows of a usual commissioning.
    pub commissioning_rows: u32,
}

impl Plan {
    /// Reads the bundle.
    ///
    /// # Errors
    /// What detection cannot do with it.
    pub fn new(manifest: &Manifest, digest: &str) -> Result<Self, Vec<String>> {
        let problems = manifest.detection_problems();
        let scoped =
            |scope| manifest.heads.iter().enumerate().filter(move |(_, head)| head.scope == scope).map(|(i, _)| i);
        let (every, optional): (Vec<usize>, Vec<usize>) =
            scoped(HeadScope::Series).partition(|i| manifest.heads[*i].input == HeadInput::Window);
        let series = [every.as_slice(), &optional].concat();
        let joint: Vec<usize> = scoped(HeadScope::Device).collect();
        let value = series
            .iter()
            .copied()
            .find(|i| manifest.heads[*i].dimensions == 1 && manifest.heads[*i].spread == Spread::Series);
        let leaving: Vec<usize> = series.iter().copied().filter(|i| manifest.heads[*i].leaves_gateway).collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let groups = groups(manifest, &series, every.len());
        Ok(Self {
            digest: digest.to_owned(),
            heads: manifest.heads.iter().map(head_plan).collect(),
            every: every.len(),
            group_kinds: (0..groups.len()).map(|group| format!("m{group}")).collect(),
            groups,
            series,
            joint: joint.first().copied(),
            value,
            leaving: leaving.first().copied(),
            commissioning_rows: manifest.commissioning_rows as u32,
        })
    }

    /// Why the heads of a batch are not this bundle's, if they are not.
    pub fn misfit(&self, heads: &[HeadColumn]) -> Option<String> {
        if self.columns(heads).is_some() {
            return None;
        }
        let found = heads.iter().map(|column| (&column.head.name, column.head.dimensions));
        Some(format!("heads {:?} are not those of bundle {}", found.collect::<Vec<_>>(), self.digest))
    }

    /// Which head each column of a batch is of; `None` if they are not those of the bundle in its order, optional ones
    /// left out where no row has them.
    pub fn columns(&self, heads: &[HeadColumn]) -> Option<Vec<usize>> {
        let (mut columns, mut next) = (Vec::new(), heads.iter().map(|column| &column.head).peekable());
        for (at, head) in self.heads.iter().enumerate() {
            let found = next.next_if(|found| {
                found.name == head.name && found.dimensions == head.dimensions && found.optional == head.optional
            });
            match found {
                Some(_) => columns.push(at),
                None if head.optional => {}
                None => return None,
            }
        }
        next.peek().is_none().then_some(columns)
    }
}

/// Neighbours share a record, whose key costs the series' name, as long as it does not fill a page of the store by far;
/// heads that not every row has are apart.
fn groups(manifest: &Manifest, series: &[usize], every: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (at, head) in series.iter().enumerate() {
        let more = manifest.heads[*head].history_bytes as usize;
        match groups.last_mut().filter(|_| at != every && bytes + more <= GROUP_BYTES_MAX) {
            Some(group) => group.end = at + 1,
            None => {
                groups.push(at..at + 1);
                bytes = 0;
            }
        }
        bytes += more;
    }
    groups
}

fn head_plan(head: &Head) -> HeadPlan {
    // The only one so far; a new one has to be told apart here.
    let Metric::Euclidean = head.metric;
    HeadPlan {
        name: head.name.clone(),
        dimensions: head.dimensions,
        window: head.window.try_into().unwrap_or(u32::MAX),
        optional: head.input == HeadInput::Spectrum,
        // At most 4,096 by the manifest's own bounds.
        min_rows: head.min_rows as u16,
        exclusion: head.exclusion,
        spread: head.spread,
        weight: head.weight as f32,
        evidence: head.evidence,
        floor: head.floor as f32,
        history_bytes: head.history_bytes as usize,
        frozen: head.memory == Memory::Frozen,
        slow: head.memory == Memory::Slow,
    }
}

/// Distances that wait to be calibrated with: the calibration's record changes once for all of them.
pub const PENDING_MAX: usize = 16;

/// What a series keeps of one head.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadState {
    /// What counts as ordinary.
    pub history: History,
    /// What is too recent.
    pub delay: Delay,
    /// How often distances were exceeded.
    pub calibration: Calibration,
    /// Bins of distances that wait for it.
    pub pending: ArrayVec<u8, PENDING_MAX>,
    /// Mean and deviation of the distances.
    pub distances: Running,
    /// The 0.99 quantile of the distances of commissioning; 0 before it is known.
    pub commissioned: f32,
}

impl HeadState {
    /// Nothing seen yet.
    pub fn new(plan: &HeadPlan) -> Self {
        Self {
            history: History::new(plan.dimensions, plan.history_bytes),
            delay: Delay::new(plan.dimensions, plan.exclusion),
            calibration: Calibration::default(),
            pending: ArrayVec::new(),
            distances: Running::default(),
            commissioned: 0.0,
        }
    }

    /// Adds a calibrated value; returns whether the calibration changed.
    pub fn calibrate(&mut self, value: f32) -> bool {
        // It is never full here, but in a record that says so.
        let was_full = self.pending.is_full() && self.flush();
        self.pending.push(eddy_vectors::calibration::bin_of(value));
        self.pending.is_full() && self.flush() || was_full
    }

    /// Hands what waits to the calibration; returns whether anything did.
    pub fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        self.calibration.extend(&self.pending);
        self.pending.clear();
        true
    }
}
