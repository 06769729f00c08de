//! A connection's life: what may go goes, in strict priority; what comes back is taken.

use std::time::Duration;

use eddy_runtime::{
    bus::{Publication, PublishError},
    trace::{Kind, Open},
};
use eddy_schemas::sync::{Class, stream_of, subject_of};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    End, Life, Uplink,
    answers::Answer,
    batch::{self, Cut},
    checkpoint::Found,
};
use crate::{
    link::{Congestion, Link, on_the_wire},
    queue::QueueError,
};

/// Batches on their way, at most.
const FLIGHTS_MAX: usize = 512;
/// How often is looked whether the connection is still the same while something is on its way, and whether there is upkeep.
const TICKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// How long what is on its way is waited for when it stops.
const STOP_DRAIN: Duration = Duration::from_secs(2);
/// The same when something failed: answers come or time out by themselves within that.
const DRAIN: Duration = Duration::from_secs(600);
/// How long a batch that the region does not take holds its class back.
const BLOCKED: Duration = Duration::from_secs(60);

/// Bulk: what waits for a batch to fill, and for the day's budget.
fn is_bulk(class: Class) -> bool {
    class > Class::Health
}

/// See the module.
pub(super) struct Session<'l, U> {
    pub(super) life: &'l mut Life<U>,
    pub(super) connection: u64,
    pub(super) stream: String,
    /// The sequence that the next message will have.
    next_sequence: u64,
    pub(super) answers: JoinSet<Answer>,
    pub(super) link: Link,
    pub(super) congestion: Congestion,
    held_classes: usize,
    upkept: Instant,
    pub(super) progressed: bool,
}

impl<'l, U: Uplink> Session<'l, U> {
    pub(super) fn new(life: &'l mut Life<U>, connection: u64) -> Self {
        let now = Instant::now();
        let (link, congestion) =
            (Link::new(life.outside.config.target_latency, now), Congestion::new(life.outside.config.congested_after));
        Self {
            connection,
            stream: stream_of(&life.identity.site),
            next_sequence: 0,
            answers: JoinSet::new(),
            link,
            congestion,
            held_classes: 0,
            upkept: now,
            progressed: false,
            life,
        }
    }

    /// Whether the region has taken something.
    pub(super) fn progressed(&self) -> bool {
        self.progressed
    }

    /// Until something ends it; `Ok`: `stop` says true.
    pub(super) async fn run(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), End> {
        let ended = self.live(stop).await;
        let connected = self.life.outside.uplink.connection() == Some(self.connection);
        if connected && !matches!(ended, Err(End::Contract(_))) {
            let patience = if ended.is_ok() { STOP_DRAIN } else { DRAIN };
            // What is not answered by then is asked for.
            let _ = timeout(patience, self.drain()).await;
        }
        self.answers.abort_all();
        self.life.lanes.iter_mut().for_each(super::lane::Lane::interrupt);
        let kept = self.remove_done().await;
        ended?;
        kept
    }

    async fn live(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), End> {
        let mut added = self.life.outside.queue.added();
        self.begin().await?;
        while !*stop.borrow() {
            added.borrow_and_update();
            let wake = self.fill().await?;
            tokio::select! {
                Some(answer) = self.answers.join_next(), if !self.answers.is_empty() => self.take(answer)?,
                // The queue lives as long as the sender.
                _ = added.changed() => {}
                () = sleep_until(wake) => {}
                _ = stop.changed() => {}
            }
            self.take_what_came()?;
            self.upkeep().await?;
        }
        Ok(())
    }

    /// Finds the stream, and, once in a queue's life, what it replaces.
    async fn begin(&mut self) -> Result<(), End> {
        let state = self.life.outside.uplink.stream(&self.stream).await?;
        self.next_sequence = state.last_sequence + 1;
        if self.life.incarnation.replace(state.incarnation).is_some_and(|before| before != state.incarnation) {
            self.life.lanes.iter_mut().for_each(|lane| lane.head = None);
        }
        let queue = self.life.outside.queue.clone();
        if queue.is_established()? {
            return Ok(());
        }
        let mut before = Vec::new();
        for class in Class::ALL {
            let subject = subject_of(&self.life.identity.site, class);
            let last = self.life.outside.uplink.last(&self.stream, &subject).await?;
            let found = Found::read(&self.life.identity, class, last.as_ref());
            before.push((before_key(class), found.chain(&self.life.identity)));
        }
        let noting = move || {
            before.iter().try_for_each(|(key, chain)| queue.set_note(key, chain))?;
            queue.establish()
        };
        tokio::task::spawn_blocking(noting).await.map_err(|panic| End::Contract(panic.to_string()))??;
        tracing::info!(stream = self.stream, "a new chain begins");
        Ok(())
    }

