//! Segments are built, merged and aged out on one thread of its own.

use std::sync::atomic::AtomicBool;

use eddy_vectors::index::{Store, Upkeep};

/// Works until `stop` is set.
pub fn run(store: &Store, stop: &AtomicBool) {
    store.upkeep(stop, |done| match done {
        Upkeep::Built { windows, kind, took, used } => {
            let took_ms = took.as_millis() as u64;
            tracing::info!(windows, kind, took_ms, used, "built a segment");
        }
        Upkeep::TookTooLong { windows, kind, again } => {
            tracing::warn!(windows, kind, again, "a build took more of a processor than index.build_time_max_s");
        }
        Upkeep::Aged(segments) => tracing::info!(segments, "aged out"),
        Upkeep::Failed(error) => tracing::error!(%error, "upkeep failed; trying again"),
    });
}
