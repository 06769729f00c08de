//! Input that comes to a stage directly, not through a stream: a request over HTTP, an MQTT message, a NATS request.
//!
//! Whoever brings it decodes it, hands it in by an [`Entrance`], and answers its sender once the [`Receipt`] is there:
//! then it stands in the stage's output, on disk. The loop commits all that wait at once (a *group commit*): one merged output
//! for thousands of single readings.
//!
//! Direct input has no position, so a stage that takes it must keep no state (capture keeps none). What is not receipted when the process dies was not answered either, and its sender sends it
//! again: at least once up to here, and once from the readings' own times on. Dead letters of such input are at least once.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use eddy_schemas::{
    Timestamp,
    side::{Reason, Rejection},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};

use crate::{
    clock::Clock,
    stage::Incoming,
    telemetry::Telemetry,
    trace::{Provenance, TraceContext},
};

/// The stream that dead letters of direct input name.
pub const STREAM: &str = "DIRECT";

/// What is kept of a request beside its payload, at most: the decoded rows of one byte of input.
const OVERHEAD_BYTES: usize = 256;

/// How much may wait, and how long the first one waits for others.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Requests that wait or are being committed.
    pub requests_max: usize,
    /// Payload bytes of them.
    pub bytes_max: usize,
    /// How long a commit waits for more, from its first request on.
    pub linger: Duration,
}

/// What became of direct input: it is durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// How many rows were taken, refused ones included.
    pub rows: usize,
    /// What of it was refused, and went to the dead letters.
    pub rejected: Vec<Rejection>,
}

/// Direct input that has no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// There is no room, or the output stream is full: nothing was taken.
    #[error("the gateway is full: try again later")]
    Busy,
    /// The stage stopped, or lost its place: it may or may not be stored. Sending it again is right.
    #[error("the stage was interrupted before it was stored for sure: send it again")]
    Unknown,
}

/// Direct input on its way.
pub(crate) struct Request<I> {
    pub message: Incoming,
    /// Decoded rows, or why the whole message is a dead letter.
    pub input: Result<I, (Reason, String)>,
    pub provenance: Provenance,
    pub answer: Answer,
    lane: Lane,
}

/// What a source hands in between two interruptions of the stage. After one, the rest of a lane is not stored: who hands in
/// A, then B, never finds B stored and A not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(u64);

/// Whom to tell, and the room that is given back then.
pub(crate) struct Answer {
    sender: oneshot::Sender<Receipt>,
    _room: OwnedSemaphorePermit,
}

impl Answer {
    /// A sender that went away is none the worse.
    pub fn give(self, receipt: Receipt) {
        let _ = self.sender.send(receipt);
    }
}

/// A message of direct input, as it would stand in a stream. `arrival`: see [`Entrance::arrival`]. Its sequence is a
/// checksum of its bytes, by which a message that makes the stage panic is known when it is sent again.
pub fn message(subject: String, content_type: Option<String>, payload: Bytes, arrival: Timestamp) -> Incoming {
    let digest = blake3::hash(&payload);
    let sequence = digest.as_bytes()[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Incoming { stream: STREAM.into(), subject, sequence, stored_at: arrival, content_type, payload }
}

/// Where direct input goes in. Clones share one queue.
pub struct Entrance<I> {
    sender: mpsc::Sender<Request<I>>,
    room: Arc<Semaphore>,
    bytes_max: usize,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
    last_arrival: Arc<Mutex<Timestamp>>,
    lane: Arc<AtomicU64>,
}

impl<I> Clone for Entrance<I> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            room: self.room.clone(),
            bytes_max: self.bytes_max,
            telemetry: self.telemetry.clone(),
            clock: self.clock.clone(),
            last_arrival: self.last_arrival.clone(),
            lane: self.lane.clone(),
        }
    }
}

/// The loop's end of an [`Entrance`].
pub struct Queue<I> {
    receiver: Option<mpsc::Receiver<Request<I>>>,
    linger: Duration,
    lane: Arc<AtomicU64>,
}

/// An entrance and its queue.
pub fn entrance<I>(bounds: Bounds, telemetry: Arc<Telemetry>, clock: Arc<dyn Clock>) -> (Entrance<I>, Queue<I>) {
    let (sender, receiver) = mpsc::channel(bounds.requests_max.max(1));
    let bytes_max = bounds.bytes_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let room = Arc::new(Semaphore::new(bytes_max));
    let (last_arrival, lane) = (Arc::default(), Arc::<AtomicU64>::default());
    let queue = Queue { receiver: Some(receiver), linger: bounds.linger, lane: lane.clone() };
    (Entrance { sender, room, bytes_max, telemetry, clock, last_arrival, lane }, queue)
}

