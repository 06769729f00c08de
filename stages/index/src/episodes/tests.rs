use eddy_schemas::{
    Control, ControlKind, ScoresBuilder, Told,
    alert::{Alert, CloudEvent, Phase, Severity},
    rfc3339,
};
use tempfile::TempDir;

use super::*;
use crate::{Message, Offline};

const MINUTE: i64 = 60_000_000_000;

/// Messages of DETECTIONS, each alert in an atomic batch of its own.
struct Stream {
    bundle: &'static str,
    messages: Vec<(String, Vec<u8>)>,
}

impl Stream {
    fn new(bundle: &'static str) -> Self {
        Self { bundle, messages: Vec::new() }
    }

    fn rows(&mut self, rows: &[(&str, i64, u16, &[f32])]) {
        let mut scores = ScoresBuilder::new(self.bundle);
        for (series, minute, marks, vector) in rows {
            let told = Told { span: 10 * MINUTE, filled: 10, vector };
            scores.push(series, minute * MINUTE, 1.0, 1e-6, *marks, Some(told));
        }
        self.messages.push(("scores.s.0".into(), scores.encode()));
    }

    fn control(&mut self, kind: ControlKind) {
        let mut scores = ScoresBuilder::new(self.bundle);
        scores.push_control(&Control { id: "c".into(), origin: "cli".into(), time: 1, kind });
        self.messages.push(("scores.s.0".into(), scores.encode()));
    }

    /// An alert `<device>-<minute>` that the first row opens; the others are told later.
    fn alert(&mut self, shares: &[(&str, f64)], rows: &[(&str, i64, &[f32])]) {
        let (series, minute, vector) = rows[0];
        let (device, _) = series.split_once('/').unwrap();
        let share = |(name, share): &(&str, f64)| Share { name: (*name).to_owned(), share: *share };
        let alert = Alert {
            alert: format!("{device}-{minute}"),
            phase: Phase::Opened,
            severity: Severity::Minor,
            site: "s".into(),
            device: device.into(),
            opened: rfc3339(minute * MINUTE),
            score: 1.0,
            tail: 1e-6,
            threshold: 1e-4,
            tail_min: 1e-6,
            channels: shares.iter().map(share).collect(),
            heads: vec![],
            bundle: self.bundle.into(),
        };
        let event = CloudEvent::new(alert, 0, rfc3339(minute * MINUTE));
        self.messages.push((format!("alerts.s.minor.{device}"), event.to_json()));
        self.rows(&[(series, minute, flags::ALERTED, vector)]);
        let later: Vec<_> =
            rows[1..].iter().map(|(series, minute, v)| (*series, *minute, flags::EPISODE, *v)).collect();
        self.rows(&later);
    }

    /// An index that has taken all of it.
    fn index(&self) -> (Offline, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let index = Offline::new(folder.path(), "s").unwrap();
        self.write(&index, 0);
        (index, folder)
    }

    fn write(&self, index: &Offline, from: usize) {
        let messages = self.messages.iter().enumerate().skip(from);
        let messages = messages.map(|(at, (subject, payload))| Message { subject, sequence: at as u64 + 1, payload });
        index.write(messages).unwrap();
    }
}

/// What was found: alerts and distances in hundredths.
fn found(index: &Offline, request: &EpisodesRequest) -> Vec<(String, i32)> {
    let answer = index.episodes(request).unwrap();
    answer.episodes.iter().map(|one| (one.alert.clone(), (100.0 * one.distance).round() as i32)).collect()
}

fn like(index: &Offline, alert: &str) -> Vec<(String, i32)> {
    found(index, &EpisodesRequest::new(alert))
}

fn named(expected: &[(&str, i32)]) -> Vec<(String, i32)> {
    expected.iter().map(|(alert, distance)| ((*alert).to_owned(), *distance)).collect()
}

const BOTH: [(&str, f64); 2] = [("t", 0.75), ("h", 0.25)];

#[test]
fn an_episode_is_like_one_that_went_the_same_way_however_strong_and_not_like_one_that_opened_so() {
    let mut stream = Stream::new("b");
    stream.alert(
        &BOTH,
        &[("a/t", 10, &[9.0, 9.0]), ("a/t", 14, &[0.0, 2.0]), ("a/h", 14, &[1.0, 0.0]), ("a/t", 18, &[0.0, 4.0])],
    );
    stream.alert(&BOTH, &[("b/t", 20, &[5.0, 5.0]), ("b/t", 24, &[2.0, 0.0]), ("b/h", 24, &[1.0, 0.0])]);
    // Twice as strong; it has told one of its windows.
    stream.alert(&BOTH, &[("c/t", 30, &[5.0, 5.0]), ("c/t", 34, &[0.0, 4.0]), ("c/h", 34, &[2.0, 0.0])]);
    // It has nothing to say of `h`.
    stream.alert(&[("t", 1.0)], &[("d/t", 40, &[5.0, 5.0]), ("d/t", 44, &[0.0, 4.0])]);
    // Nothing in common.
    stream.alert(&[("voc", 1.0)], &[("e/voc", 50, &[5.0, 5.0]), ("e/voc", 54, &[0.0, 4.0])]);
    let (index, _folder) = stream.index();
    // |(0,4) - (0,2)| / 6 for three quarters, |(2,0) - (1,0)| / 3 for the rest: 1/3; opposite directions: .75 x sqrt(8) / 4.
    assert_eq!(like(&index, "c-30"), named(&[("d-40", 25), ("a-10", 33), ("b-20", 64)]));
    let answer = index.episodes(&EpisodesRequest { k: 1, ..EpisodesRequest::new("c-30") }).unwrap();
    let asked = &answer.asked;
    assert_eq!((answer.compared, answer.episodes.len(), answer.bundle.as_str()), (3, 1, "b"));
    assert_eq!((asked.device.as_str(), asked.opened, asked.windows), ("c", 30 * MINUTE, 2));
    assert_eq!((asked.start, asked.end, asked.channels.len()), (20 * MINUTE, 34 * MINUTE, 2));
    // As `d` sees it only `t` counts.
    assert_eq!(like(&index, "d-40"), named(&[("c-30", 0), ("a-10", 33), ("b-20", 75)]));
    assert!(index.episodes(&EpisodesRequest::new("x-1")).unwrap_err().message.contains("no window of alert x-1"));
    assert!(index.episodes(&EpisodesRequest { k: 0, ..EpisodesRequest::new("c-30") }).is_err());
}

