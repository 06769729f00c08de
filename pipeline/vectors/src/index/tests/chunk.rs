use super::*;

fn all(searcher: &Searcher, count: usize, mut between: impl FnMut()) -> Vec<(u64, String, bool, Vec<f32>)> {
    let (mut told, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let chunk = searcher.chunk(&model(), from, count).unwrap();
        assert!(chunk.windows.len() <= count && chunk.vectors.len() == chunk.windows.len() * DIMENSIONS);
        for (window, vector) in chunk.windows.iter().zip(chunk.vectors.chunks_exact(DIMENSIONS)) {
            told.push((window.window, window.series.to_string(), window.labelled, vector.to_vec()));
        }
        assert!(chunk.next.is_none_or(|next| next > from));
        next = chunk.next;
        between();
    }
    told
}

#[test]
fn chunk_after_chunk_tells_each_window_once_also_while_segments_are_built() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    add(&store, 0..130);
    let before = store.position().unwrap();
    let other = Model { digest: "other".into(), ..model() };
    let mut batch = store.batch().unwrap();
    for n in 130..150 {
        batch.add(&other, &window(n)).unwrap();
    }
    [4, 50, 51, 129].iter().for_each(|n| assert!(batch.delete(*n).unwrap()));
    batch.label(7, &Label { name: "leak".into(), origin: "cli".into(), time: 1 }).unwrap();
    batch.commit(before.as_deref(), "150").unwrap();
    add(&store, 150..180);
    let there: Vec<u64> = (0..130).chain(150..180).filter(|n| ![4, 50, 51, 129].contains(n)).collect();
    let expected: Vec<_> = there.iter().map(|n| (*n, window(*n).series, *n == 7, window(*n).vector)).collect();
    let searcher = store.searcher().unwrap();
    for count in [1, 7, 40, 1_000] {
        assert_eq!(all(&searcher, count, || {}), expected, "{count}");
    }
    // What a rebuild leaves out is left out, and all others keep their numbers.
    let told = all(&searcher, 9, || {
        if let Some(build) = store.next_build().unwrap() {
            assert!(store.publish(build.run(&AtomicBool::new(false)).unwrap()).unwrap());
            searcher.refresh().unwrap();
        }
    });
    assert_eq!(told, expected);
    assert!(searcher.segments().iter().any(|segment| segment.kind != Kind::Exact));
    build_all(&store);
    searcher.refresh().unwrap();
    assert_eq!((searcher.count(&model()), searcher.count(&other)), (there.len() as u64, 20));
    assert_eq!(all(&searcher, 7, || {}), expected);
    assert_eq!(searcher.chunk(&Model { digest: "none".into(), ..model() }, 0, 10).unwrap(), Chunk::default());
}
