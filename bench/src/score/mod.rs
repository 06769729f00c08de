//! The benchmarks' own scorers: result files against labels.
//!
//! Nothing else reads labels. The figures are those of the benchmarks' published protocols; NAB's files are also scored
//! by VUS-PR, a row being anomalous inside a labelled window, without the rows that NAB does not score either.

pub mod budget;
mod files;
pub mod groups;
pub mod nab;
pub mod skab;
pub mod vus;

use std::{fmt, path::Path};

use anyhow::Result;
use serde::Serialize;

use self::groups::Grouped;
use crate::inputs::Set;

/// The quantile of SKAB's training scores, and the multiple of it, that make its carried threshold.
const SKAB_QUANTILE: f64 = 0.99;
/// See [`SKAB_QUANTILE`].
const SKAB_MULT: f64 = 1.5;

/// What NAB gives, each 0 to 100 but for VUS-PR (0 to 1).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NabScores {
    /// Files that were scored.
    pub files: usize,
    /// Labelled windows in them.
    pub windows: usize,
    /// The standard profile.
    pub standard: f64,
    /// False positives cost more.
    pub low_fp: f64,
    /// Missed windows cost more.
    pub low_fn: f64,
    /// Windows with a detection at the standard profile's threshold.
    pub caught: usize,
    /// Detections outside windows at that threshold, in rows.
    pub wrong_rows: usize,
    /// Mean VUS-PR of the files with windows.
    pub vus_pr: f64,
    /// The standard profile by group, at the threshold of the other groups.
    pub standard_by_group: Grouped,
    /// VUS-PR by group.
    pub vus_pr_by_group: Grouped,
}

/// What SKAB gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SkabScores {
    /// Runs that were scored.
    pub files: usize,
    /// F1 with the carried threshold, 0 to 1.
    pub f1: f64,
    /// False alarm rate with it.
    pub far_percent: f64,
    /// Missed alarm rate with it.
    pub mar_percent: f64,
    /// F1 with the best threshold for all.
    pub f1_best: f64,
    /// F1 with the carried threshold by group.
    pub f1_by_group: Grouped,
}

/// What the volume under the surface gives, each 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VusScores {
    /// Files that were scored; those without, or of nothing but, labelled rows are not.
    pub files: usize,
    /// Mean over the files.
    pub vus_pr: f64,
    /// Files whose highest score lies within 100 rows of a labelled one.
    pub top_1: f64,
    /// Mean by group.
    pub vus_pr_by_group: Grouped,
}

/// Whether the alert budget holds, by benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetBudget {
    /// The benchmark.
    pub set: Set,
    /// What was opened on its normal stretches.
    #[serde(flatten)]
    pub spent: budget::Spent,
}

/// All figures; a benchmark that was not run has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// `nab/`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nab: Option<NabScores>,
    /// `skab/`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skab: Option<SkabScores>,
    /// `gecco/`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gecco: Option<VusScores>,
    /// `telemetry/`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<VusScores>,
    /// `ucr/`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ucr: Option<VusScores>,
    /// Alerts on normal stretches.
    pub budget: Vec<SetBudget>,
}

impl Scores {
    /// Scores the results of a benchmark in `out` against the labels in `data`.
    ///
    /// # Errors
    /// If a result or its labels cannot be read, or do not fit together.
    pub fn add(&mut self, set: Set, data: &Path, out: &Path) -> Result<()> {
        let (data, out) = (data.join(set.folder()), out.join(set.folder()));
        match set {
            Set::Nab => self.nab = Some(nab_scores(&data, &out)?),
            Set::Skab => self.skab = Some(skab_scores(&data, &out)?),
            Set::Gecco => self.gecco = Some(vus_scores(&data, &out)?),
            Set::Telemetry => self.telemetry = Some(vus_scores(&data, &out)?),
            Set::Ucr => self.ucr = Some(vus_scores(&data, &out)?),
        }
        Ok(())
    }

    /// Counts the alerts of a benchmark's results in `out` where the labels in `data` say nothing; `budget` is that of a series and
    /// day.
    ///
    /// # Errors
    /// If a result or its labels cannot be read, or do not fit together.
    pub fn add_budget(&mut self, set: Set, data: &Path, out: &Path, budget: f64) -> Result<()> {
        self.budget.push(SetBudget { set, spent: budget::spent(set, data, out, budget)? });
        Ok(())
    }
}

