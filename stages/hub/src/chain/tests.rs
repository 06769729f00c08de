//! Every way to be wrong.

use bytes::Bytes;
use prost::Message as _;

use super::*;

const CHAIN: Chain = [7; CHAIN_BYTES];
const FOUND: Found<'_> = Found { site: "plant-1", class: Class::Alerts, lost: false, anew: false };

fn entries(ids: std::ops::RangeInclusive<u64>) -> wire::Entries {
    let alert = |id| wire::entry::What::Alert(Bytes::from(format!("{{\"n\":{id}}}")));
    let entries = ids.map(|id| wire::Entry { id, what: Some(alert(id)) }).collect();
    wire::Entries { entries, ..Default::default() }
}

fn batch(number: u64, first: u64, last: u64, previous: &[u8]) -> wire::Batch {
    let mut batch = wire::Batch {
        site: "plant-1".into(),
        class: Class::Alerts.into(),
        chain: CHAIN.to_vec().into(),
        number,
        first,
        last,
        previous: previous.to_vec().into(),
        ..Default::default()
    };
    batch.pack(&entries(first..=last));
    batch
}

/// Three batches that follow each other, and what is known after each.
fn chain() -> (Vec<Vec<u8>>, Vec<Known>) {
    let (mut messages, mut known) = (Vec::new(), Vec::<Known>::new());
    for (number, first, last) in [(1, 1, 3), (2, 4, 4), (3, 5, 9)] {
        let previous = known.last().map_or(Vec::new(), |known| known.receipt.to_vec());
        let message = batch(number, first, last, &previous).encode_to_vec();
        let verdict = judge(known.last(), &[], &FOUND, &message);
        let Verdict::Next(link) = verdict else { panic!("{verdict:?}") };
        assert_eq!(
            (link.begins, link.missing, link.entries.entries.len() as u64),
            (number == 1, None, last + 1 - first)
        );
        known.push(Known { chain: CHAIN, number, last, held: last, receipt: link.receipt });
        messages.push(message);
    }
    (messages, known)
}

fn refused(known: Option<&Known>, found: &Found<'_>, message: &[u8], part: &str) {
    match judge(known, &[], found, message) {
        Verdict::Refused(reason) => assert!(reason.contains(part), "{reason:?} does not say {part:?}"),
        verdict => panic!("{part}: {verdict:?}"),
    }
}

#[test]
fn what_was_taken_is_passed_over_and_another_of_its_number_is_refused() {
    let (messages, known) = chain();
    for message in &messages {
        assert!(matches!(judge(Some(&known[2]), &[], &FOUND, message), Verdict::Replayed(_)));
    }
    let forged = batch(3, 5, 8, &known[1].receipt).encode_to_vec();
    refused(Some(&known[2]), &FOUND, &forged, "batch 3 differs");
    // An older one of another content adds nothing either.
    let forged = batch(2, 4, 5, &known[0].receipt).encode_to_vec();
    assert!(matches!(judge(Some(&known[2]), &[], &FOUND, &forged), Verdict::Replayed(_)));
}

#[test]
fn what_does_not_follow_is_refused() {
    let (messages, known) = chain();
    refused(Some(&known[0]), &FOUND, &messages[2], "those between are not there");
    refused(None, &FOUND, &messages[1], "is the first one here");
    refused(Some(&known[1]), &FOUND, &batch(3, 5, 9, &[9; 32]).encode_to_vec(), "receipt 0909");
    refused(Some(&known[1]), &FOUND, &batch(3, 4, 9, &known[1].receipt).encode_to_vec(), "entry 4 was the last");
    refused(Some(&known[1]), &FOUND, &batch(3, 6, 9, &known[1].receipt).encode_to_vec(), "begins with entry 6");
    refused(Some(&known[1]), &FOUND, &batch(3, 5, 9, &[]).encode_to_vec(), "as if it were the first");
    refused(None, &FOUND, &batch(1, 1, 3, &[9; 32]).encode_to_vec(), "names a batch before it");
    refused(None, &FOUND, &batch(0, 1, 3, &[]).encode_to_vec(), "begin at 1");
}

