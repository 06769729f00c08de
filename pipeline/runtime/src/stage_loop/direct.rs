//! Direct input through the stage: gathered, published with whatever else is in hand, then answered.
//!
//! It moves no position. If the session ends before its rows are out, the answer is dropped with it; its sender tries again.

use eddy_schemas::side::{Reason, Rejection};

use super::*;
use crate::{stage::Incoming, trace::Provenance};

/// Stands for the input of an [`Origin`] where there is none.
pub(super) const DIRECT: usize = usize::MAX;

/// Messages that made the stage panic are remembered, so many at most.
const POISON_MAX: usize = 1_000;

impl<S: Stage, B: Bus> Runner<S, B> {
    /// Processes what was gathered, publishing parts as they fill up.
    pub(super) async fn take_direct(
        &mut self,
        requests: Vec<Request<S::Input>>,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), Interrupt> {
        let bytes: usize = requests.iter().map(|request| request.message.payload.len()).sum();
        self.telemetry.received(requests.len() as u64, bytes as u64);
        for Request { message, input, provenance, answer, .. } in requests {
            let mut receipt = Receipt::default();
            match input {
                Ok(decoded) => {
                    let processed = self.direct_rows((&message, &provenance), &decoded, &mut receipt, stop).await;
                    // Before any of their senders is told by the answer's end, and comes again.
                    processed.inspect_err(|_| self.direct.interrupt())?;
                }
                Err((reason, detail)) => self.put_direct_aside(&message, reason, detail, &mut receipt),
            }
            self.waiting.push((answer, receipt));
        }
        Ok(())
    }

    /// What waits may be out or not: its senders send it again.
    pub(super) fn give_up_direct(&mut self) {
        if !self.waiting.is_empty() {
            self.direct.interrupt();
            self.waiting.clear();
        }
    }

    async fn direct_rows(
        &mut self,
        (message, provenance): (&Incoming, &Provenance),
        decoded: &S::Input,
        receipt: &mut Receipt,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), Interrupt> {
        if self.poison.get(&(DIRECT, message.sequence)).is_some_and(|tries| *tries >= self.config.limits.poison_tries) {
            let detail = format!("the stage panicked on it {} times", self.config.limits.poison_tries);
            self.put_direct_aside(message, Reason::Panic, detail, receipt);
            return Ok(());
        }
        if self.poison.len() > POISON_MAX {
            self.poison.clear();
        }
        let (rows, mut row) = (S::rows(decoded), 0);
        while row < rows {
            if self.is_full() {
                self.flush(false, stop).await?;
            }
            self.hop.note(provenance, &message.stream, message.sequence);
            let reached = self.call_stage(DIRECT, message, decoded, row..rows)?;
            self.rows += (reached - row) as u64;
            receipt.rejected.extend(self.outbox.rejected.iter().map(|rejected| rejected.rejection.clone()));
            self.collect_sides((DIRECT, message.sequence));
            row = reached;
        }
        receipt.rows = rows;
        Ok(())
    }

    fn put_direct_aside(&mut self, message: &Incoming, reason: Reason, detail: String, receipt: &mut Receipt) {
        let rejection = Rejection { reason, detail, subject: message.subject.clone(), readings: 1 };
        receipt.rejected.push(rejection.clone());
        let rejected = Rejected { row: 0, rejection, original: message.payload.clone() };
        self.rejected.push(((DIRECT, message.sequence), rejected));
    }

    /// All that waits is out.
    pub(super) fn answer_direct(&mut self) {
        for (answer, receipt) in self.waiting.drain(..) {
            answer.give(receipt);
        }
    }
}
