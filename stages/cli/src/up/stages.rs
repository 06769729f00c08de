//! The stage processes: started, and started again unless they say that it cannot help.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::{process::Child, sync::watch, task::JoinHandle};

use super::{
    UpError, bundle,
    config::GatewayConfig,
    process::{self, Program, Restarts},
    register::{GivenUp, Register},
};

/// The stages on the path to an alert, and whether each shard has its own.
const STAGES: [(&str, bool); 4] = [("capture", false), ("preprocess", true), ("embed", true), ("detect", true)];
/// What remembers; it holds nobody up.
const INDEX: (&str, bool) = ("index", false);
/// What brings alerts out of the gateway; runs if the config names a sink.
const NOTIFY: (&str, bool) = ("notify", false);
/// Bad config, and positions that do not fit: the same start would end in the same way.
const EXITS_FOR_GOOD: [i32; 2] = [64, 70];
/// How often logs are looked at, and a stage's address is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A stage process to be.
#[derive(Clone, Debug)]
pub struct StageProgram {
    program: Program,
    address_file: PathBuf,
}

/// What the stages are told.
#[derive(Clone, Debug)]
pub struct StagePlan<'a> {
    /// The gateway's folder.
    pub dir: &'a Path,
    /// The bus.
    pub url: &'a str,
    /// The site, as its operator calls it.
    pub site: &'a str,
    /// How many shards it has.
    pub shards: u32,
    /// A config file, if there is one.
    pub config_file: Option<&'a Path>,
    /// Whether the config names a bundle: then the default one is not used.
    pub own_bundle: bool,
    /// Whether the config names a sink of alerts.
    pub sinks: bool,
}

/// Every stage process of a gateway.
///
/// # Errors
/// If a binary is not there.
pub fn programs(plan: &StagePlan<'_>, config: &GatewayConfig) -> Result<Vec<StageProgram>, UpError> {
    let bin_dir = bin_dir(config)?;
    let mut programs = Vec::new();
    for (stage, sharded) in STAGES.into_iter().chain([INDEX]).chain(plan.sinks.then_some(NOTIFY)) {
        let binary = bin_dir.join(format!("eddy-{stage}"));
        if !binary.is_file() {
            return Err(UpError::NoStage(binary.display().to_string()));
        }
        for shard in 0..if sharded { plan.shards } else { 1 } {
            let name = if plan.shards > 1 && sharded { format!("{stage}-{shard}") } else { stage.to_owned() };
            programs.push(program(plan, &binary, name, shard));
        }
    }
    Ok(programs)
}

fn program(plan: &StagePlan<'_>, binary: &Path, name: String, shard: u32) -> StageProgram {
    let address_file = plan.dir.join("run").join(format!("{name}.address"));
    let mut environment = vec![
        ("EDDY_BUS_URL".to_owned(), plan.url.into()),
        ("EDDY_SITE_NAME".to_owned(), plan.site.into()),
        ("EDDY_SITE_SHARD".to_owned(), shard.to_string().into()),
        ("EDDY_SITE_SHARDS".to_owned(), plan.shards.to_string().into()),
        ("EDDY_STATE_DIR".to_owned(), plan.dir.join("state").into()),
        ("EDDY_TELEMETRY_ADDRESS_FILE".to_owned(), address_file.clone().into()),
    ];
    if !plan.own_bundle {
        environment.extend(bundle::environment(&plan.dir.join("bundle")));
    }
    let mut arguments = vec!["run".into()];
    if let Some(file) = plan.config_file {
        arguments.extend(["--config".into(), file.into()]);
    }
    let log = plan.dir.join("logs").join(format!("{name}.log"));
    StageProgram { program: Program { name, binary: binary.to_owned(), arguments, environment, log }, address_file }
}

fn bin_dir(config: &GatewayConfig) -> Result<PathBuf, UpError> {
    if !config.bin_dir.as_os_str().is_empty() {
        return Ok(config.bin_dir.clone());
    }
    let binary = std::env::current_exe().map_err(|problem| UpError::Io("the eddy binary".into(), problem))?;
    Ok(binary.parent().map(Path::to_owned).unwrap_or_default())
}

/// Stage processes that are supervised.
#[derive(Debug)]
pub struct Stages {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Stages {
    /// Starts all of them.
    pub fn start(programs: Vec<StageProgram>, config: &GatewayConfig, register: &Register) -> Self {
        let (stop, _) = watch::channel(false);
        let start = |program: StageProgram| {
            tokio::spawn(supervise(program, config.clone(), register.clone(), stop.subscribe()))
        };
        let tasks = programs.into_iter().map(start).collect();
        Self { stop, tasks }
    }

    /// Stops all of them, at the same time.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A task that panicked has dropped, and so killed, its child.
            let _ = task.await;
        }
    }
}

