//! READINGS into the queue, of the series that a policy names. (Of a burst it is the row's value: its RMS.)

use std::{collections::BTreeMap, sync::Arc};

use eddy_runtime::{
    position::Position,
    store_loop::{Gap, Sink, SinkError, Turn},
    telemetry::Telemetry,
};
use eddy_schemas::{Readings, side::Reason, sync::Class};
use tokio::task::block_in_place;

use super::{
    Stand,
    held::{Held, Patience},
    missed,
    policy::{self, Policies},
    sink_error,
};
use crate::queue::QueueError;

/// What a reading that waits takes, about.
const READING_BYTES: usize = 16;

/// The reader of READINGS.
pub(super) struct ReadingsSink {
    stand: Stand,
    patience: Patience,
    bytes_max: usize,
    telemetry: Arc<Telemetry>,
    policies: Policies,
    held: Option<Held>,
    waiting: Waiting,
}

/// What was read and is not committed.
#[derive(Debug, Default)]
struct Waiting {
    /// By series, so that the order is always the same: its policy, and what it said.
    series: BTreeMap<String, (usize, Vec<(i64, f64)>)>,
    readings: usize,
    gaps: Vec<Gap>,
    refused: u64,
}

impl ReadingsSink {
    pub(super) fn new(
        stand: Stand,
        policies: Policies,
        (patience, bytes_max): (Patience, usize),
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self { stand, patience, bytes_max, telemetry, policies, held: None, waiting: Waiting::default() }
    }

    fn read(&mut self, turn: &Turn<'_>, begins: Position) {
        if self.held.as_ref().is_none_or(|held| !held.goes_on(&begins)) {
            self.waiting = Waiting::default();
            self.held = Some(Held::new(turn, begins));
        }
        let Some(held) = &mut self.held else { return };
        for (gap, delivery) in held.news(turn) {
            self.waiting.gaps.extend(gap);
            match Readings::decode(&delivery.payload) {
                Ok(readings) => self.waiting.take(&readings, &mut self.policies),
                Err(error) => {
                    tracing::error!(sequence = delivery.sequence, %error, "not queued for the region");
                    self.waiting.refused += 1;
                }
            }
            held.read(delivery, true);
        }
    }

    fn commit(&self, turn: &Turn<'_>, position: &Position) -> Result<(), QueueError> {
        let mut write = self.stand.queue.write()?;
        for gap in &self.waiting.gaps {
            missed(&mut write, Class::Readings, "READINGS", *gap)?;
        }
        for (series, (policy, readings)) in &self.waiting.series {
            for entry in policy::entries(series, &self.policies.all()[*policy], "", readings) {
                write.push(Class::Readings, entry)?;
            }
        }
        write.commit(self.stand.reader, turn.before, position)
    }
}

impl Waiting {
    fn take(&mut self, readings: &Readings, policies: &mut Policies) {
        let rows = &readings.rows;
        for row in (0..rows.len()).filter(|row| rows.control(*row).is_none()) {
            let name = rows.name(row);
            let Some(policy) = policies.naming(name) else { continue };
            let reading = (rows.time[row], readings.value[row]);
            match self.series.get_mut(name) {
                Some((_, known)) => known.push(reading),
                None => _ = self.series.insert(name.to_owned(), (policy, vec![reading])),
            }
            self.readings += 1;
        }
    }
}

impl Sink for ReadingsSink {
    fn position(&self) -> Result<Option<Position>, SinkError> {
        self.stand.position()
    }

    async fn write(
        &mut self,
        turn: &Turn<'_>,
        reaches: impl Fn(u64) -> Position + Send,
    ) -> Result<Option<u64>, SinkError> {
        let Some(first) = turn.deliveries.first() else { return Ok(None) };
        block_in_place(|| self.read(turn, reaches(first.sequence)));
        let Some((held, reached)) = self.held.as_ref().and_then(|held| Some((held, held.reached?))) else {
            return Ok(None);
        };
        if self.waiting.readings * READING_BYTES < self.bytes_max && !held.is_due(turn, self.patience) {
            return Ok(None);
        }
        let position = reaches(reached);
        block_in_place(|| self.commit(turn, &position)).map_err(|error| sink_error(&error))?;
        self.telemetry.received_rows(self.waiting.readings as u64);
        self.telemetry.rejected(Reason::Malformed, self.waiting.refused);
        self.held = None;
        Ok(Some(reached))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
