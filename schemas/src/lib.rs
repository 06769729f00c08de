//! What travels between eddy's stages, and how it is written down.
//!
//! From READINGS on, every message is a *batch*: the rows of many series, in one order, as an Arrow IPC stream.
//! The four batches ([`Readings`], [`Samples`], [`Embeddings`], [`Scores`]) share their first columns
//! ([`Rows`]): the series, the event time, and a *control* where the row is not a measurement but an operator's word
//! ("one order": whatever can change a decision has its place among the readings).
//!
//! An alert is a CloudEvents 1.0 JSON document ([`alert`]); its JSON Schema is [`alert::JSON_SCHEMA`].
//! Every batch names its layout and version; see [`layout`] for how versions are read.

pub mod alert;
pub mod audit;
pub mod bursts;
pub mod context;
pub mod control;
pub mod dump;
mod embeddings;
pub mod episodes;
pub mod health;
pub mod layout;
mod lists;
pub mod models;
pub mod names;
pub mod quality;
mod readings;
pub mod region;
mod rows;
mod samples;
mod scores;
pub mod search;
pub mod side;
pub mod sync;

pub use control::{BundleAction, Control, ControlKind};
pub use embeddings::{Embeddings, EmbeddingsBuilder, HeadColumn, HeadLayout, ShadowVectors, Vectors};
pub use layout::LayoutError;
pub use names::SeriesName;
pub use readings::{Readings, ReadingsBuilder};
pub use rows::{Rows, RowsBuilder, SeriesNames};
pub use samples::{Samples, SamplesBuilder};
pub use scores::{JOINT_CHANNEL, KeptWindow, Scores, ScoresBuilder, ShadowReport, Told, flags};

/// Event time and arrival time: nanoseconds since the Unix epoch, UTC.
pub type Timestamp = i64;

/// What [`rfc3339`] wrote, or any other RFC 3339 text with an offset; `None` if it is none, or beyond a [`Timestamp`].
pub fn time_of(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    time.as_nanosecond().try_into().ok()
}

/// RFC 3339 in UTC with as many decimals as needed, for people and JSON.
pub fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time)).map_or_else(|_| format!("{time}ns"), |t| t.to_string())
}
