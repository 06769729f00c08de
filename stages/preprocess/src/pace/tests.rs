use proptest::prelude::*;

use super::*;

const MS: i64 = 1_000_000;
const S: i64 = 1_000 * MS;
const DAY: i64 = 86_400 * S;
/// Long after 1970, as real times are.
const START: i64 = 1_767_225_600 * S + 123_456_789;

/// What each of `times` (ascending) shows, and the pace at the end. The record is written and read before each.
fn observe(times: impl IntoIterator<Item = i64>) -> (Vec<(usize, Shown)>, Pace) {
    let (mut recent, mut pace, mut shown) = (Recent::default(), Pace::default(), Vec::new());
    for (row, time) in times.into_iter().enumerate() {
        let mut record = Vec::new();
        pace.write(&mut record);
        let mut reader = Reader(&record);
        assert_eq!(Pace::read(&mut reader), Ok(pace));
        reader.end().unwrap();
        recent.push(time);
        shown.extend(pace.observe(&recent).map(|shown| (row, shown)));
    }
    (shown, pace)
}

/// Noise without a pattern, in 0..below: splitmix64.
fn noise(seed: u64, row: i64, below: i64) -> i64 {
    let mut z = (seed ^ row.unsigned_abs()).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % below.unsigned_abs()) as i64
}

/// Times of Poisson events with this mean distance.
fn events(seed: u64, rows: i64, mean: i64) -> Vec<i64> {
    let step = |row| (-(noise(seed, row, 1 << 52) as f64 + 1.0).ln() + 52.0 * 2f64.ln()) * mean as f64;
    (0..rows)
        .scan(START, |time, row| {
            *time += step(row) as i64 + 1;
            Some(*time)
        })
        .collect()
}

#[test]
fn a_steady_series_has_its_exact_period_at_its_ninth_reading() {
    for period in [1_000, 333_333_333, MS, 997 * MS, 40 * MS, S, 7 * S, 61 * S, 300 * S, DAY, 366 * DAY] {
        let (shown, pace) = observe((0..200).map(|row| row * period));
        assert_eq!((shown, pace.period()), (vec![(8, Shown::Learned)], period));
    }
}

#[test]
fn a_frequency_whose_times_are_rounded_has_its_nearest_period() {
    // 30 Hz and 60 Hz, in whole milliseconds; 3 Hz in whole microseconds.
    for (hertz, unit, low, high) in
        [(30, MS, 33 * MS, 34 * MS), (60, MS, 16 * MS, 17 * MS), (3, 1_000, 333_333_000, 333_334_000)]
    {
        let (shown, pace) = observe((0..500).map(|row| START / S * S + row * S / hertz / unit * unit));
        assert_eq!(shown, [(8, Shown::Learned)], "{hertz} Hz");
        assert!((low..=high).contains(&pace.period()), "{hertz} Hz: {}", pace.period());
    }
}

#[test]
fn a_jittered_period_is_the_round_value_that_it_clearly_is() {
    for period in [MS, 20 * MS, 125 * MS, S, 10 * S, 60 * S, 300 * S, 3_600 * S, DAY] {
        for seed in 0..50 {
            let times = (0..200).map(|row| START + row * period + noise(seed, row, period / 20));
            let (_, pace) = observe(times);
            assert_eq!(pace.period(), period, "seed {seed}");
        }
    }
}

#[test]
fn a_new_pace_is_learned_after_eight_steps_and_an_outage_changes_nothing() {
    let times = |before: i64, after: i64, pause: i64| {
        let turn = START + 99 * before;
        (0..100).map(move |row| START + row * before).chain((0..100).map(move |row| turn + pause + row * after))
    };
    for (before, after) in [(S, 2 * S), (S, 10 * S), (10 * S, S), (S, MS), (MS, S), (3 * S, 4 * S), (4 * S, 3 * S)] {
        let (shown, pace) = observe(times(before, after, after));
        assert_eq!(pace.period(), after, "{before} to {after}");
        let [(8, Shown::Learned), (row, Shown::Changed)] = shown[..] else { panic!("{before} to {after}: {shown:?}") };
        // A pace that still fits the old one loosely is told from it at the end of a block.
        assert!(row == 107 || (row < 170 && after.abs_diff(before) < 2 * before.unsigned_abs()), "{shown:?}");
    }
    assert_eq!(observe(times(S, S, 30 * DAY)).0, [(8, Shown::Learned)]);
}

#[test]
fn one_reading_that_is_missing_or_strange_now_and_then_changes_nothing() {
    let times = (0..1_000).filter(|row| row % 7 != 3).flat_map(|row| {
        let stray = (row % 11 == 5).then_some(START + row * S + S / 3);
        [START + row * S].into_iter().chain(stray)
    });
    let (shown, pace) = observe(times);
    assert_eq!((shown.len(), shown[0].1, pace.period()), (1, Shown::Learned, S));
}