impl<I> Entrance<I> {
    /// When something that comes now arrived: the wall clock, which from here on is part of the recording. Never the same
    /// twice, so that two readings without a time of their own are two.
    pub fn arrival(&self) -> Timestamp {
        let mut last = self.last_arrival.lock().unwrap_or_else(PoisonError::into_inner);
        *last = self.clock.now().max(*last + 1);
        *last
    }

    /// The lane of what is handed in from now on.
    pub fn lane(&self) -> Lane {
        Lane(self.lane.load(Ordering::Acquire))
    }

    /// Waits for room, then for the receipt. For sources that push back by reading no further, and keep an order.
    ///
    /// # Errors
    /// [`NotStored::Unknown`] if the stage was interrupted since `lane` was taken: hand it in again, in a new lane, and
    /// all that came after it.
    pub async fn submit(
        &self,
        lane: Lane,
        message: Incoming,
        input: Result<I, (Reason, String)>,
    ) -> Result<Receipt, NotStored> {
        let room = self.room.clone().acquire_many_owned(self.size(&message)).await.map_err(|_| NotStored::Unknown)?;
        let (sender, receipt) = oneshot::channel();
        let provenance = provenance(&message, None);
        let request = Request { message, input, provenance, answer: Answer { sender, _room: room }, lane };
        self.sender.send(request).await.map_err(|_| NotStored::Unknown)?;
        receipt.await.map_err(|_| NotStored::Unknown)
    }

    /// The same, for sources that can tell their sender to come later. `trace`: the sampled one that the sender has begun.
    ///
    /// # Errors
    /// [`NotStored::Busy`] at once if there is no room or the pipeline is full, [`NotStored::Unknown`] as with
    /// [`Self::submit`].
    pub async fn offer(
        &self,
        message: Incoming,
        input: Result<I, (Reason, String)>,
        trace: Option<TraceContext>,
    ) -> Result<Receipt, NotStored> {
        if self.telemetry.is_full() {
            return Err(NotStored::Busy);
        }
        let room = self.room.clone().try_acquire_many_owned(self.size(&message)).map_err(|_| NotStored::Busy)?;
        let (sender, receipt) = oneshot::channel();
        let provenance = provenance(&message, trace);
        let request = Request { message, input, provenance, answer: Answer { sender, _room: room }, lane: self.lane() };
        self.sender.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotStored::Busy,
            mpsc::error::TrySendError::Closed(_) => NotStored::Unknown,
        })?;
        receipt.await.map_err(|_| NotStored::Unknown)
    }

    /// Whether input that is offered now would be turned away: no room, or the output stream is full.
    pub fn is_full(&self) -> bool {
        self.telemetry.is_full() || self.sender.capacity() == 0 || self.room.available_permits() < OVERHEAD_BYTES
    }

    /// A message that is larger than all the room takes all of it.
    fn size(&self, message: &Incoming) -> u32 {
        (message.payload.len() + OVERHEAD_BYTES).min(self.bytes_max) as u32
    }
}

fn provenance(message: &Incoming, trace: Option<TraceContext>) -> Provenance {
    Provenance { arrived: Some(message.stored_at), contexts: trace.into_iter().collect() }
}

impl<I> Queue<I> {
    /// For stages that have no direct input.
    pub fn none() -> Self {
        Self { receiver: None, linger: Duration::ZERO, lane: Arc::default() }
    }

    /// Gives up all that is on its way.
    pub(crate) fn interrupt(&self) {
        self.lane.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.receiver.is_some()
    }

    /// The next request; never ready without an entrance.
    pub(crate) async fn next(&mut self) -> Request<I> {
        while let Some(receiver) = &mut self.receiver {
            match receiver.recv().await {
                Some(request) if request.lane.0 == self.lane.load(Ordering::Acquire) => return request,
                // Of a lane that was given up: its sender is told by the answer's end.
                Some(_) => {}
                None => self.receiver = None,
            }
        }
        std::future::pending().await
    }

