//! Somebody's call: who, until when, and what the log says of it.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A caller gives up a moment later than an answer is made, so that it arrives in time: this part of its time.
const SPARE_PART: u32 = 20;
/// And no more than that.
const SPARE_MAX: Duration = Duration::from_millis(50);
/// The log takes no more of a call.
const DETAIL_BYTES_MAX: usize = 4_096;

/// Somebody's call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The subject of the certificate, or what else is known.
    pub who: String,
    /// Nothing is done for it after that.
    pub deadline: Instant,
    /// Another hub process asks for what this one has itself.
    pub own_only: bool,
    detail: Arc<Mutex<String>>,
}

impl Call {
    /// A call that may take as long as `time`, from now on.
    pub fn new(who: impl Into<String>, time: Duration) -> Self {
        let spare = (time / SPARE_PART).min(SPARE_MAX);
        Self { who: who.into(), deadline: Instant::now() + (time - spare), own_only: false, detail: Arc::default() }
    }

    /// The same call, until another moment.
    pub(crate) fn until(&self, deadline: Instant) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// When others' answers must be here, so that there is time to put them together.
    pub(crate) fn others_until(&self) -> Instant {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.deadline - (left / SPARE_PART).min(SPARE_MAX)
    }

    /// Adds to what the log says of it.
    pub(crate) fn tell(&self, detail: std::fmt::Arguments<'_>) {
        let mut text = self.detail.lock().unwrap_or_else(PoisonError::into_inner);
        // A stream is one call, however much is asked on it.
        if text.len() >= DETAIL_BYTES_MAX {
            return;
        }
        let gap = if text.is_empty() { "" } else { "; " };
        // Writing to a String does not fail.
        let _ = write!(text, "{gap}{detail}");
    }

    /// What the log says of it.
    pub fn detail(&self) -> String {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
