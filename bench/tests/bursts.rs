//! The recorded bursts of `fixtures/bursts/` through all four stages, with their default settings and the default bundle: the
//! bearing that fails is found by the shape of its spectrum, its RMS alone knows nothing of it, and its twin is left alone.

#![allow(clippy::unwrap_used)]

use std::{fs::File, io::Read, path::PathBuf};

use bytes::Bytes;
use eddy_capture::Capture;
use eddy_detect::Detect;
use eddy_embed::Embed;
use eddy_preprocess::Preprocess;
use eddy_runtime::stage::{Incoming, Outbox, Scope, Stage};
use eddy_schemas::{
    Samples,
    alert::{CloudEvent, Phase},
    bursts::Burst,
};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

const MACHINES: [&str; 2] = ["pump-1", "pump-2"];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the machines send, in order: per minute a line of each.
fn recording() -> Vec<(&'static str, Value)> {
    let lines = MACHINES.map(|machine| {
        let file = File::open(repository().join(format!("fixtures/bursts/{machine}.jsonl.gz"))).unwrap();
        let mut text = String::new();
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    });
    let rows = (0..lines[0].len()).flat_map(|row| [(MACHINES[0], row), (MACHINES[1], row)]);
    rows.enumerate().map(|(at, (machine, row))| (machine, lines[at % 2][row].clone())).collect()
}

fn stage<S: Stage>(change: impl FnOnce(&mut toml::Table)) -> S {
    let mut file: toml::Table = toml::from_str(S::DEFAULTS).unwrap();
    let mut table = file.remove(S::SPEC.name).unwrap().as_table().unwrap().clone();
    change(&mut table);
    S::new(table.try_into().unwrap(), &Scope { site: "site".into(), shard: 0, shards: 1 }).unwrap()
}

/// The default bundle, wherever the test is run from.
fn with_bundle(table: &mut toml::Table) {
    let bundles = repository().join("fixtures/bundles");
    table.insert("bundle".into(), bundles.join("default").display().to_string().into());
    table.insert("trusted_keys".into(), vec![bundles.join("default.pub").display().to_string()].into());
}

fn step<S: Stage>(stage: &mut S, subject: &str, stored_at: i64, payload: Vec<u8>) -> Outbox<S::Output> {
    let message = Incoming {
        stream: S::SPEC.inputs[0].stream.into(),
        subject: subject.into(),
        sequence: 1,
        stored_at,
        content_type: None,
        payload: Bytes::from(payload),
    };
    let input = stage.decode(&message).unwrap();
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    assert_eq!(stage.process(&message, &input, 0..S::rows(&input), &mut out), S::rows(&input));
    assert!(out.rejected.is_empty(), "{}: {:?}", S::SPEC.name, out.rejected[0].rejection);
    out
}

/// Every alert of these messages, and the bytes of all READINGS and all SAMPLES.
fn through_all_stages(messages: &[(&str, Value)]) -> (Vec<CloudEvent>, [usize; 2]) {
    let (mut capture, mut preprocess) = (stage::<Capture>(|_| ()), stage::<Preprocess>(|_| ()));
    let (mut embed, mut detect) = (stage::<Embed>(with_bundle), stage::<Detect>(with_bundle));
    let (mut alerts, mut bytes) = (Vec::new(), [0, 0]);
    for (machine, value) in messages {
        let arrival = nanoseconds(value["time"].as_str().unwrap());
        let payload = value.to_string().into_bytes();
        let readings = step(&mut capture, &format!("ingest.site.{machine}"), arrival, payload).main[0].encode();
        bytes[0] += readings.len();
        let samples = step(&mut preprocess, "readings.site.0", arrival, readings).main[0].encode();
        bytes[1] += samples.len();
        let is_burst = value["vibration"].is_object();
        assert_eq!(Samples::decode(&samples).unwrap().spectrum(0).is_some(), is_burst);
        let embeddings = step(&mut embed, "samples.site.0", arrival, samples).main[0].encode();
        let told = step(&mut detect, "embeddings.site.0", arrival, embeddings).alerts;
        alerts.extend(told.iter().map(|alert| serde_json::from_slice::<CloudEvent>(&alert.payload).unwrap()));
    }
    (alerts, bytes)
}

fn nanoseconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64
}

#[test]
fn a_failing_bearing_is_found_by_its_spectrum_and_its_twin_left_alone() {
    let (alerts, [readings, samples]) = through_all_stages(&recording());
    let truth: Value =
        serde_json::from_reader(File::open(repository().join("fixtures/bursts/truth.json")).unwrap()).unwrap();
    let fault = &truth["events"][0];
    let opened: Vec<&CloudEvent> = alerts.iter().filter(|event| event.data.phase == Phase::Opened).collect();
    let told: Vec<_> = opened.iter().map(|event| (&event.data.device, &event.time, &event.data.heads)).collect();
    assert!(!opened.is_empty(), "the fault is not found");
    for event in &opened {
        assert_eq!(event.data.device, fault["device"].as_str().unwrap(), "{told:?}");
        let time = nanoseconds(&event.time);
        let during = nanoseconds(fault["start"].as_str().unwrap())..=nanoseconds(fault["end"].as_str().unwrap());
        assert!(during.contains(&time), "{told:?}");
        assert_eq!(event.data.heads[0].name, "spectrum", "{told:?}");
    }
    println!("opened: {told:?}; READINGS {readings} bytes, SAMPLES {samples}");
    assert!(samples * 2 < readings, "the raw values end at preprocess: READINGS {readings} bytes, SAMPLES {samples}");
}

#[test]
fn the_rms_alone_knows_nothing_of_it() {
    let of_rms = |(machine, value): &(&'static str, Value)| {
        let values: Vec<f32> =
            value["vibration"]["values"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let rms = Burst { rate_hz: 1.0, values: &values }.rms();
        (*machine, json!({ "time": value["time"], "vibration": rms }))
    };
    let messages: Vec<_> = recording().iter().map(of_rms).collect();
    let (alerts, _) = through_all_stages(&messages);
    assert!(alerts.is_empty(), "{alerts:?}");
}
