//! All together: the store, the loop that fills it, the thread that builds, and the service that answers.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use eddy_runtime::{
    bus::{Source, nats::NatsBus},
    config::CommonConfig,
    program::{EXIT_STATE, Program, step_back},
    service::{self, Refusal, Request, Service},
    store_loop::{self, StoreLoopError},
    telemetry::Telemetry,
};
use eddy_schemas::names;
use eddy_vectors::index::{IndexError, Store};
use tokio::sync::watch;

use crate::{
    answer::{Answers, CHECK, EPISODES, SEARCH, STATS},
    builder,
    config::Config,
    context::Contexts,
    openings::Openings,
    region::{Asking, Sketches, ThroughSync},
    sink::IndexSink,
    traced::Traced,
};

/// Failed while running; starting again may help.
const EXIT_FAILED: u8 = 1;

/// Segments are built when nothing else is to be done, answers to searches and contexts included.
const BUILDER_NICE: i32 = 5;

/// The stage.
#[derive(Debug)]
pub struct Index {
    config: Config,
}

fn folder(common: &CommonConfig) -> PathBuf {
    common.state.dir.join(Index::NAME)
}

impl Program for Index {
    const NAME: &'static str = "index";
    const DEFAULTS: &'static str = include_str!("../default.toml");
    const NICE: i32 = 10;
    type Config = Config;

    fn new(config: Config, _: &CommonConfig) -> Result<Self, Vec<String>> {
        let problems = config.problems();
        if problems.is_empty() { Ok(Self { config }) } else { Err(problems) }
    }

    async fn run(
        self,
        common: CommonConfig,
        bus: NatsBus,
        telemetry: Arc<Telemetry>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), (u8, String)> {
        let unusable = |error: IndexError| {
            let may_pass = matches!(error, IndexError::Io { .. });
            (if may_pass { EXIT_FAILED } else { EXIT_STATE }, error.to_string())
        };
        let store = Arc::new(Store::open(&folder(&common), self.config.limits()).map_err(unusable)?);
        let searcher = Arc::new(store.searcher().map_err(unusable)?);
        let answers =
            Arc::new(Answers { store: store.clone(), searcher: searcher.clone(), recall: self.config.recall });
        let serving = tokio::spawn(serve(bus.clone(), common.site.name.clone(), answers, &self.config, stop.clone()));
        telemetry.expect_labels();
        let cancel = Arc::new(AtomicBool::new(false));
        let (builds, cancelled) = (store.clone(), cancel.clone());
        let building = std::thread::spawn(move || {
            step_back(BUILDER_NICE);
            builder::run(&builds, &cancelled);
        });
        let site = common.site.name.clone();
        let sketches = Sketches::default();
        let following = tokio::spawn(sketches.clone().follow(bus.clone(), site.clone(), stop.clone()));
        let region = ThroughSync::new(bus.clone(), &site, sketches);
        let contexts = Contexts {
            bus: bus.clone(),
            asking: Asking::new(region, site.clone(), &self.config, telemetry.clone()),
            site,
            config: self.config,
            telemetry: telemetry.clone(),
        };
        let sink = IndexSink {
            store,
            searcher,
            contexts,
            telemetry: telemetry.clone(),
            traced: Traced::new(telemetry.clone()),
            sent: Vec::new(),
            openings: Openings::default(),
        };
        let source = Source {
            stream: "DETECTIONS".into(),
            durable: Self::NAME.into(),
            // Scores and alerts of every shard, in their one order.
            filter: ">".into(),
            ack_pending_max: common.limits.ack_pending_max as i64,
            ack_wait: Duration::from_secs(common.limits.ack_wait_s),
        };
        let way_out = format!("eddy-{} recover", Self::NAME);
        let outside = store_loop::Outside { bus, source, limits: common.limits, telemetry, way_out };
        let ended = store_loop::run(sink, outside, stop).await;
        cancel.store(true, Ordering::Relaxed);
        serving.abort();
        following.abort();
        let _ = tokio::task::spawn_blocking(move || building.join()).await;
        ended.map_err(|error| {
            let code = if matches!(error, StoreLoopError::Restart(_)) { EXIT_FAILED } else { EXIT_STATE };
            (code, error.to_string())
        })
    }

    fn recover(self, common: &CommonConfig) -> Result<String, (u8, String)> {
        let folder = folder(common);
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err((EXIT_FAILED, format!("{}: {error}", folder.display()))),
        }
        Ok("the index is forgotten; it is made again from what DETECTIONS still holds".into())
    }
}

/// Keeps the service registered.
fn serve(
    bus: NatsBus,
    site: String,
    answers: Arc<Answers>,
    config: &Config,
    stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + use<> {
    let subject = format!("eddy.search.{}", names::encode(&site));
    let service = Service {
        name: "eddy-index".into(),
        description: format!("windows of {site} that detect kept or alerted"),
        endpoints: vec![
            (SEARCH.into(), subject.clone()),
            (STATS.into(), format!("{subject}.{STATS}")),
            (CHECK.into(), format!("{subject}.{CHECK}")),
            (EPISODES.into(), format!("{subject}.{EPISODES}")),
        ],
        at_once: config.searches_max,
    };
    let answer = move |Request { endpoint, payload, .. }: Request| {
        let answers = answers.clone();
        async move {
            let answered = tokio::task::spawn_blocking(move || answers.answer(&endpoint, &payload)).await;
            answered.unwrap_or_else(|panic| Err(Refusal { code: 500, message: panic.to_string() }))
        }
    };
    async move {
        while !*stop.borrow() {
            if let Err(error) = service::serve(bus.clone(), service.clone(), answer.clone(), stop.clone()).await {
                tracing::warn!(%error, "the search service is not registered; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
