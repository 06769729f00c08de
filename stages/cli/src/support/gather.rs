//! What goes into the bundle.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::process::Command;

use super::config;
use crate::{
    backup,
    doctor::{self, Patient},
    gateway::{DEFAULT_URL, Gateway},
    status,
    supervise::http,
    up::workers,
};

/// The end of each log.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// All that one address tells.
const TOLD_BYTES_MAX: u64 = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(10);
/// Of nats-server's monitoring: itself, and its streams with their consumers. Not who is connected from where.
const MONITORED: [(&str, &str); 2] = [("varz", "/varz"), ("jsz", "/jsz?streams=true&consumers=true&config=true")];

/// Every file by its name; what cannot be had is a file that says why. `names`: with those of devices and channels in configs.
pub async fn all(patient: &Patient, names: bool) -> Vec<(String, String)> {
    let mut files = vec![("versions.txt".to_owned(), machine())];
    files.extend(logs(&patient.dir.join("logs")));
    files.extend(configs(patient, names).await);
    if let Some(file) = &patient.file {
        files.push((
            "gateway.json".into(),
            pretty(&json!({"pids": file.machine.pids, "given_up": file.machine.given_up, "shards": file.shards})),
        ));
        for (name, address) in &file.machine.http {
            files.push((format!("metrics/{name}.txt"), told(address, "/metrics").await));
        }
        for (name, path) in MONITORED {
            files.push((format!("nats-server/{name}.json"), told(&file.machine.monitoring, path).await));
        }
    }
    if let Some(gateway) = &patient.gateway {
        files.push(("status.json".into(), state(gateway).await));
        files.push(("dead-letters.json".into(), dead_letters(gateway).await));
    }
    files
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory: String = read("/proc/meminfo").lines().take(3).map(|line| format!("{line}\n")).collect();
    format!("eddy {}\n{}{memory}load {}", env!("CARGO_PKG_VERSION"), read("/proc/version"), read("/proc/loadavg"))
}

fn logs(folder: &Path) -> Vec<(String, String)> {
    let name = |path: &Path| format!("logs/{}", path.file_name().unwrap_or_default().to_string_lossy());
    backup::below(folder)
        .iter()
        .map(|path| (name(path), end_of(path).unwrap_or_else(|error| error.to_string())))
        .collect()
}

fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LOG_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The first line is cut in half: a half of a secret would not be known for one.
    Ok(if size > LOG_BYTES_MAX {
        text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned())
    } else {
        text
    })
}

/// The effective config of each stage, and the file's own.
async fn configs(patient: &Patient, names: bool) -> Vec<(String, String)> {
    let mut files = Vec::new();
    if let Some(text) = patient.config_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok()) {
        files.push(("config/file.toml".to_owned(), config::shown(&text, names)));
    }
    let url = patient.file.as_ref().map_or(DEFAULT_URL, |file| &file.machine.url);
    for worker in patient.plan.iter().flat_map(|plan| workers(plan, url).unwrap_or_default()) {
        let mut command = Command::new(worker.binary());
        command
            .args(worker.arguments("print-config"))
            .envs(worker.environment())
            .current_dir(&patient.cwd)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let text = match tokio::time::timeout(PATIENCE, command.output()).await {
            Ok(Ok(output)) if output.status.success() => config::shown(&String::from_utf8_lossy(&output.stdout), names),
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Ok(Err(problem)) => problem.to_string(),
            Err(_) => "no answer in time".into(),
        };
        files.push((format!("config/{}.toml", worker.name()), text));
    }
    files
}

async fn told(address: &str, path: &str) -> String {
    let address = address.trim_start_matches("http://");
    match http::get(address, path, TOLD_BYTES_MAX, PATIENCE).await {
        Ok((200, said)) => said,
        Ok((code, said)) => format!("{code}: {said}"),
        Err(problem) => problem.to_string(),
    }
}

/// How far every reader and checkpoint is; without the last alert and the words of what was refused, which quote what was sent.
async fn state(gateway: &Gateway) -> String {
    let status = match status::gather::gather(gateway, Duration::from_secs(1)).await {
        Ok(status) => status,
        Err(problem) => return problem.to_string(),
    };
    let mut state = serde_json::to_value(&status).unwrap_or_default();
    if let Some(state) = state.as_object_mut() {
        state.remove("last_alert");
        let stages = state.get_mut("aside").and_then(Value::as_object_mut);
        stages
            .into_iter()
            .flatten()
            .for_each(|(_, aside)| drop(aside.as_object_mut().map(|aside| aside.remove("last_refusal"))));
    }
    pretty(&state)
}

async fn dead_letters(gateway: &Gateway) -> String {
    match doctor::refused(gateway).await {
        Ok(refused) => {
            let of = |((stage, reason), count): (&(String, String), &u64)| json!({"stage": stage, "reason": reason, "count": count});
            pretty(&refused.iter().map(of).collect())
        }
        Err(problem) => problem.to_string(),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
