//! Follows a stream of the region, from a place that the queue keeps.
//!
//! There is no consumer: what was published since is read by one request for many messages, after each connection, every now and
//! then, and, where that matters, whenever something is heard on the stream's subjects. Where nothing happens next to nothing is
//! sent.

use std::{future::Future, sync::Arc, time::Duration};

use eddy_runtime::{
    bus::{
        Bus as _, BusError, PullBounds,
        nats::{Listener, NatsBus, Read},
    },
    position::Place,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use crate::queue::{Queue, QueueError};

/// What one request brings at most: some seconds of a slow link.
const BOUNDS: PullBounds = PullBounds { messages: 64, bytes: 256 << 10 };
/// How often is looked whether there is another connection.
const CONNECTION_POLL: Duration = Duration::from_millis(500);
/// How long is waited before something that failed is tried again: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// What takes the messages.
pub trait Taker: Send {
    /// Takes a message. It comes again if this process dies before that is noted.
    ///
    /// # Errors
    /// That the same message has to be tried again. What is no good is put aside instead.
    fn take(&mut self, message: &Read) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// What is followed.
pub struct Tail {
    /// The region's NATS.
    pub hub: NatsBus,
    /// Keeps the place.
    pub queue: Arc<Queue>,
    /// The stream.
    pub stream: &'static str,
    /// Its subjects.
    pub subjects: String,
    /// Whether what is published is heard at once, which brings it here twice.
    pub listens: bool,
    /// How often is read in any case.
    pub every: Duration,
    /// Says that it is time to read, whatever was heard.
    pub wake: Arc<Notify>,
}

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("{0}")]
    Bus(#[from] BusError),
    #[error("{0}")]
    Queue(#[from] QueueError),
}

impl Tail {
    /// Hands out what is there and what comes, until `stop` says true.
    ///
    /// # Errors
    /// That the queue is damaged.
    pub async fn follow<T: Taker>(self, mut taker: T, mut stop: watch::Receiver<bool>) -> Result<(), QueueError> {
        let mut ears: Option<Listener> = None;
        let mut backoff = BACKOFF.0;
        while !*stop.borrow() {
            if !self.hub.is_connected() {
                pause(CONNECTION_POLL, &mut stop).await;
                continue;
            }
            let connection = self.hub.connections();
            match self.read(&mut ears, &mut taker, &stop).await {
                Ok(()) => {
                    backoff = BACKOFF.0;
                    self.wait(ears.as_mut(), connection, &mut stop).await;
                }
                Err(Stopped::Queue(error)) if !error.may_pass() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, stream = self.stream, "what the region tells; trying again");
                    pause(backoff, &mut stop).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
        Ok(())
    }

    /// Until something is heard, or the connection is another, or it is time.
    async fn wait(&self, ears: Option<&mut Listener>, connection: u64, stop: &mut watch::Receiver<bool>) {
        let heard = async {
            match ears {
                Some(ears) => ears.heard().await,
                None => std::future::pending().await,
            }
        };
        let due = Instant::now() + self.every;
        let another = async {
            while self.hub.connections() == connection && Instant::now() < due {
                sleep(CONNECTION_POLL).await;
            }
        };
        tokio::select! {
            () = heard => {}
            () = self.wake.notified() => {}
            () = another => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Everything from the noted place on.
    async fn read<T: Taker>(
        &self,
        ears: &mut Option<Listener>,
        taker: &mut T,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), Stopped> {
        // Before it is read: what comes after that is heard.
        if self.listens && ears.is_none() {
            *ears = Some(self.hub.listen(&self.subjects).await?);
        }
        let mut place = self.place().await?;
        while !*stop.borrow() {
            let messages = self.hub.read_on(self.stream, &self.subjects, place.next_sequence(), BOUNDS).await?;
            let Some(last) = messages.last().map(|last| last.sequence) else { return Ok(()) };
            for message in &messages {
                taker.take(message).await?;
            }
            place = Place::whole(place.incarnation, last);
            let (queue, key, noted) = (self.queue.clone(), self.key(), place.to_string());
            let noting = move || queue.set_note(&key, noted.as_bytes());
            tokio::task::spawn_blocking(noting).await.map_err(|panic| BusError::Unavailable(panic.to_string()))??;
        }
        Ok(())
    }

    /// Where it goes on in the stream that there is now.
    async fn place(&self) -> Result<Place, Stopped> {
        let state = self.hub.stream(self.stream).await?;
        let note = self.queue.note(&self.key())?;
        let noted = note.and_then(|note| String::from_utf8(note).ok()?.parse::<Place>().ok());
        let Some(place) = noted else { return Ok(Place::whole(state.incarnation, 0)) };
        if place.incarnation != state.incarnation || place.sequence > state.last_sequence {
            tracing::warn!(stream = self.stream, "the region's stream is another one: reading it from its beginning");
            return Ok(Place::whole(state.incarnation, 0));
        }
        if place.next_sequence() < state.first_sequence {
            let (from, to) = (place.next_sequence(), state.first_sequence - 1);
            tracing::warn!(from, to, stream = self.stream, "the region dropped some before they were read");
        }
        Ok(place)
    }

    fn key(&self) -> String {
        format!("tail/{}", self.stream)
    }
}

/// Waits, but not once it should stop.
async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = sleep(time) => {}
        // An error means that the sender is gone, which is a stop too.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
