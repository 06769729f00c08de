//! What an entry costs on disk.

use super::*;

/// A delta as the default bundle makes it: 16 components, a device's name of eleven letters.
fn window(n: u64, codes: wire::Codes) -> wire::Entries {
    let mut entry = delta("press-line4/temperature", &[7; 32], 1_000_000 + n);
    let Some(What::Delta(delta)) = &mut entry.entries[0].what else { unreachable!("it was made with one") };
    delta.action = wire::Action::Insert.into();
    (delta.row, delta.end, delta.span, delta.filled) = (3000, 1_760_000_000_000_000_000, 255_000_000_000, 256);
    (delta.flags, delta.score, delta.scale, delta.codes) = (8, 0.2, 0.01, codes.into());
    delta.vector = vec![100u8; if codes == wire::Codes::Pq { 8 } else { 16 }].into();
    entry
}

fn summary() -> wire::Entries {
    let quantiles = Bytes::from_static(&[0, 30, 60, 90, 120]);
    let device = "press-line4".to_owned();
    let summary = wire::Summary { device, end_s: 1_760_000_000, period_s: 300, rows: 900, quantiles };
    wire::Entries { entries: vec![wire::Entry { id: 0, what: Some(What::Summary(summary)) }], ..Default::default() }
}

fn readings() -> wire::Entries {
    let readings = wire::Readings {
        series: 1,
        purpose: "bearing model".into(),
        alert: String::new(),
        times: (0..256).map(|n| if n == 0 { 1_760_000_000_000_000_000 } else { 1_000_000_000 }).collect(),
        values: vec![20.5; 256],
    };
    let entries = vec![wire::Entry { id: 0, what: Some(What::Readings(readings)) }];
    wire::Entries { entries, series: vec!["press-line4/temperature".into()], bundles: vec![] }
}

#[test]
fn the_file_is_within_what_entries_are_said_to_weigh() {
    for (name, class, count, entry) in [
        ("a delta in a byte a component", Class::Deltas, 20_000, window(0, wire::Codes::Int8)),
        ("a delta by a codebook", Class::Deltas, 20_000, window(0, wire::Codes::Pq)),
        ("a summary", Class::Summaries, 20_000, summary()),
        ("an alert of 900 B", Class::Alerts, 5_000, alert(&"x".repeat(900))),
        ("256 readings", Class::Readings, 2_000, readings()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path());
        for _ in 0..count / 200 {
            commit(&queue, |write| (0..200).for_each(|_| _ = write.push(class, entry.clone()).unwrap()));
        }
        let depth = queue.depth(class).unwrap();
        let (_, lane) = queue.store.lane(class).unwrap();
        let stat = lane.entries.stat(&queue.store.read().unwrap()).unwrap();
        let on_disk = stat.non_free_page_size() as u64;
        println!("{name}: {} B of record, {} B on disk", depth.bytes / count - 24, on_disk / count);
        assert_eq!(depth.entries, count);
        // Few records of near a kilobyte and more fit into a page, so that some of it stays empty.
        let spare = if depth.bytes / count > 900 { depth.bytes / 3 } else { 0 };
        assert!(on_disk <= depth.bytes + spare, "{name}: {on_disk} of {}", depth.bytes);
    }
}
