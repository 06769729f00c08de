//! How many refusals are logged: anybody can be refused any number of times, and the log has a bound.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// Counts what comes in a minute.
pub(super) struct Flood {
    most: u32,
    lately: Mutex<Lately>,
}

struct Lately {
    since: Instant,
    count: u32,
}

impl Flood {
    /// One by one so many are logged in a minute.
    pub(super) fn new(most: u32) -> Self {
        Self { most, lately: Mutex::new(Lately { since: Instant::now(), count: 0 }) }
    }

    /// One more: `None` if it is only counted; otherwise what is said of those that were, if any.
    pub(super) fn next(&self) -> Option<String> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<String> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let mut only_counted = 0;
        if now.saturating_duration_since(lately.since) >= MINUTE {
            only_counted = lately.count.saturating_sub(self.most);
            *lately = Lately { since: now, count: 0 };
        }
        lately.count = lately.count.saturating_add(1);
        let more = if only_counted > 0 { format!("; and {only_counted} more before this one") } else { String::new() };
        (lately.count <= self.most).then_some(more)
    }
}

/// The same for each of those who ask; who they can be the server's config bounds.
#[derive(Default)]
pub struct Floods(Mutex<HashMap<String, Flood>>);

impl Floods {
    /// One more of `who`, of whom so many a minute are heard: `None` if this one is not.
    pub(crate) fn next(&self, who: &str, most: u32) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(who) {
            all.insert(who.to_owned(), Flood::new(most));
        }
        all.get(who)?.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_and_told_with_the_next() {
        let flood = Flood::new(2);
        let now = Instant::now();
        let at = |seconds| flood.at(now + Duration::from_secs(seconds));
        assert_eq!([0, 1, 58, 59].map(at), [Some(String::new()), Some(String::new()), None, None]);
        assert_eq!(at(61).as_deref(), Some("; and 2 more before this one"));
        assert_eq!([at(62).as_deref(), at(63).as_deref()], [Some(""), None]);
        assert_eq!(at(122).as_deref(), Some("; and 1 more before this one"));
    }
}
