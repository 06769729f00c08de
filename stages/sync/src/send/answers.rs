//! What comes back from the region.

use eddy_runtime::{
    bus::{BusError, PublishError, Stored},
    telemetry::Metric,
};
use eddy_schemas::sync::Class;
use tokio::{
    task::JoinError,
    time::{Duration, Instant, timeout},
};

use super::{
    End, Uplink,
    checkpoint::Found,
    lane::Flight,
    session::{Session, before_key},
};

/// How often is looked whether answers can still come.
const DRAIN_POLL: Duration = Duration::from_millis(250);

/// An answer.
pub(super) enum Answer {
    /// To the batch of a class with this number: its sequence, and when it came.
    Stored(Class, u64, Result<u64, PublishError>, Instant),
    /// What stands last on a class's subject.
    Last(Class, Result<Option<Stored>, BusError>),
}

impl<U: Uplink> Session<'_, U> {
    /// Takes an answer.
    pub(super) fn take(&mut self, answer: Result<Answer, JoinError>) -> Result<(), End> {
        match answer.map_err(|panic| End::Contract(panic.to_string()))? {
            Answer::Stored(class, number, Ok(sequence), at) => self.stored(class, (number, sequence), at),
            Answer::Stored(class, number, Err(error), _) => {
                if let Some(flight) = self.life.lane(class).failed(number) {
                    self.link.lost(&flight.ticket);
                }
                Err(self.refused(class, error))
            }
            Answer::Last(class, last) => {
                self.life.lane(class).reading = false;
                self.found(class, last?)
            }
        }
    }

    fn found(&mut self, class: Class, last: Option<Stored>) -> Result<(), End> {
        let before = self.life.outside.queue.note(&before_key(class))?.unwrap_or_default();
        let found = Found::read(&self.life.identity, class, last.as_ref());
        let identity = self.life.identity.clone();
        self.life.lane(class).found(found, &identity, &before)
    }

    fn stored(&mut self, class: Class, (number, sequence): (u64, u64), now: Instant) -> Result<(), End> {
        let lane = self.life.lane(class);
        let Some(flight) = lane.flights.iter().find(|flight| flight.number == number) else { return Ok(()) };
        let (ticket, expected) = (flight.ticket, flight.sequence);
        let done = lane.stored(number);
        self.link.acked(&ticket, now);
        self.progressed = true;
        let telemetry = self.life.outside.telemetry.clone();
        for flight in done {
            telemetry.count_class(Metric::SyncSentBytes, class.token(), flight.bytes as u64);
            telemetry.count_class(Metric::SyncSentEntries, class.token(), flight.entries);
            telemetry.count_class(Metric::SyncGapEntries, class.token(), flight.missing);
            self.end_traces(class, &flight);
        }
        telemetry.publish_seconds(now - ticket.sent());
        telemetry.has_room();
        self.life.outside.health.progress();
        if class == Class::Alerts && self.congestion.acked(now - ticket.sent(), now) {
            self.congested();
        }
        if sequence == expected {
            return Ok(());
        }
        // It is stored, but what was sent after it has guards that do not hold.
        self.life.lane(class).head = None;
        let stream = &self.stream;
        Err(End::Again(format!("message {expected} of {stream} became {sequence}: something else was written there")))
    }

    fn end_traces(&self, class: Class, flight: &Flight) {
        let outside = &self.life.outside;
        if let (Some(open), Some(tracer)) = (&flight.traced, outside.telemetry.tracer()) {
            let attributes = [
                ("messaging.system", "nats".into()),
                ("messaging.destination.name", self.stream.as_str().into()),
                ("eddy.class", class.token().into()),
                ("eddy.batch", flight.number.into()),
                ("eddy.entries", flight.entries.into()),
                ("eddy.sequence", flight.sequence.into()),
            ];
            tracer.close(open, &attributes, None);
        }
        outside.queue.forget_traces(class, flight.last);
    }

    /// Takes what has come.
    pub(super) fn take_what_came(&mut self) -> Result<(), End> {
        while let Some(answer) = self.answers.try_join_next() {
            self.take(answer)?;
        }
        Ok(())
    }

    /// Waits for what is on its way, and takes it for what it is.
    pub(super) async fn drain(&mut self) {
        while !self.answers.is_empty() {
            match timeout(DRAIN_POLL, self.answers.join_next()).await {
                // What is wrong will be seen again, when the region is asked.
                Ok(Some(answer)) => drop(self.take(answer)),
                Ok(None) => return,
                Err(_) if self.life.outside.uplink.connection() != Some(self.connection) => return,
                Err(_) => {}
            }
        }
    }
}
