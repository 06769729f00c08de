//! A second bundle: beside the first one, in its place, and back.

use eddy_schemas::{
    BundleAction::{self, Activate, Retire, Stage as Begin},
    Control, ShadowReport,
};

use super::*;

/// The first one's digest.
const FIRST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A folder with one more bundle, and its digest.
pub(super) struct Further {
    folder: tempfile::TempDir,
    pub(super) digest: String,
}

impl Further {
    pub(super) fn new() -> Self {
        Self::of(manifest_text("further", &blake3::hash(b"graph").to_hex()))
    }

    /// Whose series are at work after so many rows.
    pub(super) fn commissioned_by(rows: i64) -> Self {
        let of = |rows| format!("commissioning_rows = {rows}");
        let text = manifest_text("further", &blake3::hash(b"graph").to_hex());
        Self::of(text.replace(&of(COMMISSIONING_ROWS), &of(rows)))
    }

    fn of(text: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
        let place = folder.path().join(&digest);
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("model.toml"), text).unwrap();
        std::fs::write(place.join("model.onnx"), b"graph").unwrap();
        Self { folder, digest }
    }

    pub(super) fn detect(&self) -> Detect {
        self.detect_with(config())
    }

    pub(super) fn detect_with(&self, config: Config) -> Detect {
        let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
        let config = Config { bundles: self.folder.path().to_owned(), allow_unsigned: true, ..config };
        Detect::with_manifest(config, &scope, &manifest(), FIRST).unwrap()
    }

    pub(super) fn say(&self, row: i64, action: BundleAction) -> Event {
        Event::Say(row, ControlKind::Bundle { digest: self.digest.clone(), action })
    }

    pub(super) fn back(&self, row: i64) -> Event {
        Event::Say(row, ControlKind::Bundle { digest: FIRST.into(), action: Activate })
    }

    fn messages(&self, source: &Source, rows: usize) -> Vec<Message> {
        self.messages_of(source.items(), rows)
    }

    /// As embed cuts them: what stands behind a control about bundles is another message.
    pub(super) fn messages_of(&self, items: Vec<Item>, rows: usize) -> Vec<Message> {
        let (mut active, mut shadow) = (FIRST.to_owned(), None::<String>);
        let (mut all, mut part) = (Vec::new(), Vec::new());
        let mut items = items.into_iter().peekable();
        while let Some(item) = items.next() {
            let switch = match &item {
                Item::Control(Control { kind: ControlKind::Bundle { digest, action }, .. }) => {
                    Some((digest.clone(), *action))
                }
                _ => None,
            };
            part.push(item);
            if switch.is_some() || part.len() == rows || items.peek().is_none() {
                all.push(message(&part, &active, shadow.as_deref()));
                part.clear();
            }
            match switch {
                Some((digest, Begin)) => shadow = Some(digest),
                Some((digest, Activate)) => shadow = Some(std::mem::replace(&mut active, digest)),
                Some((_, Retire)) => shadow = None,
                None => {}
            }
        }
        all
    }

    fn run(&self, source: &Source, rows: usize) -> Told {
        run_messages(&mut self.detect(), self.messages(source, rows), None)
    }
}

/// What happens to alerts: bundle, phase, row, alert, number.
fn story(further: &Further, told: &Told) -> Vec<(&'static str, Phase, i64, String, String)> {
    let (events, phases) = (told.events(), told.phases());
    let of = |event: &CloudEvent| if event.data.bundle == further.digest { "new" } else { "old" };
    let line = |(event, (phase, row)): (CloudEvent, (Phase, i64))| (of(&event), phase, row, event.data.alert, event.id);
    events.into_iter().zip(phases).map(line).collect()
}

#[test]
fn what_runs_in_the_shadow_changes_nothing_that_is_told() {
    let further = Further::new();
    let source = || Source::new("d", 2, 1_200).with(Event::Add(950..990, 0, 6.0));
    let alone = further.run(&source(), 500);
    let beside = further.run(&source().with(further.say(450, Begin)), 500);
    assert!(alone.alerts.len() >= 2);
    assert_eq!((beside.rows, beside.alerts), (alone.rows, alone.alerts));
    // It sees the same once it has had rows of its own to learn from; both channels' rows count, before and after a restart.
    let open = || further.detect();
    for reload in [None, Some(&open as &dyn Fn() -> Detect)] {
        let mut stage = further.detect();
        run_messages(&mut stage, further.messages(&source().with(further.say(450, Begin)), 100), reload);
        let rows = 2 * (750 - COMMISSIONING_ROWS as u64);
        let report = ShadowReport {
            bundle: further.digest.clone(),
            series: 2,
            warm: 2,
            rows,
            opened: 1,
            told: 1,
            was_active: false,
        };
        assert_eq!(stage.panel.report(), Some(report));
    }
}

