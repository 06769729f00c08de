//! State is told device by device while rows come: whatever dies, and wherever a turn stands then, a replay tells the same.

use eddy_runtime::{contract::Dice, position::Seen};
use eddy_schemas::{
    BundleAction::{Activate, Retire, Stage as Begin},
    Control,
};

use super::{switched::Further, *};

/// What came out, with what tells whether two judges were compared alike.
#[derive(Debug, Default, PartialEq)]
struct Out {
    rows: Vec<String>,
    alerts: Vec<String>,
    rejected: Vec<String>,
    /// After each message.
    reports: Vec<String>,
    /// All that is known in the end.
    records: Vec<String>,
}

impl Out {
    fn take(&mut self, mut out: Outbox<ScoresBuilder>) {
        self.rows.extend(eddy_schemas::dump::rows(&out.main[0].encode()).unwrap());
        self.alerts.extend(out.alerts.into_iter().map(|alert| String::from_utf8(alert.payload).unwrap()));
        self.rejected.extend(out.rejected.into_iter().map(|one| one.rejection.detail));
    }
}

/// A finished snapshot.
#[derive(Clone, Default)]
struct Disk {
    records: Records,
    from: (usize, usize),
    seen: Seen,
}

fn load(open: &dyn Fn() -> Detect, disk: &Disk) -> Detect {
    let mut stage = open();
    disk.records.iter().for_each(|(key, value)| stage.load(key, value).unwrap());
    stage.loaded(disk.seen);
    stage
}

fn put(records: &mut Records, key: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => _ = records.insert(key.to_vec(), value.to_vec()),
        None => _ = records.remove(key),
    }
}

/// Runs all messages a few rows at a time, `deaths` times from what is on disk then, and how often that was told while rows came.
fn run(open: &dyn Fn() -> Detect, messages: &[Message], seed: u64, mut deaths: u32) -> (Out, u32) {
    let mut dice = Dice::of(seed);
    let (mut told, mut disk, mut across) = (Out::default(), Disk::default(), 0);
    let (mut stage, mut turn) = (open(), None::<Disk>);
    let (mut at, mut checkpoint) = ((0, 0), (0, 0));
    while at.0 < messages.len() {
        let message = Incoming { sequence: at.0 as u64 + 1, ..incoming(&messages[at.0]) };
        let input = stage.decode(&message).unwrap();
        let rows = Detect::rows(&input);
        let silent = at < checkpoint;
        let last = if silent && at.0 == checkpoint.0 { checkpoint.1 } else { rows };
        let end = last.min(at.1 + 1 + dice.below(40) as usize);
        let mut out = Outbox::new(stage.outputs(), usize::MAX);
        at.1 = stage.process(&message, &input, at.1..end, &mut out);
        if !silent {
            told.take(out);
        }
        if at.1 == rows {
            if !silent {
                told.reports.push(format!("{:?}", stage.panel.report()));
            }
            at = (at.0 + 1, 0);
        }
        checkpoint = checkpoint.max(at);
        if turn.is_none() && dice.below(6) == 0 {
            stage.begin_save();
            turn = Some(Disk { records: disk.records.clone(), from: at, seen: Seen::default() });
        }
        if let Some(mut saving) = turn.take() {
            let is_whole = dice.below(3) == 0
                && stage.save_some(dice.below(3) as usize, &mut |key, value| put(&mut saving.records, key, value));
            if is_whole {
                across += u32::from(saving.from != at);
                // While it replays, what was not told again may have seen more.
                let seen = Seen { sequence: at.0 as u64 + 1, rows: at.1 as u64 }.max(disk.seen);
                disk = Disk { seen, ..saving };
            } else {
                turn = Some(saving);
            }
        }
        if deaths > 0 && dice.below(60) == 0 {
            deaths -= 1;
            (stage, turn, at) = (load(open, &disk), None, disk.from);
        }
    }
    let mut records = turn.unwrap_or(disk).records;
    while !stage.save_some(usize::MAX, &mut |key, value| put(&mut records, key, value)) {}
    save(&mut stage, &mut records);
    // Up to where was counted is as of when it was told last.
    records
        .entry(b"t".into())
        .and_modify(|tally| *tally = tally.split(|byte| *byte == b' ').take(3).collect::<Vec<_>>().concat());
    told.records = records.iter().map(|(key, value)| format!("{} {value:?}", key.escape_ascii())).collect();
    (told, across)
}

/// Devices whose rows come in turn.
fn together(sources: &[Source]) -> Vec<Item> {
    let mut all: Vec<_> = sources.iter().map(|source| source.items().into_iter()).collect();
    let mut items = Vec::new();
    loop {
        let before = items.len();
        all.iter_mut().for_each(|of_one| items.extend(of_one.by_ref().take(3)));
        if items.len() == before {
            return items;
        }
    }
}

