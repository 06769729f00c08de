//! The bookkeeping against a naive model: two whole copies of the file, the synced and the newest.

use std::io;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::undo::{BLOCK_BYTES, Contents, Undo};

impl Contents for Vec<u8> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let offset = offset as usize;
        buffer.copy_from_slice(self.get(offset..offset + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset as usize + bytes.len();
        self.resize(self.len().max(end), 0);
        self[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn resize_to(&mut self, len: u64) -> io::Result<()> {
        self.resize(len as usize, 0);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, length: usize, byte: u8 },
    SetLen(u64),
    Sync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..30_000_u64, 0..10_000_usize, 1..=255_u8)
            .prop_map(|(offset, length, byte)| Step::Write { offset, length, byte }),
        // Appends and blocks that are met exactly.
        2 => (0..8_u64, 1..=255_u8).prop_map(|(block, byte)| Step::Write { offset: block * 4096, length: 4096, byte }),
        2 => (0..30_000_u64).prop_map(Step::SetLen),
        1 => (0..8_u64).prop_map(|block| Step::SetLen(block * 4096)),
        2 => Just(Step::Sync),
    ];
    prop::collection::vec(step, 0..20)
}

/// Does the steps: the newest contents, the synced ones, and the way back.
fn run(steps: &[Step]) -> (Vec<u8>, Vec<u8>, Undo) {
    let (mut now, mut synced, mut undo) = (Vec::new(), Vec::new(), Undo::new(0));
    for step in steps {
        match *step {
            Step::Write { offset, length, byte } => {
                undo.before_write(&now, offset, length as u64).unwrap();
                if length > 0 {
                    now.write_at(&vec![byte; length], offset).unwrap();
                }
            }
            Step::SetLen(len) => {
                undo.before_set_len(&now, len).unwrap();
                now.resize_to(len).unwrap();
            }
            Step::Sync => {
                synced = now.clone();
                undo = Undo::new(now.len() as u64);
            }
        }
    }
    (now, synced, undo)
}

/// One block, with zeros where the file has ended.
fn block(bytes: &[u8], block: usize, length: usize) -> Vec<u8> {
    let start = (block * BLOCK_BYTES as usize).min(bytes.len());
    let mut found = bytes[start..(start + length).min(bytes.len())].to_vec();
    found.resize(length, 0);
    found
}

proptest! {
    #[test]
    fn a_cut_gives_back_what_was_synced(steps in steps()) {
        let (mut now, synced, undo) = run(&steps);
        prop_assert!(undo.kept_bytes() <= synced.len() as u64);
        let changed = now != synced;
        let dropped = undo.cut(&mut now, None).unwrap();
        prop_assert_eq!(&now, &synced);
        prop_assert!(dropped > 0 || !changed || now.len() >= synced.len());
    }

    #[test]
    fn a_torn_cut_leaves_each_block_old_or_new(steps in steps(), seed in any::<u64>()) {
        let (now, synced, undo) = run(&steps);
        let mut left = now.clone();
        undo.cut(&mut left, Some(&mut StdRng::seed_from_u64(seed))).unwrap();
        let (low, high) = (now.len().min(synced.len()), now.len().max(synced.len()));
        prop_assert!((low..=high).contains(&left.len()), "{} not in {low}..={high}", left.len());
        for (at, found) in left.chunks(BLOCK_BYTES as usize).enumerate() {
            let (old, new) = (block(&synced, at, found.len()), block(&now, at, found.len()));
            prop_assert!(found == old || found == new, "block {at} is neither old nor new");
        }
    }

    #[test]
    fn one_seed_cuts_in_one_way(steps in steps(), seed in any::<u64>()) {
        let cut = || {
            let (mut now, _, undo) = run(&steps);
            undo.cut(&mut now, Some(&mut StdRng::seed_from_u64(seed))).unwrap();
            now
        };
        prop_assert_eq!(cut(), cut());
    }
}

#[test]
fn torn_cuts_differ_and_some_blocks_live() {
    let steps = [
        Step::Write { offset: 0, length: 40_960, byte: 1 },
        Step::Sync,
        Step::Write { offset: 0, length: 40_960, byte: 2 },
    ];
    let outcomes: std::collections::BTreeSet<Vec<u8>> = (0..20)
        .map(|seed| {
            let (mut now, _, undo) = run(&steps);
            undo.cut(&mut now, Some(&mut StdRng::seed_from_u64(seed))).unwrap();
            now.chunks(4096).map(|block| block[0]).collect()
        })
        .collect();
    assert!(outcomes.len() > 10, "{outcomes:?}");
    assert!(outcomes.iter().any(|blocks| blocks.contains(&1) && blocks.contains(&2)));
}
