//! The output that is on its way while the loop goes on, what it counts once it is there, and the log's trace meanwhile.

use eddy_schemas::health::Health;
use tokio::task::{JoinError, JoinSet};

use super::{hop::Leaving, publish::Outcome, *};
use crate::{
    bus::{Publication, PublishError},
    stage::{Batch, Scored},
};

/// An output of which it is not known yet whether it is there.
pub(super) struct OnItsWay {
    messages: Vec<Publication>,
    position: Position,
    leaving: Leaving,
    counted: Counted,
    started: Instant,
    /// The first try, given up if this is; and its answer.
    first: JoinSet<Answer>,
    answer: Option<Answer>,
}

/// The answer to a publish, and when it came.
struct Answer {
    result: Result<u64, PublishError>,
    at: (Instant, Timestamp),
}

/// What is counted once an output is out.
struct Counted {
    rows: u64,
    alerts: u64,
    received: u64,
    duplicates: u64,
    decisions: Vec<(&'static str, u64)>,
    scored: Option<Scored>,
    health: Vec<Health>,
}

impl OnItsWay {
    /// Waits for the answer, and keeps it. Nothing is lost if the wait is given up.
    pub(super) async fn wait(&mut self) {
        if let Some(joined) = self.first.join_next().await {
            self.keep(joined);
        }
    }

    /// Adds conditions that are told once it is out.
    pub(super) fn add(&mut self, health: Vec<Health>) {
        self.counted.health.extend(health);
    }

    pub(super) fn is_answered(&mut self) -> bool {
        if let Some(joined) = self.first.try_join_next() {
            self.keep(joined);
        }
        self.first.is_empty()
    }

    /// A try that panicked is no answer: it is made again.
    fn keep(&mut self, joined: Result<Answer, JoinError>) {
        if let Err(error) = &joined {
            let in_hand = current::replace(self.leaving.trace());
            tracing::error!(%error, "publishing was given up");
            current::set(in_hand);
        }
        self.answer = joined.ok();
    }
}

impl<S: Stage, B: Bus> Runner<S, B> {
    /// Sends the outbox on its way as the checkpoint at `position`; none is on its way yet.
    pub(super) fn start_output(&mut self, position: Position) {
        let (rows, alerts) = (self.outbox.main.iter().map(Batch::rows).sum::<usize>(), self.outbox.alerts.len());
        let leaving = self.leave();
        let messages = self.merged_output(&position, &leaving);
        let counted = Counted {
            rows: rows as u64,
            alerts: alerts as u64,
            received: std::mem::take(&mut self.rows),
            duplicates: std::mem::take(&mut self.outbox.duplicates),
            decisions: std::mem::take(&mut self.outbox.decisions),
            scored: self.outbox.scored.take(),
            health: std::mem::take(&mut self.outbox.health),
        };
        let (bus, clock, first) = (self.bus.clone(), self.clock.clone(), messages.clone());
        let first = JoinSet::from_iter([async move {
            let result = bus.publish(first).await;
            Answer { result, at: (Instant::now(), clock.now()) }
        }]);
        let started = Instant::now();
        self.held_since = started;
        self.on_its_way = Some(OnItsWay { messages, position, leaving, counted, started, first, answer: None });
    }

    /// Waits until the output on its way, if there is one, is the checkpoint. What is logged meanwhile is about its trace, whichever the
    /// loop has in hand.
    pub(super) async fn arrived(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        let Some(output) = self.on_its_way.take() else { return Ok(()) };
        let in_hand = current::replace(output.leaving.trace());
        let settled = self.make_checkpoint(output, stop).await;
        current::set(in_hand);
        settled
    }

    async fn make_checkpoint(&mut self, mut output: OnItsWay, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        output.wait().await;
        let OnItsWay { messages, position, leaving, counted, started, answer, .. } = output;
        let at = answer.as_ref().filter(|answer| answer.result.is_ok()).map(|answer| answer.at);
        let first = answer.map(|answer| answer.result);
        match self.publish_guarded(S::SPEC.output_stream, messages, &position.to_string(), first, stop).await? {
            Outcome::Stored(last) => {
                let outputs = self.outputs.len() as u64;
                for (index, output) in self.outputs.iter_mut().enumerate() {
                    output.last_sequence = last + 1 + index as u64 - outputs;
                }
            }
            Outcome::Taken(_) => return Err(self.refused()),
        }
        self.checkpoint = position;
        self.checkpointed_at = Instant::now();
        let (answered, now) = at.unwrap_or_else(|| (Instant::now(), self.clock.now()));
        self.left(&leaving, now);
        self.telemetry.publish_seconds(answered - started);
        self.tell(counted).await;
        Ok(())
    }

    /// What an output counted, once it is out.
    async fn tell(&mut self, counted: Counted) {
        self.telemetry.received_rows(counted.received);
        self.telemetry.emitted(counted.rows, counted.alerts);
        self.telemetry.progress();
        self.telemetry.duplicates(counted.duplicates);
        for (kind, n) in counted.decisions {
            self.telemetry.decision(kind, n);
        }
        if let Some(scored) = counted.scored {
            self.telemetry.scored(&scored.tails);
            self.telemetry.newest_event(scored.newest);
        }
        self.publish_health(counted.health).await;
    }

    /// Forgets the output on its way, once it is there or not; but not the conditions that it came with: if it is there, a replay is silent.
    pub(super) async fn abandon_output(&mut self) {
        if let Some(mut output) = self.on_its_way.take() {
            output.wait().await;
            self.publish_health(output.counted.health).await;
        }
    }
}
