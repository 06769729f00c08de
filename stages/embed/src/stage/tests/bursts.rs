//! Rows that were bursts have the head `spectrum`, scaled as frozen at commissioning; no other row has or pays for it.

use eddy_schemas::{HeadColumn, bursts::BANDS};

use super::*;

/// Levels in dB that wander by about one, `amplitude` dB louder than usual.
fn spectrum(dice: &mut Dice, amplitude: f32) -> Spectrum {
    std::array::from_fn(|band| amplitude - band as f32 + 2.0 * dice.unit() as f32)
}

/// A machine whose two channels send bursts, but for one row in nine, beside a device that sends none.
fn machine(seed: u64, count: usize) -> Vec<Row> {
    let mut dice = Dice(seed * 91 + 3);
    let mut rows = Vec::new();
    for i in 0..count {
        let time = 1_700_000_000_000_000_000 + i as i64 * 60_000_000_000;
        let sample = |value| Sample { time, value, quality: 0, period: 60_000_000_000 };
        for name in ["m/x", "m/y"] {
            let loudness = 1.0 + dice.unit();
            let spectrum = spectrum(&mut dice, 20.0 * loudness.log10() as f32);
            rows.push(match dice.below(9) {
                0 => Row::Sample(name, sample(loudness)),
                _ => Row::Burst(name, sample(loudness), spectrum),
            });
        }
        rows.push(Row::Sample("d/t", sample(dice.unit())));
        if dice.below(300) == 0 {
            rows.push(control(time, [reset("m"), recommission("m")][dice.below(2) as usize].clone()));
        }
    }
    rows
}

fn head(batch: &Embeddings) -> Option<&HeadColumn> {
    batch.heads.iter().find(|column| column.head.name == "spectrum")
}

fn vector(batch: &Embeddings, row: usize) -> Option<[f32; BANDS]> {
    let mut vector = [0.0; BANDS];
    head(batch)?.copy_to(row, &mut vector).then_some(vector)
}

