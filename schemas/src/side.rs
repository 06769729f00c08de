//! SIDE: what did not go through, with its reason, so that every reading is accounted for.

use serde::{Deserialize, Serialize};

/// Why something was put aside: a closed list, the `reason` label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The bytes are not what they claim to be.
    Malformed,
    /// A batch of a layout or version that is not known.
    UnknownVersion,
    /// A field is missing, not a number, or a name that cannot be taken.
    InvalidField,
    /// Timed too far ahead of its arrival.
    Future,
    /// Came after its place in the series had gone out.
    Late,
    /// The message or row is larger than what is taken.
    TooLarge,
    /// The stage panicked on it three times.
    Panic,
    /// Made by a bundle that does not fit this stage.
    BundleMismatch,
    /// A receiver of alerts said that it does not take it.
    Refused,
    /// A receiver of alerts did not take it within the tries or the time that it is given.
    Expired,
    /// Messages were removed from the stream before their reader came to them.
    Missed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::UnknownVersion,
        Self::InvalidField,
        Self::Future,
        Self::Late,
        Self::TooLarge,
        Self::Panic,
        Self::BundleMismatch,
        Self::Refused,
        Self::Expired,
        Self::Missed,
    ];

    /// As it stands in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownVersion => "unknown_version",
            Self::InvalidField => "invalid_field",
            Self::Future => "future",
            Self::Late => "late",
            Self::TooLarge => "too_large",
            Self::Panic => "panic",
            Self::BundleMismatch => "bundle_mismatch",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Missed => "missed",
        }
    }
}

/// What stands in the header of a dead letter and in front of the original bytes' meaning; the payload is the original.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// The class of the reason.
    pub reason: Reason,
    /// What exactly is wrong, where, with the offending value.
    pub detail: String,
    /// The subject that it came on.
    pub subject: String,
    /// How many readings were lost with it, as far as they could be counted (1 where they could not).
    pub readings: u64,
}
