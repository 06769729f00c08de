//! Removes from the sites' streams what every shard's leader has merged, once a stream nears its bound: the lowest class first, subject by
//! subject, and never the last message of a class, which is its gateway's checkpoint.
//!
//! Whoever leads shard 0 does it. A shard that nobody leads holds everything back; then the stream fills, refuses its gateway, and the
//! gateway keeps within its own budgets.

use std::{sync::Arc, time::Duration};

use eddy_runtime::{
    bus::{Bus, BusError, nats::NatsBus},
    position::Place,
};
use eddy_schemas::{
    region::said_subject,
    sync::{Class, stream_of, subject_of},
};
use tokio::{sync::watch, time::timeout};

use crate::shards::Shards;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(10);
/// The shard whose leader does it.
const SHARD: u32 = 0;

/// The janitor of a process.
pub struct Janitor {
    pub(crate) bus: NatsBus,
    pub(crate) shards: Arc<Shards>,
    pub(crate) sites: watch::Receiver<Vec<String>>,
    pub(crate) keep_percent: u8,
}

impl Janitor {
    /// Runs until `stop` says true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        while timeout(LOOK, stop.wait_for(|stop| *stop)).await.is_err() {
            if !self.shards.led().iter().any(|(shard, _)| *shard == SHARD) {
                continue;
            }
            let sites = self.sites.borrow().clone();
            for site in sites {
                match self.sweep(&site).await {
                    Ok(0) => {}
                    Ok(removed) => tracing::info!(site, removed, "purged"),
                    Err(error) => tracing::warn!(site, %error, "not purged; trying again"),
                }
            }
        }
    }

    /// One round over a site's stream; how many messages were removed.
    async fn sweep(&self, site: &str) -> Result<u64, BusError> {
        let stream = stream_of(site);
        let (bytes, bound) = self.bus.fill(&stream).await?;
        let keep = bound.unwrap_or(u64::MAX) / 100 * u64::from(self.keep_percent);
        if bytes <= keep {
            return Ok(0);
        }
        let state = self.bus.stream(&stream).await?;
        let places = self.shards.leaders().into_iter().map(|leader| leader.positions.place(&stream).cloned());
        let Some(merged) = merged(places, state.incarnation) else {
            tracing::warn!(site, bytes, "near its bound, and not every shard has a leader that reads it");
            return Ok(0);
        };
        // Messages are about alike in size: what share of them must go?
        let span = state.last_sequence + 1 - state.first_sequence;
        let excess = (bytes - keep) as f64 / bytes as f64;
        let enough = state.first_sequence + (span as f64 * excess).ceil() as u64;
        let mut removed = 0;
        for class in Class::ALL.into_iter().rev() {
            removed += self.purge(&stream, &subject_of(site, class), merged + 1).await?;
            // What a class holds is not known beforehand.
            if self.bus.fill(&stream).await?.0 <= keep {
                return Ok(removed);
            }
        }
        // What was said here has no checkpoint.
        removed += self.bus.purge(&stream, &said_subject(site), enough.min(merged + 1)).await?;
        Ok(removed)
    }

    async fn purge(&self, stream: &str, subject: &str, below: u64) -> Result<u64, BusError> {
        let Some(last) = self.bus.last(stream, subject).await? else { return Ok(0) };
        self.bus.purge(stream, subject, below.min(last.sequence)).await
    }
}

/// Up to where all have merged a stream; `None`: one of them says nothing of it.
fn merged(places: impl Iterator<Item = Option<Place>>, incarnation: i64) -> Option<u64> {
    let mut least = None;
    for place in places {
        let place = place.filter(|place| place.incarnation == incarnation)?;
        least = Some(least.map_or(place.sequence, |least: u64| least.min(place.sequence)));
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_shard_counts_and_one_that_says_nothing_holds_everything() {
        let at = |sequence| Some(Place::whole(7, sequence));
        assert_eq!(merged([at(9), at(4)].into_iter(), 7), Some(4));
        assert_eq!(merged([at(9), None].into_iter(), 7), None);
        assert_eq!(merged([at(9), Some(Place::whole(6, 99))].into_iter(), 7), None, "of a stream that is gone");
        assert_eq!(merged(std::iter::empty(), 7), None);
    }
}
