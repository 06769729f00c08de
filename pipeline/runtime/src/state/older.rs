//! State of releases before snapshots were written in pieces: one database, whose records are moved.

use heed::{
    Database, Env, RwTxn,
    types::{Bytes, Str},
};

use super::{
    POSITION,
    versions::{Versions, put_version},
};

/// The database of those releases.
pub(super) const NAME: &str = "records";
/// Where they keep the position.
pub(super) const OLDER_POSITION: &str = "position";
/// What stands there since: one that still runs finds itself fenced.
const MOVED: &str = "moved: a later release keeps this state";
/// Bytes that are moved in one transaction.
const BYTES_MAX: usize = 4 << 20;

/// Moves the position, in the transaction that changes the layout.
pub(super) fn move_position(txn: &mut RwTxn<'_>, meta: Database<'static, Str, Str>) -> heed::Result<()> {
    if let Some(position) = meta.get(txn, OLDER_POSITION)?.map(str::to_owned) {
        meta.put(txn, POSITION, &position)?;
    }
    meta.put(txn, OLDER_POSITION, MOVED)
}

/// Moves some of the records, as of the snapshot before the first; whether all are moved. Each lies in one of both places all the while.
pub(super) fn move_some(env: &Env, older: Database<'static, Bytes, Bytes>, versions: &Versions) -> heed::Result<bool> {
    let mut txn = env.write_txn()?;
    let mut moved = Vec::new();
    let mut bytes = 0;
    for item in older.iter(&txn)? {
        let (key, value) = item?;
        bytes += key.len() + value.len();
        moved.push((key.to_vec(), value.to_vec()));
        if bytes >= BYTES_MAX {
            break;
        }
    }
    for (key, value) in &moved {
        put_version(versions.0[0], &mut txn, key, 0, Some(value))?;
        older.delete(&mut txn, key)?;
    }
    txn.commit()?;
    Ok(moved.is_empty())
}
