//! `eddy up`, `eddy model …` and `eddy replay`, as an operator has them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{altered, default_bundle};
use crate::stage::binary;

/// A gateway that `eddy up` runs, ended with it.
pub struct Up {
    pub dir: PathBuf,
    child: Child,
}

impl Up {
    pub fn start(dir: &Path, config: &Path) -> Self {
        Self::start_with(dir, config, &[])
    }

    pub fn start_with(dir: &Path, config: &Path, environment: &[(&str, &str)]) -> Self {
        let child = Command::new(binary("eddy"))
            .args(["up", "--port", "0", "--dir"])
            .arg(dir)
            .arg("--config")
            .arg(config)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.with_extension("up.log")).unwrap())
            .spawn()
            .unwrap();
        let up = Self { dir: dir.to_owned(), child };
        wait_for("the gateway", || up.eddy(&["status", "--json"]).status.success());
        up
    }

    /// `eddy …` at this gateway.
    pub fn eddy(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("eddy"));
        command.args(arguments).arg("--dir").arg(&self.dir).env_remove("EDDY_SEED").output().unwrap()
    }

    /// The same, which has to go well.
    pub fn done(&self, arguments: &[&str]) -> String {
        let ran = self.eddy(arguments);
        let (out, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{arguments:?}: {out}{error}");
        out.into_owned()
    }

    /// The same, which has to fail; what was said.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let ran = self.eddy(arguments);
        let (out, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert_eq!(ran.status.code(), Some(1), "{arguments:?}: {out}{error}");
        format!("{out}{error}")
    }

    pub fn listed(&self) -> Value {
        serde_json::from_str(&self.done(&["model", "list", "--json"])).unwrap()
    }

    /// Whose alerts there are, in order, and of which phase.
    pub fn alerts(&self) -> Vec<(String, String)> {
        let text = self.done(&["alerts", "--json"]);
        let event = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            let of = |key: &str| event["data"][key].as_str().unwrap().to_owned();
            (of("bundle"), of("phase"))
        };
        text.lines().map(event).collect()
    }

    pub fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The rows of one recorded device, from one to another, as a file.
pub fn part(folder: &Path, device: &str, rows: std::ops::Range<usize>) -> PathBuf {
    use std::io::Read as _;
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fixtures/fleet/{device}.csv.gz"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(recorded).unwrap()).read_to_string(&mut text).unwrap();
    let (header, lines) = text.split_once('\n').unwrap();
    let rows_of: Vec<&str> = lines.lines().skip(rows.start).take(rows.len()).collect();
    fs::create_dir_all(folder.join(format!("{}", rows.start))).unwrap();
    let path = folder.join(format!("{}/{device}.csv", rows.start));
    fs::write(&path, format!("{header}\n{}\n", rows_of.join("\n"))).unwrap();
    path
}

/// A key pair `site.key`, `site.pub` in `folder`.
pub fn keys(folder: &Path) -> PathBuf {
    run(folder, &["model", "keygen", "site", "--no-password"]);
    folder.join("site.pub")
}

