use std::time::Duration;

use bytes::Bytes;
use eddy_runtime::{
    bus::{
        Feed as _, PullBounds, Source,
        memory::{Faults, MemoryBus},
    },
    position::Place,
    store_loop::Gap,
};
use eddy_schemas::{
    Control, ControlKind, ScoresBuilder, Told,
    alert::{Alert, CloudEvent, Phase, Severity},
    context::{Asked, Context, Tier, Verdict},
    flags,
    region::{LabelNews, wire},
    rfc3339,
};
use eddy_vectors::index::{Filter, Label, Query, Recall};

use super::*;
use crate::region::{
    Asking,
    tests::{Told as Region, config, window},
};

const MINUTE: i64 = 60_000_000_000;

fn opened(device: &str, minute: i64) -> Bytes {
    let time = rfc3339(minute * MINUTE);
    let alert = Alert {
        alert: format!("{device}-{minute}"),
        phase: Phase::Opened,
        severity: Severity::Minor,
        site: "s".into(),
        device: device.into(),
        opened: time.clone(),
        score: 1.0,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: vec![],
        heads: vec![],
        bundle: "b".into(),
    };
    CloudEvent::new(alert, 0, time).to_json().into()
}

/// One atomic batch as detect publishes it: alerts, then their scores.
fn alerts(bus: &MemoryBus, rows: &[(&str, i64)]) {
    let mut scores = ScoresBuilder::new("b");
    for (series, minute) in rows {
        let (device, _) = series.split_once('/').unwrap();
        bus.store("DETECTIONS", &format!("alerts.s.minor.{device}"), opened(device, *minute));
        let told = Told { span: 0, filled: 1, vector: &[*minute as f32, 1.0] };
        scores.push(series, minute * MINUTE, 1.0, 1e-6, flags::ALERTED, Some(told));
    }
    bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
}

/// What another site's operator said, as sync passes it on.
fn news(site: &str, label: &str, time: i64, vector: &[f32]) -> Control {
    let news = LabelNews {
        site: site.into(),
        device: "pump 7".into(),
        channel: "t".into(),
        alert: "00ff".into(),
        label: label.into(),
        origin: format!("{site}/cli"),
        time,
        bundle: "b".into(),
        start: 1,
        end: 40 * MINUTE,
        filled: 9,
        score: 0.5,
        vector: vector.to_vec(),
    };
    Control {
        id: format!("region-{site}-{time}"),
        origin: format!("region/{site}/cli"),
        time,
        kind: ControlKind::RegionLabel { device: format!("{site}/pump 7"), news: Box::new(news) },
    }
}

fn controls(bus: &MemoryBus, bundle: &str, controls: &[Control]) {
    let mut scores = ScoresBuilder::new(bundle);
    controls.iter().for_each(|control| scores.push_control(control));
    bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
}

struct Rig {
    bus: MemoryBus,
    sink: IndexSink<MemoryBus, Region>,
    _folder: tempfile::TempDir,
}

fn rig(region: Region) -> Rig {
    let bus = MemoryBus::new(11, Faults::default());
    ["DETECTIONS", "CONTEXT", "CONTROL"].iter().for_each(|stream| bus.create(stream, 7));
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path(), eddy_vectors::index::Limits::default()).unwrap());
    let telemetry = Arc::new(Telemetry::new("index", 0, Duration::from_secs(30)));
    let contexts = Contexts {
        bus: bus.clone(),
        asking: Asking::new(region, "s".into(), &config(), telemetry.clone()),
        site: "s".into(),
        config: config(),
        telemetry: telemetry.clone(),
    };
    let searcher = Arc::new(store.searcher().unwrap());
    let traced = Traced::new(telemetry.clone());
    let (sent, openings) = (Vec::new(), Openings::default());
    Rig { bus, sink: IndexSink { store, searcher, contexts, telemetry, traced, sent, openings }, _folder: folder }
}

impl Rig {
    /// Writes all that lies in DETECTIONS behind the store's position.
    async fn write(&mut self) {
        self.write_after(None).await;
    }

    /// The same, with messages missing before it.
    async fn write_after(&mut self, gap: Option<Gap>) {
        let before = self.sink.position().unwrap();
        let from = before.as_ref().and_then(|position| position.place("DETECTIONS")).map_or(1, Place::next_sequence);
        let source = Source {
            stream: "DETECTIONS".into(),
            durable: "index".into(),
            filter: ">".into(),
            ack_pending_max: 1_000,
            ack_wait: Duration::from_secs(60),
        };
        let bounds = PullBounds { messages: 100, bytes: 1 << 20 };
        let deliveries = self.bus.open(&source, from).await.unwrap().pull(bounds, Duration::ZERO).await.unwrap();
        let turn = Turn { deliveries: &deliveries, gap, before: before.as_ref() };
        let reaches = |sequence| Position([("DETECTIONS".to_owned(), Place::whole(7, sequence))].into());
        let reached = self.sink.write(&turn, reaches).await.unwrap();
        assert_eq!(reached, deliveries.last().map(|last| last.sequence));
    }

