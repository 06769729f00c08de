use std::{collections::BTreeMap, fs, path::PathBuf};

use eddy_runtime::contract::{Message, assert_stage_contract};
use eddy_schemas::{ReadingsBuilder, Samples, bursts::Burst, quality};
use proptest::prelude::*;

use super::*;
use crate::config::tests::config;

mod damaged;

const SECOND: i64 = 1_000_000_000;

/// One row to send: a reading with its arrival, or a control.
#[derive(Clone, Debug)]
enum Row {
    Reading {
        series: String,
        time: Timestamp,
        value: f64,
        quality: u16,
        arrival: Timestamp,
    },
    /// A reading whose arrival is its time, with a burst of so many values.
    Burst {
        series: String,
        time: Timestamp,
        values: usize,
    },
    Control(Control),
}

fn reading(series: &str, time: Timestamp, value: f64) -> Row {
    Row::Reading { series: series.into(), time, value, quality: 0, arrival: time }
}

fn burst(series: &str, time: Timestamp, values: usize) -> Row {
    Row::Burst { series: series.into(), time, values }
}

/// Values of a burst that no other time has.
fn burst_values(time: Timestamp, count: usize) -> Vec<f32> {
    (0..count as i64).map(|at| ((at * 7_919 + time / 1_000_000).rem_euclid(1_009) as f32 / 1_009.0) - 0.5).collect()
}

fn control(kind: ControlKind) -> Row {
    Row::Control(Control { id: "c".into(), origin: "test".into(), time: 0, kind })
}

fn reset(device: &str) -> Row {
    control(ControlKind::DeviceReset { device: device.into() })
}

fn message(rows: &[Row]) -> Incoming {
    let mut builder = ReadingsBuilder::default();
    for row in rows {
        match row {
            Row::Reading { series, time, value, quality, arrival } => {
                builder.push(series, *time, *value, *quality, *arrival);
            }
            Row::Burst { series, time, values } => {
                let values = burst_values(*time, *values);
                let burst = Burst { rate_hz: 25_600.0, values: &values };
                builder.push(series, *time, burst.rms(), 0, *time);
                builder.burst(burst);
            }
            Row::Control(control) => builder.push_control(control, 0),
        }
    }
    Incoming {
        stream: "READINGS".into(),
        subject: "readings.site.0".into(),
        sequence: 1,
        stored_at: 0,
        content_type: None,
        payload: builder.encode().into(),
    }
}

/// Everything that a run told, line by line, and the state that it left.
#[derive(Debug, Default, PartialEq)]
struct Told {
    samples: Vec<String>,
    late: Vec<String>,
    health: Vec<String>,
    rejected: Vec<String>,
    duplicates: u64,
    decisions: BTreeMap<&'static str, u64>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn seconds(time: Timestamp) -> String {
    (time as f64 / SECOND as f64).to_string()
}

impl Told {
    fn take(&mut self, mut out: Outbox<SamplesBuilder>) {
        let samples = Samples::decode(&out.main[0].encode()).unwrap();
        for row in 0..samples.rows.len() {
            self.samples.push(match samples.rows.control(row) {
                Some(control) => format!("control,,{},", control.subject_token()),
                None => {
                    let (name, time, value) = (samples.rows.name(row), samples.rows.time[row], samples.value[row]);
                    let flags = quality::names(samples.quality[row]).join("+");
                    let spectrum = samples.spectrum(row).map_or_else(String::new, |levels| format!(",{levels:?}"));
                    format!("{name},{},{value},{flags},{}{spectrum}", seconds(time), seconds(samples.period[row]))
                }
            });
        }
        let late = |late: &LateRow| format!("{},{},{}", late.series, seconds(late.time), late.value);
        self.late.extend(out.late.iter().map(late));
        self.health.extend(out.health.iter().map(health_line));
        self.rejected.extend(out.rejected.iter().map(|rejected| rejected.rejection.detail.clone()));
        self.duplicates += out.duplicates;
        for (kind, n) in out.decisions {
            *self.decisions.entry(kind).or_default() += n;
        }
    }

