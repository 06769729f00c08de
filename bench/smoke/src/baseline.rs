//! The committed counts, and what new ones are beside them.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;

/// Past this many times the instructions of its baseline a case fails.
pub const RATIO_MAX: f64 = 1.05;
/// Below this the baseline is too easy to hold: it should be written anew.
pub const RATIO_MIN: f64 = 0.95;

/// Instructions of each case, and where they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Where they come from.
    pub environment: Environment,
    /// By case.
    pub cases: BTreeMap<String, PerUnit>,
}

/// What a unit of a case costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerUnit {
    /// The unit.
    pub unit: String,
    /// Instructions.
    pub instructions: f64,
}

/// What a case is beside its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As before.
    Ok,
    /// Fewer instructions than the baseline says: write it anew.
    Better,
    /// More than it allows.
    Worse,
    /// The baseline has no such case, or another unit: write it.
    New,
    /// The baseline has it, and it was not counted: it is gone, or has another name.
    Gone,
}

impl Verdict {
    /// Whether the check fails by it.
    pub fn fails(self) -> bool {
        matches!(self, Self::Worse | Self::New | Self::Gone)
    }
}

/// A case and its baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// The case.
    pub case: String,
    /// What is counted of.
    pub unit: String,
    /// Instructions of a unit, now.
    pub now: Option<f64>,
    /// And in the baseline.
    pub baseline: Option<f64>,
    /// Now by then.
    pub ratio: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
}

impl Counts {
    /// Reads a file of them.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Writes them into a file, a line a case.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// These in place of the same cases in a file, if there is one.
    ///
    /// # Errors
    /// If its counts come of another environment.
    pub fn over(self, path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(self);
        }
        let mut all = Self::read(path)?;
        let differences = self.environment.differences(&all.environment);
        ensure!(differences.is_empty(), "counted elsewhere, so all of it must be written: {}", differences.join("; "));
        all.cases.extend(self.cases);
        Ok(all)
    }

    /// Each case beside its baseline, in the order of `names`; then what only the baseline has, unless `some` were counted only.
    pub fn beside(&self, baseline: &Self, names: &[&str], some: bool) -> Vec<Compared> {
        let only_there = baseline.cases.keys().map(String::as_str).filter(|name| !some && !names.contains(name));
        names
            .iter()
            .copied()
            .chain(only_there)
            .map(|name| compared(name, self.cases.get(name), baseline.cases.get(name)))
            .collect()
    }
}

fn compared(name: &str, now: Option<&PerUnit>, baseline: Option<&PerUnit>) -> Compared {
    let same_unit = now.zip(baseline).filter(|(now, before)| now.unit == before.unit);
    let ratio = same_unit.map(|(now, before)| now.instructions / before.instructions);
    let verdict = match ratio {
        _ if now.is_none() => Verdict::Gone,
        None => Verdict::New,
        // A baseline of nothing, or of no number, allows nothing.
        Some(ratio) if !(0.0..=RATIO_MAX).contains(&ratio) => Verdict::Worse,
        Some(ratio) if ratio < RATIO_MIN => Verdict::Better,
        Some(_) => Verdict::Ok,
    };
    let unit = now.or(baseline).map_or(String::new(), |of| of.unit.clone());
    let (now, baseline) = (now.map(|now| now.instructions), baseline.map(|before| before.instructions));
    Compared { case: name.to_owned(), unit, now, baseline, ratio, verdict }
}
