//! A store of windows' vectors on disk, searchable while it grows.
//!
//! One process writes ([`Store`]), any number search ([`Searcher`]). A window is searchable as soon as its batch is
//! committed: exactly, from a tail in memory, until its segment is full, sealed and brought to disk in the background; and in a graph (or
//! a forest: arroy) once it has been scanned often enough for that to pay. Segments are runs of windows of one model, cut at the stream's own positions and built from
//! a seed, so that a store made again from the same stream answers alike. Whole segments age out; single windows are
//! deleted by a bitmap until a rebuild leaves them out.
//!
//! On disk: `data.mdb`, the catalog (`catalog.rs`), and a folder for each built segment under `segments/`. A
//! build writes only into its own new folder, so that neither appending nor searching waits for it; a folder counts once
//! the catalog names it.
//!
//! Read in this order: `window.rs` and `segment_record.rs` (what is stored), `catalog.rs` (where), `batch.rs` and `store.rs`
//! (writing), `plan.rs` and `build.rs` (sealed segments), `kind.rs` and `graph/` (into what), `view.rs`, `filter.rs` and `search.rs` (asking).

mod batch;
mod build;
mod catalog;
mod channels;
mod chunk;
mod error;
mod filter;
mod flat;
mod forest;
mod graph;
mod hannoy;
mod kind;
mod names;
mod notes;
mod plan;
mod probes;
mod search;
mod segment;
mod segment_record;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod upkeep;
mod view;
mod window;

pub use self::{
    batch::Batch,
    build::{Build, BuildId, Built},
    chunk::{Chunk, ChunkWindow},
    error::IndexError,
    filter::Filter,
    notes::NOTE_KEY_BYTES_MAX,
    search::{Neighbour, Query, Recall, Searcher},
    segment_record::{Kind, Model, SegmentId, SegmentRecord},
    store::{Limits, Stats, Store},
    upkeep::Upkeep,
    window::{Facts, Label, SeriesId, Window, WindowId, storable},
};
