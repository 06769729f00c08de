use eddy_schemas::{
    alert::{Alert, Phase, Severity},
    sync::wire::{Codes, Label as WireLabel},
};

use super::*;

fn entries() -> Entries {
    Entries {
        series: vec!["pump%2F7/t%20in".into(), "pump%2F7/*".into(), "nothing".into()],
        bundles: vec![Bytes::from_static(&[0xab, 0xcd]), Bytes::new()],
        ..Default::default()
    }
}

fn read(class: Class, what: What) -> Result<Meaning, String> {
    let entries = entries();
    let reader = Reader { site: "plant 1", token: "plant%201", class, entries: &entries, summaries: 10 };
    reader.read(&Entry { id: 1, what: Some(what) }, |_| None)
}

fn delta() -> VectorDelta {
    VectorDelta {
        action: Action::Insert.into(),
        series: 1,
        bundle: 1,
        sequence: 9,
        end: 100,
        span: 40,
        filled: 5,
        flags: 3,
        score: 0.5,
        codes: Codes::Int8.into(),
        scale: 0.5,
        vector: Bytes::from_static(&[2, 0xfe]),
        alert: "a1".into(),
        opens: true,
        ..Default::default()
    }
}

fn alert(site: &str, alert: &str) -> Bytes {
    let alert = Alert {
        alert: alert.into(),
        phase: Phase::Opened,
        severity: Severity::Minor,
        site: site.into(),
        device: "pump/7".into(),
        opened: "2026-01-01T00:00:00Z".into(),
        score: 1.0,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: vec![],
        heads: vec![],
        bundle: "b".into(),
    };
    CloudEvent::new(alert, 0, "2026-01-01T00:00:00Z".into()).to_json().into()
}

#[test]
fn a_delta_is_filed_under_its_site() {
    let Meaning::Add { device, model, window, alert, opens } = read(Class::Deltas, What::Delta(delta())).unwrap()
    else {
        panic!()
    };
    assert_eq!((device.as_str(), alert.as_deref(), opens), ("pump/7", Some("a1"), true));
    assert_eq!(model, Model { digest: "abcd".into(), head: "learned".into(), dimensions: 2 });
    assert_eq!(filed::parts(&window.series), Some(("plant 1".into(), "pump/7".into(), "t in".into())));
    assert_eq!(window.vector, eddy_vectors::quantizer::int8::decode(0.5, &[2, 0xfe]).unwrap());
    let facts = Facts { start: 60, end: 100, sequence: 9, filled: 5, flags: 3, score: 0.5 };
    assert_eq!(window.facts, facts);
    let forget = VectorDelta { action: Action::ForgetDevice.into(), series: 2, ..Default::default() };
    assert_eq!(read(Class::Deltas, What::Delta(forget)), Ok(Meaning::Forget { device: "pump/7".into() }));
}

#[test]
fn alerts_words_and_summaries_have_their_places() {
    let json = alert("plant 1", "a/1");
    let Meaning::Keep { device, key, value } = read(Class::Alerts, What::Alert(json.clone())).unwrap() else {
        panic!()
    };
    assert!(key.starts_with("alert/plant%201/a%2F1/"), "{key}");
    assert_eq!((device.as_str(), value), ("pump/7", json));
    let said = WireLabel { device: "d".into(), alert: "a".into(), label: "leak".into(), origin: "cli".into(), time: 4 };
    let word = Label { name: "leak".into(), origin: "plant 1/cli".into(), time: 4 };
    let (device, alert) = ("d".into(), "a".into());
    assert_eq!(read(Class::Alerts, What::Label(said)), Ok(Meaning::Say { device, alert, word }));
    let key = |end_s| {
        let summary =
            Summary { device: "d".into(), end_s, period_s: 300, rows: 1, quantiles: Bytes::from_static(b"12345") };
        match read(Class::Summaries, What::Summary(summary)).unwrap() {
            Meaning::Keep { key, .. } => key,
            meaning => panic!("{meaning:?}"),
        }
    };
    assert_eq!(key(600), "summary/plant%201/d/000002");
    assert_eq!(key(600 + 10 * 300), key(600), "the place of the one ten periods before");
    assert_ne!(key(900), key(600));
    let readings = Readings { series: 1, times: vec![7, 1], values: vec![1.0, 2.0], ..Default::default() };
    let Meaning::Keep { key, value, .. } = read(Class::Snippets, What::Readings(readings.clone())).unwrap() else {
        panic!()
    };
    assert_eq!(key, "snippets/plant%201/pump%2F7/t%20in/0000000000000007");
    assert_eq!(Readings::decode(value).unwrap(), Readings { series: 0, ..readings });
}

