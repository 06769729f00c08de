//! What a stage tells about itself: metrics, health by progress, logs.
//!
//! Everything is counted per batch, never per row, and no label names a device: the number of time series that a
//! gateway exports does not grow with its fleet.

mod age;
mod gateway;
mod http;
pub(crate) mod log;
mod metric;
mod openmetrics;
mod process;
mod progress;
mod scores;
mod sinks;
mod start;
mod sync;

use std::{
    sync::{Mutex, OnceLock},
    time::Duration,
};

use eddy_schemas::{health::Condition, side::Reason};
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub use http::{routes, serve};
pub use log::start as start_logs;
pub use metric::Metric;
pub use process::Process;
pub use scores::{TAIL_DECADES, Tails};

use self::progress::Progress;
use crate::trace::Tracer;

/// The metrics and the progress of one stage instance.
pub struct Telemetry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    labels: Vec<Label>,
    progress: Progress,
    /// Role and digest of the bundles that were told last.
    bundles: Mutex<Vec<(&'static str, String)>>,
    connections: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
    /// Processes that are told beside this one.
    others: OnceLock<process::Others>,
    links: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    start: start::Start,
    tracer: OnceLock<Tracer>,
    exemplars: age::Exemplars,
}

impl Telemetry {
    /// For the instance of `stage` that serves `shard`; unhealthy when something is pending and nothing moved for
    /// `stall_after`.
    pub fn new(stage: &str, shard: u32, stall_after: Duration) -> Self {
        let telemetry = Self::silent(stage, shard, stall_after);
        for metric in Metric::ALL {
            // Processor time is told apart.
            if metric.label().is_none() && metric.is_counter() && metric != Metric::Cpu {
                telemetry.add(metric, None, 0);
            }
        }
        // What rises from nothing is seen only if nothing was there to be seen.
        Reason::ALL.into_iter().for_each(|reason| telemetry.rejected(reason, 0));
        telemetry
    }

    /// For a supervisor, of which no stage's counters are told before it counts.
    pub fn supervisor(name: &str) -> Self {
        let telemetry = Self::silent(name, 0, Duration::MAX);
        ["active", "refused"].into_iter().for_each(|outcome| telemetry.rollout(outcome, 0));
        telemetry
    }

    fn silent(stage: &str, shard: u32, stall_after: Duration) -> Self {
        let buckets = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        // From a minute to a month.
        let label_lag = [60.0, 600.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0];
        let named = Matcher::Full(Metric::LabelLag.name().to_owned());
        let builder = PrometheusBuilder::new().set_buckets(&buckets);
        // Buckets are refused only if there are none.
        let ages = Matcher::Full(Metric::Age.name().to_owned());
        let built = builder
            .and_then(|builder| builder.set_buckets_for_metric(named, &label_lag))
            .and_then(|builder| builder.set_buckets_for_metric(ages, &age::BUCKETS));
        let recorder = match built {
            Ok(builder) => builder.build_recorder(),
            Err(_) => PrometheusBuilder::new().build_recorder(),
        };
        for metric in Metric::ALL {
            metric.describe(&recorder);
        }
        let labels = vec![Label::new("stage", stage.to_owned()), Label::new("shard", shard.to_string())];
        let handle = recorder.handle();
        Self {
            recorder,
            handle,
            labels,
            progress: Progress::new(stall_after),
            bundles: Mutex::new(Vec::new()),
            connections: OnceLock::new(),
            others: OnceLock::new(),
            links: OnceLock::new(),
            start: start::Start::now(),
            tracer: OnceLock::new(),
            exemplars: age::Exemplars::default(),
        }
    }

    /// Counts, and serves nothing.
    #[cfg(any(test, feature = "contract"))]
    pub fn for_tests() -> Self {
        Self::new("test", 0, Duration::from_secs(30))
    }

