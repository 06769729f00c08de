//! One child process: started, logged, stopped. Who restarts it is decided elsewhere.

use std::{
    ffi::OsString,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    sync::watch,
};

/// How much of a log's end is shown when its process ends.
const TAIL_BYTES: u64 = 2_000;
const TAIL_LINES: usize = 8;

/// What to start.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in logs and in the machine's file.
    pub name: String,
    /// The binary.
    pub binary: PathBuf,
    /// Arguments.
    pub arguments: Vec<OsString>,
    /// Added to the environment.
    pub environment: Vec<(String, OsString)>,
    /// Where its standard output and error go.
    pub log: PathBuf,
}

impl Program {
    /// Starts it, in a process group of its own: Ctrl-C in a terminal reaches the supervisor alone, which stops things
    /// in their order. On Linux it is told to stop when the supervisor dies.
    ///
    /// # Errors
    /// If the log or the process cannot be made.
    pub fn start(&self) -> std::io::Result<Child> {
        let log = File::options().append(true).create(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        #[cfg(target_os = "linux")]
        // SAFETY: prctl is async-signal-safe, and nothing else happens between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?));
        }
        command
            .spawn()
            .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", self.binary.display())))
    }

    /// The last lines that it printed.
    pub fn said(&self) -> Vec<String> {
        tail(&self.log).unwrap_or_default()
    }

    /// Cuts the log if it is larger than `bytes_max`: what there is becomes `*.log.1`, and the process, which appends,
    /// goes on at the start of an empty file. What it writes between the copy and the cut is lost.
    pub fn cut_log(&self, bytes_max: u64) {
        let Ok(size) = self.log.metadata().map(|metadata| metadata.len()) else { return };
        if size > bytes_max {
            let mut old = self.log.clone().into_os_string();
            old.push(".1");
            if std::fs::copy(&self.log, old).is_ok() {
                // The next round tries again.
                let _ = File::options().write(true).open(&self.log).and_then(|file| file.set_len(0));
            }
        }
    }
}

fn tail(path: &Path) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().rev().take(TAIL_LINES).map(crate::output::printable).collect();
    lines.reverse();
    Ok(lines)
}

/// Asks a process to stop, waits for `grace`, then kills it.
pub async fn stop(child: &mut Child, grace: Duration) -> Option<ExitStatus> {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
    if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
        return status.ok();
    }
    let _ = child.kill().await;
    child.try_wait().ok().flatten()
}

/// Returns when a process that was killed is gone: nothing of it runs any more, and no file of it is open.
pub async fn gone(pid: u32) {
    let stat = format!("/proc/{pid}/stat");
    // A zombie has closed its files; its parent's runtime reaps it some time.
    let runs = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z"));
    while runs() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Returns when `stop` says so, or nobody is there to say it.
pub async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How a process ended, in words.
pub fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => Signal::try_from(signal).map_or(format!("signal {signal}"), |name| name.to_string()),
        (None, None) => "unknown".to_owned(),
    }
}

/// Waits before starts, and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct Restarts {
    min: Duration,
    max: Duration,
    tries_max: u32,
    tries: u32,
}

/// A process that lived so long was well.
const WELL_AFTER: Duration = Duration::from_secs(60);

impl Restarts {
    /// Doubling from `min` to `max`, `tries_max` times in a row.
    pub fn new(min: Duration, max: Duration, tries_max: u32) -> Self {
        Self { min, max, tries_max, tries: 0 }
    }

    /// How long to wait before the next start of a process that lived for `lived`; `None`: not again.
    pub fn next(&mut self, lived: Duration) -> Option<Duration> {
        if lived >= WELL_AFTER {
            self.tries = 0;
        }
        self.tries += 1;
        let doubled = self.min.saturating_mul(1 << (self.tries - 1).min(20));
        (self.tries <= self.tries_max).then(|| doubled.min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, script: &str) -> Program {
        Program {
            name: "test".into(),
            binary: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("EDDY_TEST".into(), "yes".into())],
            log: folder.join("test.log"),
        }
    }

    #[test]
    fn waits_double_and_end() {
        let mut restarts = Restarts::new(Duration::from_millis(100), Duration::from_millis(350), 4);
        let waits: Vec<_> = (0..5).map(|_| restarts.next(Duration::ZERO).map(|wait| wait.as_millis())).collect();
        assert_eq!(waits, [Some(100), Some(200), Some(350), Some(350), None]);
        assert_eq!(restarts.next(WELL_AFTER), Some(Duration::from_millis(100)));
    }

    #[tokio::test]
    async fn what_it_printed_is_kept_and_its_ending_told() {
        let folder = tempfile::tempdir().unwrap();
        let program = program(folder.path(), "echo out $EDDY_TEST; echo err >&2; exit 64");
        let status = program.start().unwrap().wait().await.unwrap();
        assert_eq!((ending(status).as_str(), program.said()), ("exit 64", vec!["out yes".into(), "err".into()]));
        program.cut_log(3);
        assert_eq!(program.log.metadata().unwrap().len(), 0);
        assert_eq!(std::fs::read_to_string(folder.path().join("test.log.1")).unwrap(), "out yes\nerr\n");
    }

    #[tokio::test]
    async fn a_process_that_was_killed_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let child = program(folder.path(), "while :; do sleep 0.05; done").start().unwrap();
        let pid = child.id().unwrap();
        drop(child);
        gone(pid).await;
        assert!(std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty());
    }

    #[tokio::test]
    async fn a_process_that_does_not_stop_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let program = program(folder.path(), "trap '' TERM; echo ready; while :; do sleep 0.05; done");
        let mut child = program.start().unwrap();
        while program.said().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status = stop(&mut child, Duration::from_millis(100)).await.unwrap();
        assert_eq!(ending(status), "SIGKILL");
    }
}
