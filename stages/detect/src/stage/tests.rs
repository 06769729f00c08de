use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use eddy_runtime::{
    bundle::HeadInput,
    contract::{Message, assert_stage_contract},
};
use eddy_schemas::{
    EmbeddingsBuilder, HeadLayout, Scores, SeriesName,
    alert::{CloudEvent, Phase},
    flags,
};
use eddy_vectors::delay;

use super::*;
use crate::TellWindows;
use source::{Event, Item, Source};

mod bursts;
mod damaged;
mod forgiven;
mod older;
mod peaks;
mod slow;
mod source;
mod switched;
mod turns;
mod windows;

const DIGEST: &str = "digest";
const COMMISSIONING_ROWS: i64 = 400;
const HOP: i64 = 300_000_000_000;

fn manifest() -> Manifest {
    toml::from_str(&manifest_text("t", &"0".repeat(64))).unwrap()
}

fn manifest_text(name: &str, onnx_digest: &str) -> String {
    let head = |name: &str, dimensions: usize, rest: &str| {
        format!(
            "[[head]]\nname = \"{name}\"\noutput = \"{name}\"\ndimensions = {dimensions}\nwindow = 16\n\
             metric = \"euclidean\"\nfloor = 0.1\n{rest}\n"
        )
    };
    let gated = "memory = \"gated\"\nlearned = false\nleaves_gateway = false";
    let text = [
        format!("format = 1\nname = \"{name}\"\nversion = \"1\"\nonnx_digest = \"{onnx_digest}\"\ninput_window = 64"),
        format!("commissioning_rows = {COMMISSIONING_ROWS}"),
        head("value", 1, &format!("min_rows = 1\nexclusion = 8\nscope = \"series\"\nspread = \"series\"\nweight = 1.0\nevidence = 1.0\nhistory_bytes = 1024\n{gated}")),
        head("raw", 64, &format!("min_rows = 8\nexclusion = 32\nscope = \"series\"\nspread = \"distances\"\nweight = 0.04\nevidence = 1.0\nhistory_bytes = 2560\n{gated}")),
        head("level", 2, &format!("min_rows = 8\nexclusion = 30\nscope = \"device\"\nspread = \"commissioned\"\nweight = 1.0\nevidence = 1.0\nhistory_bytes = 768\n{gated}")),
        head("learned", 16, "min_rows = 8\nexclusion = 32\nscope = \"series\"\nspread = \"commissioned\"\nweight = 0.1\nevidence = 0.5\nhistory_bytes = 768\nmemory = \"gated\"\nlearned = true\nleaves_gateway = true"),
        head("spectrum", 32, &format!("input = \"spectrum\"\nmin_rows = 1\nexclusion = 8\nscope = \"series\"\nspread = \"commissioned\"\nweight = 1.0\nevidence = 1.0\nhistory_bytes = 2048\n{}", gated.replace("gated", "frozen"))).replace("window = 16", "window = 1"),
    ];
    text.join("\n")
}

fn config() -> Config {
    let mut file: HashMap<String, Config> = toml::from_str(Detect::DEFAULTS).unwrap();
    let mut config = file.remove("detect").unwrap();
    (config.alerts_per_day, config.fleet_series) = (1.0, 100.0);
    (config.close_after_rows, config.refractory_rows, config.regime_after_s) = (6, 12, 48.0 * 300.0);
    config
}

fn detect() -> Detect {
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    Detect::with_manifest(config(), &scope, &manifest(), DIGEST).unwrap()
}

fn heads() -> Vec<HeadLayout> {
    manifest()
        .heads
        .iter()
        .map(|head| HeadLayout {
            name: head.name.clone(),
            dimensions: head.dimensions,
            optional: head.input == HeadInput::Spectrum,
        })
        .collect()
}

fn messages(items: &[Item], rows: usize) -> Vec<Message> {
    items.chunks(rows).map(|items| message(items, DIGEST, None)).collect()
}

