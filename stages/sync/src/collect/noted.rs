//! Alerts whose surroundings are wanted: what the reader of DETECTIONS leaves in the queue for that of READINGS.

use eddy_schemas::{
    Timestamp,
    sync::{Class, wire},
};
use eddy_vectors::codec::{CodecError, Get, Put as _};
use tokio::sync::watch;

use crate::queue::{Queue, QueueError, Write};

/// They are kept under keys that begin so; the alert follows.
const PREFIX: &[u8] = b"snippet/";
/// When the last message was stored whose alerts are noted.
const PROGRESS: &[u8] = b"detections-stored";
/// Alerts that are noted at the same time.
pub(super) const NOTED_MAX: usize = 1_000;

/// An alert whose surroundings are wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Noted {
    /// The alert.
    pub(super) alert: String,
    /// The device's token.
    pub(super) device: String,
    /// Event time of its opening.
    pub(super) time: Timestamp,
    /// When the server stored it.
    pub(super) stored_at: Timestamp,
}

impl Noted {
    fn record(&self) -> Vec<u8> {
        let mut record = Vec::new();
        record.put_i64(self.time);
        record.put_i64(self.stored_at);
        record.put_text(&self.device);
        record
    }

    fn read(alert: &[u8], record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (time, stored_at, device) = (get.i64()?, get.i64()?, get.text()?);
        Ok(Self { alert: String::from_utf8_lossy(alert).into_owned(), device, time, stored_at })
    }

    fn key(&self) -> Vec<u8> {
        [PREFIX, self.alert.as_bytes()].concat()
    }

    /// All of them.
    pub(super) fn all(queue: &Queue, mut each: impl FnMut(Self)) -> Result<(), QueueError> {
        queue.kept(PREFIX, |alert, record| {
            each(Self::read(alert, record).map_err(|error| queue.damaged(format!("a noted alert: {error}")))?);
            Ok(())
        })
    }

    /// It is done with.
    pub(super) fn forget(&self, write: &mut Write<'_>) -> Result<(), QueueError> {
        write.keep(&self.key(), None)
    }

    /// Notes it with what else its message brings.
    pub(super) fn note(&self, write: &mut Write<'_>) -> Result<(), QueueError> {
        write.keep(&self.key(), Some(&self.record()))
    }

    /// Says that it was not noted.
    pub(super) fn give_up(&self, write: &mut Write<'_>) -> Result<(), QueueError> {
        let detail = format!("readings around {} of {}: {NOTED_MAX} alerts are waited for", self.alert, self.device);
        let cause = wire::Cause::Budget.into();
        write.gap(Class::Snippets, wire::Gap { count: 1, cause, detail, ..Default::default() })?;
        Ok(())
    }
}

/// How many more alerts may be noted.
pub(super) fn room(queue: &Queue) -> Result<usize, QueueError> {
    let mut noted = 0;
    Noted::all(queue, |_| noted += 1)?;
    Ok(NOTED_MAX.saturating_sub(noted))
}

/// How far the reader of DETECTIONS is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// When the last message whose alerts are noted was stored.
    pub(super) stored_at: Timestamp,
    /// Whether there is none behind it.
    pub(super) drained: bool,
}

impl Progress {
    /// Where nothing is known yet.
    pub(super) fn channel() -> (watch::Sender<Self>, watch::Receiver<Self>) {
        watch::channel(Self { stored_at: Timestamp::MIN, drained: false })
    }

    /// As it was before a restart.
    pub(super) fn load(queue: &Queue) -> Result<Option<Self>, QueueError> {
        let mut found = None;
        queue.kept(PROGRESS, |_, record| {
            let stored_at = record.try_into().map(Timestamp::from_le_bytes);
            let stored_at = stored_at.map_err(|_| queue.damaged("how far alerts are noted is no time"))?;
            found = Some(Self { stored_at, drained: false });
            Ok::<_, QueueError>(())
        })?;
        Ok(found)
    }

    pub(super) fn save(self, write: &mut Write<'_>) -> Result<(), QueueError> {
        write.keep(PROGRESS, Some(&self.stored_at.to_le_bytes()))
    }
}
