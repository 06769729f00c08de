//! Series of bursts: judged by their spectra too, and paid for by no other series.

use super::*;

fn machine(rows: i64) -> Source {
    Source::new("m", 2, rows).of_bursts()
}

fn records_of(source: &Source) -> Records {
    let (mut stage, mut records) = (detect(), Records::new());
    run(&mut stage, &source.items(), 1000, false);
    save(&mut stage, &mut records);
    records
}

fn bytes(records: &Records) -> usize {
    records.iter().map(|(key, value)| key.len() + value.len()).sum()
}

#[test]
fn a_change_of_shape_is_an_alert_by_the_spectrum_and_without_it_there_is_none() {
    let change = Event::Shape(700..720, 1, 2.5);
    let found = told(&machine(900).with(change.clone()));
    assert_eq!(found.opened().len(), 1, "{:?}", found.phases());
    assert!((700..703).contains(&found.opened()[0]), "{:?}", found.phases());
    let first = &found.events()[0].data;
    assert_eq!((first.channels[0].name.as_str(), first.heads[0].name.as_str()), ("c1", "spectrum"));
    assert!(told(&machine(900)).alerts.is_empty());
    assert!(told(&Source::new("m", 2, 900).with(change)).alerts.is_empty());
}

#[test]
fn neither_cuts_nor_restarts_change_what_is_told() {
    let items = machine(800).with(Event::Shape(600..640, 0, 2.5)).with(Event::Add(700..703, 1, 8.0)).items();
    let whole = run(&mut detect(), &items, 100_000, false);
    assert!(whole.alerts.len() > 2);
    for (rows, reload) in [(1, false), (7, true), (613, true)] {
        let cut = run(&mut detect(), &items, rows, reload);
        let at = whole.rows.iter().zip(&cut.rows).position(|(a, b)| a != b);
        assert!(cut == whole, "{rows} rows a message, reload {reload}: first difference at {at:?}");
    }
}

#[test]
fn holds_to_the_stage_contract() {
    let mut items = machine(470).with(Event::Shape(440..460, 0, 3.0)).items();
    items.extend(Source::new("d", 1, 470).items());
    assert_stage_contract(detect, &messages(&items, 97), 0..3);
}

#[test]
fn a_series_without_bursts_keeps_not_a_byte_for_them() {
    let source = Source::new("d", 3, 900).with(Event::Add(880..900, 0, 6.0));
    let (with, mut manifest) = (records_of(&source), manifest());
    manifest.heads.retain(|head| head.input == HeadInput::Window);
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let mut stage = Detect::with_manifest(config(), &scope, &manifest, DIGEST).unwrap();
    let mut without = Records::new();
    run(&mut stage, &source.items(), 1000, false);
    save(&mut stage, &mut without);
    assert!(with == without, "{} bytes with, {} without", bytes(&with), bytes(&without));
}

#[test]
fn a_series_of_bursts_stays_within_its_bound() {
    let mut source = machine(900);
    for channel in 0..2 {
        source.events.push(Event::Shape(880..900, channel, 3.0));
    }
    let (plain, bursts) = (bytes(&records_of(&Source::new("m", 2, 900))) / 2, bytes(&records_of(&source)) / 2);
    // What is left is embed's scaling of spectra.
    let most = plain + eddy_runtime::bundle::BURST_STATE_BYTES_MAX as usize - 256;
    assert!((plain + 500..=most).contains(&bursts), "{bursts} bytes, {plain} without bursts");
}

#[test]
fn wear_that_grows_slowly_does_not_become_ordinary_on_the_way_and_what_persists_does() {
    // A tenth of the noise more every ten rows.
    let mut wear = machine(1300);
    wear.events.extend((0..90).map(|step| Event::Shape(400 + 10 * step..1300, 0, 0.03)));
    let found = told(&wear);
    assert_eq!(found.opened().len(), 1, "{:?}", found.phases());
    assert_eq!(found.events()[0].data.heads[0].name, "spectrum");
    let phases = told(&machine(1400).with(Event::Shape(600..1400, 0, 2.5))).phases();
    assert_eq!(phases[0], (Phase::Opened, 600), "{phases:?}");
    assert!(matches!(phases.last(), Some((Phase::Closed, _))), "{phases:?}");
}

#[test]
fn a_shape_that_is_called_normal_does_not_alert_again() {
    let twice = || machine(1000).with(Event::Shape(600..606, 0, 3.0)).with(Event::Shape(800..806, 0, 3.0));
    let first = told(&twice());
    assert_eq!(first.opened().len(), 2, "{:?}", first.phases());
    let (alert, device) = (first.events()[0].data.alert.clone(), "m".to_owned());
    let label = Event::Say(700, ControlKind::Label { device, alert, label: "normal".into() });
    assert_eq!(told(&twice().with(label)).opened(), first.opened()[..1]);
}

#[test]
fn bursts_that_begin_late_are_taken_in_and_a_batch_of_other_heads_is_refused() {
    let stage = detect();
    let encode = |layout: &[HeadLayout]| {
        let mut builder = EmbeddingsBuilder::new(DIGEST, layout);
        builder.push("d/t", 1, 0, 1, true, 0);
        builder.push_optional();
        layout.iter().enumerate().for_each(|(at, head)| builder.extend_head(at, &vec![0.0; head.dimensions]));
        let message =
            Message { stream: "EMBEDDINGS", subject: "embeddings.site.0".into(), payload: builder.encode().into() };
        stage.decode(&incoming(&message)).map(drop).map_err(|(reason, _)| reason)
    };
    assert_eq!((encode(&heads()), encode(&heads()[..4])), (Ok(()), Ok(())));
    let mut another = heads();
    another[4].dimensions = 31;
    assert_eq!(encode(&another), Err(Reason::BundleMismatch));
    let mut moved = heads();
    moved.swap(3, 4);
    assert_eq!(encode(&moved), Err(Reason::BundleMismatch));
    // Rows of a live series that has had none: nothing to compare them with yet, and nothing stops.
    let mut items = Source::new("m", 1, 500).items();
    items.extend(machine(600).items().into_iter().filter(|item| match item {
        Item::Row { series, time, .. } => series == "m/c0" && *time >= 500 * HOP,
        Item::Control(_) => false,
    }));
    let whole = run(&mut detect(), &items, 1000, false);
    assert!(whole.alerts.is_empty() && run(&mut detect(), &items, 33, true) == whole);
}