    /// Sends what may go; returns when to look again.
    async fn fill(&mut self) -> Result<Instant, End> {
        loop {
            let now = Instant::now();
            let idle = self.answers.is_empty();
            let mut wake = now + if idle { TICKS.1 } else { TICKS.0 };
            self.congestion.end(now);
            self.life.look(now)?;
            match self.choose(now, &mut wake) {
                Choice::Send(class) => {
                    if !self.send_next(class).await? {
                        return Ok(wake);
                    }
                    self.take_what_came()?;
                }
                Choice::NoRoom => return Ok(wake),
                Choice::Nothing => {
                    self.link.starved();
                    return Ok(wake);
                }
            }
        }
    }

    /// The highest class that has something, if it may go.
    fn choose(&mut self, now: Instant, wake: &mut Instant) -> Choice {
        let congested = self.congestion.until();
        let metered = self.life.meter.opens(now);
        self.held_classes = 0;
        let mut chosen = Choice::Nothing;
        for index in 0..self.life.lanes.len() {
            let lane = &self.life.lanes[index];
            let class = lane.class;
            if !lane.has_unsent() {
                continue;
            }
            let held = congested.filter(|_| class != Class::Alerts).or(metered.filter(|_| is_bulk(class)));
            if let Some(until) = held {
                self.held_classes += 1;
                *wake = (*wake).min(until);
                continue;
            }
            if let Some(until) = lane.blocked.filter(|until| *until > now) {
                *wake = (*wake).min(until);
                continue;
            }
            if !matches!(chosen, Choice::Nothing) {
                continue;
            }
            if lane.head.is_none() {
                self.ask(class);
                continue;
            }
            let linger = self.life.outside.config.linger;
            if let Some(due) = lane.waits(self.link.batch(), linger, now).filter(|_| is_bulk(class)) {
                *wake = (*wake).min(due);
                continue;
            }
            let has_room = match class {
                Class::Alerts => self.link.has_urgent_room(lane.in_flight()),
                _ => self.link.has_room(),
            };
            chosen = if has_room && self.answers.len() < FLIGHTS_MAX { Choice::Send(class) } else { Choice::NoRoom };
        }
        chosen
    }

    /// Asks the region where a class stands.
    fn ask(&mut self, class: Class) {
        let lane = self.life.lane(class);
        if std::mem::replace(&mut lane.reading, true) {
            return;
        }
        let (uplink, stream) = (self.life.outside.uplink.clone(), self.stream.clone());
        let subject = subject_of(&self.life.identity.site, class);
        self.answers.spawn(async move { Answer::Last(class, uplink.last(&stream, &subject).await) });
    }

    /// Sends the next batch of a class; whether there was one.
    async fn send_next(&mut self, class: Class) -> Result<bool, End> {
        let lane = self.life.lane(class);
        let Some(head) = lane.head.clone() else { return Ok(false) };
        let size = (self.link.batch(), lane.ratio);
        let (queue, identity) = (self.life.outside.queue.clone(), self.life.identity.clone());
        let (guard, first) = (head.sequence, head.last + 1);
        let cutting = move || batch::cut(&queue, &identity, class, &head, size);
        let cut = tokio::task::spawn_blocking(cutting).await.map_err(|panic| End::Contract(panic.to_string()))?;
        let cut = cut.map_err(|error| match error {
            QueueError::Gone { .. } => self.life.lane(class).doubt(error.to_string()),
            error => error.into(),
        })?;
        let Some(cut) = cut else { return Ok(false) };
        self.send(class, cut, (guard, first)).await?;
        Ok(true)
    }

