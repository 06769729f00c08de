//! A bundle that is pushed to the region and wanted there comes to a gateway that may only import what its account lends it.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use super::commands::{Up, keys, part, signed, wait_for};
use crate::stage::binary;

/// A hub that `eddy hub up` runs, ended with it.
struct HubUp(Child);

impl Drop for HubUp {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

#[test]
fn a_bundle_is_pushed_wanted_and_taken_by_a_gateway_that_trusts_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let (path, at) = (folder.path(), |name: &str| folder.path().join(name).display().to_string());
    let eddy = |arguments: &[&str]| {
        let ran = Command::new(binary("eddy")).args(arguments).current_dir(path).output().unwrap();
        let (out, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        (ran.status.success(), format!("{out}{error}"))
    };
    assert!(eddy(&["certs", "--out", "certs", "--site", "plant 1", "--operator", "me"]).0);
    let public = keys(path);
    let certs = |name: &str| at(&format!("certs/{name}"));
    let hub = format!(
        "[region]\n[region.tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n[hub]\nsites = [\"plant 1\"]\n",
        certs("ca.pem"),
        certs("hub.pem"),
        certs("hub.key")
    );
    fs::write(path.join("hub.toml"), hub).unwrap();
    let child = Command::new(binary("eddy"))
        .args(["hub", "up", "--port", "0", "--dir", &at("hub"), "--config", &at("hub.toml")])
        .stdout(Stdio::null())
        .stderr(fs::File::create(path.join("hub.log")).unwrap())
        .spawn()
        .unwrap();
    let _hub = HubUp(child);
    let file = path.join("hub/hub.json");
    let url = || {
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        json["url"].as_str().map(str::to_owned)
    };
    wait_for("the hub", || url().is_some());
    let next = signed(path, "next", "version = \"", "version = \"next-");
    wait_for("the bucket", || eddy(&["model", "push", "next", "--trusted", "site.pub", "--hub", "hub"]).0);
    let (is_there, listed) = eddy(&["model", "list", "--hub", "hub"]);
    assert!(is_there && listed.trim() == next, "{listed}");
    // Nobody wants what was not pushed.
    assert!(!eddy(&["model", "activate", "0123", "--hub", "hub"]).0);

    let config = path.join("plant.toml");
    let text = format!(
        "[site]\nname = \"plant 1\"\n[gateway]\ntrusted_keys = [{:?}]\n[gateway.rollout]\nwarm_percent = 50\nshadow_rows = 1\n\
         [sync]\nsketch_poll_s = 1\n[sync.hub]\nurl = {:?}\ntls_ca_file = {:?}\ntls_cert_file = {:?}\ntls_key_file = {:?}\n",
        public.display().to_string(),
        url().unwrap(),
        certs("ca.pem"),
        certs("site-plant%201.pem"),
        certs("site-plant%201.key"),
    );
    fs::write(&config, text).unwrap();
    let up = Up::start(&path.join("g"), &config);
    let replay = |rows: std::ops::Range<usize>| {
        let file = part(path, "harbour-1", rows);
        up.done(&["replay", file.to_str().unwrap(), "--json"]);
    };
    replay(0..900);
    wait_for("the bundle to come down", || path.join("g/bundles").join(&next).is_dir());
    let (is_wanted, words) = eddy(&["model", "activate", &next[..8], "--hub", "hub", "--for", "plant 1"]);
    assert!(is_wanted, "{words}");
    wait_for("the wish", || up.listed()["wish"]["digest"] == next.as_str());
    wait_for("the shadow", || up.listed()["wish"]["phase"] == "shadow");
    replay(900..1_700);
    std::thread::sleep(std::time::Duration::from_secs(3));
    replay(1_700..2_000);
    wait_for("the next bundle", || up.listed()["seen"]["active"] == serde_json::json!([next]));
    up.stop();
}
