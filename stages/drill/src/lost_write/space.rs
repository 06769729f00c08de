//! How much the files may hold: the disk that is full.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A file system has a block to spare for a new entry, or refuses it.
pub(super) const ENTRY_BYTES: u64 = 4096;

/// The bytes of all files by their lengths, and the bound. Blocks written again cost nothing, as on a disk that writes
/// in place.
#[derive(Debug)]
pub(super) struct Space {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Space {
    /// `used` bytes are there already.
    pub(super) fn new(used: u64, limit: Option<u64>) -> Self {
        Self { used: used.into(), limit: limit.unwrap_or(u64::MAX).into() }
    }

    pub(super) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(u64::MAX), SeqCst);
    }

    pub(super) fn limit(&self) -> Option<u64> {
        Some(self.limit.load(SeqCst)).filter(|limit| *limit != u64::MAX)
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(SeqCst)
    }

    pub(super) fn free(&self) -> u64 {
        self.limit.load(SeqCst).saturating_sub(self.used())
    }

    /// Takes up to `bytes` and returns how many there were.
    pub(super) fn take(&self, bytes: u64) -> u64 {
        let mut used = self.used();
        loop {
            let taken = bytes.min(self.limit.load(SeqCst).saturating_sub(used));
            match self.used.compare_exchange(used, used + taken, SeqCst, SeqCst) {
                Ok(_) => return taken,
                Err(other) => used = other,
            }
        }
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is() {
        let space = Space::new(10, Some(100));
        assert_eq!((space.take(50), space.take(50), space.take(1)), (50, 40, 0));
        space.give_back(30);
        assert_eq!((space.free(), space.take(31)), (30, 30));
        space.set_limit(Some(5));
        assert_eq!((space.free(), space.take(1)), (0, 0));
        space.set_limit(None);
        assert_eq!((space.take(7), space.used(), space.limit()), (7, 107, None));
    }
}
