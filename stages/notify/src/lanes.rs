//! What waits to be delivered: in order within a lane, lanes independent of each other.
//!
//! A lane is a device (or, with `order = "sink"`, the whole sink). The events of one episode must come in their order; those
//! of two devices have none worth keeping, and one alert that its receiver chokes on must not hold the others. Only the
//! first event of a lane is ever under way; the rest of its lane waits behind it, whatever it waits for.
//!
//! Nothing here reads a clock: the caller says how late it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;

use crate::event::Event;

/// Within what events keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// A device.
    Device,
    /// The sink: one event at a time.
    Sink,
}

struct Entry {
    event: Arc<Event>,
    lane: String,
    tries: u32,
}

/// The events of a sink that are neither delivered nor put aside. Its owner bounds how many it pushes.
pub struct Lanes {
    order: Order,
    entries: BTreeMap<u64, Entry>,
    lanes: HashMap<String, VecDeque<u64>>,
    /// First of their lane, not under way, and not waiting for a time.
    ready: BTreeSet<u64>,
    /// First of their lane, and tried again at that time.
    waiting: BTreeSet<(Duration, u64)>,
}

impl Lanes {
    /// Without events.
    pub fn new(order: Order) -> Self {
        Self {
            order,
            entries: BTreeMap::new(),
            lanes: HashMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
        }
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an event behind those of its lane. One that is there already is not added again.
    pub fn push(&mut self, event: Event) {
        let sequence = event.sequence;
        if self.entries.contains_key(&sequence) {
            return;
        }
        let lane = match self.order {
            Order::Device => event.cloud.data.device.clone(),
            Order::Sink => String::new(),
        };
        let queue = self.lanes.entry(lane.clone()).or_default();
        queue.push_back(sequence);
        if queue.len() == 1 {
            self.ready.insert(sequence);
        }
        self.entries.insert(sequence, Entry { event: Arc::new(event), lane, tries: 0 });
    }

    /// The oldest event that may go now; it is under way from here on, and counts as tried.
    pub fn start(&mut self, now: Duration) -> Option<Arc<Event>> {
        while let Some((due, sequence)) = self.waiting.first().copied() {
            if due > now {
                break;
            }
            self.waiting.pop_first();
            self.ready.insert(sequence);
        }
        let entry = self.entries.get_mut(&self.ready.pop_first()?)?;
        entry.tries += 1;
        Some(entry.event.clone())
    }

    /// How often an event was tried.
    pub fn tries(&self, sequence: u64) -> u32 {
        self.entries.get(&sequence).map_or(0, |entry| entry.tries)
    }

    /// An event that is under way.
    pub fn event(&self, sequence: u64) -> Option<Arc<Event>> {
        self.entries.get(&sequence).map(|entry| entry.event.clone())
    }

    /// It failed, and may go again at `due`.
    pub fn retry(&mut self, sequence: u64, due: Duration) {
        if self.entries.contains_key(&sequence) {
            self.waiting.insert((due, sequence));
        }
    }

    /// It is delivered or put aside: the next of its lane may go.
    pub fn finish(&mut self, sequence: u64) {
        let Some(entry) = self.entries.remove(&sequence) else { return };
        let Some(queue) = self.lanes.get_mut(&entry.lane) else { return };
        queue.retain(|other| *other != sequence);
        match queue.front() {
            Some(next) => {
                self.ready.insert(*next);
            }
            None => {
                self.lanes.remove(&entry.lane);
            }
        }
    }

    /// When the next event that waits may go.
    pub fn next_due(&self) -> Option<Duration> {
        self.waiting.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use eddy_schemas::alert::Phase;

    use super::*;
    use crate::event::tests::event;

    const SECOND: Duration = Duration::from_secs(1);

    fn lanes(order: Order, devices: &[&str]) -> Lanes {
        let mut lanes = Lanes::new(order);
        for (index, device) in devices.iter().enumerate() {
            lanes.push(event(index as u64 + 1, device, Phase::Opened));
        }
        lanes
    }

    fn started(lanes: &mut Lanes, now: Duration) -> Vec<u64> {
        std::iter::from_fn(|| lanes.start(now)).map(|event| event.sequence).collect()
    }

    #[test]
    fn one_of_each_device_goes_at_a_time_the_oldest_first() {
        let mut lanes = lanes(Order::Device, &["a", "a", "b", "a"]);
        assert_eq!(started(&mut lanes, SECOND), [1, 3]);
        lanes.finish(1);
        assert_eq!(started(&mut lanes, SECOND), [2]);
        lanes.finish(3);
        lanes.finish(2);
        assert_eq!(started(&mut lanes, SECOND), [4]);
        lanes.finish(4);
        assert!(lanes.is_empty());
    }

    #[test]
    fn what_failed_holds_its_own_lane_until_it_is_due() {
        let mut lanes = lanes(Order::Device, &["a", "b", "a", "b"]);
        assert_eq!(started(&mut lanes, SECOND), [1, 2]);
        lanes.retry(1, 5 * SECOND);
        lanes.finish(2);
        assert_eq!(started(&mut lanes, 2 * SECOND), [4]);
        assert_eq!(lanes.next_due(), Some(5 * SECOND));
        assert_eq!(started(&mut lanes, 5 * SECOND), [1]);
        assert_eq!((lanes.tries(1), lanes.tries(4), lanes.tries(3)), (2, 1, 0));
        lanes.finish(1);
        assert_eq!(started(&mut lanes, 5 * SECOND), [3]);
    }

    #[test]
    fn in_the_order_of_the_sink_there_is_one_lane() {
        let mut lanes = lanes(Order::Sink, &["a", "b"]);
        assert_eq!(started(&mut lanes, SECOND), [1]);
        lanes.retry(1, 9 * SECOND);
        assert_eq!(started(&mut lanes, 8 * SECOND), Vec::<u64>::new());
        assert_eq!(started(&mut lanes, 9 * SECOND), [1]);
        lanes.finish(1);
        assert_eq!(started(&mut lanes, 9 * SECOND), [2]);
    }

    #[test]
    fn an_event_that_comes_again_is_one() {
        let mut lanes = lanes(Order::Device, &["a"]);
        assert_eq!(started(&mut lanes, SECOND), [1]);
        lanes.push(event(1, "a", Phase::Opened));
        assert_eq!((lanes.len(), started(&mut lanes, SECOND).len()), (1, 0));
    }
}
