//! Processes that the bench started: what they use, and that they end.

use std::{
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    time::ClockId,
    unistd::Pid,
};

/// How long a process may take after SIGTERM: `eddy up` stops its stages, then its server; a bench that is a part of another stops such a
/// gateway first.
const GRACE: Duration = Duration::from_secs(45);

/// A child that does not outlive its handle: SIGTERM, then SIGKILL.
#[derive(Debug)]
pub(crate) struct Owned(Child);

impl Owned {
    /// Starts it, with nothing on its standard input, in a process group of its own: Ctrl-C reaches the bench alone.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let program = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        Ok(Self(child.with_context(|| format!("starting {}", program.display()))?))
    }

    /// Its id.
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    fn end(&mut self) {
        if self.ended().is_some() {
            return;
        }
        signal(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        while self.ended().is_none() {
            if Instant::now() > deadline {
                // It may end this moment; then there is nothing to kill.
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends a process a signal. It may have ended by itself.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Proportional set size: shared pages are counted in parts, so that a sum over processes is right.
    pub(super) pss: u64,
    /// The part of it that no file holds; the rest are mapped files, which the kernel may drop: binaries, state in LMDB.
    pub(super) anonymous: u64,
}

/// What a process has now.
pub(super) fn memory(pid: u32) -> Option<Memory> {
    parse_memory(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// CPU time so far, user and system, of all its threads, in seconds. From its clock, in nanoseconds: `/proc/<pid>/stat` counts in
/// hundredths of a second, in which the work of a small measurement may be none.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    Some(Duration::from(clock.now().ok()?).as_secs_f64())
}

fn parse_memory(rollup: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    Some(Memory { pss: bytes("Pss:")?, anonymous: bytes("Pss_Anon:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_among_its_parts() {
        let rollup = "55-7f ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:        812 kB\nPss_Anon:     400 kB\n";
        assert_eq!(parse_memory(rollup), Some(Memory { pss: 812 << 10, anonymous: 400 << 10 }));
        assert_eq!(parse_memory("Rss: 9 kB\nPss_Anon: 4 kB\n"), None);
        assert!(memory(std::process::id()).is_some_and(|memory| memory.anonymous > 0));
    }

    #[test]
    fn the_least_work_of_another_process_is_told() {
        let owned = Owned::start(Command::new("/bin/sleep").arg("600")).unwrap();
        assert!(cpu_seconds(owned.pid()).is_some_and(|seconds| seconds > 0.0 && seconds < 1.0));
        assert_eq!(cpu_seconds(u32::MAX), None);
    }

    #[test]
    fn a_dropped_handle_ends_its_process() {
        let owned = Owned::start(Command::new("/bin/sleep").arg("600")).unwrap();
        let pid = owned.pid();
        drop(owned);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