/// Of a bundle, and of one in the shadow that makes the same vectors.
fn message(items: &[Item], bundle: &str, shadow: Option<&str>) -> Message {
    let mut builder = EmbeddingsBuilder::new(bundle, &heads());
    if let Some(shadow) = shadow {
        builder = builder.with_shadow(shadow, &heads());
    }
    for item in items {
        match item {
            Item::Control(control) => builder.push_control(control),
            Item::Row { series, time, filled, commissioning, vectors } => {
                builder.push(series, *time, 0, *filled, *commissioning, HOP);
                for (head, vector) in vectors.iter().enumerate() {
                    builder.extend_head(head, vector);
                    if shadow.is_some() {
                        builder.extend_shadow_head(head, vector);
                    }
                }
                if vectors.len() > 4 {
                    builder.push_optional();
                }
            }
        }
    }
    Message { stream: "EMBEDDINGS", subject: "embeddings.site.0".into(), payload: Bytes::from(builder.encode()) }
}

#[derive(Debug, Default, PartialEq)]
struct Told {
    /// Series, time, flags, score's and tail's bits, vector.
    rows: Vec<(String, i64, u16, u32, u64, bool)>,
    alerts: Vec<String>,
    decisions: BTreeMap<&'static str, u64>,
}

impl Told {
    fn events(&self) -> Vec<CloudEvent> {
        self.alerts.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }

    /// Per alert its phase and the row of its time.
    fn phases(&self) -> Vec<(Phase, i64)> {
        let row = |time: &str| time.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64 / HOP;
        self.events().iter().map(|event| (event.data.phase, row(&event.time))).collect()
    }

    fn opened(&self) -> Vec<i64> {
        self.phases().into_iter().filter(|(phase, _)| *phase == Phase::Opened).map(|(_, row)| row).collect()
    }

    /// What was told of one device; decisions are counted for all of them.
    fn of(&self, device: &str) -> Self {
        let rows = self.rows.iter().filter(|row| SeriesName::device_token(&row.0) == device);
        let alerts = self.alerts.iter().filter(|json| json.contains(&format!("\"device\":\"{device}\"")));
        Self { rows: rows.cloned().collect(), alerts: alerts.cloned().collect(), decisions: BTreeMap::new() }
    }
}

fn incoming(message: &Message) -> Incoming {
    Incoming {
        stream: message.stream.into(),
        subject: message.subject.clone(),
        sequence: 1,
        stored_at: 0,
        content_type: None,
        payload: message.payload.clone(),
    }
}

/// In the order of their keys, as the store gives them.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn save(stage: &mut Detect, records: &mut Records) {
    stage.save(&mut |key, value| match value {
        Some(value) => _ = records.insert(key.to_vec(), value.to_vec()),
        None => _ = records.remove(key),
    });
}

/// Runs messages; with `reload`, every message begins with a stage that was loaded from what the last one saved.
fn run(stage: &mut Detect, items: &[Item], rows: usize, reload: bool) -> Told {
    run_messages(stage, messages(items, rows), reload.then_some(&detect))
}

fn run_messages(stage: &mut Detect, messages: Vec<Message>, reload: Option<&dyn Fn() -> Detect>) -> Told {
    let (mut told, mut records) = (Told::default(), Records::new());
    for (message, sequence) in messages.into_iter().zip(1..) {
        if let Some(open) = reload {
            save(stage, &mut records);
            *stage = open();
            records.iter().for_each(|(key, value)| stage.load(key, value).unwrap());
        }
        let message = Incoming { sequence, ..incoming(&message) };
        let input = stage.decode(&message).unwrap();
        let mut out = Outbox::new(stage.outputs(), usize::MAX);
        let reached = stage.process(&message, &input, 0..Detect::rows(&input), &mut out);
        assert_eq!((reached, out.rejected.len()), (Detect::rows(&input), 0));
        let scores = Scores::decode(&out.main[0].encode()).unwrap();
        for row in (0..scores.rows.len()).filter(|row| scores.rows.control(*row).is_none()) {
            let vector = scores.window(row).is_some();
            let (score, tail) = (scores.score[row].to_bits(), scores.tail[row].to_bits());
            told.rows.push((
                scores.rows.name(row).into(),
                scores.rows.time[row],
                scores.flags[row],
                score,
                tail,
                vector,
            ));
        }
        out.decisions.iter().for_each(|(kind, n)| *told.decisions.entry(kind).or_default() += n);
        told.alerts.extend(out.alerts.into_iter().map(|alert| String::from_utf8(alert.payload).unwrap()));
    }
    told
}

fn told(source: &Source) -> Told {
    run(&mut detect(), &source.items(), 500, false)
}

