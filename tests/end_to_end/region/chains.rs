//! Whose a site is: one gateway at a time, and a new one is seen to be new.

use std::time::{Duration, Instant};

use eddy_runtime::provision::provision;

use super::{Hub, PATIENCE, Site, assert_complete, sent, site};
use crate::{
    gateway::{ROOMY, connect},
    stage::StageProcess,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_syncs_of_a_site_one_goes_on() {
    let hub = Hub::start(&["plant"], 1);
    let mut plant = Site::start("plant", hub.address(), 1, &[]).await;
    let mut feed = plant.feed().await;
    feed.more(20).await;
    assert_complete(&hub, &[&plant]).await;
    // Another one that was set up under the same name, with streams and a queue of its own; and that once was the site's.
    let mut twin = Site::start("plant", hub.address(), 2, &[]).await;
    twin.feed().await.more(8).await;
    let deadline = Instant::now() + PATIENCE;
    let (which, status) = loop {
        // The one that came last takes the site over, and the one before it is told; which that is, is all that may differ.
        if let Some(status) = plant.sync.ended() {
            break (&plant, status);
        }
        if let Some(status) = twin.sync.ended() {
            break (&twin, status);
        }
        feed.more(1).await;
        assert!(Instant::now() < deadline, "both go on\n{}\n{}", plant.said(), twin.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(status.code(), Some(70), "{}", which.said());
    assert!(which.said().contains("eddy-sync recover"), "{}", which.said());
    // Whatever the two did, the chains hold.
    sent(&hub, "plant").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_replaced_begins_a_new_chain_that_says_so() {
    let hub = Hub::start(&["plant"], 1);
    let mut plant = Site::start("plant", hub.address(), 1, &[]).await;
    plant.feed().await.more(20).await;
    assert_complete(&hub, &[&plant]).await;
    let before = sent(&hub, "plant").await;
    assert!(plant.sync.stop().success(), "{}", plant.said());
    // A new machine: other streams, and nothing of what the old one knew.
    plant.server.reimage();
    std::fs::remove_dir_all(plant.folder.path().join("state")).unwrap();
    plant.client = connect(&plant.server.url()).await;
    provision(&plant.client, "plant", 1, &ROOMY).await.unwrap();
    plant.sync.restart();
    let mut feed = plant.feed().await;
    feed.windows = 3;
    feed.more(12).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let receipts = hub.receipts("plant").await;
        let of_alerts: Vec<_> = receipts.chains.iter().filter(|chain| chain.class == "alerts").collect();
        if let [old, new] = of_alerts[..]
            && new.entries + old.entries == 5 + 3
        {
            let (new, old) = if new.current { (new, old) } else { (old, new) };
            assert!(new.current && !old.current && new.replaces == old.chain, "{of_alerts:?}");
            assert_eq!((old.entries, new.entries), (5, 3));
            assert!(receipts.chains.iter().all(|chain| chain.missing.is_empty()), "{receipts:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{receipts:?}\n{}\n{}", plant.said(), hub.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = sent(&hub, "plant").await;
    assert_eq!((before.chains["alerts"].len(), after.chains["alerts"].len()), (1, 2));
    assert_ne!(after.chains["alerts"][0], after.chains["alerts"][1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sync_on_the_same_queue_is_refused_and_the_first_goes_on() {
    let hub = Hub::start(&["plant"], 1);
    let mut plant = Site::start("plant", hub.address(), 1, &[]).await;
    plant.feed().await.more(8).await;
    assert_complete(&hub, &[&plant]).await;
    let folder = tempfile::tempdir().unwrap();
    let environment = site::environment(
        "plant",
        &plant.server.url(),
        &format!("nats://{}", plant.link.address()),
        plant.folder.path(),
        &[],
    );
    let mut twin = StageProcess::start("sync", folder.path(), &environment);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = twin.ended() {
            break status;
        }
        assert!(Instant::now() < deadline, "{}", site::tail("the second", &twin));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(70), "{}", site::tail("the second", &twin));
    assert!(plant.sync.ended().is_none());
}
