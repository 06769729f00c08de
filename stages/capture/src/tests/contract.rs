//! What the stage's contract asks: cuts, shards, and everything accounted for.

use eddy_runtime::{
    contract::{Message, assert_stage_contract},
    stage::{Incoming, Outbox, Scope, Stage},
};
use eddy_schemas::{Readings, ReadingsBuilder, names, side::Reason};

use super::{capture, config, message, run};
use crate::Capture;

const MIXED: &str =
    r#"[{"time":1,"a":1,"b":2},{"time":"x","a":1},7,{"time":2,"a":3,"b":"s","c":null},{"time":3,"b":4}]"#;

/// Items of a message processed `step` at a time, with outboxes that are full at `bytes_max`.
fn cut(payload: &str, step: usize, bytes_max: usize) -> (Vec<String>, Vec<(usize, String)>) {
    let mut stage = capture(1);
    let incoming = message("ingest.plant.d", None, 0, payload.into());
    let input = stage.decode(&incoming).unwrap();
    let (mut rows, mut rejected, mut reached) = (Vec::new(), Vec::new(), 0);
    while reached < Capture::rows(&input) {
        let mut out = Outbox::new(stage.outputs(), bytes_max);
        let end = (reached + step).min(Capture::rows(&input));
        let next = stage.process(&incoming, &input, reached..end, &mut out);
        assert!(next > reached && next <= end);
        reached = next;
        let read = Readings::decode(&out.main[0].encode()).unwrap();
        rows.extend(
            (0..read.rows.len())
                .map(|row| format!("{} {} {}", read.rows.name(row), read.rows.time[row], read.value[row])),
        );
        rejected.extend(out.rejected.into_iter().map(|one| (one.row, one.rejection.detail)));
    }
    (rows, rejected)
}

#[test]
fn output_does_not_depend_on_how_items_are_cut() {
    let whole = cut(MIXED, usize::MAX / 2, usize::MAX);
    assert_eq!((whole.0.len(), whole.1.len()), (4, 3));
    for step in 1..8 {
        assert_eq!(cut(MIXED, step, usize::MAX), whole);
        assert_eq!(cut(MIXED, step, 1), whole);
    }
}

#[test]
fn a_full_outbox_stops_at_the_row() {
    let mut stage = capture(1);
    let incoming = message("ingest.plant.d", None, 0, MIXED.into());
    let input = stage.decode(&incoming).unwrap();
    let mut out = Outbox::new(stage.outputs(), 1);
    assert_eq!(stage.process(&incoming, &input, 0..Capture::rows(&input), &mut out), 1);
    assert_eq!(out.main[0].len(), 1);
}

