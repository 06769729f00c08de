//! Segments are built, merged and aged out on one thread of its own, one after the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use eddy_vectors::index::{IndexError, Store};

/// How often it is looked for something to do.
const LOOK: Duration = Duration::from_secs(1);

/// Works until `stop` is set.
pub fn run(store: &Arc<Store>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match build_one(store, stop) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(IndexError::Cancelled) if stop.load(Ordering::Relaxed) => return,
            Err(error) => tracing::error!(%error, "a segment was not built; trying again"),
        }
        match store.age() {
            Ok(0) => {}
            Ok(segments) => tracing::info!(segments, "aged out"),
            Err(error) => tracing::error!(%error, "nothing was aged out; trying again"),
        }
        std::thread::sleep(LOOK);
    }
}

/// Builds what is due; `false` if nothing is.
fn build_one(store: &Store, stop: &AtomicBool) -> Result<bool, IndexError> {
    let Some(build) = store.next_build()? else { return Ok(false) };
    let (id, windows, kind, began) = (build.id(), build.windows(), build.kind().as_str(), Instant::now());
    match build.run(stop) {
        Ok(built) => {
            let used = store.publish(built)?;
            let took_ms = began.elapsed().as_millis() as u64;
            tracing::info!(windows, kind, took_ms, used, "built a segment");
            Ok(true)
        }
        Err(IndexError::Cancelled) if !stop.load(Ordering::Relaxed) => {
            let fewer = store.took_too_long(&id);
            tracing::warn!(windows, kind, fewer, "a build took longer than index.build_time_max_s");
            // With one tree and still too slow, it stays searched row by row.
            Ok(fewer)
        }
        Err(error) => Err(error),
    }
}
