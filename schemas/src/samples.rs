//! SAMPLES: the readings of each series on its regular grid.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, UInt16Array, types::Float32Type};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field};

use crate::{
    Control, Rows, RowsBuilder, Timestamp,
    bursts::{BANDS, Spectrum},
    layout::{Layout, LayoutError},
    lists::{self, Lists, ListsBuilder},
};

/// Version 1 had no spectra; since version 2 a batch may have the column `spectrum`, and has none if no row has one.
const LAYOUT: Layout = Layout { name: "samples", oldest: 1, current: 2 };

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
    spectra: Option<Lists<f32>>,
}

impl Samples {
    /// The spectrum of the burst that `row` was made from.
    pub fn spectrum(&self, row: usize) -> Option<&Spectrum> {
        self.spectra.as_ref()?.get(row)?.try_into().ok()
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let (batch, version) = LAYOUT.read(bytes)?;
        let column = batch.column_by_name("spectrum").filter(|_| version >= 2);
        let spectra = column.map(|column| Lists::read::<Float32Type>(&LAYOUT, "spectrum", column)).transpose()?;
        for (row, bands) in spectra.iter().flat_map(|spectra| spectra.rows().map(|row| (row, spectra.get(row)))) {
            let found = bands.map_or(0, <[f32]>::len);
            if found != BANDS {
                return Err(LAYOUT.content(format!("row {row} has a spectrum of {found} bands, not {BANDS}")));
            }
        }
        let value: &Float64Array = LAYOUT.column(&batch, "value")?;
        let quality: &UInt16Array = LAYOUT.column(&batch, "quality")?;
        let period: &Int64Array = LAYOUT.column(&batch, "period")?;
        Ok(Self {
            rows: Rows::read_named(&LAYOUT, &batch)?,
            value: value.values().clone(),
            quality: quality.values().clone(),
            period: period.values().clone(),
            spectra,
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
    spectra: ListsBuilder<Float32Type>,
}

impl SamplesBuilder {
    /// Adds a sample of `series` (canonical text).
    pub fn push(&mut self, series: &str, time: Timestamp, value: f64, quality: u16, period: i64) {
        self.rows.push(series, time);
        self.value.push(value);
        self.quality.push(quality);
        self.period.push(period);
    }

    /// Gives the sample that was pushed last its spectrum; once.
    pub fn spectrum(&mut self, spectrum: &Spectrum) {
        self.spectra.push(self.rows.len().saturating_sub(1), spectrum.iter().copied());
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
        self.rows.bytes() + self.value.len() * 18 + self.spectra.bytes(self.value.len())
    }

    /// Writes the batch; the builder is empty afterwards.
    pub fn encode(&mut self) -> Vec<u8> {
        let mut fields = RowsBuilder::fields();
        fields.push(Field::new("value", DataType::Float64, false));
        fields.push(Field::new("quality", DataType::UInt16, false));
        fields.push(Field::new("period", DataType::Int64, false));
        let rows = self.rows.len();
        let mut columns = self.rows.finish();
        columns.push(Arc::new(Float64Array::from(std::mem::take(&mut self.value))) as ArrayRef);
        columns.push(Arc::new(UInt16Array::from(std::mem::take(&mut self.quality))));
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.period))));
        if !self.spectra.is_empty() {
            fields.push(Field::new("spectrum", lists::data_type::<Float32Type>(), true));
            columns.push(self.spectra.finish(rows));
        }
        LAYOUT.write(fields, columns, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spectra_come_back_in_their_rows_and_a_batch_without_any_has_no_column() {
        let mut builder = SamplesBuilder::default();
        builder.push("d/t", 1, 1.5, 0, 60);
        let plain = builder.encode();
        assert!(!plain.windows(8).any(|part| part == b"spectrum"));
        assert_eq!(Samples::decode(&plain).unwrap().spectrum(0), None);
        builder.push("d/t", 1, 1.5, 0, 60);
        builder.push("d/v", 1, 0.5, 0, 60);
        let spectrum: Spectrum = std::array::from_fn(|band| band as f32 - 16.0);
        builder.spectrum(&spectrum);
        let read = Samples::decode(&builder.encode()).unwrap();
        assert_eq!((read.spectrum(0), read.spectrum(1)), (None, Some(&spectrum)));
    }

    #[test]
    fn the_previous_version_is_read_and_a_spectrum_of_another_size_refused() {
        let write = |version: u16, bands: usize| {
            let (mut rows, mut spectra) = (RowsBuilder::default(), ListsBuilder::<Float32Type>::default());
            rows.push("d/t", 9);
            spectra.push(0, vec![1.0; bands]);
            let mut fields = RowsBuilder::fields();
            for (name, kind) in
                [("value", DataType::Float64), ("quality", DataType::UInt16), ("period", DataType::Int64)]
            {
                fields.push(Field::new(name, kind, false));
            }
            fields.push(Field::new("spectrum", lists::data_type::<Float32Type>(), true));
            let mut columns = rows.finish();
            columns.push(Arc::new(Float64Array::from(vec![4.0])));
            columns.push(Arc::new(UInt16Array::from(vec![1])));
            columns.push(Arc::new(Int64Array::from(vec![60])));
            columns.push(spectra.finish(1));
            Layout { name: "samples", oldest: 1, current: version }.write(fields, columns, &[])
        };
        let read = Samples::decode(&write(1, BANDS)).unwrap();
        assert_eq!((read.value[0], read.spectrum(0)), (4.0, None));
        assert!(Samples::decode(&write(2, BANDS)).unwrap().spectrum(0).is_some());
        for bands in [0, 31] {
            let error = Samples::decode(&write(2, bands)).unwrap_err().to_string();
            assert!(error.contains(&format!("of {bands} bands, not 32")), "{error}");
        }
    }
}