#[test]
fn the_real_loop_under_faults_gives_the_same() {
    let ingest = |device: &str, payload: String| Message {
        stream: "INGEST",
        subject: format!("ingest.site.{device}"),
        payload: payload.into_bytes().into(),
    };
    let mut messages = Vec::new();
    for n in 0..30 {
        messages.push(ingest("a%2Eb", format!(r#"[{{"time":{n},"t":{n}.5,"h":4}},{{"time":{n},"t":"wet"}}]"#)));
        messages.push(ingest("c", format!("t value={n} {n}\nbroken\nt value=1,u=2 {n}\n")));
        messages.push(ingest("c", "{\"cut off".into()));
        let values = (0..64).map(|i| format!("{}", i * n % 7)).collect::<Vec<_>>().join(",");
        messages.push(ingest("c", format!(r#"[{{"time":{n},"v":{{"rate_hz":8e3,"values":[{values}]}},"t":1}}]"#)));
    }
    assert_stage_contract(|| capture(1), &messages, 0..8);
}

#[test]
fn a_control_of_the_site_goes_to_every_shard_if_its_bundle_is_there() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let (folder, default) = (tempfile::tempdir().unwrap(), fixtures.join("bundles/default"));
    let digest = blake3::hash(&std::fs::read(default.join("model.toml")).unwrap()).to_hex().to_string();
    let said = |digest: &str| {
        let kind = format!(r#"{{"kind":"bundle","digest":"{digest}","action":"activate"}}"#);
        let json = format!(r#"{{"id":"b","origin":"cli","time":1,"control":{kind}}}"#);
        message("control.plant.bundle", None, 9, json.into())
    };
    let scope = Scope { site: "plant".into(), shard: 0, shards: 3 };
    let keys = vec![fixtures.join("bundles/default.pub").display().to_string()];
    let open = |trusted_keys| {
        let mut config = config();
        (config.bundles, config.trusted_keys) = (folder.path().to_owned(), trusted_keys);
        Capture::new(config, &scope).unwrap()
    };
    let mut stage = open(keys);
    let refused = |stage: &Capture, part: &str| {
        let (reason, detail) = stage.decode(&said(&digest)).unwrap_err();
        assert!(reason == Reason::InvalidField && detail.contains(part), "{detail}");
    };
    refused(&stage, "model.toml");
    let place = folder.path().join(&digest);
    std::fs::create_dir(&place).unwrap();
    for name in ["model.onnx", "model.toml", "model.toml.minisig"] {
        std::fs::copy(default.join(name), place.join(name)).unwrap();
    }
    refused(&open(vec![]), "signed by none of the 0 trusted keys");
    refused(&capture(3), "no folder of bundles");
    let control = said(&digest);
    let input = stage.decode(&control).unwrap();
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    stage.process(&control, &input, 0..1, &mut out);
    for batch in &mut out.main {
        let read = Readings::decode(&batch.encode()).unwrap();
        assert_eq!((read.rows.len(), read.rows.control(0).unwrap().subject_token()), (1, "bundle"));
    }
    std::fs::write(place.join("model.onnx"), b"altered").unwrap();
    refused(&stage, "expected BLAKE3");
}

#[test]
fn rows_and_controls_go_to_the_shard_of_their_device() {
    let shards = 4;
    let mut stage = capture(shards);
    let mut batch = ReadingsBuilder::default();
    for device in 0..40 {
        batch.push(&format!("d{device}/t"), 1, f64::from(device), 0, 1);
    }
    let incoming = message("ingest.plant.replay", None, 0, batch.encode());
    let input = stage.decode(&incoming).unwrap();
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    stage.process(&incoming, &input, 0..40, &mut out);
    let json = r#"{"id":"c","origin":"cli","time":1,"control":{"kind":"device_reset","device":"d7"}}"#;
    let control = message("control.plant.device_reset", None, 9, json.into());
    let input = stage.decode(&control).unwrap();
    stage.process(&control, &input, 0..1, &mut out);
    let mut rows = 0;
    for (shard, batch) in out.main.iter_mut().enumerate() {
        let read = Readings::decode(&batch.encode()).unwrap();
        for row in 0..read.rows.len() {
            let device = match read.rows.control(row) {
                Some(control) => control.device().unwrap().to_owned(),
                None => names::decode(names::SeriesName::device_token(read.rows.name(row))),
            };
            assert_eq!(names::shard_of(&device, shards), shard as u32);
            rows += 1;
        }
    }
    assert_eq!(rows, 41);
}

#[test]
fn a_steady_clock_offset_is_reported_by_the_tick_even_where_its_rows_are_quarantined() {
    let mut stage = capture(1);
    for n in 0..20_i64 {
        let payload = format!(r#"{{"time":{},"t":1}}"#, 2_000_000_000 + n * 60 + 3600);
        let stored_at = (2_000_000_000 + n * 60) * 1_000_000_000;
        let incoming =
            Incoming { sequence: n as u64 + 1, ..message("ingest.plant.d", None, stored_at, payload.into()) };
        let lines = run(&mut stage, &incoming);
        assert!(lines[0].starts_with("rejected future x1"), "{lines:?}");
        // The same message once more changes nothing.
        run(&mut stage, &incoming);
    }
    let health = stage.tick(0);
    assert_eq!(health.len(), 1, "{health:?}");
    assert!(health[0].active && health[0].device == "d" && health[0].value == 3600.0, "{health:?}");
    assert!(stage.tick(0).is_empty());
}
