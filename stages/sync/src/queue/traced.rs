//! The traces that entries are part of, beside the queue: in memory, so that they end where this process does.

use std::sync::{Mutex, PoisonError};

use eddy_runtime::trace::{Contexts, Remembered};
use eddy_schemas::{Timestamp, sync::Class};

use super::Queue;

/// Of an entry.
#[derive(Clone, Debug)]
pub(super) struct Traced {
    pub(super) contexts: Contexts,
    pub(super) queued: Timestamp,
}

/// By class and number.
pub(super) type Traces = Mutex<Remembered<(Class, u64), Traced>>;

impl Queue {
    pub(super) fn trace(&self, entries: Vec<((Class, u64), Traced)>) {
        if entries.is_empty() {
            return;
        }
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        entries.into_iter().for_each(|(key, traced)| traces.put(key, traced));
    }

    /// The traces of a class's entries from `first` to `last`, and when the first of them was queued; `None` if there are none.
    pub fn traced(&self, class: Class, first: u64, last: u64) -> Option<(Contexts, Timestamp)> {
        let traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        let found = || traces.within((class, first)..=(class, last)).map(|(_, traced)| traced);
        let queued = found().map(|traced| traced.queued).min()?;
        Some((found().flat_map(|traced| traced.contexts.iter()).collect(), queued))
    }

    /// The region has a class's entries up to `last`.
    pub fn forget_traces(&self, class: Class, last: u64) {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner).forget((class, 0)..=(class, last));
    }
}
