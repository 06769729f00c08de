//! Into the store: everything of a pull, and the position that it reaches, in one transaction.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use eddy_runtime::{
    bus::Bus,
    position::Position,
    store_loop::{Sink, SinkError, Turn},
    telemetry::Telemetry,
};
use eddy_schemas::SeriesName;
use eddy_vectors::index::{Batch, Filter, IndexError, Searcher, Store, WindowId};
use tokio::task::block_in_place;

use crate::{
    changes::{Change, Changes},
    context::{Contexts, Due},
};

/// The store and what tells of it.
pub struct IndexSink<B> {
    pub(crate) store: Arc<Store>,
    pub(crate) searcher: Arc<Searcher>,
    pub(crate) contexts: Contexts<B>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Contexts that are out; the next transaction takes them from the outbox.
    pub(crate) sent: Vec<WindowId>,
}

/// A full disk may have room again; what is damaged stays so.
pub fn sink_error(error: &IndexError) -> SinkError {
    match error {
        IndexError::Io { .. } | IndexError::MapFull { .. } => SinkError::Again(error.to_string()),
        error => SinkError::Fatal(error.to_string()),
    }
}

impl<B: Bus> Sink for IndexSink<B> {
    fn position(&self) -> Result<Option<Position>, SinkError> {
        let text = self.store.position().map_err(|error| sink_error(&error))?;
        let wrong = |error| SinkError::Fatal(format!("index in {}: {error}", self.store.path().display()));
        text.map(|text| text.parse().map_err(wrong)).transpose()
    }

    async fn write(
        &mut self,
        turn: &Turn<'_>,
        reaches: impl Fn(u64) -> Position + Send,
    ) -> Result<Option<u64>, SinkError> {
        let changes = Changes::of(turn.deliveries);
        let Some(reached) = changes.reached else { return Ok(None) };
        let position = reaches(reached).to_string();
        block_in_place(|| self.commit(turn, &changes, &position)).map_err(|error| sink_error(&error))?;
        for problem in &changes.refused {
            tracing::error!(problem, "not indexed");
            self.telemetry.rejected(eddy_schemas::side::Reason::Malformed, 1);
        }
        self.telemetry.received_rows(changes.changes.len() as u64);
        Ok(Some(reached))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        let mut failed = Ok(());
        // One that cannot be told holds up those of its device, whose order says what is out, and no other.
        let mut blocked = BTreeSet::new();
        let outbox = block_in_place(|| self.store.outbox()).map_err(|error| sink_error(&error))?;
        for (window, record) in outbox {
            if self.sent.contains(&window) {
                continue;
            }
            let Some(due) = Due::read(window, &record) else {
                return Err(SinkError::Fatal(format!("outbox of {}: entry {window}", self.store.path().display())));
            };
            match self.contexts.tell(&self.searcher, &due, &mut blocked).await {
                Ok(()) => self.sent.push(window),
                Err(SinkError::Fatal(problem)) => return Err(SinkError::Fatal(problem)),
                Err(error) => failed = Err(error),
            }
        }
        failed
    }
}

impl<B: Bus> IndexSink<B> {
    fn commit(&mut self, turn: &Turn<'_>, changes: &Changes, position: &str) -> Result<(), IndexError> {
        let mut batch = self.store.batch()?;
        for window in &self.sent {
            batch.sent(*window)?;
        }
        if let Some(gap) = turn.gap {
            batch.missed(gap.to + 1 - gap.from)?;
        }
        let mut added: HashMap<&str, Vec<WindowId>> = HashMap::new();
        for change in &changes.changes {
            match change {
                Change::Add { model, window, alert } => {
                    let id = batch.add(model, window)?;
                    added.entry(SeriesName::device_token(&window.series)).or_default().push(id);
                    if let Some(alert) = alert {
                        batch.tag(&alert.id, id)?;
                        if let Some(nth) = alert.opens {
                            batch.send(id, &Due { window: id, nth, alert: alert.id.clone() }.record())?;
                        }
                    }
                }
                Change::Label { alert, label } => {
                    // The window that opened it: one word is one vote, and what closed it looks ordinary.
                    if let Some(window) = batch.tagged(alert)?.first() {
                        batch.label(*window, label)?;
                    }
                }
                Change::Forget { device } => self.forget(&mut batch, device, added.remove(device.as_str()))?,
            }
        }
        batch.commit(turn.before.map(Position::to_string).as_deref(), position)?;
        self.sent.clear();
        // It is written, whatever the searcher sees of it: the next write or question refreshes it again.
        if let Err(error) = self.searcher.refresh() {
            tracing::error!(%error, "what was written is not searchable yet");
        }
        Ok(())
    }