fn fleet(further: &Further) -> Vec<Source> {
    let of = |kind: fn(String) -> ControlKind, device: &str, row| Event::Say(row, kind(device.to_owned()));
    let reset = |device| ControlKind::DeviceReset { device };
    let again = |device| ControlKind::Recommission { device };
    let on = |device| ControlKind::Maintenance { device, on: true, until: None };
    let off = |device| ControlKind::Maintenance { device, on: false, until: None };
    vec![
        Source::new("a", 2, 560).with(Event::Add(520..530, 0, 9.0)).with(of(on, "b", 440)).with(of(off, "b", 470)),
        Source::new("b", 1, 900).with(of(reset, "a", 451)).with(of(on, "e", 460)).with(of(reset, "e", 700)),
        Source::new("c", 2, 560).with(Event::Add(500..503, 1, -8.0)).with(further.say(410, Begin)),
        Source::new("d", 1, 950).with(of(again, "d", 450)).with(Event::Add(900..910, 0, 7.0)),
        Source::new("e", 3, 560)
            .with(further.say(480, Activate))
            .with(Event::Add(482..500, 2, 8.0))
            .with(further.back(505))
            .with(further.say(540, Retire)),
    ]
}

/// Devices whose channels come and go, under maintenance for a while now and then, and a second bundle that comes and goes.
fn churn(further: &Further, rows: i64) -> Vec<Item> {
    let mut dice = Dice::of(77);
    let sources = ["u", "v", "w", "x"].map(|name| Source::new(name, 3, rows));
    let (mut items, mut is_beside) = (Vec::new(), false);
    for row in 0..rows {
        let source = &sources[dice.below(4) as usize];
        let device = source.name.to_owned();
        let kind = match dice.below(40) {
            0 => ControlKind::DeviceReset { device },
            1 => ControlKind::Maintenance { device, on: true, until: Some((row + dice.below(30) as i64) * HOP) },
            2 if dice.below(3) == 0 => {
                is_beside = !is_beside;
                let action = if is_beside { Begin } else { Retire };
                ControlKind::Bundle { digest: further.digest.clone(), action }
            }
            _ => {
                let mut item = source.row(dice.below(3) as usize, row, 0);
                if let Item::Row { commissioning, .. } = &mut item {
                    *commissioning = false;
                }
                items.push(item);
                continue;
            }
        };
        items.push(Item::Control(Control { id: row.to_string(), origin: "cli".into(), time: row * HOP, kind }));
    }
    items
}

/// Dies at random while it tells, from each of `seeds`; returns what it tells undisturbed.
fn assert_dies_well(open: &dyn Fn() -> Detect, messages: &[Message], seeds: Range<u64>) -> Out {
    let (expected, _) = run(open, messages, 0, 0);
    for seed in seeds {
        let (told, across) = run(open, messages, seed, 40);
        assert!(across > 5, "seed {seed}: {across} snapshots");
        for (what, expected, told) in [
            ("rows", &expected.rows, &told.rows),
            ("alerts", &expected.alerts, &told.alerts),
            ("rejected", &expected.rejected, &told.rejected),
            ("reports", &expected.reports, &told.reports),
            ("records", &expected.records, &told.records),
        ] {
            let at = expected.iter().zip(told).position(|(a, b)| a != b).unwrap_or(expected.len().min(told.len()));
            let (one, other) = (expected.get(at), told.get(at));
            assert!(expected == told, "seed {seed}: {what} {at}:\n{one:?}\n{other:?}");
        }
    }
    expected
}

#[test]
fn wherever_a_turn_stands_when_it_dies_a_replay_tells_the_same() {
    let further = Further::new();
    let messages = further.messages_of(together(&fleet(&further)), 61);
    let told = assert_dies_well(&|| further.detect(), &messages, 1..40);
    assert!(told.alerts.len() > 8 && told.rejected.is_empty(), "{} alerts", told.alerts.len());
}

/// Room for series, what a judge that joins learns of maintenance, and how two judges compare.
#[test]
fn what_depends_on_more_than_one_device_is_replayed_as_it_was() {
    let further = Further::commissioned_by(10);
    let messages = further.messages_of(churn(&further, 3_000), 61);
    let open = || further.detect_with(Config { series_max: 5, ..config() });
    let told = assert_dies_well(&open, &messages, 1..80);
    assert!(told.rejected.len() > 100 && told.reports.iter().any(|report| report.contains("rows: 2")));
}

/// The same in the loop, whose outputs are on their way while rows are processed.
#[test]
fn a_fleet_holds_to_the_stage_contract() {
    let further = Further::new();
    let messages = further.messages_of(together(&fleet(&further)), 97);
    assert_stage_contract(|| further.detect(), &messages, 0..6);
}
