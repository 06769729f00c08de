//! Where a sink's alerts go.

use std::{future::Future, time::Duration};

use crate::event::Event;

/// What became of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it. `keep` is a record that the sink keeps with its position: a key and a value.
    Delivered {
        /// Such a record.
        keep: Option<(String, Vec<u8>)>,
    },
    /// It may work later.
    Retry {
        /// What went wrong.
        problem: String,
        /// Not before this has passed, if the receiver said so.
        after: Option<Duration>,
    },
    /// The receiver will never take it.
    Refused {
        /// What it said.
        problem: String,
    },
}

impl Verdict {
    /// It may work later.
    pub fn retry(problem: impl Into<String>) -> Self {
        Self::Retry { problem: problem.into(), after: None }
    }
}

/// A receiver of alerts.
pub trait Outlet: Send + Sync + 'static {
    /// Brings one event there. It must end in bounded time; it may be brought more than once, with the same id.
    fn deliver(&self, event: &Event) -> impl Future<Output = Verdict> + Send;
}
