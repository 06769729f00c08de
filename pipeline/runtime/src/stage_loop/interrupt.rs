//! What ends a session of the loop, and what ends the stage.

use crate::{bus::BusError, state::StoreError};

/// Why a stage stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// Positions, state and streams do not fit together: going on could lose or double something. The message names the
    /// way out.
    #[error("{0}")]
    Contract(String),
    /// Refused twice: another instance owns the shard.
    #[error(
        "fenced: another instance of {stage} writes {subject}; this one stops: find the other one and stop it, or leave it to its work; \
         a start of this one takes over only once that one is gone"
    )]
    Fenced {
        /// The stage.
        stage: &'static str,
        /// The subject that it writes.
        subject: String,
    },
    /// Cannot work here: a missing stream, a message over the server's bound.
    #[error("{0}")]
    Failed(String),
    /// The local state.
    #[error(transparent)]
    State(#[from] StoreError),
}

impl LoopError {
    /// The process's exit code: 70 where a restart cannot help, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Contract(_) | Self::Fenced { .. } => 70,
            Self::State(StoreError::Version { .. } | StoreError::Damaged { .. }) => 70,
            Self::Failed(_) | Self::State(_) => 1,
        }
    }
}

/// What ends a session of the loop.
#[derive(Debug)]
pub(super) enum Interrupt {
    /// The feeds lost their place: open them anew, keep what is in memory.
    Reopen(String),
    /// What is in memory is void (fenced once, a panic): load the saved state and replay.
    Recover(String),
    /// The bus does not answer: try the same again.
    Unavailable(String),
    /// Asked to stop.
    Stop,
    /// Stop for good.
    Fail(LoopError),
}

impl From<LoopError> for Interrupt {
    fn from(error: LoopError) -> Self {
        Self::Fail(error)
    }
}

impl Interrupt {
    pub(super) fn from_bus(error: BusError) -> Self {
        match error {
            BusError::Unavailable(reason) => Self::Unavailable(reason),
            BusError::LostPlace { .. } => Self::Reopen(error.to_string()),
            // A stream may be missing for a moment while the gateway is provisioned.
            BusError::Missing(_) => Self::Unavailable(error.to_string()),
            BusError::Fatal(_) => Self::Fail(LoopError::Failed(error.to_string())),
        }
    }
}
