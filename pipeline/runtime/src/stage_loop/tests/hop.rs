//! What headers say of an output: when its oldest reading came, and which traces it is part of.

use eddy_schemas::{
    alert::{Alert, CloudEvent, Phase, Severity},
    names,
};
use tokio::sync::mpsc;

use super::*;
use crate::{
    direct::{self, Bounds},
    trace::{CONTEXTS_MAX, Contexts, Provenance, Span, TraceContext, Tracer, Value},
};

const SECOND: i64 = 1_000_000_000;

/// Passes values on as readings come from outside, but for negative ones; from 100 on each opens an alert. Notes which trace is in
/// hand.
#[derive(Default)]
struct Door(Arc<std::sync::Mutex<Vec<Option<u128>>>>);

impl Stage for Door {
    const SPEC: Spec = Spec {
        name: "door",
        inputs: &[Input { stream: "INGEST", prefix: "ingest", sharded: false }],
        output_stream: "DETECTIONS",
        output_prefix: "scores",
        stateful: false,
        state_version: 1,
    };
    const DEFAULTS: &'static str = "[door]";
    type Config = NoConfig;
    type Input = Readings;
    type Output = SamplesBuilder;

    fn new(_: NoConfig, _: &Scope) -> Result<Self, Vec<String>> {
        Ok(Self::default())
    }

    fn outputs(&self) -> Vec<SamplesBuilder> {
        vec![SamplesBuilder::default()]
    }

    fn decode(&self, message: &Incoming) -> Result<Readings, (Reason, String)> {
        Readings::decode(&message.payload).map_err(|error| (Reason::Malformed, error.to_string()))
    }

    fn rows(input: &Readings) -> usize {
        input.rows.len()
    }

    fn process(
        &mut self,
        _: &Incoming,
        input: &Readings,
        rows: Range<usize>,
        out: &mut Outbox<SamplesBuilder>,
    ) -> usize {
        for row in rows.clone() {
            let value = input.value[row];
            self.0.lock().unwrap().push(current::trace());
            if value >= 100.0 {
                let subject = format!("alerts.site.minor.{}", names::encode("pump 1"));
                out.alerts.push(AlertMessage { subject, payload: event(value).to_json() });
            }
            if value >= 0.0 {
                out.main[0].push(input.rows.name(row), input.rows.time[row], value, 0, 0);
            }
            if out.is_full() {
                return row + 1;
            }
        }
        rows.end
    }
}

fn event(value: f64) -> CloudEvent {
    let alert = Alert {
        alert: format!("a{value}"),
        phase: Phase::Opened,
        severity: Severity::Minor,
        site: "site".into(),
        device: "pump 1".into(),
        opened: "2026-01-01T00:00:00Z".into(),
        score: 1.0,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: vec![],
        heads: vec![],
        bundle: "ab".into(),
    };
    CloudEvent::new(alert, 0, "2026-01-01T00:00:00Z".into())
}

/// A stage over a bus, with its clock and the spans that it finishes.
struct Rig {
    bus: MemoryBus,
    clock: Arc<ManualClock>,
    telemetry: Arc<Telemetry>,
    spans: mpsc::Receiver<Span>,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new(per_second: f64) -> Self {
        Self::on(MemoryBus::new(7, Faults::default()), per_second)
    }

    fn on(bus: MemoryBus, per_second: f64) -> Self {
        ["INGEST", "READINGS", "DETECTIONS", "SIDE", "HEALTH"].iter().for_each(|stream| bus.create(stream, 7));
        let clock = Arc::new(ManualClock::new(10 * SECOND));
        let telemetry = Arc::new(Telemetry::for_tests());
        let (tracer, spans) = Tracer::new(per_second, 1_000, clock.clone());
        telemetry.trace_by(tracer);
        Self { bus, clock, telemetry, spans, _folder: tempfile::tempdir().unwrap() }
    }

    fn start<S: Stage>(&self, stage: S, change: impl FnOnce(&mut CommonConfig)) -> Instance {
        self.start_with(stage, Queue::none(), change)
    }

    fn start_with<S: Stage>(
        &self,
        stage: S,
        direct: Queue<S::Input>,
        change: impl FnOnce(&mut CommonConfig),
    ) -> Instance {
        let mut config = CommonConfig::for_tests(self._folder.path());
        change(&mut config);
        let (stop, stopped) = watch::channel(false);
        let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
        let (telemetry, clock) = (self.telemetry.clone(), self.clock.clone());
        let outside = Outside { bus: self.bus.clone(), direct, telemetry, clock };
        let run = async move { super::run(stage, scope, &config, outside, stopped).await };
        Instance { stop, task: tokio::spawn(run) }
    }

