//! What a supervisor tells of its machine: streams, their readers, disk, processes, certificates, bundles that were wanted.

use metrics::{Key, Label, Recorder as _};

use super::{METADATA, Metric, Telemetry, process};

impl Telemetry {
    /// How full a stream is.
    pub fn stream(&self, stream: &str, messages: u64, bytes: u64, bytes_max: Option<u64>) {
        let labels = [("stream", stream)];
        self.gauge(Metric::StreamMessages, &labels, messages as f64);
        self.gauge(Metric::StreamBytes, &labels, bytes as f64);
        if let Some(bound) = bytes_max {
            self.gauge(Metric::StreamBound, &labels, bound as f64);
        }
    }

    /// How far a reader of a stream is behind.
    pub fn consumer(&self, stream: &str, consumer: &str, pending: u64, in_flight: u64) {
        let labels = [("consumer", consumer), ("stream", stream)];
        self.gauge(Metric::ConsumerPending, &labels, pending as f64);
        self.gauge(Metric::ConsumerInFlight, &labels, in_flight as f64);
    }

    /// What the partition can still take, and can take in all.
    pub fn disk(&self, free_bytes: u64, bytes: u64) {
        self.set(Metric::DiskFree, free_bytes as f64);
        self.set(Metric::DiskSize, bytes as f64);
    }

    /// What the machine has, as far as the kernel tells.
    pub fn machine(&self) {
        if let Some((memory, available, cores)) = process::machine() {
            self.set(Metric::MachineMemory, memory as f64);
            self.set(Metric::MachineAvailable, available as f64);
            self.set(Metric::MachineCores, cores as f64);
        }
    }

    /// How often a process was started again.
    pub fn restarts(&self, process: &str, times: u64) {
        self.recorder
            .register_counter(&self.with(Metric::Restarts, &[("process", process)]), &METADATA)
            .absolute(times);
    }

    /// Processes that are not started again.
    pub fn given_up(&self, processes: u64) {
        self.set(Metric::GivenUp, processes as f64);
    }

    /// When the first certificate of a file expires, in seconds since 1970; `key` is the config's.
    pub fn certificate(&self, key: &str, expires_seconds: i64) {
        self.gauge(Metric::CertificateExpiry, &[("file", key)], expires_seconds as f64);
    }

    /// A bundle that was wanted came to its end, `n` times.
    pub fn rollout(&self, outcome: &'static str, n: u64) {
        self.add(Metric::Rollouts, Some(outcome), n);
    }

    fn gauge(&self, metric: Metric, labels: &[(&'static str, &str)], value: f64) {
        self.recorder.register_gauge(&self.with(metric, labels), &METADATA).set(value);
    }

    fn with(&self, metric: Metric, more: &[(&'static str, &str)]) -> Key {
        let mut labels = self.labels.clone();
        labels.extend(more.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())));
        Key::from_parts(metric.name(), labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_supervisor_sees_is_told() {
        let telemetry = Telemetry::for_tests();
        telemetry.stream("SIDE", 3, 90, Some(100));
        telemetry.consumer("SAMPLES", "embed-0", 5, 2);
        telemetry.disk(7, 9);
        telemetry.machine();
        telemetry.restarts("detect", 2);
        telemetry.given_up(1);
        telemetry.certificate("sync.hub.tls_cert_file", 1_800_000_000);
        telemetry.rollout("refused", 1);
        let text = telemetry.render();
        for line in [
            "eddy_stream_bound_bytes{stage=\"test\",shard=\"0\",stream=\"SIDE\"} 100",
            "eddy_consumer_pending_messages{stage=\"test\",shard=\"0\",consumer=\"embed-0\",stream=\"SAMPLES\"} 5",
            "eddy_disk_free_bytes{stage=\"test\",shard=\"0\"} 7",
            "eddy_machine_cores{stage=\"test\",shard=\"0\"} ",
            "eddy_process_restarts_total{stage=\"test\",shard=\"0\",process=\"detect\"} 2",
            "eddy_given_up_processes{stage=\"test\",shard=\"0\"} 1",
            "eddy_certificate_expiry_seconds{stage=\"test\",shard=\"0\",file=\"sync.hub.tls_cert_file\"} 1800000000",
            "eddy_rollouts_total{stage=\"test\",shard=\"0\",outcome=\"refused\"} 1",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
    }
}
