//! Readings that leave because a policy says so, and nothing else.

use eddy_schemas::ReadingsBuilder;

use super::*;

const SECOND: i64 = 1_000_000_000;

fn policy(series: &str, what: Share) -> Policy {
    Policy { series: series.into(), purpose: format!("why {series}"), what, before_s: 5.0, after_s: 3.0 }
}

/// Readings of second `s`: two devices, two channels, and a control.
fn readings(bus: &MemoryBus, seconds: std::ops::Range<i64>) {
    for second in seconds {
        let mut readings = ReadingsBuilder::default();
        for series in ["a/t", "a/u", "b/t", "b/u"] {
            readings.push(series, second * SECOND, value(series, second), 0, second * SECOND);
        }
        readings.push_control(&label("cli", "x"), 0);
        bus.store("READINGS", "readings.s.0", readings.encode().into());
    }
}

fn value(series: &str, second: i64) -> f64 {
    second as f64 + f64::from(series.as_bytes()[0]) * 1000.0 + f64::from(series.as_bytes()[2]) / 1000.0
}

/// An alert of a device, with its scores.
fn alarm(bus: &MemoryBus, device: &str, second: i64, phase: Phase) {
    let time = second * SECOND;
    let mut event: CloudEvent = serde_json::from_slice(&alert(device, 0, phase)).unwrap();
    event.time = rfc3339(time);
    event.data.alert = format!("{device}-{second}");
    bus.store("DETECTIONS", &format!("alerts.s.minor.{device}"), event.to_json().into());
    let mut scores = ScoresBuilder::new(BUNDLE);
    scores.push(&format!("{device}/t"), time, 0.9, 1e-6, flags::ALERTED, None);
    bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
}

/// Per entry: series, purpose, alert, and its readings.
type Told = (String, String, String, Vec<(i64, f64)>);

fn told(queue: &Queue, class: Class) -> Vec<Told> {
    let one = |mut entries: wire::Entries| {
        let Some(What::Readings(readings)) = entries.entries.remove(0).what else { panic!("no readings") };
        let mut time = 0;
        let times = readings.times.iter().map(|difference| {
            time += difference;
            time / SECOND
        });
        let all = times.zip(readings.values.clone()).collect();
        (entries.series.remove(0), readings.purpose, readings.alert, all)
    };
    entries(queue, class).into_iter().map(one).collect()
}

fn series_of(name: &str, seconds: impl IntoIterator<Item = i64>) -> Vec<(i64, f64)> {
    seconds.into_iter().map(|second| (second, value(name, second))).collect()
}

/// Runs all readers until `is_done`, with restarts of both kinds on the way.
async fn collect(
    bus: &MemoryBus,
    policies: &[Policy],
    mut is_done: impl FnMut(&Queue) -> bool,
) -> (Arc<Queue>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for round in 0.. {
        assert!(round < 200, "it is never all there");
        let queue = open(folder.path());
        let (stop, stopped) = watch::channel(false);
        let config = CollectConfig {
            commit_interval: Duration::from_millis(round % 4 * 10),
            policies: policies.to_vec(),
            ..config()
        };
        let few = LimitsConfig { pull_messages_max: 1 + round as usize * 3 % 17, ..limits() };
        let running = tokio::spawn(run(queue.clone(), bus.clone(), config, few, telemetry(), stopped));
        // A tick is a second away: the last rounds wait for one.
        tokio::time::sleep(Duration::from_millis(if round < 12 { 15 + round * 11 % 40 } else { 1_300 })).await;
        if round % 2 == 0 {
            stop.send_replace(true);
            running.await.unwrap().unwrap();
        } else {
            running.abort();
            let _ = running.await;
        }
        while Arc::strong_count(&queue) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if is_done(&queue) {
            return (queue, folder);
        }
    }
    unreachable!("the loop ends by an assertion")
}

