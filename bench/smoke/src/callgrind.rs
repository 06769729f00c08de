//! Cases under callgrind: a process each, so that none finds another's heap.

use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cases::Case, counted::TOGGLE, environment};

/// What callgrind writes, in the case's folder.
const OUT: &str = "out.callgrind";
/// What a case's folder calls this program: its path is on every process's stack.
const PROGRAM: &str = "./eddy-smoke";
/// Argument by which this program does the case that follows, in the folder in which it is.
pub const RUN: &str = "--run";
/// Argument by which it prints the processor's extensions that it sees.
pub const FEATURES: &str = "--features";
/// What a case's folder calls the repository's fixtures.
pub const FIXTURES: &str = "fixtures";

/// What a case cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// Instructions of all of it.
    pub instructions: u64,
    /// What it did, in its own unit.
    pub units: u64,
}

impl Count {
    /// Instructions of one unit, to a tenth.
    pub fn per_unit(self) -> f64 {
        (self.instructions as f64 * 10.0 / self.units.max(1) as f64).round() / 10.0
    }
}

/// Counts a case in `folder`, which is made for it, and puts callgrind's output into `keep` as `<case>.callgrind`.
///
/// # Errors
/// If valgrind or the case fails.
pub fn count(case: &Case, folder: &Path, keep: Option<&Path>) -> Result<Count> {
    std::fs::create_dir_all(folder)?;
    symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures"), folder.join(FIXTURES))?;
    symlink(std::env::current_exe()?, folder.join(PROGRAM))?;
    if let Some(prepare) = case.prepare {
        prepare(folder)?;
    }
    let mut command = valgrind();
    command
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={TOGGLE}"))
        .arg(format!("--callgrind-out-file={OUT}"));
    // All of its paths are relative: how long the folder's own name is would be counted with every one that is copied.
    command.args([PROGRAM, RUN, case.name]).current_dir(folder);
    let printed = run(&mut command).with_context(|| format!("case {}", case.name))?;
    let units = printed.trim().parse().with_context(|| format!("case {} printed {printed:?}", case.name))?;
    let text =
        std::fs::read_to_string(folder.join(OUT)).with_context(|| format!("callgrind's output of {}", case.name))?;
    if let Some(keep) = keep {
        std::fs::create_dir_all(keep)?;
        std::fs::write(keep.join(format!("{}.callgrind", case.name)), &text)?;
    }
    let instructions = total(&text).with_context(|| format!("callgrind's output of {} has no total", case.name))?;
    ensure!(instructions > 0 && units > 0, "case {}: {instructions} instructions, {units} units", case.name);
    Ok(Count { instructions, units })
}

/// The extensions that a process sees under valgrind.
///
/// # Errors
/// If valgrind fails.
pub fn features() -> Result<String> {
    let printed = run(valgrind().arg("--tool=none").arg(std::env::current_exe()?).arg(FEATURES))?;
    environment::read_features(&printed)
}

/// Valgrind, with an environment that is the same on every machine: what a process starts with lies on its stack.
fn valgrind() -> Command {
    let mut command = Command::new("valgrind");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).arg("--quiet");
    command
}

/// What a command printed.
fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("valgrind cannot be started")?;
    if !output.status.success() {
        bail!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Instructions that callgrind collected, as its output tells them.
fn total(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_and_a_file_without_one_is_not_nothing() {
        assert_eq!(total("events: Ir\nfn=(0) below main\n5 100\ntotals: 1234\n"), Some(1234));
        assert_eq!(total("events: Ir\n"), None);
        assert_eq!(Count { instructions: 1234, units: 100 }.per_unit(), 12.3);
    }
}
