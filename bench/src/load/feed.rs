//! Sending: at a steady pace by the clock, or as fast as the gateway takes it.

use std::{
    collections::{HashSet, VecDeque},
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use eddy_runtime::{
    client::{Ack, Client},
    clock::{Clock as _, SystemClock},
};
use eddy_schemas::{ReadingsBuilder, Timestamp};
use tokio::sync::mpsc;

use super::{
    gateway::{Gateway, HOPS, SITE},
    sensors::{Faults, Sensors, hash},
};

/// The time between two messages of a paced feed.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Ticks that may wait when the sender is held up; then the pace is lost, and the lateness told shows it.
const TICKS_WAITING_MAX: usize = 1_000;
/// Messages whose answers are awaited; the client allows as many.
const ACKS_WAITING_MAX: usize = 256;
/// Rows of a message of the bulk feed.
const BULK_ROWS: usize = 2_000;
/// Rows of the bulk feed that are under way in the pipeline at most.
const BULK_PENDING_ROWS: usize = 400_000;
/// What Arrow batches are announced as.
pub(super) const ARROW: &str = "application/vnd.apache.arrow.stream";

/// The subject of a concentrator that sends for many devices.
pub(super) fn subject() -> String {
    format!("ingest.{SITE}.generator")
}

/// A message that was sent at its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Its sequence in the stream.
    pub(super) sequence: u64,
    /// When it was due: also the time of its readings.
    pub(super) due: Timestamp,
    /// How much later it was handed to the client, in nanoseconds.
    pub(super) lateness: i64,
}

/// Sends one message a [`TICK`], `ticks` of them; `make` is given the number of the tick and the time that it is due, and
/// may have nothing to send. The time of a reading is when it was *due*: a sender that is held up makes the figures worse.
///
/// # Errors
/// If the stream does not take a message.
pub(super) async fn paced(
    client: &Client,
    subject: &str,
    ticks: u64,
    mut make: impl FnMut(u64, Timestamp) -> Option<Bytes>,
) -> Result<Vec<Sent>> {
    let (give, mut due) = mpsc::channel(TICKS_WAITING_MAX);
    let (start, start_time) = (Instant::now() + TICK, SystemClock.now() + TICK.as_nanos() as i64);
    // A thread of its own: tokio's timers are a millisecond coarse.
    let clock = std::thread::spawn(move || {
        for tick in 0..ticks {
            let after = TICK * tick as u32;
            std::thread::sleep((start + after).saturating_duration_since(Instant::now()));
            if give.blocking_send((tick, start_time + after.as_nanos() as i64)).is_err() {
                return;
            }
        }
    });
    let (acks, mut awaited) = mpsc::channel::<(Ack, Timestamp, i64)>(ACKS_WAITING_MAX);
    let answers = tokio::spawn(async move {
        let mut sent = Vec::new();
        while let Some((ack, due, lateness)) = awaited.recv().await {
            sent.push(Sent { sequence: ack.stored().await?, due, lateness });
        }
        anyhow::Ok(sent)
    });
    while let Some((tick, time)) = due.recv().await {
        let Some(payload) = make(tick, time) else { continue };
        let ack = client.send(subject, &[("Content-Type", ARROW)], payload).await?;
        if acks.send((ack, time, SystemClock.now() - time)).await.is_err() {
            break;
        }
    }
    drop(acks);
    drop(due);
    let sent = answers.await.context("collecting the answers")??;
    // It has nothing left to send.
    let _ = clock.join();
    Ok(sent)
}

/// A fleet that sends each device's readings once a period, spread evenly over it; some come out of order.
#[derive(Debug)]
pub(super) struct Spread<'a> {
    sensors: &'a Sensors,
    ticks_a_period: u64,
    out_of_order: f64,
    first_row: u64,
    faults: Faults,
    held: VecDeque<(u64, usize, Timestamp, f64)>,
    batch: ReadingsBuilder,
    /// Readings that were sent.
    pub(super) rows: u64,
    /// Those of them that came after a newer one of their series.
    pub(super) late_rows: u64,
    /// The devices and times of the readings that were held back: what is said about one of these was waited for, or filled
    /// in once its successor had come.
    pub(super) held_back: HashSet<(String, Timestamp)>,
}

impl<'a> Spread<'a> {
    /// `hz` (above 0, to 100) readings a second of each series; rows are numbered from `first_row` on.
    pub(super) fn new(sensors: &'a Sensors, hz: f64, out_of_order: f64, first_row: u64, faults: Faults) -> Self {
        let ticks_a_period = ((1.0 / hz / TICK.as_secs_f64()).round() as u64).max(1);
        let (held, batch, held_back) = (VecDeque::new(), ReadingsBuilder::default(), HashSet::new());
        Self { sensors, ticks_a_period, out_of_order, first_row, faults, held, batch, rows: 0, late_rows: 0, held_back }
    }

    /// Ticks of so many periods.
    pub(super) fn ticks(&self, rows: u64) -> u64 {
        rows * self.ticks_a_period
    }

