//! Dead letters of a reader, exactly once: one at a time, guarded, each naming the message that it is about.
//!
//! The header [`HEADER`] of a letter names the message (or the end of the range) that was put aside. Its writer
//! keeps to one order: publish, then keep in its own state that the message is done, then the next letter. So after a
//! crash at most one letter is not reflected in that state, and it is the **last one on its subject**: [`Letters::last`]
//! tells it, the writer counts its message as done, and nothing is put aside twice.

use std::time::Duration;

use eddy_schemas::side::Reason;

use crate::{
    bus::{Bus, BusError, Publication, PublishError},
    dead_letter::{DeadLetter, payload},
    position::{HEADER, Place, Position},
};

const SIDE: &str = "SIDE";
/// Wait before a publish that was not answered is looked at, and before a full stream is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// A letter that lies in SIDE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLetter {
    /// The message that it is about; of a range that was missed, its end.
    pub place: Place,
    /// Why it was put aside.
    pub reason: Reason,
}

/// Writes the dead letters of one reader. Publishes nothing at once with another: see the module.
pub struct Letters<B: Bus> {
    bus: B,
    /// The stream that is read.
    stream: String,
    subject: String,
    /// The last sequence on the subject, and the letter there; `None` until it was asked for.
    known: Option<(u64, Option<LastLetter>)>,
}

impl<B: Bus> Letters<B> {
    /// On `deadletter.<site>.<reader>.0`, for a reader of `stream`.
    pub fn new(bus: B, site: &str, reader: &str, stream: &str) -> Self {
        let subject = format!("deadletter.{}.{reader}.0", eddy_schemas::names::encode(site));
        Self { bus, stream: stream.to_owned(), subject, known: None }
    }

    /// The last letter that was written, by this process or one before.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn last(&mut self) -> Result<Option<LastLetter>, BusError> {
        let stored = self.bus.last(SIDE, &self.subject).await?;
        let last = stored.as_ref().and_then(|stored| {
            let position: Position = stored.header(HEADER)?.parse().ok()?;
            let letter = DeadLetter::read(&stored.payload).ok()?.into_iter().next()?;
            Some(LastLetter { place: position.place(&self.stream)?.clone(), reason: letter.rejection.reason })
        });
        self.known = Some((stored.map_or(0, |stored| stored.sequence), last.clone()));
        Ok(last)
    }

    /// Writes a letter about the message at `place`, and returns once it is on disk. Waits as long as it takes: what waits
    /// for it is not lost. Writes nothing if the last letter is this one already.
    ///
    /// # Errors
    /// [`BusError::Fatal`] if the server will never take it.
    pub async fn write(&mut self, place: &Place, letter: DeadLetter) -> Result<(), BusError> {
        let position = Position([(self.stream.clone(), place.clone())].into());
        let this = LastLetter { place: place.clone(), reason: letter.rejection.reason };
        let payload = payload(&[letter]);
        loop {
            let (guard, last) = match &self.known {
                Some((guard, last)) => (*guard, last),
                None => {
                    if let Err(problem) = self.last().await {
                        tracing::warn!(subject = self.subject, %problem, "the last dead letter cannot be read; trying again");
                        tokio::time::sleep(RETRY).await;
                    }
                    continue;
                }
            };
            if last.as_ref() == Some(&this) {
                return Ok(());
            }
            let publication = Publication {
                stream: SIDE.to_owned(),
                subject: self.subject.clone(),
                headers: vec![(HEADER.to_owned(), position.to_string())],
                payload: payload.clone(),
                guard: Some(guard),
            };
            match self.bus.publish(vec![publication]).await {
                Ok(sequence) => {
                    self.known = Some((sequence, Some(this)));
                    return Ok(());
                }
                Err(PublishError::Fatal(problem)) => return Err(BusError::Fatal(problem)),
                // Whether it is stored is seen by the last letter.
                Err(problem) => {
                    tracing::warn!(subject = self.subject, %problem, "a dead letter is not out yet");
                    self.known = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use eddy_schemas::side::Rejection;

    use super::*;
    use crate::{
        bus::memory::{Faults, MemoryBus},
        stage::Rejected,
    };

    fn letter(sequence: u64, reason: Reason) -> (Place, DeadLetter) {
        let rejection = Rejection { reason, detail: "d".into(), subject: "alerts.s.minor.d".into(), readings: 1 };
        let rejected = Rejected { row: 0, rejection, original: "{}".into() };
        (Place::whole(7, sequence), DeadLetter::new("DETECTIONS", sequence, rejected))
    }

    #[tokio::test]
    async fn the_last_letter_is_known_and_not_written_twice() {
        let bus = MemoryBus::new(1, Faults::default());
        bus.create("SIDE", 1);
        let mut letters = Letters::new(bus.clone(), "s", "notify-x", "DETECTIONS");
        assert_eq!(letters.last().await.unwrap(), None);
        let (place, one) = letter(4, Reason::Refused);
        letters.write(&place, one.clone()).await.unwrap();
        // A successor that does not know whether it is out.
        let mut successor = Letters::new(bus.clone(), "s", "notify-x", "DETECTIONS");
        successor.write(&place, one).await.unwrap();
        assert_eq!(bus.stream("SIDE").await.unwrap().last_sequence, 1);
        assert_eq!(successor.last().await.unwrap(), Some(LastLetter { place, reason: Reason::Refused }));
        let (place, two) = letter(9, Reason::Missed);
        successor.write(&place, two).await.unwrap();
        assert_eq!(bus.stream("SIDE").await.unwrap().last_sequence, 2);
    }
}
