//! `flood`: devices that are none of the recording's send as fast as they can, into streams with small bounds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use async_nats::HeaderMap;
use eddy_runtime::dead_letter::DeadLetter;
use eddy_schemas::{ReadingsBuilder, SeriesName, Timestamp, names};
use tokio::task::JoinSet;

use super::Disturb;
use crate::{
    feed::{self, Books},
    judge::Run,
    sandbox::config::Config,
    trial::{Kit, Trial},
};

/// Who floods, each over a connection of its own.
const DEVICES: usize = 6;
/// Readings of a message, and messages of a burst that nobody waits for one by one.
const ROWS: usize = 2_000;
const BURST: usize = 8;
/// Bounds in MB: a few seconds of the flood.
const BOUNDS: [(&str, i64); 4] = [("ingest_mb", 2), ("readings_mb", 4), ("samples_mb", 4), ("embeddings_mb", 8)];
/// From one reading to the next.
const STEP_NS: i64 = 1_000_000_000;
/// A device waits so long after a refusal.
const WAIT: Duration = Duration::from_millis(30);

#[derive(Debug)]
pub(super) struct Flood;

/// What the devices did.
#[derive(Debug, Default)]
struct Sent {
    accepted: AtomicU64,
    refused: AtomicU64,
    is_over: AtomicBool,
}

impl Disturb for Flood {
    async fn before(&mut self, _kit: &Kit, config: &mut Config) -> Result<()> {
        for (stream, mb) in BOUNDS {
            config.set(&["gateway", "streams", stream], mb);
        }
        config.set(&["gateway", "janitor_interval_s"], 1);
        Ok(())
    }

    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        trial.until(0.2).await?;
        let sent = Arc::new(Sent::default());
        let (mut devices, (first, _)) = (JoinSet::new(), trial.kit.recording.span());
        for nth in 0..DEVICES {
            let device = Device {
                name: format!("flood-{nth}"),
                url: trial.sandbox.url(),
                site: trial.sandbox.plan.site.clone(),
                books: trial.books.clone(),
                sent: sent.clone(),
            };
            devices.spawn(device.flood(first));
        }
        // The recording has to wait too, so that its share alone would make it a long one.
        let flooded = tokio::time::timeout(trial.kit.over / 2, trial.until(0.7)).await.unwrap_or(Ok(()));
        sent.is_over.store(true, Ordering::Relaxed);
        while let Some(device) = devices.join_next().await {
            device??;
        }
        flooded?;
        let (accepted, refused) = (sent.accepted.load(Ordering::Relaxed), sent.refused.load(Ordering::Relaxed));
        trial.done.insert("messages of a flood accepted".to_owned(), accepted);
        trial.done.insert("messages of a flood refused".to_owned(), refused);
        if refused == 0 {
            trial.problems.push("no stream ever was full: the flood was none".to_owned());
        }
        Ok(())
    }

    fn check(&mut self, trial: &mut Trial<'_>, run: &Run, _letters: &[DeadLetter]) {
        trial.figures.insert("flood_readings_accepted".to_owned(), run.account.guests.into());
    }
}

/// One that floods.
struct Device {
    name: String,
    url: String,
    site: String,
    books: Books,
    sent: Arc<Sent>,
}

impl Device {
    /// Until it is over. What is refused is not sent again: the next readings are.
    async fn flood(self, first: Timestamp) -> Result<()> {
        let context = feed::connect(&self.url).await?;
        let subject = format!("ingest.{}.{}", names::encode(&self.site), names::encode(&self.name));
        let series = SeriesName::encode(&self.name, "level");
        let id = feed::open(&self.books).guest(&series);
        let mut time = first;
        while !self.sent.is_over.load(Ordering::Relaxed) {
            let mut under_way = Vec::new();
            for _ in 0..BURST {
                let (begin, mut batch) = (time, ReadingsBuilder::default());
                let now = eddy_cli::now();
                for row in 0..ROWS {
                    batch.push(&series, time, (row % 100) as f64, 0, time);
                    feed::open(&self.books).offer(id, time, now);
                    time += STEP_NS;
                }
                let mut headers = HeaderMap::new();
                headers.insert("Content-Type", "application/vnd.apache.arrow.stream");
                let sent = context.publish_with_headers(subject.clone(), headers, batch.encode().into()).await;
                under_way.push((begin, sent));
            }
            let mut is_refused = false;
            for (begin, sent) in under_way {
                let stored = match sent {
                    Ok(ack) => ack.await.is_ok(),
                    Err(_) => false,
                };
                if stored {
                    let mut books = feed::open(&self.books);
                    (0..ROWS as i64).for_each(|row| books.stored(id, begin + row * STEP_NS));
                    self.sent.accepted.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.sent.refused.fetch_add(1, Ordering::Relaxed);
                    is_refused = true;
                }
            }
            if is_refused {
                tokio::time::sleep(WAIT).await;
            }
        }
        Ok(())
    }
}
