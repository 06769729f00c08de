//! A real Prometheus of a test's own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use eddy_cli::supervise::http;
use serde_json::Value;

/// How long it may take to come up, and to find what it scrapes.
const PATIENCE: Duration = Duration::from_secs(60);

/// EDDY_PROMETHEUS, or what `make prometheus` unpacked, if it is there.
pub fn binary() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/prometheus/usr/bin/prometheus");
    std::env::var_os("EDDY_PROMETHEUS").map(PathBuf::from).or_else(|| made.exists().then_some(made))
}

/// One that runs; killed when dropped.
pub struct Prometheus {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Prometheus {
    /// Scrapes what `targets` (URLs) say, every second, and evaluates the rules in a folder as often.
    pub async fn start(binary: &Path, folder: &Path, rules: &Path, targets: &[String]) -> Self {
        let discovered = targets.iter().map(|url| format!("      - {{url: {url:?}, refresh_interval: 1s}}\n"));
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{:?}]\nscrape_configs:\n  - job_name: eddy\n    \
             http_sd_configs:\n{}",
            std::fs::canonicalize(rules).unwrap().join("*.yml"),
            discovered.collect::<String>()
        );
        let (file, log) = (folder.join("prometheus.yml"), folder.join("prometheus.log"));
        std::fs::write(&file, config).unwrap();
        // It does not tell which port it chose: a free one is looked for, and it is tried again where somebody else was faster.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let child = Command::new(binary)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
                .arg(format!("--web.listen-address={free}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&log).unwrap())
                .spawn()
                .unwrap();
            let mut prometheus = Self { child, address: free.to_string(), log: log.clone() };
            while prometheus.child.try_wait().unwrap().is_none() {
                if prometheus.get("/-/ready").await.is_some() {
                    return prometheus;
                }
                assert!(Instant::now() < deadline, "{}", prometheus.said());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(Instant::now() < deadline, "{}", prometheus.said());
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Option<String> {
        let answer = http::get(&self.address, path, 16 << 20, Duration::from_secs(10)).await;
        answer.ok().filter(|(code, _)| *code == 200).map(|(_, text)| text)
    }

    /// What an instant query finds: the labels and the value of each sample.
    async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query?query={encoded}");
        let (code, text) = http::get(&self.address, &path, 16 << 20, Duration::from_secs(10)).await.unwrap();
        assert_eq!(code, 200, "{query}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let samples = answer["data"]["result"].as_array().unwrap().iter();
        samples.map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap().parse().unwrap())).collect()
    }

    /// Whether a query gives a number.
    pub async fn has_data(&self, query: &str) -> bool {
        self.query(query).await.iter().any(|(_, value)| !value.is_nan())
    }

    /// Waits until the processes of these names, and no others, answer.
    pub async fn wait_until_up(&self, instances: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let up = self.query("up == 1").await;
            let mut found: Vec<_> = up.iter().map(|(labels, _)| labels["instance"].as_str().unwrap()).collect();
            found.sort_unstable();
            if found == instances {
                return;
            }
            assert!(Instant::now() < deadline, "{found:?}: {}", self.said());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Every rule was evaluated, and none of them failed.
    pub async fn rules_are_well(&self) {
        let rules: Value = serde_json::from_str(&self.get("/api/v1/rules").await.unwrap()).unwrap();
        let groups = rules["data"]["groups"].as_array().unwrap().iter();
        let rules: Vec<_> = groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
        assert!(rules.len() > 40, "{}", rules.len());
        for rule in rules {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
