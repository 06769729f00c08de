//! Contexts kept beside what is on disk, for who goes on later. Bounded, and gone after a restart: then a trace ends there.

use std::collections::BTreeMap;

/// So many are kept; past that the one with the least key goes.
const KEPT_MAX: usize = 1_024;

/// See the module. Keys grow with time, or what goes first does not matter.
#[derive(Debug)]
pub struct Remembered<K, V>(BTreeMap<K, V>);

impl<K: Ord, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone, V> Remembered<K, V> {
    /// Keeps it.
    pub fn put(&mut self, key: K, value: V) {
        self.0.insert(key, value);
        if self.0.len() > KEPT_MAX {
            self.0.pop_first();
        }
    }

    /// What is kept under a key, once.
    pub fn take(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    /// What is kept within a range of keys.
    pub fn within(&self, keys: std::ops::RangeInclusive<K>) -> impl Iterator<Item = (&K, &V)> {
        self.0.range(keys)
    }

    /// Forgets what is kept within a range of keys.
    pub fn forget(&mut self, keys: std::ops::RangeInclusive<K>) {
        // Nothing is allocated where there is nothing.
        while let Some(key) = self.0.range(keys.clone()).next().map(|(key, _)| key.clone()) {
            self.0.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_forgotten_by_ranges() {
        let mut remembered = Remembered::default();
        for n in 0..3 * KEPT_MAX {
            remembered.put(n, n);
        }
        let all = |remembered: &Remembered<usize, usize>| remembered.within(0..=usize::MAX).count();
        assert_eq!(all(&remembered), KEPT_MAX);
        assert_eq!((remembered.take(&0), remembered.take(&(3 * KEPT_MAX - 1))), (None, Some(3 * KEPT_MAX - 1)));
        remembered.forget(0..=2 * KEPT_MAX + 9);
        assert_eq!(all(&remembered), KEPT_MAX - 11);
        assert_eq!(remembered.within(0..=2 * KEPT_MAX + 12).map(|(key, _)| *key).max(), Some(2 * KEPT_MAX + 12));
    }
}