    /// Where to ask, at each scrape, how often a connection was made. Only the first call counts.
    pub fn count_connections(&self, connections: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.connections.set(Box::new(connections));
    }

    /// Which bundles run: role and digest of each.
    pub fn bundles(&self, now: Vec<(&'static str, String)>) {
        let Ok(mut told) = self.bundles.lock() else { return };
        if *told == now {
            return;
        }
        let set = |(role, digest): &(&'static str, String), value: f64| {
            let mut labels = self.labels.clone();
            labels.extend([Label::new("bundle", digest.clone()), Label::from_static_parts("role", role)]);
            self.recorder.register_gauge(&Key::from_parts(Metric::Bundle.name(), labels), &METADATA).set(value);
        };
        told.iter().for_each(|gone| set(gone, 0.0));
        now.iter().for_each(|there| set(there, 1.0));
        *told = now;
    }

    /// The metrics as Prometheus text.
    pub fn render(&self) -> String {
        self.set(Metric::ProgressAge, self.progress.age().as_secs_f64());
        if let Some(connections) = self.connections.get() {
            let key = self.key(Metric::Connections, None);
            self.recorder.register_counter(&key, &METADATA).absolute(connections());
        }
        let key = self.key(Metric::FilesRefused, None);
        self.recorder.register_counter(&key, &METADATA).absolute(crate::fresh::refused());
        self.tell_spans();
        if let Some(links) = self.links.get() {
            self.set(Metric::SyncLinks, f64::from(u8::from(links())));
        }
        let mut processes = String::new();
        self.processes(&mut processes);
        self.handle.render() + &processes
    }

    /// The same as OpenMetrics, with exemplars.
    pub fn render_openmetrics(&self) -> String {
        let ages = Metric::Age.name();
        openmetrics::of(&self.render(), |name, bound| if name == ages { self.exemplars.of(bound) } else { None })
    }

    /// Folds what the histograms recorded into their buckets; until then every value is kept (INV-5). [`serve`] does it.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn key(&self, metric: Metric, label: Option<&'static str>) -> Key {
        let mut labels = self.labels.clone();
        if let (Some(name), Some(value)) = (metric.label(), label) {
            labels.push(Label::from_static_parts(name, value));
        }
        Key::from_parts(metric.name(), labels)
    }

    fn add(&self, metric: Metric, label: Option<&'static str>, n: u64) {
        self.recorder.register_counter(&self.key(metric, label), &METADATA).increment(n);
    }

    fn set(&self, metric: Metric, value: f64) {
        self.recorder.register_gauge(&self.key(metric, None), &METADATA).set(value);
    }

    fn observe(&self, metric: Metric, seconds: Duration) {
        self.recorder.register_histogram(&self.key(metric, None), &METADATA).record(seconds.as_secs_f64());
    }

    /// Messages were pulled, or came directly.
    pub fn received(&self, messages: u64, bytes: u64) {
        self.add(Metric::ReceivedMessages, None, messages);
        self.add(Metric::ReceivedBytes, None, bytes);
    }

    /// Rows were read from the messages pulled.
    pub fn received_rows(&self, rows: u64) {
        self.add(Metric::ReceivedRows, None, rows);
    }

    /// An output went out.
    pub fn emitted(&self, rows: u64, alerts: u64) {
        self.add(Metric::EmittedMessages, None, 1);
        self.add(Metric::EmittedRows, None, rows);
        self.add(Metric::EmittedAlerts, None, alerts);
        self.first_output();
    }

    /// Rows came twice.
    pub fn duplicates(&self, rows: u64) {
        self.add(Metric::DuplicateRows, None, rows);
    }

    /// Rows came late.
    pub fn late(&self, rows: u64) {
        self.add(Metric::LateRows, None, rows);
    }

    /// Input was put aside.
    pub fn rejected(&self, reason: Reason, readings: u64) {
        self.add(Metric::RejectedReadings, Some(reason.as_str()), readings);
    }

