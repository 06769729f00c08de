//! Which stream it is: one that was created anew under the same name is another one, though its sequences look alike.
//!
//! That is told by its time of creation. The server forgets it where a stream is restored from a snapshot (its archive has none since
//! 2.15), so restoring notes it in the stream's metadata, where it then counts; whoever updates the stream must keep it there.

use std::collections::HashMap;

use async_nats::jetstream::stream::Info;

/// The metadata's key.
pub(crate) const KEY: &str = "eddy.created";

/// The incarnation of a stream, nanoseconds since the Unix epoch.
pub(crate) fn of(info: &Info) -> i64 {
    let noted = info.config.metadata.get(KEY).and_then(|noted| noted.parse().ok());
    // The server's clock lies within i64's 292 years around 1970.
    noted.unwrap_or(info.created.unix_timestamp_nanos() as i64)
}

/// What of a stream's metadata an update of its config must repeat.
pub(crate) fn kept(info: &Info) -> HashMap<String, String> {
    info.config
        .metadata
        .iter()
        .filter(|(key, _)| *key == KEY)
        .map(|(key, noted)| (key.clone(), noted.clone()))
        .collect()
}
