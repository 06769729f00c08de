//! EMBEDDINGS: one vector per head for the window that ends at each sample.

use std::{ops::Range, sync::Arc};

use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Int64Array, UInt16Array,
    types::{ArrowPrimitiveType, Float16Type, Float32Type},
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field};
use half::f16;

use crate::{
    Control, Rows, RowsBuilder, Timestamp,
    layout::{Layout, LayoutError},
    lists::{Lists, ListsBuilder},
};

/// Since version 2 a head that not every row has is a column of lists, which a batch without any such row leaves out.
const LAYOUT: Layout = Layout { name: "embeddings", oldest: 1, current: 2 };

/// What the columns of heads are called, before the head's name; and those of the bundle in the shadow.
const HEAD: &str = "head.";
const SHADOW_HEAD: &str = "shadow.";
/// Names the bundle in the shadow in a batch's metadata. A reader that does not know it does not miss it.
const SHADOW_BUNDLE: &str = "eddy.shadow";

/// Up to this many dimensions a head travels as f32, above as f16.
pub const F32_DIMENSIONS_MAX: usize = 4;

/// A head's name and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLayout {
    /// As in the bundle's `model.toml`.
    pub name: String,
    /// Length of its vectors.
    pub dimensions: usize,
    /// Whether rows may lack it: it comes of an input that not every row has.
    pub optional: bool,
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
    /// `rows x dimensions`, row-major; zeros on a control's row. Of an optional head only those that there are.
    pub vectors: Vectors,
    /// The rows that have a vector, ascending; `None` for a head that every row has.
    pub rows: Option<Vec<u32>>,
}

impl HeadColumn {
    /// Where the vector of `row` stands in `vectors`, if there is one.
    pub fn range(&self, row: usize) -> Option<Range<usize>> {
        let place = match &self.rows {
            None => row,
            Some(rows) => rows.binary_search(&u32::try_from(row).ok()?).ok()?,
        };
        Some(place * self.head.dimensions..(place + 1) * self.head.dimensions)
    }

    /// Copies the vector of `row` into `out`, whose length is the head's dimensions; whether there is one.
    pub fn copy_to(&self, row: usize, out: &mut [f32]) -> bool {
        let Some(range) = self.range(row) else { return false };
        match &self.vectors {
            Vectors::F32(values) => out.copy_from_slice(&values[range]),
            Vectors::F16(values) => {
                for (to, from) in out.iter_mut().zip(&values[range]) {
                    *to = from.to_f32();
                }
            }
        }
        true
    }

    fn read(name: &str, field: &Field, column: &ArrayRef) -> Result<Self, LayoutError> {
        let name = name.to_owned();
        if let DataType::List(item) = field.data_type() {
            return if *item.data_type() == DataType::Float16 {
                Self::read_lists::<Float16Type>(field.name(), name, column, Vectors::F16)
            } else {
                Self::read_lists::<Float32Type>(field.name(), name, column, Vectors::F32)
            };
        }
        let wrong = || LAYOUT.content(format!("column {:?} is of type {}", field.name(), field.data_type()));
        let column: &FixedSizeListArray = column.as_any().downcast_ref().ok_or_else(wrong)?;
        if column.null_count() > 0 {
            return Err(LAYOUT.content(format!("column {:?} has nulls", field.name())));
        }
        let dimensions = column.value_length() as usize;
        if dimensions == 0 {
            return Err(LAYOUT.content(format!("column {:?} has vectors of no dimension", field.name())));
        }
        let values = column.values().as_any();
        let vectors = if dimensions <= F32_DIMENSIONS_MAX {
            Vectors::F32(values.downcast_ref::<Float32Array>().ok_or_else(wrong)?.values().clone())
        } else {
            Vectors::F16(values.downcast_ref::<Float16Array>().ok_or_else(wrong)?.values().clone())
        };
        Ok(Self { head: HeadLayout { name, dimensions, optional: false }, vectors, rows: None })
    }

