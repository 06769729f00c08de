//! Periods that are learned, through the whole stage.

use super::*;

const START: i64 = 1_767_225_600 * SECOND + 987_654_321;

/// Noise without a pattern, in 0..below: splitmix64.
fn noise(seed: u64, row: i64, below: i64) -> i64 {
    let mut z = (seed ^ row.unsigned_abs()).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % below.unsigned_abs()) as i64
}

/// Samples as they are, without text in between.
#[derive(Debug, PartialEq)]
struct Sample {
    series: String,
    time: i64,
    value: f64,
    quality: u16,
    period: i64,
}

fn samples(overrides: &str, rows: &[Row]) -> (Vec<Sample>, Outbox<SamplesBuilder>) {
    let mut stage = stage(overrides);
    let message = message(rows);
    let input = stage.decode(&message).unwrap();
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    stage.process(&message, &input, 0..rows.len(), &mut out);
    let batch = Samples::decode(&out.main[0].encode()).unwrap();
    let sample = |row: usize| Sample {
        series: batch.rows.name(row).into(),
        time: batch.rows.time[row],
        value: batch.value[row],
        quality: batch.quality[row],
        period: batch.period[row],
    };
    ((0..batch.rows.len()).map(sample).collect(), out)
}

fn count(out: &Outbox<SamplesBuilder>, kind: &str) -> u64 {
    out.decisions.iter().filter(|(known, _)| *known == kind).map(|(_, n)| n).sum()
}

/// A series with this period, jitter (in thousandths of it) and share of readings that are missing (percent).
fn series(name: &str, rows: i64, period: i64, jitter: i64, missing: i64, seed: u64) -> Vec<Row> {
    (0..rows)
        .filter(|row| noise(!seed, *row, 100) >= missing)
        .map(|row| {
            let time = START + row * period + noise(seed, row, period * jitter / 1_000 + 1);
            reading(name, time, (row % 10) as f64)
        })
        .collect()
}

fn time(row: &Row) -> i64 {
    match row {
        Row::Reading { time, .. } => *time,
        Row::Burst { .. } | Row::Control(_) => panic!("there is none among these rows"),
    }
}

#[test]
fn every_period_from_a_millisecond_to_a_day_is_learned_filled_and_broken() {
    let ms = SECOND / 1_000;
    for period in [1, 2, 10, 17, 40, 100, 333, 1_000, 7_000, 60_000, 300_000, 3_600_000, 86_400_000] {
        let mut rows = series("d/t", 40, period * ms, 0, 0, 0);
        // Two are missing, then sixty.
        rows.drain(20..22);
        rows.extend(series("d/t", 120, period * ms, 0, 0, 0).drain(100..));
        let (samples, out) = samples("silence_after_s = 1", &rows);
        assert_eq!(samples.len(), rows.len() + 2, "{period} ms");
        assert_eq!((count(&out, "interpolated"), count(&out, "break")), (2, 1), "{period} ms");
        for (row, sample) in samples.iter().enumerate() {
            let (expected, offset) = if row < 40 { (row, 0) } else { (row + 60, 0) };
            assert_eq!(sample.time, START + expected as i64 * period * ms + offset, "{period} ms, row {row}");
            assert_eq!(sample.period, if row < 8 { 0 } else { period * ms }, "{period} ms, row {row}");
            let quality = match row {
                20 | 21 => quality::INTERPOLATED,
                40 => quality::BREAK,
                _ => 0,
            };
            assert_eq!(sample.quality, quality, "{period} ms, row {row}");
        }
        // Sixty missing readings are a silence, two are none; below some 16 ms neither is as long as what is configured.
        let is_silence = |health: &&Health| health.condition == Condition::Silence && health.active;
        let known = START + 8 * period * ms;
        let silences = out.health.iter().filter(is_silence).filter(|health| health.since >= known).count();
        assert_eq!(silences, usize::from(61 * period > 1_000), "{period} ms: {:?}", out.health);
    }
}

