//! EMBEDDINGS: one vector per head for the window that ends at each sample.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Int64Array, UInt16Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field};
use half::f16;

use crate::{
    Control, Rows, RowsBuilder, Timestamp,
    layout::{Layout, LayoutError},
};

const LAYOUT: Layout = Layout { name: "embeddings", oldest: 1, current: 1 };

/// Up to this many dimensions a head travels as f32, above as f16.
pub const F32_DIMENSIONS_MAX: usize = 4;

/// A head's name and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLayout {
    /// As in the bundle's `model.toml`.
    pub name: String,
    /// Length of its vectors.
    pub dimensions: usize,
}

/// The vectors of one head, row by row.
#[derive(Clone, Debug)]
pub enum Vectors {
    /// Heads of at most [`F32_DIMENSIONS_MAX`] dimensions.
    F32(ScalarBuffer<f32>),
    /// All others.
    F16(ScalarBuffer<f16>),
}

/// One head's column.
#[derive(Clone, Debug)]
pub struct HeadColumn {
    /// Name and size.
    pub head: HeadLayout,
    /// `rows x dimensions`, row-major; zeros on a control's row.
    pub vectors: Vectors,
}

impl HeadColumn {
    /// Copies the vector of `row` into `out`, whose length is the head's dimensions.
    pub fn copy_to(&self, row: usize, out: &mut [f32]) {
        let range = row * self.head.dimensions..(row + 1) * self.head.dimensions;
        match &self.vectors {
            Vectors::F32(values) => out.copy_from_slice(&values[range]),
            Vectors::F16(values) => {
                for (to, from) in out.iter_mut().zip(&values[range]) {
                    *to = from.to_f32();
                }
            }
        }
    }
}

/// A batch of embeddings.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// Series, the window's end, controls.
    pub rows: Rows,
    /// Per row the [`crate::quality`] flags of the window's last sample.
    pub quality: ScalarBuffer<u16>,
    /// Per row how many real samples the longest window holds (the rest is its first value repeated).
    pub filled: ScalarBuffer<u16>,
    /// Per row 1 while the series is being commissioned, else 0.
    pub commissioning: ScalarBuffer<u16>,
    /// Per row the series' period in nanoseconds, configured or learned; 0 where there is none (yet).
    pub period: ScalarBuffer<i64>,
    /// One column per head, in the bundle's order.
    pub heads: Vec<HeadColumn>,
    /// Digest of the bundle that made the vectors.
    pub bundle: String,
}

impl Embeddings {
    /// Reads a batch.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let (batch, _) = LAYOUT.read(bytes)?;
        let flag = |name| LAYOUT.column::<UInt16Array>(&batch, name).map(|column| column.values().clone());
        let period: &Int64Array = LAYOUT.column(&batch, "period")?;
        let schema = batch.schema();
        let mut heads = Vec::new();
        for field in schema.fields().iter().filter(|field| field.name().starts_with("head.")) {
            let column: &FixedSizeListArray = LAYOUT.column(&batch, field.name())?;
            let dimensions = column.value_length() as usize;
            let values = column.values().as_any();
            let wrong = || LAYOUT.content(format!("column {:?} is of type {}", field.name(), field.data_type()));
            let vectors = if dimensions <= F32_DIMENSIONS_MAX {
                Vectors::F32(values.downcast_ref::<Float32Array>().ok_or_else(wrong)?.values().clone())
            } else {
                Vectors::F16(values.downcast_ref::<Float16Array>().ok_or_else(wrong)?.values().clone())
            };
            heads.push(HeadColumn {
                head: HeadLayout { name: field.name()["head.".len()..].to_owned(), dimensions },
                vectors,
            });
        }
        let bundle = schema.metadata().get("eddy.bundle").cloned().unwrap_or_default();
        Ok(Self {
            rows: Rows::read_named(&LAYOUT, &batch)?,
            quality: flag("quality")?,
            filled: flag("filled")?,
            commissioning: flag("commissioning")?,
            period: period.values().clone(),
            heads,
            bundle,
        })
    }
}

/// Collects a batch of embeddings of one bundle.
#[derive(Debug)]
pub struct EmbeddingsBuilder {
    bundle: String,
    heads: Vec<HeadLayout>,
    rows: RowsBuilder,
    quality: Vec<u16>,
    filled: Vec<u16>,
    commissioning: Vec<u16>,
    period: Vec<i64>,
    /// Per head `rows x dimensions`; f32 until it is written.
    vectors: Vec<Vec<f32>>,
    row_bytes: usize,
}

