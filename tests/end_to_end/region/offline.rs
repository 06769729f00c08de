//! Weeks without a link, made short by small bounds.

use std::time::{Duration, Instant};

use eddy_fixtures::link::{Conditions, State};
use eddy_schemas::sync::UplinkStats;

use super::{Hub, PATIENCE, Site, sent, told};

/// Entries of a class that wait at most.
const WAITING_MAX: u64 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weeks_without_a_link_keep_what_is_urgent_and_name_the_rest() {
    let hub = Hub::start(&["plant"], 1);
    let most = WAITING_MAX.to_string();
    let mut plant = Site::start("plant", hub.address(), 1, &[("EDDY_SYNC_ENTRIES_MAX", &most)]).await;
    let mut feed = plant.feed().await;
    feed.more(8).await;
    let deadline = Instant::now() + PATIENCE;
    while hub.lacks("plant", &told(&plant).await).is_some() {
        assert!(Instant::now() < deadline, "{}\n{}", plant.said(), hub.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    plant.link_is(Conditions { state: State::Cut, ..Conditions::default() });
    feed.more(160).await;
    let all = told(&plant).await;
    let read = |class: &str, name: &str| plant.sync.metric(&format!("eddy_sync_queue_{name}"), class);
    // Until sync has read all that there is: what waits and what is lost are what was told since the cut.
    let since = all.windows.len() as u64 - 8 * 6;
    loop {
        let (waiting, lost) = (read("deltas", "entries"), read("deltas", "gap_entries"));
        assert!(waiting <= WAITING_MAX, "{waiting} wait");
        if waiting + lost == since {
            break;
        }
        assert!(Instant::now() < deadline, "{waiting} {lost} of {since}\n{}", plant.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(read("alerts", "gap_entries"), 0);
    assert!(plant.sync.log().contains("entries expired before the region had them"), "{}", plant.said());
    let uplink = plant.client.request("eddy.region.plant.uplink", Default::default()).await.unwrap();
    let uplink: UplinkStats = serde_json::from_slice(&uplink).unwrap();
    let deltas = uplink.classes.iter().find(|class| class.class == "deltas").unwrap();
    assert_eq!((uplink.connected, deltas.waiting, deltas.lost), (false, WAITING_MAX, since - WAITING_MAX));
    // A restart forgets none of it.
    plant.sync.kill_and_restart();
    plant.link_is(Conditions::default());
    let lost = since - WAITING_MAX;
    loop {
        let receipts = hub.receipts("plant").await;
        let of = |class: &str| receipts.chains.iter().find(|chain| chain.class == class).cloned().unwrap_or_default();
        let (alerts, deltas) = (of("alerts"), of("deltas"));
        let missing: u64 = deltas.missing.iter().map(|range| range.count).sum();
        if alerts.entries == all.alerts.len() as u64 && deltas.entries + missing == all.windows.len() as u64 {
            assert_eq!(missing, lost, "{receipts:?}");
            assert!(alerts.missing.is_empty() && deltas.missing.iter().all(|range| range.cause == "budget"));
            break;
        }
        assert!(Instant::now() < deadline, "{receipts:?}\n{}\n{}", plant.said(), hub.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What the hub's stream itself says, read by others' code: all that is lost lies in the gaps.
    let sent = sent(&hub, "plant").await;
    let compared = all.compare(&sent).unwrap();
    assert_eq!((compared.lost, compared.duplicated, compared.altered), (lost, 0, 0), "{compared:?}");
    let gaps_of = |class: &str| sent.gaps.iter().filter(|gap| gap.class == class).map(|gap| gap.count).sum::<u64>();
    assert_eq!((gaps_of("alerts"), gaps_of("deltas")), (0, lost), "{:?}", sent.gaps);
}
