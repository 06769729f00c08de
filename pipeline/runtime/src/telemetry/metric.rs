//! The closed list of metrics.

use metrics::{KeyName, Recorder, Unit};

/// A metric: `eddy_<noun>_<unit>`, counters end in `_total`.
#[allow(missing_docs, reason = "each one's help text says what it is")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    ReceivedMessages,
    ReceivedBytes,
    ReceivedRows,
    EmittedMessages,
    EmittedRows,
    EmittedAlerts,
    DuplicateRows,
    LateRows,
    RejectedReadings,
    Decisions,
    ScoredRows,
    NewestEvent,
    HealthConditions,
    LabelLag,
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
    StartTime,
    FirstOutput,
    CaughtUp,
    Memory,
    Cpu,
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
    SyncLinks,
    ExportedRows,
    ExportedBytes,
    ExportMissing,
    ExportPendingMessages,
    ExportFailures,
    StreamBytes,
    StreamBound,
    StreamMessages,
    ConsumerPending,
    ConsumerInFlight,
    DiskFree,
    DiskSize,
    MachineMemory,
    MachineAvailable,
    MachineCores,
    Restarts,
    GivenUp,
    CertificateExpiry,
    Rollouts,
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
    pub const ALL: [Self; 74] = [
        Self::ReceivedMessages,
        Self::ReceivedBytes,
        Self::ReceivedRows,
        Self::EmittedMessages,
        Self::EmittedRows,
        Self::EmittedAlerts,
        Self::DuplicateRows,
        Self::LateRows,
        Self::RejectedReadings,
        Self::Decisions,
        Self::ScoredRows,
        Self::NewestEvent,
        Self::HealthConditions,
        Self::LabelLag,
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
        Self::StartTime,
        Self::FirstOutput,
        Self::CaughtUp,
        Self::Memory,
        Self::Cpu,
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
        Self::SyncLinks,
        Self::ExportedRows,
        Self::ExportedBytes,
        Self::ExportMissing,
        Self::ExportPendingMessages,
        Self::ExportFailures,
        Self::StreamBytes,
        Self::StreamBound,
        Self::StreamMessages,
        Self::ConsumerPending,
        Self::ConsumerInFlight,
        Self::DiskFree,
        Self::DiskSize,
        Self::MachineMemory,
        Self::MachineAvailable,
        Self::MachineCores,
        Self::Restarts,
        Self::GivenUp,
        Self::CertificateExpiry,
        Self::Rollouts,
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
            Self::ReceivedBytes => ("eddy_received_bytes_total", Counter, None, Unit::Bytes, "Bytes of messages pulled, and of what came directly; after a restart replayed ones count again"),
            Self::ReceivedRows => ("eddy_received_rows_total", Counter, None, Unit::Count, "Rows whose processing is out: emitted, duplicate, late or rejected"),
            Self::EmittedMessages => ("eddy_emitted_messages_total", Counter, None, Unit::Count, "Merged outputs published"),
            Self::EmittedRows => ("eddy_emitted_rows_total", Counter, None, Unit::Count, "Rows in the outputs published"),
            Self::EmittedAlerts => ("eddy_emitted_alerts_total", Counter, None, Unit::Count, "Alert events published"),
            Self::DuplicateRows => ("eddy_duplicate_rows_total", Counter, None, Unit::Count, "Rows dropped because they came twice"),
            Self::LateRows => ("eddy_late_rows_total", Counter, None, Unit::Count, "Rows put aside because their place had gone out"),
            Self::RejectedReadings => ("eddy_rejected_readings_total", Counter, Some("reason"), Unit::Count, "Readings in the dead letters"),
            Self::Decisions => ("eddy_decisions_total", Counter, Some("kind"), Unit::Count, "What the stage decided: gap filled, flag set, window gated …"),
            Self::ScoredRows => ("eddy_scored_rows_total", Counter, Some("tail"), Unit::Count, "Rows past commissioning by their tail probability: at most that of the label, and above the next smaller one"),
            Self::NewestEvent => ("eddy_newest_event_seconds", Gauge, None, Unit::Seconds, "Newest event time that went out, in seconds since 1970"),
            Self::HealthConditions => ("eddy_health_conditions_total", Counter, Some("condition"), Unit::Count, "Conditions of devices that began (or ended)"),
            Self::LabelLag => ("eddy_label_lag_seconds", Histogram, None, Unit::Seconds, "From an alert's opening to the operator's word on it; by event time where it opened before the process began"),
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
            Self::StartTime => ("eddy_start_time_seconds", Gauge, None, Unit::Seconds, "When the process began, in seconds since 1970"),
            Self::FirstOutput => ("eddy_first_output_seconds", Gauge, None, Unit::Seconds, "From the start of the process to its first output; not there before it"),
            Self::CaughtUp => ("eddy_caught_up_seconds", Gauge, None, Unit::Seconds, "From the start of the process until nothing was left to pull for the first time; not there before it"),
            Self::Memory => ("eddy_memory_bytes", Gauge, None, Unit::Bytes, "Memory of the process: its proportional share (PSS) where the kernel tells it, else what is resident"),
            Self::Cpu => ("eddy_cpu_seconds_total", Counter, None, Unit::Seconds, "Processor time that the process took"),
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
            Self::SyncLinks => ("eddy_sync_links", Gauge, None, Unit::Count, "1 while there is a connection to the region, else 0"),
            Self::ExportedRows => ("eddy_exported_rows_total", Counter, Some("class"), Unit::Count, "Rows whose range is committed in the store"),
            Self::ExportedBytes => ("eddy_exported_bytes_total", Counter, Some("class"), Unit::Bytes, "Bytes of files written to the store"),
            Self::ExportMissing => ("eddy_export_missing_messages_total", Counter, Some("class"), Unit::Count, "Messages that the stream no longer held when they were to be exported"),
            Self::ExportPendingMessages => ("eddy_export_pending_messages", Gauge, Some("class"), Unit::Count, "Messages that are not exported yet"),
            Self::ExportFailures => ("eddy_export_failures_total", Counter, None, Unit::Count, "Rounds that failed and are tried again"),
            Self::StreamBytes => ("eddy_stream_bytes", Gauge, Some("stream"), Unit::Bytes, "Bytes in the stream"),
            Self::StreamBound => ("eddy_stream_bound_bytes", Gauge, Some("stream"), Unit::Bytes, "The stream's bound"),
            Self::StreamMessages => ("eddy_stream_messages", Gauge, Some("stream"), Unit::Count, "Messages in the stream"),
            Self::ConsumerPending => ("eddy_consumer_pending_messages", Gauge, Some("consumer"), Unit::Count, "Messages that the reader was not handed yet"),
            Self::ConsumerInFlight => ("eddy_consumer_in_flight_messages", Gauge, Some("consumer"), Unit::Count, "Messages that the reader was handed and did not acknowledge"),
            Self::DiskFree => ("eddy_disk_free_bytes", Gauge, None, Unit::Bytes, "What the partition of the gateway's folder can still take"),
            Self::DiskSize => ("eddy_disk_size_bytes", Gauge, None, Unit::Bytes, "What the partition of the gateway's folder can take in all"),
            Self::MachineMemory => ("eddy_machine_memory_bytes", Gauge, None, Unit::Bytes, "Memory of the machine"),
            Self::MachineAvailable => ("eddy_machine_available_bytes", Gauge, None, Unit::Bytes, "What of it can still be had without swapping"),
            Self::MachineCores => ("eddy_machine_cores", Gauge, None, Unit::Count, "Processors of the machine"),
            Self::Restarts => ("eddy_process_restarts_total", Counter, Some("process"), Unit::Count, "Times that the supervisor started the process again"),
            Self::GivenUp => ("eddy_given_up_processes", Gauge, None, Unit::Count, "Processes that the supervisor does not start again"),
            Self::CertificateExpiry => ("eddy_certificate_expiry_seconds", Gauge, Some("file"), Unit::Seconds, "When the first certificate of the file that this key of the config names expires, in seconds since 1970"),
            Self::Rollouts => ("eddy_rollouts_total", Counter, Some("outcome"), Unit::Count, "Bundles that were wanted, by what became of them"),
            Self::Age => ("eddy_age_seconds", Histogram, None, Unit::Seconds, "From the arrival of the oldest reading of an output at the gateway to the ack of that output"),
            Self::Spans => ("eddy_spans_total", Counter, None, Unit::Count, "Spans of traces that were finished"),
            Self::SpansDropped => ("eddy_spans_dropped_total", Counter, None, Unit::Count, "Spans that the collector did not get: too many waited, or it refused them"),
        }
    }

    /// As it is exported.
    pub fn name(self) -> &'static str {
        self.about().0
    }

    pub(super) fn help(self) -> &'static str {
        self.about().4
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

    /// What metrics are told apart by: closed lists, or names of a config's few.
    const LABELS: [&str; 12] = [
        "reason",
        "kind",
        "condition",
        "sink",
        "class",
        "bundle",
        "tail",
        "stream",
        "consumer",
        "process",
        "file",
        "outcome",
    ];

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
            assert!(metric.label().is_none_or(|label| LABELS.contains(&label)), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Metric::ALL.len());
    }
}
