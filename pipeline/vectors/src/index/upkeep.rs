//! Segments are built, merged and aged out on one thread of its owner's, one after the other.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{error::IndexError, store::Store};

/// How often it is looked for something to do.
const LOOK: Duration = Duration::from_secs(1);

/// How long a stop may go unseen.
const STOP_WITHIN: Duration = Duration::from_millis(50);

/// What upkeep did, for its owner's log.
#[derive(Debug)]
pub enum Upkeep {
    /// A segment was built.
    Built {
        /// Its windows.
        windows: u32,
        /// How it is searched.
        kind: &'static str,
        /// How long it took.
        took: Duration,
        /// Whether the store took it: what it was built from may have aged out meanwhile.
        used: bool,
    },
    /// A build took more of a processor than [`Limits::build_time`](super::Limits::build_time).
    TookTooLong {
        /// Its windows.
        windows: u32,
        /// How it was to be searched.
        kind: &'static str,
        /// Whether something smaller is tried instead (fewer trees, fewer windows); else they stay searched row by row.
        again: bool,
    },
    /// So many segments aged out.
    Aged(usize),
    /// It is tried again.
    Failed(IndexError),
}

impl Store {
    /// Works until `stop` is set, and tells what it did.
    pub fn upkeep(&self, stop: &AtomicBool, tell: impl Fn(Upkeep)) {
        while !stop.load(Ordering::Relaxed) {
            match self.build_one(stop, &tell) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(IndexError::Cancelled) if stop.load(Ordering::Relaxed) => return,
                Err(error) => tell(Upkeep::Failed(error)),
            }
            match self.age() {
                Ok(0) => {}
                Ok(segments) => tell(Upkeep::Aged(segments)),
                Err(error) => tell(Upkeep::Failed(error)),
            }
            let looked = Instant::now();
            while looked.elapsed() < LOOK && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(STOP_WITHIN);
            }
        }
    }

    /// Builds what is due; `false` if nothing is.
    fn build_one(&self, stop: &AtomicBool, tell: impl Fn(Upkeep)) -> Result<bool, IndexError> {
        let Some(build) = self.next_build()? else { return Ok(false) };
        let (id, windows, kind, began) = (build.id(), build.windows(), build.kind().as_str(), Instant::now());
        match build.run(stop) {
            Ok(built) => {
                let used = self.publish(built)?;
                tell(Upkeep::Built { windows, kind, took: began.elapsed(), used });
                Ok(true)
            }
            Err(IndexError::Cancelled) if !stop.load(Ordering::Relaxed) => {
                // With one tree and still too slow, it stays searched row by row.
                let again = self.took_too_long(&id);
                tell(Upkeep::TookTooLong { windows, kind, again });
                Ok(again)
            }
            Err(error) => Err(error),
        }
    }
}
