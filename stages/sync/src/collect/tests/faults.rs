//! Restarts and a bus that fails.

use super::*;

/// A day of a small site: scores a minute, some with an alert, a label now and then.
fn day(bus: &MemoryBus) {
    for minute in 0..120 {
        let mut scores = ScoresBuilder::new(BUNDLE);
        if minute % 17 == 5 {
            bus.store("DETECTIONS", "alerts.s.minor.a", alert("a", minute, Phase::Opened));
        }
        if minute % 29 == 3 {
            bus.store("DETECTIONS", "alerts.s.minor.b", alert("b", minute, Phase::Closed));
        }
        if minute % 23 == 7 {
            scores.push_control(&label("cli", &minute.to_string()));
        }
        for device in ["a/t", "a/u", "b/t"] {
            let flags = match minute % 5 {
                0 => flags::KEPT,
                _ if minute % 17 == 5 => flags::ALERTED,
                _ => 0,
            };
            let vector = [minute as f32, 1.0, -3.0];
            let told = (flags != 0).then_some(Told { span: 9, filled: 3, vector: &vector });
            scores.push(device, minute * MINUTE, (minute % 50) as f32 / 50.0, 0.5, flags, told);
        }
        bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
        if minute % 3 == 0 {
            bus.store("CONTEXT", "context.s.a", Bytes::from(format!("context {minute}")));
            bus.store("HEALTH", "health.s.a", Bytes::from(format!("health {minute}")));
        }
    }
}

/// All that a queue holds, class by class.
fn content(queue: &Queue) -> Vec<Vec<wire::Entries>> {
    Class::ALL.into_iter().map(|class| entries(queue, class)).collect()
}

/// What DETECTIONS is, read at once.
async fn expected(bus: &MemoryBus) -> Vec<Vec<wire::Entries>> {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    offer(&mut sink(&queue, config()), &deliveries(bus, "DETECTIONS").await).await.unwrap();
    content(&queue)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_each_message_leaves_each_entry_once() {
    let bus = bus(1);
    day(&bus);
    let all = deliveries(&bus, "DETECTIONS").await;
    let expected = expected(&bus).await;
    assert!(expected[0].len() > 10 && expected[3].len() > 60 && expected[4].len() > 30);
    for every in [1, 2, 7] {
        let folder = tempfile::tempdir().unwrap();
        for upto in (1..=all.len()).step_by(every).chain([all.len()]) {
            // Some of it is committed, some is held when it ends.
            let queue = open(folder.path());
            let hold_bytes_max = if upto % 3 == 0 { 0 } else { 400 };
            let mut sink = sink(&queue, CollectConfig { hold_bytes_max, ..config() });
            offer(&mut sink, &all[..upto / 2 + 1]).await;
            offer(&mut sink, &all[..upto]).await;
        }
        let queue = open(folder.path());
        offer(&mut sink(&queue, CollectConfig { commit_interval: Duration::ZERO, ..config() }), &all).await;
        assert_eq!(content(&queue), expected, "a restart every {every} messages");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_failed_is_tried_again_with_what_was_read() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    day(&bus);
    let all = deliveries(&bus, "DETECTIONS").await;
    let queue = open(folder.path());
    let mut sink = sink(&queue, config());
    // Another reader's word for where it stands: the transaction is refused, and nothing of it is there.
    let turn = Turn { deliveries: &all, gap: None, before: Some(&reaches(0)) };
    assert!(matches!(sink.write(&turn, reaches).await, Err(SinkError::Fatal(_))));
    assert!(content(&queue).iter().all(Vec::is_empty));
    let turn = Turn { before: None, ..turn };
    assert_eq!(sink.write(&turn, reaches).await.unwrap(), all.last().map(|last| last.sequence));
    assert_eq!(content(&queue), expected(&bus).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_map_holds_the_reader_up_and_loses_nothing() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    let body = "x".repeat(50_000);
    (0..60).for_each(|_| _ = bus.store("CONTEXT", "context.s.a", Bytes::from(body.clone())));
    let all = deliveries(&bus, "CONTEXT").await;
    let bounds = Bounds { bytes: [1 << 30; 7], entries_max: 1 << 30, map_bytes: 1 << 20 };
    let queue = Arc::new(Queue::open(folder.path(), &bounds).unwrap());
    let stand = Stand { queue: queue.clone(), reader: "sync-contexts" };
    let mut sink = VerbatimSink { stand, class: Class::Contexts, telemetry: telemetry() };
    let reaches = |sequence| Position([("CONTEXT".to_owned(), Place::whole(INCARNATION, sequence))].into());
    let (mut at, mut refused, mut taken) = (0, 0, 0);
    while at < all.len() {
        let before = sink.position().unwrap();
        let turn = Turn { deliveries: &all[at..at + 1], gap: None, before: before.as_ref() };
        match sink.write(&turn, reaches).await {
            Ok(reached) => {
                assert_eq!(reached, Some(all[at].sequence));
                at += 1;
            }
            Err(SinkError::Again(problem)) => {
                assert!(problem.contains("raise sync.map_mb"), "{problem}");
                refused += 1;
                assert!(refused < 1000, "no room is made");
                // The region takes one.
                let slice = queue.next(Class::Contexts, taken, 1, 1).unwrap();
                assert_eq!(slice.entries[0].1.entries[0].what, Some(What::Context(body.clone().into())));
                taken = slice.last;
                queue.done(Class::Contexts, taken).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 20, "{refused}");
    assert_eq!(queue.next(Class::Contexts, taken, usize::MAX, 100).unwrap().last, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_readers_together_bring_everything_once_whatever_the_bus_loses() {
    let bus = bus(5);
    day(&bus);
    let expected = expected(&bus).await;
    let verbatim = [("CONTEXT", 1), ("HEALTH", 2)];
    bus.set_faults(Faults { feed_lost: 150, ..Faults::default() });
    let folder = tempfile::tempdir().unwrap();
    for round in 0.. {
        assert!(round < 300, "it is never all there");
        let queue = open(folder.path());
        let (stop, stopped) = watch::channel(false);
        let config = CollectConfig { commit_interval: Duration::from_millis(round % 3 * 20), ..config() };
        let few = LimitsConfig { pull_messages_max: 1 + round as usize % 9, ..limits() };
        let telemetry = telemetry();
        let running = tokio::spawn(run(queue.clone(), bus.clone(), config, few, telemetry, stopped));
        tokio::time::sleep(Duration::from_millis(20 + round * 7 % 50)).await;
        if round % 2 == 0 {
            stop.send_replace(true);
            running.await.unwrap().unwrap();
        } else {
            // In the middle of something.
            running.abort();
            let _ = running.await;
        }
        while Arc::strong_count(&queue) > 1 {
            // A commit that was under way goes to its end.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let wanted = [120 / 3, 120 / 3];
        let all = content(&queue);
        let lengths = [all[1].len(), all[2].len()];
        drop(queue);
        if [0, 3, 4].iter().all(|at| all[*at].len() >= expected[*at].len()) && lengths == wanted {
            assert_eq!((&all[0], &all[3], &all[4]), (&expected[0], &expected[3], &expected[4]));
            for (stream, at) in verbatim {
                let payloads = bus.payloads(stream, "");
                let told: Vec<_> = all[at].iter().map(|entries| entries.entries[0].what.clone().unwrap()).collect();
                let wrap = if at == 1 { What::Context } else { What::Health };
                assert_eq!(told, payloads.into_iter().map(wrap).collect::<Vec<_>>());
            }
            break;
        }
    }
}
