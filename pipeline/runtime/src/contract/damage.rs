//! State records that are damaged: what a power cut on cheap flash leaves. A stage that loads them says which one is wrong, or
//! goes on; it never panics and never loops without end.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index};

/// State as it was saved, by key.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;
/// State of which something is damaged.
pub type Damaged = Vec<(Vec<u8>, Vec<u8>)>;

/// What happened to a record.
#[derive(Clone, Debug)]
pub enum Damage {
    /// Bytes set to these.
    Bytes(Vec<(Index, u8)>),
    /// One bit turned.
    Bit(Index, u8),
    /// Its end is missing.
    Cut(Index),
    /// More bytes at its end.
    Longer(Vec<u8>),
    /// Other bytes altogether.
    Other(Vec<u8>),
    /// The value of another record.
    Swapped(Index),
    /// A byte of its key.
    Key(Index, u8),
}

/// Every kind of damage.
pub fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        vec((any::<Index>(), prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f)]), 1..6).prop_map(Damage::Bytes),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        any::<Index>().prop_map(Damage::Cut),
        vec(any::<u8>(), 1..9).prop_map(Damage::Longer),
        vec(any::<u8>(), 0..100).prop_map(Damage::Other),
        any::<Index>().prop_map(Damage::Swapped),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Key(at, byte)),
    ]
}

/// The records (at least one) with one of them damaged, and that one's key.
pub fn damaged(records: &Records, which: Index, damage: &Damage) -> (Damaged, Vec<u8>) {
    let mut records: Damaged = records.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let one = which.index(records.len());
    let other = match damage {
        Damage::Swapped(with) => with.index(records.len()),
        _ => one,
    };
    let swapped = records[other].1.clone();
    let (key, value) = &mut records[one];
    let length = value.len();
    match damage {
        Damage::Bytes(changes) => {
            for (at, byte) in changes.iter().filter(|_| length > 0) {
                value[at.index(length)] = *byte;
            }
        }
        Damage::Bit(at, bit) if length > 0 => value[at.index(length)] ^= 1 << bit,
        Damage::Bit(..) => {}
        Damage::Cut(at) => value.truncate(at.index(length.max(1))),
        Damage::Longer(more) => value.extend(more),
        Damage::Other(bytes) => value.clone_from(bytes),
        Damage::Swapped(_) => *value = swapped,
        Damage::Key(at, byte) => {
            let at = at.index(key.len());
            key[at] = *byte;
        }
    }
    let key = key.clone();
    (records, key)
}