    fn contexts(&self) -> Vec<Context> {
        let payloads = self.bus.payloads("CONTEXT", "");
        payloads.iter().map(|payload| serde_json::from_slice(payload).unwrap()).collect()
    }

    /// Windows of other sites.
    fn elsewhere(&self) -> Vec<(String, Option<Label>)> {
        let model = self.sink.searcher.models().remove(0);
        let query = Query {
            model: &model,
            vector: &[0.0, 0.0],
            count: 100,
            radius: f32::INFINITY,
            recall: Recall::Exact,
            filter: Filter::default(),
        };
        let found = self.sink.searcher.search(&query).unwrap().into_iter();
        found.filter(|one| one.series.contains("%2F")).map(|one| (one.series, one.label)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_alert_has_one_context_whatever_the_bus_loses_and_whichever_time_it_is_about() {
    let mut rig = rig(Region::default());
    // Device `a` has a channel that lies behind the other.
    (0..3).for_each(|_| alerts(&rig.bus, &[("a/late", 50), ("b/t", 51), ("a/early", 20), ("a/late", 60)]));
    rig.bus.set_faults(Faults { publish_lost: 400, answer_lost: 300, ..Faults::default() });
    rig.write().await;
    for round in 0.. {
        assert!(round < 500, "they never all went out");
        // As after a restart: what was sent is looked up.
        rig.sink.sent.clear();
        if rig.sink.tick().await.is_ok() {
            break;
        }
    }
    let told = rig.contexts();
    let mut alerts: Vec<&str> = told.iter().map(|context| context.alert.as_str()).collect();
    alerts.sort_unstable();
    let each = ["a-20", "a-50", "a-60", "b-51"];
    let expected: Vec<&str> = each.iter().flat_map(|alert| [*alert; 3]).collect();
    assert_eq!(alerts, expected, "three messages, each with all four");
    assert!(told.iter().all(|context| context.region.is_none()), "of no region");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_is_updated_at_the_time_of_its_opening_has_its_context_all_the_same() {
    let mut rig = rig(Region::default());
    rig.bus.store("DETECTIONS", "alerts.s.minor.a", opened("a", 5));
    let mut updated: CloudEvent = serde_json::from_slice(&opened("a", 5)).unwrap();
    updated.data.phase = Phase::Updated;
    rig.bus.store("DETECTIONS", "alerts.s.minor.a", updated.to_json().into());
    let mut scores = ScoresBuilder::new("b");
    for channel in ["a/t", "a/h"] {
        let told = Told { span: 0, filled: 1, vector: &[1.0, 1.0] };
        scores.push(channel, 5 * MINUTE, 1.0, 1e-6, flags::ALERTED, Some(told));
    }
    rig.bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
    rig.write().await;
    rig.sink.tick().await.unwrap();
    let told = rig.contexts();
    assert_eq!((told.len(), told[0].alert.as_str(), told[0].window.channel.as_str()), (1, "a-5", "t"));
    assert_eq!(rig.sink.searcher.tagged("a-5").unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_gap_windows_of_an_episode_are_of_no_alert_until_the_next_one_opens() {
    let mut rig = rig(Region::default());
    alerts(&rig.bus, &[("a/t", 5)]);
    rig.write().await;
    let told = Told { span: 0, filled: 1, vector: &[1.0, 1.0] };
    let episode = |minute: i64| {
        let mut scores = ScoresBuilder::new("b");
        scores.push("a/t", minute * MINUTE, 0.1, 1e-6, flags::EPISODE, Some(told));
        scores.encode().into()
    };
    rig.bus.store("DETECTIONS", "scores.s.0", episode(9));
    rig.write().await;
    assert_eq!(rig.sink.searcher.tagged("a-5").unwrap().len(), 2);
    rig.bus.store("DETECTIONS", "scores.s.0", episode(13));
    rig.write_after(Some(Gap { from: 3, to: 3 })).await;
    assert_eq!(rig.sink.searcher.tagged("a-5").unwrap().len(), 2, "it may be of an alert that was missed");
    alerts(&rig.bus, &[("a/t", 20)]);
    rig.bus.store("DETECTIONS", "scores.s.0", episode(24));
    rig.write().await;
    assert_eq!(rig.sink.searcher.tagged("a-20").unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_site_said_is_kept_once_and_the_later_word_holds() {
    let mut rig = rig(Region::default());
    let said = |label: &str, time| news("plant 2", label, time, &[10.0, 1.0]);
    controls(&rig.bus, "b", &[said("leak", 5), said("leak", 5), said("normal", 4)]);
    rig.write().await;
    controls(&rig.bus, "b", &[said("leak", 5)]);
    rig.write().await;
    let label = |name: &str, time| Some(Label { name: name.into(), origin: "region/plant 2/cli".into(), time });
    let series = "plant%202%2Fpump%207/t";
    assert_eq!(rig.elsewhere(), [(series.to_owned(), label("leak", 5))]);
    assert_eq!(rig.sink.searcher.tagged("plant%202/00ff").unwrap().len(), 1);
    controls(&rig.bus, "b", &[said("normal", 6)]);
    rig.write().await;
    assert_eq!(rig.elsewhere(), [(series.to_owned(), label("normal", 6))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_to_be_kept_of_other_sites_leaves_the_rows_beside_it_alone() {
    let mut rig = rig(Region::default());
    let wrong = [
        news("s", "leak", 1, &[10.0, 1.0]),
        news("plant 2", "leak", 1, &[1e9, 1.0]),
        news("plant 2", "leak", 1, &[]),
        news("plant 2", "leak", 1, &vec![1.0; 5_000]),
        news("plant 2", "", 1, &[10.0, 1.0]),
        news("", "leak", 1, &[10.0, 1.0]),
    ];
    let mut scores = ScoresBuilder::new("b");
    wrong.iter().for_each(|control| scores.push_control(control));
    let told = Told { span: 0, filled: 1, vector: &[1.0, 1.0] };
    scores.push("a/t", MINUTE, 1.0, 0.5, flags::KEPT, Some(told));
    rig.bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
    // Another bundle's vectors are near to nothing here.
    controls(&rig.bus, "another", &[news("plant 2", "leak", 1, &[10.0, 1.0])]);
    rig.write().await;
    assert_eq!((rig.elsewhere(), rig.sink.store.stats().unwrap().windows), (vec![], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_of_another_site_makes_a_verdict_here_but_its_devices_are_no_siblings() {
    let mut rig = rig(Region::default());
    controls(&rig.bus, "b", &[news("plant 2", "leak", 5, &[50.0, 1.0]), news("plant 3", "normal", 5, &[90.0, 1.0])]);
    alerts(&rig.bus, &[("a/t", 50), ("b/t", 70)]);
    rig.write().await;
    rig.sink.tick().await.unwrap();
    let told = rig.contexts();
    let leak = Verdict::Fault { name: "leak".into(), votes: 1, tier: Tier::Gateway };
    assert_eq!((told[0].verdict.clone(), told[0].neighbours[0].device.as_str()), (leak, "plant 2/pump 7"));
    // All three are as near; the two that carry a label do not agree.
    assert_eq!((told[1].verdict.clone(), told[1].neighbours.len()), (Verdict::NovelToDevice, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_tells_what_the_region_knows_and_one_that_does_not_answer_holds_up_none() {
    let answer =
        wire::SearchResponse { neighbours: vec![window("plant 2", 0.1, "leak")], windows: 9, ..Default::default() };
    let region = Region::new("b", &[50.0, 1.0], 1.0, "plant 2", Some(Ok(answer)));
    let mut rig = rig(region.clone());
    alerts(&rig.bus, &[("a/t", 50), ("b/t", 900)]);
    rig.write().await;
    rig.sink.tick().await.unwrap();
    let told = rig.contexts();
    assert_eq!(told[0].verdict, Verdict::Fault { name: "leak".into(), votes: 1, tier: Tier::Region });
    assert_eq!(told[0].text, "matches fault leak at plant 2 (said of 1 windows like it)");
    let of_region = told[0].region.clone().unwrap();
    assert_eq!(
        (of_region.asked, of_region.neighbours[0].device.as_str(), of_region.windows),
        (Asked::Answered, "pump", 9)
    );
    assert_eq!(
        (&told[1].verdict, told[1].region.as_ref().map(|region| &region.asked)),
        (&Verdict::NovelToRegion, Some(&Asked::NothingNear))
    );
    *region.answer.lock().unwrap() = None;
    alerts(&rig.bus, &[("c/t", 50), ("d/t", 51), ("e/t", 50), ("f/t", 51)]);
    rig.write().await;
    rig.sink.tick().await.unwrap();
    let told = rig.contexts();
    assert_eq!(told.len(), 6);
    for context in &told[2..] {
        assert!(matches!(context.region.as_ref().unwrap().asked, Asked::NoAnswer { .. }), "{context:?}");
        assert_eq!(context.verdict, Verdict::NovelToDevice);
    }
    assert_eq!(region.asked().len(), 5, "all at the same time");
}
