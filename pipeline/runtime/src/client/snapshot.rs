//! A stream as bytes, and back: JetStream's snapshot API, which no release of the client has.
//!
//! The server sends a stream's files (a compressed archive of its own, with its consumers and its time of creation) in chunks and
//! waits for an acknowledgement of each, so that a slow disk holds it back. Restoring is the same the other way round.

use std::{io, time::Duration};

use async_nats::jetstream::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, ClientError, chain};

/// What the server sends at once; below every server's `max_payload`.
const CHUNK_BYTES: usize = 256 << 10;
/// How long it may take for the next chunk to come.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the server may take to open what was restored: it reads all of it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(600);

/// What the server says of a stream whose bytes it sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The stream's config, in the server's words.
    pub config: Value,
    /// Its state when the snapshot was begun, in the server's words.
    pub state: Value,
}

impl Snapshot {
    /// The oldest message that it has.
    pub fn first_sequence(&self) -> u64 {
        self.state["first_seq"].as_u64().unwrap_or(0)
    }

    /// The newest message that it has for sure; later ones may be in it.
    pub fn last_sequence(&self) -> u64 {
        self.state["last_seq"].as_u64().unwrap_or(0)
    }
}

#[derive(Deserialize)]
struct Begun {
    config: Value,
    state: Value,
}

#[derive(Deserialize)]
struct Wanted {
    deliver_subject: String,
}

impl Client {
    /// Reads a stream as it is now, its consumers included: `take` gets its bytes, in order. The plain bytes, also where the
    /// server encrypts its files.
    ///
    /// # Errors
    /// That there is no such stream, that the server ends early, or what `take` says.
    pub async fn snapshot(
        &self,
        stream: &str,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Snapshot, ClientError> {
        let what = || format!("snapshot of stream {stream}");
        let refused = |error: String| ClientError::refused(what(), error);
        let client = self.context.client();
        let inbox = client.new_inbox();
        let mut chunks = client.subscribe(inbox.clone()).await.map_err(|error| refused(chain(&error)))?;
        let request =
            json!({"deliver_subject": inbox, "no_consumers": false, "chunk_size": CHUNK_BYTES, "jsck": false});
        let begun: Begun = self.ask(&format!("STREAM.SNAPSHOT.{stream}"), &request, &what()).await?;
        loop {
            let next = tokio::time::timeout(CHUNK_TIMEOUT, chunks.next()).await;
            let chunk = next.map_err(|_| ClientError::TimedOut { what: what() })?;
            let chunk = chunk.ok_or_else(|| refused("the connection ended".into()))?;
            if chunk.payload.is_empty() {
                let status = chunk.status.map_or(204, |status| status.as_u16());
                if status == 204 {
                    break;
                }
                return Err(refused(format!("{status} {}", chunk.description.unwrap_or_default())));
            }
            take(&chunk.payload).map_err(|error| refused(error.to_string()))?;
            if let Some(reply) = chunk.reply {
                client.publish(reply, Bytes::new()).await.map_err(|error| refused(chain(&error)))?;
            }
        }
        Ok(Snapshot { config: begun.config, state: begun.state })
    }

    /// Makes a stream that is not there of a snapshot: its messages, sequences and consumers. Positions name it by `incarnation`, which
    /// it keeps in its metadata: the server gives it a new time of creation. `next` fills the buffer with what follows; 0 is the end.
    ///
    /// # Errors
    /// That there is such a stream, what the server says of the bytes, or what `next` says.
    pub async fn restore(
        &self,
        stream: &str,
        snapshot: &Snapshot,
        incarnation: i64,
        mut next: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> Result<(), ClientError> {
        let what = || format!("restoring stream {stream}");
        let refused = |error: String| ClientError::refused(what(), error);
        let mut config = snapshot.config.clone();
        let metadata = config.as_object_mut().map(|config| config.entry("metadata").or_insert_with(|| json!({})));
        let metadata = metadata.and_then(Value::as_object_mut);
        let metadata = metadata.ok_or_else(|| refused("its config is no stream's".into()))?;
        metadata.insert(crate::incarnation::KEY.to_owned(), incarnation.to_string().into());
        let request = json!({"config": config, "state": snapshot.state});
        let wanted: Wanted = self.ask(&format!("STREAM.RESTORE.{stream}"), &request, &what()).await?;
        let client = self.context.client();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let bytes = next(&mut buffer).map_err(|error| refused(error.to_string()))?;
            let (payload, timeout) = match bytes {
                0 => (Bytes::new(), OPEN_TIMEOUT),
                bytes => (Bytes::copy_from_slice(&buffer[..bytes]), CHUNK_TIMEOUT),
            };
            let chunk = async_nats::Request::new().payload(payload).timeout(Some(timeout));
            let answer = client.send_request(wanted.deliver_subject.clone(), chunk).await;
            let answer = answer.map_err(|error| refused(chain(&error)))?;
            // A chunk that is taken is answered with nothing, the last one with what became of the stream.
            if !answer.payload.is_empty() {
                match serde_json::from_slice::<Response<Value>>(&answer.payload) {
                    Ok(Response::Err { error }) => return Err(refused(error.to_string())),
                    Ok(Response::Ok(_)) => {}
                    Err(error) => return Err(refused(error.to_string())),
                }
            }
            if bytes == 0 {
                return Ok(());
            }
        }
    }

    /// A request of JetStream's API.
    async fn ask<A: serde::de::DeserializeOwned>(
        &self,
        subject: &str,
        request: &Value,
        what: &str,
    ) -> Result<A, ClientError> {
        match self.context.request::<_, Value, Response<A>>(subject.to_owned(), request).await {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(ClientError::refused(what, error)),
            Err(error) => Err(ClientError::refused(what, chain(&error))),
        }
    }
}
