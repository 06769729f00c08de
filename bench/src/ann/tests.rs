//! The whole of it, small: windows of one made-up device, stored, searched and judged in this process.

use std::path::Path;

use eddy_bench::{
    embedded::Wanted,
    pipeline::{Pipeline, Settings},
};

use super::{recorded::Recorded, store::StoreArgs, truth::NONE, *};

const DIMENSIONS: usize = 16;

fn windows(rows: usize, cache: &Path) -> Windows {
    let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet");
    let Recorded::Fleet(folder, mut files) = Recorded::fleet(&fleet).unwrap() else { panic!("not the fleet") };
    files.truncate(1);
    let pipeline = Pipeline::new(&Settings::default()).unwrap();
    let wanted = Wanted { head: "learned".into(), dimensions: DIMENSIONS };
    Windows::get(&pipeline, &wanted, &Recorded::Fleet(folder, files), rows, cache).unwrap()
}

#[test]
fn both_kinds_of_our_index_reach_the_recall_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let windows = windows(4_100, &folder.path().join("cache"));
    for graph in [false, true] {
        let work = folder.path().join(if graph { "graph" } else { "forest" });
        std::fs::create_dir(&work).unwrap();
        let set = Set::new(&windows, 4_000, 50, &work).unwrap();
        let mut args =
            StoreArgs { work, dimensions: DIMENSIONS, graph, insert_per_s: 0.0, bucket_s: 1.0, restarted: false };
        let measured = store::measured(&args).unwrap();
        let [first, all] = set.recall().unwrap();
        assert!(first >= 0.9 && all >= 0.9, "{first} {all} of {}", measured.setting);
        assert!(measured.setting.starts_with(if graph { "graph" } else { "forest" }), "{}", measured.setting);
        assert_eq!(measured.serving["not_found"], 0);
        assert_eq!(measured.serving["findable_ms"]["count"], 4);
        assert!(!measured.timeline.is_empty() && !measured.activity.is_empty());
        args.restarted = true;
        assert!(store::restarted(&args).unwrap().restart_ms > 0.0);
    }
}

#[test]
fn windows_are_drawn_once_each_come_from_the_cache_again_and_are_filled_up_with_copies() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = windows(600, folder.path());
    assert_eq!(drawn.vectors.len(), 600 * DIMENSIONS);
    assert_eq!((drawn.from.streams, windows(600, folder.path()).vectors), (1, drawn.vectors.clone()));
    // A smaller draw is the beginning of a larger one.
    let fewer = windows(100, &folder.path().join("other"));
    assert_eq!(drawn.vectors[..100 * DIMENSIONS], fewer.vectors);
    let split = fewer.split(150, 20);
    assert_eq!((split.queries.len(), split.base.len(), split.copies), (20 * DIMENSIONS, 150 * DIMENSIONS, 70));
    let rows: Vec<&[f32]> = split.base.chunks_exact(DIMENSIONS).collect();
    assert!(split.queries.chunks_exact(DIMENSIONS).all(|query| !rows.contains(&query)));
    assert!(rows[80] != rows[0], "a copy is noisy");
    assert_eq!(fewer.split(150, 20).base, split.base);
}

#[test]
fn recall_counts_by_distance_and_nothing_twice() {
    let base: Vec<f32> = (0..20).map(|at| at as f32).collect();
    let queries = [0.2, 15.0];
    let truth = truth::nearest(&base, &queries, 1);
    assert_eq!(truth[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(truth::recall(&base, &queries, 1, &truth, &truth), [1.0, 1.0]);
    let mut found = truth.clone();
    found[0] = 1;
    found[10..].fill(NONE);
    assert_eq!(truth::recall(&base, &queries, 1, &truth, &found), [0.0, 0.45]);
}
