//! The windows of a channel, kept from search to search: the context of each alert asks among those of one channel, and finding
//! them anew meant a look at every window that there is.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use roaring::RoaringBitmap;

use super::names::TokenId;

/// Channels that are kept at most; what is asked of further ones is found anew each time. A window costs two bytes at most.
const CHANNELS_MAX: usize = 256;

/// The windows of one segment by channel, as far as they were asked for. Tokens have the same numbers for all searchers of a store,
/// which read its series in their one order.
#[derive(Debug, Default)]
pub(super) struct Channels(Mutex<HashMap<TokenId, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Windows that were looked at.
    seen: u32,
    those: RoaringBitmap,
}

impl Channels {
    /// Those of the first `len` windows that are `channel`'s; `is_of` says so of one, and is asked once about each.
    pub(super) fn of(&self, channel: TokenId, len: u32, is_of: impl Fn(u32) -> bool) -> RoaringBitmap {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut anew = Known::default();
        let is_full = kept.len() >= CHANNELS_MAX && !kept.contains_key(&channel);
        let known = if is_full { &mut anew } else { kept.entry(channel).or_default() };
        // They come in order, which is all that could be wrong with them.
        let _ = known.those.append((known.seen..len).filter(|window| is_of(*window)));
        known.seen = known.seen.max(len);
        let mut those = known.those.clone();
        // A search that began earlier sees fewer.
        those.remove_range(len..);
        those
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn each_window_is_looked_at_once_and_only_those_that_a_search_sees_are_told() {
        let (channels, looks) = (Channels::default(), Cell::new(0));
        let of = |channel, len| {
            let is_of = |window| {
                looks.set(looks.get() + 1);
                window % 3 == channel
            };
            channels.of(channel, len, is_of).iter().collect::<Vec<u32>>()
        };
        assert_eq!((of(1, 7), looks.get()), (vec![1, 4], 7));
        assert_eq!((of(1, 12), looks.get()), (vec![1, 4, 7, 10], 12));
        assert_eq!((of(1, 5), looks.get()), (vec![1, 4], 12));
        assert_eq!((of(0, 4), looks.get()), (vec![0, 3], 16));
        // Past so many channels nothing more is kept, and the answers are the same.
        for other in 3..2 + CHANNELS_MAX as u32 {
            assert!(of(other, 4).is_empty());
        }
        looks.set(0);
        for _ in 0..2 {
            assert_eq!(of(2, 9), [2, 5, 8]);
        }
        assert_eq!((looks.get(), of(1, 12).len()), (18, 4));
    }
}
