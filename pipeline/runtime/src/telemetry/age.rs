//! How old readings are at each hop, with the traces that show why.

use std::sync::{Mutex, PoisonError};

use eddy_schemas::Timestamp;
use metrics::Recorder as _;

use super::{METADATA, Metric, Telemetry};
use crate::trace::{TraceContext, Tracer};

/// Upper bounds, in seconds: from a hop on an idle gateway to an alert that waited behind a backlog.
pub(super) const BUCKETS: [f64; 15] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// An output of which a trace tells more.
#[derive(Clone, Copy)]
struct Exemplar {
    trace: TraceContext,
    seconds: f64,
    at: Timestamp,
}

/// The newest one of each bucket; the last is that of all above.
#[derive(Default)]
pub(super) struct Exemplars(Mutex<[Option<Exemplar>; BUCKETS.len() + 1]>);

impl Exemplars {
    fn put(&self, exemplar: Exemplar) {
        let bucket = BUCKETS.iter().position(|bound| exemplar.seconds <= *bound).unwrap_or(BUCKETS.len());
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[bucket] = Some(exemplar);
    }

    /// That of a bucket's line, as OpenMetrics writes it; `le` is the bucket's bound.
    pub(super) fn of(&self, le: f64) -> Option<String> {
        let bucket = BUCKETS.iter().position(|bound| *bound == le).unwrap_or(BUCKETS.len());
        let Exemplar { trace, seconds, at } = self.0.lock().unwrap_or_else(PoisonError::into_inner)[bucket]?;
        Some(format!(" # {{trace_id=\"{}\"}} {seconds:?} {:.3}", trace.trace_id(), at as f64 / 1e9))
    }
}

impl Telemetry {
    /// Spans go to `tracer` from here on. Only the first call counts.
    pub fn trace_by(&self, tracer: Tracer) {
        let _ = self.tracer.set(tracer);
    }

    /// Where spans go; `None`: nowhere.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.get()
    }

    /// An output was acknowledged `seconds` after the arrival of its oldest reading. `trace`: one that it is part of.
    pub fn age(&self, seconds: f64, trace: Option<TraceContext>, now: Timestamp) {
        // A clock that was set back makes nothing younger than new.
        let seconds = seconds.max(0.0);
        self.recorder.register_histogram(&self.key(Metric::Age, None), &METADATA).record(seconds);
        if let Some(trace) = trace {
            self.exemplars.put(Exemplar { trace, seconds, at: now });
        }
    }

    /// Counts what became of spans.
    pub(super) fn tell_spans(&self) {
        let Some(tracer) = self.tracer() else { return };
        let (finished, dropped) = tracer.counts();
        for (metric, n) in [(Metric::Spans, finished), (Metric::SpansDropped, dropped)] {
            self.recorder.register_counter(&self.key(metric, None), &METADATA).absolute(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_age_has_its_bucket_and_its_newest_trace_as_exemplar() {
        let telemetry = Telemetry::new("detect", 3, Duration::from_secs(1));
        let trace = |n| Some(crate::trace::TraceContext { trace: n, span: 1 });
        telemetry.age(0.004, trace(7), 1_500_000_000);
        telemetry.age(0.0041, trace(8), 2_500_000_000);
        telemetry.age(0.0042, None, 3_500_000_000);
        telemetry.age(99.0, trace(9), 4_500_000_000);
        telemetry.age(-1.0, None, 0);
        let bucket = "eddy_age_seconds_bucket{stage=\"detect\",shard=\"3\",le=";
        let text = telemetry.render();
        for line in
            [format!("{bucket}\"0.001\"}} 1\n"), format!("{bucket}\"0.005\"}} 4\n"), format!("{bucket}\"60\"}} 4\n")]
        {
            assert!(text.contains(&line), "{line:?} is missing in:\n{text}");
        }
        assert!(!text.contains("trace_id"), "the classic text has none");
        let text = telemetry.render_openmetrics();
        for line in [
            format!("{bucket}\"0.005\"}} 4 # {{trace_id=\"{:032x}\"}} 0.0041 2.500\n", 8),
            format!("{bucket}\"+Inf\"}} 5 # {{trace_id=\"{:032x}\"}} 99.0 4.500\n", 9),
            format!("{bucket}\"60.0\"}} 4\n"),
        ] {
            assert!(text.contains(&line), "{line:?} is missing in:\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }
}