fn all_streams(seed: u64) -> MemoryBus {
    let bus = bus(seed);
    bus.create("READINGS", INCARNATION);
    bus.set_faults(Faults { feed_lost: 100, ..Faults::default() });
    bus
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_of_a_named_series_leave_once_and_no_others() {
    let bus = all_streams(3);
    readings(&bus, 0..300);
    let policies = [policy("a/t", Share::Readings), policy("*/t", Share::Readings), policy("a/u", Share::Snippets)];
    let count = |queue: &Queue| told(queue, Class::Readings).iter().map(|(.., all)| all.len()).sum::<usize>();
    let (queue, _folder) = collect(&bus, &policies, |queue| count(queue) >= 600).await;
    for (series, purpose) in [("a/t", "why a/t"), ("b/t", "why */t")] {
        let mine: Vec<Told> = told(&queue, Class::Readings).into_iter().filter(|told| told.0 == series).collect();
        assert!(mine.iter().all(|told| told.1 == purpose && told.2.is_empty() && told.3.len() <= 256));
        assert_eq!(mine.into_iter().flat_map(|told| told.3).collect::<Vec<_>>(), series_of(series, 0..300));
    }
    assert_eq!((count(&queue), told(&queue, Class::Snippets)), (600, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_opens_takes_the_named_readings_around_it_with_it_once() {
    let bus = all_streams(9);
    readings(&bus, 0..400);
    alarm(&bus, "a", 100, Phase::Opened);
    alarm(&bus, "a", 101, Phase::Updated);
    alarm(&bus, "b", 102, Phase::Opened);
    alarm(&bus, "c", 103, Phase::Opened);
    alarm(&bus, "a", 200, Phase::Opened);
    // Its time is not over.
    alarm(&bus, "a", 397, Phase::Opened);
    let policies = [policy("a/*", Share::Snippets), policy("b/u", Share::Snippets)];
    let noted = |queue: &Queue| 1_000 - noted::room(queue).unwrap();
    // The alert of a device that no policy names is forgotten.
    let (queue, folder) =
        collect(&bus, &policies, |queue| told(queue, Class::Snippets).len() >= 5 && noted(queue) == 1).await;
    let around = |series: &str, at: i64| (series.to_owned(), series_of(series, at - 5..=at + 3));
    let mut found = told(&queue, Class::Snippets);
    found.sort_by(|one, other| (&one.2, &one.0).cmp(&(&other.2, &other.0)));
    let brief: Vec<_> = found.iter().map(|told| (told.2.as_str(), (told.0.clone(), told.3.clone()))).collect();
    let expected = [
        ("a-100", around("a/t", 100)),
        ("a-100", around("a/u", 100)),
        ("a-200", around("a/t", 200)),
        ("a-200", around("a/u", 200)),
        ("b-102", around("b/u", 102)),
    ];
    assert_eq!(brief, expected);
    assert_eq!((found[0].1.as_str(), found[4].1.as_str()), ("why a/*", "why b/u"));
    assert!(told(&queue, Class::Readings).is_empty() && slice(&queue, Class::Snippets).gaps.is_empty());
    drop((queue, folder));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_removed_is_a_gap_of_what_it_would_have_fed() {
    let bus = all_streams(1);
    bus.set_faults(Faults::default());
    readings(&bus, 0..50);
    let policies = [policy("a/t", Share::Readings), policy("a/t", Share::Snippets)];
    // Both have begun: what a reader has never stood behind it does not miss.
    let has_begun = |queue: &Queue, reader| queue.position(reader).unwrap().is_some();
    let both = |queue: &Queue| has_begun(queue, "sync-readings") && has_begun(queue, "sync-snippets");
    let (queue, folder) = collect(&bus, &policies, both).await;
    drop(queue);
    readings(&bus, 50..60);
    bus.purge("READINGS", 56);
    let queue = open(folder.path());
    let (stop, stopped) = watch::channel(false);
    let config = CollectConfig { commit_interval: Duration::ZERO, policies: policies.to_vec(), ..config() };
    let running = tokio::spawn(run(queue.clone(), bus.clone(), config, limits(), telemetry(), stopped));
    let gaps = |class| slice(&queue, class).gaps.into_iter().map(|gap| gap.detail).collect::<Vec<_>>();
    while gaps(Class::Readings).is_empty() || gaps(Class::Snippets).is_empty() {
        assert!(!running.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    for class in [Class::Readings, Class::Snippets] {
        let [gap] = <[String; 1]>::try_from(gaps(class)).unwrap();
        assert!(gap.starts_with("READINGS ") && gap.ends_with(" to 55"), "{gap}");
    }
}

/// A reader of READINGS that is asked by hand; who notes alerts is not behind.
fn asked(queue: &Arc<Queue>, policies: &[Policy]) -> (SnippetsSink, watch::Sender<Progress>, watch::Sender<bool>) {
    let (progress, followed) = Progress::channel();
    progress.send_modify(|progress| progress.drained = true);
    let (stop, stopped) = watch::channel(false);
    let stand = Stand { queue: queue.clone(), reader: "sync-snippets" };
    let policies = Policies::of(policies, Share::Snippets);
    let patience = Patience { interval: Duration::ZERO, messages_max: 1_000 };
    let sink = SnippetsSink::new(stand, policies, patience, telemetry(), followed, stopped).unwrap();
    (sink, progress, stop)
}

fn note(queue: &Queue, device: &str, second: i64, stored_at: i64) {
    let before = queue.position("test").unwrap();
    let next = before.as_ref().map_or(1, |position| position.0["X"].sequence + 1);
    let noted =
        noted::Noted { alert: format!("{device}-{second}"), device: device.into(), time: second * SECOND, stored_at };
    let mut write = queue.write().unwrap();
    noted.note(&mut write).unwrap();
    let position = Position([("X".to_owned(), Place::whole(1, next))].into());
    write.commit("test", before.as_ref(), &position).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_is_noted_before_its_readings_are_read_waits_for_them_and_one_of_a_silent_series_not_for_ever() {
    let bus = all_streams(1);
    bus.set_faults(Faults::default());
    readings(&bus, 0..1_400);
    let mut all = deliveries(&bus, "READINGS").await;
    // By the server's clock a message a second.
    all.iter_mut().for_each(|delivery| delivery.stored_at = delivery.sequence as i64 * SECOND);
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let (mut sink, progress, _stop) = asked(&queue, &[policy("a/t", Share::Snippets)]);
    let reaches = |sequence| Position([("READINGS".to_owned(), Place::whole(INCARNATION, sequence))].into());
    let mut at = None;
    let mut read = async |sink: &mut SnippetsSink, upto: usize| {
        let from = at.as_ref().map_or(0, |position: &Position| position.0["READINGS"].sequence as usize);
        let turn = Turn { deliveries: &all[from..upto], gap: None, before: at.as_ref() };
        assert_eq!(sink.write(&turn, reaches).await.unwrap(), Some(upto as u64));
        at = Some(reaches(upto as u64));
    };
    let count = || told(&queue, Class::Snippets).len();
    read(&mut sink, 10).await;
    note(&queue, "a", 30, 32 * SECOND);
    read(&mut sink, 31).await;
    assert_eq!((count(), noted::room(&queue).unwrap()), (0, 999));
    read(&mut sink, 36).await;
    assert_eq!((count(), noted::room(&queue).unwrap()), (1, 1_000));
    assert_eq!(told(&queue, Class::Snippets)[0].3, series_of("a/t", 25..=33));
    // The series says no more than up to here (by its own clock): what there is goes out in the end.
    note(&queue, "a", 1_397, 60 * SECOND);
    read(&mut sink, 600).await;
    assert_eq!(count(), 1);
    read(&mut sink, 700).await;
    // Nothing of the series lies there: that is told, too.
    assert_eq!((count(), slice(&queue, Class::Snippets).gaps.len()), (1, 1));
    // Who notes alerts is far behind: nothing is read meanwhile.
    progress.send_replace(Progress { stored_at: 0, drained: false });
    let turn = Turn { deliveries: &all[700..], gap: None, before: Some(&reaches(700)) };
    let waited = tokio::time::timeout(Duration::from_millis(50), sink.write(&turn, reaches)).await;
    assert!(waited.is_err());
    progress.send_replace(Progress { stored_at: 900 * SECOND, drained: false });
    assert_eq!(sink.write(&turn, reaches).await.unwrap(), Some(1_400));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_is_read_at_once_is_looked_through_before_it_is_forgotten() {
    let bus = all_streams(1);
    bus.set_faults(Faults::default());
    readings(&bus, 0..2_000);
    let mut all = deliveries(&bus, "READINGS").await;
    all.iter_mut().for_each(|delivery| delivery.stored_at = delivery.sequence as i64 * SECOND);
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let (mut sink, _progress, _stop) = asked(&queue, &[policy("a/t", Share::Snippets)]);
    let reaches = |sequence| Position([("READINGS".to_owned(), Place::whole(INCARNATION, sequence))].into());
    [100, 1_950].iter().for_each(|second| note(&queue, "a", *second, second * SECOND));
    let turn = Turn { deliveries: &all, gap: None, before: None };
    assert_eq!(sink.write(&turn, reaches).await.unwrap(), Some(2_000));
    let found: Vec<_> = told(&queue, Class::Snippets).into_iter().map(|told| told.3).collect();
    assert_eq!(found, [100, 1_950].map(|second: i64| series_of("a/t", second - 5..=second + 3)));
    // What is kept for a later alert reaches back twenty minutes, and that is where a restart begins.
    sink.saved -= Duration::from_secs(60);
    sink.tick().await.unwrap();
    let (again, ..) = asked(&queue, &[policy("a/t", Share::Snippets)]);
    let from = again.position().unwrap().unwrap().0["READINGS"].sequence;
    assert!((700..900).contains(&from), "{from}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_alerts_at_once_than_can_be_noted_are_told() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    (0..1_003).for_each(|second| alarm(&bus, "a", second, Phase::Opened));
    let queue = open(folder.path());
    let policies = vec![policy("a/t", Share::Snippets)];
    offer(&mut sink(&queue, CollectConfig { policies, ..config() }), &deliveries(&bus, "DETECTIONS").await)
        .await
        .unwrap();
    let gaps = slice(&queue, Class::Snippets).gaps;
    assert_eq!((noted::room(&queue).unwrap(), gaps.iter().map(|gap| gap.count).sum::<u64>()), (0, 3));
    assert!(gaps[0].detail.starts_with("readings around a-1000 of a: 1000 alerts"), "{gaps:?}");
}
