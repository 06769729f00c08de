//! Everything dies, again and again.

use std::time::Duration;

use super::{Hub, Site, assert_complete};
use crate::faults::{Dice, seed};

const KILLS: u32 = 18;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_the_region_has_each_alert_and_each_window_once() {
    let seed = seed();
    let mut dice = Dice(seed);
    let mut hub = Hub::start(&["north 1", "south"], 2);
    let (mut north, mut south) = tokio::join!(
        Site::start("north 1", hub.address(), seed, &[]),
        Site::start("south", hub.address(), seed + 1, &[]),
    );
    let (mut one, mut other) = (north.feed().await, south.feed().await);
    let feeding = tokio::spawn(async move {
        let every = Duration::from_millis(25);
        tokio::join!(one.trickle(160, every), other.trickle(160, every));
    });
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(50 + dice.below(300))).await;
        match dice.below(8) {
            0 | 1 => north.sync.kill_and_restart(),
            2 | 3 => south.sync.kill_and_restart(),
            4 => hub.processes[0].kill_and_restart(),
            5 => hub.processes[1].kill_and_restart(),
            6 => hub.server.kill_and_restart(),
            _ => north.server.kill_and_restart(),
        }
    }
    feeding.await.unwrap();
    assert_complete(&hub, &[&north, &south]).await;
}