    fn devices(&self, tick: u64) -> Range<usize> {
        let (devices, ticks) = (self.sensors.devices as u64, self.ticks_a_period);
        let from = |tick: u64| (tick * devices).div_ceil(ticks) as usize;
        from(tick % ticks)..from(tick % ticks + 1)
    }

    /// The message of a tick. A reading that is held back comes a period and a half later: after its successor.
    pub(super) fn message(&mut self, tick: u64, time: Timestamp) -> Option<Bytes> {
        let row = self.first_row + tick / self.ticks_a_period;
        let channels = self.sensors.channels;
        let limit = (self.out_of_order * u64::MAX as f64) as u64;
        let drawn = |row: u64, series: usize| hash(row ^ 0x5eed, series as u64) < limit;
        let devices = self.devices(tick);
        for series in devices.start * channels..devices.end * channels {
            let value = self.sensors.value(series, row, &self.faults);
            // Not two in a row: the successor must overtake it.
            if drawn(row, series) && !drawn(row.wrapping_sub(1), series) {
                let device = eddy_schemas::SeriesName::device_token(self.sensors.name(series));
                self.held_back.insert((device.to_owned(), time));
                self.held.push_back((tick + self.ticks_a_period + self.ticks_a_period / 2, series, time, value));
            } else {
                self.batch.push(self.sensors.name(series), time, value, 0, time);
            }
        }
        while let Some((_, series, time, value)) = self.held.pop_front_if(|(due, ..)| *due <= tick) {
            self.batch.push(self.sensors.name(series), time, value, 0, time);
            self.late_rows += 1;
        }
        self.rows += self.batch.len() as u64;
        (!self.batch.is_empty()).then(|| self.batch.encode().into())
    }
}

/// Sends `rows` rows of every series as fast as the gateway takes them, `step` nanoseconds of event time apart, and waits
/// until all is through. `at` is the time of the first row.
///
/// # Errors
/// If the gateway does not take them.
pub(super) async fn bulk(
    gateway: &mut Gateway,
    sensors: &Sensors,
    rows: Range<u64>,
    at: Timestamp,
    step: i64,
) -> Result<u64> {
    let rows_at_once = (BULK_PENDING_ROWS / sensors.series()).max(1) as u64;
    let mut sent = 0;
    for first in rows.clone().step_by(rows_at_once as usize) {
        let part = first..(first + rows_at_once).min(rows.end);
        sent += pour(gateway, sensors, part, at + (first - rows.start) as i64 * step, step).await?;
        gateway.settle(HOPS.len()).await?;
    }
    Ok(sent)
}

/// The same, until INGEST has them, whoever reads them.
///
/// # Errors
/// If INGEST does not take them.
pub(super) async fn pour(
    gateway: &Gateway,
    sensors: &Sensors,
    rows: Range<u64>,
    at: Timestamp,
    step: i64,
) -> Result<u64> {
    let faults = Faults::default();
    let mut sent = 0u64;
    let devices_a_message = (BULK_ROWS / sensors.channels).max(1);
    let mut acks: VecDeque<Ack> = VecDeque::new();
    let mut batch = ReadingsBuilder::default();
    for row in rows.clone() {
        let time = at + (row - rows.start) as i64 * step;
        for first in (0..sensors.devices).step_by(devices_a_message) {
            let devices = first..(first + devices_a_message).min(sensors.devices);
            sensors.push(&mut batch, devices, row, time, &faults);
            sent += batch.len() as u64;
            let headers = [("Content-Type", ARROW)];
            acks.push_back(gateway.client.send(&subject(), &headers, batch.encode().into()).await?);
            if acks.len() >= ACKS_WAITING_MAX / 4
                && let Some(ack) = acks.pop_front()
            {
                ack.stored().await?;
            }
        }
    }
    for ack in acks {
        ack.stored().await?;
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_sent_once_a_period_and_late_rows_come_after_their_successor() {
        let sensors = Sensors::new(250, 2);
        let mut spread = Spread::new(&sensors, 1.0, 0.05, 0, Faults::default());
        let mut seen = std::collections::BTreeMap::<String, Vec<i64>>::new();
        for tick in 0..spread.ticks(6) {
            let time = tick as i64 * 10_000_000;
            let Some(message) = spread.message(tick, time) else { continue };
            let readings = eddy_schemas::Readings::decode(&message).unwrap();
            for row in 0..readings.rows.len() {
                seen.entry(readings.rows.name(row).to_owned()).or_default().push(readings.rows.time[row]);
            }
        }
        assert_eq!(seen.len(), 500);
        let inversions: usize = seen.values().map(|times| times.windows(2).filter(|t| t[1] < t[0]).count()).sum();
        assert_eq!(inversions as u64, spread.late_rows);
        assert!((60..190).contains(&spread.late_rows), "{}", spread.late_rows);
        assert!(seen.values().all(|times| (4..=6).contains(&times.len())));
        assert_eq!(seen.values().map(Vec::len).sum::<usize>() as u64, spread.rows);
    }
}
