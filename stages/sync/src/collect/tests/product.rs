//! A codebook that is learned on the way.

use eddy_vectors::quantizer::{int8, product::Codebook};

use super::*;

const ROWS: usize = 40;

fn vector(minute: i64) -> Vec<f32> {
    (0..8).map(|at| (minute as f32 * 0.37 + at as f32).sin() * (1.0 + (minute % 9) as f32)).collect()
}

/// A window a message, of one bundle and now and then of another.
fn windows(bus: &MemoryBus, minutes: std::ops::Range<i64>) {
    let other = "ff".repeat(32);
    for minute in minutes {
        let mut scores = ScoresBuilder::new(if minute % 10 == 9 { &other } else { BUNDLE });
        let told = Told { span: 0, filled: 0, vector: &vector(minute) };
        scores.push("a/t", minute * MINUTE, 0.2, 0.5, flags::KEPT, Some(told));
        bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
    }
}

fn by_product() -> CollectConfig {
    CollectConfig { coder: Box::new(Product::new(ROWS, None)), ..config() }
}

/// Reads the deltas as the region does; returns of each its codes, and how far it lies from the window.
fn read(queue: &Queue) -> Vec<(wire::Codes, f32)> {
    let mut books = std::collections::HashMap::new();
    let mut read = Vec::new();
    for entries in entries(queue, Class::Deltas) {
        let bundle = entries.bundles[0].clone();
        match entries.entries[0].what.clone().unwrap() {
            What::Codebook(told) => {
                assert_eq!(told.digest, blake3::hash(&told.centroids).as_bytes().as_slice());
                let (dimensions, parts) = (told.dimensions as usize, told.parts as usize);
                let book = Codebook::from_bytes(&told.centroids, dimensions, parts).unwrap();
                assert!(books.insert(bundle, book).is_none(), "a codebook goes out once");
            }
            What::Delta(delta) => {
                let back = match delta.codes() {
                    wire::Codes::Pq => books[&bundle].decode(delta.scale, &delta.vector).unwrap(),
                    _ => int8::decode(delta.scale, &delta.vector).unwrap(),
                };
                let vector = vector(delta.end / MINUTE);
                let off: f32 = back.iter().zip(&vector).map(|(x, y)| (x - y) * (x - y)).sum();
                let length: f32 = vector.iter().map(|x| x * x).sum();
                read.push((delta.codes(), (off / length).sqrt()));
            }
            what => panic!("{what:?}"),
        }
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codebook_is_learned_once_and_goes_out_before_what_it_tells_wherever_restarts_fall() {
    let bus = bus(1);
    windows(&bus, 0..100);
    let all = deliveries(&bus, "DETECTIONS").await;
    let mut contents = Vec::new();
    for every in [100, 1, 3] {
        let folder = tempfile::tempdir().unwrap();
        for upto in (every..=all.len()).step_by(every).chain([all.len()]) {
            let queue = open(folder.path());
            // Some is committed, some is read and not committed.
            let mut sink = sink(&queue, CollectConfig { hold_bytes_max: 150, ..by_product() });
            offer(&mut sink, &all[..upto - every / 2]).await;
            offer(&mut sink, &all[..upto]).await;
            sink.held = None;
            offer(&mut sink, &all[..upto]).await;
        }
        let queue = open(folder.path());
        offer(&mut sink(&queue, CollectConfig { commit_interval: Duration::ZERO, ..by_product() }), &all).await;
        contents.push(entries(&queue, Class::Deltas));
        let read = read(&queue);
        assert_eq!(read.len(), 100);
        let by_product: Vec<_> =
            read.iter().filter(|(codes, _)| *codes == wire::Codes::Pq).map(|(_, off)| *off).collect();
        // Of the other bundle there are ten.
        assert_eq!(by_product.len(), 90 - ROWS);
        assert!(by_product.iter().sum::<f32>() / (by_product.len() as f32) < 0.2, "{by_product:?}");
        let mut rows = 0;
        queue
            .kept(b"product/rows/", |_, _| {
                rows += 1;
                Ok::<_, QueueError>(())
            })
            .unwrap();
        assert_eq!(rows, 10, "what was learned from is not kept");
    }
    assert!(contents.iter().all(|content| *content == contents[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codebook_outlives_the_budget_and_what_cannot_have_one_goes_out_in_a_byte_a_component() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    windows(&bus, 0..300);
    let bounds = Bounds { bytes: [1 << 30; 7], entries_max: 20, map_bytes: 256 << 20 };
    let queue = Arc::new(Queue::open(folder.path(), &bounds).unwrap());
    let all = deliveries(&bus, "DETECTIONS").await;
    let mut sink = sink(&queue, CollectConfig { commit_interval: Duration::ZERO, ..by_product() });
    for upto in (10..=300).step_by(10) {
        offer(&mut sink, &all[..upto]).await;
    }
    assert!(read(&queue).iter().all(|(codes, _)| *codes == wire::Codes::Pq || *codes == wire::Codes::Int8));
    assert!(read(&queue).iter().filter(|(codes, _)| *codes == wire::Codes::Pq).count() > 10);
    // Three parts do not divide eight components.
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let coder = Box::new(Product::new(ROWS, Some(3)));
    let mut sink = super::sink(&queue, CollectConfig { commit_interval: Duration::ZERO, coder, ..config() });
    offer(&mut sink, &all).await;
    assert!(read(&queue).len() == 300 && read(&queue).iter().all(|(codes, _)| *codes == wire::Codes::Int8));
}