    /// What else waits, once `first` is there, up to `requests_max` and `bytes_max`; lingers for more.
    pub(crate) async fn gather(&mut self, first: Request<I>, requests_max: usize, bytes_max: usize) -> Vec<Request<I>> {
        let deadline = Instant::now() + self.linger;
        let mut bytes = first.message.payload.len();
        let mut gathered = vec![first];
        while let Some(receiver) = &mut self.receiver {
            if gathered.len() >= requests_max || bytes >= bytes_max {
                break;
            }
            let next = match receiver.try_recv() {
                Ok(request) => Some(request),
                Err(_) if self.linger.is_zero() => None,
                Err(_) => tokio::time::timeout_at(deadline, receiver.recv()).await.ok().flatten(),
            };
            let Some(request) = next else { break };
            if request.lane.0 != self.lane.load(Ordering::Acquire) {
                continue;
            }
            bytes += request.message.payload.len();
            gathered.push(request);
        }
        gathered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn message(bytes: usize) -> Incoming {
        super::message("ingest.s.d".into(), None, Bytes::from(vec![b'x'; bytes]), 0)
    }

    fn open(requests_max: usize, bytes_max: usize) -> (Entrance<()>, Queue<()>) {
        let bounds = Bounds { requests_max, bytes_max, linger: Duration::ZERO };
        entrance(bounds, Arc::new(Telemetry::for_tests()), Arc::new(ManualClock::new(5)))
    }

    #[test]
    fn two_arrivals_are_never_the_same() {
        let (entrance, _queue) = open(1, 1);
        assert_eq!((entrance.arrival(), entrance.arrival(), entrance.clone().arrival()), (5, 6, 7));
    }

    #[tokio::test]
    async fn what_waits_is_gathered_up_to_the_bounds_and_answered() {
        let (entrance, mut queue) = open(10, 100_000);
        let senders: Vec<_> = (0..5)
            .map(|_| {
                let entrance = entrance.clone();
                tokio::spawn(async move { entrance.submit(entrance.lane(), message(10), Ok(())).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let first = queue.next().await;
        let gathered = queue.gather(first, 3, 1_000).await;
        assert_eq!(gathered.len(), 3);
        for request in gathered {
            request.answer.give(Receipt { rows: 1, rejected: Vec::new() });
        }
        let first = queue.next().await;
        let rest = queue.gather(first, 100, 15).await;
        assert_eq!(rest.len(), 2, "the one that crosses the bound is taken");
        drop((rest, queue));
        let mut answers = Vec::new();
        for sender in senders {
            answers.push(sender.await.unwrap().is_ok());
        }
        answers.sort_unstable();
        assert_eq!(answers, [false, false, true, true, true], "what the loop drops is not stored for sure");
    }

    #[tokio::test]
    async fn after_an_interruption_the_rest_of_a_lane_is_not_stored() {
        let (entrance, mut queue) = open(10, 100_000);
        let lane = entrance.lane();
        let submit = |lane| {
            let entrance = entrance.clone();
            tokio::spawn(async move { entrance.submit(lane, message(10), Ok(())).await })
        };
        let (a, b) = (submit(lane), submit(lane));
        tokio::task::yield_now().await;
        drop(queue.next().await);
        queue.interrupt();
        let c = submit(lane);
        tokio::task::yield_now().await;
        let d = submit(entrance.lane());
        queue.next().await.answer.give(Receipt::default());
        for lost in [a, b, c] {
            assert_eq!(lost.await.unwrap(), Err(NotStored::Unknown));
        }
        assert_eq!(d.await.unwrap(), Ok(Receipt::default()));
    }

    #[tokio::test]
    async fn at_the_bound_an_offer_is_busy_at_once_and_a_submission_waits() {
        let (entrance, mut queue) = open(10, 1_000);
        let offered = tokio::spawn({
            let entrance = entrance.clone();
            async move { entrance.offer(message(100_000), Ok(()), None).await }
        });
        let first = queue.next().await;
        assert!(entrance.is_full());
        assert_eq!(entrance.offer(message(1), Ok(()), None).await, Err(NotStored::Busy));
        let waiting = tokio::spawn({
            let entrance = entrance.clone();
            async move { entrance.submit(entrance.lane(), message(1), Ok(())).await }
        });
        tokio::task::yield_now().await;
        first.answer.give(Receipt::default());
        assert_eq!(offered.await.unwrap(), Ok(Receipt::default()));
        let next = queue.next().await;
        next.answer.give(Receipt::default());
        assert_eq!(waiting.await.unwrap(), Ok(Receipt::default()));
    }
}
