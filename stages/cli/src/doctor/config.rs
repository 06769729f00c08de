//! Each stage's own `check` of the config that it runs with.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

use super::{Patient, finding::Check};
use crate::{supervise::workers::Worker, up::workers};

/// How long a check may take: embed reads its bundle.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn look(patient: &Patient, check: &mut Check<'_>) {
    let Some(plan) = &patient.plan else { return };
    let workers = match workers(plan, &plan_url(patient)) {
        Ok(workers) => workers,
        Err(problem) => return check.unchecked(problem),
    };
    for worker in workers {
        if let Err(problem) = of_stage(&worker).await {
            let file = patient.config_file.as_ref().map_or("its defaults".into(), |file| file.display().to_string());
            let remedy =
                format!("`eddy-{0} print-config` has every key; then `eddy-{0} check --config {file}`", worker.stage());
            check.error(format!("{} in {file}", worker.name()), problem, remedy);
        }
    }
}

fn plan_url(patient: &Patient) -> String {
    patient.file.as_ref().map_or_else(|| crate::gateway::DEFAULT_URL.to_owned(), |file| file.machine.url.clone())
}

async fn of_stage(worker: &Worker) -> Result<(), String> {
    let mut command = Command::new(worker.binary());
    command.args(worker.arguments("check")).envs(worker.environment()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output =
        output.map_err(|_| format!("no answer within {PATIENCE:?}"))?.map_err(|problem| problem.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("; "))
}
