//! Links that are slow, lossy, cut, frozen, or break again and again.

use std::time::Duration;

use eddy_fixtures::link::{Conditions, State};

use super::{Hub, Site, assert_complete};
use crate::faults::seed;

const MS: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_bad_links_the_region_has_each_alert_and_each_window_once() {
    let seed = seed();
    let names = ["north 1", "south", "east"];
    let hub = Hub::start(&names, 1);
    let (slow, lossy, cut) = tokio::join!(
        Site::start(names[0], hub.address(), seed, &[]),
        Site::start(names[1], hub.address(), seed + 1, &[]),
        Site::start(names[2], hub.address(), seed + 2, &[]),
    );
    let slow_link = async {
        slow.link_is(Conditions { delay: 100 * MS, bytes_per_s: Some(64_000), ..Conditions::default() });
        let mut feed = slow.feed().await;
        feed.trickle(120, 20 * MS).await;
        // A backlog, and then all of it at once.
        feed.more(60).await;
    };
    let lossy_link = async {
        lossy.link_is(Conditions { loss: 0.05, stall: 200 * MS, delay: 20 * MS, ..Conditions::default() });
        let mut feed = lossy.feed().await;
        feed.trickle(60, 20 * MS).await;
        lossy.link_is(Conditions { resets_every: Some(400 * MS), delay: 20 * MS, ..Conditions::default() });
        feed.trickle(120, 20 * MS).await;
        lossy.link_is(Conditions::default());
    };
    let cut_link = async {
        let mut feed = cut.feed().await;
        for state in [State::Cut, State::HalfOpen, State::Cut, State::HalfOpen] {
            feed.trickle(20, 20 * MS).await;
            cut.link_is(Conditions { state, ..Conditions::default() });
            feed.trickle(40, 40 * MS).await;
            if state == State::HalfOpen {
                // A provider that comes back has forgotten its connections.
                cut.link.reset();
            }
            cut.link_is(Conditions::default());
        }
    };
    tokio::join!(slow_link, lossy_link, cut_link);
    assert!(slow.link.traffic().up > 0 && lossy.link.traffic().connections > 2, "the links are what is used");
    assert_complete(&hub, &[&slow, &lossy, &cut]).await;
}
