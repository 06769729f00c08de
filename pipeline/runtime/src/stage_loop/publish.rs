//! Publishing: side outputs first, then the one guarded output that is the checkpoint. A stage with state goes on while one output is on
//! its way ([`Runner::send`], `on_its_way.rs`); the next one leaves once that is acknowledged, so that a guard always stands on what is there.

use bytes::Bytes;
use eddy_schemas::{ReadingsBuilder, health::Health};

use super::{hop::Leaving, on_its_way::OnItsWay, *};
use crate::{
    bus::{Publication, PublishError, Stored},
    position::{HEADER, Place},
    stage::Batch,
};

/// Tells this instance's publishes from another's.
const INSTANCE: &str = "Eddy-Instance";

/// After so long an output leaves although its pull has more: about what an fsync and a round trip take where others work too.
const RIPE: Duration = Duration::from_millis(10);

/// What a guarded publish came to.
pub(super) enum Outcome {
    /// Stored, with this sequence.
    Stored(u64),
    /// Somebody else's message is there; the subject now ends at this sequence.
    Taken(u64),
}

impl<S: Stage, B: Bus> Runner<S, B> {
    /// Publishes what is in the outbox, and waits until all is out. With nothing in it, an empty checkpoint if `force` or if the last
    /// one is old.
    pub(super) async fn flush(&mut self, force: bool, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        self.prepare(stop).await?;
        let progressed = self.reached.is_ahead_of(&self.checkpoint);
        if !self.has_output() && !(progressed && (force || self.checkpointed_at.elapsed() >= TICK)) {
            self.answer_direct();
            return Ok(());
        }
        self.start_output(self.reached.clone());
        self.arrived(stop).await?;
        self.answer_direct();
        if self.store.is_none() {
            self.ack_stateless().await;
        }
        Ok(())
    }

    /// The same, but goes on while it is on its way: only a stage with state, which acknowledges its input later and answers nobody.
    pub(super) async fn send(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        if self.store.is_none() {
            return self.flush(false, stop).await;
        }
        self.prepare(stop).await?;
        if !self.has_output() {
            return self.flush(false, stop).await;
        }
        self.start_output(self.reached.clone());
        Ok(())
    }

    /// Sends what there is while more of a pull is left, once that has taken a while and the way is free: its first rows do not wait
    /// for its last.
    pub(super) async fn send_ripe(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        let is_free = self.on_its_way.as_mut().is_none_or(OnItsWay::is_answered);
        if self.store.is_some() && is_free && self.held_since.elapsed() >= RIPE && self.has_output() {
            return self.send(stop).await;
        }
        Ok(())
    }

    /// What comes before an output: the one before is there, and side outputs are out.
    async fn prepare(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        self.arrived(stop).await?;
        self.flush_sides(stop).await?;
        self.outbox.begin_output();
        Ok(())
    }

    /// Publishes although there is nothing to say, so that another instance's guard no longer holds, or ours shows that it
    /// does not.
    pub(super) async fn claim(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        self.arrived(stop).await?;
        if self.has_output() {
            return self.flush(true, stop).await;
        }
        // A stage that still replays is behind its checkpoint, which must not go back.
        let furthest = if self.checkpoint.is_ahead_of(&self.reached) { &self.checkpoint } else { &self.reached };
        self.start_output(furthest.clone());
        self.arrived(stop).await
    }

