//! How a process was started, so that it can be started again.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::{ffi::OsStringExt as _, process::CommandExt as _},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, Result};

use super::process::Owned;

/// How a process was started.
#[derive(Debug)]
pub(super) struct Start {
    binary: PathBuf,
    /// What it was called: a file of many programs goes by that.
    name: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Start {
    /// As the kernel tells it of a process that runs.
    ///
    /// # Errors
    /// If it does not run, or is another user's.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).context(format!("process {pid}: {name}"));
        let binary = std::fs::read_link(format!("/proc/{pid}/exe")).context(format!("process {pid}: exe"))?;
        let line = read("cmdline")?;
        let mut line = pieces(&line);
        Ok(Self {
            binary,
            name: line.next().unwrap_or_default(),
            arguments: line.collect(),
            environment: pieces(&read("environ")?).filter_map(pair).collect(),
        })
    }

    /// Puts these in place of all variables that begin with `prefix`.
    pub(super) fn set(&mut self, prefix: &str, variables: &[(&str, String)]) {
        self.environment.retain(|(name, _)| !name.to_string_lossy().starts_with(prefix));
        self.environment.extend(variables.iter().map(|(name, value)| (name.into(), value.into())));
    }

    /// Starts it again; what it says goes into `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn again(&self, log: File) -> Result<Owned> {
        let mut command = Command::new(&self.binary);
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Owned::start(command.stdout(log.try_clone()?).stderr(log))
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = OsString> + '_ {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    bytes.split(|byte| *byte == 0).map(|piece| OsString::from_vec(piece.to_vec()))
}

fn pair(piece: OsString) -> Option<(OsString, OsString)> {
    let bytes = piece.into_vec();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    Some((OsString::from_vec(bytes[..at].to_vec()), OsString::from_vec(bytes[at + 1..].to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_started_again_as_it_was() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "while :; do /bin/sleep 0.05; done", "", "a b"]).env("EDDY_BENCH_TEST", "x=y\nz");
        let owned = Owned::start(&mut command).unwrap();
        // Between fork and exec the process is still the test itself.
        let start = loop {
            let start = Start::of(owned.pid()).unwrap();
            if start.arguments.first().is_some_and(|first| first == "-c") {
                break start;
            }
        };
        assert_eq!(start.arguments[2..], ["", "a b"]);
        assert!(start.environment.contains(&("EDDY_BENCH_TEST".into(), "x=y\nz".into())));
    }
}