fn nab_scores(data: &Path, out: &Path) -> Result<NabScores> {
    let files = files::nab(data, out)?;
    let named: Vec<(String, nab::Series)> = files.iter().map(|file| (file.name.clone(), file.series.clone())).collect();
    let series: Vec<nab::Series> = named.iter().map(|(_, series)| series.clone()).collect();
    let labelled: Vec<(String, Labelled)> = files.iter().map(|file| (file.name.clone(), file.labelled())).collect();
    let corpus = nab::Corpus::new(&series)?;
    let [standard, low_fp, low_fn] = nab::PROFILES.map(|profile| corpus.best(&profile));
    Ok(NabScores {
        files: files.len(),
        windows: corpus.windows(),
        standard: standard.score,
        low_fp: low_fp.score,
        low_fn: low_fn.score,
        caught: standard.caught,
        wrong_rows: standard.wrong,
        vus_pr: volume(&labelled.iter().map(|(_, file)| file.clone()).collect::<Vec<_>>()).vus_pr,
        standard_by_group: groups::nab(&named)?,
        vus_pr_by_group: groups::volumes(&labelled),
    })
}

fn skab_scores(data: &Path, out: &Path) -> Result<SkabScores> {
    let named = files::skab(data, out)?;
    let runs: Vec<skab::Run> = named.iter().map(|(_, run)| run.clone()).collect();
    let carried = skab::calibrated(&runs, SKAB_QUANTILE, SKAB_MULT);
    Ok(SkabScores {
        files: runs.len(),
        f1: carried.f1(),
        far_percent: carried.false_alarm_percent(),
        mar_percent: carried.missed_alarm_percent(),
        f1_best: skab::best(&runs).f1(),
        f1_by_group: groups::skab(&named),
    })
}

fn vus_scores(data: &Path, out: &Path) -> Result<VusScores> {
    let named = files::labelled(data, out)?;
    let mut scores = volume(&named.iter().map(|(_, file)| file.clone()).collect::<Vec<_>>());
    scores.vus_pr_by_group = groups::volumes(&named);
    Ok(scores)
}

/// Scores and labels of a file's scored rows, and how wide shoulders get.
#[derive(Clone, Debug)]
struct Labelled {
    scores: Vec<f64>,
    labels: Vec<bool>,
    w_max: usize,
}

fn volume(files: &[Labelled]) -> VusScores {
    use rayon::prelude::*;
    let of = |file: &Labelled| {
        let volume = vus::vus_pr(&file.labels, &file.scores, file.w_max)?;
        Some((volume, f64::from(u8::from(vus::is_top_hit(&file.labels, &file.scores)))))
    };
    // Collected in order: the sums do not depend on the threads.
    let each: Vec<(f64, f64)> = files.par_iter().map(of).collect::<Vec<_>>().into_iter().flatten().collect();
    let mean = |part: fn(&(f64, f64)) -> f64| each.iter().map(part).sum::<f64>() / each.len().max(1) as f64;
    VusScores {
        files: each.len(),
        vus_pr: mean(|file| file.0),
        top_1: mean(|file| file.1),
        vus_pr_by_group: Grouped::default(),
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(nab) = &self.nab {
            let NabScores { files, windows, standard, low_fp, low_fn, caught, wrong_rows, vus_pr, .. } = nab;
            writeln!(
                f,
                "NAB        {files:3} files   standard {standard:6.2}   low FP {low_fp:6.2}   low FN {low_fn:6.2}"
            )?;
            writeln!(
                f,
                "                       windows {caught}/{windows}   rows outside {wrong_rows}   VUS-PR {vus_pr:.4}"
            )?;
            writeln!(f, "           standard by group, threshold of the others: {}", nab.standard_by_group)?;
            writeln!(f, "           VUS-PR by group: {}", nab.vus_pr_by_group)?;
        }
        if let Some(skab) = &self.skab {
            let SkabScores { files, f1, far_percent, mar_percent, f1_best, f1_by_group } = skab;
            writeln!(
                f,
                "SKAB       {files:3} files   F1 {f1:.4}   FAR {far_percent:.2} %   MAR {mar_percent:.2} %   best F1 {f1_best:.4}"
            )?;
            writeln!(f, "           F1 by group: {f1_by_group}")?;
        }
        for (name, scores) in [("GECCO", &self.gecco), ("telemetry", &self.telemetry), ("UCR", &self.ucr)] {
            if let Some(VusScores { files, vus_pr, top_1, vus_pr_by_group }) = scores {
                writeln!(f, "{name:10} {files:3} files   VUS-PR {vus_pr:.4}   top-1 {top_1:.4}")?;
                if vus_pr_by_group.groups.len() > 1 {
                    writeln!(f, "           VUS-PR by group: {vus_pr_by_group}")?;
                }
            }
        }
        for SetBudget { set, spent } in &self.budget {
            writeln!(f, "{:10} {spent}", set.folder())?;
        }
        Ok(())
    }
}