    /// The searcher has seen all that is committed; what this batch added it has not.
    fn forget(&self, batch: &mut Batch<'_>, device: &str, added: Option<Vec<WindowId>>) -> Result<(), IndexError> {
        let known = self.searcher.matching(&Filter { device: Some(device.to_owned()), ..Filter::default() })?;
        for window in known.into_iter().chain(added.unwrap_or_default()) {
            batch.delete(window)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use eddy_runtime::{
        bus::{
            Feed as _, PullBounds, Source,
            memory::{Faults, MemoryBus},
        },
        position::Place,
    };
    use eddy_schemas::{
        ScoresBuilder, Told,
        alert::{Alert, CloudEvent, Phase, Severity},
        context::Context,
        flags, rfc3339,
    };

    use super::*;

    fn opened(device: &str, minute: i64) -> Bytes {
        let time = rfc3339(minute * 60_000_000_000);
        let alert = Alert {
            alert: format!("{device}-{minute}"),
            phase: Phase::Opened,
            severity: Severity::Minor,
            site: "s".into(),
            device: device.into(),
            opened: time.clone(),
            score: 1.0,
            tail: 1e-6,
            threshold: 1e-4,
            tail_min: 1e-6,
            channels: vec![],
            heads: vec![],
            bundle: "b".into(),
        };
        CloudEvent::new(alert, 0, time).to_json().into()
    }

    /// One atomic batch as detect publishes it: alerts, then their scores; device `a` has a channel that lies behind the other.
    fn detections(bus: &MemoryBus) {
        let rows = [("a/late", 50), ("b/t", 51), ("a/early", 20), ("a/late", 60)];
        let mut scores = ScoresBuilder::new("b");
        for (series, minute) in rows {
            let (device, _) = series.split_once('/').unwrap();
            bus.store("DETECTIONS", &format!("alerts.s.minor.{device}"), opened(device, minute));
            let told = Told { span: 0, filled: 1, vector: &[minute as f32, 1.0] };
            scores.push(series, minute * 60_000_000_000, 1.0, 1e-6, flags::ALERTED, Some(told));
        }
        bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_alert_has_one_context_whatever_the_bus_loses_and_whichever_time_it_is_about() {
        let bus = MemoryBus::new(11, Faults::default());
        ["DETECTIONS", "CONTEXT", "CONTROL"].iter().for_each(|stream| bus.create(stream, 7));
        (0..3).for_each(|_| detections(&bus));
        bus.set_faults(Faults { publish_lost: 400, answer_lost: 300, ..Faults::default() });
        let source = Source {
            stream: "DETECTIONS".into(),
            durable: "index".into(),
            filter: ">".into(),
            ack_pending_max: 1_000,
            ack_wait: Duration::from_secs(60),
        };
        let bounds = PullBounds { messages: 100, bytes: 1 << 20 };
        let deliveries = bus.open(&source, 1).await.unwrap().pull(bounds, Duration::ZERO).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path(), eddy_vectors::index::Limits::default()).unwrap());
        let telemetry = Arc::new(Telemetry::new("index", 0, Duration::from_secs(30)));
        let defaults: toml::Table = include_str!("../default.toml").parse().unwrap();
        let contexts = Contexts {
            bus: bus.clone(),
            site: "s".into(),
            config: defaults["index"].clone().try_into().unwrap(),
            telemetry: telemetry.clone(),
        };
        let searcher = Arc::new(store.searcher().unwrap());
        let mut sink = IndexSink { store, searcher, contexts, telemetry, sent: Vec::new() };
        let turn = Turn { deliveries: &deliveries, gap: None, before: None };
        let reaches = |sequence| Position([("DETECTIONS".to_owned(), Place::whole(7, sequence))].into());
        assert_eq!(sink.write(&turn, reaches).await.unwrap(), deliveries.last().map(|last| last.sequence));
        for round in 0.. {
            assert!(round < 500, "they never all went out");
            // As after a restart: what was sent is looked up.
            sink.sent.clear();
            if sink.tick().await.is_ok() {
                break;
            }
        }
        let told: Vec<Context> =
            bus.payloads("CONTEXT", "").iter().map(|payload| serde_json::from_slice(payload).unwrap()).collect();
        let mut alerts: Vec<&str> = told.iter().map(|context| context.alert.as_str()).collect();
        alerts.sort_unstable();
        let each = ["a-20", "a-50", "a-60", "b-51"];
        let expected: Vec<&str> = each.iter().flat_map(|alert| [*alert; 3]).collect();
        assert_eq!(alerts, expected, "three messages, each with all four");
    }
}
