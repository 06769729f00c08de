//! Labels out to all gateways, on stream REGION.
//!
//! What is to go out is noted with what it tells of, in the store's outbox. The leader publishes it, in the order in which the site's
//! stream brought it about. The last message on a site's subject names, for each shard, up to where the site's stream is told; each message
//! is guarded by the one before it. So an item goes out once, whoever leads, and a copy that does not lead, or has just begun to, sees
//! what is out already.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use eddy_runtime::{
    bus::{Bus, BusError, Publication, PublishError},
    telemetry::Telemetry,
};
use eddy_schemas::{
    names,
    region::{LabelNews, NEWS_STREAM},
};
use eddy_vectors::{
    codec::{CodecError, Get, Put as _},
    index::{Batch, IndexError, Label, WindowId},
};
use tokio::{
    task::block_in_place,
    time::{sleep, timeout},
};

use crate::{filed, shards::Led};

/// Up to where each shard is told: `<shard>@<incarnation>:<sequence>.<nth>`, joined by commas.
const HEADER: &str = "Eddy-Told";
/// The next number of the outbox.
const NEXT: &str = "news";
/// How often a copy looks what others have told.
const LOOK: Duration = Duration::from_secs(2);
/// Before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// A label that others should hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// The site whose window it is.
    pub site: String,
    /// Its stream's incarnation.
    pub incarnation: i64,
    /// The message there that brought it about.
    pub sequence: u64,
    /// Which of that message's news in this shard.
    pub nth: u32,
    /// The window.
    pub window: WindowId,
    /// Its alert.
    pub alert: String,
    /// What was said.
    pub label: Label,
}

/// Where an item lies in its site's stream.
type At = (i64, u64, u32);

impl News {
    fn at(&self) -> At {
        (self.incarnation, self.sequence, self.nth)
    }

    fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        record.put_i64(self.incarnation);
        record.put_u64(self.sequence);
        record.put_u32(self.nth);
        record.put_u64(self.window);
        record.put_i64(self.label.time);
        for text in [&self.site, &self.alert, &self.label.name, &self.label.origin] {
            record.put_text(text);
        }
        record
    }

    fn decode(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (incarnation, sequence, nth) = (get.i64()?, get.u64()?, get.u32()?);
        let (window, time) = (get.u64()?, get.i64()?);
        let (site, alert) = (get.text()?, get.text()?);
        let label = Label { name: get.text()?, origin: get.text()?, time };
        get.end()?;
        Ok(Self { site, incarnation, sequence, nth, window, alert, label })
    }
}

/// Notes that it must go out.
///
/// # Errors
/// The store's.
pub fn note(batch: &mut Batch<'_>, news: &News) -> Result<(), IndexError> {
    let next = batch.noted(NEXT)?.and_then(|note| Some(u64::from_le_bytes(note.try_into().ok()?))).unwrap_or(0);
    batch.note(NEXT, &(next + 1).to_le_bytes())?;
    batch.send(next, &news.encode())
}

/// What the last message on a subject says is told.
#[derive(Debug, Default, PartialEq)]
struct Told(BTreeMap<u32, At>);

impl Told {
    fn parse(text: &str) -> Option<Self> {
        let part = |part: &str| {
            let (shard, at) = part.split_once('@')?;
            let (incarnation, at) = at.split_once(':')?;
            let (sequence, nth) = at.split_once('.')?;
            Some((shard.parse().ok()?, (incarnation.parse().ok()?, sequence.parse().ok()?, nth.parse().ok()?)))
        };
        text.split(',').map(part).collect::<Option<_>>().map(Self)
    }

    fn text(&self) -> String {
        let part =
            |(shard, (incarnation, sequence, nth)): (&u32, &At)| format!("{shard}@{incarnation}:{sequence}.{nth}");
        self.0.iter().map(part).collect::<Vec<_>>().join(",")
    }

    fn has(&self, shard: u32, at: At) -> bool {
        self.0.get(&shard).is_some_and(|told| *told >= at)
    }
}

/// Tells a copy's news while it leads.
pub struct Teller<B> {
    pub(crate) bus: B,
    pub(crate) copy: Arc<Led>,
    pub(crate) telemetry: Arc<Telemetry>,
}

