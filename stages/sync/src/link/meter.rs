//! A link that is paid by the byte: what a day may cost, spread over it.

use std::time::Duration;

use tokio::time::Instant;

const DAY: f64 = 86_400.0;
/// What was not spent lasts for so many seconds.
const KEPT: f64 = 3_600.0;

/// A bucket of bytes that fills through the day. Everything that is sent takes from it; only bulk waits for it.
#[derive(Debug)]
pub struct Meter {
    /// Bytes a second; 0: the link is not metered.
    rate: f64,
    bytes: f64,
    filled: Instant,
}

impl Meter {
    /// `day` bytes a day; 0: any number. It begins empty, so that starting again and again spends nothing more.
    pub fn new(day: u64, now: Instant) -> Self {
        Self { rate: day as f64 / DAY, bytes: 0.0, filled: now }
    }

    fn fill(&mut self, now: Instant) {
        self.bytes = (self.bytes + self.rate * (now - self.filled).as_secs_f64()).min(self.rate * KEPT);
        self.filled = now;
    }

    /// These went out. A debt is at most a day's.
    pub fn spent(&mut self, bytes: u64, now: Instant) {
        if self.rate > 0.0 {
            self.fill(now);
            self.bytes = (self.bytes - bytes as f64).max(-self.rate * DAY);
        }
    }

    /// When bulk may go; `None`: now.
    pub fn opens(&mut self, now: Instant) -> Option<Instant> {
        if self.rate == 0.0 {
            return None;
        }
        self.fill(now);
        // A second's worth, so that it does not open for every byte.
        let wait = (self.rate - self.bytes) / self.rate;
        (wait > 0.0).then(|| now + Duration::from_secs_f64(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_costs_what_it_may() {
        let start = Instant::now();
        let mut meter = Meter::new(8_640_000, start);
        let (mut now, mut spent) = (start, 0_u64);
        while now < start + Duration::from_secs(86_400) {
            match meter.opens(now) {
                Some(opens) => {
                    assert!(opens > now);
                    now = opens;
                }
                None => {
                    meter.spent(4_000, now);
                    spent += 4_000;
                }
            }
        }
        assert!((8_500_000..=8_644_000).contains(&spent), "{spent}");
    }

    #[test]
    fn savings_and_debts_are_bounded_and_no_meter_never_waits() {
        let now = Instant::now();
        let mut meter = Meter::new(86_400, now);
        let later = now + Duration::from_secs(1_000_000);
        assert_eq!(meter.opens(later), None);
        meter.spent(3_600, later);
        assert!(meter.opens(later).is_some(), "an hour's worth was kept");
        meter.spent(u64::MAX, later);
        assert!(meter.opens(later).unwrap() <= later + Duration::from_secs(86_402));
        let mut free = Meter::new(0, now);
        free.spent(u64::MAX, now);
        assert_eq!(free.opens(now), None);
    }
}
