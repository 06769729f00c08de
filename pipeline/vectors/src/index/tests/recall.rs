use super::*;

/// Windows of a machine: a few shapes, each with drift and noise, as embeddings of neighbours in time lie near each other.
fn shaped(n: u64) -> Vec<f32> {
    let plain = window(n).vector;
    let shape = (n / 50 % 40) as f32;
    (0..24)
        .map(|at| (shape * 0.7 + at as f32).sin() * 3.0 + plain[at % DIMENSIONS] * 0.3 + (n % 50) as f32 * 0.02)
        .collect()
}

#[test]
fn the_recall_that_is_asked_for_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { segment_windows: 4_200, graph_windows: 16_800, ..limits() };
    let store = Store::open(folder.path(), limits).unwrap();
    let model = Model { dimensions: 24, ..model() };
    let mut batch = store.batch().unwrap();
    for n in 0..21_000 {
        batch.add(&model, &Window { vector: shaped(n), ..window(n) }).unwrap();
    }
    batch.commit(None, "1").unwrap();
    assert_eq!(build_all(&store).last(), Some(&Kind::Graph));
    let searcher = store.searcher().unwrap();
    assert_eq!(searcher.segments().iter().map(|one| one.kind).collect::<Vec<_>>(), [Kind::Graph; 2]);
    let search = |vector: &[f32], recall| {
        let asked = Query { model: &model, recall, ..query(vector, 10) };
        searcher.search(&asked).unwrap()
    };
    for (wanted, least) in [(0.8, 0.75), (0.95, 0.93)] {
        let mut found = 0;
        for n in 0..100 {
            let mut vector = shaped(n * 203 + 11);
            vector.iter_mut().for_each(|x| *x += 0.05);
            let exact = ids(&search(&vector, Recall::Exact));
            let near = ids(&search(&vector, Recall::AtLeast(wanted)));
            found += near.iter().filter(|window| exact.contains(window)).count();
        }
        assert!(found as f32 >= least * 1_000.0, "{found} of 1000 for {wanted}");
    }
}