    fn save(&mut self, stage: &mut Preprocess) {
        stage.save(&mut |key, value| match value {
            Some(value) => drop(self.state.insert(key.into(), value.into())),
            None => drop(self.state.remove(key)),
        });
    }
}

fn health_line(health: &Health) -> String {
    let channel = health.channel.as_deref().unwrap_or("*");
    let phase = if health.active { "begins" } else { "ends" };
    let since = seconds(health.since);
    format!("{}/{channel},{:?} {phase},{since},{}", health.device, health.condition, health.value)
}

fn stage(overrides: &str) -> Preprocess {
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    Preprocess::new(config(overrides).unwrap(), &scope).unwrap()
}

/// How a run is cut up.
#[derive(Clone, Debug)]
struct Cuts {
    /// Rows of the messages, in turn.
    message_rows: Vec<usize>,
    /// Rows of the calls, in turn.
    call_rows: Vec<usize>,
    /// The output is full at so many bytes.
    bytes_max: usize,
    /// After every so many messages: save, and go on in a stage that loaded it. 0 for never.
    restart_every: usize,
    /// After each message the wall clock has gone on by so much. 0: no ticks.
    tick: i64,
}

const UNCUT: Cuts = Cuts { message_rows: vec![], call_rows: vec![], bytes_max: usize::MAX, restart_every: 0, tick: 0 };

fn run(overrides: &str, rows: &[Row], cuts: &Cuts) -> Told {
    let mut stage = stage(overrides);
    let mut told = Told::default();
    let (mut left, mut messages, mut calls) = (rows, 0, 0);
    while !left.is_empty() {
        let turn = |cuts: &[usize], n: usize| cuts.get(n % cuts.len().max(1)).copied().unwrap_or(usize::MAX);
        let (now, later) = left.split_at(turn(&cuts.message_rows, messages).min(left.len()));
        let message = message(now);
        let input = stage.decode(&message).unwrap();
        let mut at = 0;
        while at < now.len() {
            let end = at.saturating_add(turn(&cuts.call_rows, calls)).min(now.len());
            let mut out = Outbox::new(stage.outputs(), cuts.bytes_max);
            let reached = stage.process(&message, &input, at..end, &mut out);
            assert!(reached > at && reached <= end);
            told.take(out);
            (at, calls) = (reached, calls + 1);
        }
        (left, messages) = (later, messages + 1);
        if cuts.restart_every > 0 && messages % cuts.restart_every == 0 {
            told.save(&mut stage);
            stage = self::stage(overrides);
            told.state.iter().for_each(|(key, value)| stage.load(key, value).unwrap());
        }
        if cuts.tick > 0 {
            stage.tick(messages as i64 * cuts.tick);
        }
    }
    told.save(&mut stage);
    told
}

#[test]
fn golden_cases() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/preprocess");
    let mut cases = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let Some(case) = path.to_str().unwrap().strip_suffix(".in.csv").map(str::to_owned) else { continue };
        cases += 1;
        let (overrides, rows) = read_case(&fs::read_to_string(&path).unwrap());
        let found = write_case(&run(&overrides, &rows, &UNCUT));
        let expected = PathBuf::from(format!("{case}.out.csv"));
        if std::env::var_os("EDDY_UPDATE_GOLDEN").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let why = "EDDY_UPDATE_GOLDEN=1 writes what is found";
        assert_eq!(found, fs::read_to_string(&expected).unwrap_or_default(), "{case}: {why}");
    }
    assert!(cases >= 12, "{cases} cases in {folder:?}");
}

/// `# key = value` lines are config; `series,time_s,value[,arrival_s]` a reading; `!reset,device` a control.
fn read_case(text: &str) -> (String, Vec<Row>) {
    let nanoseconds = |text: &str| (text.parse::<f64>().unwrap() * 1e9).round() as i64;
    let overrides: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# ")).collect();
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split(',').collect();
        let device = fields[1].to_owned();
        rows.push(match fields[0] {
            "!reset" => control(ControlKind::DeviceReset { device }),
            "!recommission" => control(ControlKind::Recommission { device }),
            "!maintenance" => control(ControlKind::Maintenance { device, on: true, until: None }),
            series => {
                let (time, value) = (nanoseconds(fields[1]), fields[2].parse().unwrap());
                let arrival = fields.get(3).map_or(time, |arrival| nanoseconds(arrival));
                Row::Reading { series: series.into(), time, value, quality: 0, arrival }
            }
        });
    }
    (overrides.join("\n"), rows)
}

