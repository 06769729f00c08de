use bytes::Bytes;
use eddy_schemas::sync::{CHAIN_BYTES, RECEIPT_BYTES};
use eddy_vectors::index::Limits;

use super::*;

fn link(chain: u8, number: u64, (first, last): (u64, u64), gaps: &[(u64, u64, i32)], begins: bool) -> Link {
    let gap = |(first, last, cause): &(u64, u64, i32)| wire::Gap {
        first: *first,
        last: *last,
        count: last - first + 1,
        cause: *cause,
        detail: String::new(),
    };
    let gaps: Vec<_> = gaps.iter().map(gap).collect();
    let missing: u64 = gaps.iter().map(|gap| gap.count).sum();
    let count = u32::try_from(last + 1 - first - missing).unwrap();
    let batch = wire::Batch { number, first, last, count, gaps, chain: Bytes::new(), ..Default::default() };
    let receipt = [number as u8; RECEIPT_BYTES];
    let is_gap = |id: &u64| batch.gaps.iter().any(|gap| (gap.first..=gap.last).contains(id));
    let entries = (first..=last).filter(|id| !is_gap(id)).map(|id| wire::Entry { id, what: None }).collect();
    let entries = wire::Entries { entries, ..Default::default() };
    Link { batch, entries, chain: [chain; CHAIN_BYTES], receipt, begins, missing: None }
}

fn malformed(entry: u64) -> Missing {
    let (cause, detail) = (cause::MALFORMED.to_owned(), "not JSON".to_owned());
    Missing { first: entry, last: entry, count: 1, cause, detail }
}

fn take(store: &Store, site: &str, links: &[(Link, Vec<Missing>)]) {
    let mut batch = store.batch().unwrap();
    let mut account = Account::load(&batch, site, Class::Deltas).unwrap();
    for (link, malformed) in links {
        account.take(&mut batch, link, malformed.clone(), 5).unwrap();
    }
    account.save(&mut batch).unwrap();
    let before = store.position().unwrap();
    batch.commit(before.as_deref(), "S@1:1").unwrap();
}

#[test]
fn ranges_gaps_and_chains_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Limits::default()).unwrap();
    take(
        &store,
        "plant%201",
        &[
            (link(1, 1, (1, 10), &[(4, 5, 1)], true), vec![malformed(8)]),
            (link(1, 2, (11, 20), &[(11, 12, 2), (20, 20, 1)], false), vec![]),
        ],
    );
    take(&store, "plant%201", &[(link(1, 3, (21, 30), &[(21, 25, 1)], false), vec![])]);
    let read = read_site(&store, "plant 1").unwrap();
    let [receipt] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!((receipt.site.as_str(), receipt.class.as_str(), receipt.current), ("plant 1", "deltas", true));
    assert_eq!((receipt.batches, receipt.entries, receipt.first, receipt.last, receipt.taken), (3, 19, 1, 30, 5));
    assert_eq!(receipt.receipt, "03".repeat(32));
    let missing: Vec<_> =
        receipt.missing.iter().map(|range| (range.first, range.last, range.count, range.cause.as_str())).collect();
    let expected = [(4, 5, 2, "budget"), (8, 8, 1, "malformed"), (11, 12, 2, "source"), (20, 25, 6, "budget")];
    assert_eq!(missing, expected, "two batches' gap that goes on is one range");
    // Everything is here or named.
    let named: u64 = missing.iter().map(|range| range.2).sum();
    assert_eq!(receipt.entries + named, 30);
    // A gateway that is replaced.
    take(&store, "plant%201", &[(link(2, 1, (1, 3), &[], true), vec![])]);
    let read = super::read(&store).unwrap();
    let chains: Vec<_> = read.iter().map(|chain| (&chain.chain[..2], &chain.replaces[..], chain.current)).collect();
    assert_eq!(chains, [("01", "", false), ("02", "01".repeat(16).as_str(), true)]);
    assert_eq!((read[0].last, read[0].missing.len()), (30, 4), "what was proven stays so");
    assert!(read_site(&store, "plant").unwrap().is_empty());
}

#[test]
fn many_gaps_and_many_chains_stay_within_their_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Limits::default()).unwrap();
    let ranges = u64::from(MISSING_MAX) + 50;
    let links: Vec<_> = (1..=ranges)
        .map(|number| {
            let first = 2 * number - 1;
            (link(1, number, (first, first + 1), &[(first, first, 1)], number == 1), vec![])
        })
        .collect();
    take(&store, "s", &links);
    let receipt = read(&store).unwrap().remove(0);
    assert_eq!((receipt.missing.len(), receipt.entries), (MISSING_MAX as usize, ranges));
    let counted: u64 = receipt.missing.iter().map(|range| range.count).sum();
    assert_eq!(counted, ranges, "none is uncounted");
    let last = receipt.missing.last().unwrap();
    assert_eq!(last.last, 2 * ranges - 1);
    assert!(last.detail.contains("several ranges"));
    for chain in 2..=90 {
        take(&store, "s", &[(link(chain, 1, (1, 1), &[], true), vec![])]);
    }
    let chains = read(&store).unwrap();
    assert_eq!((chains.len(), chains.iter().filter(|chain| chain.current).count()), (CHAINS_MAX, 1));
    assert!(store.notes("ledger/s/deltas/01010101", 10).unwrap().is_empty());
}

#[test]
fn what_was_removed_before_it_was_read_shows() {
    let mut account = Account { key: "ledger/s/deltas".into(), head: Head::default(), record: None };
    assert!(!account.sees(7, 3, Some(0)), "the first one");
    assert!(!account.sees(7, 9, Some(3)));
    assert!(account.sees(7, 20, Some(12)), "12 was never read");
    assert!(!account.sees(7, 21, Some(20)) && !account.sees(7, 22, None));
    assert!(
        !account.sees(8, 1, Some(0)) && !account.head.anew,
        "a stream that was made anew, of which nothing was known"
    );
    account.head.chains.push([1; 16]);
    assert!(!account.sees(9, 1, Some(0)) && account.head.anew);
    let head = Head { incarnation: -1, seen: 9, anew: true, chains: vec![[1; 16], [2; 16]] };
    assert_eq!(Head::decode(&head.encode()), Ok(head.clone()));
    assert!(Head::decode(&head.encode()[..20]).is_err());
}

#[test]
fn a_chain_that_begins_again_tells_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Limits::default()).unwrap();
    take(&store, "s", &[(link(1, 1, (1, 20), &[(10, 12, 1)], true), vec![])]);
    // The stream was lost; the gateway still has entries from 11 on, and then goes on.
    take(
        &store,
        "s",
        &[(link(1, 1, (11, 15), &[(11, 12, 1)], false), vec![]), (link(1, 2, (16, 25), &[(22, 23, 1)], false), vec![])],
    );
    let receipt = read(&store).unwrap().remove(0);
    let missing: Vec<_> = receipt.missing.iter().map(|range| (range.first, range.last, range.count)).collect();
    assert_eq!((receipt.first, receipt.last, receipt.entries), (1, 25, 20));
    assert_eq!(missing, [(10, 12, 3), (22, 23, 2)]);
    let range = |first, last, count| Missing { first, last, count, ..malformed(0) };
    assert_eq!(after(9, range(5, 12, 8)), Some(range(10, 12, 3)));
    assert_eq!(after(12, range(5, 12, 8)), None);
    assert_eq!(after(4, range(5, 5, 70)), Some(range(5, 5, 70)), "messages that never became entries");
}
