//! When alerts were seen to open, by the wall clock, so that it can be told how long a label took to come.

use std::collections::{HashMap, VecDeque};

use eddy_schemas::Timestamp;

use crate::changes::{Change, Changes};

/// So many are remembered, the newest.
const MOST: usize = 4_096;

/// The newest openings; forgotten with the process.
#[derive(Debug, Default)]
pub struct Openings {
    seen: HashMap<String, Timestamp>,
    order: VecDeque<String>,
}

impl Openings {
    /// Of messages of which the last was stored at `stored_at`.
    pub(crate) fn note(&mut self, changes: &Changes, stored_at: Timestamp) {
        for change in &changes.changes {
            let Change::Open { alert, .. } = change else { continue };
            if self.seen.insert(alert.clone(), stored_at).is_none() {
                self.order.push_back(alert.clone());
            }
            if self.order.len() > MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
    }

    /// When an alert opened; `None` if that was before this process, or too many ago.
    pub(crate) fn of(&self, alert: &str) -> Option<Timestamp> {
        self.seen.get(alert).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_openings_are_remembered() {
        let opened =
            |n: usize| Change::Open { device: "d".into(), alert: n.to_string(), opened: 0, channels: Vec::new() };
        let mut openings = Openings::default();
        for n in 0..MOST + 2 {
            let changes = Changes { changes: vec![opened(n)], ..Changes::default() };
            openings.note(&changes, n as Timestamp);
        }
        assert_eq!((openings.of("1"), openings.of("2")), (None, Some(2)));
        assert_eq!(openings.seen.len(), MOST);
    }
}
