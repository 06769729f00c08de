//! From one bundle to another on a running gateway: what is wanted, what is seen, and what is done next.
//!
//! A wish stands on the gateway's stream MODELS, put there by `eddy model activate` or, where the region wants something, by sync.
//! One [`follow`]er a gateway (in `eddy up`, or `eddy model follow`) brings it about: it verifies the bundle, rehearses it,
//! says the controls, watches the shadow in DETECTIONS, and tells on MODELS how far it is. What it says are controls, so nothing of
//! this stands between a recording and its alerts.

mod decide;
pub mod follow;
pub mod seen;
pub mod wish;

use serde::Deserialize;

/// When a bundle that is wanted is not taken: `[gateway.rollout]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of the series that the shadow sees, in percent.
    pub warm_percent: u64,
    /// Rows of each warm series, on average.
    pub shadow_rows: u64,
    /// Times the active one's alerts.
    pub alerts_factor: f64,
    /// Microseconds of a core.
    pub window_budget_us: f64,
    /// Rows of READINGS.
    pub rehearsal_rows: u64,
    /// Hours; 0: never by itself.
    pub retire_after_h: f64,
}

impl Limits {
    /// Every key that holds what it cannot.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut within = |key: &str, value: f64, least: f64, most: f64| {
            if !(value >= least && value <= most) {
                problems.push(format!("gateway.rollout.{key} = {value}: {least} to {most} is taken"));
            }
        };
        within("warm_percent", self.warm_percent as f64, 1.0, 100.0);
        within("shadow_rows", self.shadow_rows as f64, 0.0, 1e9);
        within("alerts_factor", self.alerts_factor, 1.0, 1000.0);
        within("window_budget_us", self.window_budget_us, 0.01, 1e6);
        within("rehearsal_rows", self.rehearsal_rows as f64, 0.0, 1e9);
        within("retire_after_h", self.retire_after_h, 0.0, 1e5);
        problems
    }
}

/// A digest as people read it.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
