//! The command line, and what runs behind it: one task a sink.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Parser, Subcommand};
use eddy_runtime::{
    allocator,
    app::{Hold, asked_to_stop, well},
    bus::nats::NatsBus,
    clock::{Clock, SystemClock},
    config::{self, CommonConfig, ConfigError},
    telemetry::{self, Telemetry},
    trace::export,
};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    config::{Config, DEFAULTS, DeliveryConfig},
    filter::Filter,
    ledger::Ledger,
    mqtt::Mqtt,
    outlet::Outlet,
    progress::Progress,
    sink::Sink,
    webhook::Webhook,
};

const NAME: &str = "notify";
/// Failed to start; starting again may help.
const EXIT_FAILED: u8 = 1;
/// Bad config.
const EXIT_CONFIG: u8 = 64;
/// Another instance has the state, or it cannot be read: starting again would end in the same way.
const EXIT_STATE: u8 = 70;

const EXAMPLES: &str = "\
Examples:
  run --config gateway.toml          run until SIGTERM or SIGINT
  check --config gateway.toml        say everything that is wrong with a config and the files it names, and stop
  print-config > gateway.toml        the commented defaults, to start from
  recover --config gateway.toml      forget the sinks' positions: they go on where the bus knows of, or start afresh

Exit codes:
  0 stopped as asked   1 failed, a restart may help   64 bad config
  70 another instance has the state, or it cannot be read: the message names the way out";

#[derive(Debug, Parser)]
#[command(version, about = "Delivers alerts to webhooks and MQTT brokers", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// A TOML file that changes single keys of the defaults.
    #[arg(long, short, global = true, env = "EDDY_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Delivers alerts.
    Run {
        /// Do not end on bad config or on state that cannot be used: say so, be unwell, and wait until the config file changes.
        #[arg(long)]
        hold: bool,
    },
    /// Asks the one that runs with this config whether it is well; exit 1 if it is not.
    Health,
    /// Checks the config and everything that it names.
    Check,
    /// Prints the effective config with its comments.
    PrintConfig,
    /// Forgets the sinks' state. Notify must not be running.
    Recover,
}

/// Why the process ends early.
struct Failure(u8, String);

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self(EXIT_CONFIG, format!("bad config:\n{error}"))
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure(EXIT_FAILED, error.to_string())
}

/// A sink that is to run, by its kind.
enum Made {
    Webhook(Arc<Webhook>),
    Mqtt(Arc<Mqtt>),
}

/// A sink with all that its config says.
struct Planned {
    name: String,
    filter: Filter,
    delivery: DeliveryConfig,
    made: Made,
}

