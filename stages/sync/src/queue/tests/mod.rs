//! The queue against what it says of itself: tests by what broke, or would.

mod killed;
mod model;
mod weight;

use std::path::Path;

use bytes::Bytes;
use eddy_runtime::position::{Place, Position};
use eddy_schemas::sync::{
    Class,
    wire::{self, entry::What},
};

use super::*;

const BOUNDS: Bounds = Bounds { bytes: [1 << 30; 7], entries_max: 1 << 30, map_bytes: 64 << 20 };

fn open(folder: &Path) -> Queue {
    Queue::open(folder, &BOUNDS).unwrap()
}

fn at(sequence: u64) -> Position {
    Position([("S".to_owned(), Place::whole(1, sequence))].into())
}

fn alert(text: &str) -> wire::Entries {
    let what = Some(What::Alert(Bytes::copy_from_slice(text.as_bytes())));
    wire::Entries { entries: vec![wire::Entry { id: 0, what }], ..Default::default() }
}

fn delta(series: &str, bundle: &[u8], sequence: u64) -> wire::Entries {
    let delta = wire::VectorDelta { series: 1, bundle: 1, sequence, ..Default::default() };
    wire::Entries {
        entries: vec![wire::Entry { id: 0, what: Some(What::Delta(delta)) }],
        series: vec![series.to_owned()],
        bundles: vec![Bytes::copy_from_slice(bundle)],
    }
}

fn source_gap(count: u64) -> wire::Gap {
    let cause = wire::Cause::Source.into();
    wire::Gap { count, cause, detail: format!("{count} of S"), ..Default::default() }
}

/// Adds alerts, in one commit each.
fn add(queue: &Queue, texts: &[&str]) {
    for text in texts {
        commit(queue, |write| _ = write.push(Class::Alerts, alert(text)).unwrap());
    }
}

fn commit(queue: &Queue, fill: impl FnOnce(&mut Write<'_>)) {
    let before = queue.position("r").unwrap();
    let next = before.as_ref().and_then(|position| position.place("S")).map_or(1, |place| place.sequence + 1);
    let mut write = queue.write().unwrap();
    fill(&mut write);
    write.commit("r", before.as_ref(), &at(next)).unwrap();
}

fn all(queue: &Queue, class: Class, after: u64) -> Slice {
    queue.next(class, after, usize::MAX, usize::MAX).unwrap()
}

fn texts(slice: &Slice) -> Vec<(u64, String)> {
    let text = |entries: &wire::Entries| match &entries.entries[0].what {
        Some(What::Alert(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        what => panic!("{what:?}"),
    };
    slice.entries.iter().map(|(number, entries)| (*number, text(entries))).collect()
}

/// Of each gap its numbers, its count and its cause.
fn gaps(slice: &Slice) -> Vec<(u64, u64, u64, wire::Cause)> {
    slice.gaps.iter().map(|gap| (gap.first, gap.last, gap.count, gap.cause())).collect()
}

#[test]
fn entries_come_back_with_their_numbers_names_and_bundles_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let chain = queue.chain();
    let mut added = queue.added();
    commit(&queue, |write| {
        for sequence in 1..=4 {
            let bundle = [b"one".as_slice(), b"another"][sequence as usize % 2];
            assert_eq!(write.push(Class::Deltas, delta("d/t", bundle, sequence)).unwrap(), sequence);
        }
        assert_eq!(write.push(Class::Alerts, alert("a")).unwrap(), 1, "a class has its own numbers");
    });
    assert!(added.has_changed().unwrap());
    added.mark_unchanged();
    queue.set_note("downlink", b"7").unwrap();
    queue.establish().unwrap();
    drop(queue);
    let queue = open(folder.path());
    assert_eq!((queue.chain(), queue.is_established().unwrap()), (chain, true));
    assert_eq!((queue.note("downlink").unwrap(), queue.note("x").unwrap()), (Some(b"7".to_vec()), None));
    assert_eq!((queue.position("r").unwrap(), queue.position("x").unwrap()), (Some(at(1)), None));
    let slice = all(&queue, Class::Deltas, 1);
    assert_eq!((slice.first, slice.last, slice.entries.len()), (2, 4, 3));
    let mut expected = delta("d/t", b"another", 3);
    expected.entries[0].id = 3;
    assert_eq!(slice.entries[1], (3, expected));
    // A chain is of its folder.
    assert_ne!(open(tempfile::tempdir().unwrap().path()).chain(), chain);
}

#[test]
fn a_slice_keeps_its_bounds_but_for_its_first_number() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    add(&queue, &["1", "2"]);
    commit(&queue, |write| _ = write.gap(Class::Alerts, source_gap(9)).unwrap());
    add(&queue, &["4", "5"]);
    let run = |after, bytes, entries| queue.next(Class::Alerts, after, bytes, entries).unwrap();
    assert_eq!((run(0, 1, 9).last, run(0, 1000, 2).last, run(0, 1000, 3).last), (1, 2, 3));
    assert_eq!((gaps(&run(2, 1, 1)), run(2, 1, 1).last), (vec![(3, 3, 9, wire::Cause::Source)], 3));
    assert!(run(5, 100, 100).is_empty() && run(5, 100, 100).first == 6);
    assert_eq!(texts(&run(2, 1000, 1000)), [(4, "4".into()), (5, "5".into())]);
}

#[test]
fn what_the_region_has_is_removed_once_and_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    add(&queue, &["1", "2", "3"]);
    queue.done(Class::Alerts, 2).unwrap();
    queue.done(Class::Alerts, 2).unwrap();
    queue.done(Class::Alerts, 1).unwrap();
    let depth = queue.depth(Class::Alerts).unwrap();
    assert_eq!((depth.entries, depth.oldest, depth.next), (1, 3, 4));
    queue.done(Class::Alerts, 3).unwrap();
    assert_eq!(queue.depth(Class::Alerts).unwrap(), Depth { oldest: 4, next: 4, ..Depth::default() });
    add(&queue, &["4"]);
    assert_eq!(texts(&all(&queue, Class::Alerts, 3)), [(4, "4".into())]);
    assert!(matches!(queue.done(Class::Alerts, 5), Err(QueueError::Behind { last: 5, next: 5, .. })));
    assert!(matches!(queue.next(Class::Alerts, 5, 9, 9), Err(QueueError::Behind { .. })));
    assert!(matches!(queue.next(Class::Alerts, 2, 9, 9), Err(QueueError::Gone { after: 2, done: 3, .. })));
}

