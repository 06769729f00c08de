//! READINGS: what sensors said, as it arrived.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, UInt16Array, builder::Float64Builder, types::Float32Type,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field};

use crate::{
    Control, Rows, RowsBuilder, Timestamp,
    bursts::Burst,
    layout::{Layout, LayoutError},
    lists::{self, Lists, ListsBuilder},
};

/// Version 1 had no `quality` and no `arrival`; such a row is good, and arrived when it happened. Version 2 had no bursts;
/// since version 3 a batch may have the columns `burst` and `burst_rate_hz`, and has neither if no row has a burst.
const LAYOUT: Layout = Layout { name: "readings", oldest: 1, current: 3 };

/// A batch of readings.
#[derive(Clone, Debug)]
pub struct Readings {
    /// Series, event time, controls.
    pub rows: Rows,
    /// Per row the measured value; NaN on a control's row.
    pub value: ScalarBuffer<f64>,
    /// Per row the [`crate::quality`] flags.
    pub quality: ScalarBuffer<u16>,
    /// Per row when the gateway received it.
    pub arrival: ScalarBuffer<Timestamp>,
    bursts: Option<(Lists<f32>, Float64Array)>,
}

impl Readings {
    /// The burst that `row` came with; nothing of it has been checked but that it has a rate.
    pub fn burst(&self, row: usize) -> Option<Burst<'_>> {
        let (values, rates) = self.bursts.as_ref()?;
        Some(Burst { rate_hz: rates.value(row), values: values.get(row)? })
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let (batch, version) = LAYOUT.read(bytes)?;
        let rows = Rows::read(&LAYOUT, &batch)?;
        let value: &Float64Array = LAYOUT.column(&batch, "value")?;
        let (quality, arrival) = if version < 2 {
            (vec![0; rows.len()].into(), rows.time.clone())
        } else {
            let quality: &UInt16Array = LAYOUT.column(&batch, "quality")?;
            let arrival: &Int64Array = LAYOUT.column(&batch, "arrival")?;
            (quality.values().clone(), arrival.values().clone())
        };
        let bursts = if version < 3 { None } else { bursts(&batch)? };
        Ok(Self { rows, value: value.values().clone(), quality, arrival, bursts })
    }
}

fn bursts(batch: &RecordBatch) -> Result<Option<(Lists<f32>, Float64Array)>, LayoutError> {
    let Some(column) = batch.column_by_name("burst") else { return Ok(None) };
    let lists = Lists::read::<Float32Type>(&LAYOUT, "burst", column)?;
    let rates: &Float64Array = LAYOUT.column(batch, "burst_rate_hz")?;
    let unrated = lists.rows().find(|row| rates.is_null(*row));
    match unrated {
        Some(row) => Err(LAYOUT.content(format!("row {row} has a burst and no burst_rate_hz"))),
        None => Ok(Some((lists, rates.clone()))),
    }
}

/// Collects a batch of readings.
#[derive(Debug, Default)]
pub struct ReadingsBuilder {
    rows: RowsBuilder,
    value: Vec<f64>,
    quality: Vec<u16>,
    arrival: Vec<Timestamp>,
    bursts: ListsBuilder<Float32Type>,
    /// Of each burst its row and rate.
    rates: Vec<(usize, f64)>,
}

impl ReadingsBuilder {
    /// Adds a reading of `series` (canonical text).
    pub fn push(&mut self, series: &str, time: Timestamp, value: f64, quality: u16, arrival: Timestamp) {
        self.rows.push(series, time);
        self.value.push(value);
        self.quality.push(quality);
        self.arrival.push(arrival);
    }

    /// Gives the reading that was pushed last its burst; once.
    pub fn burst(&mut self, burst: Burst<'_>) {
        let row = self.rows.len().saturating_sub(1);
        self.bursts.push(row, burst.values.iter().copied());
        self.rates.push((row, burst.rate_hz));
    }

    /// Adds a control.
    pub fn push_control(&mut self, control: &Control, arrival: Timestamp) {
        self.rows.push_control(control);
        self.value.push(f64::NAN);
        self.quality.push(0);
        self.arrival.push(arrival);
    }

    /// How many rows there are, controls included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// About how many bytes the batch takes once written.
    pub fn bytes(&self) -> usize {
        let rates = if self.rates.is_empty() { 0 } else { self.value.len() * 8 };
        self.rows.bytes() + self.value.len() * 18 + self.bursts.bytes(self.value.len()) + rates
    }