fn run(folder: &Path, arguments: &[&str]) {
    let ran = Command::new(binary("eddy")).args(arguments).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// The default bundle, altered and signed with the site's key; its digest.
pub fn signed(folder: &Path, name: &str, from: &str, to: &str) -> String {
    let digest = altered(&folder.join(name), from, to);
    run(folder, &["model", "sign", name, "--key", "site.key"]);
    digest
}

#[test]
fn a_bundle_is_activated_and_rolled_back_and_a_bad_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, at) = (folder.path(), |name: &str| folder.path().join(name).display().to_string());
    let public = keys(path);
    let config = path.join("eddy.toml");
    let text = format!("[site]\nname = \"plant\"\n[gateway]\ntrusted_keys = [{:?}]\n", public.display().to_string());
    fs::write(&config, text).unwrap();
    let next = signed(path, "next", "version = \"", "version = \"next-");
    let up = Up::start(&path.join("g"), &config);
    let first = blake3::hash(&fs::read(default_bundle().join("model.toml")).unwrap()).to_hex().to_string();
    let replay = |rows: std::ops::Range<usize>| {
        let file = part(path, "harbour-1", rows);
        up.done(&["replay", file.to_str().unwrap(), "--json"]);
    };
    replay(0..1_200);
    wait_for("the first bundle's word", || up.listed()["seen"]["active"] == serde_json::json!([first]));

    // What is no good is refused before anything is wanted, or by the rehearsal; the first one goes on.
    altered(&path.join("unsigned"), "version = \"", "version = \"u-");
    assert!(up.refused(&["model", "activate", &at("unsigned")]).contains("unsigned"));
    signed(path, "altered", "version = \"", "version = \"a-");
    fs::write(path.join("altered/model.onnx"), b"another graph").unwrap();
    assert!(up.refused(&["model", "activate", &at("altered")]).contains("expected BLAKE3"));
    // 16 numbers come out of the graph where the manifest says 15.
    signed(path, "misshapen", "dimensions = 16", "dimensions = 15");
    let misshapen = up.refused(&["model", "activate", &at("misshapen")]);
    assert!(misshapen.contains("refused, the one before goes on") && misshapen.contains("15"), "{misshapen}");
    assert_eq!(up.listed()["seen"]["active"], serde_json::json!([first]));

    // A good one learns beside it, and takes over.
    let words = up.done(&["model", "activate", &at("next"), "--wait", "5"]);
    assert!(words.contains("goes on by itself"), "{words}");
    wait_for("the shadow to be said", || up.listed()["wish"]["phase"] == "shadow");
    replay(1_200..1_800);
    wait_for("the next bundle to be wanted by the shadow's word", || {
        let seen = up.listed();
        seen["seen"]["active"] == serde_json::json!([next])
            || seen["wish"]["reason"].as_str().unwrap().contains("next readings")
            || seen["seen"]["shadow"][0]["warm"].as_u64() > Some(0)
    });
    std::thread::sleep(Duration::from_secs(3));
    replay(1_800..2_900);
    wait_for("the next bundle", || up.listed()["seen"]["active"] == serde_json::json!([next]));
    assert_eq!(up.listed()["seen"]["shadow"][0]["bundle"], first.as_str());
    assert!(up.done(&["status"]).contains(&format!("bundle: {} judges", &next[..12])));
    replay(2_900..4_000);
    wait_for("an alert of the next bundle", || {
        up.alerts().iter().any(|(bundle, phase)| (bundle, phase.as_str()) == (&next, "opened"))
    });

    // And back.
    up.done(&["model", "rollback", "--wait", "3"]);
    replay(4_000..4_100);
    wait_for("the first bundle again", || up.listed()["seen"]["active"] == serde_json::json!([first]));
    let wish = up.listed()["wish"].clone();
    wait_for("its word", || up.listed()["wish"]["phase"] == "active");
    assert_eq!(wish["digest"], first.as_str());
    up.stop();
}

#[test]
fn a_bundle_that_is_too_slow_or_too_noisy_is_refused_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (path, at) = (folder.path(), |name: &str| folder.path().join(name).display().to_string());
    let public = keys(path);
    let config = path.join("eddy.toml");
    let text = format!("[site]\nname = \"plant\"\n[gateway]\ntrusted_keys = [{:?}]\n", public.display().to_string());
    fs::write(&config, text).unwrap();
    let next = signed(path, "next", "version = \"", "version = \"next-");
    // Heads that learn nothing after commissioning: what comes with the days is new for ever.
    signed(path, "noisy", "memory = \"gated\"", "memory = \"frozen\"");
    let dir = path.join("g");
    let file = part(path, "harbour-1", 0..6_000);
    let up = Up::start_with(&dir, &config, &[("EDDY_GATEWAY_ROLLOUT_WINDOW_BUDGET_US", "0.01")]);
    up.done(&["replay", file.to_str().unwrap(), "--json"]);
    wait_for("the first bundle's word", || up.listed()["seen"]["active"].as_array().is_some_and(|all| all.len() == 1));
    let slow = up.refused(&["model", "activate", &at("next")]);
    assert!(slow.contains("rehearsed: ") && slow.contains("us"), "{slow}");
    up.stop();
    let up = Up::start_with(&dir, &config, &[("EDDY_GATEWAY_ROLLOUT_ALERTS_FACTOR", "1")]);
    // What was refused stays refused until it is wanted anew.
    assert_eq!(up.listed()["wish"]["phase"], "refused");
    let noisy = up.refused(&["model", "activate", &at("noisy")]);
    assert!(noisy.contains("rehearsed: ") && noisy.contains("alerts"), "{noisy}");
    let listed = up.listed();
    assert!(listed["bundles"].as_array().unwrap().iter().any(|bundle| bundle["digest"] == next.as_str()));
    assert_eq!(listed["seen"]["active"].as_array().unwrap().len(), 1);
    up.stop();
}