async fn supervise(stage: StageProgram, config: GatewayConfig, register: Register, mut stop: watch::Receiver<bool>) {
    let name = stage.program.name.as_str();
    let grace = Duration::from_secs(config.stop_grace_s);
    let (min, max) = (config.restart_wait_ms_min, config.restart_wait_ms_max);
    let mut restarts = Restarts::new(Duration::from_millis(min), Duration::from_millis(max), config.restarts_max);
    loop {
        let started = Instant::now();
        // An address of an earlier run would be somebody else's by now.
        let _ = std::fs::remove_file(&stage.address_file);
        let (why, for_good) = match stage.program.start() {
            Err(problem) => (problem.to_string(), false),
            Ok(mut child) => {
                register.set_pid(name, child.id());
                register.journal.tell(&format!("{name}: started, process {}", child.id().unwrap_or_default()));
                let ended = tokio::select! {
                    status = child.wait() => status,
                    () = watch_over(&stage, &config, &register) => return,
                    () = process::asked(&mut stop) => {
                        stop_stage(name, &mut child, grace, &register).await;
                        return;
                    }
                };
                register.set_pid(name, None);
                match ended {
                    Ok(status) => {
                        (process::ending(status), status.code().is_some_and(|code| EXITS_FOR_GOOD.contains(&code)))
                    }
                    Err(problem) => (problem.to_string(), false),
                }
            }
        };
        let wait = restarts.next(started.elapsed()).filter(|_| !for_good);
        let Some(wait) = wait else {
            register.give_up(GivenUp { name: name.to_owned(), ending: why, said: stage.program.said() });
            return;
        };
        let said = stage.program.said().pop().map_or_else(String::new, |last| format!("; it said: {last}"));
        register.journal.tell(&format!("{name}: {why}; starting again in {wait:?}{said}"));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = process::asked(&mut stop) => return,
        }
    }
}

async fn stop_stage(name: &str, child: &mut Child, grace: Duration, register: &Register) {
    let started = Instant::now();
    let ending = process::stop(child, grace).await.map_or("unknown".to_owned(), process::ending);
    register.set_pid(name, None);
    register.journal.tell(&format!("{name}: stopped ({ending}) in {} ms", started.elapsed().as_millis()));
}

/// Cuts the log, and tells the stage's address once it is known. Does not end.
async fn watch_over(stage: &StageProgram, config: &GatewayConfig, register: &Register) {
    let mut known = false;
    loop {
        let wait = if known { LOOK_EVERY } else { Duration::from_millis(100) };
        tokio::time::sleep(wait).await;
        stage.program.cut_log(config.log_mb_max << 20);
        if !known && let Ok(address) = std::fs::read_to_string(&stage.address_file) {
            let name = stage.program.name.clone();
            register.update(|file| drop(file.http.insert(name, format!("http://{}", address.trim()))));
            known = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gateway::GatewayFile, up::journal::Journal};

    fn stage(folder: &Path, script: &str) -> StageProgram {
        let program = Program {
            name: "test".into(),
            binary: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            log: folder.join("logs/test.log"),
        };
        StageProgram { program, address_file: folder.join("test.address") }
    }

    fn setting(folder: &Path) -> (GatewayConfig, Register) {
        let file =
            "[gateway]\nrestart_wait_ms_min = 10\nrestart_wait_ms_max = 20\nrestarts_max = 3\nstop_grace_s = 1\n";
        let path = folder.join("eddy.toml");
        std::fs::write(&path, file).unwrap();
        let (_, config) = eddy_runtime::config::load("gateway", crate::up::config::DEFAULTS, Some(&path), []).unwrap();
        let journal = Journal::open(folder, false).unwrap();
        (config, Register::new(folder, journal, GatewayFile::default()))
    }

    #[tokio::test]
    async fn a_stage_that_dies_is_started_again_and_then_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (config, register) = setting(folder.path());
        let stages = Stages::start(vec![stage(folder.path(), "echo run; exit 1")], &config, &register);
        let mut given_up = register.given_up();
        let all = given_up.wait_for(|all| !all.is_empty()).await.unwrap().clone();
        assert_eq!(register.file().given_up.keys().collect::<Vec<_>>(), [&all[0].name], "eddy status can tell");
        assert_eq!((all[0].ending.as_str(), all[0].said.len()), ("exit 1", 4), "one start and three more");
        stages.stop().await;
    }

    #[tokio::test]
    async fn a_stage_that_says_it_cannot_go_on_is_not_started_again() {
        for code in EXITS_FOR_GOOD {
            let folder = tempfile::tempdir().unwrap();
            let (config, register) = setting(folder.path());
            let script = format!("echo 'run eddy-test recover' >&2; exit {code}");
            let stages = Stages::start(vec![stage(folder.path(), &script)], &config, &register);
            let mut given_up = register.given_up();
            let all = given_up.wait_for(|all| !all.is_empty()).await.unwrap().clone();
            assert_eq!(all[0].said, ["run eddy-test recover"]);
            stages.stop().await;
        }
    }

    #[tokio::test]
    async fn a_stage_is_asked_to_stop_and_its_address_told() {
        let folder = tempfile::tempdir().unwrap();
        let (config, register) = setting(folder.path());
        let address = folder.path().join("test.address");
        let script =
            format!("trap 'exit 0' TERM; echo 1.2.3.4:5 > {}; while :; do sleep 0.02; done", address.display());
        let stages = Stages::start(vec![stage(folder.path(), &script)], &config, &register);
        while register.file().http.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(register.file().http["test"], "http://1.2.3.4:5");
        stages.stop().await;
        assert!(register.file().pids.is_empty());
        let journal = std::fs::read_to_string(folder.path().join("logs/gateway.log")).unwrap();
        assert!(journal.contains("stopped (exit 0)"), "{journal}");
    }
}
