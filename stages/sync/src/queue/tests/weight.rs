//! What an entry costs on disk.

use super::*;

/// A delta as the default bundle makes it: 16 components of int8, a device's name of eleven letters.
fn usual(n: u64) -> wire::Entries {
    let mut entry = delta("press-line4/temperature", &[7; 32], 1_000_000 + n);
    let Some(What::Delta(delta)) = &mut entry.entries[0].what else { unreachable!("it was made with one") };
    delta.action = wire::Action::Insert.into();
    (delta.row, delta.end, delta.span, delta.filled) = (3000, 1_760_000_000_000_000_000, 255_000_000_000, 256);
    (delta.flags, delta.score, delta.scale, delta.codes) = (8, 0.2, 0.01, wire::Codes::Int8.into());
    delta.vector = vec![100u8; 16].into();
    entry
}

#[test]
fn the_file_is_within_what_entries_are_said_to_weigh() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    for round in 0..100u64 {
        commit(&queue, |write| {
            (0..200).for_each(|n| _ = write.push(Class::Deltas, usual(200 * round + n)).unwrap());
        });
    }
    let depth = queue.depth(Class::Deltas).unwrap();
    let txn = queue.store.read().unwrap();
    let lane = queue.store.lanes[3];
    let on_disk = lane.entries.stat(&txn).unwrap().non_free_page_size() as u64;
    println!(
        "a delta: {} B of record and {} B on disk; file {} B for {} entries",
        depth.bytes / depth.entries - 24,
        on_disk / depth.entries,
        queue.file_bytes(),
        depth.entries
    );
    assert_eq!(depth.entries, 20_000);
    assert!(on_disk <= depth.bytes, "{on_disk} of {}", depth.bytes);
}