#[test]
fn what_is_open_is_closed_by_the_old_one_and_opened_by_the_new_one_and_back() {
    let further = Further::new();
    let source = Source::new("d", 2, 1_200)
        .with(Event::Add(1_000..1_060, 0, 6.0))
        .with(further.say(450, Begin))
        .with(further.say(1_010, Activate))
        .with(further.back(1_030));
    let told = further.run(&source, 500);
    let story = story(&further, &told);
    let plain: Vec<_> = story.iter().map(|(bundle, phase, row, ..)| (*bundle, *phase, *row)).collect();
    let opened = plain[0].2;
    assert!((1_000..1_004).contains(&opened), "{plain:?}");
    let updates = |phase: &Phase| *phase == Phase::Updated;
    let ends: Vec<_> = plain.iter().copied().filter(|(_, phase, _)| !updates(phase)).collect();
    assert_eq!(
        ends[..5],
        [
            ("old", Phase::Opened, opened),
            ("old", Phase::Closed, 1_009),
            ("new", Phase::Opened, 1_010),
            ("new", Phase::Closed, 1_029),
            ("old", Phase::Opened, 1_030),
        ]
    );
    assert_eq!((ends.len(), ends[5].0, ends[5].1), (6, "old", Phase::Closed), "{ends:?}");
    // One alert of each, no event of which comes twice.
    let alerts: std::collections::BTreeSet<_> = story.iter().map(|(bundle, _, _, alert, _)| (bundle, alert)).collect();
    let events: std::collections::BTreeSet<_> = story.iter().map(|(.., id)| id).collect();
    assert_eq!((alerts.len(), events.len()), (2, story.len()));
    // Batches and restarts change nothing, though records come back by place.
    let open = || further.detect();
    for rows in [7, 97] {
        let messages = further.messages(&source, rows);
        let again = run_messages(&mut further.detect(), messages, (rows == 97).then_some(&open));
        assert_eq!((&again.rows, &again.alerts), (&told.rows, &told.alerts));
    }
}

#[test]
fn the_stage_contract_holds_across_switches() {
    let further = Further::new();
    let source = Source::new("d", 2, 560)
        .with(Event::Add(520..540, 0, 9.0))
        .with(further.say(410, Begin))
        .with(further.say(525, Activate))
        .with(further.back(530))
        .with(further.say(550, Retire));
    assert_stage_contract(|| further.detect(), &further.messages(&source, 97), 0..4);
}

#[test]
fn what_a_judge_told_is_closed_also_if_it_goes_before_its_devices_next_row() {
    let further = Further::new();
    let gone = |row| Event::Say(row, ControlKind::Bundle { digest: FIRST.into(), action: Retire });
    let source = Source::new("d", 2, 1_200)
        .with(Event::Add(1_000..1_060, 0, 6.0))
        .with(further.say(450, Begin))
        .with(further.say(1_010, Activate))
        .with(gone(1_010));
    let told = further.run(&source, 500);
    let story = story(&further, &told);
    let ends: Vec<_> = story.iter().map(|(bundle, phase, row, ..)| (*bundle, *phase, *row)).collect();
    assert!(ends.contains(&("old", Phase::Closed, 1_009)) && ends.contains(&("new", Phase::Opened, 1_010)), "{ends:?}");
    let open = || further.detect();
    let again = run_messages(&mut further.detect(), further.messages(&source, 97), Some(&open));
    assert_eq!(again.alerts, told.alerts);
}

#[test]
fn who_judged_before_is_known_as_warm_and_as_one_to_go_back_to() {
    let further = Further::new();
    let source = Source::new("d", 2, 1_000).with(further.say(450, Begin)).with(further.say(900, Activate));
    let open = || further.detect();
    let mut stage = further.detect();
    run_messages(&mut stage, further.messages(&source, 97), Some(&open));
    let report = stage.panel.report().unwrap();
    assert_eq!((report.bundle.as_str(), report.warm, report.series, report.was_active), (FIRST, 2, 2, true));
}

#[test]
fn an_output_ends_before_rows_of_another_bundle_and_rows_wait_for_one_that_is_away() {
    let further = Further::new();
    let items = Source::new("d", 1, 460).items();
    let mut stage = further.detect();
    let (first, other) = (message(&items[..430], FIRST, None), message(&items[430..], &further.digest, None));
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    let mut process = |message: &Message, out: &mut Outbox<ScoresBuilder>| {
        let message = incoming(message);
        let input = stage.decode(&message).unwrap();
        stage.process(&message, &input, 0..Detect::rows(&input), out)
    };
    assert_eq!(process(&first, &mut out), 430);
    // Without a control between: its state was cleared, say.
    assert_eq!((process(&other, &mut out), out.is_ended()), (0, true));
    out.clear();
    let (place, hidden) = (further.folder.path().join(&further.digest), further.folder.path().join("hidden"));
    std::fs::rename(&place, &hidden).unwrap();
    process(&other, &mut out);
    let reason = out.stopped().unwrap();
    assert!(reason.contains(&further.digest) && reason.contains("bring it back"), "{reason}");
    std::fs::rename(&hidden, &place).unwrap();
    assert_eq!((process(&other, &mut out), out.stopped()), (items.len() - 430, None));
}