#[test]
fn a_kilohertz_series_is_exact_after_days() {
    let ms = SECOND / 1_000;
    let mut rows = Vec::new();
    for day in 0..30 {
        // Not a whole number of any period's multiples: each day begins where its clock stands.
        let first = START + day * 86_400 * SECOND + day * 7;
        rows.extend((0..200).map(|row| reading("d/t", first + row * ms, row as f64)));
    }
    let (samples, out) = samples("", &rows);
    assert_eq!(samples.iter().map(|s| s.time).collect::<Vec<_>>(), rows.iter().map(time).collect::<Vec<_>>());
    assert_eq!((count(&out, "break"), count(&out, "period_learned"), out.decisions.len()), (29, 1, 2));
    assert!(samples[8..].iter().all(|sample| sample.period == ms));
}

#[test]
fn an_irregular_series_has_no_gaps_and_no_flood_of_silences() {
    let mut now = START;
    let rows: Vec<Row> = (0..2_000)
        .map(|row| {
            // Minutes to hours.
            now += SECOND * (60 + noise(1, row, 60) * noise(2, row, 60) * noise(3, row, 4));
            reading("door/opened", now, f64::from(row as i32 % 2))
        })
        .collect();
    let (samples, out) = samples("", &rows);
    assert_eq!(samples.len(), rows.len());
    assert!(samples.iter().all(|sample| sample.quality & !quality::SPIKE == 0 && sample.period == 0));
    assert_eq!(count(&out, "irregular"), 1);
    // Until it is known to be irregular, the configured silence holds.
    let known = time(&rows[32]);
    let silences = out.health.iter().filter(|health| health.condition == Condition::Silence && health.since > known);
    assert_eq!(silences.count(), 0);
}

#[test]
fn a_device_that_reports_once_an_hour_is_not_silent_every_hour() {
    let hour = 3_600 * SECOND;
    let mut rows = series("d/t", 100, hour, 0, 0, 0);
    rows.truncate(50);
    rows.push(reading("d/t", START + 90 * hour, 1.0));
    let (_, out) = samples("", &rows);
    let since: Vec<i64> = out.health.iter().filter(|health| health.active).map(|health| health.since).collect();
    // Before its pace is known, and then the one that lasted.
    assert_eq!(since.iter().filter(|since| **since > START + 8 * hour).collect::<Vec<_>>(), [&(START + 49 * hour)]);
    let (_, unlearned) = samples("learn_period = false", &rows);
    assert!(unlearned.health.len() > 90, "{}", unlearned.health.len());
}

#[test]
fn a_learned_period_is_given_up_with_the_key_and_learned_anew_without_it() {
    let rows = series("d/t", 30, SECOND, 0, 0, 0);
    let before = run("", &rows, &UNCUT);
    assert!(before.samples[29].ends_with(",1"), "{}", before.samples[29]);
    let mut fixed = stage("learn_period = false");
    before.state.iter().for_each(|(key, value)| fixed.load(key, value).unwrap());
    let message = message(&[reading("d/t", START + 300 * SECOND, 1.0)]);
    let input = fixed.decode(&message).unwrap();
    let mut out = Outbox::new(fixed.outputs(), usize::MAX);
    fixed.process(&message, &input, 0..1, &mut out);
    let samples = Samples::decode(&out.main[0].encode()).unwrap();
    assert_eq!((samples.quality[0], samples.period[0]), (0, 0));
}