impl EmbeddingsBuilder {
    /// For the bundle with this digest and these heads.
    pub fn new(bundle: &str, heads: &[HeadLayout]) -> Self {
        let head_bytes =
            |head: &HeadLayout| head.dimensions * if head.dimensions <= F32_DIMENSIONS_MAX { 4 } else { 2 };
        Self {
            bundle: bundle.to_owned(),
            heads: heads.to_vec(),
            rows: RowsBuilder::default(),
            quality: Vec::new(),
            filled: Vec::new(),
            commissioning: Vec::new(),
            period: Vec::new(),
            vectors: vec![Vec::new(); heads.len()],
            row_bytes: 14 + heads.iter().map(head_bytes).sum::<usize>(),
        }
    }

    /// Adds the row's own columns; its vectors follow by [`Self::extend_head`], for many rows at once.
    pub fn push(&mut self, series: &str, time: Timestamp, quality: u16, filled: u16, commissioning: bool, period: i64) {
        self.rows.push(series, time);
        self.quality.push(quality);
        self.filled.push(filled);
        self.commissioning.push(u16::from(commissioning));
        self.period.push(period);
    }

    /// Adds a control. The vectors of all rows before it must have been added.
    pub fn push_control(&mut self, control: &Control) {
        self.rows.push_control(control);
        self.quality.push(0);
        self.filled.push(0);
        self.commissioning.push(0);
        self.period.push(0);
        for (head, vectors) in self.heads.iter().zip(&mut self.vectors) {
            vectors.extend(std::iter::repeat_n(0.0, head.dimensions));
        }
    }

    /// Adds vectors of head `index` for the rows pushed since its last ones; a multiple of its dimensions.
    pub fn extend_head(&mut self, index: usize, vectors: &[f32]) {
        self.vectors[index].extend_from_slice(vectors);
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
        self.rows.bytes() + self.rows.len() * self.row_bytes
    }

    /// Writes the batch; the builder is empty afterwards.
    ///
    /// # Panics
    /// If the vectors of a head do not match the rows: a bug in the caller.
    pub fn encode(&mut self) -> Vec<u8> {
        let mut fields = RowsBuilder::fields();
        for name in ["quality", "filled", "commissioning"] {
            fields.push(Field::new(name, DataType::UInt16, false));
        }
        fields.push(Field::new("period", DataType::Int64, false));
        let mut columns = self.rows.finish();
        for flags in [&mut self.quality, &mut self.filled, &mut self.commissioning] {
            columns.push(Arc::new(UInt16Array::from(std::mem::take(flags))) as ArrayRef);
        }
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.period))));
        for (head, vectors) in self.heads.iter().zip(&mut self.vectors) {
            let vectors = std::mem::take(vectors);
            let values: ArrayRef = if head.dimensions <= F32_DIMENSIONS_MAX {
                Arc::new(Float32Array::from(vectors))
            } else {
                Arc::new(Float16Array::from_iter_values(vectors.into_iter().map(f16::from_f32)))
            };
            let item = Arc::new(Field::new("item", values.data_type().clone(), false));
            let column = FixedSizeListArray::new(item, head.dimensions as i32, values, None);
            fields.push(Field::new(format!("head.{}", head.name), column.data_type().clone(), false));
            columns.push(Arc::new(column));
        }
        LAYOUT.write(fields, columns, &[("eddy.bundle", &self.bundle)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_of_two_heads() {
        let heads =
            [HeadLayout { name: "value".into(), dimensions: 1 }, HeadLayout { name: "raw".into(), dimensions: 5 }];
        let mut builder = EmbeddingsBuilder::new("digest", &heads);
        builder.push("d/t", 1, 0, 1, true, 1000);
        builder.push("d/u", 1, 4, 2, false, 0);
        builder.extend_head(0, &[0.1, 0.2]);
        builder.extend_head(1, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        let kind = crate::ControlKind::Recommission { device: "d".into() };
        builder.push_control(&Control { id: "x".into(), origin: "cli".into(), time: 3, kind });
        let read = Embeddings::decode(&builder.encode()).unwrap();
        assert_eq!(read.bundle, "digest");
        assert_eq!((read.rows.len(), &read.filled[..], &read.commissioning[..]), (3, &[1, 2, 0][..], &[1, 0, 0][..]));
        let (mut value, mut raw) = ([0.0; 1], [0.0; 5]);
        read.heads[0].copy_to(1, &mut value);
        read.heads[1].copy_to(1, &mut raw);
        assert_eq!((value, raw), ([0.2], [6.0, 7.0, 8.0, 9.0, 10.0]));
        assert!(read.rows.control(2).is_some());
    }
}
