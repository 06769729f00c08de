//! SAMPLES: the readings of each series on its regular grid.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, UInt16Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field};

use crate::{
    Control, Rows, RowsBuilder, Timestamp,
    layout::{Layout, LayoutError},
};

const LAYOUT: Layout = Layout { name: "samples", oldest: 1, current: 1 };

/// A batch of samples.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Series, event time (the reading's own, or an interpolated grid point's), controls.
    pub rows: Rows,
    /// Per row the value; NaN on a control's row.
    pub value: ScalarBuffer<f64>,
    /// Per row the [`crate::quality`] flags.
    pub quality: ScalarBuffer<u16>,
    /// Per row the series' period in nanoseconds, configured or learned; 0 where there is none (yet).
    pub period: ScalarBuffer<i64>,
}

impl Samples {
    /// Reads a batch.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let (batch, _) = LAYOUT.read(bytes)?;
        let value: &Float64Array = LAYOUT.column(&batch, "value")?;
        let quality: &UInt16Array = LAYOUT.column(&batch, "quality")?;
        let period: &Int64Array = LAYOUT.column(&batch, "period")?;
        Ok(Self {
            rows: Rows::read_named(&LAYOUT, &batch)?,
            value: value.values().clone(),
            quality: quality.values().clone(),
            period: period.values().clone(),
        })
    }
}

/// Collects a batch of samples.
#[derive(Debug, Default)]
pub struct SamplesBuilder {
    rows: RowsBuilder,
    value: Vec<f64>,
    quality: Vec<u16>,
    period: Vec<i64>,
}

impl SamplesBuilder {
    /// Adds a sample of `series` (canonical text).
    pub fn push(&mut self, series: &str, time: Timestamp, value: f64, quality: u16, period: i64) {
        self.rows.push(series, time);
        self.value.push(value);
        self.quality.push(quality);
        self.period.push(period);
    }

    /// Adds a control.
    pub fn push_control(&mut self, control: &Control) {
        self.rows.push_control(control);
        self.value.push(f64::NAN);
        self.quality.push(0);
        self.period.push(0);
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
        fields.push(Field::new("period", DataType::Int64, false));
        let mut columns = self.rows.finish();
        columns.push(Arc::new(Float64Array::from(std::mem::take(&mut self.value))) as ArrayRef);
        columns.push(Arc::new(UInt16Array::from(std::mem::take(&mut self.quality))));
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.period))));
        LAYOUT.write(fields, columns, &[])
    }
}
