//! One reading followed through every hop, by what a collector is told; and that a collector that is away changes nothing.

mod collector;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use self::collector::{Collector, Span};
use crate::{
    faults::undisturbed,
    gateway::{Gateway, ROOMY, SITE, STAGES},
    oracle::{assert_same, outcome},
    recording::{fleet, send},
    region::Hub,
};

/// From a reading to the region's store, by way of the alert and of its context.
const WAYS: [&[&str]; 3] = [
    &["ingest", "capture", "preprocess", "embed", "detect", "alert", "sync", "verify", "merge"],
    &["ingest", "capture", "preprocess", "embed", "detect", "alert", "index", "context", "sync", "verify", "merge"],
    &["ingest", "capture", "preprocess", "embed", "detect", "alert", "notify"],
];
/// Which process tells of a hop, where it is not called like it.
const OTHERWISE: [(&str, &str); 5] =
    [("ingest", "capture"), ("alert", "detect"), ("context", "index"), ("verify", "hub"), ("merge", "hub")];

/// What a collector was told of one trace.
struct Trace<'s>(BTreeMap<&'s str, &'s Span>);

impl<'s> Trace<'s> {
    /// The hops on the way to each span that ends one, from the trace's beginning on.
    fn ways(&self) -> Vec<Vec<&'s Span>> {
        let is_parent = |span: &Span| self.0.values().any(|other| other.parent == span.id);
        let leaves = self.0.values().filter(|span| !is_parent(span));
        let way = |leaf: &&'s Span| {
            let mut way = vec![*leaf];
            while let Some(parent) = self.0.get(way[way.len() - 1].parent.as_str()) {
                way.push(parent);
            }
            way.reverse();
            way
        };
        leaves.map(way).collect()
    }

    fn has(&self, hops: &[&str]) -> bool {
        self.ways().iter().any(|way| way.iter().map(|span| span.name.as_str()).eq(hops.iter().copied()))
    }
}

fn traces(spans: &[Span]) -> BTreeMap<&str, Trace<'_>> {
    let mut traces = BTreeMap::<&str, Trace<'_>>::new();
    for span in spans {
        let of = traces.entry(&span.trace).or_insert_with(|| Trace(BTreeMap::new()));
        of.0.insert(&span.id, span);
    }
    traces
}

