//! One bundle on a rehearsal: what it said of the rows, and what that cost.

use std::{collections::HashSet, fmt};

use anyhow::{Context as _, Result};
use eddy_schemas::{
    Scores,
    alert::{CloudEvent, Phase},
    flags,
};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::judge::Measured;
use crate::{offline::Back, pipeline::Pipeline};

/// What is told of it.
#[derive(Clone, Debug, Serialize)]
pub struct SideReport {
    /// The bundle's name.
    pub bundle: String,
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: String,
    /// What it is judged by.
    #[serde(flatten)]
    pub measured: Measured,
    /// Bytes that embed and detect keep of a series at the end.
    pub state_bytes_per_series: usize,
}

/// A bundle's stages, and what they did.
pub(super) struct Side {
    pipeline: Pipeline,
    back: Back,
    measured: Measured,
    cpu_ns: u64,
    series: HashSet<String>,
}

impl Side {
    pub(super) fn new(pipeline: Pipeline, site: &str) -> Result<Self> {
        let back = Back::new(&pipeline, site)?;
        Ok(Self { pipeline, back, measured: Measured::default(), cpu_ns: 0, series: HashSet::new() })
    }

    /// Takes a message of SAMPLES. Only the stages are timed, not the counting.
    pub(super) fn take(&mut self, samples: Vec<u8>) -> Result<()> {
        let before = thread_cpu_ns()?;
        let judged = self.back.samples(samples);
        self.cpu_ns += thread_cpu_ns()?.saturating_sub(before);
        self.measured.rejected += judged.aside.rejected;
        for alert in &judged.alerts {
            let event: CloudEvent = serde_json::from_slice(alert)?;
            self.measured.alerts += u64::from(event.data.phase == Phase::Opened);
        }
        judged.scores.iter().try_for_each(|scores| self.count(&Scores::decode(scores)?))
    }

    fn count(&mut self, scores: &Scores) -> Result<()> {
        for row in 0..scores.rows.len() {
            if scores.rows.control(row).is_some() || scores.flags[row] & flags::JOINT != 0 {
                continue;
            }
            self.measured.windows += 1;
            self.measured.windows_judged += u64::from(scores.flags[row] & flags::COMMISSIONING == 0);
            let name = scores.rows.name(row);
            if !self.series.contains(name) {
                self.series.insert(name.to_owned());
            }
        }
        Ok(())
    }

    /// Series that were scored so far.
    pub(super) fn series(&self) -> usize {
        self.series.len()
    }

    pub(super) fn report(mut self) -> SideReport {
        let us = self.cpu_ns as f64 / 1e3 / self.measured.windows.max(1) as f64;
        SideReport {
            bundle: self.pipeline.manifest.name.clone(),
            version: self.pipeline.manifest.version.clone(),
            digest: self.pipeline.digest.clone(),
            measured: Measured { us_per_window: (us * 100.0).round() / 100.0, ..self.measured },
            state_bytes_per_series: self.back.state_bytes().div_ceil(self.series.len().max(1)),
        }
    }
}

/// CPU time of this thread, in nanoseconds.
fn thread_cpu_ns() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("the CPU time of this thread")?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

impl fmt::Display for SideReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { windows, windows_judged, alerts, us_per_window, rejected } = self.measured;
        write!(
            f,
            "bundle={} version={} digest={} windows={windows} past_commissioning={windows_judged} alerts={alerts} \
             us_per_window={us_per_window:.1} state_bytes_per_series={} rejected={rejected}",
            self.bundle,
            self.version,
            &self.digest[..16],
            self.state_bytes_per_series
        )
    }
}