#[test]
fn events_are_irregular_and_stay_so() {
    for seed in 0..50 {
        let (shown, pace) = observe(events(seed, 5_000, 10 * S));
        assert_eq!((shown, pace.period()), (vec![(32, Shown::Irregular)], 0), "seed {seed}");
        assert!(pace.patience() > 80 * S, "{}", pace.patience());
    }
    // Bursts of five every hour; steps that only double.
    let bursts = (0..100).flat_map(|hour| (0..5).map(move |row| START + hour * 3_600 * S + row * S));
    let (shown, pace) = observe(bursts);
    assert_eq!((shown, pace.period()), (vec![(32, Shown::Irregular)], 0));
    assert!(pace.patience() >= 4 * 3_500 * S, "{}", pace.patience());
    assert_eq!(observe((0..62).map(|row| 1 << row)).1.period(), 0);
}

#[test]
fn a_steady_series_that_becomes_irregular_is_told_so_and_back() {
    let steady = |from: i64| (0..100).map(move |row| from + row * S);
    let wild: Vec<i64> = events(7, 200, 9 * S).iter().map(|time| time + 100 * S).collect();
    let back = steady(wild[199] + S);
    let (shown, pace) = observe(steady(START).chain(wild).chain(back));
    let told: Vec<Shown> = shown.iter().map(|(_, shown)| *shown).collect();
    assert_eq!(told, [Shown::Learned, Shown::Irregular, Shown::Learned], "{shown:?}");
    assert!(shown[1].0 <= 164 && shown[2].0 <= 332, "{shown:?}");
    assert_eq!(pace.period(), S);
}

#[test]
fn what_is_too_short_too_long_or_at_the_ends_of_time_is_no_period() {
    for step in [1, 999, 367 * DAY] {
        assert_eq!(observe((0..100).map(|row| row * step)).1.period(), 0, "{step}");
    }
    assert_eq!(observe([i64::MIN, -1, 0, i64::MAX - 1, i64::MAX].into_iter().cycle().take(5)).1.period(), 0);
    assert_eq!(largest_group(&[0, 0, u64::MAX, u64::MAX, u64::MAX]).len(), 3);
    assert_eq!(middle(&[u64::MAX - 2, u64::MAX - 1, u64::MAX]), u64::MAX - 1);
}

#[test]
fn missing_readings_are_whole_periods_and_stand_evenly() {
    for (period, step, expected) in [
        (0, 100, 0),
        (10, 1, 0),
        (10, 15, 0),
        (10, 16, 1),
        (10, 25, 1),
        (10, 26, 2),
        (7, 10, 0),
        (7, 11, 1),
        (10, 1_000, 99),
    ] {
        assert_eq!(missing(period, -5, step - 5), expected, "{step} at {period}");
    }
    assert_eq!([1, 2].map(|number| between(-10, 21, number, 2)), [0, 10]);
    assert_eq!(missing(1, i64::MIN, i64::MAX), i64::MAX);
    assert_eq!(between(i64::MIN, i64::MAX, 1, 1), -1);
}

#[test]
fn a_damaged_record_is_refused() {
    let mut record = Vec::new();
    Pace { period: S, ..Pace::default() }.write(&mut record);
    assert!(Pace::read(&mut Reader(&record)).is_ok());
    for (at, byte) in [(0, 2), (1, 32), (2, 40), (3, 255)] {
        let mut damaged = record.clone();
        damaged[at] = byte;
        assert!(Pace::read(&mut Reader(&damaged)).is_err(), "byte {at} = {byte}");
    }
    record.truncate(5);
    assert!(Pace::read(&mut Reader(&record)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any period from a millisecond to a day, jittered by up to a tenth either way, with a tenth of the readings missing.
    #[test]
    fn any_period_is_found_through_jitter_and_missing_readings(
        exponent in 0.0..7.93_f64, jitter in 0..=10i64, lost in 0..=10i64, seed: u64,
    ) {
        let period = (10f64.powf(exponent) * MS as f64) as i64;
        let rows: Vec<i64> = (0..400).filter(|row| noise(!seed, *row, 100) >= lost).collect();
        // A tenth of all may by chance be a third of the first 32 steps, of which only a quarter is promised to be borne.
        prop_assume!(rows.windows(2).take(32).filter(|pair| pair[1] - pair[0] > 1).count() <= 8);
        let times = rows.into_iter().map(|row| START + row * period + noise(seed, row, period * jitter / 50 + 1));
        let (shown, pace) = observe(times);
        let off = pace.period().abs_diff(period) as f64 / period as f64;
        prop_assert!(off <= 0.1, "{} of {period}: {off}", pace.period());
        prop_assert!(jitter > 0 || pace.period() == period, "{} of {period}", pace.period());
        prop_assert_eq!(shown[0].1, Shown::Learned);
        prop_assert!(shown[0].0 <= 100 && shown.len() <= 2, "{shown:?}");
    }

    #[test]
    fn no_times_break_anything(steps in prop::collection::vec(prop_oneof![1..50u64, Just(1 << 58), any::<u64>()], 0..200)) {
        let times = steps.iter().scan(i64::MIN, |time, step| {
            *time = time.checked_add_unsigned((*step).max(1))?;
            Some(*time)
        });
        observe(times);
    }
}
