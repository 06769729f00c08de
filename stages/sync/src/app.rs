//! All together: what fills the queue, what empties it, and what comes down.

use std::{path::PathBuf, sync::Arc, time::Duration};

use eddy_runtime::{
    bundle::Library,
    bus::nats::NatsBus,
    config::CommonConfig,
    program::{EXIT_STATE, Program},
    telemetry::{Metric, Telemetry},
};
use eddy_schemas::{region::NEWS_STREAM, sync::Class};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    bundles::{self, Bundles, Wishes},
    collect,
    config::Config,
    downlink::{self, Downlink},
    proxy::Proxy,
    queue::{Queue, QueueError},
    send::{self, Health, Outside},
    sketches::{self, Sketches},
    tail::Tail,
};

/// Failed while running; starting again may help.
const EXIT_FAILED: u8 = 1;

/// How often labels are looked for although nothing was heard of one.
const NEWS_EVERY: Duration = Duration::from_secs(600);

/// The stage.
#[derive(Debug)]
pub struct Sync {
    config: Config,
}

/// Why a part of it ended.
type Ended = Result<(), (u8, String)>;

fn folder(common: &CommonConfig) -> PathBuf {
    common.state.dir.join(Sync::NAME)
}

fn unusable(error: &QueueError) -> (u8, String) {
    (if error.may_pass() { EXIT_FAILED } else { EXIT_STATE }, error.to_string())
}

impl Program for Sync {
    const NAME: &'static str = "sync";
    const DEFAULTS: &'static str = include_str!("../default.toml");
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
        mut stop: watch::Receiver<bool>,
    ) -> Ended {
        let Self { config } = self;
        if !config.has_region() {
            tracing::info!("sync.hub.url is empty: there is no region, so nothing is sent");
            // An error means that the sender is gone, which is a stop too.
            let _ = stop.wait_for(|stop| *stop).await;
            return Ok(());
        }
        let queue = Queue::open(&folder(&common), &config.bounds()).map_err(|error| unusable(&error))?;
        let queue = Arc::new(queue);
        let site = common.site.name.clone();
        let hub = NatsBus::connect(&config.hub_of(&site), &format!("eddy-sync {site}")).await;
        let hub = hub.map_err(|error| (EXIT_FAILED, format!("sync.hub: {error}")))?;
        let linked = hub.clone();
        telemetry.watch_link(move || linked.is_connected());
        for class in Class::ALL {
            telemetry.count_class(Metric::SyncSentBytes, class.token(), 0);
        }
        let health = Arc::new(Health::default());
        let (checked, stall_after) = (health.clone(), Duration::from_secs(common.telemetry.stall_after_s));
        telemetry.also_check(move || checked.check(stall_after));

        let mut parts: JoinSet<Ended> = JoinSet::new();
        let filling =
            collect::run(queue.clone(), bus.clone(), config.collect(), common.limits, telemetry.clone(), stop.clone());
        parts.spawn(async move { filling.await.map_err(|error| (EXIT_STATE, error.to_string())) });
        let outside = Outside {
            queue: queue.clone(),
            uplink: hub.clone(),
            site: site.clone(),
            config: config.send(),
            telemetry: telemetry.clone(),
            health,
        };
        let sending = send::run(outside, stop.clone());
        parts.spawn(async move { sending.await.map_err(|problem| (EXIT_STATE, problem)) });
        let tail = |stream, subjects: &str, listens, every| Tail {
            hub: hub.clone(),
            queue: queue.clone(),
            stream,
            subjects: subjects.to_owned(),
            listens,
            every,
            wake: Arc::default(),
        };
        let news = Downlink { bus: bus.clone(), site: site.clone(), telemetry: telemetry.clone() };
        let news = tail(NEWS_STREAM, downlink::SUBJECTS, true, NEWS_EVERY).follow(news, stop.clone());
        parts.spawn(async move { news.await.map_err(|error| unusable(&error)) });
        let sketches = Sketches { bus: bus.clone(), site: site.clone(), telemetry: telemetry.clone() };
        // Large, and not urgent.
        let every = Duration::from_secs(config.sketch_poll_s);
        let sketches = tail(sketches::STREAM, sketches::SUBJECTS, false, every).follow(sketches, stop.clone());
        parts.spawn(async move { sketches.await.map_err(|error| unusable(&error)) });
        if !config.bundles.as_os_str().is_empty() {
            let library = Library::new(&config.bundles, &config.trusted_keys, config.allow_unsigned);
            let coming = Bundles::new(library, &config.bundles, telemetry.clone());
            let wake = Arc::new(Notify::new());
            let bucket = Tail { wake: wake.clone(), ..tail(bundles::STREAM, bundles::SUBJECTS, false, every) };
            let coming = bucket.follow(coming, stop.clone());
            parts.spawn(async move { coming.await.map_err(|error| unusable(&error)) });
            let wishes = Wishes { bus: bus.clone(), hub: hub.clone(), site: site.clone(), wake, telemetry };
            let wishes = tail(bundles::WISH_STREAM, bundles::WISH_SUBJECTS, true, every).follow(wishes, stop.clone());
            parts.spawn(async move { wishes.await.map_err(|error| unusable(&error)) });
        }
        let ask_timeout = Duration::from_millis(config.ask_timeout_ms);
        let proxy = Proxy { hub: hub.clone(), url: config.hub.url.clone(), queue: queue.clone(), timeout: ask_timeout };
        let asking = proxy.serve(bus, site, config.asks_max, stop);
        parts.spawn(async move {
            asking.await;
            Ok(())
        });
        // The first one that fails ends all.
        while let Some(ended) = parts.join_next().await {
            ended.map_err(|panic| (EXIT_FAILED, panic.to_string()))??;
        }
        Ok(())
    }

    fn recover(self, common: &CommonConfig) -> Result<String, (u8, String)> {
        let folder = folder(common);
        let waiting = match Queue::open(&folder, &self.config.bounds()) {
            Ok(queue) => {
                let depths = Class::ALL.into_iter().map(|class| queue.depth(class).map_or(0, |depth| depth.entries));
                depths.sum::<u64>().to_string()
            }
            Err(error @ QueueError::InUse { .. }) => return Err((EXIT_STATE, error.to_string())),
            // It is to be forgotten, whatever is wrong with it.
            Err(_) => "an unknown number of".into(),
        };
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err((EXIT_FAILED, format!("{}: {error}", folder.display()))),
        }
        Ok(format!(
            "the queue is forgotten, with {waiting} entries that the region did not have; a new chain begins with what the gateway's streams \
             still hold"
        ))
    }
}