#[test]
fn the_scores_are_the_active_ones_and_name_it() {
    let further = Further::new();
    let source = Source::new("d", 1, 600).with(further.say(450, Begin)).with(further.say(500, Activate));
    let mut stage = further.detect();
    let mut bundles = Vec::new();
    for message in further.messages(&source, 1_000) {
        let message = incoming(&message);
        let input = stage.decode(&message).unwrap();
        let mut out = Outbox::new(stage.outputs(), usize::MAX);
        stage.process(&message, &input, 0..Detect::rows(&input), &mut out);
        bundles.push(Scores::decode(&out.main[0].encode()).unwrap().bundle);
    }
    assert_eq!(bundles, [FIRST, FIRST, &further.digest]);
    assert_eq!(stage.bundles(), [("active", further.digest.clone()), ("shadow", FIRST.to_owned())]);
}

#[test]
fn what_is_called_normal_is_normal_for_both() {
    let further = Further::new();
    let shift = || Source::new("d", 2, 1_200).with(Event::Add(1_000..1_060, 0, 6.0)).with(further.say(450, Begin));
    let alert = further.run(&shift(), 500).events()[0].data.alert.clone();
    let normal = ControlKind::Label { device: "d".into(), alert, label: "normal".into() };
    let then = |source: Source| source.with(further.say(1_040, Activate));
    let of_new = |source: &Source| {
        let told = further.run(source, 500);
        let opened = |(bundle, phase, ..): &(_, Phase, _, _, _)| *bundle == "new" && *phase == Phase::Opened;
        story(&further, &told).iter().filter(|line| opened(line)).count()
    };
    assert_eq!(of_new(&then(shift())), 1);
    // The new one saw the same episode from the shadow, and it ended there too.
    assert_eq!(of_new(&then(shift().with(Event::Say(1_030, normal)))), 0);
}

#[test]
fn what_is_retired_leaves_no_record_and_its_place_is_free_again() {
    let further = Further::new();
    let source = Source::new("d", 2, 700)
        .with(further.say(410, Begin))
        .with(further.say(500, Retire))
        .with(further.say(550, Begin))
        .with(further.say(600, Activate))
        .with(Event::Say(650, ControlKind::Bundle { digest: FIRST.into(), action: Retire }));
    let (mut stage, mut records) = (further.detect(), Records::new());
    for message in further.messages(&source, 25) {
        let message = incoming(&message);
        let input = stage.decode(&message).unwrap();
        stage.process(&message, &input, 0..Detect::rows(&input), &mut Outbox::new(stage.outputs(), usize::MAX));
        save(&mut stage, &mut records);
    }
    let first = |key: &&Vec<u8>| !matches!(key[0], b'~' | b'a' | b't');
    assert_eq!(records.keys().filter(first).count(), 0, "the first bundle's place is empty");
    let again = {
        let mut stage = further.detect();
        records.iter().for_each(|(key, value)| stage.load(key, value).unwrap());
        stage
    };
    assert_eq!(again.panel.active().plan.digest, further.digest);
    assert_eq!(again.panel.active().registry.len(), 2);
}

#[test]
fn maintenance_that_was_said_before_holds_for_who_joins() {
    let further = Further::new();
    let maintain = |row, on| Event::Say(row, ControlKind::Maintenance { device: "d".into(), on, until: None });
    let source = Source::new("d", 2, 1_200)
        .with(maintain(440, true))
        .with(further.say(450, Begin))
        .with(further.say(900, Activate))
        .with(Event::Add(1_000..1_060, 0, 6.0));
    assert_eq!(further.run(&source, 500).alerts, Vec::<String>::new());
}

#[test]
fn a_bundle_that_is_not_there_is_refused_and_a_state_made_with_it_says_so() {
    let further = Further::new();
    let source = Source::new("d", 1, 460).with(further.say(450, Begin));
    let messages = further.messages(&source, 1_000);
    let elsewhere = || {
        let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
        Detect::with_manifest(config(), &scope, &manifest(), FIRST).unwrap()
    };
    let refused = elsewhere().decode(&incoming(messages.last().unwrap())).unwrap_err();
    assert_eq!(refused.0, Reason::BundleMismatch);
    assert!(refused.1.contains(&further.digest), "{}", refused.1);
    let (mut stage, mut records) = (further.detect(), Records::new());
    run_messages(&mut stage, messages, None);
    save(&mut stage, &mut records);
    let error = elsewhere().load(b"a", &records[b"a".as_slice()]).unwrap_err().to_string();
    assert!(error.contains(&further.digest) && error.contains("bring it back"), "{error}");
}