#[test]
fn another_site_class_or_subject_is_refused() {
    let (messages, known) = chain();
    let next = Some(&known[1]);
    refused(next, &Found { site: "plant-2", ..FOUND }, &messages[2], "site \"plant-1\" on a subject of \"plant-2\"");
    refused(next, &Found { class: Class::Deltas, ..FOUND }, &messages[2], "class alerts (1) on a subject of deltas");
    let unknown = wire::Batch { class: 99, ..batch(3, 5, 9, &known[1].receipt) };
    refused(next, &FOUND, &unknown.encode_to_vec(), "(99) on a subject of alerts");
}

#[test]
fn what_contradicts_itself_or_is_too_large_is_refused() {
    let (_, known) = chain();
    let next = || batch(3, 5, 9, &known[1].receipt);
    let gap = |first, last| wire::Gap { first, last, count: 1, cause: 1, detail: String::new() };
    for (wrong, part) in [
        (wire::Batch { gaps: vec![gap(7, 8)], ..next() }, "is neither an entry nor in a gap"),
        (wire::Batch { gaps: vec![gap(10, 10)], ..next() }, "is neither"),
        (wire::Batch { last: 12, gaps: vec![gap(11, 12)], ..next() }, "is neither"),
        (wire::Batch { last: 12, gaps: vec![gap(12, 10)], ..next() }, "is neither"),
        (wire::Batch { count: 4, ..next() }, "announced"),
        (wire::Batch { entries_bytes: 5 << 20, ..next() }, "at most"),
        (wire::Batch { chain: Bytes::from_static(b"short"), ..next() }, "chain's name"),
        (wire::Batch { replaces: Bytes::from_static(&[1; 16]), ..next() }, "as if it were the first"),
        (wire::Batch { entries: Bytes::from_static(b"rubbish"), ..next() }, "entries"),
    ] {
        refused(Some(&known[1]), &FOUND, &wrong.encode_to_vec(), part);
    }
    let short = wire::Batch { replaces: Bytes::from_static(b"x"), ..batch(1, 1, 3, &[]) };
    refused(None, &FOUND, &short.encode_to_vec(), "a name of 1 bytes");
    refused(Some(&known[1]), &FOUND, &vec![0; MESSAGE_BYTES_MAX + 1], "a message of");
    refused(Some(&known[1]), &FOUND, b"", "chain's name of 0 bytes");
}

#[test]
fn a_batch_of_which_any_byte_was_changed_never_goes_unnoticed() {
    let (messages, known) = chain();
    let mut accepted = 0;
    for at in 0..messages[1].len() {
        for flip in [0x01, 0x10, 0x80] {
            let mut tampered = messages[1].clone();
            tampered[at] ^= flip;
            match judge(Some(&known[0]), &[], &FOUND, &tampered) {
                Verdict::Next(link) => {
                    accepted += 1;
                    // What it holds is whole, or the checksum would have told; and the next honest batch does not follow it.
                    assert_eq!(link.entries, entries(4..=4), "byte {at}");
                    let changed = Known { chain: link.chain, number: 2, last: 4, held: 4, receipt: link.receipt };
                    refused(Some(&changed), &FOUND, &messages[2], "not the one that was taken");
                }
                // A field that was renumbered may read as an older batch: nothing is stored of it.
                Verdict::Replayed(_) | Verdict::Refused(_) => {}
            }
        }
    }
    assert!(accepted < 10, "{accepted} of {} changes were taken at first", 3 * messages[1].len());
}

