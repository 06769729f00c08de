//! An export of readings, back through a gateway: readings onto INGEST, controls onto CONTROL, each in its place.
//!
//! INGEST and CONTROL are two streams, which capture merges. So before a control all readings that came before it have to be in
//! READINGS, and it has to be there before any that follows.

use std::{collections::HashMap, time::Duration};

use eddy_runtime::{
    client::ClientError,
    position::{HEADER, Position},
};
use eddy_schemas::{Control, ReadingsBuilder, Timestamp, bursts::Burst, names};

use super::{
    chunks::{Chunk, Limits, OutMessage},
    send::SendError,
};
use crate::{
    gateway::Gateway,
    readers::{
        ReadError, Skipped,
        exported::{Export, Exported, Kind},
    },
};

/// How often it is looked whether capture has come so far.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A message's bound in bytes, well below what the server takes.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// What is sent together.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Readings.
    Readings(Chunk),
    /// A control, which everything before it has to have reached READINGS for.
    Control(Box<Control>),
}

/// Cuts an export into parts.
#[derive(Debug)]
pub struct Exports {
    export: Export,
    limits: Limits,
    prefix: String,
    step: Option<i64>,
    rows: std::iter::Peekable<std::vec::IntoIter<Exported>>,
}

impl Exports {
    /// For the site with this token; a paced replay cuts at each `step` nanoseconds of event time.
    pub fn new(export: Export, limits: Limits, site_token: &str, step: Option<i64>) -> Self {
        let rows = Vec::new().into_iter().peekable();
        Self { export, limits, prefix: format!("ingest.{site_token}."), step, rows }
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn next_part(&mut self) -> Result<Option<Part>, ReadError> {
        while self.rows.peek().is_none() {
            match self.export.next_range()? {
                Some(rows) => self.rows = rows.into_iter().peekable(),
                None => return Ok(None),
            }
        }
        let is_control = |row: &Exported| matches!(row.kind, Kind::Control(_));
        if let Some(Exported { kind: Kind::Control(control), .. }) = self.rows.next_if(is_control) {
            return Ok(Some(Part::Control(control)));
        }
        Ok(Some(Part::Readings(self.chunk())))
    }

    /// Readings up to a control, a bound, or the range's end.
    fn chunk(&mut self) -> Chunk {
        let mut batches: HashMap<u32, ReadingsBuilder> = HashMap::new();
        let (mut order, mut chunk, mut first_time) = (Vec::new(), Chunk::default(), None);
        while let Some(row) = self.rows.peek() {
            let Kind::Reading { device, series, value, quality, burst } = &row.kind else { break };
            let time: Timestamp = *first_time.get_or_insert(row.time);
            let batch = batches.entry(*device).or_insert_with(|| {
                order.push(*device);
                ReadingsBuilder::default()
            });
            let is_later = self.step.is_some_and(|step| row.time >= time.saturating_add(step));
            let is_full = batch.len() >= self.limits.device_readings || batch.bytes() >= MESSAGE_BYTES_MAX;
            if is_full || is_later || chunk.readings >= self.limits.readings {
                break;
            }
            // Capture stamps the arrival.
            batch.push(self.export.names.series_name(*series), row.time, *value, *quality, row.time);
            if let Some((rate_hz, values)) = burst {
                batch.burst(Burst { rate_hz: *rate_hz, values });
            }
            chunk.readings += 1;
            self.rows.next();
        }
        chunk.first_time = first_time.unwrap_or_default();
        for device in order {
            let Some(mut batch) = batches.remove(&device).filter(|batch| !batch.is_empty()) else { continue };
            let token = names::encode(self.export.names.device_name(device));
            let message = OutMessage { subject: format!("{}{token}", self.prefix), payload: batch.encode().into() };
            chunk.messages.push(message);
        }
        chunk
    }

    /// What was left out so far.
    pub fn skipped(&self) -> Skipped {
        self.export.skipped().clone()
    }
}

/// Publishes a control in its place.
///
/// # Errors
/// That capture does not come so far within `patience`, or that the gateway refuses.
pub async fn control(gateway: &Gateway, control: &Control, patience: Duration) -> Result<(), SendError> {
    let ingested = gateway.client.stream("INGEST").await?.map_or(0, |info| info.last_sequence);
    captured(gateway, "INGEST", ingested, patience).await?;
    let subject = format!("control.{}.{}", gateway.site_token(), control.subject_token());
    let stored = gateway.client.publish(&subject, &[], control.to_json().into()).await?;
    captured(gateway, "CONTROL", stored, patience).await
}

/// Waits until READINGS reaches message `sequence` of `stream`.
async fn captured(gateway: &Gateway, stream: &str, sequence: u64, patience: Duration) -> Result<(), SendError> {
    let filter = format!("readings.{}.>", gateway.site_token());
    let waiting = async {
        loop {
            // Capture's outputs all carry the position of the whole; the furthest shard tells.
            for subject in gateway.client.subjects("READINGS", &filter).await?.into_keys() {
                let last = gateway.client.last("READINGS", &subject).await?;
                let reaches = last.as_ref().and_then(|last| last.header(HEADER)).unwrap_or_default();
                let position: Position = reaches.parse().unwrap_or_default();
                let next = position.place(stream).map_or(1, |place| place.next_sequence());
                if next > sequence {
                    return Ok(());
                }
            }
            if sequence == 0 {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(patience, waiting).await {
        Ok(ended) => ended,
        Err(_) => {
            let what = format!("capture to take message {sequence} of {stream}");
            Err(SendError::Patience(patience, ClientError::TimedOut { what }))
        }
    }
}
