//! What answers are made from: the shards that this process leads, and who leads the others.

use std::sync::Arc;

use eddy_schemas::{
    Timestamp,
    region::wire::{ChainReceipt, LabelSaid},
};
use eddy_vectors::index::{Searcher, Store, WindowId};
use futures_util::future::BoxFuture;

use super::refusal::Refusal;

/// Who leads a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leader {
    /// The shard.
    pub shard: u32,
    /// The process.
    pub name: String,
    /// Host and port of its gRPC server; empty: it has none.
    pub address: String,
}

/// A word about an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whose alert.
    pub site: String,
    /// The device there.
    pub device: String,
    /// The alert.
    pub alert: String,
    /// `normal`, or the name of a fault.
    pub label: String,
    /// By whom: `hub/<certificate subject>`.
    pub origin: String,
    /// When, by the operator's clock.
    pub time: Timestamp,
}

/// The region as one of its processes knows it.
pub trait Region: Send + Sync {
    /// How many shards it has.
    fn count(&self) -> u32;
    /// The shards that this process leads now.
    fn led(&self) -> Vec<(u32, Arc<dyn Shard>)>;
    /// Who leads now; a shard may have nobody.
    fn leaders(&self) -> Vec<Leader>;
}

/// A shard that this process leads. All of it blocks, but for labels.
pub trait Shard: Send + Sync {
    /// Its store.
    fn store(&self) -> &Store;
    /// Asks the store.
    fn searcher(&self) -> &Searcher;
    /// Stores a word about an alert, and tells the gateways; whether it holds now.
    ///
    /// It fails if nothing is known of the alert, or the word cannot be stored.
    fn label(self: Arc<Self>, said: Said) -> BoxFuture<'static, Result<bool, Refusal>>;
    /// The sites that it has something of.
    fn sites(&self) -> Vec<String>;
    /// The window that opened an alert.
    ///
    /// # Errors
    /// That the store cannot be read.
    fn opener(&self, site: &str, alert: &str) -> Result<Option<WindowId>, Refusal>;
    /// All that was said of an alert, oldest first.
    ///
    /// # Errors
    /// That the store cannot be read.
    fn history(&self, site: &str, alert: &str) -> Result<Vec<LabelSaid>, Refusal>;
    /// The ledger.
    ///
    /// # Errors
    /// That the store cannot be read.
    fn receipts(&self) -> Result<Vec<ChainReceipt>, Refusal>;
    /// Messages of the sites' streams that it has not merged yet.
    fn lag_messages(&self) -> u64;
}
