//! `eddy doctor`: what an operator would want to know before it becomes an outage.
//!
//! Each check is a module: what it looks at, and the findings, which are functions of that alone. What needs a running gateway is
//! left out where none answers, and told.

mod bundles;
pub(crate) mod certificates;
mod clock;
mod config;
mod disk;
pub mod finding;
pub mod index;
mod processes;
mod streams;
mod versions;
mod volume;

pub(crate) use streams::refused;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};

use self::{
    finding::{Report, Severity},
    index::IndexArgs,
};
use crate::{
    config_files,
    gateway::{Gateway, GatewayArgs, GatewayFile},
    hub, output,
    up::Plan,
};

/// Windows that are asked for by their own vectors.
const SAMPLE: usize = 200;

/// Doctor's part of the command line.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DoctorArgs {
    /// One part alone
    #[command(subcommand)]
    pub command: Option<DoctorCommand>,
    /// Warnings count as findings too
    #[arg(long)]
    pub strict: bool,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Seconds between two looks at consumers that have something to do, and at the clock
    #[arg(long, value_name = "SECONDS", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub interval: u64,
    /// The config file that the gateway runs with [default for a running one: the one that it runs with]
    #[arg(long, env = "EDDY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What is checked by itself.
#[derive(Subcommand, Clone, Debug)]
pub enum DoctorCommand {
    /// The index of windows
    Index(IndexArgs),
}

/// A gateway to be looked at.
pub struct Patient {
    /// Its folder.
    pub dir: PathBuf,
    /// The folder that relative paths in its config are of: where it was started, if it runs here.
    pub cwd: PathBuf,
    /// The config file that it runs with, if there is one.
    pub config_file: Option<PathBuf>,
    /// What that and the defaults come to; `None` where it is no good.
    pub plan: Option<Plan>,
    /// What it says of its processes, if it runs on this machine.
    pub file: Option<GatewayFile>,
    /// Connected to it, if it answers.
    pub gateway: Option<Gateway>,
}

/// The command.
///
/// # Errors
/// That there is a finding.
pub async fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    if let Some(DoctorCommand::Index(args)) = &args.command {
        return index::run(args).await;
    }
    let report = examine(&args.gateway, args.config.clone(), Duration::from_secs(args.interval)).await?;
    if args.json {
        output::line(&serde_json::to_string(&report)?);
    } else {
        tell(&report);
    }
    anyhow::ensure!(report.is_sound(args.strict), "the gateway is not sound");
    Ok(())
}

fn tell(report: &Report) {
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Error => "ERROR  ",
            Severity::Warning => "warning",
        };
        let (place, what) = (output::printable(&finding.place), output::printable(&finding.what));
        output::line(&format!("{severity}  {}: {place}: {what}", finding.check));
        output::line(&format!("         {}", finding.remedy));
    }
    report.unchecked.iter().for_each(|what| output::line(&format!("not checked  {}", output::printable(what))));
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
    output::line(&format!("{errors} errors, {warnings} warnings; checked: {}", report.checked.join(", ")));
}

/// Looks at everything.
///
/// # Errors
/// That the folder of `args` holds no gateway.
pub async fn examine(args: &GatewayArgs, config: Option<PathBuf>, interval: Duration) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let patient = patient(args, config, &mut report).await?;
    versions::look(&patient, &mut report.check("versions")).await;
    config::look(&patient, &mut report.check("config")).await;
    disk::look(&patient, &mut report.check("disk"));
    volume::look(&patient, &mut report.check("encryption"));
    certificates::look(&patient, &mut report.check("certificates"));
    processes::look(&patient, &mut report.check("processes")).await;
    let ticking = clock::Ticking::start();
    clock::look(&patient, &mut report.check("clock"));
    clock::compare(&patient, &mut report.check("clock")).await;
    if let Some(gateway) = &patient.gateway {
        streams::look(gateway, &mut report, interval).await;
        bundles::look(&patient, gateway, &mut report.check("bundles")).await;
        sound_index(gateway, &mut report.check("index")).await;
    }
    ticking.look(&mut report.check("clock"));
    Ok(report)
}

pub(crate) async fn patient(
    args: &GatewayArgs,
    config: Option<PathBuf>,
    report: &mut Report,
) -> anyhow::Result<Patient> {
    let dir = std::path::absolute(&args.bus.dir)?;
    let file = GatewayFile::read(&dir);
    anyhow::ensure!(
        file.is_some() || !is_hubs(&dir),
        "{} is a hub's folder, and this looks at gateways: see `eddy receipts`, and `eddy health` for its processes",
        dir.display()
    );
    let is_there = file.is_some() || dir.join("streams").is_dir() || args.bus.url.is_some();
    anyhow::ensure!(is_there, "{} holds no gateway: --dir names its folder", dir.display());
    let config_file = config.or_else(|| file.as_ref()?.config_file.clone());
    let mut check = report.check("config");
    let plan = plan(&dir, config_file.as_deref(), file.as_ref());
    let plan = plan
        .map_err(|problem| check.error(dir.display(), problem, "put right what it names: `eddy up --print-config`"));
    let cwd = file.as_ref().and_then(started_in).map_or_else(std::env::current_dir, Ok)?;
    let gateway = if file.is_none() && args.bus.url.is_none() {
        report.unchecked.push("streams, consumers, dead letters, bundles, index: the gateway does not run".into());
        None
    } else {
        let gateway = args.connect().await.map_err(|problem| {
            let remedy = "see logs/gateway.log in its folder; `eddy up` starts it";
            report.check("processes").error("the bus", format!("{problem:#}"), remedy);
        });
        gateway.ok()
    };
    Ok(Patient { dir, cwd, config_file, plan: plan.ok(), file, gateway })
}