    /// Alerts first, then one message per shard; every shard's guard is checked, so that a twin that writes another
    /// shard is noticed too.
    pub(super) fn merged_output(&mut self, position: &Position, leaving: &Leaving) -> Vec<Publication> {
        let mut headers = self.headers(position);
        headers.extend_from_slice(&leaving.headers);
        let alerts = self.outbox.alerts.drain(..).enumerate().map(|(index, alert)| {
            let mut headers = vec![("Content-Type".into(), "application/cloudevents+json".into())];
            leaving.alert_headers(index, &mut headers);
            Publication {
                stream: S::SPEC.output_stream.to_owned(),
                subject: alert.subject,
                headers,
                payload: alert.payload.into(),
                guard: None,
            }
        });
        let mut messages: Vec<Publication> = alerts.collect();
        for (output, batch) in self.outputs.iter().zip(&mut self.outbox.main) {
            messages.push(Publication {
                stream: S::SPEC.output_stream.to_owned(),
                subject: output.subject.clone(),
                headers: headers.clone(),
                payload: batch.encode().into(),
                guard: Some(output.last_sequence),
            });
        }
        messages
    }

    fn headers(&self, position: &Position) -> Vec<(String, String)> {
        vec![
            (HEADER.to_owned(), position.to_string()),
            (INSTANCE.to_owned(), self.instance.clone()),
            ("Content-Type".to_owned(), "application/vnd.apache.arrow.stream".to_owned()),
        ]
    }

    /// Publishes until the outcome is known, `first` being the answer to a try that was made: waits while the stream is full or
    /// the bus away, and after an answer that was lost looks what is there instead of trying blindly.
    pub(super) async fn publish_guarded(
        &mut self,
        stream: &str,
        messages: Vec<Publication>,
        position: &str,
        mut first: Option<Result<u64, PublishError>>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Outcome, Interrupt> {
        let Some(guarded) = messages.last() else { return Ok(Outcome::Stored(0)) };
        let (subject, guard) = (guarded.subject.clone(), guarded.guard.unwrap_or(0));
        let mut wait = Duration::from_millis(self.config.limits.full_backoff_ms);
        loop {
            let answer = match first.take() {
                Some(first) => first,
                None => self.bus.publish(messages.clone()).await,
            };
            match answer {
                Ok(sequence) => {
                    self.telemetry.has_room();
                    return Ok(Outcome::Stored(sequence));
                }
                Err(PublishError::Fatal(problem)) => return Err(LoopError::Failed(problem).into()),
                Err(PublishError::Full { stream, reason }) => {
                    self.telemetry.backpressure();
                    tracing::warn!(stream, reason, "pushed back");
                    self.give_up_if_stopped(stop)?;
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(2));
                    continue;
                }
                Err(error @ (PublishError::Refused { .. } | PublishError::Ambiguous { .. })) => {
                    // Else direct input would be turned away until something else is published.
                    self.telemetry.has_room();
                    tracing::warn!(%error, "looking what is there");
                }
            }
            let last = self.last_for_sure(stream, &subject, stop).await?;
            match last {
                // Not stored: the same again; the guard keeps it from being stored twice. (An earlier output of this
                // instance may name the same position, if direct input alone came since.)
                Some(last) if last.sequence == guard => self.give_up_if_stopped(stop)?,
                None if guard == 0 => self.give_up_if_stopped(stop)?,
                None => return Ok(Outcome::Taken(0)),
                Some(last)
                    if last.header(INSTANCE) == Some(&self.instance) && last.header(HEADER) == Some(position) =>
                {
                    return Ok(Outcome::Stored(last.sequence));
                }
                Some(last) => return Ok(Outcome::Taken(last.sequence)),
            }
        }
    }

