//! The closed list of metrics.

use metrics::{KeyName, Recorder, Unit};

/// A metric: `eddy_<noun>_<unit>`, counters end in `_total`.
#[allow(missing_docs, reason = "each one's help text says what it is")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    ReceivedMessages,
    ReceivedRows,
    EmittedMessages,
    EmittedRows,
    EmittedAlerts,
    DuplicateRows,
    LateRows,
    RejectedReadings,
    Decisions,
    HealthConditions,
    Bundle,
    LagMessages,
    LagSeconds,
    InFlightMessages,
    ProgressAge,
    BatchSeconds,
    PublishSeconds,
    CommitSeconds,
    StateBytes,
    Fenced,
    ConsumerResets,
    Panics,
    Backpressure,
    Connections,
    FilesRefused,
    DeliveredAlerts,
    FilteredAlerts,
    DeliveryRetries,
    UndeliveredAlerts,
    SinkGaps,
    SinkPendingAlerts,
    SyncSentBytes,
    SyncSentEntries,
    SyncGapEntries,
    SyncQueueEntries,
    SyncQueueBytes,
    SyncQueueGapEntries,
    SyncLinkBytes,
    SyncRoundTripSeconds,
    SyncInFlightBytes,
    SyncHeldClasses,
    SyncCongestions,
    ExportedRows,
    ExportedBytes,
    ExportMissing,
    ExportPendingMessages,
    ExportFailures,
    Age,
    Spans,
    SpansDropped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 50] = [
        Self::ReceivedMessages,
        Self::ReceivedRows,
        Self::EmittedMessages,
        Self::EmittedRows,
        Self::EmittedAlerts,
        Self::DuplicateRows,
        Self::LateRows,
        Self::RejectedReadings,
        Self::Decisions,
        Self::HealthConditions,
        Self::Bundle,
        Self::LagMessages,
        Self::LagSeconds,
        Self::InFlightMessages,
        Self::ProgressAge,
        Self::BatchSeconds,
        Self::PublishSeconds,
        Self::CommitSeconds,
        Self::StateBytes,
        Self::Fenced,
        Self::ConsumerResets,
        Self::Panics,
        Self::Backpressure,
        Self::Connections,
        Self::FilesRefused,
        Self::DeliveredAlerts,
        Self::FilteredAlerts,
        Self::DeliveryRetries,
        Self::UndeliveredAlerts,
        Self::SinkGaps,
        Self::SinkPendingAlerts,
        Self::SyncSentBytes,
        Self::SyncSentEntries,
        Self::SyncGapEntries,
        Self::SyncQueueEntries,
        Self::SyncQueueBytes,
        Self::SyncQueueGapEntries,
        Self::SyncLinkBytes,
        Self::SyncRoundTripSeconds,
        Self::SyncInFlightBytes,
        Self::SyncHeldClasses,
        Self::SyncCongestions,
        Self::ExportedRows,
        Self::ExportedBytes,
        Self::ExportMissing,
        Self::ExportPendingMessages,
        Self::ExportFailures,
        Self::Age,
        Self::Spans,
        Self::SpansDropped,
    ];

    /// Name, kind, label of its own, unit, help.
    #[rustfmt::skip]
    fn about(self) -> (&'static str, Kind, Option<&'static str>, Unit, &'static str) {
        use Kind::{Counter, Gauge, Histogram};
        match self {
            Self::ReceivedMessages => ("eddy_received_messages_total", Counter, None, Unit::Count, "Messages pulled; after a restart replayed ones count again"),
            Self::ReceivedRows => ("eddy_received_rows_total", Counter, None, Unit::Count, "Rows whose processing is out: emitted, duplicate, late or rejected"),
            Self::EmittedMessages => ("eddy_emitted_messages_total", Counter, None, Unit::Count, "Merged outputs published"),
            Self::EmittedRows => ("eddy_emitted_rows_total", Counter, None, Unit::Count, "Rows in the outputs published"),
            Self::EmittedAlerts => ("eddy_emitted_alerts_total", Counter, None, Unit::Count, "Alert events published"),
            Self::DuplicateRows => ("eddy_duplicate_rows_total", Counter, None, Unit::Count, "Rows dropped because they came twice"),
            Self::LateRows => ("eddy_late_rows_total", Counter, None, Unit::Count, "Rows put aside because their place had gone out"),
            Self::RejectedReadings => ("eddy_rejected_readings_total", Counter, Some("reason"), Unit::Count, "Readings in the dead letters"),
            Self::Decisions => ("eddy_decisions_total", Counter, Some("kind"), Unit::Count, "What the stage decided: gap filled, flag set, window gated …"),
            Self::HealthConditions => ("eddy_health_conditions_total", Counter, Some("condition"), Unit::Count, "Conditions of devices that began (or ended)"),
            Self::Bundle => ("eddy_bundles", Gauge, Some("bundle"), Unit::Count, "1 for the bundle that judges (role active) and the one beside it (role shadow), 0 for those that did"),
            Self::LagMessages => ("eddy_lag_messages", Gauge, None, Unit::Count, "Messages not pulled yet"),
            Self::LagSeconds => ("eddy_lag_seconds", Gauge, None, Unit::Seconds, "Age of the newest message when it was pulled"),
            Self::InFlightMessages => ("eddy_in_flight_messages", Gauge, None, Unit::Count, "Messages pulled and not acknowledged"),
            Self::ProgressAge => ("eddy_progress_age_seconds", Gauge, None, Unit::Seconds, "How long neither checkpoint nor state moved although something is pending; 0 when idle"),
            Self::BatchSeconds => ("eddy_batch_seconds", Histogram, None, Unit::Seconds, "From a pull to the ack of its output"),
            Self::PublishSeconds => ("eddy_publish_seconds", Histogram, None, Unit::Seconds, "From a publish to its ack: one fsync and one round trip"),
            Self::CommitSeconds => ("eddy_commit_seconds", Histogram, None, Unit::Seconds, "Writing state"),
            Self::StateBytes => ("eddy_state_bytes", Gauge, None, Unit::Bytes, "State on disk"),
            Self::Fenced => ("eddy_fenced_total", Counter, None, Unit::Count, "Publishes refused because another instance had written"),
            Self::ConsumerResets => ("eddy_consumer_resets_total", Counter, None, Unit::Count, "Feeds opened anew after a gap, redelivery or stall"),
            Self::Panics => ("eddy_panics_total", Counter, None, Unit::Count, "Panics of the stage; three at one message put it aside"),
            Self::Backpressure => ("eddy_backpressure_total", Counter, None, Unit::Count, "Publishes that a full stream sent back"),
            Self::Connections => ("eddy_connections_total", Counter, None, Unit::Count, "Connections made to the server; more than 1 are reconnects"),
            Self::FilesRefused => ("eddy_files_refused_total", Counter, None, Unit::Count, "Times that certificates, keys or secrets had changed and were no good: the ones before stay in use"),
            Self::DeliveredAlerts => ("eddy_delivered_alerts_total", Counter, Some("sink"), Unit::Count, "Alert events that the sink's receiver took"),
            Self::FilteredAlerts => ("eddy_filtered_alerts_total", Counter, Some("sink"), Unit::Count, "Alert events that the sink's filter left out"),
            Self::DeliveryRetries => ("eddy_delivery_retries_total", Counter, Some("sink"), Unit::Count, "Deliveries that failed and are tried again"),
            Self::UndeliveredAlerts => ("eddy_undelivered_alerts_total", Counter, Some("sink"), Unit::Count, "Alert events put aside: refused, or given up after too many tries or too long"),
            Self::SinkGaps => ("eddy_sink_gaps_total", Counter, Some("sink"), Unit::Count, "Ranges of the stream that were removed before the sink read them"),
            Self::SinkPendingAlerts => ("eddy_sink_pending_alerts", Gauge, Some("sink"), Unit::Count, "Alert events read and neither delivered nor put aside yet"),
            Self::SyncSentBytes => ("eddy_sync_sent_bytes_total", Counter, Some("class"), Unit::Bytes, "Bytes of batches that the region has"),
            Self::SyncSentEntries => ("eddy_sync_sent_entries_total", Counter, Some("class"), Unit::Count, "Entries that the region has"),
            Self::SyncGapEntries => ("eddy_sync_gap_entries_total", Counter, Some("class"), Unit::Count, "Entries of which the region was told that they will never come"),
            Self::SyncQueueEntries => ("eddy_sync_queue_entries", Gauge, Some("class"), Unit::Count, "Entries that the region does not have yet"),
            Self::SyncQueueBytes => ("eddy_sync_queue_bytes", Gauge, Some("class"), Unit::Bytes, "Their bytes on disk"),
            Self::SyncQueueGapEntries => ("eddy_sync_queue_gap_entries", Gauge, Some("class"), Unit::Count, "Entries that will never come, mostly since a budget was full, of which the region was not told yet"),
            Self::SyncLinkBytes => ("eddy_sync_link_bytes", Gauge, None, Unit::Bytes, "Bytes a second that the link to the region was seen to carry"),
            Self::SyncRoundTripSeconds => ("eddy_sync_round_trip_seconds", Gauge, None, Unit::Seconds, "Its shortest round trip of late, with the region's write to disk"),
            Self::SyncInFlightBytes => ("eddy_sync_in_flight_bytes", Gauge, None, Unit::Bytes, "Bytes sent and not acknowledged"),
            Self::SyncHeldClasses => ("eddy_sync_held_classes", Gauge, None, Unit::Count, "Classes that wait because the link is congested or the day's budget is spent"),
            Self::SyncCongestions => ("eddy_sync_congestions_total", Counter, None, Unit::Count, "Times that an alert took too long, so that all else had to wait"),
            Self::ExportedRows => ("eddy_exported_rows_total", Counter, Some("class"), Unit::Count, "Rows whose range is committed in the store"),
            Self::ExportedBytes => ("eddy_exported_bytes_total", Counter, Some("class"), Unit::Bytes, "Bytes of files written to the store"),
            Self::ExportMissing => ("eddy_export_missing_messages_total", Counter, Some("class"), Unit::Count, "Messages that the stream no longer held when they were to be exported"),
            Self::ExportPendingMessages => ("eddy_export_pending_messages", Gauge, Some("class"), Unit::Count, "Messages that are not exported yet"),
            Self::ExportFailures => ("eddy_export_failures_total", Counter, None, Unit::Count, "Rounds that failed and are tried again"),
            Self::Age => ("eddy_age_seconds", Histogram, None, Unit::Seconds, "From the arrival of the oldest reading of an output at the gateway to the ack of that output"),
            Self::Spans => ("eddy_spans_total", Counter, None, Unit::Count, "Spans of traces that were finished"),
            Self::SpansDropped => ("eddy_spans_dropped_total", Counter, None, Unit::Count, "Spans that the collector did not get: too many waited, or it refused them"),
        }
    }

    /// As it is exported.
    pub fn name(self) -> &'static str {
        self.about().0
    }

    pub(super) fn label(self) -> Option<&'static str> {
        self.about().2
    }

    pub(super) fn is_counter(self) -> bool {
        self.about().1 == Kind::Counter
    }

    pub(super) fn describe(self, recorder: &impl Recorder) {
        let (name, kind, _, unit, help) = self.about();
        let (name, help) = (KeyName::from_const_str(name), metrics::SharedString::const_str(help));
        match kind {
            Kind::Counter => recorder.describe_counter(name, Some(unit), help),
            Kind::Gauge => recorder.describe_gauge(name, Some(unit), help),
            Kind::Histogram => recorder.describe_histogram(name, Some(unit), help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_rule() {
        let mut names: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        for metric in Metric::ALL {
            let name = metric.name();
            assert!(name.starts_with("eddy_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.is_counter(), "{name}");
            let unit = match metric.about().3 {
                Unit::Seconds => "_seconds",
                Unit::Bytes => "_bytes",
                _ => "s",
            };
            assert!(metric.is_counter() || name.ends_with(unit), "{name}");
            assert!(
                metric
                    .label()
                    .is_none_or(|label| ["reason", "kind", "condition", "sink", "class", "bundle"].contains(&label)),
                "{name}"
            );
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Metric::ALL.len());
    }
}
