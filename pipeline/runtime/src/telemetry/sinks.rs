//! What notify tells of its sinks, whose names come from the config: there are few of them.

use metrics::{Key, Label, Recorder as _};

use super::{METADATA, Metric, Telemetry};

impl Telemetry {
    /// Counts `n` for a sink of alerts.
    pub fn sink(&self, metric: Metric, sink: &str, n: u64) {
        self.recorder.register_counter(&self.sink_key(metric, sink), &METADATA).increment(n);
    }

    /// How many alerts a sink has read and not settled.
    pub fn sink_pending(&self, sink: &str, alerts: u64) {
        let key = self.sink_key(Metric::SinkPendingAlerts, sink);
        self.recorder.register_gauge(&key, &METADATA).set(alerts as f64);
    }

    fn sink_key(&self, metric: Metric, sink: &str) -> Key {
        let mut labels = self.labels.clone();
        labels.push(Label::new("sink", sink.to_owned()));
        Key::from_parts(metric.name(), labels)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sinks_are_told_apart_and_checked_too() {
        let telemetry = Telemetry::new("notify", 0, Duration::from_secs(1));
        telemetry.sink(Metric::DeliveredAlerts, "phone", 2);
        telemetry.sink_pending("phone", 7);
        let text = telemetry.render();
        for line in [
            "eddy_delivered_alerts_total{stage=\"notify\",shard=\"0\",sink=\"phone\"} 2",
            "eddy_sink_pending_alerts{stage=\"notify\",shard=\"0\",sink=\"phone\"} 7",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
        assert_eq!(telemetry.health_check(), Ok(()));
        telemetry.also_check(|| Err("phone".into()));
        assert_eq!(telemetry.health_check(), Err("phone".into()));
    }
}
