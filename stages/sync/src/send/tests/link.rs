//! What goes when: alerts first, bulk within the link, a metered link's budget, a congested link's rest.

use super::*;
use crate::link::on_the_wire;

/// Fills the queue with bulk.
fn fill(queue: &Queue, bytes: usize) {
    let mut random = noise(7);
    let mut write = queue.write().unwrap();
    for number in 0..bytes / 140 {
        write.push(Class::Deltas, entry(Class::Deltas, &number.to_string(), &mut random, 100)).unwrap();
    }
    commit(queue, write);
}

fn deltas(region: &Region) -> usize {
    region.state().count(SITE, Class::Deltas).0
}

/// Alerts that come while bulk fills the link: how long each takes to be at the region.
async fn alerts(queue: &Queue, region: &Region, count: usize) -> Vec<Duration> {
    let mut random = noise(9);
    let mut took = Vec::new();
    for number in 0..count {
        sleep(MS * random.random_range(300..900)).await;
        let (before, _) = region.state().count(SITE, Class::Alerts);
        let given = Instant::now();
        Oracle::default().push(queue, Class::Alerts, entry(Class::Alerts, &number.to_string(), &mut random, 600));
        let arrived = loop {
            let counted = region.state().count(SITE, Class::Alerts);
            match counted {
                (count, Some(at)) if count > before => break at,
                _ => sleep(MS).await,
            }
        };
        took.push(arrived - given);
    }
    took.sort_unstable();
    took
}

#[tokio::test(start_paused = true)]
async fn alerts_overtake_bulk_on_a_full_link() {
    for round_trip in [20, 300] {
        let folder = tempfile::tempdir().unwrap();
        let queue = queue(folder.path());
        fill(&queue, 5 << 20);
        let region = Region::new(1, 65_536.0, round_trip * MS);
        let running = Running::start(&queue, &region, config());
        sleep(Duration::from_secs(15)).await;
        let (began, busy) = (Instant::now(), region.state().busy);
        region.state().on_the_way.1 = 0;
        let took = alerts(&queue, &region, 60).await;
        let used = (region.state().busy - busy).as_secs_f64() / began.elapsed().as_secs_f64();
        let (median, worst, most) = (took[took.len() / 2], took[took.len() - 1], region.state().on_the_way.1);
        println!(
            "64 KB/s, {round_trip} ms: {:.1}% used, an alert takes {median:?} at the median, {worst:?} at most; {most} bytes \
             on their way at most",
            100.0 * used
        );
        assert!(queue.depth(Class::Deltas).unwrap().entries > 0, "the link was full all the time");
        assert!(used > 0.9, "{used}");
        assert!(median - round_trip * MS / 2 < 150 * MS, "{median:?}");
        assert!(round_trip > 20 || median < 150 * MS, "{median:?}");
        // Rate times round trip and target; an alert and a batch.
        assert!(most < 65 * (round_trip as u64 + 100) + 8_000, "{most}");
        running.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn classes_go_in_strict_priority() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path());
    let region = Region::new(1, 65_536.0, 20 * MS);
    let mut random = noise(1);
    for class in Class::ALL {
        let entries = (0..200).map(|number| (class, entry(class, &format!("{number}"), &mut random, 200)));
        Oracle::default().push_all(&queue, entries.collect());
    }
    let running = Running::start(&queue, &region, SendConfig { linger: Duration::ZERO, ..config() });
    until_sent(&queue).await;
    running.stop().await.unwrap();
    // A lower class may begin while it is asked where a higher one stands.
    let order: Vec<_> = region.state().taken.iter().skip(20).map(|taken| taken.subject.clone()).collect();
    let rank = |subject: &String| Class::of_token(subject.rsplit('.').next().unwrap()).unwrap();
    assert!(order.iter().map(rank).is_sorted(), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_trickle_waits_for_company_and_a_full_batch_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path());
    let region = Region::new(1, 65_536.0, 20 * MS);
    let running = Running::start(&queue, &region, config());
    let mut random = noise(1);
    let mut oracle = Oracle::default();
    for _ in 0..300 {
        oracle.push(&queue, Class::Deltas, entry(Class::Deltas, "x", &mut random, 5));
        sleep(MS * 1_000).await;
    }
    let batches = deltas(&region);
    assert!((8..=11).contains(&batches), "{batches} batches of five minutes' trickle");
    fill(&queue, 20_000);
    sleep(Duration::from_secs(5)).await;
    assert!(deltas(&region) > batches, "a full one does not wait");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_metered_link_spreads_its_budget_and_alerts_do_not_wait_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path());
    fill(&queue, 12 << 20);
    let region = Region::new(1, 1e6, 20 * MS);
    let running = Running::start(&queue, &region, SendConfig { metered_bytes: 8 << 20, ..config() });
    let mut sent = Vec::new();
    for _ in 0..24 {
        let took = alerts(&queue, &region, 2).await;
        assert!(took.iter().all(|took| *took < 100 * MS), "{took:?}");
        sleep(Duration::from_secs(3_600)).await;
        sent.push(region.state().taken.iter().map(|taken| on_the_wire(taken.payload.len())).sum::<u64>());
    }
    assert!(*sent.last().unwrap() < 9 << 20, "{sent:?}");
    assert!(*sent.last().unwrap() > 7 << 20, "it is used, too: {sent:?}");
    assert!(sent[11] < 5 << 20, "half of the day, half of it: {sent:?}");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn on_a_congested_link_only_alerts_go_until_it_is_better() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path());
    fill(&queue, 12 << 20);
    let region = Region::new(1, 200_000.0, 20 * MS);
    let running = Running::start(&queue, &region, SendConfig { congested_after: 1_000 * MS, ..config() });
    sleep(Duration::from_secs(5)).await;
    // Something else takes the link, a lot of it.
    region.state().rate = 4_000.0;
    region.state().round_trip = 2_400 * MS;
    alerts(&queue, &region, 2).await;
    let before = deltas(&region);
    alerts(&queue, &region, 5).await;
    assert!(deltas(&region) <= before + 1, "bulk is held back");
    let text = running.telemetry.render();
    assert!(text.contains("eddy_sync_held_classes{stage=\"test\",shard=\"0\"} 1"), "{text}");
    region.state().rate = 200_000.0;
    region.state().round_trip = 20 * MS;
    alerts(&queue, &region, 1).await;
    sleep(Duration::from_secs(10)).await;
    assert!(deltas(&region) > before + 20, "and goes on");
    running.stop().await.unwrap();
}
