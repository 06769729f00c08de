//! Why something is not answered.

/// Why something is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was asked wrongly.
    Wrong,
    /// The caller may not.
    NotAllowed,
    /// There is no such thing.
    Missing,
    /// Too much is asked at once.
    Busy,
    /// Whoever knows it does not answer.
    Unavailable,
    /// Not within the caller's time.
    TooLate,
    /// Something is broken here.
    Failed,
}

/// A refusal: what, where, which value, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Of what kind.
    pub why: Why,
    /// In words.
    pub message: String,
}

impl Why {
    /// As one word, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::NotAllowed => "refused",
            Self::Missing => "missing",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::TooLate => "deadline",
            Self::Failed => "failed",
        }
    }

    fn of(code: tonic::Code) -> Self {
        use tonic::Code;
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::Wrong,
            Code::PermissionDenied | Code::Unauthenticated => Self::NotAllowed,
            Code::NotFound => Self::Missing,
            Code::ResourceExhausted => Self::Busy,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded | Code::Cancelled => Self::TooLate,
            _ => Self::Failed,
        }
    }
}

impl Refusal {
    /// A refusal of a kind.
    pub fn new(why: Why, message: impl Into<String>) -> Self {
        Self { why, message: message.into() }
    }

    pub(crate) fn wrong(message: impl Into<String>) -> Self {
        Self::new(Why::Wrong, message)
    }

    pub(crate) fn too_late() -> Self {
        Self::new(Why::TooLate, "no answer within the deadline: allow more time, or ask for less")
    }
}

impl From<Refusal> for tonic::Status {
    fn from(Refusal { why, message }: Refusal) -> Self {
        match why {
            Why::Wrong => Self::invalid_argument(message),
            Why::NotAllowed => Self::permission_denied(message),
            Why::Missing => Self::not_found(message),
            Why::Busy => Self::resource_exhausted(message),
            Why::Unavailable => Self::unavailable(message),
            Why::TooLate => Self::deadline_exceeded(message),
            Why::Failed => Self::internal(message),
        }
    }
}

/// What another hub process refused.
impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Self {
        Self::new(Why::of(status.code()), status.message())
    }
}

impl From<Refusal> for eddy_runtime::service::Refusal {
    fn from(Refusal { why, message }: Refusal) -> Self {
        let code = match why {
            Why::Wrong => 400,
            Why::NotAllowed => 403,
            Why::Missing => 404,
            Why::Busy => 429,
            Why::Failed => 500,
            Why::Unavailable => 503,
            Why::TooLate => 504,
        };
        Self { code, message }
    }
}

impl From<eddy_vectors::index::IndexError> for Refusal {
    fn from(error: eddy_vectors::index::IndexError) -> Self {
        use eddy_vectors::index::IndexError;
        match error {
            IndexError::Query(message) => Self::wrong(message),
            IndexError::Cancelled => Self::too_late(),
            // What is wrong with the disk is for whoever runs the hub.
            error => {
                tracing::error!(%error, "a store cannot be read");
                Self::new(Why::Failed, "a shard's store cannot be read: the hub's log says why")
            }
        }
    }
}
