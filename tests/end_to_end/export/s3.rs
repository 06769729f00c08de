//! A real S3, on the loopback: SeaweedFS.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::filled::{ALL, Filled, failure, summary};
use crate::{faults::Dice, full_disk::Tmpfs};

/// `weed server -s3`; killed when dropped.
struct Weed {
    binary: PathBuf,
    folder: PathBuf,
    ports: [u16; 4],
    child: Child,
}

/// The program, in `.tools/` or beside nats-server.
fn weed() -> Option<PathBuf> {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/py/bin/weed");
    let server = std::env::var_os("EDDY_NATS_SERVER").map(PathBuf::from);
    let found =
        std::iter::once(local).chain(server.map(|server| server.with_file_name("weed"))).find(|path| path.is_file());
    if found.is_none() {
        println!("SKIPPED: no weed in .tools/py (make clients installs it)");
    }
    found
}

impl Weed {
    /// In `folder`, with the bucket `bucket` and one pair of keys.
    fn start(binary: PathBuf, folder: &Path) -> Self {
        // Its gRPC ports lie 10,000 above: these are free too, as long as they are below 32,768, where others are given out.
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let seed = u64::from(std::process::id()) + (STARTED.fetch_add(1, Ordering::Relaxed) << 32);
        let mut dice = Dice(seed.wrapping_mul(2_654_435_761));
        let free = |port: &u16| {
            TcpListener::bind(("127.0.0.1", *port)).is_ok() && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok()
        };
        let ports = std::array::from_fn(|_| {
            loop {
                let port = 10_000 + dice.below(12_000) as u16;
                if free(&port) {
                    break port;
                }
            }
        });
        std::fs::create_dir_all(folder.join("data")).unwrap();
        let keys = serde_json::json!({ "identities": [{
            "name": "test", "credentials": [{ "accessKey": "right", "secretKey": "secret" }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        std::fs::write(folder.join("s3.json"), keys.to_string()).unwrap();
        let child = Self::spawn(&binary, folder, &ports);
        let weed = Self { binary, folder: folder.to_owned(), ports, child };
        weed.answers();
        weed.shell("s3.bucket.create -name bucket");
        weed
    }

    fn spawn(binary: &Path, folder: &Path, ports: &[u16; 4]) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(folder.with_extension("log")).unwrap();
        let mut command = Command::new(binary);
        command.args(["server", "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-s3", "-volume.max", "30"]);
        // What else it would serve has ports of its own.
        command.args(["-s3.port.iceberg", "0", "-s3.port.lance", "0"]);
        command.args([
            "-master.volumeSizeLimitMB",
            "8",
            "-master.volumePreallocate=false",
            "-volume.minFreeSpace",
            "1MiB",
        ]);
        command.arg("-dir").arg(folder.join("data")).arg("-s3.config").arg(folder.join("s3.json"));
        for (name, port) in ["master.port", "volume.port", "filer.port", "s3.port"].iter().zip(ports) {
            command.arg(format!("-{name}={port}"));
        }
        let kept = log.try_clone().unwrap();
        command.env("HOME", folder).stdin(Stdio::null()).stdout(kept).stderr(log).spawn().unwrap()
    }

    fn answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        for port in &self.ports {
            while TcpStream::connect(("127.0.0.1", *port)).is_err() {
                assert!(Instant::now() < deadline, "weed does not come up: {}", self.log());
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default()
    }

    fn shell(&self, line: &str) {
        use std::io::Write as _;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut child = Command::new(&self.binary)
                .args([
                    "shell",
                    &format!("-master=127.0.0.1:{}", self.ports[0]),
                    &format!("-filer=127.0.0.1:{}", self.ports[2]),
                ])
                .env("HOME", &self.folder)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
            // Where it finds no master it waits for one, for ever.
            let given_up = Instant::now() + Duration::from_secs(15);
            while child.try_wait().unwrap().is_none() {
                if Instant::now() > given_up {
                    child.kill().unwrap();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let output = child.wait_with_output().unwrap();
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if output.status.success() && !said.contains("error") {
                return;
            }
            assert!(Instant::now() < deadline, "{line}: {said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = Self::spawn(&self.binary, &self.folder, &self.ports);
        self.answers();
    }

    fn told(&self, command: &mut Command) {
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.ports[3]))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "right")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("EDDY_EXPORT_CUT_ROWS", "2000");
    }

    /// An export of everything to this S3.
    fn export(&self, filled: &Filled, to: &str) -> Command {
        let mut command = filled.export(to);
        command.args(ALL);
        self.told(&mut command);
        command
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.folder.with_extension("log"));
    }
}

/// The manifest of the same export to a folder: its name is the digest of every file's digest.
fn to_a_folder(filled: &Filled) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    let mut export = filled.export(folder.path().to_str().unwrap());
    summary(export.args(ALL).env("EDDY_EXPORT_CUT_ROWS", "2000"))["manifest"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_gets_the_same_files_and_every_fault_is_told_and_got_over() {
    let Some(binary) = weed() else { return };
    let mut filled = Filled::with(40).await;
    let expected = to_a_folder(&filled);
    let folder = tempfile::tempdir().unwrap();
    let mut weed = Weed::start(binary, &folder.path().join("weed"));

    let to = "s3://bucket/plant 1/a";
    let said = failure(weed.export(&filled, to).env("AWS_SECRET_ACCESS_KEY", "wrong"), 1);
    assert!(said.contains("the credentials are refused") && said.contains("AWS_SECRET_ACCESS_KEY"), "{said}");
    let said = failure(weed.export(&filled, to).env("AWS_ACCESS_KEY_ID", "nobody"), 1);
    assert!(said.contains("the credentials are refused"), "{said}");
    let said = failure(&mut weed.export(&filled, "s3://nowhere/x"), 1);
    assert!(said.contains("\"nowhere\" is not there"), "{said}");

    // Killed while files are on their way.
    let child = weed.export(&filled, to).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !weed.log().contains("PUT") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        let written = weed.folder.join("data").read_dir().unwrap().filter_map(Result::ok);
        if written.filter(|entry| entry.path().extension().is_some_and(|end| end == "dat")).count() > 3 {
            break;
        }
    }
    weed.kill();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("run the export again") && said.contains("s3://bucket/plant 1/a"), "{said}");
    weed.restart();
    let deadline = Instant::now() + Duration::from_secs(90);
    let done = loop {
        // Its parts find one another again in their own time.
        let output = weed.export(&filled, to).output().unwrap();
        if output.status.success() {
            break serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
        }
        assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&output.stderr));
    };
    assert_eq!(done["manifest"], expected);
    let again = summary(&mut weed.export(&filled, to));
    assert_eq!((&again["files_written"], &again["manifest"]), (&0.into(), &expected));
    let mut receipts = filled.receipts(to);
    weed.told(&mut receipts);
    summary(&mut receipts);

    // An upload of several parts comes back as it was written.
    filled.noise().await;
    let to = "s3://bucket/parts";
    let mut large = weed.export(&filled, to);
    let done = summary(large.env("EDDY_EXPORT_CUT_ROWS", "500000").args(["--sequences", "41..44"]));
    let embeddings = done["classes"].as_array().unwrap().iter().find(|class| class["class"] == "embeddings").unwrap();
    assert_eq!((&embeddings["rows"], &embeddings["files"]), (&3_600.into(), &1.into()));
    assert!(embeddings["bytes"].as_u64().unwrap() > 6 << 20, "{embeddings}");
    let mut receipts = filled.receipts(to);
    weed.told(&mut receipts);
    summary(&mut receipts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_s3_is_told_and_got_over() {
    let Some(binary) = weed() else { return };
    let Some(disk) = Tmpfs::new(96) else {
        eprintln!("SKIPPED a_full_disk_of_s3_is_told_and_got_over: mounting a tmpfs needs root");
        return;
    };
    let filled = Filled::with(40).await;
    let expected = to_a_folder(&filled);
    let weed = Weed::start(binary, &disk.path().join("weed"));
    disk.fill();
    let said = failure(&mut weed.export(&filled, "s3://bucket/a"), 1);
    assert!(said.contains("run the export again"), "{said}");
    disk.make_room();
    let deadline = Instant::now() + Duration::from_secs(120);
    let done = loop {
        // It takes a while until it believes in its disk again.
        let output = weed.export(&filled, "s3://bucket/a").output().unwrap();
        if output.status.success() {
            break serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
        }
        assert!(Instant::now() < deadline, "{}\n{}", String::from_utf8_lossy(&output.stderr), weed.log());
    };
    assert_eq!(done["manifest"], expected);
}
