//! A gateway: a server, the four stages, a client.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use eddy_runtime::{
    client::{Client, Endpoint},
    position::{HEADER, Position},
    provision::{StreamBounds, provision},
};

use crate::{server::Server, stage::StageProcess};

/// The stages on the path to an alert, in order.
pub const STAGES: [&str; 4] = ["capture", "preprocess", "embed", "detect"];
/// The site of all tests.
pub const SITE: &str = "plant";

/// Bounds that no test fills by accident.
pub const ROOMY: StreamBounds = StreamBounds {
    ingest_mb: 256,
    control_mb: 16,
    readings_mb: 256,
    samples_mb: 256,
    embeddings_mb: 512,
    detections_mb: 256,
    context_mb: 16,
    health_mb: 16,
    region_mb: 16,
    models_mb: 4,
    side_mb: 64,
};

/// A running gateway in a temporary folder.
pub struct Gateway {
    pub folder: tempfile::TempDir,
    pub server: Server,
    pub stages: Vec<StageProcess>,
    pub client: Client,
}

impl Gateway {
    /// Everything provisioned and running.
    pub async fn start(bounds: &StreamBounds) -> Self {
        let mut gateway = Self::without_stages(bounds).await;
        for stage in STAGES {
            gateway.start_stage(stage);
        }
        gateway
    }

    /// Server and streams only.
    pub async fn without_stages(bounds: &StreamBounds) -> Self {
        Self::without_stages_with(bounds, "").await
    }

    /// The same with more lines in the server's config.
    pub async fn without_stages_with(bounds: &StreamBounds, server: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path(), server);
        let client = connect(&server.url()).await;
        provision(&client, SITE, 1, bounds).await.unwrap();
        Self { folder, server, stages: Vec::new(), client }
    }

    /// Starts one stage with the tests' config.
    pub fn start_stage(&mut self, stage: &str) {
        let state = self.folder.path().join("state");
        let process = StageProcess::start(stage, self.folder.path(), &self.environment(&state));
        self.stages.push(process);
    }

    /// The same with more config.
    pub fn start_stage_with(&mut self, stage: &str, more: &[(&str, &str)]) {
        let mut environment = self.environment(&self.folder.path().join("state"));
        environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.stages.push(StageProcess::start(stage, self.folder.path(), &environment));
    }

    /// A second instance of a stage, with state of its own.
    pub fn start_twin(&self, stage: &str) -> StageProcess {
        let folder = self.folder.path().join("twin");
        std::fs::create_dir_all(&folder).unwrap();
        StageProcess::start(stage, &folder, &self.environment(&folder.join("state")))
    }

    /// What every stage of this gateway is configured with.
    pub fn environment(&self, state: &Path) -> Vec<(String, String)> {
        let bundles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/bundles");
        let public = std::fs::read_to_string(bundles.join("default.pub")).unwrap();
        let key = public.lines().last().unwrap();
        let bundle = bundles.join("default").display().to_string();
        let pairs: Vec<(&str, String)> = vec![
            ("EDDY_BUS_URL", self.server.url()),
            ("EDDY_BUS_REQUEST_TIMEOUT_MS", "2000".into()),
            ("EDDY_SITE_NAME", SITE.into()),
            ("EDDY_STATE_DIR", state.display().to_string()),
            ("EDDY_STATE_COMMIT_INTERVAL_MS", "150".into()),
            ("EDDY_EMBED_BUNDLE", bundle.clone()),
            ("EDDY_DETECT_BUNDLE", bundle),
            ("EDDY_EMBED_TRUSTED_KEYS", format!("[{key:?}]")),
            ("EDDY_DETECT_TRUSTED_KEYS", format!("[{key:?}]")),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The stage process of this name.
    pub fn stage(&mut self, name: &str) -> &mut StageProcess {
        let index = STAGES.iter().position(|stage| *stage == name).unwrap();
        &mut self.stages[index]
    }

    /// Waits until everything that lies in INGEST and CONTROL has come through to DETECTIONS.
    pub async fn wait_until_through(&self) {
        let deadline = Instant::now() + Duration::from_secs(240);
        while !is_through(&self.client).await {
            if Instant::now() > deadline {
                let logs: Vec<String> = self.stages.iter().map(|s| tail(&s.log())).collect();
                panic!("not through in time; the stages' last words:\n{}", logs.join("\n---\n"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The state folder of the stages.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(6)..].join("\n")
}

/// A client that waits for the server.
pub async fn connect(url: &str) -> Client {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match Client::connect(&Endpoint::new(url, "test")).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether each stage's checkpoint covers all of its input, from the source on.
pub async fn is_through(client: &Client) -> bool {
    let hops = [
        ("READINGS", format!("readings.{SITE}.0"), vec!["INGEST", "CONTROL"]),
        ("SAMPLES", format!("samples.{SITE}.0"), vec!["READINGS"]),
        ("EMBEDDINGS", format!("embeddings.{SITE}.0"), vec!["SAMPLES"]),
        ("DETECTIONS", format!("scores.{SITE}.0"), vec!["EMBEDDINGS"]),
    ];
    for (stream, subject, inputs) in hops {
        let Ok(last) = client.last(stream, &subject).await else { return false };
        let header = last.as_ref().and_then(|last| last.header(HEADER)).unwrap_or_default();
        let position: Position = header.parse().unwrap_or_default();
        for input in inputs {
            let Ok(Some(info)) = client.stream(input).await else { return false };
            let next = position.place(input).map_or(1, |place| place.next_sequence());
            if info.last_sequence >= next {
                return false;
            }
        }
    }
    true
}