fn spiky() -> Source {
    Source::new("d", 2, 900).with(Event::Add(600..603, 0, 6.0))
}

#[test]
fn every_embedding_is_one_score_and_every_round_one_more() {
    let source = spiky();
    let told = told(&source);
    let of_series = told.rows.iter().filter(|row| row.2 & flags::JOINT == 0).map(|row| (row.0.clone(), row.1));
    let expected = source.items().into_iter().filter_map(|item| match item {
        Item::Row { series, time, .. } => Some((series, time)),
        Item::Control(_) => None,
    });
    assert!(of_series.eq(expected));
    let rounds: Vec<i64> = told.rows.iter().filter(|row| row.0 == "d/*").map(|row| row.1 / HOP).collect();
    assert!(rounds.windows(2).all(|pair| pair[1] == pair[0] + 1), "{rounds:?}");
    assert!((400..420).contains(&rounds[0]) && rounds.ends_with(&[899]), "{rounds:?}");
    assert!(
        told.rows
            .iter()
            .filter(|row| row.2 & (flags::KEPT | flags::ALERTED) != 0 && row.2 & flags::JOINT == 0)
            .all(|row| row.5)
    );
}

#[test]
fn a_spike_is_one_episode_with_its_channel_and_nothing_else_is() {
    let told = told(&spiky());
    let phases = told.phases();
    assert_eq!(phases[0], (Phase::Opened, 600), "{phases:?}");
    // At the latest once the spike has left the longest window, and all has been quiet for `close_after_rows`.
    assert!(matches!(phases.last(), Some((Phase::Closed, 604..=672))), "{phases:?}");
    assert_eq!(told.opened().len(), 1);
    let events = told.events();
    let validator: serde_json::Value = serde_json::from_str(eddy_schemas::alert::JSON_SCHEMA).unwrap();
    assert!(validator.is_object());
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.id, format!("{}-{n}", events[0].data.alert));
        assert_eq!(event.data.severity, events[0].data.severity);
        assert!(event.data.tail_min <= events[0].data.tail);
    }
    assert_eq!(events[0].data.channels[0].name, "c0");
    assert!(told.rows.iter().any(|row| row.2 & flags::GATED != 0 && row.1 == 600 * HOP));
}

#[test]
fn rows_and_alerts_depend_neither_on_cuts_nor_on_restarts() {
    let source = Source::new("d", 3, 700).with(Event::Add(500..520, 1, 4.0)).with(Event::Add(600..601, 2, -7.0));
    let items = source.items();
    let whole = run(&mut detect(), &items, 100_000, false);
    assert!(!whole.alerts.is_empty());
    for (rows, reload) in [(1, false), (7, true), (613, true), (1301, true)] {
        let cut = run(&mut detect(), &items, rows, reload);
        let at = whole.rows.iter().zip(&cut.rows).position(|(a, b)| a != b);
        let difference = at.map(|at| (at, &whole.rows[at], &cut.rows[at]));
        assert!(cut == whole, "{rows} rows a message, reload {reload}: {difference:?}");
    }
}

#[test]
fn holds_to_the_stage_contract() {
    let source = Source::new("d", 2, 480)
        .with(Event::Add(440..444, 0, 6.0))
        .with(Event::Say(460, ControlKind::Maintenance { device: "d".into(), on: true, until: None }));
    let mut all = messages(&source.items(), 97);
    let rubbish =
        Message { stream: "EMBEDDINGS", subject: "embeddings.site.0".into(), payload: Bytes::from_static(b"x") };
    all.insert(2, rubbish);
    assert_stage_contract(detect, &all, 0..3);
}

#[test]
fn a_device_is_its_own_whatever_else_is_there() {
    let (one, other) = (spiky().items(), Source::new("e", 2, 900).with(Event::Add(500..700, 1, 9.0)).items());
    let alone = run(&mut detect(), &one, 500, false);
    let mut mixed: Vec<Item> = Vec::new();
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    loop {
        let before = mixed.len();
        mixed.extend(one.by_ref().take(3));
        mixed.extend(other.by_ref().take(5));
        if mixed.len() == before {
            break;
        }
    }
    let together = run(&mut detect(), &mixed, 500, false);
    assert!(together.of("d") == alone.of("d"));
    assert!(!together.of("e").alerts.is_empty());
}