    async fn last_for_sure(
        &self,
        stream: &str,
        subject: &str,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<Stored>, Interrupt> {
        loop {
            match self.bus.last(stream, subject).await {
                Ok(last) => return Ok(last),
                Err(BusError::Fatal(problem)) => return Err(LoopError::Failed(problem).into()),
                Err(error) => {
                    tracing::warn!(%error, "waiting for the bus");
                    self.give_up_if_stopped(stop)?;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// What is not out when the process is told to stop comes again from the unacknowledged input.
    fn give_up_if_stopped(&self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        if *stop.borrow() { Err(Interrupt::Stop) } else { Ok(()) }
    }

    /// Another instance has written: once may be a dead one's last word, twice is a living one.
    pub(super) fn refused(&mut self) -> Interrupt {
        self.refusals += 1;
        self.telemetry.fenced();
        let subject = self.outputs[0].subject.clone();
        if self.refusals >= 2 {
            return LoopError::Fenced { stage: S::SPEC.name, subject }.into();
        }
        Interrupt::Recover(format!("another instance wrote {subject}"))
    }

    async fn flush_sides(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        let streams: Vec<String> = self.sources.iter().map(|source| source.stream.clone()).collect();
        let stream = |input: usize| streams.get(input).map_or(crate::direct::STREAM, String::as_str);
        let is_new = |side: &Side, (input, sequence): Origin, row: usize| {
            !side.reached.covers(stream(input), sequence, row as u64)
        };
        let late: Vec<_> =
            self.late.drain(..).filter(|(origin, row)| is_new(&self.late_side, *origin, row.row)).collect();
        let rejected: Vec<_> =
            self.rejected.drain(..).filter(|(origin, one)| is_new(&self.dead_side, *origin, one.row)).collect();
        if !late.is_empty() {
            let mut batch = ReadingsBuilder::default();
            for (_, row) in &late {
                batch.push(&row.series, row.time, row.value, row.quality, row.arrival);
            }
            self.telemetry.late(late.len() as u64);
            self.publish_side(false, batch.encode().into(), self.reached.clone(), stop).await?;
        }
        if !rejected.is_empty() {
            for (_, one) in &rejected {
                self.telemetry.rejected(one.rejection.reason, one.rejection.readings);
            }
            // Each message within the server's bound: an original may be as large as a message can be.
            // A chunk that is not the last one reaches only its own last letter: the process may die behind it.
            let chunks = crate::dead_letter::chunks(rejected, self.config.limits.output_bytes_max, stream);
            let count = chunks.len();
            for (n, chunk) in chunks.into_iter().enumerate() {
                let mut reaches = self.reached.clone();
                if n + 1 < count {
                    reaches = self.dead_side.reached.clone();
                    // Direct input has no place that could be reached.
                    for (input, sequence, row) in chunk.places.into_iter().filter(|place| place.0 != DIRECT) {
                        let (incarnation, row) = (self.incarnations[input], row as u64 + 1);
                        reaches.set(&self.sources[input].stream, Place { incarnation, sequence, row });
                    }
                }
                self.publish_side(true, chunk.payload, reaches, stop).await?;
            }
        }
        Ok(())
    }

    async fn publish_side(
        &mut self,
        dead: bool,
        payload: Bytes,
        reaches: Position,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), Interrupt> {
        let mut headers = self.headers(&reaches);
        if dead {
            headers[2].1 = "application/json".into();
        }
        loop {
            let side = if dead { &self.dead_side } else { &self.late_side };
            let (subject, guard) = (side.subject.clone(), side.last_sequence);
            let message = Publication {
                stream: "SIDE".into(),
                subject,
                headers: headers.clone(),
                payload: payload.clone(),
                guard: Some(guard),
            };
            let outcome = self.publish_guarded("SIDE", vec![message], &reaches.to_string(), None, stop).await?;
            let reached = reaches.clone();
            let side = if dead { &mut self.dead_side } else { &mut self.late_side };
            match outcome {
                Outcome::Stored(sequence) => {
                    side.last_sequence = sequence;
                    side.reached = reached;
                    return Ok(());
                }
                // SIDE drops its oldest at its bound, so that the last message of a quiet subject may be gone.
                Outcome::Taken(0) => side.last_sequence = 0,
                Outcome::Taken(_) => return Err(self.refused()),
            }
        }
    }

    /// Counts conditions and hands them to their own lane.
    pub(super) async fn publish_health(&mut self, health: Vec<Health>) {
        health.iter().for_each(|one| self.telemetry.health(one.condition, one.active));
        self.health.push(health).await;
    }
}
