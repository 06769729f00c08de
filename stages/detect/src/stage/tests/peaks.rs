//! Scores as they are told: one event is one peak, and between peaks stands a level. And devices of one channel, which keep
//! nothing for others.

use super::*;
use crate::{device::Device, series::Series};

/// Row number and score of the rows of channel `c0` from row `from` on.
fn scores(told: &Told, from: i64) -> Vec<(i64, f32)> {
    let of_channel = told.rows.iter().filter(|row| row.0 == "d/c0" && row.1 >= from * HOP);
    of_channel.map(|row| (row.1 / HOP, f32::from_bits(row.3))).collect()
}

#[test]
fn what_follows_a_peak_is_a_level_until_it_is_exceeded_or_old() {
    let mut source = Source::new("d", 1, 1_000);
    for (row, size) in [(600, 6.0), (620, 5.0), (640, 9.0), (800, 5.0)] {
        source.events.push(Event::Add(row..row + 1, 0, size));
    }
    let told = told(&source);
    let peaks: Vec<i64> =
        scores(&told, 600).iter().filter(|(row, score)| *row <= 900 && *score > 0.2).map(|(row, _)| *row).collect();
    assert_eq!(peaks, [600, 640, 800], "620 lies in the wake of 600, and 800 comes 160 rows after 640");
    let (mut every, mut defaults) = (config(), config());
    (every.peak_rows, defaults.peak_rows) = (0, 100);
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let of = |config: Config| {
        run(&mut Detect::with_manifest(config, &scope, &manifest(), DIGEST).unwrap(), &source.items(), 500, false)
    };
    let (whole, peaks_only) = (of(every), of(defaults));
    assert!(scores(&whole, 620).iter().any(|(row, score)| *row == 620 && *score > 0.2), "0 rows: every score");
    // The tail probabilities and alerts know nothing of it.
    assert_eq!(whole.alerts, peaks_only.alerts);
    assert!(whole.rows.iter().zip(&peaks_only.rows).all(|(a, b)| a.4 == b.4));
}

#[test]
fn a_device_of_one_channel_stops_collecting_and_begins_again_when_another_one_comes() {
    let alone = Source::new("d", 1, 850).items();
    let (mut stage, mut records) = (detect(), Records::new());
    run(&mut stage, &alone, 500, false);
    save(&mut stage, &mut records);
    let joint = records.iter().find(|(key, _)| key.ends_with(b"\0j")).map(|(_, value)| value.len());
    assert_eq!(joint, Some(6), "a count of channels and one of buffers");
    // The second channel is commissioned from row 900 on, while the first goes on.
    let late = |item: Item| match item {
        Item::Row { series, time, filled, vectors, .. } if series == "d/c1" => (time >= 900 * HOP)
            .then_some(Item::Row { series, time, filled, commissioning: time < 1_300 * HOP, vectors }),
        item => Some(item),
    };
    let both: Vec<Item> = Source::new("d", 2, 1_800).items().into_iter().filter_map(late).collect();
    let whole = run(&mut detect(), &both, 500, false);
    let first_round = whole.rows.iter().find(|row| row.0 == "d/*").map(|row| row.1 / HOP);
    assert!(first_round.is_some_and(|row| (1_300..1_400).contains(&row)), "{first_round:?}");
    assert!(run(&mut detect(), &both, 7, true) == whole, "restarts change nothing");
}

#[test]
fn rows_in_the_upper_twentieth_of_their_past_are_counted() {
    let mut source = Source::new("d", 1, 1_000);
    source.events.push(Event::Add(600..605, 0, 8.0));
    let told = told(&source);
    let live: Vec<f64> =
        told.rows.iter().filter(|row| row.2 & flags::COMMISSIONING == 0).map(|row| f64::from_bits(row.4)).collect();
    let upper = live.iter().filter(|tail| **tail <= 0.05).count() as u64;
    assert_eq!((told.decisions["judged"], told.decisions["upper_twentieth"]), (live.len() as u64, upper));
    assert!(live.len() == 600 && (1..200).contains(&upper), "{upper}");
}

#[test]
fn a_channel_that_fell_silent_does_not_speak_for_its_device() {
    let plan = Plan::new(&manifest(), DIGEST).unwrap();
    let mut device = Device::new("d");
    for (channel, told, newest) in [("c0", 0.5, 100), ("c1", 9.0, 90)] {
        let mut series = Series::new(&plan, &format!("d/{channel}"), channel);
        (series.live, series.hop, series.newest, series.told.last) = (true, HOP, newest * HOP, told);
        device.channels.push(series);
    }
    assert_eq!(device.loudest(0, 0.5, 92 * HOP, &config()), 9.0);
    assert_eq!(device.loudest(0, 0.5, 100 * HOP, &config()), 0.5, "ten rows without a word");
    assert_eq!(device.loudest(1, 0.0, 100 * HOP, &config()), 0.5);
    device.channels[0].live = false;
    assert_eq!(device.loudest(1, 0.0, 100 * HOP, &config()), 0.0, "commissioning");
}
