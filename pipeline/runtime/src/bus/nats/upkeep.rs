//! What a tier does with streams beside reading and writing them: makes them, lists them, purges them; and plain requests.

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{NatsBus, unavailable};
use crate::bus::{Bus as _, BusError, Stored};

/// A stream to be.
#[derive(Clone, Debug)]
pub struct PlannedStream {
    /// Its name.
    pub name: String,
    /// Its subjects.
    pub subjects: Vec<String>,
    /// Bytes at most.
    pub bytes_max: u64,
    /// Messages of one subject at most; `None`: any number.
    pub per_subject_max: Option<u64>,
    /// At the bound the oldest goes; otherwise the newest is refused.
    pub drops_oldest: bool,
    /// How many servers of a cluster hold it.
    pub replicas: usize,
}

impl NatsBus {
    /// Creates a stream, or moves the bounds of one that is there.
    ///
    /// # Errors
    /// That the server does not answer, or its reason to refuse.
    pub async fn provide(&self, planned: &PlannedStream) -> Result<(), BusError> {
        let config = Config {
            name: planned.name.clone(),
            subjects: planned.subjects.clone(),
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: planned.replicas,
            max_bytes: i64::try_from(planned.bytes_max).unwrap_or(i64::MAX),
            max_messages_per_subject: planned.per_subject_max.map_or(-1, |most| i64::try_from(most).unwrap_or(-1)),
            discard: if planned.drops_oldest { DiscardPolicy::Old } else { DiscardPolicy::New },
            allow_direct: true,
            // What clients expect of a bucket's stream.
            allow_rollup: planned.name.starts_with("KV_") || planned.name.starts_with("OBJ_"),
            deny_delete: planned.name.starts_with("KV_"),
            ..Default::default()
        };
        let refused =
            |error: &dyn std::fmt::Display| BusError::Unavailable(format!("stream {}: {error}", planned.name));
        self.jetstream.create_or_update_stream(config).await.map(drop).map_err(|error| refused(&error))
    }

    /// The names of all streams that begin with `prefix`, sorted.
    ///
    /// # Errors
    /// That the server does not answer.
    pub async fn streams(&self, prefix: &str) -> Result<Vec<String>, BusError> {
        let mut names: Vec<String> = self.jetstream.stream_names().try_collect().await.map_err(unavailable)?;
        names.retain(|name| name.starts_with(prefix));
        names.sort_unstable();
        Ok(names)
    }

    /// The last message on each subject of `stream` that `filter` matches.
    ///
    /// # Errors
    /// That there is no such stream, or that the server does not answer.
    pub async fn last_of_each(&self, stream: &str, filter: &str) -> Result<BTreeMap<String, Stored>, BusError> {
        let handle = self.jetstream.get_stream_no_info(stream).await.map_err(unavailable)?;
        let subjects = handle.info_with_subjects(filter).await.map_err(unavailable)?;
        let subjects: Vec<(String, usize)> = subjects.try_collect().await.map_err(unavailable)?;
        let mut last = BTreeMap::new();
        for (subject, _) in subjects {
            // One that was purged meanwhile is none.
            if let Some(stored) = self.last(stream, &subject).await? {
                last.insert(subject, stored);
            }
        }
        Ok(last)
    }

    /// Bytes that a stream holds, and its bound.
    ///
    /// # Errors
    /// That the server does not answer.
    pub async fn fill(&self, stream: &str) -> Result<(u64, Option<u64>), BusError> {
        let stream = self.jetstream.get_stream(stream).await.map_err(unavailable)?;
        let info = stream.cached_info();
        Ok((info.state.bytes, u64::try_from(info.config.max_bytes).ok()))
    }

    /// Removes what is on `subject` below `sequence`; how many messages that were. Never the last one: a caller's bound.
    ///
    /// # Errors
    /// That the server does not answer.
    pub async fn purge(&self, stream: &str, subject: &str, below: u64) -> Result<u64, BusError> {
        let stream = self.jetstream.get_stream_no_info(stream).await.map_err(unavailable)?;
        let answer = stream.purge().filter(subject).sequence(below).await.map_err(unavailable)?;
        Ok(answer.purged)
    }

    /// Asks, and waits at most `timeout` for the answer.
    ///
    /// # Errors
    /// That nobody answers in time; or what the service refused, in its words.
    pub async fn request(&self, subject: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        let request = async_nats::Request::new().payload(payload).timeout(Some(timeout));
        let answer = self.client.send_request(subject.to_owned(), request).await;
        let answer = answer.map_err(|error| BusError::Unavailable(format!("{subject}: {error}")))?;
        let header = |name| answer.headers.as_ref().and_then(|headers| headers.get(name)).map(|value| value.as_str());
        match header("Nats-Service-Error") {
            Some(problem) => Err(BusError::Fatal(problem.to_owned())),
            None => Ok(answer.payload),
        }
    }
}
