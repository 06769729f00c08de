//! HEALTH: a device's condition, by the wall clock.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What can be wrong with a device rather than with what it measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing arrived for too long.
    Silence,
    /// A channel repeats one value.
    Stuck,
    /// A channel is outside its range.
    Range,
    /// The device's clock is off.
    ClockOffset,
}

/// A condition that began or ended: one message on `health.<site>.<device>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The device.
    pub device: String,
    /// The channel; none where it is the whole device's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// What it is.
    pub condition: Condition,
    /// Whether it holds now.
    pub active: bool,
    /// Event time of the reading that showed it; for silence of the last one before it.
    pub since: Timestamp,
    /// The number behind it: seconds of silence or offset, the stuck value, the value out of range.
    pub value: f64,
}
