//! `eddy top` in a real terminal, tmux's: a fault that a device's readings show is seen there, and what its keys say is said.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use eddy_cli::top::screen::Screen;
use eddy_runtime::client::Client;

use crate::{
    gateway::SITE,
    recording::{fleet, send, subject},
    stage::binary,
    up::{Up, config},
};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of the recording; its name is no subject token as it is.
const DEVICE: &str = "plaza.north 7";
/// Rows of the recording that it has sent before.
const ROWS: usize = 900;

/// A terminal with a shell in it; killed when dropped.
struct Tmux {
    folder: tempfile::TempDir,
}

impl Tmux {
    /// `None`: there is no tmux.
    fn start() -> Option<Self> {
        let tmux = Self { folder: tempfile::tempdir().unwrap() };
        Command::new("tmux").arg("-V").output().ok()?;
        tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "env PS1='ready> ' sh"]);
        tmux.sees("ready>");
        Some(tmux)
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let socket = self.folder.path().join("socket");
        Command::new("tmux").arg("-u").arg("-S").arg(socket).args(arguments).env_remove("TMUX").output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let ran = self.tmux(arguments);
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Presses keys, by tmux's names.
    fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Types a text.
    fn write(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
    }

    /// Has the shell do something.
    fn shell(&self, line: &str) {
        self.write(line);
        self.press(&["Enter"]);
    }

    #[track_caller]
    fn waits(&self, what: &str, done: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if done(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn sees(&self, part: &str) -> String {
        self.waits(part, |screen| screen.contains(part))
    }

    #[track_caller]
    fn misses(&self, part: &str) -> String {
        self.waits(part, |screen| !screen.contains(part))
    }

    /// The process that the shell has started.
    fn child(&self) -> nix::unistd::Pid {
        let shell = self.run(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        nix::unistd::Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap())
    }

    /// What was on the terminal before is there again, and it is one that a shell can be used in.
    fn is_as_before(&self, code: i32) {
        let screen = self.sees(&format!("ended-{code}"));
        assert!(screen.contains("before-top"), "{screen}");
        self.shell("stty -a | grep -c -e '-icanon' -e '-echo ' | sed s/^/raw-/");
        self.sees("raw-0");
        self.shell("clear; echo before-top");
        self.misses("raw-0");
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

/// What is wrong with the device from now on: its temperature.
async fn fault(client: &Client, readings: &[(String, i64, f64)]) {
    for (channel, time, value) in readings.iter().filter(|(channel, ..)| channel == "temperature").take(12) {
        let json = format!("{{\"time\":\"{}\",\"{channel}\":{}}}", eddy_schemas::rfc3339(*time), value + 40.0);
        client.publish(&subject(DEVICE), &[("Content-Type", "application/json")], json.into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_is_seen_in_a_terminal_and_what_is_said_there_is_said() {
    let Some(tmux) = Tmux::start() else {
        println!("SKIPPED: tmux is not installed (apt-get install tmux)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(&folder.path().join("g"), &config(folder.path(), ""));
    let client = up.client().await;
    let (before, after) = fleet(&[DEVICE], ROWS + 100)[0].cut(3 * ROWS);
    send(&client, &[before], 500).await;
    up.wait_until_through(&client).await;
    let top = format!("{} top --dir {} --as alice; echo ended-$?", binary("eddy").display(), up.dir.display());
    tmux.shell("clear; echo before-top");
    tmux.shell(&top);
    let reads = |line: &str| line.starts_with("detect ") && line.contains(" reading ");
    let calm = tmux.waits("a stage that reads", |screen| screen.lines().any(reads));
    assert!(calm.contains("no alert yet") && calm.contains(SITE), "{calm}");
    let started = Instant::now();
    fault(&client, &after.readings).await;
    let sent = started.elapsed();
    let screen = tmux.sees("‼ nobody");
    println!(
        "from the first reading of a fault to the screen: {:?} (all of them stored after {sent:?})",
        started.elapsed()
    );
    let line = screen.lines().find(|line| line.contains(DEVICE)).unwrap();
    assert!(line.contains("temperature") && line.contains("open 1"), "{screen}");

    tmux.press(&["2"]);
    tmux.sees(&format!("── {DEVICE}, temperature"));
    // The index has its word, and the curves are there.
    tmux.waits("curves", |screen| screen.contains("window    ") && screen.contains("p down to"));
    tmux.write("/no such thing");
    tmux.sees("no alert has no such thing in it");
    tmux.press(&["Escape"]);
    tmux.sees(DEVICE);
    tmux.write("/plaza");
    tmux.sees("filter: plaza");
    tmux.press(&["Enter"]);
    tmux.sees(&format!("── {DEVICE}, temperature"));

    tmux.press(&["a"]);
    tmux.sees("temperature, as alice? y / n");
    tmux.press(&["y"]);
    tmux.sees("acknowledged by alice");
    tmux.misses("‼ nobody");
    tmux.run(&["resize-window", "-x", "120", "-y", "40"]);
    tmux.waits("wide", |screen| screen.lines().any(|line| line.starts_with("── ") && line.chars().count() == 120));
    tmux.run(&["resize-window", "-x", "80", "-y", "24"]);
    tmux.waits("narrow", |screen| screen.lines().any(|line| line.starts_with("── ") && line.chars().count() == 80));
    // Both at once, as over a slow line.
    tmux.press(&["Escape", "l"]);
    tmux.sees("what was it");
    tmux.write("clogged filter");
    tmux.press(&["Enter"]);
    tmux.sees("`clogged filter`? y / n");
    tmux.press(&["y"]);
    tmux.sees(&format!("── {DEVICE}, clogged filter"));
    tmux.press(&["m"]);
    tmux.write("2h");
    tmux.press(&["Enter"]);
    tmux.sees("for 2h? y / n");
    tmux.press(&["y"]);
    // Detect closes what is open at a device under maintenance.
    tmux.waits("closed", |screen| screen.contains("done: ") && screen.contains(" closed "));
    tmux.press(&["1"]);
    tmux.sees(&format!("1 under maintenance: {DEVICE} until"));
    tmux.press(&["q"]);
    tmux.is_as_before(0);

    // Another one reads all of it from the streams; a signal ends it like a key.
    tmux.shell(&top.replace("--as alice", "--as bob --pane alerts"));
    tmux.sees("[2 Alerts]");
    tmux.sees("acknowledged by alice");
    nix::sys::signal::kill(tmux.child(), nix::sys::signal::Signal::SIGTERM).unwrap();
    tmux.is_as_before(0);
    tmux.shell(&top);
    tmux.sees("[1 Overview]");
    tmux.press(&["C-c"]);
    tmux.is_as_before(0);
    let audit = eddy_schemas::audit::verify(&up.dir.join("audit")).unwrap();
    assert_eq!((audit.first, audit.head.seq), (1, 3));
    up.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_frame_needs_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(&folder.path().join("g"), &config(folder.path(), ""));
    let said = tokio::task::block_in_place(|| up.ends(1, &["top"]));
    assert!(said.contains("no terminal: `eddy top --once`"), "{said}");
    let frame = tokio::task::block_in_place(|| up.ends(0, &["top", "--once"]));
    assert!(frame.contains("no alert yet") && frame.lines().count() == 24, "{frame}");
    assert!(!frame.contains('\u{1b}') && frame.lines().all(|line| line.chars().count() <= 80), "{frame}");
    let picture: PathBuf = folder.path().join("top.svg");
    tokio::task::block_in_place(|| {
        up.ends(0, &["top", "--once", "--size", "100x30", "--svg", picture.to_str().unwrap()])
    });
    assert!(fs::read_to_string(picture).unwrap().contains(">[1 Overview]<"));
    up.stop();
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let Some(tmux) = Tmux::start() else {
        println!("SKIPPED: tmux is not installed (apt-get install tmux)");
        return;
    };
    let own = std::env::current_exe().unwrap();
    tmux.shell("clear; echo before-top");
    tmux.shell(&format!("{} --ignored --exact --nocapture top::panics_in_a_terminal; echo ended-$?", own.display()));
    let screen = tmux.sees("something that nobody thought of");
    assert!(screen.contains("panicked at"), "{screen}");
    tmux.is_as_before(101);
}

#[test]
#[ignore = "started by a_panic_gives_the_terminal_back, in a terminal"]
fn panics_in_a_terminal() {
    let _screen = Screen::open().unwrap();
    // Whatever thread it is.
    std::thread::spawn(|| panic!("something that nobody thought of")).join().unwrap();
}
