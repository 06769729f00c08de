//! Health messages go out beside the loop: when the conditions of all devices change at once (the gateway's clock was
//! set, an uplink of thousands of sensors came back), readings must not wait for ten thousand fsyncs.
//!
//! They are by the wall clock and at least once; the id lets the server drop a repetition within its window. State is
//! not committed before what it reports is out, see `commit.rs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use eddy_schemas::{health::Health, names};
use tokio::sync::mpsc;

use crate::bus::{Bus, Publication, PublishError};

/// So many wait at most; past it the loop waits.
const QUEUE_MAX: usize = 20_000;
/// So many go out as one atomic batch, with one fsync.
const BATCH_MAX: usize = 500;
/// Tries of a message whose publish was not answered.
const TRIES: u32 = 3;

/// The queue and the task that empties it; the task ends once the queue is dropped and empty.
pub(super) struct HealthLane {
    site: String,
    queue: mpsc::Sender<Publication>,
    waiting: Arc<AtomicUsize>,
}

impl HealthLane {
    pub(super) fn new<B: Bus>(bus: B, site: &str) -> Self {
        let (queue, mut waits) = mpsc::channel(QUEUE_MAX);
        let waiting = Arc::<AtomicUsize>::default();
        let left = waiting.clone();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            loop {
                let n = waits.recv_many(&mut batch, BATCH_MAX).await;
                if n == 0 {
                    return;
                }
                publish(&bus, std::mem::take(&mut batch)).await;
                left.fetch_sub(n, Ordering::AcqRel);
            }
        });
        Self { site: names::encode(site), queue, waiting }
    }

    /// Queues messages; waits where the queue is full.
    pub(super) async fn push(&self, health: Vec<Health>) {
        for one in health {
            let Ok(payload) = serde_json::to_vec(&one) else { continue };
            let channel = one.channel.as_deref().unwrap_or_default();
            let id = format!("{}/{channel}/{:?}/{}/{}", one.device, one.condition, one.active, one.since);
            let message = Publication {
                stream: "HEALTH".into(),
                subject: format!("health.{}.{}", self.site, names::encode(&one.device)),
                headers: vec![
                    ("Nats-Msg-Id".into(), names::encode(&id)),
                    ("Content-Type".into(), "application/json".into()),
                ],
                payload: payload.into(),
                guard: None,
            };
            self.waiting.fetch_add(1, Ordering::AcqRel);
            if self.queue.send(message).await.is_err() {
                // The task panicked: nothing is waited for that cannot come.
                self.waiting.store(0, Ordering::Release);
            }
        }
    }

    /// Whether all that was queued is out, or given up.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Waits for that.
    pub(super) async fn drained(&self) {
        while !self.is_empty() && !self.queue.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// All of them at once; where that does not go (one of them is a repetition, no answer came), one by one.
async fn publish<B: Bus>(bus: &B, messages: Vec<Publication>) {
    if messages.len() > 1 {
        match bus.publish(messages.clone()).await {
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, "health messages go out one by one"),
        }
    }
    let count = messages.len();
    for (at, message) in messages.into_iter().enumerate() {
        if let Err(error) = publish_one(bus, message).await {
            // What comes behind it would wait as long, for as little.
            tracing::warn!(%error, lost = count - at, "health messages are lost");
            return;
        }
    }
}

async fn publish_one<B: Bus>(bus: &B, message: Publication) -> Result<(), PublishError> {
    let mut tries = 1;
    loop {
        match bus.publish(vec![message.clone()]).await {
            Err(PublishError::Ambiguous { .. }) if tries < TRIES => tries += 1,
            result => return result.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use eddy_schemas::health::Condition;

    use super::*;
    use crate::bus::memory::{Faults, MemoryBus};

    fn conditions(devices: std::ops::Range<usize>) -> Vec<Health> {
        let silent = |device: usize| Health {
            device: format!("d {device}"),
            channel: None,
            condition: Condition::Silence,
            active: true,
            since: 0,
            value: 1.0,
        };
        devices.map(silent).collect()
    }

    fn bus(faults: Faults) -> MemoryBus {
        let bus = MemoryBus::new(3, faults);
        bus.create("HEALTH", 1);
        bus
    }

    fn subjects(bus: &MemoryBus) -> Vec<String> {
        bus.messages("HEALTH", "health.a%2Eb.").into_iter().map(|(subject, _)| subject).collect()
    }

    #[tokio::test]
    async fn conditions_wait_until_they_are_out_and_not_in_the_way() {
        let bus = bus(Faults::default());
        let lane = HealthLane::new(bus.clone(), "a.b");
        lane.push(conditions(0..100)).await;
        assert!(!lane.is_empty() && subjects(&bus).is_empty(), "nobody waited for them");
        lane.push(conditions(100..1_200)).await;
        lane.drained().await;
        let expected: Vec<String> = (0..1_200).map(|n| format!("health.a%2Eb.d%20{n}")).collect();
        assert!(lane.is_empty() && subjects(&bus) == expected);
    }

    #[tokio::test]
    async fn a_lost_answer_loses_no_condition() {
        let bus = bus(Faults { answer_lost: 300, publish_lost: 100, ..Faults::default() });
        let lane = HealthLane::new(bus.clone(), "a.b");
        // Three tries in a row fail for about one message in sixteen, after which the rest of its batch is lost.
        for n in 0..300 {
            lane.push(conditions(n..n + 1)).await;
            lane.drained().await;
        }
        let stored: BTreeSet<String> = subjects(&bus).into_iter().collect();
        assert!(stored.len() >= 290, "{} of 300", stored.len());
    }

    #[tokio::test]
    async fn where_they_cannot_go_nothing_waits_for_them() {
        let bus = MemoryBus::new(3, Faults::default());
        let lane = HealthLane::new(bus.clone(), "a.b");
        lane.push(conditions(0..700)).await;
        tokio::time::timeout(Duration::from_secs(10), lane.drained()).await.unwrap();
        assert!(lane.is_empty());
    }
}