#[test]
fn past_a_bound_the_oldest_go_and_are_one_gap_also_while_they_are_on_their_way() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(folder.path(), &Bounds { entries_max: 2, ..BOUNDS }).unwrap();
    add(&queue, &["1", "2"]);
    let sent = all(&queue, Class::Alerts, 0);
    assert_eq!((sent.first, sent.last), (1, 2));
    add(&queue, &["3", "4", "5"]);
    assert_eq!(gaps(&all(&queue, Class::Alerts, 0)), [(1, 3, 3, wire::Cause::Budget)]);
    // The sender goes on behind what it sent: of the gap it takes the rest.
    let slice = all(&queue, Class::Alerts, 2);
    assert_eq!(gaps(&slice), [(3, 3, 1, wire::Cause::Budget)]);
    assert_eq!(texts(&slice), [(4, "4".into()), (5, "5".into())]);
    queue.done(Class::Alerts, 2).unwrap();
    assert_eq!(gaps(&all(&queue, Class::Alerts, 2)), [(3, 3, 1, wire::Cause::Budget)]);
    // One that is gone before anything of its class was told is a gap too.
    add(&queue, &["6", "7", "8", "9"]);
    assert_eq!(gaps(&all(&queue, Class::Alerts, 2)), [(3, 7, 5, wire::Cause::Budget)]);
    queue.done(Class::Alerts, 9).unwrap();
    assert_eq!(queue.depth(Class::Alerts).unwrap(), Depth { oldest: 10, next: 10, ..Depth::default() });
}

#[test]
fn a_source_gap_is_told_as_it_is_and_the_budget_s_go_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(folder.path(), &Bounds { entries_max: 1, ..BOUNDS }).unwrap();
    add(&queue, &["1"]);
    commit(&queue, |write| _ = write.gap(Class::Alerts, source_gap(7)).unwrap());
    commit(&queue, |write| _ = write.gap(Class::Alerts, source_gap(8)).unwrap());
    add(&queue, &["4", "5", "6"]);
    let (budget, source) = (wire::Cause::Budget, wire::Cause::Source);
    let expected = [(1, 1, 1, budget), (2, 2, 7, source), (3, 3, 8, source), (4, 5, 2, budget)];
    assert_eq!(gaps(&all(&queue, Class::Alerts, 0)), expected);
}

#[test]
fn the_list_of_gaps_has_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let most = gaps::GAPS_MAX;
    commit(&queue, |write| {
        for number in 0..most + 3 {
            write.gap(Class::Alerts, source_gap(2)).unwrap();
            write.push(Class::Alerts, alert(&number.to_string())).unwrap();
        }
    });
    let slice = all(&queue, Class::Alerts, 0);
    assert_eq!((slice.first, slice.last), (1, 2 * (most + 3)));
    assert_eq!((slice.gaps.len() as u64, slice.entries.len() as u64), (most, most));
    // Four of the source and the three entries between them.
    assert_eq!(gaps(&slice)[0], (1, 7, 4 * 2 + 3, wire::Cause::Budget));
    assert!(slice.gaps[0].detail.starts_with("2 of S; 2 of S"), "{}", slice.gaps[0].detail);
    assert_eq!(queue.depth(Class::Alerts).unwrap().entries, most);
}

