//! The hub's shards, as answers need them.

use std::sync::Arc;

use eddy_schemas::{
    names,
    region::wire::{ChainReceipt, LabelSaid},
    sync,
};
use eddy_vectors::index::{Searcher, Store, WindowId};
use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    refusal::{Refusal, Why},
    region::{Leader, Region, Said, Shard},
};
use crate::{
    about, ledger,
    shards::{Led, Shards},
    words::LabelError,
};

impl Region for Shards {
    fn count(&self) -> u32 {
        Self::count(self)
    }

    fn led(&self) -> Vec<(u32, Arc<dyn Shard>)> {
        Self::led(self).into_iter().map(|(shard, led)| (shard, led as Arc<dyn Shard>)).collect()
    }

    fn leaders(&self) -> Vec<Leader> {
        let told = Self::leaders(self).into_iter().filter_map(|leader| {
            let (shard, address) = (leader.shard, leader.address.unwrap_or_default());
            leader.name.map(|name| Leader { shard, name, address })
        });
        told.collect()
    }
}

impl Shard for Led {
    fn store(&self) -> &Store {
        &self.store
    }

    fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    fn label(self: Arc<Self>, said: Said) -> BoxFuture<'static, Result<bool, Refusal>> {
        async move {
            let Said { site, device, alert, label, origin, time } = &said;
            Ok(Self::label(&self, site, device, alert, label, origin, *time).await?)
        }
        .boxed()
    }

    fn sites(&self) -> Vec<String> {
        let streams = self.position().0;
        streams.keys().filter_map(|stream| stream.strip_prefix(sync::STREAM_PREFIX)).map(names::decode).collect()
    }

    fn opener(&self, site: &str, alert: &str) -> Result<Option<WindowId>, Refusal> {
        Ok(about::read(&self.store, &names::encode(site), alert)?.and_then(|about| about.opener))
    }

    fn history(&self, site: &str, alert: &str) -> Result<Vec<LabelSaid>, Refusal> {
        let said = about::history(&self.store, &names::encode(site), alert)?;
        let told =
            said.into_iter().map(|label| LabelSaid { label: label.name, origin: label.origin, time: label.time });
        Ok(told.collect())
    }

    fn receipts(&self) -> Result<Vec<ChainReceipt>, Refusal> {
        Ok(ledger::read(&self.store)?)
    }

    fn lag_messages(&self) -> u64 {
        self.lag()
    }
}

impl From<LabelError> for Refusal {
    fn from(error: LabelError) -> Self {
        let why = match &error {
            LabelError::Wrong { .. } => Why::Wrong,
            LabelError::Unknown { .. } => Why::Missing,
            LabelError::NotLed(_) | LabelError::Away(_) => Why::Unavailable,
            LabelError::Slow => Why::TooLate,
            LabelError::Store(_) => Why::Failed,
        };
        match error {
            LabelError::Store(error) => error.into(),
            error => Self::new(why, error.to_string()),
        }
    }
}