fn write_case(told: &Told) -> String {
    let mut text = String::new();
    let mut part = |title: &str, lines: &[String]| {
        text += &format!("# {title}\n");
        lines.iter().for_each(|line| text += &format!("{line}\n"));
    };
    part("samples: series,time_s,value,quality,period_s", &told.samples);
    part("late: series,time_s,value", &told.late);
    part("rejected", &told.rejected);
    part("health: device/channel,condition,since_s,value", &told.health);
    let counts = told.decisions.iter().map(|(kind, n)| format!("{kind},{n}"));
    part("counts", &counts.chain([format!("duplicates,{}", told.duplicates)]).collect::<Vec<_>>());
    text
}

const CONFIGS: [&str; 8] = [
    "",
    "gap_limit_rows = 2\nsilence_after_s = 2\nstuck_after_rows = 3",
    "learn_period = false\nlateness_s = 2",
    "period_s = 1\nsilence_after_s = 20\nstuck_after_rows = 3\nmin = -1\nmax = 3\nspike_sigmas = 2",
    "period_s = 0.7\ngap = \"hold\"\ngap_limit_rows = 64",
    "lateness_s = 3\nreorder_rows = 4\nsilence_after_s = 5",
    "lateness_s = 30\nperiod_s = 2\ngap_limit_rows = 2\nstuck_after_rows = 2",
    "series_max = 3\nperiod_s = 1\ngap = \"break\"\n[[series]]\nmatch = \"*b/*\"\nperiod_s = 0",
];

/// Steps of event time on a coarse clock, back as often as needed for duplicates and late rows, sometimes far ahead.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let step = prop_oneof![8 => 1i64..4, 3 => -12i64..1, 1 => 40i64..200];
    let value =
        prop_oneof![20 => (-2i8..5).prop_map(f64::from), 5 => -1.0..1.0, 1 => Just(f64::NAN), 1 => Just(f64::MAX)];
    let kind = prop_oneof![40 => Just(0), 1 => Just(1), 1 => Just(2), 2 => Just(3)];
    prop::collection::vec((0..2usize, 0..2usize, step, value, kind, 0i64..9), 1..250).prop_map(|steps| {
        let mut now = 0;
        let row = |(device, channel, step, value, kind, delay): (usize, usize, i64, f64, i32, i64)| {
            now += step * SECOND / 4;
            let device = ["a b", "b"][device];
            match kind {
                1 => reset(device),
                2 => control(ControlKind::Recommission { device: device.into() }),
                // One in nine is too short to be one.
                3 => burst(&SeriesName::encode(device, "u.v"), now, if delay == 0 { 63 } else { 64 }),
                _ => Row::Reading {
                    series: SeriesName::encode(device, ["t", "u.v"][channel]),
                    time: now,
                    value,
                    quality: if delay == 8 { quality::ARRIVAL_TIME } else { 0 },
                    arrival: now + delay * SECOND,
                },
            }
        };
        steps.into_iter().map(row).collect()
    })
}