#[test]
fn an_entry_that_is_too_large_is_a_gap_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let large = "x".repeat(ENTRY_BYTES_MAX + 1);
    add(&queue, &[&large, "small"]);
    let slice = all(&queue, Class::Alerts, 0);
    assert_eq!(gaps(&slice), [(1, 1, 1, wire::Cause::Budget)]);
    assert!(slice.gaps[0].detail.contains("at most 524288"), "{}", slice.gaps[0].detail);
    assert_eq!(texts(&slice), [(2, "small".into())]);
    let mut write = queue.write().unwrap();
    for wrong in [wire::Entries::default(), wire::Entries { entries: vec![wire::Entry::default()], ..alert("") }] {
        assert!(matches!(write.push(Class::Alerts, wrong), Err(QueueError::Entry { .. })));
    }
    assert!(matches!(write.push(Class::Unspecified, alert("")), Err(QueueError::Entry { .. })));
}

#[test]
fn a_second_writer_is_fenced_and_what_it_wrote_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    add(&queue, &["1"]);
    let mut write = queue.write().unwrap();
    write.push(Class::Alerts, alert("2")).unwrap();
    let error = write.commit("r", None, &at(9)).unwrap_err();
    assert!(error.to_string().contains("r stands at S@1:1, but was left at nothing"), "{error}");
    assert_eq!(all(&queue, Class::Alerts, 0).last, 1);
    // Another reader has its own position; what collectors keep goes with the commit.
    let mut write = queue.write().unwrap();
    write.keep(b"s/a", Some(b"1")).unwrap();
    write.keep(b"t/b", Some(b"2")).unwrap();
    write.commit("other", None, &at(9)).unwrap();
    drop(queue.write().unwrap().keep(b"s/c", Some(b"3")));
    let mut kept = Vec::new();
    queue
        .kept(b"s/", |key, value| {
            kept.push((key.to_vec(), value.to_vec()));
            Ok::<_, QueueError>(())
        })
        .unwrap();
    assert_eq!(kept, [(b"a".to_vec(), b"1".to_vec())]);
}

#[test]
fn a_full_map_takes_no_more_and_has_room_again_once_the_region_took_some() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(folder.path(), &Bounds { map_bytes: 2 << 20, ..BOUNDS }).unwrap();
    let body = "x".repeat(10_000);
    let (mut taken, mut refused) = (0, None);
    while refused.is_none() {
        assert!(taken < 1000, "it is never full");
        let before = queue.position("r").unwrap();
        let mut write = queue.write().unwrap();
        let pushed = write.push(Class::Alerts, alert(&body));
        match pushed.and_then(|_| write.commit("r", before.as_ref(), &at(taken + 1))) {
            Ok(()) => taken += 1,
            Err(error) => refused = Some(error),
        }
    }
    let error = refused.unwrap();
    assert!(error.may_pass() && error.to_string().contains("raise sync.map_mb"), "{error}");
    assert!(taken > 100, "{taken}");
    // A reader that looks on keeps old pages from being used again, and all goes on nevertheless.
    for number in 1..=taken {
        queue.done(Class::Alerts, number).unwrap();
    }
    for round in 0..50 {
        add(&queue, &[&body, &body]);
        queue.done(Class::Alerts, taken + 2 * round + 2).unwrap();
    }
}

#[test]
fn what_is_damaged_or_newer_says_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    add(&queue, &["1", "2", "3"]);
    let mut txn = queue.store.write().unwrap();
    queue.store.lanes[0].entries.delete(&mut txn, &2).unwrap();
    queue.store.lanes[0].entries.put(&mut txn, &3, b"\x00rubbish").unwrap();
    txn.commit().unwrap();
    for after in [0, 2] {
        let error = queue.next(Class::Alerts, after, 1000, 1000).unwrap_err();
        assert!(!error.may_pass() && error.to_string().contains("eddy-sync recover"), "{error}");
    }
    queue.put("version", &9u32.to_le_bytes()).unwrap();
    drop(queue);
    let error = Queue::open(folder.path(), &BOUNDS).unwrap_err().to_string();
    assert!(error.contains("version 9") && error.contains("eddy-sync recover"), "{error}");
}

#[test]
fn what_later_entries_are_read_with_outlives_the_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(folder.path(), &Bounds { entries_max: 2, ..BOUNDS }).unwrap();
    add(&queue, &["1"]);
    commit(&queue, |write| assert_eq!(write.push_pinned(Class::Alerts, alert("book")).unwrap(), 2));
    add(&queue, &["3", "4", "5"]);
    let slice = all(&queue, Class::Alerts, 0);
    assert_eq!(texts(&slice), [(2, "book".into()), (5, "5".into())]);
    assert_eq!(gaps(&slice), [(1, 1, 1, wire::Cause::Budget), (3, 4, 2, wire::Cause::Budget)]);
    // More of them than may be pinned: the oldest goes as any other. Pinned ones alone may be more than a bound.
    commit(&queue, |write| (6..10).for_each(|_| _ = write.push_pinned(Class::Alerts, alert("book")).unwrap()));
    let numbers: Vec<u64> = all(&queue, Class::Alerts, 0).entries.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [6, 7, 8, 9]);
}
