//! Which windows are told with their vector.

use super::*;

fn telling(tell_windows: TellWindows) -> Detect {
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    Detect::with_manifest(Config { tell_windows, ..config() }, &scope, &manifest(), DIGEST).unwrap()
}

#[test]
fn all_windows_are_told_without_a_change_to_any_row_or_alert() {
    let items = Source::new("d", 3, 700).with(Event::Add(500..520, 1, 4.0)).items();
    let kept = run(&mut telling(TellWindows::Kept), &items, 500, false);
    let all = run(&mut telling(TellWindows::All), &items, 500, false);
    assert!(!kept.alerts.is_empty());
    assert_eq!((&kept.alerts, &kept.decisions), (&all.alerts, &all.decisions));
    let without_vector = |told: &Told| -> Vec<_> {
        told.rows
            .iter()
            .map(|(series, time, marks, score, tail, _)| (series.clone(), *time, *marks, *score, *tail))
            .collect()
    };
    assert_eq!(without_vector(&kept), without_vector(&all));
    // Windows are whole from the head's `min_rows`, 8, on; the device's joint rows are no windows.
    let is_whole = |row: &(String, i64, u16, u32, u64, bool)| row.2 & flags::JOINT == 0 && row.1 >= 7 * HOP;
    assert!(all.rows.iter().all(|row| row.5 == is_whole(row)), "every whole window, and no other");
    let told = |told: &Told| told.rows.iter().filter(|row| row.5).count();
    assert_eq!(told(&all), 3 * (700 - 7));
    assert!(told(&kept) * 2 < told(&all), "{}", told(&kept));
    for (rows, reload) in [(1, false), (13, true)] {
        let mut stage = telling(TellWindows::All);
        assert!(rows_of(&mut stage, &items, rows, reload) == all, "{rows} rows a message, reload {reload}");
    }
}

#[test]
fn each_channel_tells_two_windows_of_an_episode_and_no_other_row_is_marked() {
    let items = Source::new("d", 3, 700).with(Event::Add(500..520, 1, 4.0)).items();
    let told = run(&mut detect(), &items, 500, false);
    let opened = told.opened();
    assert!(opened.contains(&500), "{opened:?}");
    let is_marked = |row: &&(String, i64, u16, u32, u64, bool)| row.2 & flags::EPISODE != 0;
    let marked: Vec<(&str, i64)> =
        told.rows.iter().filter(is_marked).map(|row| (row.0.as_str(), row.1 / HOP)).collect();
    let at = |time: i64| marked.iter().filter(|row| row.1 == time).count();
    assert_eq!((at(504), at(508)), (3, 3), "{marked:?}");
    assert!(marked.iter().all(|row| opened.iter().any(|opened| [4, 8].contains(&(row.1 - opened)))), "{marked:?}");
    assert!(told.rows.iter().filter(is_marked).all(|row| row.5), "with their vectors");
}

/// As [`run`]; a stage that is loaded tells all windows too.
fn rows_of(stage: &mut Detect, items: &[Item], rows: usize, reload: bool) -> Told {
    if !reload {
        return run(stage, items, rows, false);
    }
    let (mut told, mut records) = (Told::default(), Records::new());
    for part in items.chunks(rows) {
        save(stage, &mut records);
        *stage = telling(TellWindows::All);
        records.iter().for_each(|(key, value)| stage.load(key, value).unwrap());
        let part = run(stage, part, rows, false);
        told.rows.extend(part.rows);
        told.alerts.extend(part.alerts);
        part.decisions.iter().for_each(|(kind, n)| *told.decisions.entry(kind).or_default() += n);
    }
    told
}
