//! One message through the stage.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

use eddy_schemas::side::{Reason, Rejection};

use super::*;
use crate::{
    position::Place,
    stage::{Batch, Incoming},
    trace::Provenance,
};

impl<S: Stage, B: Bus> Runner<S, B> {
    /// Processes one delivery, publishing parts as they fill up.
    pub(super) async fn take(
        &mut self,
        input: usize,
        delivery: Delivery,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), Interrupt> {
        let Delivery { subject, sequence, stored_at, content_type, payload, token, provenance, .. } = delivery;
        let stream = self.sources[input].stream.clone();
        self.in_flight.push(input, token.clone());
        let message = Incoming { stream: stream.clone(), subject, sequence, stored_at, content_type, payload };
        let first_row = match self.reached.place(&stream) {
            Some(place) if place.sequence == sequence => place.row,
            Some(place) if place.sequence > sequence => Place::WHOLE,
            _ => 0,
        };
        if first_row != Place::WHOLE {
            match self.decode(&message) {
                Ok(decoded) => self.rows(input, (&message, &provenance), &decoded, first_row as usize, stop).await?,
                Err((reason, detail)) => self.put_aside(input, &message, 0, reason, detail),
            }
        }
        // Only now: a part that goes out in between must not acknowledge the rest of its message.
        self.tokens[input] = Some(token);
        Ok(())
    }

    async fn rows(
        &mut self,
        input: usize,
        (message, provenance): (&Incoming, &Provenance),
        decoded: &S::Input,
        first: usize,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), Interrupt> {
        let (mut rows, mut row) = (S::rows(decoded), first);
        let tries = self.poison.get(&(input, message.sequence)).copied().unwrap_or(0);
        let is_poison = tries >= self.config.limits.poison_tries;
        if is_poison {
            // The part of it that is out is part of the state too.
            let out = self.checkpoint.place(&message.stream).filter(|place| place.sequence == message.sequence);
            rows = out.filter(|place| place.row != Place::WHOLE).map_or(row, |place| place.row as usize);
        }
        while row < rows {
            if self.is_full() {
                self.send(stop).await?;
            }
            let out_already = match self.checkpoint.place(&message.stream) {
                Some(place) if place.sequence > message.sequence => rows,
                Some(place) if place.sequence == message.sequence => (place.row.min(rows as u64)) as usize,
                _ => 0,
            };
            let silent = row < out_already;
            let end = if silent { out_already } else { rows };
            if !silent {
                self.hop.note(provenance, &message.stream, message.sequence);
            }
            let reached = self.call_stage(input, message, decoded, row..end)?;
            if silent {
                self.outbox.clear();
            } else {
                self.rows += (reached - row) as u64;
                self.collect_sides((input, message.sequence));
            }
            row = reached;
            let place = Place { incarnation: self.incarnations[input], sequence: message.sequence, row: row as u64 };
            self.reached.set(&message.stream, place);
        }
        if is_poison {
            let detail = format!("the stage panicked on it {tries} times");
            self.put_aside(input, message, row, Reason::Panic, detail);
            return self.settle_poison(stop).await;
        }
        self.reached.set(&message.stream, Place::whole(self.incarnations[input], message.sequence));
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        let side_bytes: usize = self.rejected.iter().map(|(_, rejected)| rejected.original.len() + 256).sum();
        self.outbox.is_full() || self.late.len() >= 10_000 || side_bytes >= self.config.limits.output_bytes_max / 2
    }

    /// Lets the stage work on rows without blocking the runtime; a panic means: recover and try again.
    pub(super) fn call_stage(
        &mut self,
        input: usize,
        message: &Incoming,
        decoded: &S::Input,
        rows: Range<usize>,
    ) -> Result<usize, Interrupt> {
        let (stage, outbox) = (&mut self.stage, &mut self.outbox);
        let call = || catch_unwind(AssertUnwindSafe(|| stage.process(message, decoded, rows.clone(), outbox)));
        let result = blocking(call);
        let Ok(reached) = result else {
            let tries = self.poison.entry((input, message.sequence)).or_default();
            *tries += 1;
            self.telemetry.panicked();
            return Err(Interrupt::Recover(format!("panic at message {} of {}", message.sequence, message.stream)));
        };
        if let Some(reason) = self.outbox.stopped() {
            return Err(Interrupt::Fail(LoopError::Failed(reason)));
        }
        let is_cut = reached == rows.start && self.outbox.is_ended() && self.has_output();
        if (reached <= rows.start && !is_cut) || reached > rows.end {
            return Err(Interrupt::Fail(LoopError::Failed(format!(
                "{} processed rows {rows:?} of message {} up to {reached}: a bug in the stage",
                S::SPEC.name,
                message.sequence
            ))));
        }
        Ok(reached)
    }

    /// Decoding is pure, so that a panic needs no recovery: it is tried again at once.
    fn decode(&self, message: &Incoming) -> Result<S::Input, (Reason, String)> {
        for _ in 0..self.config.limits.poison_tries {
            let stage = &self.stage;
            match blocking(|| catch_unwind(AssertUnwindSafe(|| stage.decode(message)))) {
                Ok(result) => return result,
                Err(_) => self.telemetry.panicked(),
            }
        }
        Err((Reason::Panic, format!("decoding panicked {} times", self.config.limits.poison_tries)))
    }

    /// The rest of a message goes to the dead letters, unless it is there already.
    fn put_aside(&mut self, input: usize, message: &Incoming, row: usize, reason: Reason, detail: String) {
        let silent = self.checkpoint.covers(&message.stream, message.sequence, row as u64);
        if !silent {
            let rejection = Rejection { reason, detail, subject: message.subject.clone(), readings: 1 };
            let rejected = Rejected { row, rejection, original: message.payload.clone() };
            self.rejected.push(((input, message.sequence), rejected));
        }
        self.reached.set(&message.stream, Place::whole(self.incarnations[input], message.sequence));
    }

    /// After a poisoned message its state is saved at once: a replay must not meet it again, lest it fare differently.
    async fn settle_poison(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        self.finish_commit(Some(stop)).await?;
        self.flush(true, stop).await?;
        if self.store.is_some() {
            self.start_commit(stop).await?;
            self.finish_commit(Some(stop)).await?;
        }
        Ok(())
    }

    pub(super) fn collect_sides(&mut self, origin: Origin) {
        self.late.extend(self.outbox.late.drain(..).map(|row| (origin, row)));
        self.rejected.extend(self.outbox.rejected.drain(..).map(|rejected| (origin, rejected)));
    }

    /// Whether the outbox holds anything for the main output.
    pub(super) fn has_output(&self) -> bool {
        self.outbox.main.iter().any(|batch| batch.rows() > 0) || !self.outbox.alerts.is_empty()
    }
}

/// Runs CPU work without holding up the runtime's other tasks (heartbeats, in-progress acks).
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