fn cuts() -> impl Strategy<Value = Cuts> {
    let some = || prop::collection::vec(1..40usize, 1..5);
    let bytes_max = prop_oneof![Just(1), 100..5_000usize];
    let tick = prop_oneof![Just(0), Just(60 * SECOND)];
    (some(), some(), bytes_max, 0..4usize, tick).prop_map(
        |(message_rows, call_rows, bytes_max, restart_every, tick)| Cuts {
            message_rows,
            call_rows,
            bytes_max,
            restart_every,
            tick,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_cut_restart_or_tick_changes_what_is_told_and_every_reading_is_accounted_for(
        rows in rows(), cuts in cuts(), config in 0..CONFIGS.len()
    ) {
        let config = CONFIGS[config];
        let whole = run(config, &rows, &UNCUT);
        let mut cut = run(config, &rows, &cuts);
        if cuts.tick > 0 {
            // The wall clock may tell a silence before the reading that ends it does.
            cut.health.clone_from(&whole.health);
        }
        prop_assert_eq!(&cut, &whole);

        let mut stage = stage(config);
        whole.state.iter().for_each(|(key, value)| stage.load(key, value).unwrap());
        let waiting: usize = stage.fleet.devices_mut().map(|device| device.waiting.len()).sum();
        let is_measured = |line: &&String| {
            !line.starts_with("control") && !line.contains("interpolated") && !line.contains("held")
        };
        let emitted = whole.samples.iter().filter(is_measured).count();
        let sent = rows.iter().filter(|row| !matches!(row, Row::Control(_))).count();
        let accounted = emitted + waiting + whole.duplicates as usize + whole.late.len() + whole.rejected.len();
        prop_assert_eq!(accounted, sent);
    }

    #[test]
    fn a_damaged_record_is_refused_or_read_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut stage = stage("");
        let _ = stage.load(b"d", &bytes);
        let _ = stage.load(b"d/t", &bytes);
    }
}

#[test]
fn silence_by_the_wall_clock_is_told_once_until_the_device_speaks() {
    let mut stage = stage("silence_after_s = 10");
    let send = |stage: &mut Preprocess, row: Row| {
        let message = message(&[row]);
        let input = stage.decode(&message).unwrap();
        let mut out = Outbox::new(stage.outputs(), usize::MAX);
        stage.process(&message, &input, 0..1, &mut out);
        out.health.iter().map(health_line).collect::<Vec<_>>()
    };
    let tick = |stage: &mut Preprocess, wall_s: i64| -> Vec<String> {
        stage.tick(wall_s * SECOND).iter().map(health_line).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(tick(&mut stage, 999), none);
    // A recording from long ago: its devices are not silent because of that.
    send(&mut stage, reading("a/t", 100 * SECOND, 1.0));
    send(&mut stage, reading("b/t", 102 * SECOND, 1.0));
    assert_eq!(tick(&mut stage, 1_000), none);
    assert_eq!(tick(&mut stage, 1_008), none);
    assert_eq!(tick(&mut stage, 1_009), ["a/*,Silence begins,100,11"]);
    assert_eq!(tick(&mut stage, 1_010), none);
    // Restarted, it has to wait anew, then tells it once.
    let mut told = Told::default();
    told.save(&mut stage);
    let mut stage = self::stage("silence_after_s = 10");
    told.state.iter().for_each(|(key, value)| stage.load(key, value).unwrap());
    assert_eq!(tick(&mut stage, 2_000), none);
    assert_eq!(tick(&mut stage, 2_011), ["a/*,Silence begins,100,13", "b/*,Silence begins,102,11"]);
    assert_eq!(tick(&mut stage, 2_012), none);
    assert_eq!(send(&mut stage, reading("b/t", 103 * SECOND, 1.0)), ["b/*,Silence ends,103,1"]);
    assert_eq!(send(&mut stage, reset("a")), ["a/*,Silence ends,100,0"]);
    assert_eq!(tick(&mut stage, 2_013), none);
}

#[test]
fn a_lateness_taken_out_of_the_config_lets_go_of_what_waited() {
    let waited = run("lateness_s = 60", &[reading("d/t", 5, 1.0), reading("d/u", 4, 2.0)], &UNCUT);
    assert!(waited.samples.is_empty());
    let mut stage = stage("");
    waited.state.iter().for_each(|(key, value)| stage.load(key, value).unwrap());
    let message = message(&[reading("d/t", 6, 3.0)]);
    let input = stage.decode(&message).unwrap();
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    stage.process(&message, &input, 0..1, &mut out);
    let samples = Samples::decode(&out.main[0].encode()).unwrap();
    assert_eq!((&samples.value[..], samples.rows.name(0)), (&[2.0, 1.0, 3.0][..], "d/u"));
}

#[test]
fn the_ends_of_time_stop_nothing() {
    for config in CONFIGS {
        let times = [0, i64::MIN, -1, i64::MIN + 1, i64::MAX, i64::MAX - 1, 1, i64::MIN, i64::MAX];
        let rows: Vec<Row> = times.iter().map(|time| reading("d/t", *time, 1.0)).chain([reset("d")]).collect();
        let told = run(config, &rows, &Cuts { restart_every: 1, message_rows: vec![1], ..UNCUT });
        assert_eq!(told.samples.len() - 1 + told.late.len() + told.duplicates as usize, times.len(), "{config}");
    }
}

#[test]
fn a_series_record_stays_small() {
    let times = |jitter: i64| {
        let row = move |i: i64| reading("device/channel", i * 60 * SECOND + i * i * 7_919 % jitter, i as f64);
        (0..500).map(row).collect::<Vec<_>>()
    };
    for (jitter, bytes_max) in [(1, 150), (SECOND, 490)] {
        let told = run("", &times(jitter), &UNCUT);
        let bytes = told.state[&b"device/channel"[..]].len();
        assert!(bytes <= bytes_max, "{bytes} bytes with a jitter of {jitter} ns");
    }
}

#[test]
fn what_is_not_a_batch_is_refused_with_its_reason() {
    let mut wrong = message(&[]);
    wrong.payload = Bytes::from_static(b"rubbish");
    let (reason, detail) = stage("").decode(&wrong).unwrap_err();
    assert_eq!(reason, Reason::Malformed);
    assert!(detail.contains("Arrow"), "{detail}");
}

#[test]
fn a_burst_goes_out_as_its_spectrum_and_by_the_rules_of_any_reading() {
    let of = |time: i64, count| burst("d/v", time * SECOND, count);
    let rows = [of(1, 64), of(2, 4096), of(2, 4096), of(0, 100), of(5, 64), reading("d/v", 6 * SECOND, 0.5), of(7, 63)];
    for (config, spectra, late) in [
        // Two grid points are filled before the one at 5 s, and what is filled has no spectrum.
        ("period_s = 1", vec![true, true, false, false, true, false], 1),
        // What waits, across a restart after each message, waits with its spectrum.
        ("period_s = 1\nlateness_s = 2", vec![true; 3], 0),
    ] {
        let told = run(config, &rows, &Cuts { restart_every: 1, message_rows: vec![1], ..UNCUT });
        let found: Vec<bool> = told.samples.iter().map(|line| line.contains('[')).collect();
        assert_eq!(found, spectra, "{:?}", told.samples);
        assert_eq!((told.duplicates, told.late.len(), told.rejected.len()), (1, late, 1));
        assert!(told.rejected[0].contains("a burst of 63 values"), "{:?}", told.rejected);
    }
}

/// Two devices with gaps, doubles, stragglers, a reading that is none, and controls.
fn eventful(rows: i64) -> Vec<Row> {
    let row = |i: i64| match i % 97 {
        50 => reset("b"),
        51 => control(ControlKind::Recommission { device: "a b".into() }),
        52 => reading("b/t", i * SECOND, f64::NAN),
        // Twice each, and late ones.
        53..=58 => burst("b/v", (i / 2 * 2 - if i % 97 == 57 { 40 } else { 0 }) * SECOND, 200),
        _ => {
            let series = ["a%20b/t", "a%20b/u", "b/t"][(i % 3) as usize];
            let time = i + [0, 0, 0, 0, -3, 0, -40, 5][(i * 5 % 8) as usize] + i / 60 * 30;
            reading(series, time * SECOND, (i * 7 % 5) as f64)
        }
    };
    (0..rows).map(row).collect()
}

#[test]
fn the_stage_contract_is_kept() {
    let rows = eventful(600);
    let mut messages: Vec<Message> = rows
        .chunk_by(|a, _| !matches!(a, Row::Reading { time, .. } if time % (7 * SECOND) == 0))
        .map(|rows| Message { stream: "READINGS", subject: "readings.site.0".into(), payload: message(rows).payload })
        .collect();
    messages[5].payload = Bytes::from_static(b"rubbish");
    for config in [CONFIGS[3], CONFIGS[6]] {
        assert_stage_contract(|| stage(config), &messages, 0..4);
    }
}

mod learned;
