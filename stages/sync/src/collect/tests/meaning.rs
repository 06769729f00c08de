//! What messages mean.

use eddy_vectors::quantizer::{QuantizerError, int8};

use super::*;

/// An atomic batch as detect publishes it: alerts, then their scores.
fn detections(bus: &MemoryBus) {
    bus.store("DETECTIONS", "alerts.s.minor.a", alert("a", 3, Phase::Opened));
    bus.store("DETECTIONS", "alerts.s.minor.b", alert("b", 4, Phase::Closed));
    let mut scores = ScoresBuilder::new(BUNDLE);
    let told = |vector| Some(Told { span: 60, filled: 7, vector });
    scores.push("a/t", MINUTE, 0.1, 0.5, 0, None);
    scores.push("a/t", 2 * MINUTE, 0.2, 0.5, flags::KEPT, told(&[1.0, -2.0]));
    scores.push_control(&label("cli", "b-alert"));
    scores.push("a/t", 3 * MINUTE, 0.9, 1e-6, flags::ALERTED, told(&[3.0, 0.5]));
    scores.push("a/*", 3 * MINUTE, 0.9, 1e-6, flags::ALERTED | flags::JOINT, None);
    scores.push_control(&control("console", ControlKind::DeviceReset { device: "a".into() }));
    scores.push("b/t", 4 * MINUTE, 0.3, 1.0, flags::ALERTED, told(&[0.0, 0.0]));
    scores.push("b/u", 4 * MINUTE, 0.3, 1.0, flags::KEPT, told(&[f32::INFINITY, 0.0]));
    // For this gateway's index alone.
    scores.push("b/t", 5 * MINUTE, 0.1, 1.0, flags::EPISODE | flags::GATED, told(&[1.0, 1.0]));
    bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_atomic_batch_is_its_alerts_labels_and_windows_in_their_order() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    detections(&bus);
    let queue = open(folder.path());
    let mut sink = sink(&queue, config());
    assert_eq!(offer(&mut sink, &deliveries(&bus, "DETECTIONS").await).await, Some(3), "at once");
    let alerts = bus.payloads("DETECTIONS", "alerts.");
    let said = wire::Label {
        device: "a".into(),
        alert: "b-alert".into(),
        label: "normal".into(),
        origin: "cli".into(),
        time: 5,
    };
    let expected = [What::Alert(alerts[0].clone()), What::Alert(alerts[1].clone()), What::Label(said)];
    assert_eq!(whats(&queue, Class::Alerts), expected);
    let deltas = deltas(&queue);
    let told: Vec<_> = deltas.iter().map(|(series, d)| (series.as_str(), d.row, d.alert.as_str(), d.opens)).collect();
    let expected =
        [("a/t", 1, "", false), ("a/t", 3, "a-alert", true), ("a/*", 5, "", false), ("b/t", 6, "b-alert", false)];
    assert_eq!(told, expected);
    let (_, kept) = &deltas[0];
    let expected = wire::VectorDelta {
        action: wire::Action::Insert.into(),
        series: 1,
        bundle: 1,
        sequence: 3,
        row: 1,
        end: 2 * MINUTE,
        span: 60,
        filled: 7,
        flags: flags::KEPT.into(),
        score: 0.2,
        codes: wire::Codes::Int8.into(),
        scale: int8::encode(&[1.0, -2.0]).unwrap().0,
        vector: int8::encode(&[1.0, -2.0]).unwrap().1.into(),
        ..Default::default()
    };
    assert_eq!(*kept, expected);
    assert_eq!((deltas[2].1.action(), deltas[2].1.end), (wire::Action::ForgetDevice, 5));
    let digest = blake3::Hash::from_hex(BUNDLE).unwrap();
    assert_eq!(entries(&queue, Class::Deltas)[0].bundles, [Bytes::copy_from_slice(digest.as_bytes())]);
    // The reset device's scores until then; joint rows are none of a series.
    let summaries = summaries(&queue);
    assert_eq!(summaries.iter().map(|summary| (summary.device.as_str(), summary.rows)).collect::<Vec<_>>(), [("a", 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_from_the_region_does_not_go_back_but_a_reset_does() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    let mut scores = ScoresBuilder::new(BUNDLE);
    scores.push_control(&label("region/hub/anna", "x"));
    scores.push_control(&label("regional", "y"));
    scores.push_control(&control("region/hub/anna", ControlKind::DeviceReset { device: "a b".into() }));
    scores.push_control(&control("cli", ControlKind::Recommission { device: "a".into() }));
    bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
    let queue = open(folder.path());
    offer(&mut sink(&queue, config()), &deliveries(&bus, "DETECTIONS").await).await.unwrap();
    let labels = whats(&queue, Class::Alerts);
    assert!(matches!(labels.as_slice(), [What::Label(label)] if label.alert == "y"), "{labels:?}");
    assert_eq!(deltas(&queue).iter().map(|(series, _)| series.as_str()).collect::<Vec<_>>(), ["a%20b/*"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_wait_for_company_and_are_read_once() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    for minute in 0..10 {
        let mut scores = ScoresBuilder::new(BUNDLE);
        scores.push("a/t", minute * MINUTE, 0.2, 0.5, flags::KEPT, Some(Told { span: 0, filled: 0, vector: &[1.0] }));
        bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
    }
    let all = deliveries(&bus, "DETECTIONS").await;
    let queue = open(folder.path());
    let coder = Counted::default();
    let config = || CollectConfig { hold_bytes_max: 600, coder: Box::new(coder.clone()), ..config() };
    let mut sink = sink(&queue, config());
    let mut reached = Vec::new();
    for upto in 1..=10 {
        reached.extend(offer(&mut sink, &all[..upto]).await);
    }
    let (coded, commits) = (coder.0.load(std::sync::atomic::Ordering::Relaxed), reached.len());
    assert_eq!((coded, commits), (10, 1), "each window once, and one commit when the bytes are enough: {reached:?}");
    // Time, too: everything that was held is committed with it.
    let mut impatient = super::sink(&queue, CollectConfig { commit_interval: Duration::ZERO, ..config() });
    assert_eq!(offer(&mut impatient, &all).await, Some(10));
    assert_eq!(deltas(&queue).len(), 10);
}

/// Counts what it is asked.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<std::sync::atomic::AtomicUsize>);

impl VectorCoder for Counted {
    fn code(&mut self, bundle: &[u8], vector: &[f32]) -> Result<Coded, QuantizerError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Int8.code(bundle, vector)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_wait_for_the_scores_that_they_belong_to() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    detections(&bus);
    detections(&bus);
    let all = deliveries(&bus, "DETECTIONS").await;
    let queue = open(folder.path());
    let mut sink = sink(&queue, config());
    // A pull that ends between an alert and its scores.
    assert_eq!(offer(&mut sink, &all[..2]).await, None);
    assert_eq!(offer(&mut sink, &all[..5]).await, Some(3));
    assert_eq!(offer(&mut sink, &all).await, Some(6));
    assert_eq!((whats(&queue, Class::Alerts).len(), deltas(&queue).len()), (6, 8));
    assert_eq!(deltas(&queue).iter().filter(|(_, delta)| !delta.alert.is_empty()).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_is_a_gap_of_each_class_where_it_was() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    let score = |subject: &str| {
        let mut scores = ScoresBuilder::new(BUNDLE);
        scores.push("a/t", MINUTE, 0.2, 0.5, flags::KEPT, Some(Told { span: 0, filled: 0, vector: &[1.0] }));
        bus.store("DETECTIONS", subject, scores.encode().into());
    };
    (0..9).for_each(|_| score("scores.s.0"));
    let all = deliveries(&bus, "DETECTIONS").await;
    // A quiet shard's last message stays while what came after it is purged: no gap at the stream's front tells of it.
    let left: Vec<Delivery> = all.iter().filter(|delivery| ![3, 4, 6].contains(&delivery.sequence)).cloned().collect();
    let queue = open(folder.path());
    let mut sink = sink(&queue, CollectConfig { commit_interval: Duration::ZERO, ..config() });
    offer(&mut sink, &left[..1]).await.unwrap();
    assert_eq!(offer(&mut sink, &left).await, Some(9));
    for class in [Class::Alerts, Class::Deltas, Class::Summaries] {
        let told: Vec<_> =
            slice(&queue, class).gaps.into_iter().map(|gap| (gap.cause(), gap.count, gap.detail)).collect();
        let source = wire::Cause::Source;
        let expected = [(source, 2, "DETECTIONS 3 to 4".to_owned()), (source, 1, "DETECTIONS 6 to 6".to_owned())];
        assert_eq!(told, expected, "{class:?}");
    }
    let numbers: Vec<u64> = slice(&queue, Class::Deltas).entries.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 4, 6, 7, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_passed_over_and_told() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    bus.store("DETECTIONS", "alerts.s.minor.a", Bytes::from_static(b"rubbish"));
    bus.store("DETECTIONS", "scores.s.0", Bytes::from_static(b"rubbish"));
    let mut long = ScoresBuilder::new(&"x".repeat(600));
    long.push("a/t", MINUTE, 0.2, 0.5, flags::KEPT, Some(Told { span: 0, filled: 0, vector: &[1.0] }));
    bus.store("DETECTIONS", "scores.s.0", long.encode().into());
    detections(&bus);
    let queue = open(folder.path());
    let mut sink = sink(&queue, config());
    assert_eq!(offer(&mut sink, &deliveries(&bus, "DETECTIONS").await).await, Some(6));
    // An alert is the region's to judge: byte for byte, whatever it is.
    assert_eq!((whats(&queue, Class::Alerts).len(), deltas(&queue).len()), (4, 4));
    assert_eq!(whats(&queue, Class::Alerts)[0], What::Alert(Bytes::from_static(b"rubbish")));
}
