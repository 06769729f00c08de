//! What sync and export tell: of their classes, whose names are few, and of sync's link.

use std::time::Duration;

use metrics::Recorder as _;

use super::{METADATA, Metric, Telemetry};

impl Telemetry {
    /// Counts `n` for a class of what is sent.
    pub fn count_class(&self, metric: Metric, class: &'static str, n: u64) {
        self.add(metric, Some(class), n);
    }

    /// What there is of a class now.
    pub fn gauge_class(&self, metric: Metric, class: &'static str, value: u64) {
        self.recorder.register_gauge(&self.key(metric, Some(class)), &METADATA).set(value as f64);
    }

    /// What is seen of the link.
    pub fn link(&self, bytes_a_second: f64, round_trip: Duration, in_flight_bytes: u64, held_classes: usize) {
        self.set(Metric::SyncLinkBytes, bytes_a_second);
        self.set(Metric::SyncRoundTripSeconds, round_trip.as_secs_f64());
        self.set(Metric::SyncInFlightBytes, in_flight_bytes as f64);
        self.set(Metric::SyncHeldClasses, held_classes as f64);
    }

    /// Where to ask, at each scrape, whether there is a connection to the region. Only the first call counts.
    pub fn watch_link(&self, is_connected: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.links.set(Box::new(is_connected));
    }

    /// A round of exporting failed.
    pub fn export_failed(&self) {
        self.add(Metric::ExportFailures, None, 1);
    }

    /// An alert took so long that all else has to wait.
    pub fn congested(&self) {
        self.add(Metric::SyncCongestions, None, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_told_apart() {
        let telemetry = Telemetry::for_tests();
        telemetry.count_class(Metric::SyncSentEntries, "alerts", 2);
        telemetry.gauge_class(Metric::SyncQueueBytes, "deltas", 9);
        telemetry.watch_link(|| true);
        telemetry.link(65_536.0, Duration::from_millis(20), 7, 3);
        let text = telemetry.render();
        for line in [
            "eddy_sync_sent_entries_total{stage=\"test\",shard=\"0\",class=\"alerts\"} 2",
            "eddy_sync_queue_bytes{stage=\"test\",shard=\"0\",class=\"deltas\"} 9",
            "eddy_sync_links{stage=\"test\",shard=\"0\"} 1",
            "eddy_sync_link_bytes{stage=\"test\",shard=\"0\"} 65536",
            "eddy_sync_round_trip_seconds{stage=\"test\",shard=\"0\"} 0.02",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
    }
}
