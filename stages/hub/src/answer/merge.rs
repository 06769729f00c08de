//! Several shards' answers, as one.

use std::collections::BTreeMap;

use eddy_schemas::region::wire::{ChainReceipt, SearchResponse, Window};

/// The `k` nearest of all, but not the window `without`; equally near ones in the order of their shards and numbers.
pub(super) fn nearest(answers: Vec<SearchResponse>, k: usize, without: Option<(u32, u64)>) -> SearchResponse {
    let mut merged = SearchResponse::default();
    for answer in answers {
        merged.windows += answer.windows;
        merged.neighbours.extend(answer.neighbours);
        merged.missing_shards.extend(answer.missing_shards);
        if merged.bundle.is_empty() {
            merged.bundle = answer.bundle;
        }
    }
    merged.neighbours.retain(|near| Some((near.shard, near.number)) != without);
    let key = |near: &Window| (near.shard, near.number);
    merged.neighbours.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(key(a).cmp(&key(b))));
    // A shard that changed hands meanwhile may have answered twice.
    merged.neighbours.dedup_by_key(|near| key(near));
    merged.neighbours.truncate(k);
    merged.missing_shards.sort_unstable();
    merged.missing_shards.dedup();
    merged
}

/// Of each chain what every shard holds: the least. A chain that a shard has not heard of yet is held by nobody, and so is
/// one by whose place another one is the current one.
pub(super) fn receipts(shards: Vec<Vec<ChainReceipt>>) -> Vec<ChainReceipt> {
    let count = shards.len();
    let mut chains: BTreeMap<(String, String, String), Vec<ChainReceipt>> = BTreeMap::new();
    for chain in shards.into_iter().flatten() {
        let key = (chain.site.clone(), chain.class.clone(), chain.chain.clone());
        chains.entry(key).or_default().push(chain);
    }
    chains.into_values().filter_map(|held| least(held, count)).collect()
}

fn least(held: Vec<ChainReceipt>, shards: usize) -> Option<ChainReceipt> {
    // A shard that knows of a newer chain knows better.
    let current = held.iter().all(|chain| chain.current);
    let everywhere = held.len() >= shards;
    let mut missing: Vec<_> = held.iter().flat_map(|chain| chain.missing.clone()).collect();
    let least = held.into_iter().min_by_key(|chain| (chain.last, chain.batches))?;
    let nothing = ChainReceipt {
        site: least.site.clone(),
        class: least.class.clone(),
        chain: least.chain.clone(),
        replaces: least.replaces.clone(),
        ..Default::default()
    };
    let least = if everywhere { least } else { nothing };
    // What one shard lacks the region lacks; mostly all lack the same.
    missing.retain(|range| range.first <= least.last);
    missing.sort_by(|a, b| (a.first, a.last, &a.cause, &a.detail).cmp(&(b.first, b.last, &b.cause, &b.detail)));
    missing.dedup();
    Some(ChainReceipt { current, missing, ..least })
}

#[cfg(test)]
mod tests {
    use eddy_schemas::region::wire::MissingRange;

    use super::*;

    fn near(shard: u32, number: u64, distance: f32) -> Window {
        Window { shard, number, distance, ..Default::default() }
    }

    fn answer(bundle: &str, neighbours: Vec<Window>) -> SearchResponse {
        SearchResponse { bundle: bundle.into(), windows: 5, neighbours, ..Default::default() }
    }

    #[test]
    fn the_nearest_of_all_shards_come_first_and_none_twice() {
        let answers = vec![
            answer("", vec![]),
            answer("b", vec![near(1, 7, 0.5), near(1, 8, 2.0)]),
            answer("b", vec![near(0, 9, 0.5), near(0, 1, 1.0), near(0, 2, 3.0)]),
            answer("b", vec![near(1, 7, 0.5)]),
        ];
        let numbers = |merged: &SearchResponse| merged.neighbours.iter().map(|near| near.number).collect::<Vec<_>>();
        let merged = nearest(answers.clone(), 4, None);
        assert_eq!((numbers(&merged), merged.bundle.as_str(), merged.windows), (vec![9, 7, 1, 8], "b", 20));
        assert_eq!(numbers(&nearest(answers, 2, Some((0, 9)))), [7, 1]);
    }

    fn chain(chain: &str, last: u64, current: bool) -> ChainReceipt {
        let (site, class) = ("s".into(), "alerts".into());
        ChainReceipt { site, class, chain: chain.into(), batches: last, first: 1, last, current, ..Default::default() }
    }

    #[test]
    fn what_is_told_is_held_by_every_shard() {
        let gap = |first, last, cause: &str| MissingRange { first, last, cause: cause.into(), ..Default::default() };
        let lacks = |last, missing| vec![ChainReceipt { missing, ..chain("a", last, true) }];
        let all = [gap(2, 3, "budget"), gap(5, 5, "region"), gap(8, 9, "budget")];
        let told = receipts(vec![lacks(9, all.to_vec()), lacks(7, vec![all[0].clone()])]);
        assert_eq!(told[0].missing, all[..2], "what one shard lacks, as far as all of them are");
        let told = |shards: Vec<Vec<ChainReceipt>>| {
            let told = receipts(shards);
            told.into_iter().map(|chain| (chain.chain, chain.first, chain.last, chain.current)).collect::<Vec<_>>()
        };
        assert_eq!(told(vec![]), []);
        assert_eq!(told(vec![vec![chain("a", 9, true)], vec![chain("a", 7, true)]]), [("a".into(), 1, 7, true)]);
        // One shard has read the first batch of a new chain, the other has not.
        let ahead = vec![chain("a", 9, false), chain("b", 1, true)];
        let behind = vec![chain("a", 8, true)];
        let both = [("a".into(), 1, 8, false), ("b".into(), 0, 0, true)];
        assert_eq!(told(vec![ahead.clone(), behind.clone()]), both);
        assert_eq!(told(vec![behind, ahead]), both);
    }
}
