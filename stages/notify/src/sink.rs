//! One sink: reads alerts at its own position, delivers them, and lets no other sink wait.
//!
//! The order that everything hangs on: the receiver takes the event (2xx, PUBACK); **the position is written**, one
//! transaction on disk; the message is acknowledged on the bus; the next event of the same lane goes out. So each event
//! is delivered at least once, and after a crash the only ones that come again are those whose receiver had taken them
//! while the position was not written yet: at most `in_flight_max`, each with the id that it had. A receiver that drops
//! an id that it knows has each event exactly once.
//!
//! What is put aside goes to the dead letters first, then the position is written; see [`eddy_runtime::letters`] for why
//! it is there once.

use std::{sync::Arc, time::Duration};

use eddy_runtime::{
    bus::{PullBounds, Source, nats::NatsBus},
    clock::Clock,
    letters::Letters,
    reader::{Kept, Reader, StartAt},
    telemetry::Telemetry,
};
use eddy_schemas::{names, side::Reason};
use tokio::sync::watch;

use crate::{
    backoff::Backoff,
    config::DeliveryConfig,
    filter::Filter,
    ledger::{Ledger, STREAM},
    life::Life,
    outlet::Outlet,
    progress::Progress,
};

/// One pull's bounds. Its bytes bound what is in memory beside the events that are pending.
pub(crate) const PULL: PullBounds = PullBounds { messages: 100, bytes: 4_000_000 };
/// After how long the bus brings a message again that is neither acknowledged nor said to be in progress.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// Waits while the bus does not answer.
pub(crate) const BUS: Backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_secs(2) };
/// Wait before a sink that failed begins again.
const AGAIN: Duration = Duration::from_secs(5);

/// What a sink is made of.
pub struct Sink<O> {
    /// Its name.
    pub name: String,
    /// The site.
    pub site: String,
    /// Which alerts.
    pub filter: Filter,
    /// How they are delivered.
    pub delivery: DeliveryConfig,
    /// Where it begins without a position.
    pub start_at: StartAt,
    /// Alerts in memory.
    pub pending_max: usize,
    /// How long a stop may take.
    pub grace: Duration,
    /// The receiver.
    pub outlet: Arc<O>,
    /// The bus.
    pub bus: NatsBus,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub telemetry: Arc<Telemetry>,
    /// Tells how it goes.
    pub progress: Arc<Progress>,
}

/// What ends a life of a sink.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

impl<O: Outlet> Sink<O> {
    /// Runs until `stop` says true. A failure is told, and the sink begins again from its position: it must not take the
    /// others down with it.
    pub async fn run(self, mut ledger: Ledger, mut stop: watch::Receiver<bool>) {
        loop {
            match self.live(&mut ledger, &mut stop).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(sink = self.name, %error, "sink failed; it begins again from its position");
                    self.progress.tell(1, false, Some(&error.to_string()));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = asked(&mut stop) => return,
            }
        }
    }

    async fn live(&self, ledger: &mut Ledger, stop: &mut watch::Receiver<bool>) -> Result<(), Failed> {
        let (mut kept, _) = ledger.load()?;
        let durable = format!("notify-{}", self.name);
        let mut letters = Letters::new(self.bus.clone(), &self.site, &durable, STREAM);
        if let Some(kept) = &mut kept {
            self.reckon_last_letter(kept, &mut letters, stop).await;
        }
        let source = Source {
            stream: STREAM.into(),
            durable,
            filter: format!("alerts.{}.>", names::encode(&self.site)),
            ack_pending_max: (self.pending_max + PULL.messages) as i64,
            ack_wait: ACK_WAIT,
        };
        let reader = Reader::new(self.bus.clone(), source, self.start_at, kept);
        let mut life = Life::new(self, reader, letters, ledger);
        let result = life.go_on(stop).await;
        if result.is_ok() {
            life.drain().await?;
        }
        result
    }

    /// The last dead letter may be ahead of the position: then its message is done.
    async fn reckon_last_letter(
        &self,
        kept: &mut Kept,
        letters: &mut Letters<NatsBus>,
        stop: &mut watch::Receiver<bool>,
    ) {
        let mut tries = 0;
        while !*stop.borrow() {
            match letters.last().await {
                Ok(Some(last)) if last.reason != Reason::Missed && last.place.incarnation == kept.place.incarnation => {
                    kept.open.retain(|sequence| *sequence != last.place.sequence);
                    return;
                }
                Ok(_) => return,
                Err(problem) => {
                    tries += 1;
                    tracing::warn!(sink = self.name, %problem, "the last dead letter cannot be read; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(BUS.wait(tries, &self.name)) => {}
                        () = asked(stop) => {}
                    }
                }
            }
        }
    }
}

/// Returns once a stop is asked for.
pub(crate) async fn asked(stop: &mut watch::Receiver<bool>) {
    // Without anybody who could ask, it is time too.
    let _ = stop.wait_for(|stop| *stop).await;
}
