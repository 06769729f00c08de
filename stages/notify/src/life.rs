//! A sink at work: the loop from a position to the next start, and what each end of a delivery means.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use eddy_runtime::{
    bus::{BusError, Delivery, PullBounds, nats::NatsBus},
    dead_letter::DeadLetter,
    letters::Letters,
    position::Place,
    reader::{Kept, Missed, Reader, Turn},
    stage::Rejected,
    telemetry::Metric,
    trace::{Kind, Open, Tracer, current},
};
use eddy_schemas::{
    names,
    side::{Reason, Rejection},
};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
};

use crate::{
    backoff::Backoff,
    event::{ALERT_BYTES_MAX, Event},
    lanes::Lanes,
    ledger::{Kv, Ledger, STREAM},
    outlet::{Outlet, Verdict},
    sink::{BUS, Failed, PULL, Sink, asked},
};

/// How long a pull waits for something to come; also how often a sink looks after itself.
const PULL_WAIT: Duration = Duration::from_secs(1);
/// How often the position moves over messages that are no alerts.
const CATCH_UP: Duration = Duration::from_secs(10);

/// A life of a sink: from a position to the next start.
pub(crate) struct Life<'a, O: Outlet> {
    sink: &'a Sink<O>,
    reader: Reader,
    letters: Letters<NatsBus>,
    ledger: &'a mut Ledger,
    lanes: Lanes,
    under_way: JoinSet<Verdict>,
    sequences: HashMap<Id, u64>,
    started: Instant,
    paused: bool,
}

impl<'a, O: Outlet> Life<'a, O> {
    pub(crate) fn new(sink: &'a Sink<O>, reader: Reader, letters: Letters<NatsBus>, ledger: &'a mut Ledger) -> Self {
        Self {
            sink,
            reader,
            letters,
            ledger,
            lanes: Lanes::new(sink.delivery.order),
            under_way: JoinSet::new(),
            sequences: HashMap::new(),
            started: Instant::now(),
            paused: false,
        }
    }