/// The metrics as Prometheus asks for them.
fn openmetrics(address_file: &Path) -> String {
    let address = std::fs::read_to_string(address_file).unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A gateway with everything that takes alerts further, whose stages are told `more`.
async fn gateway(collector: &Collector, hub: &Hub, more: &[(&str, &str)]) -> Gateway {
    let mut gateway = Gateway::without_stages(&ROOMY).await;
    for stage in STAGES {
        let address = gateway.folder.path().join(format!("{stage}.address"));
        let own = [("EDDY_TELEMETRY_ADDRESS_FILE", address.to_str().unwrap())];
        gateway.start_stage_with(stage, &[more, &own].concat());
    }
    gateway.start_stage_with("index", more);
    let hub = hub.url();
    let sync = [("EDDY_SYNC_HUB_URL", hub.as_str()), ("EDDY_SYNC_COMMIT_INTERVAL_MS", "150")];
    gateway.start_stage_with("sync", &[more, &sync].concat());
    let config = gateway.folder.path().join("notify.toml");
    let webhook = format!("[[notify.webhook]]\nname = \"hook\"\nurl = \"{}/hook\"\nunsigned = true\n", collector.url);
    std::fs::write(&config, format!("[notify]\nstart_at = \"oldest\"\n{webhook}")).unwrap();
    gateway.start_stage_with("notify", &[more, &[("EDDY_CONFIG", config.to_str().unwrap())]].concat());
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_has_every_hop_from_the_reading_to_the_region() {
    let collector = Collector::start().await;
    let more = [
        ("EDDY_TELEMETRY_TRACES_ENDPOINT", collector.url.as_str()),
        ("EDDY_TELEMETRY_TRACES_PER_SECOND", "100000"),
        ("EDDY_TELEMETRY_LOG", "eddy_runtime=debug,info"),
    ];
    let hub = Hub::start_with(&[SITE], 1, &more);
    let mut gateway = gateway(&collector, &hub, &more).await;
    send(&gateway.client, &fleet(&["harbour-1", "plaza.north 7"], 2_900), 100).await;
    gateway.wait_until_through().await;

    let deadline = Instant::now() + Duration::from_secs(120);
    let (spans, trace) = loop {
        let spans = collector.spans();
        // Of several traces of one alert a webhook can name the first alone.
        let hooks = collector.hooks();
        let is_told = |trace: &str| hooks.iter().any(|parent| parent.contains(trace));
        let whole = |trace: &&str| is_told(trace) && WAYS.iter().all(|way| traces(&spans)[*trace].has(way));
        if let Some(trace) = traces(&spans).keys().find(|trace| whole(trace)).map(|trace| (*trace).to_owned()) {
            break (spans, trace);
        }
        if Instant::now() > deadline {
            let most = traces(&spans).into_values().max_by_key(|trace| trace.0.len());
            let ways = most.map(|trace| {
                let names = |way: &Vec<&Span>| way.iter().map(|span| span.name.clone()).collect::<Vec<_>>().join(" ");
                trace.ways().iter().map(names).collect::<Vec<_>>()
            });
            panic!("of {} spans no trace has every hop, the webhook too; the longest one has {ways:#?}", spans.len());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };

    // Each hop is told by its own process, begins after what it is a child of, and nothing failed.
    for way in traces(&spans)[trace.as_str()].ways() {
        for (n, span) in way.iter().enumerate() {
            let other = OTHERWISE.iter().find(|(hop, _)| *hop == span.name).map(|(_, process)| *process);
            assert_eq!(span.service, format!("eddy-{}", other.unwrap_or(&span.name)), "{span:?}");
            assert!(span.start <= span.end && !span.failed, "{span:?}");
            // An alert's span lies within its output's, and is published with it.
            assert!(n == 0 || way[n - 1].start <= span.start, "{span:?} before {:?}", way[n - 1]);
        }
        assert!(way[0].parent.is_empty() && way[0].name == "ingest", "{way:?}");
        assert!(way[0].attributes["messaging.destination.subject"].starts_with("ingest.plant."), "{:?}", way[0]);
    }
    let alert = spans.iter().find(|span| span.trace == trace && span.name == "alert").unwrap();
    let detect = spans.iter().find(|span| span.id == alert.parent).unwrap();
    assert!(detect.attributes["eddy.alert_ids"].contains(&alert.attributes["eddy.alert"]), "{detect:?}");

    // Detect's log lines and exemplars name it or its like.
    let is_known = |trace: &str| spans.iter().any(|span| span.trace == trace && span.name == "detect");
    let log = gateway.stage("detect").log();
    let lines = log.lines().filter(|line| line.contains("an output with a trace is out"));
    let named: Vec<&str> = lines.map(|line| &line.strip_prefix("detect/0 trace_id=").unwrap()[..32]).collect();
    assert!(!named.is_empty() && named.iter().all(|trace| is_known(trace)), "{named:?}");
    let text = openmetrics(&gateway.folder.path().join("detect.address"));
    let exemplars: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("eddy_age_seconds_bucket{stage=\"detect\""))
        .filter_map(|line| line.split("# {trace_id=\"").nth(1)?.split('"').next())
        .collect();
    assert!(!exemplars.is_empty(), "{text}");
    assert!(exemplars.iter().all(|trace| is_known(trace)), "{exemplars:?}");
    // What was sampled is all there: no hop had to drop a span.
    assert!(text.contains("eddy_spans_dropped_total{stage=\"detect\",shard=\"0\"} 0\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_changes_nothing_and_is_told_of_once() {
    let expected = undisturbed(100).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{nobody}");
    let more = [
        ("EDDY_TELEMETRY_TRACES_ENDPOINT", endpoint.as_str()),
        ("EDDY_TELEMETRY_TRACES_PER_SECOND", "100000"),
        ("EDDY_TELEMETRY_TRACES_QUEUE_SPANS_MAX", "8"),
    ];
    let mut gateway = Gateway::without_stages(&ROOMY).await;
    for stage in STAGES {
        gateway.start_stage_with(stage, &more);
    }
    send(&gateway.client, &fleet(&["harbour-1", "plaza.north 7"], 2_900), 100).await;
    gateway.wait_until_through().await;
    assert_same(&expected, &outcome(&gateway.client).await, "with traces that nobody takes against none");
    for stage in STAGES {
        assert_eq!(gateway.stage(stage).stop().code(), Some(0), "{stage}");
        let log = gateway.stage(stage).log();
        assert_eq!(log.matches("the collector does not take traces").count(), 1, "{log}");
    }
}