#[test]
fn components_are_measured_in_what_is_usual() {
    let mut stream = Stream::new("b");
    // The first component is ordinarily a hundred times as large, and extremes do not change what is ordinary.
    let kept: Vec<_> =
        (0..40).map(|at| ("z/t", at, flags::KEPT, if at == 7 { [1e4, 1e4] } else { [100.0, 1.0] })).collect();
    let kept: Vec<_> =
        kept.iter().map(|(series, at, marks, vector)| (*series, *at, *marks, vector.as_slice())).collect();
    stream.rows(&kept);
    let one = [("t", 1.0)];
    stream.alert(&one, &[("a/t", 50, &[0.0, 0.0]), ("a/t", 54, &[100.0, 5.0])]);
    stream.alert(&one, &[("b/t", 60, &[0.0, 0.0]), ("b/t", 64, &[100.0, -5.0])]);
    stream.alert(&one, &[("c/t", 70, &[0.0, 0.0]), ("c/t", 74, &[200.0, 5.0])]);
    let (index, _folder) = stream.index();
    let alike: Vec<String> = like(&index, "a-50").into_iter().map(|(alert, _)| alert).collect();
    assert_eq!(alike, ["c-70", "b-60"]);
}

#[test]
fn a_young_alert_is_compared_by_what_opened_it() {
    let mut stream = Stream::new("b");
    stream.alert(&BOTH, &[("a/t", 10, &[1.0, 0.0]), ("a/t", 14, &[0.0, 9.0])]);
    stream.alert(&BOTH, &[("b/t", 20, &[0.0, 1.0])]);
    stream.alert(&BOTH, &[("c/t", 30, &[1.0, 0.0])]);
    let (index, _folder) = stream.index();
    assert_eq!(like(&index, "c-30"), named(&[("a-10", 0), ("b-20", 71)]));
    assert_eq!(like(&index, "a-10"), [], "the others have told nothing of later");
    // What comes then is its own, and no window of a device that has no alert.
    stream.rows(&[("c/t", 34, flags::EPISODE, &[0.0, 9.0]), ("d/t", 34, flags::EPISODE, &[0.0, 9.0])]);
    stream.write(&index, stream.messages.len() - 1);
    assert_eq!(like(&index, "c-30"), named(&[("a-10", 0)]));
    assert_eq!(index.episodes(&EpisodesRequest::new("c-30")).unwrap().asked.windows, 1);
}

#[test]
fn what_is_asked_for_is_found_and_nothing_of_another_bundle_or_of_what_was_forgotten() {
    let mut stream = Stream::new("b");
    let one = [("t", 1.0)];
    for (device, minute) in [("a", 10), ("b", 20), ("c", 30), ("a", 40)] {
        let series = format!("{device}/t");
        stream.alert(&one, &[(&series, minute, &[1.0, 1.0]), (&series, minute + 4, &[1.0, minute as f32])]);
    }
    stream.control(ControlKind::Label { device: "b".into(), alert: "b-20".into(), label: "leak".into() });
    stream.bundle = "another";
    stream.alert(&one, &[("d/t", 50, &[1.0, 1.0]), ("d/t", 54, &[1.0, 40.0])]);
    stream.bundle = "b";
    let (index, _folder) = stream.index();
    let ids = |request: &EpisodesRequest| found(&index, request).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let all = EpisodesRequest::new("a-40");
    assert_eq!(ids(&all), ["c-30", "b-20", "a-10"]);
    assert_eq!(ids(&EpisodesRequest { others: true, ..all.clone() }), ["c-30", "b-20"]);
    assert_eq!(ids(&EpisodesRequest { device: Some("a".into()), ..all.clone() }), ["a-10"]);
    assert_eq!(ids(&EpisodesRequest { since: Some(20 * MINUTE), until: Some(30 * MINUTE), ..all.clone() }), ["b-20"]);
    assert_eq!(ids(&EpisodesRequest { label: Some("*".into()), ..all.clone() }), ["b-20"]);
    assert_eq!(ids(&EpisodesRequest { label: Some("normal".into()), ..all.clone() }), Vec::<String>::new());
    assert_eq!(ids(&EpisodesRequest { radius: Some(0.2), ..all.clone() }), ["c-30"]);
    let labelled = index.episodes(&EpisodesRequest { label: Some("leak".into()), ..all.clone() }).unwrap();
    assert_eq!(labelled.episodes[0].label.as_ref().unwrap().name, "leak");
    assert_eq!(like(&index, "d-50"), [], "the only one of its bundle");
    stream.control(ControlKind::DeviceReset { device: "c".into() });
    // It is as if it had never alerted: what comes now is of no alert.
    stream.rows(&[("c/t", 60, flags::EPISODE, &[1.0, 40.0])]);
    stream.write(&index, stream.messages.len() - 2);
    assert_eq!(ids(&all), ["b-20", "a-10"]);
}
