use bytes::Bytes;
use eddy_schemas::sync::wire::{Class, Entry};

use super::*;

/// The delta of a window of two components.
fn delta(sequence: u64) -> Entry {
    let delta = VectorDelta {
        action: Action::Insert.into(),
        series: 1,
        sequence,
        end: 7,
        score: 0.5,
        codes: Codes::Int8.into(),
        scale: 1e-4,
        vector: Bytes::from_static(&[100, 0x9c]),
        ..Default::default()
    };
    Entry { id: 0, what: Some(What::Delta(delta)) }
}

fn alert(id: &str) -> Entry {
    let json = serde_json::json!({"id": id, "data": 1}).to_string();
    Entry { id: 0, what: Some(What::Alert(json.into())) }
}

/// A batch that follows a message.
fn batch(number: u64, first: u64, entries: Vec<Entry>, before: Option<&[u8]>) -> Batch {
    let last = first + entries.len() as u64 - 1;
    let entries = (first..).zip(entries).map(|(id, entry)| Entry { id, ..entry }).collect();
    let entries = Entries { entries, series: vec!["a/t".into()], ..Default::default() };
    let previous = before.map(|message| {
        let earlier = Batch::decode(message).unwrap();
        blake3::Hasher::new().update(&earlier.previous).update(message).finalize().as_bytes().to_vec()
    });
    let mut batch = Batch {
        site: "s".into(),
        class: Class::Deltas.into(),
        chain: vec![1; 16].into(),
        number,
        first,
        last,
        previous: previous.unwrap_or_default().into(),
        ..Default::default()
    };
    batch.pack(&entries);
    batch
}

fn read(batches: &[Batch]) -> anyhow::Result<Sent> {
    let (mut sent, mut ends) = (Sent::default(), BTreeMap::new());
    for batch in batches {
        sent.follow(&mut ends, "deltas", batch, &batch.encode_to_vec())?;
        sent.take("deltas", batch, 0)?;
    }
    Ok(sent)
}

#[test]
fn a_chain_that_does_not_hold_is_seen() {
    let one = batch(1, 1, vec![delta(4), delta(5)], None);
    let bytes = one.encode_to_vec();
    let two = |first: u64| batch(2, first, vec![delta(6)], Some(&bytes));
    assert_eq!(read(&[one.clone(), two(3)]).unwrap().windows.len(), 3);
    let mut altered = one.clone();
    altered.pack(&Entries {
        entries: vec![Entry { id: 1, ..alert("x") }, Entry { id: 2, ..alert("y") }],
        ..Default::default()
    });
    let mut short = one.clone();
    short.last = 3;
    let mut other = two(3);
    other.chain = vec![2; 16].into();
    for (wrong, part) in [
        (vec![one.clone(), two(4)], "after 1 up to 2"),
        (vec![one.clone(), one.clone()], "batch 1"),
        (vec![altered, two(3)], "hangs on another one"),
        (vec![short], "3 to 3 are neither"),
        (vec![two(3)], "begins with batch 2"),
        (vec![one.clone(), other], "begins with batch 2"),
    ] {
        let problem = read(&wrong).unwrap_err().to_string();
        assert!(problem.contains(part), "{problem}");
    }
    let mut replaced = batch(1, 1, vec![delta(1)], None);
    replaced.chain = vec![2; 16].into();
    assert!(read(&[one.clone(), replaced.clone()]).unwrap_err().to_string().contains("which one it replaces"));
    replaced.replaces = vec![1; 16].into();
    assert_eq!(read(&[one, replaced]).unwrap().chains["deltas"].len(), 2);
}

#[test]
fn what_is_lost_doubled_or_altered_is_counted() {
    let window = |x: f32| Window { series: "a/t".into(), end: 7, score: 0.5, vector: vec![x, -1.0] };
    let mut told = Told::default();
    for (id, alert_of) in [("x", alert("x")), ("y", alert("y"))] {
        let Some(What::Alert(json)) = alert_of.what else { unreachable!() };
        told.alerts.insert(id.into(), json.to_vec());
    }
    (4..=6).for_each(|sequence| drop(told.windows.insert((sequence, 0), window(1.0))));
    let against =
        |told: &Told, entries: Vec<Entry>| told.compare(&read(&[batch(1, 1, entries, None)]).unwrap()).unwrap();
    let compare = |entries: Vec<Entry>| against(&told, entries);
    let counts = |found: &Comparison| (found.lost, found.duplicated, found.altered);
    let all = || vec![alert("x"), alert("y"), delta(4), delta(5), delta(6)];
    assert_eq!(compare(all()), Comparison::default());
    assert_eq!(counts(&compare(all()[1..4].to_vec())), (2, 0, 0));
    assert_eq!(counts(&compare([all(), vec![alert("x"), delta(6)]].concat())), (0, 2, 0));
    let strangers = compare([all(), vec![alert("z"), delta(9)]].concat());
    assert_eq!(counts(&strangers), (0, 0, 2));
    assert_eq!(strangers.examples, ["altered in the region: alert z"]);
    assert!(window(1.0).is(&window(1.008)) && !window(1.0).is(&window(1.02)));

    // A stream that has dropped its beginning: what was read of it before counts.
    let begun = std::mem::take(&mut told);
    told.windows.insert((6, 0), window(1.0));
    assert_eq!(counts(&against(&told, all())), (0, 0, 4));
    told.extend(begun);
    assert_eq!(against(&told, all()), Comparison::default());
}