/// Why not everything is told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] IndexError),
    /// The bus's.
    #[error("{0}")]
    Bus(#[from] BusError),
    /// The stream's.
    #[error("{0}")]
    Publish(#[from] PublishError),
    /// An entry of the outbox is none.
    #[error("outbox of shard {shard}: entry {number}: {error}")]
    Damaged {
        /// The shard.
        shard: u32,
        /// The entry.
        number: u64,
        /// Why.
        error: CodecError,
    },
}

impl<B: Bus> Teller<B> {
    /// Runs until it is dropped.
    pub async fn run(self) {
        loop {
            match self.tell().await {
                // Whether there is news or not: others may have told what is noted here.
                Ok(()) => drop(timeout(LOOK, self.copy.news.notified()).await),
                Err(error) => {
                    tracing::warn!(%error, shard = self.copy.shard, "labels are not told; trying again");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// One round: what others told is taken from the outbox; what is left is told, if this process leads.
    ///
    /// # Errors
    /// What should be tried again.
    pub async fn tell(&self) -> Result<(), TellError> {
        let mut by_site: BTreeMap<String, Vec<(u64, News)>> = BTreeMap::new();
        for (number, record) in block_in_place(|| self.copy.store.outbox())? {
            let damaged = |error| TellError::Damaged { shard: self.copy.shard, number, error };
            let news = News::decode(&record).map_err(damaged)?;
            by_site.entry(news.site.clone()).or_default().push((number, news));
        }
        let mut failed = Ok(());
        for (site, items) in by_site {
            let mut done = Vec::new();
            // One site's trouble is not another's.
            if let Err(error) = self.tell_site(&site, items, &mut done).await {
                failed = Err(error);
            }
            block_in_place(|| self.settle(&done))?;
        }
        failed
    }

    async fn tell_site(&self, site: &str, items: Vec<(u64, News)>, done: &mut Vec<u64>) -> Result<(), TellError> {
        let subject = format!("region.label.{}", names::encode(site));
        let last = self.bus.last(NEWS_STREAM, &subject).await?;
        let header = last.as_ref().and_then(|last| last.header(HEADER));
        let mut told = header.and_then(Told::parse).unwrap_or_default();
        let mut guard = last.map_or(0, |last| last.sequence);
        for (number, news) in items {
            if told.has(self.copy.shard, news.at()) {
                done.push(number);
                continue;
            }
            let Some(payload) = block_in_place(|| self.payload(&news))? else {
                // A window that was deleted or aged out before anybody heard of it.
                done.push(number);
                continue;
            };
            if !self.copy.is_led() {
                continue;
            }
            told.0.insert(self.copy.shard, news.at());
            let message = Publication {
                stream: NEWS_STREAM.into(),
                subject: subject.clone(),
                headers: vec![(HEADER.into(), told.text()), ("Content-Type".into(), "application/json".into())],
                payload: payload.into(),
                guard: Some(guard),
            };
            guard = self.bus.publish(vec![message]).await?;
            self.telemetry.decision("label_told", 1);
            done.push(number);
        }
        Ok(())
    }

    fn payload(&self, news: &News) -> Result<Option<Vec<u8>>, IndexError> {
        self.copy.searcher.refresh()?;
        let Some((window, vector, model)) = self.copy.searcher.window(news.window)? else { return Ok(None) };
        let Some((_, device, channel)) = filed::parts(&window.series) else { return Ok(None) };
        let told = LabelNews {
            site: news.site.clone(),
            device,
            channel,
            alert: news.alert.clone(),
            label: news.label.name.clone(),
            origin: news.label.origin.clone(),
            time: news.label.time,
            bundle: model.digest,
            start: window.facts.start,
            end: window.facts.end,
            filled: window.facts.filled,
            score: window.facts.score,
            vector,
        };
        serde_json::to_vec(&told).map(Some).map_err(|error| IndexError::Query(error.to_string()))
    }

    fn settle(&self, done: &[u64]) -> Result<(), IndexError> {
        if done.is_empty() {
            return Ok(());
        }
        let _one = self.copy.lock();
        let before = self.copy.store.position()?;
        let mut batch = self.copy.store.batch()?;
        for number in done {
            batch.sent(*number)?;
        }
        batch.commit(before.as_deref(), before.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_headers_come_back() {
        let label = Label { name: "leak".into(), origin: "s/cli".into(), time: -4 };
        let (site, alert) = ("plant 1".into(), "a".into());
        let news = News { site, incarnation: 7, sequence: 9, nth: 1, window: 3, alert, label };
        assert_eq!(News::decode(&news.encode()), Ok(news.clone()));
        assert!(News::decode(&news.encode()[1..]).is_err());
        let told = Told([(0, (7, 9, 1)), (3, (7, 2, 0))].into());
        assert_eq!(Told::parse(&told.text()), Some(told));
        assert_eq!(Told::parse("0@7:9"), None);
    }

    #[test]
    fn what_is_told_is_told_for_a_shard_and_up_to_a_place() {
        let told = Told([(0, (7, 9, 1))].into());
        assert!(told.has(0, (7, 9, 1)) && told.has(0, (7, 9, 0)) && told.has(0, (6, 99, 0)));
        assert!(!told.has(0, (7, 9, 2)) && !told.has(0, (8, 1, 0)) && !told.has(1, (7, 1, 0)));
    }
}
