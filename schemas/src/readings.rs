//! READINGS: what sensors said, as it arrived.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, UInt16Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field};

use crate::{
    Control, Rows, RowsBuilder, Timestamp,
    layout::{Layout, LayoutError},
};

/// Version 1 had no `quality` and no `arrival`; such a row is good, and arrived when it happened.
const LAYOUT: Layout = Layout { name: "readings", oldest: 1, current: 2 };

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
}

impl Readings {
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
        Ok(Self { rows, value: value.values().clone(), quality, arrival })
    }
}

/// Collects a batch of readings.
#[derive(Debug, Default)]
pub struct ReadingsBuilder {
    rows: RowsBuilder,
    value: Vec<f64>,
    quality: Vec<u16>,
    arrival: Vec<Timestamp>,
}

impl ReadingsBuilder {
    /// Adds a reading of `series` (canonical text).
    pub fn push(&mut self, series: &str, time: Timestamp, value: f64, quality: u16, arrival: Timestamp) {
        self.rows.push(series, time);
        self.value.push(value);
        self.quality.push(quality);
        self.arrival.push(arrival);
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
        self.rows.bytes() + self.value.len() * 18
    }

    /// Writes the batch; the builder is empty afterwards.
    pub fn encode(&mut self) -> Vec<u8> {
        let mut fields = RowsBuilder::fields();
        fields.push(Field::new("value", DataType::Float64, false));
        fields.push(Field::new("quality", DataType::UInt16, false));
        fields.push(Field::new("arrival", DataType::Int64, false));
        let mut columns = self.rows.finish();
        columns.push(Arc::new(Float64Array::from(std::mem::take(&mut self.value))) as ArrayRef);
        columns.push(Arc::new(UInt16Array::from(std::mem::take(&mut self.quality))));
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.arrival))));
        LAYOUT.write(fields, columns, &[])
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
        let error = Readings::decode(&write(3)).unwrap_err().to_string();
        assert!(error.contains("version \"3\" is not known") && error.contains("1 to 2"), "{error}");
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
