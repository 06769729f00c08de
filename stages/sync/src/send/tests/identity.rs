//! Who writes as a site: one gateway, and what comes after it.

use super::*;

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn give(oracle: &mut Oracle, queue: &Queue, class: Class) {
    oracle.push(queue, class, entry(class, "x", &mut noise(1), 50));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_replaced_is_fenced_and_the_new_one_says_what_it_replaces() {
    let (old_folder, new_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (queue(old_folder.path()), queue(new_folder.path()));
    let region = Region::new(1, 1e6, 20 * MS);
    let mut oracle = Oracle::default();
    let older = Running::start(&old, &region, config());
    for class in [Class::Alerts, Class::Health] {
        give(&mut oracle, &old, class);
    }
    until_sent(&old).await;
    let newer = Running::start(&new, &region, config());
    for class in [Class::Alerts, Class::Contexts] {
        give(&mut Oracle::default(), &new, class);
    }
    until_sent(&new).await;
    // The old one notices it at its next word.
    give(&mut oracle, &old, Class::Alerts);
    let problem = older.ended().await.unwrap_err();
    assert!(problem.contains("another gateway writes as site \"plant 1\""), "{problem}");
    assert!(problem.contains("eddy-sync recover"), "{problem}");
    let alerts = region.state().batches(SITE, Class::Alerts);
    let chains: Vec<_> = alerts.iter().map(|(batch, _)| (batch.chain.to_vec(), batch.number)).collect();
    assert_eq!(chains, [(old.chain().to_vec(), 1), (new.chain().to_vec(), 1)]);
    assert_eq!(alerts[1].0.replaces, old.chain().as_slice());
    let contexts = region.state().batches(SITE, Class::Contexts);
    assert!(contexts[0].0.replaces.is_empty(), "there were none before");
    // Started again, it is fenced again: it does not take the site back by itself.
    assert!(Running::start(&old, &region, config()).ended().await.is_err());
    // A class in which only the old one had written is taken over too, later on.
    give(&mut Oracle::default(), &new, Class::Health);
    until_sent(&new).await;
    newer.stop().await.unwrap();
    let health = region.state().batches(SITE, Class::Health);
    assert_eq!(health[1].0.replaces, old.chain().as_slice());
}

#[tokio::test(start_paused = true)]
async fn an_old_gateway_that_still_writes_stops_its_successor_where_they_meet() {
    let (old_folder, new_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (queue(old_folder.path()), queue(new_folder.path()));
    let region = Region::new(1, 1e6, 20 * MS);
    let older = Running::start(&old, &region, config());
    give(&mut Oracle::default(), &old, Class::Alerts);
    until_sent(&old).await;
    let newer = Running::start(&new, &region, config());
    give(&mut Oracle::default(), &new, Class::Alerts);
    until_sent(&new).await;
    // It has not noticed yet, and writes where nobody had.
    give(&mut Oracle::default(), &old, Class::Contexts);
    until_sent(&old).await;
    give(&mut Oracle::default(), &new, Class::Contexts);
    assert!(newer.ended().await.unwrap_err().contains("another gateway"));
    drop(older);
}

#[tokio::test(start_paused = true)]
async fn a_copied_state_is_noticed() {
    let (folder, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let region = Region::new(1, 1e6, 20 * MS);
    let first = queue(folder.path());
    let running = Running::start(&first, &region, config());
    give(&mut Oracle::default(), &first, Class::Alerts);
    until_sent(&first).await;
    running.stop().await.unwrap();
    drop(first);
    copy(folder.path(), copied.path());
    let (first, second) = (queue(folder.path()), queue(copied.path()));
    assert_eq!(first.chain(), second.chain());
    let running = Running::start(&first, &region, config());
    give(&mut Oracle::default(), &first, Class::Alerts);
    until_sent(&first).await;
    let other = Running::start(&second, &region, config());
    // What it has as its second is the region's second already.
    give(&mut Oracle::default(), &second, Class::Alerts);
    give(&mut Oracle::default(), &second, Class::Alerts);
    until_sent(&second).await;
    give(&mut Oracle::default(), &first, Class::Alerts);
    let problem = running.ended().await.unwrap_err();
    assert!(problem.contains("its state was copied"), "{problem}");
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_region_that_was_set_back_stops_the_sender_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path());
    let region = Region::new(1, 1e6, 20 * MS);
    let mut oracle = Oracle::default();
    for restart in [false, true] {
        let running = Running::start(&queue, &region, config());
        give(&mut oracle, &queue, Class::Alerts);
        if restart {
            let problem = running.ended().await.unwrap_err();
            assert!(problem.contains("set back") && problem.contains("eddy-sync recover"), "{problem}");
            break;
        }
        until_sent(&queue).await;
        give(&mut oracle, &queue, Class::Alerts);
        until_sent(&queue).await;
        region.state().taken.pop();
        give(&mut oracle, &queue, Class::Alerts);
        let problem = running.ended().await.unwrap_err();
        assert!(problem.contains("set back") && problem.contains("eddy-sync recover"), "{problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn rubbish_on_a_subject_is_another_writer() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path());
    let region = Region::new(1, 1e6, 20 * MS);
    let subject = eddy_schemas::sync::subject_of(SITE, Class::Alerts);
    let rubbish = |payload: &'static [u8]| region::Taken {
        subject: subject.clone(),
        payload: Bytes::from_static(payload),
        at: Instant::now(),
    };
    region.state().taken.push(rubbish(b"before"));
    let running = Running::start(&queue, &region, config());
    give(&mut Oracle::default(), &queue, Class::Alerts);
    until_sent(&queue).await;
    region.state().taken.push(rubbish(b"later"));
    give(&mut Oracle::default(), &queue, Class::Alerts);
    assert!(running.ended().await.unwrap_err().contains("another gateway writes"));
}