    /// The stage decided something `n` times.
    pub fn decision(&self, kind: &'static str, n: u64) {
        self.add(Metric::Decisions, Some(kind), n);
    }

    /// A device's condition began or ended.
    pub fn health(&self, condition: Condition, active: bool) {
        let name = match (condition, active) {
            (Condition::Silence, true) => "silence",
            (Condition::Stuck, true) => "stuck",
            (Condition::Range, true) => "range",
            (Condition::ClockOffset, true) => "clock_offset",
            (_, false) => "ended",
        };
        self.add(Metric::HealthConditions, Some(name), 1);
    }

    /// A pull was processed and its output is out.
    pub fn batch_seconds(&self, elapsed: Duration) {
        self.observe(Metric::BatchSeconds, elapsed);
    }

    /// Labels will be told: none was yet, which is said so that the first one is seen as a rise.
    pub fn expect_labels(&self) {
        // Registering is all: the handle is for recording.
        let _ = self.recorder.register_histogram(&self.key(Metric::LabelLag, None), &METADATA);
    }

    /// An operator said what an alert was, so long after it opened.
    pub fn label_lag(&self, lag: Duration) {
        self.observe(Metric::LabelLag, lag);
    }

    /// An output was acknowledged by its stream.
    pub fn publish_seconds(&self, elapsed: Duration) {
        self.observe(Metric::PublishSeconds, elapsed);
    }

    /// State was committed.
    pub fn commit_seconds(&self, elapsed: Duration) {
        self.observe(Metric::CommitSeconds, elapsed);
    }

    /// The state's size on disk.
    pub fn state_bytes(&self, bytes: u64) {
        self.set(Metric::StateBytes, bytes as f64);
    }

    /// A publish was refused by its guard.
    pub fn fenced(&self) {
        self.add(Metric::Fenced, None, 1);
    }

    /// A consumer was reset because a feed lost its place.
    pub fn consumer_reset(&self) {
        self.add(Metric::ConsumerResets, None, 1);
    }

    /// The stage panicked.
    pub fn panicked(&self) {
        self.add(Metric::Panics, None, 1);
    }
}

static METADATA: Metadata<'static> = Metadata::new("eddy", Level::INFO, None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered_with_its_labels() {
        let telemetry = Telemetry::new("detect", 3, Duration::from_secs(1));
        telemetry.emitted(10, 2);
        telemetry.rejected(Reason::Malformed, 7);
        telemetry.batch_seconds(Duration::from_millis(3));
        telemetry.bundles(vec![("active", "old".into())]);
        telemetry.bundles(vec![("active", "new".into()), ("shadow", "old".into())]);
        let text = telemetry.render();
        for line in [
            "eddy_emitted_rows_total{stage=\"detect\",shard=\"3\"} 10",
            "eddy_rejected_readings_total{stage=\"detect\",shard=\"3\",reason=\"malformed\"} 7",
            "eddy_panics_total{stage=\"detect\",shard=\"3\"} 0",
            "eddy_batch_seconds_bucket{stage=\"detect\",shard=\"3\",le=\"0.005\"} 1",
            "eddy_bundles{stage=\"detect\",shard=\"3\",bundle=\"old\",role=\"active\"} 0",
            "eddy_bundles{stage=\"detect\",shard=\"3\",bundle=\"new\",role=\"active\"} 1",
            "# HELP eddy_late_rows_total",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn upkeep_loses_nothing_and_connections_are_asked_for() {
        let telemetry = Telemetry::for_tests();
        telemetry.count_connections(|| 4);
        telemetry.publish_seconds(Duration::from_millis(1));
        telemetry.upkeep();
        telemetry.publish_seconds(Duration::from_millis(1));
        let text = telemetry.render();
        for line in [
            "eddy_publish_seconds_count{stage=\"test\",shard=\"0\"} 2",
            "eddy_connections_total{stage=\"test\",shard=\"0\"} 4",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
    }
}