#[test]
fn rows_and_state_do_not_depend_on_cuts_batches_or_restarts() {
    let rows = machine(1, 900);
    let mut whole = embed(120);
    let expected = lines(&mut whole, &rows, usize::MAX);
    assert!(expected.iter().filter(|line| line.contains(" spectrum=")).count() > 1000);
    let mut expected_state = BTreeMap::new();
    saved(&mut whole, &mut expected_state);
    for seed in 1..5 {
        let mut dice = Dice(seed);
        let settings = || Config { inference_batch_max: [1, 3, 17, 300][seed as usize - 1], ..config(120) };
        let mut stage = open(settings()).unwrap();
        let (mut state, mut found, mut at) = (BTreeMap::new(), Vec::new(), 0);
        while at < rows.len() {
            let most = [2, 20, 300][dice.below(3) as usize];
            let end = (at + 1 + dice.below(most) as usize).min(rows.len());
            found.extend(lines(&mut stage, &rows[at..end], 1 << dice.below(18)));
            at = end;
            if dice.below(8) == 0 {
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

#[test]
fn the_head_is_the_shape_in_units_of_commissioning_and_knows_nothing_of_amplitude() {
    let mut dice = Dice(5);
    let sample = |time, value| Sample { time, value, quality: 0, period: 0 };
    let first: Vec<Spectrum> = (0..100).map(|_| spectrum(&mut dice, 0.0)).collect();
    let mut rows: Vec<Row> =
        first.iter().enumerate().map(|(at, levels)| Row::Burst("m/x", sample(at as i64, 1.0), *levels)).collect();
    let usual = spectrum(&mut dice, 0.0);
    let mut tone = usual;
    tone[7] += 12.0;
    for (at, levels) in [usual, usual.map(|level| level + 40.0), tone].into_iter().enumerate() {
        rows.push(Row::Burst("m/x", sample(100 + at as i64, 1.0), levels));
    }
    let batches = run(&mut embed(100), &rows, usize::MAX);
    let of = |row| vector(&batches[0], row).unwrap();
    assert_eq!(of(100), of(101));
    // By its definition: less the mean over the bands, by each band's mean and deviation, root mean square over bands.
    let shape = |levels: &Spectrum| {
        let mean = levels.iter().map(|level| f64::from(*level)).sum::<f64>() / BANDS as f64;
        levels.map(|level| f64::from(level) - mean)
    };
    let shapes: Vec<[f64; BANDS]> = first.iter().map(shape).collect();
    for band in 0..BANDS {
        let mean = shapes.iter().map(|shape| shape[band]).sum::<f64>() / 100.0;
        let variance = shapes.iter().map(|shape| (shape[band] - mean).powi(2)).sum::<f64>() / 100.0;
        let expected = (shape(&tone)[band] - mean) / variance.sqrt().max(0.5) / (BANDS as f64).sqrt();
        assert!((f64::from(of(102)[band]) - expected).abs() < 0.01, "{band}: {} not {expected}", of(102)[band]);
    }
}

#[test]
fn rows_without_a_burst_lack_the_head_and_a_series_without_any_has_the_state_it_had() {
    let rows = machine(2, 300);
    let mut stage = embed(60);
    let batches = run(&mut stage, &rows, usize::MAX);
    let batch = &batches[0];
    let with = (0..batch.rows.len()).filter(|row| vector(batch, *row).is_some());
    assert!(with.clone().count() > 300 && with.clone().all(|row| batch.rows.name(row) != "d/t"));
    let alone: Vec<Row> = rows.iter().filter(|row| matches!(row, Row::Sample("d/t", _))).cloned().collect();
    let mut plain = embed(60);
    assert!(head(&run(&mut plain, &alone, usize::MAX)[0]).is_none());
    let (mut both, mut one) = (BTreeMap::new(), BTreeMap::new());
    saved(&mut stage, &mut both);
    saved(&mut plain, &mut one);
    assert!(one.iter().all(|(key, value)| both[key] == *value));
    let (burst, ordinary) = (both[&b"sm/x"[..]].len(), both[&b"sd/t"[..]].len());
    assert_eq!(burst - ordinary, 8 * BANDS, "the bands' means and deviations");
}

#[test]
fn bursts_that_begin_after_commissioning_count_once_it_is_done_again() {
    let mut dice = Dice(8);
    let sample = |time| Sample { time, value: time as f64, quality: 0, period: 0 };
    let mut rows: Vec<Row> = (0..50).map(|time| Row::Sample("m/x", sample(time))).collect();
    rows.extend((50..60).map(|time| Row::Burst("m/x", sample(time), spectrum(&mut dice, 0.0))));
    rows.push(control(60, recommission("m")));
    rows.extend((60..120).map(|time| Row::Burst("m/x", sample(time), spectrum(&mut dice, 0.0))));
    let (mut stage, message) = (embed(40), message(&rows));
    let input = stage.decode(&message).unwrap();
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    stage.process(&message, &input, 0..rows.len(), &mut out);
    assert!(out.decisions.contains(&("spectrum_unscaled", 10)), "{:?}", out.decisions);
    let batch = Embeddings::decode(&out.main[0].encode()).unwrap();
    let with: Vec<i64> =
        (0..batch.rows.len()).filter(|row| vector(&batch, *row).is_some()).map(|row| batch.rows.time[row]).collect();
    assert_eq!(with, (60..120).collect::<Vec<_>>());
}

#[test]
fn a_bundle_whose_heads_look_at_what_the_graph_does_not_give_is_refused() {
    let of = |from: &'static str, to: &'static str| changed(move |text| text.replace(from, to), None).err().unwrap();
    for (problems, part) in [
        (of("input = \"spectrum\"", "input = \"window\""), "heads of input \"window\""),
        (of("dimensions = 32", "dimensions = 31"), "f32 [64,31]"),
        (of("output = \"learned\"", "input = \"spectrum\"\noutput = \"learned\""), "learned"),
        // The graph gives `value` for windows alone.
        (
            changed(
                |text| {
                    let text = text.replace("spread = \"series\"", "spread = \"distances\"");
                    let text = text.replace("history_bytes = 1280", "history_bytes = 1024");
                    text.replace("output = \"value\"", "input = \"spectrum\"\noutput = \"value\"")
                },
                None,
            )
            .err()
            .unwrap(),
            "expected heads of input \"spectrum\" to depend on it alone, found that one needs [\"window\"]",
        ),
    ] {
        assert!(problems.join("\n").contains(part), "{part}: {problems:?}");
    }
}

#[test]
fn the_stage_contract_holds() {
    let messages: Vec<Message> = machine(6, 250)
        .chunks(23)
        .map(|rows| Message { stream: "SAMPLES", subject: "samples.site.0".into(), payload: message(rows).payload })
        .collect();
    assert_stage_contract(|| embed(50), &messages, 0..4);
}