    async fn send(&mut self, class: Class, cut: Cut, (guard, first): (u64, u64)) -> Result<(), End> {
        let (traced, headers) = self.traced(class, first, cut.last);
        let message = Publication {
            stream: self.stream.clone(),
            subject: subject_of(&self.life.identity.site, class),
            headers,
            payload: cut.message.clone(),
            guard: Some(guard),
        };
        let (now, bytes) = (Instant::now(), on_the_wire(cut.message.len()));
        let sent = self.life.outside.uplink.send(message).await;
        let pending = sent.map_err(|error| self.refused(class, error))?;
        let ticket = self.link.sent(bytes, now);
        self.life.meter.spent(bytes, now);
        let number = cut.number;
        self.life.lane(class).sent(&cut, self.next_sequence, ticket, traced);
        self.next_sequence += 1;
        self.answers.spawn(async move {
            let result = pending.await;
            Answer::Stored(class, number, result, Instant::now())
        });
        Ok(())
    }

    /// The spans of a batch, which end once the region has it, and the headers by which the region's are their children.
    fn traced(&self, class: Class, first: u64, last: u64) -> (Option<Open>, Vec<(String, String)>) {
        let mut headers = Vec::new();
        let Some((contexts, queued)) = self.life.outside.queue.traced(class, first, last) else {
            return (None, headers);
        };
        let open =
            self.life.outside.telemetry.tracer().map(|tracer| tracer.open("sync", Kind::Producer, &contexts, queued));
        open.as_ref().map_or(&contexts, Open::contexts).put(&mut headers);
        (open, headers)
    }

    /// A batch that is not stored, or of which nobody knows.
    pub(super) fn refused(&mut self, class: Class, error: PublishError) -> End {
        let telemetry = self.life.outside.telemetry.clone();
        let lane = self.life.lane(class);
        lane.head = None;
        match error {
            PublishError::Refused { .. } => telemetry.fenced(),
            PublishError::Full { .. } => telemetry.backpressure(),
            PublishError::Fatal(_) => {
                lane.blocked = Some(Instant::now() + BLOCKED);
                tracing::error!(class = class.token(), %error, "the region does not take it; trying again in a while");
            }
            PublishError::Ambiguous { .. } => {}
        }
        End::Again(error.to_string())
    }

    /// Every now and then: the connection, congestion, what is done, what is told.
    async fn upkeep(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.life.outside.uplink.connection() != Some(self.connection) {
            return Err(End::Again("the connection to the region was lost".into()));
        }
        let oldest = self.life.lane(Class::Alerts).oldest();
        if oldest.is_some_and(|sent| self.congestion.waits(now - sent, now)) {
            self.congested();
        }
        if now - self.upkept >= TICKS.1 {
            self.upkept = now;
            self.remove_done().await?;
            self.tell();
        }
        Ok(())
    }

    /// What was known of the link let too much out.
    pub(super) fn congested(&mut self) {
        self.link.forget();
        tracing::warn!("an alert took too long: all else waits until it is better");
        self.life.outside.telemetry.congested();
    }

    /// Removes from the queue what the region has.
    async fn remove_done(&mut self) -> Result<(), End> {
        let done: Vec<_> =
            self.life.lanes.iter_mut().filter_map(|lane| Some((lane.class, lane.done.take()?))).collect();
        if done.is_empty() {
            return Ok(());
        }
        let queue = self.life.outside.queue.clone();
        let removing = move || done.into_iter().try_for_each(|(class, last)| queue.done(class, last));
        tokio::task::spawn_blocking(removing).await.map_err(|panic| End::Contract(panic.to_string()))??;
        Ok(())
    }

    fn tell(&self) {
        self.life.tell_queue();
        let telemetry = &self.life.outside.telemetry;
        telemetry.link(self.link.rate(), self.link.round_trip(), self.link.in_flight(), self.held_classes);
    }
}

/// What is to be done.
enum Choice {
    Send(Class),
    /// Something waits for room.
    NoRoom,
    /// Nothing may go.
    Nothing,
}

/// The note of the chain that a class had before this queue's.
pub(super) fn before_key(class: Class) -> String {
    format!("before/{}", class.token())
}