    /// Writes the batch; the builder is empty afterwards.
    pub fn encode(&mut self) -> Vec<u8> {
        let mut fields = RowsBuilder::fields();
        fields.push(Field::new("value", DataType::Float64, false));
        fields.push(Field::new("quality", DataType::UInt16, false));
        fields.push(Field::new("arrival", DataType::Int64, false));
        let rows = self.rows.len();
        let mut columns = self.rows.finish();
        columns.push(Arc::new(Float64Array::from(std::mem::take(&mut self.value))) as ArrayRef);
        columns.push(Arc::new(UInt16Array::from(std::mem::take(&mut self.quality))));
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.arrival))));
        if !self.bursts.is_empty() {
            fields.push(Field::new("burst", lists::data_type::<Float32Type>(), true));
            fields.push(Field::new("burst_rate_hz", DataType::Float64, true));
            columns.push(self.bursts.finish(rows));
            columns.push(self.rates(rows));
        }
        LAYOUT.write(fields, columns, &[])
    }

    fn rates(&mut self, rows: usize) -> ArrayRef {
        let (mut column, mut next) = (Float64Builder::with_capacity(rows), self.rates.drain(..).peekable());
        for row in 0..rows {
            column.append_option(next.next_if(|(at, _)| *at == row).map(|(_, rate_hz)| rate_hz));
        }
        Arc::new(column.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ControlKind;

    fn control() -> Control {
        let kind = ControlKind::DeviceReset { device: "d".into() };
        Control { id: "c1".into(), origin: "cli".into(), time: 7, kind }
    }

    #[test]
    fn round_trip_keeps_rows_and_the_controls_place() {
        let mut builder = ReadingsBuilder::default();
        builder.push_control(&control(), 8);
        builder.push("d/t", 1, 1.5, 0, 2);
        builder.push("d/u", 1, f64::MAX, 3, 2);
        builder.push_control(&control(), 8);
        builder.push("d/t", 2, -0.0, 0, 3);
        let read = Readings::decode(&builder.encode()).unwrap();
        assert!(builder.is_empty());
        assert_eq!(read.rows.len(), 5);
        assert_eq!(read.rows.control(0), Some(&control()));
        assert_eq!(read.rows.control(3), Some(&control()));
        assert_eq!(read.rows.control(1), None);
        assert_eq!((read.rows.name(1), read.rows.name(2), read.rows.name(4)), ("d/t", "d/u", "d/t"));
        assert_eq!(&read.value[1..3], &[1.5, f64::MAX]);
        assert_eq!(&read.quality[..], &[0, 0, 3, 0, 0]);
        assert_eq!(&read.arrival[..], &[8, 2, 2, 8, 3]);
    }

    #[test]
    fn an_empty_batch_is_a_checkpoint_and_can_be_read() {
        assert!(Readings::decode(&ReadingsBuilder::default().encode()).unwrap().rows.is_empty());
    }

    #[test]
    fn bursts_come_back_in_their_rows_and_a_batch_without_any_is_as_before() {
        let (mut builder, plain) = (ReadingsBuilder::default(), |builder: &mut ReadingsBuilder| {
            (0..100).for_each(|time| builder.push("d/t", time, 1.5, 0, 2));
        });
        plain(&mut builder);
        let (bytes, before) = (builder.bytes(), builder.encode());
        plain(&mut builder);
        builder.push("d/v", 100, 0.5, 0, 2);
        let values: Vec<f32> = (0..64).map(|i| i as f32).collect();
        builder.burst(Burst { rate_hz: 25_600.0, values: &values });
        builder.push_control(&control(), 8);
        builder.push("d/v", 200, 0.5, 0, 2);
        builder.burst(Burst { rate_hz: 12.5, values: &values[..3] });
        assert!(builder.bytes() > bytes + 67 * 4);
        let read = Readings::decode(&builder.encode()).unwrap();
        let with: Vec<usize> = (0..read.rows.len()).filter(|row| read.burst(*row).is_some()).collect();
        assert_eq!(with, [100, 102]);
        assert_eq!(read.burst(100), Some(Burst { rate_hz: 25_600.0, values: &values }));
        assert_eq!(read.burst(102), Some(Burst { rate_hz: 12.5, values: &values[..3] }));
        // What the builder keeps from the last batch is nothing.
        plain(&mut builder);
        assert_eq!((builder.bytes(), builder.encode()), (bytes, before.clone()));
        assert!(Readings::decode(&before).unwrap().burst(0).is_none());
    }

    #[test]
    fn the_previous_version_is_read_and_an_unknown_one_refused() {
        let write = |version: u16| {
            let mut rows = RowsBuilder::default();
            rows.push("d/t", 9);
            let mut fields = RowsBuilder::fields();
            fields.push(Field::new("value", DataType::Float64, false));
            let mut columns = rows.finish();
            columns.push(Arc::new(Float64Array::from(vec![4.0])));
            Layout { name: "readings", oldest: 1, current: version }.write(fields, columns, &[])
        };
        let read = Readings::decode(&write(1)).unwrap();
        assert_eq!((read.value[0], read.quality[0], read.arrival[0]), (4.0, 0, 9));
        let error = Readings::decode(&write(4)).unwrap_err().to_string();
        assert!(error.contains("version \"4\" is not known") && error.contains("1 to 3"), "{error}");
    }

    #[test]
    fn rubbish_is_refused_with_a_reason() {
        let mut builder = ReadingsBuilder::default();
        builder.push("no-channel", 1, 1.0, 0, 1);
        assert!(Readings::decode(&builder.encode()).unwrap_err().to_string().contains("no-channel"));
        assert!(matches!(Readings::decode(b"rubbish"), Err(LayoutError::Arrow(_))));
        let mut samples = crate::SamplesBuilder::default();
        assert!(matches!(Readings::decode(&samples.encode()), Err(LayoutError::Layout { .. })));
    }
}