#[test]
fn maintenance_ends_an_episode_and_neither_alerts_nor_learns() {
    let maintain = |at, on, until: Option<i64>| {
        Event::Say(at, ControlKind::Maintenance { device: "d".into(), on, until: until.map(|row| row * HOP) })
    };
    let shift = Event::Add(600..660, 0, 6.0);
    let told_of = |events: Vec<Event>| {
        let mut source = Source::new("d", 2, 800);
        source.events = events;
        told(&source)
    };
    let told = told_of(vec![shift.clone(), maintain(602, true, None), maintain(640, false, None)]);
    let phases = told.phases();
    let at_control = phases.iter().position(|(phase, _)| *phase == Phase::Closed).unwrap();
    assert_eq!(phases[at_control], (Phase::Closed, 601), "{phases:?}");
    assert!(phases[at_control + 1..].iter().all(|(_, row)| *row >= 640), "{phases:?}");
    assert!(phases.len() > at_control + 1, "what began in maintenance is not known when it ends: {phases:?}");
    let marked = told.rows.iter().filter(|row| row.2 & flags::MAINTENANCE != 0 && row.2 & flags::JOINT == 0).count();
    assert_eq!(marked, 2 * (640 - 602));
    let until = told_of(vec![shift, maintain(590, true, Some(740))]);
    assert_eq!(until.alerts.len(), 0, "{:?}", until.phases());
}

#[test]
fn an_alert_that_is_called_normal_closes_and_does_not_come_again() {
    let bump = |at: i64| Event::Add(at..at + 4, 0, 6.0);
    let first = told(&Source::new("d", 1, 620).with(bump(600))).events();
    let label = |at: i64, label: &str| {
        let (device, alert, label) = ("d".into(), first[0].data.alert.clone(), label.into());
        Event::Say(at, ControlKind::Label { device, alert, label })
    };
    let wave = 96;
    let twice = || Source::new("d", 1, 900).with(bump(600)).with(bump(600 + 2 * wave));
    assert_eq!(told(&twice()).opened(), [600, 600 + 2 * wave]);
    assert_eq!(told(&twice().with(label(700, "bearing worn"))).opened(), [600, 600 + 2 * wave]);
    assert_eq!(told(&twice().with(label(700, "normal"))).opened(), [600]);
    let early = told(&twice().with(label(606, "normal"))).phases();
    assert!(early.contains(&(Phase::Closed, 605)), "{early:?}");
}

#[test]
fn what_persists_becomes_a_regime_and_the_episode_closes() {
    let told = told(&Source::new("d", 1, 1400).with(Event::Add(600..1400, 0, 6.0)));
    let phases = told.phases();
    assert_eq!(phases[0], (Phase::Opened, 600));
    assert!(matches!(phases.last(), Some((Phase::Closed, _))), "{phases:?}");
    assert!(told.rows.iter().any(|row| row.2 & flags::REGIME != 0));
    assert!(told.rows.iter().filter(|row| row.1 > 1300 * HOP).all(|row| row.2 & flags::GATED == 0));
}

#[test]
fn recommissioning_and_reset_begin_anew() {
    for kind in [ControlKind::Recommission { device: "d".into() }, ControlKind::DeviceReset { device: "d".into() }] {
        let source = || {
            Source::new("d", 2, 1500)
                .with(Event::Add(600..1500, 0, 6.0))
                .with(Event::Say(610, kind.clone()))
                .with(Event::Add(1300..1303, 1, -6.0))
        };
        let told = told(&source());
        let phases = told.phases();
        assert_eq!((phases[0], told.opened()), ((Phase::Opened, 600), vec![600, 1300]), "{phases:?}");
        assert!(phases.contains(&(Phase::Closed, 609)), "{phases:?}");
        assert!(told.rows.iter().any(|row| row.2 & flags::JOINT != 0 && row.1 > 1100 * HOP));
        assert!(run(&mut detect(), &source().items(), 333, true) == told);
    }
}

#[test]
fn a_device_that_is_reset_leaves_no_record() {
    let source = Source::new("d", 2, 500).with(Event::Say(480, ControlKind::DeviceReset { device: "d".into() }));
    let (mut stage, mut records) = (detect(), Records::new());
    let items = source.items();
    for message in messages(&items, 50) {
        let message = incoming(&message);
        let input = stage.decode(&message).unwrap();
        stage.process(&message, &input, 0..Detect::rows(&input), &mut Outbox::new(stage.outputs(), usize::MAX));
        save(&mut stage, &mut records);
    }
    assert_eq!(records.into_keys().collect::<Vec<_>>(), [b"a", b"b"]);
}