#[test]
fn what_is_none_of_its_class_says_why() {
    let long = "x".repeat(200);
    let label = |device: &str, alert: &str, label: &str| {
        let (device, alert, label) = (device.into(), alert.into(), label.into());
        What::Label(WireLabel { device, alert, label, origin: "cli".into(), time: 0 })
    };
    for (class, what, part) in [
        (Class::Alerts, What::Alert(Bytes::from_static(b"{}")), "not an alert"),
        (Class::Alerts, What::Alert(alert("plant 2", "a")), "an alert of site \"plant 2\""),
        (Class::Alerts, What::Alert(alert("plant 1", &long)), "alert \"xxx"),
        (Class::Alerts, What::Delta(delta()), "does not belong into alerts"),
        (Class::Alerts, label("", "a", "leak"), "device \"\""),
        (Class::Alerts, label("d", &long, "leak"), "alert"),
        (Class::Alerts, label("d", "a", ""), "a label of 0 bytes"),
        (Class::Contexts, What::Context(Bytes::from_static(b"[]")), "not a context"),
        (Class::Health, What::Health(Bytes::from_static(b"{}")), "not a condition"),
        (Class::Deltas, What::Delta(VectorDelta { series: 9, ..delta() }), "series 9 of 3"),
        (Class::Deltas, What::Delta(VectorDelta { series: 0, ..delta() }), "series 0 of 3"),
        (Class::Deltas, What::Delta(VectorDelta { series: 3, ..delta() }), "series \"nothing\""),
        (Class::Deltas, What::Delta(VectorDelta { bundle: 3, ..delta() }), "bundle 3 of 2"),
        (Class::Deltas, What::Delta(VectorDelta { bundle: 2, ..delta() }), "digest of 0 bytes"),
        (Class::Deltas, What::Delta(VectorDelta { action: 7, ..delta() }), "action 7"),
        (Class::Deltas, What::Delta(VectorDelta { span: -1, ..delta() }), "span -1"),
        (Class::Deltas, What::Delta(VectorDelta { end: i64::MIN, ..delta() }), "span 40"),
        (Class::Deltas, What::Delta(VectorDelta { filled: 70_000, ..delta() }), "samples 70000"),
        (Class::Deltas, What::Delta(VectorDelta { score: f32::NAN, ..delta() }), "score NaN"),
        (Class::Deltas, What::Delta(VectorDelta { codes: 2, ..delta() }), "never came"),
        (Class::Deltas, What::Delta(VectorDelta { alert: long.clone(), ..delta() }), "alert"),
        (Class::Summaries, What::Summary(Summary { device: "d".into(), ..Default::default() }), "a summary of 0 s"),
        (
            Class::Readings,
            What::Readings(Readings { series: 1, times: vec![1], ..Default::default() }),
            "1 times and 0",
        ),
    ] {
        let problem = read(class, what).unwrap_err();
        assert!(problem.contains(part), "{problem:?} does not say {part:?}");
    }
    let (none, empty) = (Entry { id: 1, what: None }, Entries::default());
    let reader = Reader { site: "s", token: "s", class: Class::Deltas, entries: &empty, summaries: 1 };
    assert!(reader.read(&none, |_| None).unwrap_err().contains("does not know"));
}
