//! The command line of a stage whose output is a store: like that of every other stage, see [`crate::app`].

use std::{future::Future, path::Path, process::ExitCode, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{
    app::{self, Command, EXIT_FAILED, Failure},
    bus::nats::NatsBus,
    config::{self, CommonConfig, ConfigError},
    telemetry::{self, Telemetry},
    trace::export,
};

/// The store, its positions and the streams do not fit, or another instance has it: starting again would end alike.
pub const EXIT_STATE: u8 = 70;
/// How long a stop may take.
const DRAIN: Duration = Duration::from_secs(5);

/// A stage that is no [`crate::stage::Stage`].
pub trait Program: Sized + Send {
    /// Its name: the binary is `eddy-<name>`, its config table `[<name>]`.
    const NAME: &'static str;
    /// Its commented defaults.
    const DEFAULTS: &'static str;
    /// How far it steps back where processors are short, as nice(2) counts: what is not on the way to an alert lets that go first.
    const NICE: i32 = 0;
    /// Its config table.
    type Config: DeserializeOwned;

    /// Checks the config and all that it names.
    ///
    /// # Errors
    /// Every problem, each naming the key, the value and what is taken.
    fn new(config: Self::Config, common: &CommonConfig) -> Result<Self, Vec<String>>;

    /// Runs until `stop` says true.
    ///
    /// # Errors
    /// The exit code and the reason.
    fn run(
        self,
        common: CommonConfig,
        bus: NatsBus,
        telemetry: Arc<Telemetry>,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<(), (u8, String)>> + Send;

    /// Forgets what it keeps; returns what was done. It must not be running.
    ///
    /// # Errors
    /// The exit code and the reason.
    fn recover(self, common: &CommonConfig) -> Result<String, (u8, String)>;
}

/// The whole `main` of its binary.
pub fn run<P: Program>() -> ExitCode {
    app::main(P::NAME, |command, file| {
        match command {
        Command::Run { .. } => load::<P>(file).and_then(|(common, program)| serve(common, program)),
        Command::Health => app::well(P::NAME, P::DEFAULTS, file).map_err(Failure::from),
        Command::Check => load::<P>(file).map(|_| println!("{}: the config is good", P::NAME)),
        Command::PrintConfig => config::print(P::NAME, P::DEFAULTS, file, std::env::vars())
            .map(|text| print!("{text}"))
            .map_err(Failure::from),
        Command::Recover { .. } => load::<P>(file).and_then(|(common, program)| {
            let own = common.state.dir.join(P::NAME);
            if !own.is_dir() {
                let problem = format!(
                    "{}: there is nothing to forget: name the state folder of the machine, as in EDDY_STATE_DIR=DIR/state eddy-{} recover",
                    own.display(),
                    P::NAME
                );
                return Err(Failure::Other(EXIT_FAILED, problem));
            }
            let done = program.recover(&common).map_err(|(code, problem)| Failure::Other(code, problem))?;
            println!("{}: {done}", P::NAME);
            Ok(())
        }),
    }
    })
}

/// Makes this thread, and those that it starts from now on, step back by `nice` more.
pub fn step_back(nice: i32) {
    if let Err(error) = rustix::process::nice(nice) {
        tracing::warn!(%error, nice, "the priority stays as it is");
    }
}

fn load<P: Program>(file: Option<&Path>) -> Result<(CommonConfig, P), Failure> {
    let (common, own) = config::load::<P::Config>(P::NAME, P::DEFAULTS, file, std::env::vars())?;
    match P::new(own, &common) {
        Ok(program) => Ok((common, program)),
        Err(problems) => Err(ConfigError { problems }.into()),
    }
}

fn serve<P: Program>(common: CommonConfig, program: P) -> Result<(), Failure> {
    telemetry::start_logs(&common.telemetry, P::NAME, 0).map_err(|problem| ConfigError { problems: vec![problem] })?;
    let failed = |error: &dyn std::fmt::Display| Failure::Other(EXIT_FAILED, error.to_string());
    // Before there are other threads: each begins with what the one has that starts it.
    step_back(P::NICE);
    let runtime = app::runtime()?;
    let ended = runtime.block_on(async {
        let stall_after = Duration::from_secs(common.telemetry.stall_after_s);
        let telemetry = Arc::new(Telemetry::new(P::NAME, 0, stall_after));
        let (listen, file) = (&common.telemetry.listen, &common.telemetry.address_file);
        let address = telemetry::serve(telemetry.clone(), listen, file)
            .await
            .map_err(|error| Failure::Other(EXIT_FAILED, format!("telemetry.listen = {listen:?}: {error}")))?;
        let exporter = export::start(&common, P::NAME, &telemetry).map_err(|error| failed(&error))?;
        let bus = NatsBus::connect(&common.bus, &format!("eddy-{}", P::NAME)).await.map_err(|error| failed(&error))?;
        let connected = bus.clone();
        telemetry.count_connections(move || connected.connections());
        tracing::info!(site = common.site.name, %address, "running");
        let (stop, stopped) = watch::channel(false);
        let state = std::path::absolute(&common.state.dir).unwrap_or_else(|_| common.state.dir.clone());
        let running = program.run(common, bus, telemetry, stopped);
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = app::asked_to_stop() => {
                stop.send_replace(true);
                // What is not written in time is not lost: it is not acknowledged, and comes again.
                tokio::time::timeout(DRAIN, &mut running).await.unwrap_or(Ok(()))
            }
        };
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
        tracing::info!("stopped");
        // `recover` is given by hand, where the environment is another one.
        let of_state = |code| match code {
            EXIT_STATE => {
                format!("; its state lies in {0}: EDDY_STATE_DIR={0:?} eddy-{1} recover", state.display(), P::NAME)
            }
            _ => String::new(),
        };
        ended.map_err(|(code, problem)| Failure::Other(code, problem + &of_state(code)))
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_starts_steps_back_with_it() {
        let own = || rustix::process::nice(0).unwrap();
        let before = own();
        let stepped_back = std::thread::spawn(move || {
            step_back(3);
            (own(), std::thread::spawn(own).join().unwrap())
        });
        let after = (before + 3).min(19);
        assert_eq!((stepped_back.join().unwrap(), own()), ((after, after), before));
    }
}