    /// Goes on until `stop` says true.
    pub(crate) async fn go_on(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Failed> {
        let (mut bus_tries, mut bus_due) = (0, Instant::now());
        let mut caught_up = Instant::now();
        loop {
            self.start_deliveries();
            let room = self.sink.pending_max.saturating_sub(self.lanes.len());
            if room == 0 && !self.paused {
                tracing::warn!(
                    sink = self.sink.name,
                    pending = self.lanes.len(),
                    "as many alerts wait as may: reads no further"
                );
                self.reader.pause();
            }
            self.paused = room == 0;
            // With as much under way as may, what is due waits for an end.
            let free = self.under_way.len() < self.sink.delivery.in_flight_max;
            let due = self.lanes.next_due().filter(|_| free);
            let wait = due.map_or(PULL_WAIT, |due| due.saturating_sub(self.now()).min(PULL_WAIT));
            tokio::select! {
                biased;
                () = asked(stop) => return Ok(()),
                Some(ended) = self.under_way.join_next_with_id() => self.settle(ended).await?,
                pulled = pull(&mut self.reader, room, bus_due), if room > 0 => match pulled {
                    Ok(turns) => {
                        bus_tries = 0;
                        self.take(turns).await?;
                    }
                    Err(BusError::Fatal(problem)) => return Err(problem.into()),
                    Err(problem) => {
                        bus_tries += 1;
                        self.sink.telemetry.consumer_reset();
                        bus_due = Instant::now() + BUS.wait(bus_tries, &self.sink.name);
                        tracing::warn!(sink = self.sink.name, %problem, "alerts cannot be read; trying again");
                    }
                },
                () = tokio::time::sleep(wait) => {}
            }
            self.reader.keep_alive().await;
            if caught_up.elapsed() >= CATCH_UP {
                caught_up = Instant::now();
                // A server that does not answer shows at the next pull.
                if self.reader.catch_up().await.is_ok() {
                    self.write_if_moved().await?;
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn start_deliveries(&mut self) {
        while self.under_way.len() < self.sink.delivery.in_flight_max {
            let Some(event) = self.lanes.start(self.now()) else { return };
            let (outlet, sequence) = (self.sink.outlet.clone(), event.sequence);
            let task = match self.trace(&event) {
                None => self.under_way.spawn(async move { outlet.deliver(&event).await }),
                Some((event, tracing)) => self.under_way.spawn(current::scope(async move {
                    current::set(event.traces.first().map(|context| context.trace));
                    let verdict = outlet.deliver(&event).await;
                    tracing.end(&event, &verdict);
                    verdict
                })),
            };
            self.sequences.insert(task.id(), sequence);
        }
    }

    /// The event as its delivery is told of it, and the span of that delivery; `None` of one that is in no trace.
    fn trace(&self, event: &Event) -> Option<(Event, Tracing)> {
        let telemetry = &self.sink.telemetry;
        let tracer = telemetry.tracer().filter(|_| !event.traces.is_empty())?;
        let open = tracer.open("notify", Kind::Producer, &event.traces, tracer.now());
        let event = event.clone().traced(open.contexts().clone());
        let tries = self.lanes.tries(event.sequence);
        Some((event, Tracing { open, tracer: tracer.clone(), sink: self.sink.name.clone(), tries }))
    }

    /// What was read: into its lane, or done at once.
    async fn take(&mut self, turns: Vec<Turn>) -> Result<(), Failed> {
        let mut done = Vec::new();
        let bytes = |turn: &Turn| if let Turn::Message(delivery) = turn { delivery.payload.len() as u64 } else { 0 };
        self.sink.telemetry.received(turns.len() as u64, turns.iter().map(bytes).sum());
        for turn in turns {
            match turn {
                Turn::Missed(missed) => self.note_missed(missed).await?,
                Turn::Message(delivery) => match self.read(&delivery) {
                    Ok(event) if self.sink.filter.takes(&event.cloud.data) => self.lanes.push(event),
                    Ok(_) => {
                        self.count(Metric::FilteredAlerts);
                        done.push(delivery.sequence);
                    }
                    Err(detail) => {
                        tracing::warn!(
                            sink = self.sink.name,
                            sequence = delivery.sequence,
                            detail,
                            "no alert: put aside"
                        );
                        let (subject, payload) = (delivery.subject.clone(), delivery.payload.clone());
                        self.put_aside(delivery.sequence, Reason::Malformed, detail, subject, payload).await?;
                    }
                },
            }
        }
        self.reader.done(&done).await;
        // Where a sink began must not be forgotten, however long its first alert takes.
        if self.ledger.written().is_none() {
            self.write(&[], Vec::new()).await?;
        }
        self.tell(false, None);
        Ok(())
    }

    fn read(&self, delivery: &Delivery) -> Result<Event, String> {
        let (sequence, stored_at) = (delivery.sequence, delivery.stored_at);
        let event = Event::read(sequence, stored_at, &delivery.subject, delivery.payload.clone())?;
        Ok(event.traced(delivery.provenance.contexts.clone()))
    }

    /// Everything that has ended by now: one write of the position for all.
    async fn settle(&mut self, first: Result<(Id, Verdict), JoinError>) -> Result<(), Failed> {
        let mut ended = vec![first];
        while let Some(another) = self.under_way.try_join_next_with_id() {
            ended.push(another);
        }
        let (mut done, mut records, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        let mut last_problem = None;
        for one in ended {
            let (id, verdict) = match one {
                Ok(ended) => ended,
                Err(panic) => (panic.id(), Verdict::retry(format!("a delivery failed: {panic}"))),
            };
            let Some(sequence) = self.sequences.remove(&id) else { continue };
            let Some(event) = self.lanes.event(sequence) else { continue };
            match verdict {
                Verdict::Delivered { keep } => {
                    records.extend(keep);
                    done.push(sequence);
                }
                Verdict::Refused { problem } => aside.push((event, Reason::Refused, problem)),
                Verdict::Retry { problem, after } => {
                    match self.given_up(&event) {
                        Some(why) => aside.push((event, Reason::Expired, format!("{why}; last: {problem}"))),
                        None => self.try_again(&event, &problem, after),
                    }
                    last_problem = Some(problem);
                }
            }
        }
        if !done.is_empty() {
            self.write(&done, records).await?;
            self.sink.telemetry.sink(Metric::DeliveredAlerts, &self.sink.name, done.len() as u64);
        }
        let moved = !done.is_empty() || !aside.is_empty();
        for sequence in done {
            self.lanes.finish(sequence);
        }
        for (event, reason, detail) in aside {
            tracing::warn!(sink = self.sink.name, id = event.cloud.id, detail, "alert put aside");
            self.put_aside(event.sequence, reason, detail, event.subject.clone(), event.json.clone()).await?;
            self.lanes.finish(event.sequence);
        }
        self.tell(moved, last_problem.as_deref());
        Ok(())
    }

    fn given_up(&self, event: &Event) -> Option<String> {
        let delivery = &self.sink.delivery;
        let tries = self.lanes.tries(event.sequence);
        let age = self.sink.clock.now().saturating_sub(event.stored_at) / 1_000_000_000;
        let (too_often, too_old) =
            (tries >= delivery.tries_max, age >= i64::try_from(delivery.age_s_max).unwrap_or(i64::MAX));
        (too_often || too_old).then(|| format!("given up after {tries} tries, {age} s after it was raised"))
    }

    fn try_again(&mut self, event: &Event, problem: &str, after: Option<Duration>) {
        let delivery = &self.sink.delivery;
        let backoff = Backoff {
            min: Duration::from_millis(delivery.retry_wait_ms_min),
            max: Duration::from_millis(delivery.retry_wait_ms_max),
        };
        let tries = self.lanes.tries(event.sequence);
        let obeyed = after.unwrap_or_default().min(Duration::from_secs(delivery.retry_after_s_max));
        let wait = backoff.wait(tries, &event.cloud.id).max(obeyed);
        let again_in_ms = wait.as_millis() as u64;
        tracing::warn!(sink = self.sink.name, id = event.cloud.id, tries, problem, again_in_ms, "delivery failed");
        self.lanes.retry(event.sequence, self.now() + wait);
        self.count(Metric::DeliveryRetries);
    }

    /// Writes that the message is open, where it is not written yet; the dead letter; that the message is done.
    async fn put_aside(
        &mut self,
        sequence: u64,
        reason: Reason,
        detail: String,
        subject: String,
        payload: Bytes,
    ) -> Result<(), Failed> {
        let Some(Kept { place: Place { incarnation, .. }, .. }) = self.reader.kept(&[]) else { return Ok(()) };
        // What is too large for an alert may be too large for a letter.
        let original = if payload.len() > ALERT_BYTES_MAX { Bytes::new() } else { payload };
        let rejection = Rejection { reason, detail, subject, readings: 1 };
        let letter = DeadLetter::new(STREAM, sequence, Rejected { row: 0, rejection, original });
        self.write_if_moved().await?;
        self.letters.write(&Place::whole(incarnation, sequence), letter).await?;
        self.write(&[sequence], Vec::new()).await?;
        self.sink.telemetry.rejected(reason, 1);
        self.count(Metric::UndeliveredAlerts);
        Ok(())
    }

    async fn note_missed(&mut self, missed: Missed) -> Result<(), Failed> {
        let Missed { from, to, incarnation, problem } = missed;
        tracing::error!(sink = self.sink.name, from, to, problem, "alerts may be missing");
        let detail = format!("{problem}; alerts among them were not delivered");
        let subject = format!("alerts.{}.>", names::encode(&self.sink.site));
        let rejection = Rejection { reason: Reason::Missed, detail, subject, readings: to + 1 - from };
        let letter = DeadLetter::new(STREAM, from, Rejected { row: 0, rejection, original: Bytes::new() });
        self.letters.write(&Place::whole(incarnation, to), letter).await?;
        self.write(&[], Vec::new()).await?;
        self.count(Metric::SinkGaps);
        Ok(())
    }

    /// Writes the position at which `done` are done, then acknowledges them.
    async fn write(&mut self, done: &[u64], records: Vec<Kv>) -> Result<(), Failed> {
        let Some(kept) = self.reader.kept(done) else { return Ok(()) };
        let mut ledger = self.ledger.clone();
        let written = tokio::task::spawn_blocking(move || ledger.commit(&kept, records).map(|()| ledger)).await?;
        *self.ledger = written?;
        self.reader.done(done).await;
        Ok(())
    }

    async fn write_if_moved(&mut self) -> Result<(), Failed> {
        if self.reader.kept(&[]).as_ref() == self.ledger.written() { Ok(()) } else { self.write(&[], Vec::new()).await }
    }

    fn count(&self, metric: Metric) {
        self.sink.telemetry.sink(metric, &self.sink.name, 1);
    }

    fn tell(&self, moved: bool, problem: Option<&str>) {
        let pending = self.lanes.len() as u64;
        self.sink.telemetry.sink_pending(&self.sink.name, pending);
        self.sink.progress.tell(pending, moved, problem);
    }

    /// A stop: what is under way may end, and is written down.
    pub(crate) async fn drain(&mut self) -> Result<(), Failed> {
        let deadline = tokio::time::Instant::now() + self.sink.grace;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.under_way.join_next_with_id()).await {
            self.settle(ended).await?;
        }
        self.write_if_moved().await
    }
}

/// At most `room` messages, and none before `due`.
async fn pull(reader: &mut Reader, room: usize, due: Instant) -> Result<Vec<Turn>, BusError> {
    tokio::time::sleep_until(due.into()).await;
    reader.pull(PullBounds { messages: PULL.messages.min(room), ..PULL }, PULL_WAIT).await
}

/// The span of one delivery.
struct Tracing {
    open: Open,
    tracer: Tracer,
    sink: String,
    tries: u32,
}

impl Tracing {
    fn end(&self, event: &Event, verdict: &Verdict) {
        let problem = match verdict {
            Verdict::Delivered { .. } => None,
            Verdict::Retry { problem, .. } | Verdict::Refused { problem } => Some(problem.as_str()),
        };
        let attributes = [
            ("eddy.sink", self.sink.as_str().into()),
            ("eddy.event", event.cloud.id.as_str().into()),
            ("eddy.device", event.cloud.data.device.as_str().into()),
            ("eddy.tries", u64::from(self.tries).into()),
        ];
        self.tracer.close(&self.open, &attributes, problem);
    }
}