    /// Waits for so many rows of output.
    async fn rows(&self, rows: usize) {
        for _ in 0..2_000 {
            if sums(&self.bus).len() >= rows {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{rows} rows never came out");
    }

    fn spans(&mut self) -> Vec<Span> {
        std::iter::from_fn(|| self.spans.try_recv().ok()).collect()
    }

    fn outputs(&self) -> Vec<Provenance> {
        self.bus.provenances("DETECTIONS", "scores")
    }
}

fn context(n: u64) -> TraceContext {
    TraceContext { trace: u128::from(n) << 70 | 1, span: n + 1 }
}

fn store(rig: &Rig, value: f64, provenance: &Provenance) {
    let mut headers = Vec::new();
    provenance.put(&mut headers);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    rig.bus.store_with("READINGS", "readings.site.0", &headers, batch([value], 1));
}

fn attribute(span: &Span, name: &str) -> Option<Value> {
    span.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_merges_messages_has_the_oldest_arrival_and_all_their_traces() {
    let mut rig = Rig::new(0.0);
    let of = |arrived, traces: &[u64]| Provenance { arrived, contexts: traces.iter().map(|n| context(*n)).collect() };
    store(&rig, 1.0, &of(Some(7 * SECOND), &[]));
    store(&rig, 2.0, &of(Some(5 * SECOND), &[1, 2]));
    store(&rig, 3.0, &of(None, &[2]));
    let stage = rig.start(Sums::default(), |_| {});
    rig.rows(3).await;
    stage.stop().await.unwrap();
    let outputs = rig.outputs();
    assert_eq!(outputs[0].arrived, Some(5 * SECOND));
    let traces: Vec<u128> = outputs[0].contexts.iter().map(|context| context.trace).collect();
    assert_eq!(traces, [context(1).trace, context(2).trace]);
    // Each trace has a span that is a child of what came in, and whose own context went out; it names the other one.
    let spans = rig.spans();
    assert_eq!(spans.len(), 2, "{spans:?}");
    for (span, (came, out)) in spans.iter().zip([1, 2].map(context).into_iter().zip(outputs[0].contexts.iter())) {
        assert_eq!((span.name, span.context, span.parent), ("sums", out, Some(came.span)));
        assert_eq!(span.links.len(), 1);
        assert_eq!(attribute(span, "eddy.rows"), Some(Value::Number(3)));
        assert_eq!(attribute(span, "eddy.input.first_sequence"), Some(Value::Number(2)));
        assert_eq!(attribute(span, "eddy.input.last_sequence"), Some(Value::Number(3)));
    }
    let text = rig.telemetry.render_openmetrics();
    let line = format!("le=\"5.0\"}} 1 # {{trace_id=\"{}\"}} 5.0 10.000\n", context(1).trace_id());
    assert!(text.contains(&line), "{line} is missing in {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_each_trace_an_output_begins_when_that_trace_came() {
    let mut rig = Rig::new(1e6);
    let ask = |n| context(n).to_string();
    let door = Door(Arc::default());
    let seen = door.0.clone();
    let stage = rig.start(door, |_| {});
    rig.bus.store_with("INGEST", "ingest.site.d", &[("traceparent", &ask(1))], batch([-1.0], 1));
    for _ in 0..2_000 {
        if !seen.lock().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.clock.set(20 * SECOND);
    rig.bus.store_with("INGEST", "ingest.site.d", &[("traceparent", &ask(2))], batch([1.0], 1));
    rig.rows(1).await;
    stage.stop().await.unwrap();
    let spans = rig.spans();
    let starts: Vec<_> = spans.iter().filter(|span| span.name == "door").map(|span| span.start / SECOND).collect();
    assert_eq!(starts, [10, 20], "{spans:?}");
}

#[tokio::test]
async fn what_is_logged_of_an_output_names_its_trace_although_the_loop_has_gone_on() {
    let rig = Rig::on(MemoryBus::new(7, Faults { slow: 1_000, ..Faults::default() }), 0.0);
    let mut config = CommonConfig::for_tests(rig._folder.path()).telemetry;
    config.log = "eddy_runtime=debug".into();
    let path = rig._folder.path().join("log");
    let file = Arc::new(std::fs::File::create(&path).unwrap());
    let subscriber = crate::telemetry::log::subscriber(&config, "sums", 0, false, file).unwrap();
    let _guard = tracing::subscriber::set_default(subscriber);
    let stage = rig.start(Sums::default(), |_| {});
    // The seventh would be late. The first is out before the others come, so that they cannot all be of one output.
    for n in 1..=6 {
        store(&rig, 1.0, &Provenance { arrived: None, contexts: [context(n)].into_iter().collect() });
        if n == 1 {
            rig.rows(1).await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    rig.rows(6).await;
    stage.stop().await.unwrap();
    let outputs = rig.outputs();
    let first = outputs.iter().filter_map(|output| output.contexts.first());
    let told: Vec<String> = first.map(|context| format!("sums/0 trace_id={}", context.trace_id())).collect();
    let log = std::fs::read_to_string(path).unwrap();
    let lines = log.lines().filter(|line| line.contains("an output with a trace is out"));
    let named: Vec<String> = lines.map(|line| line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert!(told.len() > 1, "{told:?}");
    assert_eq!(named, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_carries_a_bounded_number_of_traces_and_each_part_of_a_message_its_own() {
    let rig = Rig::new(0.0);
    let contexts: Contexts = (0..2).map(context).collect();
    let mut headers = Vec::new();
    Provenance { arrived: Some(SECOND), contexts }.put(&mut headers);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    rig.bus.store_with("READINGS", "readings.site.0", &headers, batch((0..200).map(|n| f64::from(n) + 0.5), 50));
    for n in 10..10 + 2 * CONTEXTS_MAX as u64 {
        store(&rig, 1.0, &Provenance { arrived: None, contexts: [context(n)].into_iter().collect() });
    }
    let stage = rig.start(Sums::default(), |config| config.limits.output_bytes_max = 1_500);
    rig.rows(200).await;
    reaches(&rig.bus, 1 + 2 * CONTEXTS_MAX as u64).await;
    stage.stop().await.unwrap();
    let outputs = rig.outputs();
    assert!(outputs.len() > 3, "{}", outputs.len());
    // The parts of the long message all come from where it came from.
    for part in &outputs[..3] {
        assert_eq!(part.arrived, Some(SECOND));
        let traces: Vec<u128> = part.contexts.iter().map(|context| context.trace).collect();
        assert_eq!(traces[..2], [context(0).trace, context(1).trace]);
    }
    assert!(outputs.iter().all(|output| output.contexts.iter().count() <= CONTEXTS_MAX));
    assert!(outputs.iter().any(|output| output.contexts.iter().count() == CONTEXTS_MAX));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replayed_in_silence_is_not_told_again() {
    let mut rig = Rig::new(0.0);
    for n in 0..3 {
        let contexts = [context(n)].into_iter().collect();
        store(&rig, 1.0, &Provenance { arrived: Some(SECOND), contexts });
    }
    // Nothing is saved, so that the next instance replays all of it.
    let stage = rig.start(Sums::default(), |config| config.state.commit_interval_ms = 3_600_000);
    rig.rows(3).await;
    stage.task.abort();
    let _ = stage.task.await;
    let before = rig.spans().len();
    assert_eq!(before, 3);
    store(&rig, 1.0, &Provenance { arrived: Some(2 * SECOND), contexts: [context(9)].into_iter().collect() });
    let stage = rig.start(Sums::default(), |_| {});
    rig.rows(4).await;
    stage.stop().await.unwrap();
    let spans = rig.spans();
    assert_eq!(spans.iter().map(|span| span.context.trace).collect::<Vec<_>>(), [context(9).trace]);
    let last = rig.outputs().into_iter().rfind(|output| output.arrived.is_some()).unwrap();
    assert_eq!((last.arrived, last.contexts.iter().count()), (Some(2 * SECOND), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_stage_begins_as_many_traces_as_it_may_and_takes_over_those_of_devices() {
    let mut rig = Rig::new(2.0);
    let device = context(5);
    let not_sampled = device.to_string().replace("-01", "-00");
    let subject = format!("ingest.site.{}", names::encode("pump 1"));
    // What a device says of arrivals and further traces is not believed.
    let lies =
        [("traceparent", device.to_string()), ("Eddy-Arrived", "1".into()), ("Eddy-Traces", context(6).to_string())];
    let lies: Vec<(&str, &str)> = lies.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let more = [("traceparent", not_sampled.as_str()), ("Eddy-Traces", &context(9).to_string())];
    rig.bus.store_with("INGEST", &subject, &more, batch([1.0], 1));
    rig.bus.store_with("INGEST", &subject, &lies, batch([2.0], 1));
    rig.bus.store_with("INGEST", &subject, &[("traceparent", &context(7).to_string())], batch([3.0], 1));
    rig.bus.store_with("INGEST", &subject, &[("traceparent", &context(8).to_string())], batch([4.0], 1));
    let door = Door::default();
    let in_hand = door.0.clone();
    let stage = rig.start(door, |_| {});
    rig.rows(4).await;
    // The bucket is empty: nothing more begins before it is filled.
    rig.bus.store_with("INGEST", &subject, &[], batch([5.0], 1));
    rig.rows(5).await;
    rig.clock.set(11 * SECOND);
    rig.bus.store_with("INGEST", &subject, &[], batch([6.0], 1));
    rig.rows(6).await;
    stage.stop().await.unwrap();
    let outputs: Vec<Provenance> = rig.outputs().into_iter().filter(|output| output.arrived.is_some()).collect();
    let traces = |output: &Provenance| output.contexts.iter().map(|context| context.trace).collect::<Vec<_>>();
    // The memory bus stores message n at n nanoseconds.
    assert_eq!((outputs[0].arrived, traces(&outputs[0])), (Some(1), vec![device.trace, context(7).trace]));
    assert_eq!(traces(&outputs[1]), []);
    let own = traces(&outputs[2]);
    assert_eq!(own.len(), 1);
    // What is logged meanwhile names the first trace of its pull.
    let first = Some(device.trace);
    assert_eq!(*in_hand.lock().unwrap(), [first, first, first, first, None, Some(own[0])]);
    let spans = rig.spans();
    let ingest: Vec<&Span> = spans.iter().filter(|span| span.name == "ingest").collect();
    assert_eq!(ingest.iter().map(|span| span.parent).collect::<Vec<_>>(), [Some(6), Some(8), None]);
    assert_eq!((ingest[0].start, ingest[0].end, ingest[2].context.trace), (2, 10 * SECOND, own[0]));
    assert_eq!(attribute(ingest[0], "eddy.device"), Some("pump 1".into()));
    let door = spans.iter().find(|span| span.name == "door" && span.context.trace == own[0]).unwrap();
    assert_eq!(door.parent, Some(ingest[2].context.span));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alert_has_a_span_whose_context_its_message_carries() {
    let mut rig = Rig::new(1e6);
    rig.bus.store("INGEST", "ingest.site.d", batch([1.0, 100.0, 101.0], 1));
    let stage = rig.start(Door::default(), |_| {});
    rig.rows(3).await;
    stage.stop().await.unwrap();
    let alerts = rig.bus.provenances("DETECTIONS", "alerts");
    let spans = rig.spans();
    let door = spans.iter().find(|span| span.name == "door").unwrap();
    assert_eq!(attribute(door, "eddy.alert_ids"), Some("a100,a101".into()));
    let own: Vec<&Span> = spans.iter().filter(|span| span.name == "alert").collect();
    assert_eq!((own.len(), alerts.len()), (2, 2));
    for (alert, span) in alerts.iter().zip(&own) {
        assert_eq!((alert.contexts.first(), span.parent), (Some(span.context), Some(door.context.span)));
        assert_eq!(attribute(span, "eddy.severity"), Some("minor".into()));
        assert_eq!(attribute(span, "eddy.device"), Some("pump 1".into()));
    }
    assert_eq!(attribute(own[1], "eddy.alert"), Some("a101".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_input_is_traced_from_its_arrival_on() {
    let mut rig = Rig::new(1e6);
    let bounds = Bounds { requests_max: 10, bytes_max: 1 << 20, linger: Duration::ZERO };
    let (door, queue) = direct::entrance(bounds, rig.telemetry.clone(), rig.clock.clone());
    let stage = rig.start_with(Door::default(), queue, |_| {});
    let payload = batch([1.0], 1);
    let decoded = Readings::decode(&payload).unwrap();
    let message = direct::message("ingest.site.d".into(), None, payload, 9 * SECOND);
    door.offer(message, Ok(decoded), Some(context(3))).await.unwrap();
    stage.stop().await.unwrap();
    let output = &rig.outputs()[0];
    assert_eq!((output.arrived, output.contexts.first().unwrap().trace), (Some(9 * SECOND), context(3).trace));
    let spans = rig.spans();
    assert_eq!((spans[0].name, spans[0].parent, spans[0].start), ("ingest", Some(context(3).span), 9 * SECOND));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_traces_are_passed_on_as_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[], Faults::default());
    let mut headers = Vec::new();
    Provenance { arrived: Some(3), contexts: [context(1)].into_iter().collect() }.put(&mut headers);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    bus.store_with("READINGS", "readings.site.0", &headers, batch([50.0], 1));
    let instance = start(&bus, folder.path(), |_| {});
    reaches(&bus, 1).await;
    instance.stop().await.unwrap();
    let output = &bus.provenances("DETECTIONS", "scores")[0];
    assert_eq!((output.arrived, output.contexts.first()), (Some(3), Some(context(1))));
    assert_eq!(bus.provenances("DETECTIONS", "alerts")[0].contexts.first(), Some(context(1)));
}
