//! What goes out depends on the samples and controls alone, and is what the heads are said to be.

use std::{collections::BTreeMap, path::Path};

use eddy_runtime::contract::{Message, assert_stage_contract};
use eddy_schemas::{Control, Embeddings, SamplesBuilder, Vectors, bursts::Spectrum, dump};

use super::*;

mod bursts;
mod damaged;
mod switched;

const SITE: &str = "site";
const WINDOW: usize = 256;

/// xorshift64*.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    pub(super) fn unit(&mut self) -> f64 {
        self.below(1 << 30) as f64 / f64::from(1 << 30)
    }
}

/// A row of SAMPLES.
#[derive(Clone, Debug)]
pub(super) enum Row {
    Sample(&'static str, Sample),
    /// A sample that was a burst.
    Burst(&'static str, Sample, Spectrum),
    Control(Control),
}

pub(super) fn repository() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn config(commissioning_rows: usize) -> Config {
    let bundles = repository().join("fixtures/bundles");
    Config {
        bundles: std::path::PathBuf::new(),
        bundle: bundles.join("default"),
        trusted_keys: vec![bundles.join("default.pub").display().to_string()],
        allow_unsigned: false,
        commissioning_rows,
        inference_batch_max: 256,
    }
}

fn open(config: Config) -> Result<Embed, Vec<String>> {
    Embed::new(config, &Scope { site: SITE.into(), shard: 0, shards: 1 })
}

pub(super) fn embed(commissioning_rows: usize) -> Embed {
    open(config(commissioning_rows)).unwrap()
}

pub(super) fn message(rows: &[Row]) -> Incoming {
    let mut builder = SamplesBuilder::default();
    for row in rows {
        match row {
            Row::Sample(name, s) => builder.push(name, s.time, s.value, s.quality, s.period),
            Row::Burst(name, s, spectrum) => {
                builder.push(name, s.time, s.value, s.quality, s.period);
                builder.spectrum(spectrum);
            }
            Row::Control(control) => builder.push_control(control),
        }
    }
    Incoming {
        stream: "SAMPLES".into(),
        subject: "samples.site.0".into(),
        sequence: 1,
        stored_at: 0,
        content_type: None,
        payload: builder.encode().into(),
    }
}

/// Runs `rows` as one message and gives the batches that went out, each about `bytes_max` bytes long.
pub(super) fn run(stage: &mut Embed, rows: &[Row], bytes_max: usize) -> Vec<Embeddings> {
    let message = message(rows);
    let input = stage.decode(&message).unwrap();
    let (mut row, mut batches) = (0, Vec::new());
    while row < Embed::rows(&input) {
        let mut out = Outbox::new(stage.outputs(), bytes_max);
        row = stage.process(&message, &input, row..Embed::rows(&input), &mut out);
        batches.push(Embeddings::decode(&out.main[0].encode()).unwrap());
    }
    batches
}

fn lines(stage: &mut Embed, rows: &[Row], bytes_max: usize) -> Vec<String> {
    let message = message(rows);
    let input = stage.decode(&message).unwrap();
    let (mut row, mut lines) = (0, Vec::new());
    while row < Embed::rows(&input) {
        let mut out = Outbox::new(stage.outputs(), bytes_max);
        row = stage.process(&message, &input, row..Embed::rows(&input), &mut out);
        lines.extend(dump::rows(&out.main[0].encode()).unwrap());
    }
    lines
}

fn saved(stage: &mut Embed, state: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    stage.save(&mut |key, value| match value {
        Some(value) => drop(state.insert(key.to_vec(), value.to_vec())),
        None => drop(state.remove(key)),
    });
}

pub(super) fn control(time: i64, kind: ControlKind) -> Row {
    Row::Control(Control { id: format!("c{time}"), origin: "cli".into(), time, kind })
}

fn recommission(device: &str) -> ControlKind {
    ControlKind::Recommission { device: device.into() }
}

fn reset(device: &str) -> ControlKind {
    ControlKind::DeviceReset { device: device.into() }
}

/// A walk of some series, with breaks, and controls if asked for.
pub(super) fn walk(seed: u64, count: usize, controls: bool) -> Vec<Row> {
    let names = ["d%201/temperature", "d%201/voc", "e/temperature", "f/x"];
    let mut dice = Dice(seed * 77 + 1);
    let mut values = [20.0, 400.0, -3.0, 1e6];
    let mut rows = Vec::new();
    for i in 0..count {
        let which = dice.below(4) as usize;
        values[which] += (dice.unit() - 0.5) * if which == 3 { 1e4 } else { 1.0 };
        let quality = if dice.below(150) == 0 { quality::BREAK } else { 0 };
        let time = 1_700_000_000_000_000_000 + i as i64 * 1_000_000_000;
        rows.push(Row::Sample(names[which], Sample { time, value: values[which], quality, period: 4_000_000_000 }));
        if controls && dice.below(200) == 0 {
            let kind = match dice.below(4) {
                0 => recommission("d 1"),
                1 => reset("d 1"),
                2 => reset("e"),
                _ => ControlKind::Maintenance { device: "f".into(), on: true, until: None },
            };
            rows.push(control(time, kind));
        }
    }
    rows
}

#[test]
fn rows_and_state_do_not_depend_on_cuts_batches_or_restarts() {
    let rows = walk(1, 3000, true);
    let mut whole = embed(120);
    let expected = lines(&mut whole, &rows, usize::MAX);
    let mut expected_state = BTreeMap::new();
    saved(&mut whole, &mut expected_state);
    for seed in 1..6 {
        let mut dice = Dice(seed);
        let settings = || Config { inference_batch_max: [1, 3, 16, 17, 300][seed as usize - 1], ..config(120) };
        let mut stage = open(settings()).unwrap();
        let (mut state, mut found, mut at) = (BTreeMap::new(), Vec::new(), 0);
        while at < rows.len() {
            let most = [2, 20, 700][dice.below(3) as usize];
            let end = (at + 1 + dice.below(most) as usize).min(rows.len());
            found.extend(lines(&mut stage, &rows[at..end], 1 << dice.below(18)));
            at = end;
            if dice.below(4) == 0 {
                saved(&mut stage, &mut state);
            }
            if dice.below(12) == 0 {
                saved(&mut stage, &mut state);
                stage.clear();
                state.iter().for_each(|(key, value)| stage.load(key, value).unwrap());
            }
        }
        saved(&mut stage, &mut state);
        let first = expected.iter().zip(&found).position(|(a, b)| a != b);
        assert_eq!((first, found.len()), (None, expected.len()), "seed {seed}: first difference");
        assert!(state == expected_state, "seed {seed}: the saved state differs");
    }
}

/// The heads by their definition, in f64, from a series' samples.
struct Reference {
    rows: Vec<Sample>,
    scale: Scale,
}

impl Reference {
    fn new(rows: Vec<Sample>, commissioning_rows: usize) -> Self {
        let first: Vec<f64> = rows[..commissioning_rows].iter().map(|s| s.value).collect();
        let mean = first.iter().sum::<f64>() / first.len() as f64;
        let sd = (first.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / first.len() as f64).sqrt();
        Self { rows, scale: Scale { mean, sd } }
    }

    /// The window that ends at `row`, and how much of it is real.
    fn window(&self, row: usize) -> (Vec<f64>, usize) {
        let start = (0..=row).rev().find(|i| self.rows[*i].quality & quality::BREAK != 0).unwrap_or(0);
        let real = &self.rows[start.max((row + 1).saturating_sub(WINDOW))..=row];
        let scaled = |s: &Sample| (s.value - self.scale.mean) / self.scale.sd;
        let mut window = vec![scaled(&real[0]); WINDOW - real.len()];
        window.extend(real.iter().map(scaled));
        (window, real.len())
    }
}

fn deviation(values: &[f64]) -> f64 {
    mean(&values.iter().map(|x| (x - mean(values)).powi(2)).collect::<Vec<_>>()).sqrt()
}

/// Means of both halves, then their deviations.
fn halves(values: &[f64]) -> Vec<f64> {
    let (old, new) = values.split_at(values.len() / 2);
    vec![mean(old), mean(new), deviation(old), deviation(new)]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn heads_are_what_they_are_said_to_be() {
    let rows = walk(2, 2400, false);
    let batches = run(&mut embed(100), &rows, usize::MAX);
    let batch = &batches[0];
    let of = |row: &Row| match row {
        Row::Sample(name, sample) => (*name, *sample),
        Row::Burst(..) | Row::Control(_) => panic!("the walk has neither bursts nor controls"),
    };
    assert_eq!(batch.rows.len(), rows.len());
    let mut series = BTreeMap::<_, Vec<Sample>>::new();
    rows.iter().map(of).for_each(|(name, sample)| series.entry(name).or_default().push(sample));
    let series: BTreeMap<_, _> = series.into_iter().map(|(name, rows)| (name, Reference::new(rows, 100))).collect();
    let head = |name: &str| batch.heads.iter().find(|column| column.head.name == name).unwrap();
    let mut next = BTreeMap::<&str, usize>::new();
    for row in 0..batch.rows.len() {
        let name = batch.rows.name(row);
        let index = next.entry(name).or_default();
        let reference = &series[name];
        let sample = reference.rows[*index];
        assert_eq!(
            (batch.rows.time[row], batch.quality[row], batch.period[row]),
            (sample.time, sample.quality, sample.period)
        );
        assert_eq!(batch.commissioning[row] == 1, *index < 100, "{name} {index}");
        let (window, real) = reference.window(*index);
        assert_eq!(usize::from(batch.filled[row]), real, "{name} {index}");
        *index += 1;
        let recent = &window[WINDOW - 20..];
        let last = window[WINDOW - 1];
        for (name, expected, off) in [
            ("value", vec![last], 1e-5),
            ("contrast", vec![last - mean(&window[WINDOW - 11..WINDOW - 1])], 1e-5),
            ("level", vec![mean(recent), deviation(recent)], 1e-5),
            ("span32", halves(&window[WINDOW - 32..]), 1e-3),
            ("span256", halves(&window), 1e-3),
        ] {
            let mut found = vec![0.0; expected.len()];
            head(name).copy_to(row, &mut found);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (f64::from(*found) - expected).abs() <= off * (1.0 + expected.abs()),
                    "{name}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn every_sample_is_one_row_whatever_controls_come() {
    let rows = walk(3, 3000, true);
    let last = control(i64::MAX, reset("d 1"));
    let all: Vec<Row> =
        rows.into_iter().chain([last, control(i64::MAX, reset("e")), control(i64::MAX, recommission("f"))]).collect();
    let batches = run(&mut embed(400), &all, usize::MAX);
    let mut expected = BTreeMap::<&str, Vec<i64>>::new();
    let mut found = BTreeMap::<&str, Vec<i64>>::new();
    for row in &all {
        if let Row::Sample(name, sample) = row {
            expected.entry(name).or_default().push(sample.time);
        }
    }
    let batch = &batches[0];
    for row in (0..batch.rows.len()).filter(|row| batch.rows.control(*row).is_none()) {
        found.entry(batch.rows.name(row)).or_default().push(batch.rows.time[row]);
    }
    assert_eq!(found, expected);
    let controls = all.iter().filter(|row| matches!(row, Row::Control(_))).count();
    assert_eq!(batch.rows.controls.len(), controls);
}

#[test]
fn a_device_that_is_reset_or_recommissioned_begins_anew_and_no_other() {
    for kind in [reset("d 1"), recommission("d 1")] {
        let sample = |i: i64, name, value| Row::Sample(name, Sample { time: i, value, quality: 0, period: 1 });
        let mut rows: Vec<Row> =
            (0..20).flat_map(|i| [sample(i, "d%201/t", i as f64), sample(i, "e/t", i as f64)]).collect();
        rows.push(control(20, kind));
        rows.extend((20..30).flat_map(|i| [sample(i, "d%201/t", 1000.0 * i as f64), sample(i, "e/t", i as f64)]));
        let batches = run(&mut embed(10), &rows, usize::MAX);
        let batch = &batches[0];
        let flags = |name: &str| -> Vec<u16> {
            let rows =
                (0..batch.rows.len()).filter(|row| batch.rows.control(*row).is_none() && batch.rows.name(*row) == name);
            rows.map(|row| batch.commissioning[row]).collect()
        };
        let again = [vec![1; 10], vec![0; 10], vec![1; 10]].concat();
        assert_eq!((flags("d%201/t"), flags("e/t")), (again, [vec![1; 10], vec![0; 20]].concat()));
    }
}

#[test]
fn what_is_no_number_is_put_aside_and_the_rest_goes_on() {
    let sample = |time, value| Row::Sample("d/t", Sample { time, value, quality: 0, period: 1 });
    let rows = [
        sample(1, 1.0),
        sample(2, f64::NAN),
        sample(3, f64::INFINITY),
        sample(4, -1e200),
        sample(5, 2.0),
        sample(6, 1e99),
    ];
    let mut stage = embed(2);
    let message = message(&rows);
    let input = stage.decode(&message).unwrap();
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    assert_eq!(stage.process(&message, &input, 0..6, &mut out), 6);
    assert_eq!(
        out.rejected.iter().map(|r| (r.row, r.rejection.readings)).collect::<Vec<_>>(),
        [(1, 1), (2, 1), (3, 1)]
    );
    let batch = Embeddings::decode(&out.main[0].encode()).unwrap();
    assert_eq!(batch.rows.time[..], [1, 5, 6]);
    for column in &batch.heads {
        let finite = match &column.vectors {
            Vectors::F32(values) => values.iter().all(|x| x.is_finite()),
            Vectors::F16(values) => values.iter().all(|x| x.is_finite()),
        };
        assert!(finite, "{}", column.head.name);
    }
}

#[test]
fn a_full_output_ends_the_call_after_the_row() {
    let rows = walk(4, 500, false);
    let batches = run(&mut embed(20), &rows, 3000);
    assert!(batches.len() > 10);
    // A row gives one row, or at the end of commissioning all that were held.
    assert!(batches.iter().all(|batch| batch.rows.len() <= 3000 / 200 + 20));
    assert_eq!(batches.iter().map(|batch| batch.rows.len()).sum::<usize>(), 500);
}

#[test]
fn what_is_no_batch_of_samples_is_rejected_with_its_reason() {
    let stage = embed(0);
    let mut rubbish = message(&[]);
    rubbish.payload = Bytes::from_static(b"rubbish");
    let mut newer = message(&walk(5, 3, false));
    let mut changed = newer.payload.to_vec();
    // The version as a flatbuffer string: its length, "2", the end.
    let at = changed.windows(6).position(|part| part == [1, 0, 0, 0, b'2', 0]).unwrap();
    changed[at + 4] = b'9';
    newer.payload = changed.into();
    for (message, reason) in [(rubbish, Reason::Malformed), (newer, Reason::UnknownVersion)] {
        assert_eq!(stage.decode(&message).unwrap_err().0, reason);
    }
}

/// The default bundle with its manifest changed, unsigned.
fn changed(change: impl Fn(String) -> String, onnx: Option<&[u8]>) -> Result<Embed, Vec<String>> {
    let from = config(0).bundle;
    let dir = tempfile::tempdir().unwrap();
    let mut text = change(std::fs::read_to_string(from.join("model.toml")).unwrap());
    let bytes = onnx.map_or_else(|| std::fs::read(from.join("model.onnx")).unwrap(), <[u8]>::to_vec);
    let start = text.find("onnx_digest = \"").unwrap() + "onnx_digest = \"".len();
    text.replace_range(start..start + 64, &blake3::hash(&bytes).to_hex());
    std::fs::write(dir.path().join("model.toml"), text).unwrap();
    std::fs::write(dir.path().join("model.onnx"), bytes).unwrap();
    open(Config { bundle: dir.path().to_owned(), trusted_keys: vec![], allow_unsigned: true, ..config(0) })
}

#[test]
fn a_bundle_that_does_not_fit_is_refused_with_what_was_expected_and_found() {
    assert!(changed(|text| text, None).is_ok());
    let of = |from: &'static str, to: &'static str| move |text: String| text.replace(from, to);
    for (problems, parts) in [
        (
            changed(of("output = \"level\"", "output = \"levels\""), None),
            ["expected an output \"levels\"", "\"contrast\""],
        ),
        (changed(of("dimensions = 16", "dimensions = 12"), None), ["f32 [64,12]", "found f32 64,16"]),
        (changed(of("input_window = 256", "input_window = 257"), None), ["f32 [N, 257]", "found"]),
        (changed(|text| text, Some(b"rubbish")), ["model.onnx", "found"]),
        (changed(of("min_rows = 2\n", "min_rows = 0\n"), None), ["head \"contrast\" min_rows", "found 0"]),
    ] {
        let problems = problems.err().unwrap().join("\n");
        assert!(parts.iter().all(|part| problems.contains(part)), "{parts:?} in {problems}");
    }
    let both = Config { inference_batch_max: 0, allow_unsigned: false, trusted_keys: vec![], ..config(0) };
    let problems = open(both).err().unwrap().join("\n");
    assert!(problems.contains("inference_batch_max") && problems.contains("trusted"), "{problems}");
}

#[test]
fn the_stage_contract_holds() {
    let rows = walk(6, 900, true);
    let mut dice = Dice(6);
    let (mut messages, mut at) = (Vec::new(), 0);
    while at < rows.len() {
        let end = (at + 1 + dice.below(40) as usize).min(rows.len());
        let Incoming { subject, payload, .. } = message(&rows[at..end]);
        messages.push(Message { stream: "SAMPLES", subject, payload });
        at = end;
    }
    messages.insert(3, Message { stream: "SAMPLES", subject: "samples.site.0".into(), payload: "rubbish".into() });
    assert_stage_contract(|| embed(60), &messages, 0..4);
}
