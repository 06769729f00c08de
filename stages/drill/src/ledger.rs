//! What was offered to the gateway, when, and what became of it (INV-4).

use std::collections::{HashMap, HashSet};

use eddy_schemas::{Timestamp, rfc3339};

/// Examples of each kind that are told.
const EXAMPLES_MAX: usize = 3;

/// A reading: series and event time. What comes twice counts once.
type Key = (u32, Timestamp);

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// By the wall clock, when it was first offered.
    offered: Timestamp,
    stored: bool,
    aside: bool,
    scores: u16,
    on_time: bool,
}

/// All of it.
#[derive(Debug)]
pub struct Ledger {
    /// What is on time: nanoseconds from when a reading is first offered to when its score is stored.
    on_time: i64,
    series: HashMap<String, u32>,
    names: Vec<String>,
    guests: HashSet<u32>,
    entries: HashMap<Key, Entry>,
    closed: Account,
}

/// The sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// Different readings that the gateway acknowledged.
    pub received: u64,
    /// Those with a score.
    pub scored: u64,
    /// Those with a score in time.
    pub on_time: u64,
    /// Those that were put aside with a reason, and have no score.
    pub aside: u64,
    /// Those that were neither.
    pub lost: u64,
    /// Score rows beyond the first of a reading.
    pub duplicated: u64,
    /// Different readings of guests that were acknowledged. They may be lost or duplicated as any, and are counted nowhere else.
    pub guests: u64,
    /// Score rows of known series that no reading explains: what preprocess filled in.
    pub unexplained: u64,
    /// The first ones that are wrong.
    pub examples: Vec<String>,
}

impl Account {
    /// Scored on time / received, of what is not put aside.
    pub fn availability(&self) -> f64 {
        self.on_time as f64 / (self.received.saturating_sub(self.aside)).max(1) as f64
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.scored += other.scored;
        self.on_time += other.on_time;
        self.aside += other.aside;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.guests += other.guests;
        self.unexplained += other.unexplained;
        self.examples.extend(other.examples.iter().cloned());
        self.examples.truncate(2 * EXAMPLES_MAX);
    }
}

impl Ledger {
    /// Empty; a score is on time so many nanoseconds after its reading was first offered.
    pub fn new(on_time: i64) -> Self {
        Self {
            on_time,
            series: HashMap::new(),
            names: Vec::new(),
            guests: HashSet::new(),
            entries: HashMap::new(),
            closed: Account::default(),
        }
    }

    /// A series, by its canonical text.
    pub fn series(&mut self, name: &str) -> u32 {
        if let Some(id) = self.series.get(name) {
            return *id;
        }
        let id = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.series.insert(name.to_owned(), id);
        id
    }

    /// A series that is not the recording's.
    pub fn guest(&mut self, name: &str) -> u32 {
        let id = self.series(name);
        self.guests.insert(id);
        id
    }

    /// A reading is about to be sent.
    pub fn offer(&mut self, series: u32, time: Timestamp, now: Timestamp) {
        self.entries.entry((series, time)).or_insert(Entry { offered: now, ..Entry::default() });
    }

