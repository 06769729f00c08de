//! The janitor: removes what every stage on the path to an alert has done with, once a stream nears its bound.
//!
//! Rules (design, "the stage contract"; the traps behind them were measured): purge subject by subject, below
//! min(ack floor - replay tail, that subject's last message). The last message on an output subject is a checkpoint and
//! is never removed; a purge by sequence without a filter would remove other subjects' last ones. INGEST, CONTROL and
//! alerts carry no checkpoint, so theirs go by wildcard.

use crate::{
    client::{Client, ClientError, ConsumerInfo},
    provision::{PATH, PathReader},
};

/// How a stream is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Nothing is removed below this share of a stream's bound, in percent: what is processed stays for replays.
    pub keep_percent: u8,
    /// Messages below the ack floor that stay in any case.
    pub replay_tail: u64,
}

/// Streams whose messages carry no checkpoint of their own.
const PLAIN: [&str; 2] = ["INGEST", "CONTROL"];
const PURGED: [&str; 6] = ["INGEST", "CONTROL", "READINGS", "SAMPLES", "EMBEDDINGS", "DETECTIONS"];

/// One round over all streams; returns how many messages were removed.
///
/// # Errors
/// If the server does not answer; the next round tries again.
pub async fn sweep(client: &Client, retention: Retention) -> Result<u64, ClientError> {
    let mut removed = 0;
    for name in PURGED {
        let Some(info) = client.stream(name).await? else { continue };
        let bound = info.bytes_max.unwrap_or(u64::MAX);
        let keep = bound / 100 * u64::from(retention.keep_percent);
        if info.bytes <= keep || info.messages == 0 {
            continue;
        }
        // Messages are about alike in size: what share of them must go?
        let span = info.last_sequence + 1 - info.first_sequence;
        let excess = (info.bytes - keep) as f64 / info.bytes as f64;
        let enough = info.first_sequence + (span as f64 * excess).ceil() as u64;
        let floor = ack_floor(client, name).await?.map(|floor| (floor + 1).saturating_sub(retention.replay_tail));
        let below = enough.min(floor.unwrap_or(u64::MAX));
        if below <= info.first_sequence {
            tracing::warn!(stream = name, bytes = info.bytes, "near its bound, and its readers are not through");
            continue;
        }
        removed += purge(client, name, below).await?;
    }
    Ok(removed)
}

/// The least ack floor of the stream's readers on the path; none where nobody on the path reads it.
async fn ack_floor(client: &Client, stream: &str) -> Result<Option<u64>, ClientError> {
    let is_reader = |consumer: &str| {
        let of_stage =
            |reader: &PathReader| consumer.split('-').next() == Some(reader.stage) && reader.stream == stream;
        PATH.iter().any(of_stage)
    };
    let consumers = client.consumers(stream).await?;
    // A reader with nothing left to do holds nothing back, wherever its last message was.
    let floor = |consumer: &ConsumerInfo| {
        if consumer.pending == 0 && consumer.ack_pending == 0 { u64::MAX - 1 } else { consumer.ack_floor }
    };
    Ok(consumers.iter().filter(|consumer| is_reader(&consumer.name)).map(floor).min())
}

async fn purge(client: &Client, stream: &str, below: u64) -> Result<u64, ClientError> {
    let handle = client.context().get_stream_no_info(stream).await;
    let handle = handle.map_err(|error| ClientError::refused(format!("purge of {stream}"), error))?;
    let mut removed = 0;
    let filters: Vec<(String, u64)> = if PLAIN.contains(&stream) {
        vec![(">".to_owned(), below)]
    } else {
        let mut filters = Vec::new();
        for subject in client.subjects(stream, ">").await?.into_keys() {
            if subject.starts_with("alerts.") {
                filters.push((subject, below));
            } else if let Some(last) = client.last(stream, &subject).await? {
                filters.push((subject, below.min(last.sequence)));
            }
        }
        filters
    };
    for (filter, below) in filters {
        let answer = handle.purge().filter(&filter).sequence(below).await;
        removed += answer.map_err(|error| ClientError::refused(format!("purge of {stream} {filter}"), error))?.purged;
    }
    tracing::info!(stream, below, removed, "purged");
    Ok(removed)
}