    fn read_lists<T: ArrowPrimitiveType>(
        column_name: &str,
        name: String,
        column: &ArrayRef,
        vectors: fn(ScalarBuffer<T::Native>) -> Vectors,
    ) -> Result<Self, LayoutError> {
        let lists = Lists::read::<T>(&LAYOUT, column_name, column)?;
        let (mut rows, mut values, mut dimensions) = (Vec::new(), Vec::new(), 0);
        for row in lists.rows() {
            let vector = lists.get(row).unwrap_or_default();
            if rows.is_empty() {
                dimensions = vector.len();
            }
            if vector.len() != dimensions || dimensions == 0 {
                let found = vector.len();
                return Err(
                    LAYOUT.content(format!("column {column_name:?}: row {row} has {found} of {dimensions} values"))
                );
            }
            values.extend_from_slice(vector);
            // A batch is bounded in bytes far below u32::MAX rows.
            rows.push(row as u32);
        }
        let head = HeadLayout { name, dimensions, optional: true };
        Ok(Self { head, vectors: vectors(values.into()), rows: Some(rows) })
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
    /// One column per head, in the bundle's order; an optional head that no row has has none.
    pub heads: Vec<HeadColumn>,
    /// Digest of the bundle that made the vectors.
    pub bundle: String,
    /// What the bundle in the shadow made of the same rows, if one runs there.
    pub shadow: Option<ShadowVectors>,
}

/// The vectors of the bundle in the shadow.
#[derive(Clone, Debug)]
pub struct ShadowVectors {
    /// Its digest.
    pub bundle: String,
    /// As [`Embeddings::heads`].
    pub heads: Vec<HeadColumn>,
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
        let columns = |prefix: &str| -> Result<Vec<HeadColumn>, LayoutError> {
            let named = schema.fields().iter().zip(batch.columns());
            let named = named.filter_map(|(field, column)| Some((field.name().strip_prefix(prefix)?, field, column)));
            named.map(|(name, field, column)| HeadColumn::read(name, field, column)).collect()
        };
        let heads = columns(HEAD)?;
        let shadow = match schema.metadata().get(SHADOW_BUNDLE) {
            Some(bundle) => Some(ShadowVectors { bundle: bundle.clone(), heads: columns(SHADOW_HEAD)? }),
            None => None,
        };
        let commissioning = flag("commissioning")?;
        if let Some(row) = commissioning.iter().position(|flag| *flag > 1) {
            return Err(LAYOUT.content(format!("row {row}: commissioning is {}, not 0 or 1", commissioning[row])));
        }
        let bundle = schema.metadata().get("eddy.bundle").cloned().unwrap_or_default();
        Ok(Self {
            rows: Rows::read_named(&LAYOUT, &batch)?,
            quality: flag("quality")?,
            filled: flag("filled")?,
            commissioning,
            period: period.values().clone(),
            heads,
            bundle,
            shadow,
        })
    }
}

/// Collects a batch of embeddings of one bundle.
#[derive(Debug)]
pub struct EmbeddingsBuilder {
    bundle: String,
    /// The heads, and after `active` of them those of the bundle in the shadow.
    heads: Vec<HeadLayout>,
    active: usize,
    /// Digest of the bundle in the shadow.
    shadow: Option<String>,
    rows: RowsBuilder,
    quality: Vec<u16>,
    filled: Vec<u16>,
    commissioning: Vec<u16>,
    period: Vec<i64>,
    /// Per head `rows x dimensions`; f32 until it is written.
    vectors: Vec<Vec<f32>>,
    /// The rows that have the optional heads, ascending.
    optional_rows: Vec<usize>,
    row_bytes: usize,
    /// What a row that has the optional heads takes beside.
    optional_bytes: usize,
}

impl EmbeddingsBuilder {
    /// For the bundle with this digest and these heads.
    pub fn new(bundle: &str, heads: &[HeadLayout]) -> Self {
        let mut builder = Self {
            bundle: bundle.to_owned(),
            heads: Vec::new(),
            active: heads.len(),
            shadow: None,
            rows: RowsBuilder::default(),
            quality: Vec::new(),
            filled: Vec::new(),
            commissioning: Vec::new(),
            period: Vec::new(),
            vectors: Vec::new(),
            optional_rows: Vec::new(),
            row_bytes: 14,
            optional_bytes: 0,
        };
        builder.add_heads(heads);
        builder
    }

    /// With the vectors of a second bundle, which runs in the shadow, for the same rows; before there is any.
    #[must_use]
    pub fn with_shadow(mut self, bundle: &str, heads: &[HeadLayout]) -> Self {
        self.shadow = Some(bundle.to_owned());
        self.add_heads(heads);
        self
    }

    fn add_heads(&mut self, heads: &[HeadLayout]) {
        for head in heads {
            let bytes = head.dimensions * if head.dimensions <= F32_DIMENSIONS_MAX { 4 } else { 2 };
            *if head.optional { &mut self.optional_bytes } else { &mut self.row_bytes } += bytes;
        }
        self.heads.extend_from_slice(heads);
        self.vectors.resize(self.heads.len(), Vec::new());
    }

