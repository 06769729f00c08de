//! The newest messages of a gateway's READINGS: where they begin, and then one block after another.
//!
//! Direct reads, many messages an answer: no consumer is made, so the pipeline's own, their acks and the janitor see nothing of it.
//! What is purged or written meanwhile is not read.

use anyhow::{Context as _, Result};
use eddy_runtime::bus::{
    PullBounds,
    nats::{NatsBus, Read},
};
use eddy_schemas::{Readings, Timestamp};

const STREAM: &str = "READINGS";
/// One answer; also how many messages are looked at at a time on the way back.
const BOUNDS: PullBounds = PullBounds { messages: 256, bytes: 16 << 20 };

/// How far back a tail goes: as far as both bounds let it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// At most so many rows, to the message.
    pub rows: u64,
    /// At most so much time of arrival before the newest row, in nanoseconds.
    pub span: Option<i64>,
}

/// A stretch of READINGS.
pub struct Tail {
    bus: NatsBus,
    subjects: String,
    next: u64,
    last: u64,
}

/// What is known of a message.
struct Message {
    sequence: u64,
    rows: u64,
    /// When its newest row arrived.
    newest: Option<Timestamp>,
}

fn measured(read: &Read) -> Result<Message> {
    let problem = || format!("message {} of READINGS is no batch of readings", read.sequence);
    let readings = Readings::decode(&read.payload).with_context(problem)?;
    let newest = readings.arrival.iter().max().copied();
    Ok(Message { sequence: read.sequence, rows: readings.rows.len() as u64, newest })
}

impl Tail {
    /// Finds the tail of the stream that now ends at sequence `last` and begins at `first`, of the site with this token.
    ///
    /// # Errors
    /// That the server does not answer.
    pub async fn find(bus: NatsBus, site_token: &str, first: u64, last: u64, wanted: Wanted) -> Result<Self> {
        let mut tail = Self { bus, subjects: format!("readings.{site_token}.>"), next: last + 1, last };
        let (mut rows, mut since) = (0, None);
        'back: while tail.next > first.max(1) {
            let to = tail.next - 1;
            let from = tail.next.saturating_sub(BOUNDS.messages as u64).max(first).max(1);
            for Message { sequence, rows: more, newest } in tail.stretch(from, to).await?.into_iter().rev() {
                since = since.or_else(|| Some(newest?.saturating_sub(wanted.span?)));
                let is_older = since.zip(newest).is_some_and(|(since, newest)| newest < since);
                // A single message that is longer than what is wanted is taken all the same.
                if is_older || (rows > 0 && rows + more > wanted.rows) {
                    break 'back;
                }
                rows += more;
                tail.next = sequence;
            }
            tail.next = tail.next.min(from);
        }
        Ok(tail)
    }

    /// All messages between two sequences, both included. One answer's payloads are held at a time.
    async fn stretch(&self, from: u64, to: u64) -> Result<Vec<Message>> {
        let (mut all, mut next) = (Vec::new(), from);
        while next <= to {
            let read = self.bus.read_on(STREAM, &self.subjects, next, BOUNDS).await?;
            let Some(newest) = read.last().map(|read| read.sequence) else { break };
            next = newest + 1;
            for read in read.iter().filter(|read| read.sequence <= to) {
                all.push(measured(read)?);
            }
        }
        Ok(all)
    }

    /// The next messages in their order; none at the end.
    ///
    /// # Errors
    /// That the server does not answer.
    pub async fn next(&mut self) -> Result<Vec<Read>> {
        if self.next > self.last {
            return Ok(Vec::new());
        }
        let mut read = self.bus.read_on(STREAM, &self.subjects, self.next, BOUNDS).await?;
        read.retain(|read| read.sequence <= self.last);
        self.next = read.last().map_or(self.last, |read| read.sequence) + 1;
        Ok(read)
    }

    /// How many messages are left, at most.
    pub fn left(&self) -> u64 {
        (self.last + 1).saturating_sub(self.next)
    }
}
