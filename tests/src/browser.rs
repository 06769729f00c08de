//! A headless Chromium, driven over WebDriver by the chromedriver that comes with it.
//!
//! Only what the tests and the screenshots need is here, over HTTP as W3C's WebDriver says; `cdp` is Chromium's own protocol.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Once,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Debian's packages; other systems call the first one differently.
const CHROMIUM: [&str; 2] = ["/usr/bin/chromium", "/usr/bin/google-chrome"];
const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
/// How long anything in a page may take.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Keys as WebDriver names them.
pub mod key {
    #![allow(missing_docs)]
    pub const TAB: &str = "\u{e004}";
    pub const ENTER: &str = "\u{e007}";
    pub const ESCAPE: &str = "\u{e00c}";
    pub const DOWN: &str = "\u{e015}";
    pub const SPACE: &str = " ";
}

/// A browser with a profile of its own; it ends when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    http: reqwest::Client,
    session: String,
    profile: tempfile::TempDir,
}

/// Chromium, if it and its driver are here.
pub fn chromium() -> Option<PathBuf> {
    let found = CHROMIUM.iter().map(PathBuf::from).find(|path| path.exists());
    found.filter(|_| PathBuf::from(CHROMEDRIVER).exists())
}

/// An HTTP client that asks only who it is told to.
///
/// # Panics
/// If the system has no random numbers for it.
pub fn http() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    reqwest::Client::builder().no_proxy().timeout(PATIENCE * 2).build().unwrap()
}

impl Browser {
    /// Starts one with an empty profile.
    ///
    /// # Panics
    /// If it does not start: see [`chromium`] before.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver =
            Command::new(CHROMEDRIVER).arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let port = port(&mut driver);
        let http = http();
        let mut browser = Self { driver, http, session: format!("http://127.0.0.1:{port}/session"), profile };
        let user_data = format!("--user-data-dir={}", browser.profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
            &user_data,
        ];
        let binary = chromium().expect("the caller has looked whether there is one");
        let options = json!({ "binary": binary, "args": arguments });
        let logs = json!({ "performance": "ALL", "browser": "ALL" });
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs, "webSocketUrl": false });
        let made = browser.post("", &json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().unwrap());
        browser
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.session)).header("Content-Type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        let (is_good, text) = (answer.status().is_success(), answer.text().await.unwrap());
        assert!(is_good, "{path} {body}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }

    /// Opens a page, and waits until it is loaded.
    pub async fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await;
    }

    /// What a script returns.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// What a script hands to the function that is its last argument.
    pub async fn run_async(&self, script: &str) -> Value {
        self.post("/execute/async", &json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression is true; how long that took.
    pub async fn wait(&self, what: &str, expression: &str) -> Duration {
        let started = Instant::now();
        // Of an element that is not there yet nothing can be asked.
        let asks = format!(
            "try {{ return Boolean({expression}) }} catch (problem) {{ if (problem instanceof TypeError) return false; throw problem; }}"
        );
        while self.run(&asks).await != true {
            if started.elapsed() > PATIENCE {
                let page = self.run("return document.body.innerText").await;
                panic!("{what}: not in time; the page says {page}; the log says {:?}", self.log("browser").await);
            }
            tokio::time::sleep(POLL).await;
        }
        started.elapsed()
    }

    /// Types on the keyboard: characters of text, or one of [`key`].
    pub async fn keys(&self, text: &str) {
        let strokes = text.chars().flat_map(|c| [("keyDown", c), ("keyUp", c)]);
        let strokes: Vec<Value> = strokes.map(|(kind, c)| json!({ "type": kind, "value": c })).collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] })).await;
    }

    /// Presses the tabulator until what `selector` names has the focus.
    ///
    /// # Panics
    /// If it cannot be reached so.
    pub async fn tab_to(&self, selector: &str) {
        for _ in 0..200 {
            if self.run(&format!("return document.activeElement.matches({selector:?})")).await == true {
                return;
            }
            self.keys(key::TAB).await;
        }
        panic!("{selector} is not reached by the tabulator");
    }

    /// A command of Chromium's own protocol.
    pub async fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    /// What came into a log (`browser`, `performance`) since it was asked for last.
    pub async fn log(&self, kind: &str) -> Vec<Value> {
        match self.post("/se/log", &json!({ "type": kind })).await {
            Value::Array(entries) => entries,
            other => vec![other],
        }
    }

    /// Every address that was asked for since this was asked last.
    pub async fn requested(&self) -> Vec<String> {
        let entries = self.log("performance").await;
        let told = entries.iter().filter_map(|entry| serde_json::from_str::<Value>(entry["message"].as_str()?).ok());
        let sent = told.filter(|told| {
            matches!(told["message"]["method"].as_str(), Some("Network.requestWillBeSent" | "Network.webSocketCreated"))
        });
        sent.filter_map(|told| {
            let parameters = &told["message"]["params"];
            parameters["request"]["url"].as_str().or(parameters["url"].as_str()).map(str::to_owned)
        })
        .collect()
    }

    /// What the system prefers, and how large the window is.
    pub async fn look(&self, scheme: &str, (width, height): (u32, u32), scale: u32) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600 });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What is seen, as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let shot = self.cdp("Page.captureScreenshot", json!({ "format": "png" })).await;
        STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }
}

/// Where the driver listens: it says so.
fn port(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let said =
        lines.find_map(|line| line.unwrap().rsplit_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
    // It goes on writing: somebody must read.
    std::thread::spawn(move || lines.for_each(drop));
    said.unwrap()
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // Its processes are known by the profile, which is no other's.
        let profile = self.profile.path().display().to_string();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let pid = process.file_name().to_string_lossy().parse::<i32>();
            if let Ok(pid) = pid
                && String::from_utf8_lossy(&line).contains(&profile)
            {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}