/// Whether a hub runs in a folder, or ran there and no gateway did.
fn is_hubs(dir: &Path) -> bool {
    let has_log = |name: &str| dir.join("logs").join(name).is_file();
    dir.join(hub::FILE).is_file() || has_log("hub.log") && !has_log("gateway.log")
}

fn plan(dir: &Path, config_file: Option<&Path>, file: Option<&GatewayFile>) -> anyhow::Result<Plan> {
    // Of a file that is no TOML the line is not told: it may hold a secret.
    config_file.map(config_files::table).transpose()?;
    let mut plan = Plan::load(dir, config_file)?;
    // The config may name it by a path from where the gateway was started.
    if let Some(keys) = file.and_then(|file| file.operator_key.as_ref()?.parent()) {
        plan.config.access.keys_dir = keys.to_owned();
    }
    Ok(plan)
}

/// The folder that a gateway was started in, if its `eddy` runs here and may be looked at.
fn started_in(file: &GatewayFile) -> Option<PathBuf> {
    let process = PathBuf::from(format!("/proc/{}", file.machine.pids.get("eddy")?));
    // In another container the number is another process's.
    let own = std::env::current_exe().ok()?;
    let is_eddy = std::fs::read_to_string(process.join("comm")).ok()?.trim_end() == comm(&own);
    std::fs::read_link(process.join("cwd")).ok().filter(|cwd| is_eddy && cwd.is_dir())
}

/// What the kernel calls a process of a binary: 15 bytes at most.
fn comm(binary: &Path) -> String {
    let name = binary.file_name().unwrap_or_default().as_encoded_bytes();
    String::from_utf8_lossy(&name[..name.len().min(15)]).into_owned()
}

async fn sound_index(gateway: &Gateway, check: &mut finding::Check<'_>) {
    match index::check(gateway, SAMPLE).await {
        Ok(sound) => {
            let remedy = "`eddy doctor index` for more; `eddy-index recover` while the stage is stopped makes it anew";
            sound.problems.iter().for_each(|problem| check.error("index", problem, remedy));
        }
        Err(problem) => check.unchecked(format!("{problem:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gateway::BusArgs, supervise::register::MachineFile};

    async fn of(dir: &Path, config: Option<PathBuf>) -> (anyhow::Result<Patient>, Report) {
        let args = GatewayArgs { bus: BusArgs { dir: dir.to_owned(), ..BusArgs::default() }, site: None };
        let mut report = Report::default();
        (patient(&args, config, &mut report).await, report)
    }

    #[tokio::test]
    async fn a_config_that_is_no_toml_is_told_without_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("streams")).unwrap();
        let config = folder.path().join("c.toml");
        std::fs::write(&config, "password = \"SUPERSECRETPW\n").unwrap();
        let (patient, report) = of(folder.path(), Some(config)).await;
        assert!(patient.unwrap().plan.is_none());
        let told = serde_json::to_string(&report).unwrap();
        assert!(told.contains("c.toml, line 1, column ") && !told.contains("SUPERSECRET"), "{told}");
    }

    #[tokio::test]
    async fn a_hubs_folder_is_no_gateways() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("streams")).unwrap();
        assert!(of(folder.path(), None).await.0.is_ok());
        std::fs::write(folder.path().join("hub.json"), "{}").unwrap();
        let refused = of(folder.path(), None).await.0.err().unwrap().to_string();
        assert!(refused.contains("is a hub's folder"), "{refused}");
        // Stopped, it leaves its log.
        std::fs::remove_file(folder.path().join("hub.json")).unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        std::fs::write(folder.path().join("logs/hub.log"), "").unwrap();
        assert!(of(folder.path(), None).await.0.is_err());
    }

    #[test]
    fn relative_paths_are_of_the_folder_that_the_gateway_was_started_in() {
        let of = |pid: u32| {
            let machine = MachineFile { pids: [("eddy".to_owned(), pid)].into(), ..MachineFile::default() };
            started_in(&GatewayFile { machine, ..GatewayFile::default() })
        };
        // A test's own thread has its name; the process has the binary's.
        assert_eq!(of(std::process::id()), Some(std::env::current_dir().unwrap()));
        assert_eq!(of(u32::MAX), None, "it does not run");
    }
}