    /// Whether it is for this bundle, and this one in the shadow.
    pub fn is_of(&self, bundle: &str, shadow: Option<&str>) -> bool {
        self.bundle == bundle && self.shadow.as_deref() == shadow
    }

    /// Adds the row's own columns; its vectors follow by [`Self::extend_head`], for many rows at once.
    pub fn push(&mut self, series: &str, time: Timestamp, quality: u16, filled: u16, commissioning: bool, period: i64) {
        self.rows.push(series, time);
        self.quality.push(quality);
        self.filled.push(filled);
        self.commissioning.push(u16::from(commissioning));
        self.period.push(period);
    }

    /// The row that was pushed last has the optional heads too; once.
    pub fn push_optional(&mut self) {
        self.optional_rows.push(self.rows.len().saturating_sub(1));
    }

    /// Adds a control. The vectors of all rows before it must have been added.
    pub fn push_control(&mut self, control: &Control) {
        self.rows.push_control(control);
        self.quality.push(0);
        self.filled.push(0);
        self.commissioning.push(0);
        self.period.push(0);
        for (head, vectors) in self.heads.iter().zip(&mut self.vectors).filter(|(head, _)| !head.optional) {
            vectors.extend(std::iter::repeat_n(0.0, head.dimensions));
        }
    }

    /// Adds vectors of head `index` for the rows pushed since its last ones (of an optional head: those that have it); a
    /// multiple of its dimensions.
    pub fn extend_head(&mut self, index: usize, vectors: &[f32]) {
        self.vectors[index].extend_from_slice(vectors);
    }

    /// The same of head `index` of the bundle in the shadow.
    pub fn extend_shadow_head(&mut self, index: usize, vectors: &[f32]) {
        self.vectors[self.active + index].extend_from_slice(vectors);
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
        let lists = if self.optional_rows.is_empty() { 0 } else { self.rows.len() * 5 };
        self.rows.bytes() + self.rows.len() * self.row_bytes + lists + self.optional_rows.len() * self.optional_bytes
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
        let rows = self.rows.len();
        let mut columns = self.rows.finish();
        for flags in [&mut self.quality, &mut self.filled, &mut self.commissioning] {
            columns.push(Arc::new(UInt16Array::from(std::mem::take(flags))) as ArrayRef);
        }
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.period))));
        for (at, (head, vectors)) in self.heads.iter().zip(&mut self.vectors).enumerate() {
            let vectors = std::mem::take(vectors);
            let name = format!("{}{}", if at < self.active { HEAD } else { SHADOW_HEAD }, head.name);
            if head.optional {
                if !self.optional_rows.is_empty() {
                    let column = optional_column(head.dimensions, &self.optional_rows, &vectors, rows);
                    fields.push(Field::new(name, column.data_type().clone(), true));
                    columns.push(column);
                }
                continue;
            }
            let values: ArrayRef = if head.dimensions <= F32_DIMENSIONS_MAX {
                Arc::new(Float32Array::from(vectors))
            } else {
                Arc::new(Float16Array::from_iter_values(vectors.into_iter().map(f16::from_f32)))
            };
            let item = Arc::new(Field::new("item", values.data_type().clone(), false));
            let column = FixedSizeListArray::new(item, head.dimensions as i32, values, None);
            fields.push(Field::new(name, column.data_type().clone(), false));
            columns.push(Arc::new(column));
        }
        self.optional_rows.clear();
        let shadow = self.shadow.iter().map(|shadow| (SHADOW_BUNDLE, shadow.as_str()));
        let metadata: Vec<_> = [("eddy.bundle", self.bundle.as_str())].into_iter().chain(shadow).collect();
        LAYOUT.write(fields, columns, &metadata)
    }
}

/// The column of a head that only `with` of the batch's rows have.
fn optional_column(dimensions: usize, with: &[usize], vectors: &[f32], rows: usize) -> ArrayRef {
    let vectors = vectors.chunks_exact(dimensions);
    assert_eq!(vectors.len(), with.len(), "each row that has the optional heads has a vector of each");
    if dimensions <= F32_DIMENSIONS_MAX {
        let mut lists = ListsBuilder::<Float32Type>::default();
        with.iter().zip(vectors).for_each(|(row, vector)| lists.push(*row, vector.iter().copied()));
        lists.finish(rows)
    } else {
        let mut lists = ListsBuilder::<Float16Type>::default();
        with.iter().zip(vectors).for_each(|(row, vector)| lists.push(*row, vector.iter().copied().map(f16::from_f32)));
        lists.finish(rows)
    }
}

#[cfg(test)]
mod tests;
