//! The server's own word on its health, the stages', and what the supervisor gave up.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{Patient, finding::Check};
use crate::supervise::http;

const PATIENCE: Duration = Duration::from_secs(5);

pub async fn look(patient: &Patient, check: &mut Check<'_>) {
    let Some(file) = &patient.file else {
        return check.unchecked("the gateway does not run");
    };
    given_up(&patient.dir, &file.machine.given_up, check);
    let server = file.machine.monitoring.trim_start_matches("http://");
    let answer = http::health(server, PATIENCE).await.map_err(|problem| problem.to_string());
    of_server(answer, &patient.dir, check);
    for (name, address) in &file.machine.http {
        let answer = http::health(address.trim_start_matches("http://"), PATIENCE).await;
        of_stage(name, answer.map_err(|problem| problem.to_string()), &patient.dir, check);
    }
}

fn given_up(dir: &Path, all: &BTreeMap<String, String>, check: &mut Check<'_>) {
    for (name, ending) in all {
        let log = dir.join("logs").join(format!("{name}.log"));
        let remedy =
            format!("{} ends with why, and with the command that accepts it; then restart `eddy up`", log.display());
        check.error(name, format!("was given up: {ending}"), remedy);
    }
}

fn of_server(answer: Result<(u16, String), String>, dir: &Path, check: &mut Check<'_>) {
    let remedy = format!(
        "a stream that could not write stays wedged until the server restarts: free room, then restart `eddy up`; {} has more",
        dir.join("logs/nats-server.log").display()
    );
    match answer {
        Ok((200, _)) => {}
        Ok((code, said)) => check.error("nats-server", format!("/healthz says {code}: {said}"), remedy),
        Err(problem) => check.error("nats-server", format!("/healthz: {problem}"), remedy),
    }
}

fn of_stage(name: &str, answer: Result<(u16, String), String>, dir: &Path, check: &mut Check<'_>) {
    let log = dir.join("logs").join(format!("{name}.log"));
    let remedy = format!("`eddy status` says what waits; {} says why", log.display());
    match answer {
        Ok((200, _)) => {}
        Ok((code, said)) => check.error(name, format!("/healthz says {code}: {said}"), remedy),
        Err(problem) => check.error(name, format!("/healthz: {problem}"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::found;

    #[test]
    fn what_is_well_is_not_told_and_all_else_is() {
        let dir = Path::new("/g");
        let server = |answer| found(|check| of_server(answer, dir, check)).findings;
        assert_eq!(server(Ok((200, "ok".into()))), []);
        assert!(server(Ok((503, "JetStream stream READINGS".into())))[0].what.contains("READINGS"));
        assert!(server(Err("refused".into()))[0].what.contains("refused"));
        let stage = |answer| found(|check| of_stage("embed", answer, dir, check)).findings;
        assert_eq!(stage(Ok((200, String::new()))), []);
        assert!(stage(Ok((503, "stalled".into())))[0].remedy.contains("/g/logs/embed.log"));
        let gone = found(|check| given_up(dir, &[("detect".to_owned(), "exit 70".to_owned())].into(), check)).findings;
        assert!(gone[0].what.contains("exit 70") && gone[0].remedy.contains("detect.log"));
        assert_eq!(found(|check| given_up(dir, &BTreeMap::new(), check)).findings, []);
    }
}
