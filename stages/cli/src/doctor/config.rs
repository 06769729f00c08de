//! Each stage's own `check` of the config that it runs with, and of the layout of its state.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

use super::{Patient, finding::Check};
use crate::{supervise::workers::Worker, up::workers};

/// How long a check may take: embed reads its bundle.
const PATIENCE: Duration = Duration::from_secs(60);
/// How a stage ends that is stopped by the contract.
const EXIT_CONTRACT: i32 = 70;

pub async fn look(patient: &Patient, check: &mut Check<'_>) {
    let Some(plan) = &patient.plan else { return };
    let workers = match workers(plan, &plan_url(patient)) {
        Ok(workers) => workers,
        Err(problem) => return check.unchecked(problem),
    };
    for worker in workers {
        let checked = of_stage(&worker, &patient.cwd).await;
        let file = patient.config_file.as_ref().map_or("its defaults".into(), |file| file.display().to_string());
        judge(worker.name(), worker.stage(), &file, checked, check);
    }
}

/// What a check ended with where it did not succeed: its exit code, if it ended, and what it said.
type Refused = (Option<i32>, String);

fn judge(name: &str, stage: &str, file: &str, checked: Result<(), Refused>, check: &mut Check<'_>) {
    match checked {
        Ok(()) => {}
        Err((Some(EXIT_CONTRACT), problem)) => {
            let remedy = format!(
                "install the release that wrote it again, or, with the gateway stopped, `eddy-{stage} recover`"
            );
            check.error(format!("state of {name}"), problem, remedy);
        }
        Err((_, problem)) => {
            let remedy =
                format!("`eddy-{stage} print-config` has every key; then `eddy-{stage} check --config {file}`");
            check.error(format!("{name} in {file}"), problem, remedy);
        }
    }
}

fn plan_url(patient: &Patient) -> String {
    patient.file.as_ref().map_or_else(|| crate::gateway::DEFAULT_URL.to_owned(), |file| file.machine.url.clone())
}

async fn of_stage(worker: &Worker, cwd: &Path) -> Result<(), Refused> {
    let mut command = Command::new(worker.binary());
    command.args(worker.arguments("check")).envs(worker.environment()).current_dir(cwd);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_| (None, format!("no answer within {PATIENCE:?}")))?;
    let output = output.map_err(|problem| (None, problem.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err((output.status.code(), said.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::found;

    #[test]
    fn a_bad_config_and_state_of_another_layout_have_their_own_remedies() {
        let of = |checked| found(|check| judge("detect-0", "detect", "e.toml", checked, check)).findings;
        assert_eq!(of(Ok(())), []);
        let config = of(Err((Some(64), "unknown key detect.x".into())));
        assert!(config[0].what.contains("detect.x") && config[0].remedy.contains("check --config e.toml"));
        let state = of(Err((Some(70), "version 3, this release reads 4".into())));
        assert!(state[0].place == "state of detect-0" && state[0].remedy.contains("eddy-detect recover"));
        assert!(of(Err((None, "no answer".into())))[0].what.contains("no answer"));
    }
}