#[test]
fn state_stays_within_eight_kilobytes_a_series() {
    for (channels, rows) in [(1, 401), (3, 403), (3, 900), (8, 900)] {
        // Ever new values fill every history; an open episode fills what is held.
        let mut source = Source::new("d", channels, rows);
        for channel in 0..channels {
            source.events.extend((0..rows).map(|row| Event::Add(row..rows, channel, 0.01 * source::noise(row * 7))));
            source.events.push(Event::Add(rows - 20..rows, channel, 9.0));
        }
        let (mut stage, mut records) = (detect(), Records::new());
        run(&mut stage, &source.items(), 1000, false);
        save(&mut stage, &mut records);
        let bytes: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
        let per_series = bytes / channels;
        // What is left is embed's: its window of 64 samples and its scaling.
        assert!(per_series <= 8192 - 400, "{channels} channels, {rows} rows: {per_series} bytes");
    }
}

#[test]
fn what_is_not_of_this_bundle_is_refused() {
    let stage = detect();
    let mut builder = EmbeddingsBuilder::new("another", &heads());
    let mut message = messages(&[], 1).pop().unwrap_or(Message {
        stream: "EMBEDDINGS",
        subject: "embeddings.site.0".into(),
        payload: Bytes::new(),
    });
    message.payload = Bytes::from(builder.encode());
    let (reason, detail) = stage.decode(&incoming(&message)).unwrap_err();
    assert!(reason == Reason::BundleMismatch && detail.contains("another") && detail.contains(DIGEST), "{detail}");
    let mut stage = detect();
    let error = stage.load(b"b", b"another").unwrap_err().to_string();
    assert!(error.contains("another") && error.contains(DIGEST), "{error}");
    assert!(stage.load(b"hd/c0", &[0, 0, 9]).is_err() && stage.load(b"x", &[]).is_err());
}

#[test]
fn a_series_too_many_is_rejected_and_the_others_go_on() {
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let config = Config { series_max: 1, ..config() };
    let mut stage = Detect::with_manifest(config, &scope, &manifest(), DIGEST).unwrap();
    let items = Source::new("d", 2, 402).items();
    let message = incoming(&messages(&items, 10_000)[0]);
    let input = stage.decode(&message).unwrap();
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    stage.process(&message, &input, 0..Detect::rows(&input), &mut out);
    assert_eq!((out.rejected.len(), out.main[0].len()), (402, 402));
    assert!(out.rejected[0].rejection.detail.contains("series_max"));
}

#[test]
fn hostile_numbers_stop_nothing() {
    let mut items = Source::new("d", 2, 700).items();
    for (at, item) in items.iter_mut().enumerate().filter(|(at, _)| at % 37 == 0) {
        if let Item::Row { vectors, time, .. } = item {
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX][at / 37 % 4];
            vectors.iter_mut().flatten().for_each(|x| *x = bad);
            *time = if at % 2 == 0 { i64::MAX } else { i64::MIN };
        }
    }
    let told = run(&mut detect(), &items, 100, true);
    assert!(
        told.rows.iter().all(|row| !f32::from_bits(row.3).is_nan() && (0.0..=1.0).contains(&f64::from_bits(row.4)))
    );
}

#[test]
fn alerts_are_the_golden_ones() {
    let name = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/detect/spike.alerts.jsonl");
    let source = spiky();
    let made: String = told(&source).alerts.iter().map(|json| format!("{json}\n")).collect();
    if std::env::var_os("EDDY_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(std::path::Path::new(name).parent().unwrap()).unwrap();
        std::fs::write(name, &made).unwrap();
    }
    let golden = std::fs::read_to_string(name).unwrap();
    assert_eq!(made, golden, "if that is meant: EDDY_UPDATE_GOLDEN=1 cargo test -p eddy-detect golden");
}

#[test]
fn held_windows_are_few_and_packed() {
    assert_eq!(
        crate::series::held_bytes(&detect().panel.active().plan, 3),
        delay::packed_bytes(1) + delay::packed_bytes(64) + 20
    );
}
