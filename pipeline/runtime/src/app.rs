//! The command line that every stage binary has.

mod health;
mod hold;

use std::{
    future::Future,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Parser, Subcommand};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

pub use self::hold::Hold;
use crate::{
    allocator,
    bus::nats::NatsBus,
    clock::SystemClock,
    config::{self, CommonConfig, ConfigError},
    direct::{self, Bounds, Entrance, Queue},
    stage::{Scope, Stage},
    stage_loop::{self, LoopError, Outside},
    telemetry::{self, Telemetry},
    trace::export,
};

/// Bad config.
const EXIT_CONFIG: u8 = 64;
/// Failed to start, or while running; starting again may help.
pub(crate) const EXIT_FAILED: u8 = 1;
/// How long a stop may take.
const DRAIN: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  run --config gateway.toml          run until SIGTERM or SIGINT, then drain within 5 s
  check --config gateway.toml        say everything that is wrong with a config, and stop
  run --hold                         in a container: what starting again cannot help does not end
  health                             is the one that runs well? needs telemetry.listen with a port
  print-config > gateway.toml        the commented defaults, to start from
  EDDY_BUS_URL=nats://gw:4222 run    one key from the environment

Exit codes:
  0 stopped as asked   1 failed, a restart may help   64 bad config
  70 positions, state and streams do not fit, or another instance owns the shard: the message names the way out";

#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// A TOML file that changes single keys of the defaults.
    #[arg(long, short, global = true, env = "EDDY_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the stage.
    Run {
        /// Do not end on bad config, or on state and streams that do not fit: say so, be unwell, and wait until the config file changes.
        /// For what starts again whatever ends, as Docker does.
        #[arg(long)]
        hold: bool,
    },
    /// Asks the stage that runs with this config whether it is well; exit 1 if it is not.
    Health,
    /// Checks the config and everything that it names.
    Check,
    /// Prints the effective config with its comments.
    PrintConfig,
    /// Accepts that state or streams were lost: forgets the state and starts afresh. The stage must not be running.
    Recover {
        /// Skip what the input holds, and take only what comes from now on.
        #[arg(long)]
        from_now: bool,
    },
}

/// Why the process ends early.
pub(crate) enum Failure {
    Config(ConfigError),
    Other(u8, String),
}

