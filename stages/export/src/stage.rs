//! Export, running continuously: what the config says, as it becomes complete.
//!
//! The store is the checkpoint: a range is done when its record is there, and the next one begins behind it. So nothing is kept on
//! the gateway, no consumer holds anything back, and an instance that dies goes on with what the store says. What expired before
//! it was exported is a gap in the next record.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eddy_runtime::{
    bus::nats::NatsBus,
    client::Client,
    clock::{Clock as _, SystemClock},
    config::CommonConfig,
    program::{EXIT_STATE, Program},
    telemetry::{Metric, Telemetry},
};
use tokio::sync::watch;

use crate::{
    class::Class,
    config::{self, Config},
    job::{At, ExportError, Job},
    policy::Heads,
    progress::Progress,
    select::Selection,
    source::Source,
    store::Store,
};

/// The longest wait while the store is away.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// The stage.
#[derive(Debug)]
pub struct Export {
    config: Config,
    heads: Heads,
}

type Ended = Result<(), (u8, String)>;

/// What is remembered from round to round, and asked for anew once something failed.
#[derive(Debug, Default)]
struct Reached {
    store: Option<Store>,
    classes: BTreeMap<Class, Option<At>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Program for Export {
    const NAME: &'static str = "export";
    const DEFAULTS: &'static str = config::DEFAULTS;
    const NICE: i32 = 15;
    type Config = Config;

    fn new(config: Config, _: &CommonConfig) -> Result<Self, Vec<String>> {
        let problems = config.problems();
        let heads = config.heads();
        if problems.is_empty() { Ok(Self { config, heads }) } else { Err(problems) }
    }

    async fn run(
        self,
        common: CommonConfig,
        bus: NatsBus,
        telemetry: Arc<Telemetry>,
        mut stop: watch::Receiver<bool>,
    ) -> Ended {
        if self.config.to.is_empty() {
            tracing::info!("export.to is empty: nothing is exported");
            // An error means that the sender is gone, which is a stop too.
            let _ = stop.wait_for(|stop| *stop).await;
            return Ok(());
        }
        let every = Duration::from_secs(self.config.poll_s);
        let away = Arc::new(Mutex::new(None::<String>));
        let checked = away.clone();
        telemetry.also_check(move || locked(&checked).as_ref().map_or(Ok(()), |problem| Err(problem.clone())));
        let (client, mut at) = (bus.reader(), Reached::default());
        let exporting = async {
            let (mut wait, mut refused) = (every, false);
            loop {
                let problem = match self.round(&common, &client, &telemetry, &mut at).await {
                    Ok(()) => None,
                    // Somebody exported by hand meanwhile: it goes on behind that. If it comes again there is another one for good.
                    Err(problem @ ExportError::OtherWriter { .. }) if !refused => {
                        refused = true;
                        at = Reached::default();
                        tracing::warn!(%problem, "looks again at what is exported");
                        continue;
                    }
                    Err(problem @ ExportError::OtherWriter { .. }) => return Err((EXIT_STATE, problem.to_string())),
                    // A gateway is not given up because a bucket is not there, or its keys were changed.
                    Err(problem) => Some(problem.to_string()),
                };
                refused = false;
                wait = if problem.is_some() { (wait * 2).min(BACKOFF_MAX.max(every)) } else { every };
                if let Some(problem) = &problem {
                    telemetry.export_failed();
                    at = Reached::default();
                    tracing::warn!(problem, wait_s = wait.as_secs(), "tried again after a while");
                }
                *locked(&away) = problem;
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! {
            ended = exporting => ended,
            // What is not committed is exported again.
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    }

    fn recover(self, _: &CommonConfig) -> Result<String, (u8, String)> {
        Ok("there is nothing to forget: what is exported is known from the store alone".into())
    }
}

impl Export {
    /// Exports what is complete of every class.
    async fn round(
        &self,
        common: &CommonConfig,
        client: &Client,
        telemetry: &Telemetry,
        reached: &mut Reached,
    ) -> Result<(), ExportError> {
        let store = match &mut reached.store {
            Some(store) => store,
            none => none.insert(Store::open(&self.config.to).await?),
        };
        let (selection, progress) = (Selection::default(), Progress::default());
        let job = Job {
            client,
            source: Source::Gateway,
            site: &common.site.name,
            store,
            selection: &selection,
            cut: self.config.cut(true),
            policy: &self.config.policy,
            heads: &self.heads,
            dry_run: false,
            only_complete_at: Some(SystemClock.now()),
            progress: &progress,
        };
        for class in &self.config.classes {
            let report = job.follow(*class, reached.classes.entry(*class).or_default()).await?;
            let name = class.name();
            telemetry.count_class(Metric::ExportedRows, name, report.written_rows);
            telemetry.count_class(Metric::ExportedBytes, name, report.written_bytes);
            telemetry.count_class(Metric::ExportMissing, name, report.missing);
            telemetry.gauge_class(Metric::ExportPendingMessages, name, report.pending);
            if report.missing > 0 {
                tracing::warn!(class = name, messages = report.missing, "gone before they were exported");
            }
            if report.written > 0 {
                let (files, rows) = (report.written, report.written_rows);
                tracing::info!(class = name, files, rows, bytes = report.written_bytes, "exported");
            }
        }
        Ok(())
    }
}
