//! What a soak says in the end.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    Soak,
    minutes::{Minute, Minutes, Trend},
};
use crate::{
    judge::{Figures, Run},
    trial::Kit,
};

/// Before that a gateway still learns its devices, and its memory says nothing.
const MEMORY_JUDGED_FROM_MINUTES: usize = 10;

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct SoakReport {
    /// Whether nothing is wrong.
    pub passed: bool,
    /// What is wrong.
    pub problems: Vec<String>,
    /// How long readings were sent, at least, in minutes.
    pub minutes_asked: f64,
    /// Readings a second.
    pub rate: f64,
    /// Its seed.
    pub seed: u64,
    /// What is called on time, in seconds.
    pub on_time_s: f64,
    /// How often the recording went through.
    pub rounds: usize,
    /// What was done, how often.
    pub done: BTreeMap<String, u64>,
    /// The judgement's figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// The undisturbed run's.
    pub expected_alerts_hash: String,
    /// What memory does in the second half.
    pub memory: Trend,
    /// What else was measured.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
    /// Minute by minute.
    pub minutes: Vec<Minute>,
    /// Seconds and MB: each look at memory, anonymous and all of it.
    pub memory_samples: Vec<(f64, f64, f64)>,
    /// How long all of it took, in seconds.
    pub seconds: f64,
}

impl SoakReport {
    pub(super) fn new(kit: &Kit, soak: &Soak, minutes: &Minutes) -> Self {
        Self {
            passed: false,
            problems: Vec::new(),
            minutes_asked: soak.time.as_secs_f64() / 60.0,
            rate: soak.rate,
            seed: kit.seed,
            on_time_s: kit.on_time.as_secs_f64(),
            rounds: 0,
            done: BTreeMap::new(),
            figures: Figures::default(),
            expected_alerts_hash: String::new(),
            memory: minutes.trend(),
            more: serde_json::Map::new(),
            minutes: minutes.all.clone(),
            memory_samples: minutes.samples.iter().map(|s| (s.seconds, s.anonymous_mb, s.pss_mb)).collect(),
            seconds: 0.0,
        }
    }

    pub(super) fn judged(&mut self, rounds: usize, run: &Run, undisturbed: Option<&Run>) {
        self.rounds = rounds;
        self.figures = run.figures();
        self.expected_alerts_hash = undisturbed.map(|run| run.outcome.alerts_hash()).unwrap_or_default();
        if run.outcome.alerts.is_empty() {
            self.problems.push("the recording raised no alert: there is nothing to compare".to_owned());
        }
    }

    pub(super) fn finish(&mut self, took: Duration) {
        let is_long = self.minutes.len() >= MEMORY_JUDGED_FROM_MINUTES;
        if is_long && !self.memory.is_flat {
            let Trend { mean_mb, growth_mb, noise_mb, .. } = self.memory;
            self.problems.push(format!(
                "memory is not flat: {growth_mb:.1} MB more over the second half, of {mean_mb:.1} MB with a noise of {noise_mb:.1} MB"
            ));
        }
        self.seconds = took.as_secs_f64().round();
        self.passed = self.problems.is_empty();
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let failed = || folder.display().to_string();
        std::fs::create_dir_all(folder).with_context(failed)?;
        std::fs::write(folder.join("soak.json"), serde_json::to_vec_pretty(self)?).with_context(failed)?;
        std::fs::write(folder.join("soak.txt"), format!("{self}\n")).with_context(failed)
    }
}

impl fmt::Display for SoakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (figures, memory) = (&self.figures, &self.memory);
        for minute in &self.minutes {
            writeln!(f, "{minute}")?;
        }
        let word = if self.passed { "passed" } else { "FAILED" };
        writeln!(
            f,
            "soak: {word}: {} minutes asked, {} rounds at {} readings/s in {:.0} s (seed {})",
            self.minutes_asked, self.rounds, self.rate, self.seconds, self.seed
        )?;
        for problem in &self.problems {
            writeln!(f, "  wrong: {problem}")?;
        }
        let done: Vec<String> = self.done.iter().map(|(what, times)| format!("{what} {times}")).collect();
        writeln!(f, "  done: {}", done.join(", "))?;
        writeln!(
            f,
            "  received={} scored={} aside={} lost={} duplicated={} alerts={} alerts_hash={} undisturbed={}",
            figures.received,
            figures.scored,
            figures.aside,
            figures.lost,
            figures.duplicated,
            figures.alerts,
            figures.alerts_hash,
            self.expected_alerts_hash
        )?;
        writeln!(
            f,
            "  availability={:.5} (scored within {} s of being offered / received)",
            figures.availability, self.on_time_s
        )?;
        writeln!(
            f,
            "  memory of the second half, anonymous: {:.1} MB, {:+.1} MB from its first to its last sample, noise {:.1} MB: {} \
             (flat is less than 5% of the mean, or two times the noise)",
            memory.mean_mb,
            memory.growth_mb,
            memory.noise_mb,
            match (self.minutes.len() >= MEMORY_JUDGED_FROM_MINUTES, memory.is_flat) {
                (false, _) => "not judged in less than 10 minutes",
                (true, true) => "flat",
                (true, false) => "NOT flat",
            }
        )?;
        write!(f, "  pss_mb_max={}, the region's processes included", figures.pss_mb_max)
    }
}
