//! Quality of detection on recorded streams with labels, run by the pipeline's own code.
//!
//! [`inputs`] reads the public benchmarks, [`chain`] runs one of their streams through the stages in this process,
//! [`result`] picks what stands in a result file, [`eval`] does that for a whole folder, and [`score`] judges the result
//! files as the benchmarks' own scorers do. Labels are read by [`score`] alone. [`fleet`] is the made-up fleet, [`episodes`] asks the index about its faults. [`embedded`]
//! tells the vectors of a stream's windows, [`windows`] those of any recorded file, [`heads`] those of windows that are given.
//! [`offline`] is what a gateway makes of messages; [`diff`] compares two bundles on a recording, [`rehearse`] on the newest
//! readings of a gateway.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod chain;
pub mod command;
pub mod diff;
pub mod embedded;
pub mod episodes;
pub mod eval;
pub mod fleet;
pub mod heads;
pub mod inputs;
pub mod offline;
pub mod pipeline;
pub mod quantized;
pub mod rehearse;
pub mod result;
pub mod score;
pub mod state;
pub mod table;
pub mod windows;