impl From<(u8, String)> for Failure {
    fn from((code, message): (u8, String)) -> Self {
        Self::Other(code, message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// What brings input to a stage directly (see [`crate::direct`]) while it runs.
pub trait DirectSources<S: Stage>: Sized + Send + 'static {
    /// Checks the part of the stage's config that is about them.
    ///
    /// # Errors
    /// Every problem, each naming the key, the value and what is taken.
    fn new(config: &S::Config, scope: &Scope) -> Result<Self, Vec<String>>;

    /// How much may wait; `None`: the stage takes no direct input.
    fn bounds(&self) -> Option<Bounds>;

    /// Serves until `stop` says true. What it has handed in by then is answered.
    ///
    /// # Errors
    /// What keeps it from starting, such as a port in use: the process ends.
    fn serve(
        self,
        entrance: Entrance<S::Input>,
        bus: NatsBus,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static;
}

/// A stage whose input comes from its streams alone.
struct NoSources;

impl<S: Stage> DirectSources<S> for NoSources {
    fn new(_: &S::Config, _: &Scope) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    fn bounds(&self) -> Option<Bounds> {
        None
    }

    async fn serve(self, _: Entrance<S::Input>, _: NatsBus, _: watch::Receiver<bool>) -> Result<(), String> {
        std::future::pending().await
    }
}

/// The whole `main` of a stage's binary.
pub fn run<S: Stage>() -> ExitCode {
    run_with::<S, NoSources>()
}

/// The same for a stage that also takes input directly.
pub fn run_with<S: Stage, D: DirectSources<S>>() -> ExitCode {
    main(S::SPEC.name, |command, file| match command {
        Command::Run { .. } => load::<S, D>(file).and_then(|(common, stage, sources)| serve(common, stage, sources)),
        Command::Health => well(S::SPEC.name, S::DEFAULTS, file).map_err(Failure::from),
        Command::Check => load::<S, D>(file).and_then(|(common, ..)| {
            stage_loop::check_state::<S>(&common).map_err(|error| stopped_by(LoopError::State(error)))?;
            println!("{}: the config is good", S::SPEC.name);
            Ok(())
        }),
        Command::PrintConfig => config::print(S::SPEC.name, S::DEFAULTS, file, std::env::vars())
            .map(|text| print!("{text}"))
            .map_err(Failure::from),
        Command::Recover { from_now } => {
            load::<S, D>(file).and_then(|(common, stage, _)| recover(&common, &stage, from_now))
        }
    })
}

/// Reads the command line, does what it says, and tells how it ended.
pub(crate) fn main(name: &str, act: impl FnOnce(Command, Option<&Path>) -> Result<(), Failure>) -> ExitCode {
    allocator::keep_little();
    let arguments = Arguments::parse();
    let file = arguments.config.as_deref();
    let hold = Hold::of(matches!(arguments.command, Command::Run { hold: true }), file);
    match act(arguments.command, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(error)) => hold.end(name, EXIT_CONFIG, &format!("bad config:\n{error}")),
        Err(Failure::Other(code, message)) => hold.end(name, code, &message),
    }
}

fn load<S: Stage, D: DirectSources<S>>(file: Option<&Path>) -> Result<(CommonConfig, S, D), Failure> {
    let (common, own) = config::load::<S::Config>(S::SPEC.name, S::DEFAULTS, file, std::env::vars())?;
    let scope = common.scope();
    let mut problems = Vec::new();
    let sources = D::new(&own, &scope).map_err(|found| problems.extend(found)).ok();
    let stage = S::new(own, &scope).map_err(|found| problems.extend(found)).ok();
    match (stage, sources) {
        (Some(stage), Some(sources)) => Ok((common, stage, sources)),
        _ => Err(ConfigError { problems }.into()),
    }
}

/// Asks the stage that runs with this config whether it is well, and prints what it says.
///
/// # Errors
/// The exit code and the reason.
pub fn well(name: &str, defaults: &str, file: Option<&Path>) -> Result<(), (u8, String)> {
    let loaded = config::load::<toml::Table>(name, defaults, file, std::env::vars());
    let (common, _) = loaded.map_err(|error| (EXIT_CONFIG, error.to_string()))?;
    let answer = health::ask(&common.telemetry).map_err(|problem| (EXIT_FAILED, problem))?;
    println!("{answer}");
    Ok(())
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(EXIT_FAILED, format!("no async runtime: {error}")))
}

fn serve<S: Stage, D: DirectSources<S>>(config: CommonConfig, stage: S, sources: D) -> Result<(), Failure> {
    telemetry::start_logs(&config.telemetry, S::SPEC.name, config.site.shard)
        .map_err(|problem| ConfigError { problems: vec![problem] })?;
    let failed = |error: &dyn std::fmt::Display| Failure::Other(EXIT_FAILED, error.to_string());
    runtime()?.block_on(async {
        let scope = config.scope();
        let stall_after = Duration::from_secs(config.telemetry.stall_after_s);
        let telemetry = Arc::new(Telemetry::new(S::SPEC.name, scope.shard, stall_after));
        let (listen, file) = (&config.telemetry.listen, &config.telemetry.address_file);
        let address = telemetry::serve(telemetry.clone(), listen, file)
            .await
            .map_err(|error| Failure::Other(EXIT_FAILED, format!("telemetry.listen = {listen:?}: {error}")))?;
        let exporter = export::start(&config, S::SPEC.name, &telemetry).map_err(|error| failed(&error))?;
        let name = format!("eddy-{}-{}", S::SPEC.name, scope.shard);
        let bus = NatsBus::connect(&config.bus, &name).await.map_err(|error| failed(&error))?;
        let connected = bus.clone();
        telemetry.count_connections(move || connected.connections());
        tracing::info!(site = scope.site, shards = scope.shards, %address, "running");
        let (stop, stopped) = watch::channel(false);
        let clock = Arc::new(SystemClock);
        let mut serving: JoinHandle<Result<(), String>>;
        let direct = if let Some(bounds) = sources.bounds() {
            let (entrance, direct) = direct::entrance(bounds, telemetry.clone(), clock.clone());
            serving = tokio::spawn(sources.serve(entrance, bus.clone(), stopped.clone()));
            direct
        } else {
            serving = tokio::spawn(std::future::pending());
            Queue::none()
        };
        let outside = Outside { bus, direct, telemetry, clock };
        let running = stage_loop::run(stage, scope, &config, outside, stopped);
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => ended.map_err(stopped_by),
            served = &mut serving => Err(Failure::Other(EXIT_FAILED, match served {
                Ok(Ok(())) => "a source ended by itself".into(),
                Ok(Err(problem)) => problem,
                Err(panic) => format!("a source failed: {panic}"),
            })),
            () = asked_to_stop() => {
                stop.send_replace(true);
                // What is not drained in time is not lost: it is not acknowledged, and comes again.
                tokio::time::timeout(DRAIN, &mut running).await.unwrap_or(Ok(())).map_err(stopped_by)
            }
        };
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
        tracing::info!("stopped");
        ended
    })
}

fn stopped_by(error: LoopError) -> Failure {
    Failure::Other(error.exit_code(), error.to_string())
}

fn recover<S: Stage>(config: &CommonConfig, stage: &S, from_now: bool) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let failed = |error: &dyn std::fmt::Display| Failure::Other(EXIT_FAILED, error.to_string());
        let bus = NatsBus::connect(&config.bus, "eddy-recover").await.map_err(|error| failed(&error))?;
        let position = stage_loop::start_afresh(stage, &config.scope(), config, &bus, from_now).await;
        let position = position.map_err(|error| failed(&error))?;
        println!("{}: state forgotten; it goes on after {position}", S::SPEC.name);
        Ok(())
    })
}

/// Returns once the process is asked to stop: SIGTERM or SIGINT.
pub async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received: only a kill stops this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
