//! Hub: the region's memory. It takes what the sites' gateways send, proves that nothing is missing or names what is, and answers
//! across sites.
//!
//! Input: the stream `SITE_<site>` of each site, with the gateway's batches on `sync.<site>.<class>` and operators' words on
//! `said.<site>`. Every process keeps a copy of some shards (`eddy_vectors::index`, a shard is a hash of the device), each a function of
//! those streams; of each shard one process leads: it answers, and publishes labels on stream REGION and sketches to the
//! bucket SKETCHES.
//!
//! `chain.rs` (does a batch follow?), `ledger.rs` (what is proven), `kept.rs` (notes that age), `about.rs` (what is known of an
//! alert), `words.rs` (what operators say here), `merge/` (a stream into a store), `shards.rs` (copies and leaders), `lead.rs` (who leads),
//! `copy.rs` and `follow.rs` (what runs for a copy), `news.rs` (labels to gateways), `sketch.rs` (sketches
//! to them), `janitor.rs` (streams); `answer/` (what is
//! answered), `grpc/` and `nats.rs` (to whom), `audit_sink.rs` (who tells the log of it); `app.rs` (all together).
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod about;
pub mod answer;
mod app;
pub mod audit_sink;
pub mod chain;
mod config;
mod copy;
pub mod filed;
mod follow;
pub mod grpc;
mod janitor;
pub mod kept;
mod lead;
pub mod ledger;
mod merge;
pub mod nats;
mod news;
pub mod shards;
mod sketch;
pub mod streams;
pub mod words;

/// The gRPC service.
#[allow(missing_docs, clippy::all)]
pub mod service {
    tonic::include_proto!("eddy.region.v1");
}

pub use app::{Hub, main};
pub use config::Config;
