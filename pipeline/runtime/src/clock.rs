//! The wall clock, injected: stages have none, and tests turn it by hand.

use std::{
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use eddy_schemas::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the Unix epoch.
    fn now(&self) -> Timestamp;
}

/// For drills alone: the environment variable that names a file of seconds by which [`SystemClock`] is wrong (`7200`, `-90`). The file is
/// read at each look at the clock, so that the time of a process that runs can be made to jump. Without the variable nothing is read.
pub const DRILL_FILE: &str = "EDDY_DRILL_CLOCK_FILE";

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// How wrong the file says that the clock is, in nanoseconds; 0 where it does not say it.
fn offset(file: &Path) -> i64 {
    let seconds = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i64>().ok());
    seconds.unwrap_or(0).saturating_mul(1_000_000_000)
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now(&self) -> Timestamp {
        static DRILL: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os(DRILL_FILE).map(PathBuf::from));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::try_from(since.as_nanos()).unwrap_or(Timestamp::MAX);
        DRILL.as_deref().map_or(now, |file| now.saturating_add(offset(file)))
    }
}

/// The moment that a date of an HTTP header names, `Sun, 06 Nov 1994 08:49:37 GMT`; `None` if it is none.
pub fn from_http_date(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Timestamp::try_from(time.as_nanosecond()).ok()
}

/// A clock that stands until it is turned.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now))
    }

    /// Turns it.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_says_by_how_much_the_clock_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("offset");
        assert_eq!(offset(&file), 0);
        for (text, seconds) in [("7200\n", 7_200), ("-90", -90), ("soon", 0)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(offset(&file), seconds * 1_000_000_000, "{text}");
        }
    }

    #[test]
    fn a_date_of_http_is_a_moment() {
        assert_eq!(from_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000_000_000));
        assert_eq!(from_http_date("tomorrow"), None);
    }
}
