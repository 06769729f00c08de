//! State to LMDB: what a transaction costs beside its fsync.

use std::path::Path;

use anyhow::{Result, ensure};
use eddy_runtime::{
    position::{Place, Position},
    state::{Records, StateStore},
};

use crate::{
    counted::counted,
    made::{Dice, series},
};

/// Records of a transaction: as many series.
const RECORDS: usize = 1_000;
/// Bytes of a record; detect's are some thousands.
const BYTES: usize = 4_000;

fn at(sequence: u64) -> Position {
    let mut position = Position::default();
    position.set("EMBEDDINGS", Place::whole(1, sequence));
    position
}

/// Changes every record.
pub fn commit(folder: &Path) -> Result<u64> {
    let store = StateStore::open(&folder.join("state"), "smoke", 1, 64 << 20)?;
    let mut dice = Dice::new(1);
    let mut records = || -> Records {
        let mut value = || (0..BYTES / 8).flat_map(|_| dice.next().to_le_bytes()).collect::<Vec<u8>>();
        (0..RECORDS).map(|number| (series(number), Some(value()))).collect()
    };
    let (first, second) = (records(), records());
    store.commit(None, &at(1), &first)?;
    counted(|| store.commit(Some(&at(1)), &at(2), &second))?;
    ensure!(store.bytes() > (RECORDS * BYTES) as u64, "{} bytes", store.bytes());
    Ok(RECORDS as u64)
}