#[test]
fn the_stage_contract_is_kept_while_periods_are_learned_lost_and_changed() {
    let ms = SECOND / 1_000;
    let mut rows = Vec::new();
    for (name, period, jitter, missing) in [
        ("a/fast", 10 * ms, 100, 5),
        ("a/slow", 100 * ms, 0, 0),
        ("b/event", 80 * ms, 990, 40),
        ("b/t", 30 * ms, 40, 20),
    ] {
        rows.extend(series(name, 9_000 * ms / period, period, jitter, missing, period.unsigned_abs()));
    }
    // Later, another pace.
    rows.extend(series("a/fast", 400, 45 * ms, 20, 0, 9).into_iter().skip(201));
    rows.sort_by_key(time);
    let messages: Vec<Message> = rows
        .chunks(13)
        .map(|rows| Message { stream: "READINGS", subject: "readings.site.0".into(), payload: message(rows).payload })
        .collect();
    let whole = run("", &rows, &UNCUT);
    for kind in ["period_learned", "period_changed", "irregular", "interpolated"] {
        assert!(whole.decisions.contains_key(kind), "{kind}: {:?}", whole.decisions);
    }
    for config in ["silence_after_s = 1", "gap = \"hold\"\nlateness_s = 0.2"] {
        assert_stage_contract(|| stage(config), &messages, 0..3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Through jitter and missing readings, in any cuts with restarts in between: the same rows; each reading goes out at
    /// its own time with its own value; nothing is filled but where readings are missing.
    #[test]
    fn readings_keep_their_times_and_only_what_is_missing_is_filled(
        period in prop_oneof![Just(SECOND / 1_000), Just(SECOND / 30), Just(SECOND), Just(300 * SECOND), 1_000_000..SECOND],
        jitter in 0..200i64, missing in 0..15i64, seed: u64, cuts in cuts(),
    ) {
        let rows = series("d/t", 300, period, jitter, missing, seed);
        // A seventh of all may by chance be a third of the first 32 steps, of which only a quarter is promised to be borne.
        let steps = rows.windows(2).take(32).map(|two| time(&two[1]) - time(&two[0]));
        prop_assume!(steps.filter(|step| step * 10 > period * 15).count() <= 8);
        let whole = run("", &rows, &UNCUT);
        let mut cut = run("", &rows, &cuts);
        if cuts.tick > 0 {
            cut.health.clone_from(&whole.health);
        }
        prop_assert_eq!(&cut, &whole);
        let (samples, out) = samples("", &rows);
        let measured: Vec<_> = samples.iter().filter(|s| s.quality & quality::INTERPOLATED == 0).map(|s| (s.time, s.value)).collect();
        let sent: Vec<_> = rows.iter().map(|row| match row {
            Row::Reading { time, value, .. } => (*time, *value),
            Row::Burst { .. } | Row::Control(_) => (0, 0.0),
        }).collect();
        prop_assert_eq!(measured, sent);
        prop_assert!(samples.windows(2).all(|two| two[0].time < two[1].time));
        let absent = 300 - rows.len() as u64;
        prop_assert!(count(&out, "interpolated") <= absent, "{} filled of {absent} missing", count(&out, "interpolated"));
        prop_assert!(count(&out, "irregular") == 0);
        // Before the period is known nothing is; what is missing after that is filled or a break.
        let learned = samples.iter().position(|sample| sample.period > 0).unwrap_or(samples.len());
        prop_assert!(learned < 120, "learned at row {learned}");
        let steps = samples[learned..].windows(2).filter(|two| two[1].quality & quality::BREAK == 0);
        for two in steps {
            prop_assert!(two[1].time - two[0].time <= period * 17 / 10, "a gap of {}", two[1].time - two[0].time);
        }
    }

    /// Whatever comes twice, and whatever order it comes in within the lateness: the same samples.
    #[test]
    fn repeats_and_shuffles_within_the_lateness_change_nothing(
        period_ms in prop_oneof![Just(1i64), Just(20), Just(1_000), Just(60_000)], missing in 0..10i64, seed: u64,
    ) {
        let period = period_ms * SECOND / 1_000;
        let config = format!("lateness_s = {}", 8.0 * period as f64 / 1e9);
        let end = |rows: &mut Vec<Row>| rows.push(reading("d/end", START + 1_000 * period, 0.0));
        let mut rows: Vec<Row> = series("d/t", 200, period, 50, missing, seed);
        rows.extend(series("d/u", 200, period, 0, missing, !seed));
        rows.sort_by_key(time);
        let mut unruly: Vec<Row> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            unruly.push(row.clone());
            if noise(seed, at as i64, 5) == 0 {
                unruly.push(row.clone());
            }
        }
        unruly.sort_by_key(|row| time(row) + noise(seed ^ 5, time(row) % 1_009, 7 * period));
        end(&mut rows);
        end(&mut unruly);
        let (expected, _) = samples(&config, &rows);
        let (found, out) = samples(&config, &unruly);
        prop_assert_eq!(found, expected);
        prop_assert_eq!((out.duplicates as usize, out.late.len()), (unruly.len() - rows.len(), 0));
    }
}
