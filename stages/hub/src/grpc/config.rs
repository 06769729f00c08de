//! The config tables `[hub.grpc]` and `[hub.audit]`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use eddy_runtime::audit;
use serde::Deserialize;

use crate::answer;

/// `[hub.grpc]`, as `default.toml` documents it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Address and port; empty: there is no gRPC server.
    pub listen: String,
    /// Host and port by which other hub processes reach it; empty: as it listens.
    pub advertise: String,
    /// The CA of all who may call.
    pub ca_file: PathBuf,
    /// The hub's certificate, as a server and as a client of other hub processes.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Connections at the same time.
    pub connections_max: usize,
    /// Bytes of a request.
    pub request_bytes_max: usize,
    /// Calls that are answered at the same time.
    pub calls_max: usize,
    /// Shards' stores that are asked at the same time.
    pub searches_max: usize,
    /// Milliseconds that a call may take at most, and takes if it does not say.
    pub deadline_ms: u64,
    /// The recall of searches that ask for none.
    pub recall: f32,
}

/// `[hub.audit]`, as `default.toml` documents it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// Megabytes of a file.
    pub file_mb_max: u64,
    /// Megabytes of all files.
    pub all_mb_max: u64,
}

impl GrpcConfig {
    /// Whether there is a server.
    pub fn is_served(&self) -> bool {
        !self.listen.is_empty()
    }

    /// Every key that holds what it cannot.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut range = |key: &str, value: f64, least: f64, most: f64| {
            if !(least..=most).contains(&value) {
                problems.push(format!("hub.grpc.{key} = {value}: {least} to {most} is taken"));
            }
        };
        range("connections_max", self.connections_max as f64, 1.0, 10_000.0);
        range("request_bytes_max", self.request_bytes_max as f64, 1_024.0, 1e7);
        range("calls_max", self.calls_max as f64, 1.0, 10_000.0);
        range("searches_max", self.searches_max as f64, 1.0, 64.0);
        range("deadline_ms", self.deadline_ms as f64, 10.0, 600_000.0);
        range("recall", f64::from(self.recall), 0.01, 1.0);
        let empty = |path: &Path| path.as_os_str().is_empty();
        let files = [("ca_file", &self.ca_file), ("cert_file", &self.cert_file), ("key_file", &self.key_file)];
        if self.is_served() {
            if let Err(error) = self.listen.parse::<std::net::SocketAddr>() {
                problems.push(format!("hub.grpc.listen = {:?}: an address and port is taken ({error})", self.listen));
            }
            for (key, _) in files.iter().filter(|(_, path)| empty(path)) {
                problems.push(format!("hub.grpc.{key} = \"\": a PEM file is needed to listen; `eddy certs` makes one"));
            }
        }
        let authority = self.advertise.parse::<tonic::codegen::http::uri::Authority>();
        if !self.advertise.is_empty() && !authority.is_ok_and(|authority| authority.port().is_some()) {
            problems.push(format!("hub.grpc.advertise = {:?}: HOST:PORT is taken", self.advertise));
        }
        problems
    }

    /// As answers take them.
    pub fn bounds(&self) -> answer::Bounds {
        answer::Bounds { calls: self.calls_max, at_once: self.searches_max, recall: self.recall }
    }

    /// How long a call may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

impl AuditConfig {
    /// Every key that holds what it cannot.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (file, all) = (self.file_mb_max, self.all_mb_max);
        if !(1..=10_000).contains(&file) {
            problems.push(format!("hub.audit.file_mb_max = {file}: 1 to 10000 is taken"));
        }
        if !(file.saturating_mul(2)..=10_000_000).contains(&all) {
            problems.push(format!("hub.audit.all_mb_max = {all}: twice hub.audit.file_mb_max to 10000000 is taken"));
        }
        problems
    }

    /// As the log takes them.
    pub fn bounds(&self) -> audit::Bounds {
        let (file_bytes_max, bytes_max) = (self.file_mb_max << 20, self.all_mb_max << 20);
        audit::Bounds { file_bytes_max, bytes_max, key: "hub.audit.all_mb_max" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_told_and_a_server_needs_its_files() {
        let config = GrpcConfig {
            listen: "127.0.0.1:0".into(),
            advertise: "hub.example".into(),
            ca_file: "ca.pem".into(),
            cert_file: "".into(),
            key_file: "".into(),
            connections_max: 0,
            request_bytes_max: 1,
            searches_max: 65,
            calls_max: 0,
            deadline_ms: 1,
            recall: 0.0,
        };
        let problems = config.problems().join("\n");
        for key in ["advertise = ", "cert_file = ", "key_file = ", "connections_max = 0", "request_bytes_max = 1"] {
            assert!(problems.contains(key), "{problems}");
        }
        for key in ["searches_max = 65", "calls_max = 0", "deadline_ms = 1", "recall = 0"] {
            assert!(problems.contains(key), "{problems}");
        }
        assert!(!problems.contains("ca_file"));
        let elsewhere =
            GrpcConfig { listen: "somewhere".into(), advertise: "hub.example:7443".into(), ..config.clone() };
        let problems = elsewhere.problems().join("\n");
        assert!(problems.contains("listen = \"somewhere\"") && !problems.contains("advertise"), "{problems}");
        let silent = GrpcConfig { listen: String::new(), ..config };
        assert!(!silent.problems().join("\n").contains("_file"));
        let audit = AuditConfig { file_mb_max: 0, all_mb_max: 0 };
        assert_eq!(audit.problems().len(), 1);
        assert_eq!(AuditConfig { file_mb_max: 64, all_mb_max: 100 }.problems().len(), 1);
        assert_eq!(AuditConfig { file_mb_max: 64, all_mb_max: 4_096 }.problems(), Vec::<String>::new());
    }
}