/// The whole `main`.
pub fn main() -> ExitCode {
    allocator::keep_little();
    let arguments = Arguments::parse();
    let file = arguments.config.as_deref();
    crate::tls::install();
    let hold = Hold::of(matches!(arguments.command, Command::Run { hold: true }), file);
    let result = match arguments.command {
        Command::Run { .. } => load(file).and_then(|(common, config, sinks)| run(common, &config, sinks)),
        Command::Health => well(NAME, DEFAULTS, file).map_err(|(code, problem)| Failure(code, problem)),
        Command::Check => load(file).map(|(_, _, sinks)| println!("{NAME}: the config is good: {} sinks", sinks.len())),
        Command::PrintConfig => {
            config::print(NAME, DEFAULTS, file, std::env::vars()).map(|text| print!("{text}")).map_err(Failure::from)
        }
        Command::Recover => load(file).and_then(|(common, _, _)| recover(&common)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => hold.end(NAME, code, &message),
    }
}

fn load(file: Option<&Path>) -> Result<(CommonConfig, Config, Vec<Planned>), Failure> {
    let (common, config) = config::load::<Config>(NAME, DEFAULTS, file, std::env::vars())?;
    let sinks = plan(&config, &common.site.name, Arc::new(SystemClock));
    sinks.map(|sinks| (common, config, sinks)).map_err(|problems| ConfigError { problems }.into())
}

fn plan(config: &Config, site: &str, clock: Arc<dyn Clock>) -> Result<Vec<Planned>, Vec<String>> {
    let mut problems = config.problems();
    let mut planned = Vec::new();
    for sink in &config.webhook {
        match Webhook::new(sink, clock.clone()) {
            Ok(webhook) => planned.push(Planned {
                name: sink.name.clone(),
                filter: sink.filter.clone(),
                delivery: sink.delivery.clone(),
                made: Made::Webhook(Arc::new(webhook)),
            }),
            Err(found) => problems.extend(found),
        }
    }
    for sink in &config.mqtt {
        match Mqtt::new(sink, site) {
            Ok(mqtt) => planned.push(Planned {
                name: sink.name.clone(),
                filter: sink.filter.clone(),
                delivery: sink.delivery.clone(),
                made: Made::Mqtt(Arc::new(mqtt)),
            }),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(planned) } else { Err(problems) }
}

/// Where the sinks' state is.
fn folder(common: &CommonConfig) -> PathBuf {
    common.state.dir.join(NAME)
}

/// Held as long as the file is open: one instance to a folder.
fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join("lock");
    let wrong = |error: std::io::Error| failed(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(wrong)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let text = format!("{} is in use by another eddy-notify: stop that one first", folder.display());
            Err(Failure(EXIT_STATE, text))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(wrong(error)),
    }
}

fn recover(common: &CommonConfig) -> Result<(), Failure> {
    let folder = folder(common);
    let lock = lock(&folder)?;
    std::fs::remove_dir_all(&folder).map_err(|error| failed(format!("{}: {error}", folder.display())))?;
    drop(lock);
    println!("{NAME}: state forgotten; each sink goes on where the bus knows of, else by notify.start_at");
    Ok(())
}

fn run(common: CommonConfig, config: &Config, sinks: Vec<Planned>) -> Result<(), Failure> {
    telemetry::start_logs(&common.telemetry, NAME, 0).map_err(|problem| ConfigError { problems: vec![problem] })?;
    let _lock = lock(&folder(&common))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    let result = runtime.block_on(serve(common, config, sinks));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(common: CommonConfig, config: &Config, sinks: Vec<Planned>) -> Result<(), Failure> {
    let stall_after = Duration::from_secs(common.telemetry.stall_after_s);
    let telemetry = Arc::new(Telemetry::new(NAME, 0, stall_after));
    let (listen, file) = (&common.telemetry.listen, &common.telemetry.address_file);
    let address = telemetry::serve(telemetry.clone(), listen, file)
        .await
        .map_err(|error| failed(format!("telemetry.listen = {listen:?}: {error}")))?;
    let exporter = export::start(&common, NAME, &telemetry).map_err(failed)?;
    let bus = NatsBus::connect(&common.bus, "eddy-notify").await.map_err(failed)?;
    let connected = bus.clone();
    telemetry.count_connections(move || connected.connections());
    tracing::info!(site = common.site.name, sinks = sinks.len(), %address, "running");
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut all_progress = Vec::new();
    let (folder, map_bytes) = (folder(&common), common.state.map_size_mb as usize * (1 << 20));
    let together = Together { common: &common, config, bus, telemetry: telemetry.clone() };
    for planned in sinks {
        let path = folder.join(&planned.name);
        let unreadable = |error| Failure(EXIT_STATE, format!("{error}"));
        let mut ledger = Ledger::open(&path, map_bytes).map_err(unreadable)?;
        let (_, records) = ledger.load().map_err(unreadable)?;
        let progress = Arc::new(Progress::new(&planned.name));
        all_progress.push(progress.clone());
        let Planned { name, filter, delivery, made } = planned;
        match made {
            Made::Webhook(webhook) => {
                let sink = together.sink(name, filter, delivery, webhook, progress);
                tasks.spawn(sink.run(ledger, stopped.clone()));
            }
            Made::Mqtt(mqtt) => {
                mqtt.remember(records);
                let (connection, stop) = (mqtt.clone(), stopped.clone());
                let sink = together.sink(name, filter, delivery, mqtt, progress);
                tasks.spawn(sink.run(ledger, stopped.clone()));
                tasks.spawn(async move { connection.stay_connected(stop).await });
            }
        }
    }
    telemetry.also_check(move || all_progress.iter().try_for_each(|progress| progress.check(stall_after)));
    let ended = tokio::select! {
        () = asked_to_stop() => Ok(()),
        Some(Err(panic)) = tasks.join_next() => Err(failed(format!("a sink failed: {panic}"))),
    };
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    tracing::info!("stopped");
    ended
}

/// What all sinks share.
struct Together<'a> {
    common: &'a CommonConfig,
    config: &'a Config,
    bus: NatsBus,
    telemetry: Arc<Telemetry>,
}

impl Together<'_> {
    fn sink<O: Outlet>(
        &self,
        name: String,
        filter: Filter,
        delivery: DeliveryConfig,
        outlet: Arc<O>,
        progress: Arc<Progress>,
    ) -> Sink<O> {
        Sink {
            name,
            site: self.common.site.name.clone(),
            filter,
            delivery,
            start_at: self.config.start_at,
            pending_max: self.config.pending_max,
            grace: Duration::from_millis(self.config.stop_grace_ms),
            outlet,
            bus: self.bus.clone(),
            clock: Arc::new(SystemClock),
            telemetry: self.telemetry.clone(),
            progress,
        }
    }
}