    /// It was acknowledged.
    pub fn stored(&mut self, series: u32, time: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&(series, time)) {
            entry.stored = true;
        }
    }

    /// A score row was stored at `stored`. Whether its series is one that was offered.
    pub fn scored(&mut self, series: &str, time: Timestamp, stored: Timestamp) {
        let Some(id) = self.series.get(series) else { return };
        match self.entries.get_mut(&(*id, time)) {
            Some(entry) => {
                if entry.scores == 0 {
                    entry.on_time = stored - entry.offered <= self.on_time;
                }
                entry.scores = entry.scores.saturating_add(1);
            }
            None => self.closed.unexplained += 1,
        }
    }

    /// A reading was put aside with a reason.
    pub fn aside(&mut self, series: &str, time: Timestamp) {
        if let Some(entry) = self.series.get(series).and_then(|id| self.entries.get_mut(&(*id, time))) {
            entry.aside = true;
        }
    }

    /// Forgets what became of readings so far: everything is read anew from the streams.
    pub fn unread(&mut self) {
        for entry in self.entries.values_mut() {
            *entry = Entry { offered: entry.offered, stored: entry.stored, ..Entry::default() };
        }
        self.closed.unexplained = 0;
    }

    /// The sums as they are now.
    pub fn account(&self) -> Account {
        let mut account = self.closed.clone();
        account.add(&self.sums(|_| true));
        account
    }

    /// Closes the books of readings before `time`: they are summed and forgotten.
    pub fn close(&mut self, time: Timestamp) {
        let sums = self.sums(|key| key.1 < time);
        self.closed.add(&sums);
        self.entries.retain(|key, _| key.1 >= time);
    }

    fn sums(&self, which: impl Fn(&Key) -> bool) -> Account {
        let mut account = Account::default();
        let (mut lost, mut doubled) = (Vec::new(), Vec::new());
        for (key, entry) in self.entries.iter().filter(|(key, _)| which(key)) {
            if self.guests.contains(&key.0) {
                account.guests += u64::from(entry.stored);
            } else {
                account.received += u64::from(entry.stored);
                account.scored += u64::from(entry.scores > 0);
                account.on_time += u64::from(entry.on_time);
                account.aside += u64::from(entry.aside && entry.scores == 0);
            }
            account.duplicated += u64::from(entry.scores.saturating_sub(1));
            if entry.scores > 1 {
                doubled.push(*key);
            }
            if entry.stored && entry.scores == 0 && !entry.aside {
                lost.push(*key);
            }
        }
        account.lost = lost.len() as u64;
        for (what, mut keys) in [("lost", lost), ("duplicated", doubled)] {
            keys.sort_by_key(|(series, time)| (*time, *series));
            let told = keys.iter().take(EXAMPLES_MAX);
            account.examples.extend(told.map(|(series, time)| {
                let series = &self.names[*series as usize];
                format!("{what}: {series} at {}", rfc3339(*time))
            }));
        }
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(10);
        let series = ledger.series("d/t");
        for time in 1..=4 {
            ledger.offer(series, time, 100);
            ledger.stored(series, time);
        }
        // Nobody acknowledged that one.
        ledger.offer(series, 5, 100);
        ledger
    }

    #[test]
    fn every_reading_is_scored_aside_or_lost() {
        let mut ledger = ledger();
        ledger.scored("d/t", 1, 105);
        ledger.scored("d/t", 2, 111);
        ledger.aside("d/t", 3);
        ledger.scored("d/t", 99, 100);
        ledger.scored("other/t", 1, 100);
        let account = ledger.account();
        let sums =
            (account.received, account.scored, account.on_time, account.aside, account.lost, account.unexplained);
        assert_eq!(sums, (4, 2, 1, 1, 1, 1));
        assert_eq!(account.examples, ["lost: d/t at 1970-01-01T00:00:00.000000004Z"]);
        assert!((account.availability() - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_row_that_comes_twice_is_told() {
        let mut ledger = ledger();
        for _ in 0..3 {
            ledger.scored("d/t", 1, 105);
        }
        assert_eq!(ledger.account().duplicated, 2);
        ledger.unread();
        assert_eq!((ledger.account().duplicated, ledger.account().lost), (0, 4));
    }

    #[test]
    fn guests_are_accounted_for_and_not_measured() {
        let mut ledger = ledger();
        let guest = ledger.guest("g/t");
        for time in [1, 2, 3] {
            ledger.offer(guest, time, 100);
            ledger.stored(guest, time);
        }
        ledger.scored("g/t", 1, 999);
        ledger.scored("g/t", 1, 999);
        ledger.aside("g/t", 2);
        let account = ledger.account();
        let sums = (account.received, account.scored, account.guests, account.duplicated, account.lost);
        assert_eq!(sums, (4, 0, 3, 1, 4 + 1));
    }

    #[test]
    fn closed_books_count_as_open_ones() {
        let mut ledger = ledger();
        ledger.scored("d/t", 1, 105);
        ledger.scored("d/t", 4, 105);
        let before = ledger.account();
        ledger.close(4);
        assert_eq!((ledger.account(), ledger.entries.len()), (before, 2));
    }
}
