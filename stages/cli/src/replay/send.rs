//! Chunks onto the bus: all messages of a chunk at once, the next chunk when all are stored.

use std::time::{Duration, Instant};

use eddy_runtime::client::{Ack, Client, ClientError};
use eddy_schemas::Timestamp;

use super::{
    Progress, Speed,
    chunks::{Chunk, OutMessage},
};

/// Wait after a refusal: doubles up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// Messages of a chunk that are on their way at a time.
const IN_FLIGHT_MAX: usize = 128;
/// A paced replay sends together what falls due within this.
pub(super) const PACE_STEP: Duration = Duration::from_millis(5);
/// What INGEST is told that a batch is.
const CONTENT_TYPE: (&str, &str) = ("Content-Type", "application/vnd.apache.arrow.stream");

/// Why sending ended.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The gateway refuses for good.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It has accepted nothing for too long.
    #[error("nothing was accepted for {0:?}: {1}; see `eddy status`, raise --patience to wait longer")]
    Patience(Duration, ClientError),
}

/// Publishes chunks.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    patience: Duration,
    accepted_at: Instant,
    retried: u64,
}

impl Sender {
    /// Checks that INGEST is there.
    ///
    /// # Errors
    /// If it is not.
    pub async fn new(client: Client, patience: Duration) -> Result<Self, SendError> {
        if client.stream("INGEST").await?.is_none() {
            return Err(ClientError::NoStream { what: "INGEST".into() }.into());
        }
        Ok(Self { client, patience, accepted_at: Instant::now(), retried: 0 })
    }

    /// Messages that were sent again so far.
    pub fn retried(&self) -> u64 {
        self.retried
    }

    /// Publishes a chunk and returns when every message of it is stored.
    ///
    /// # Errors
    /// A refusal for good, or the end of patience.
    pub async fn send(&mut self, chunk: Chunk, progress: &Progress) -> Result<(), SendError> {
        let mut left = chunk.messages;
        let mut backoff = BACKOFF.0;
        // The pace of a replay is no fault of the gateway's.
        self.accepted_at = Instant::now();
        loop {
            let (refused, problem) = self.attempt(left).await?;
            let Some(problem) = problem else { return Ok(()) };
            if self.accepted_at.elapsed() > self.patience {
                return Err(SendError::Patience(self.patience, problem));
            }
            progress.waiting(&problem);
            self.retried += refused.len() as u64;
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
            left = refused;
        }
    }

    /// Publishes messages once; returns those that have to be sent again, and why.
    async fn attempt(
        &mut self,
        messages: Vec<OutMessage>,
    ) -> Result<(Vec<OutMessage>, Option<ClientError>), SendError> {
        let (mut refused, mut problem) = (Vec::new(), None);
        for group in messages.chunks(IN_FLIGHT_MAX) {
            let mut acks: Vec<(&OutMessage, Result<Ack, ClientError>)> = Vec::with_capacity(group.len());
            for message in group {
                acks.push((
                    message,
                    self.client.send(&message.subject, &[CONTENT_TYPE], message.payload.clone()).await,
                ));
            }
            for (message, sent) in acks {
                let stored = match sent {
                    Ok(ack) => ack.stored().await,
                    Err(error) => Err(error),
                };
                match stored {
                    Ok(_) => self.accepted_at = Instant::now(),
                    // A server that restarts has no streams for a moment.
                    Err(error) if error.is_transient() || matches!(error, ClientError::NoStream { .. }) => {
                        refused.push(message.clone());
                        problem = Some(error);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok((refused, problem))
    }
}

/// Holds a replay to a multiple of the recording's own speed.
#[derive(Debug)]
pub struct Pace {
    speed: Speed,
    begun: Option<(tokio::time::Instant, Timestamp)>,
}

impl Pace {
    /// At `speed`, from the first chunk on.
    pub fn new(speed: Speed) -> Self {
        Self { speed, begun: None }
    }

    /// Waits until readings of `time` are due.
    pub async fn wait(&mut self, time: Timestamp) {
        let Speed::Times(times) = self.speed else { return };
        let (start, first) = *self.begun.get_or_insert_with(|| (tokio::time::Instant::now(), time));
        let due = start + due_after(first, time, times);
        if due > tokio::time::Instant::now() + PACE_STEP {
            tokio::time::sleep_until(due).await;
        }
    }
}

/// How long after the first reading one of `time` is due. An older one is due at once.
fn due_after(first: Timestamp, time: Timestamp, times: f64) -> Duration {
    let seconds = (time as f64 - first as f64) / 1e9 / times;
    Duration::try_from_secs_f64(seconds.clamp(0.0, 1e9)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_at_ten_times_is_six_minutes_and_the_past_is_due_at_once() {
        let hour = 3_600_000_000_000;
        assert_eq!(due_after(5, 5 + hour, 10.0), Duration::from_secs(360));
        assert_eq!(due_after(hour, 0, 10.0), Duration::ZERO);
    }
}