#[test]
fn a_new_chain_says_what_it_replaces_and_the_old_one_never_comes_back() {
    let (messages, known) = chain();
    let other = |replaces: &[u8]| wire::Batch {
        chain: vec![8; CHAIN_BYTES].into(),
        replaces: replaces.to_vec().into(),
        ..batch(1, 1, 3, &[])
    };
    refused(Some(&known[2]), &FOUND, &other(&[]).encode_to_vec(), "another gateway writes as this site");
    refused(Some(&known[2]), &FOUND, &other(&[9; CHAIN_BYTES]).encode_to_vec(), "another gateway");
    let Verdict::Next(link) = judge(Some(&known[2]), &[], &FOUND, &other(&CHAIN).encode_to_vec()) else { panic!() };
    assert!(link.begins && link.missing.is_none());
    let new = Known { chain: [8; CHAIN_BYTES], number: 1, last: 3, held: 3, receipt: link.receipt };
    for message in &messages {
        let verdict = judge(Some(&new), &[CHAIN], &FOUND, message);
        assert!(matches!(&verdict, Verdict::Replayed(why) if why.contains("was replaced")), "{verdict:?}");
    }
    let second = wire::Batch { chain: vec![9; CHAIN_BYTES].into(), ..batch(2, 4, 4, &known[0].receipt) };
    refused(Some(&new), &FOUND, &second.encode_to_vec(), "where chain 0808");
}

#[test]
fn a_copy_that_lost_batches_goes_on_behind_them_and_says_what_is_missing() {
    let (messages, known) = chain();
    let lost = Found { lost: true, ..FOUND };
    let missing = |known: Option<&Known>, message: &[u8]| match judge(known, &[], &lost, message) {
        Verdict::Next(link) => (link.begins, link.missing),
        verdict => panic!("{verdict:?}"),
    };
    assert_eq!(missing(None, &messages[2]), (true, Some((1, 4))));
    assert_eq!(missing(Some(&known[0]), &messages[2]), (false, Some((4, 4))));
    assert_eq!(missing(Some(&known[0]), &messages[1]), (false, None), "nothing of this chain was lost");
    let other = wire::Batch { chain: vec![8; CHAIN_BYTES].into(), ..batch(4, 7, 9, &[1; 32]) };
    assert_eq!(missing(Some(&known[2]), &other.encode_to_vec()), (true, Some((1, 6))));
    let first = wire::Batch { chain: vec![8; CHAIN_BYTES].into(), ..batch(1, 7, 9, &[]) };
    assert_eq!(missing(Some(&known[2]), &first.encode_to_vec()), (true, None), "it begins where it begins");
    // Being lost is no leave to come again, or to tell an entry twice.
    assert!(matches!(judge(Some(&known[2]), &[], &lost, &messages[1]), Verdict::Replayed(_)));
    refused(Some(&known[2]), &lost, &batch(5, 9, 12, &[1; 32]).encode_to_vec(), "entry 9 was the last");
    refused(Some(&known[1]), &lost, &batch(3, 5, 9, &[1; 32]).encode_to_vec(), "not the one that was taken");
}

#[test]
fn where_the_stream_was_lost_a_chain_may_begin_again() {
    let (messages, known) = chain();
    let anew = Found { anew: true, ..FOUND };
    let again = |message: &[u8]| match judge(Some(&known[2]), &[], &anew, message) {
        Verdict::Next(link) => (link.begins, link.missing),
        verdict => panic!("{verdict:?}"),
    };
    assert_eq!(again(&messages[0]), (false, None), "what is held already");
    assert_eq!(again(&batch(1, 10, 12, &[]).encode_to_vec()), (false, None), "from where it had come");
    assert_eq!(again(&batch(1, 14, 15, &[]).encode_to_vec()), (false, Some((10, 13))));
    // Behind the first one of them it is a chain as ever; entries that are held come again without harm.
    let first = judge(Some(&known[2]), &[], &anew, &messages[0]);
    let Verdict::Next(link) = first else { panic!("{first:?}") };
    let now = Known { number: 1, last: 3, held: 9, receipt: link.receipt, ..known[2] };
    assert!(matches!(judge(Some(&now), &[], &FOUND, &messages[1]), Verdict::Next(_)));
    refused(Some(&now), &FOUND, &messages[2], "those between are not there");
    // Another gateway may have come meanwhile, which saw no chain to replace.
    let other = wire::Batch { chain: vec![8; CHAIN_BYTES].into(), ..batch(1, 1, 3, &[]) }.encode_to_vec();
    assert_eq!(again(&other), (true, None));
}
