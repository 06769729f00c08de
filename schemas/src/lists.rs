//! A column of lists that few rows have: four bytes a row beside the values, and no column at all in a batch without any.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, ListArray, PrimitiveArray, types::ArrowPrimitiveType};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field};

use crate::layout::{Layout, LayoutError};

/// A column that was read.
#[derive(Clone, Debug)]
pub(crate) struct Lists<N: ArrowNativeType> {
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
    values: ScalarBuffer<N>,
}

impl<N: ArrowNativeType> Lists<N> {
    /// Reads column `name`, whose items may not be null.
    pub(crate) fn read<T: ArrowPrimitiveType<Native = N>>(
        layout: &Layout,
        name: &str,
        column: &dyn Array,
    ) -> Result<Self, LayoutError> {
        let wrong = || layout.content(format!("column {name:?} is of type {}", column.data_type()));
        let lists: &ListArray = column.as_any().downcast_ref().ok_or_else(wrong)?;
        let items: &PrimitiveArray<T> = lists.values().as_any().downcast_ref().ok_or_else(wrong)?;
        if items.null_count() > 0 {
            return Err(layout.content(format!("column {name:?} has lists with nulls")));
        }
        let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
        Ok(Self { offsets, nulls, values: items.values().clone() })
    }

    /// The list of `row`, if it has one.
    pub(crate) fn get(&self, row: usize) -> Option<&[N]> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        // Arrow has checked that offsets ascend and stay within the values.
        Some(&self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize])
    }

    /// The rows that have one, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.offsets.len() - 1).filter(|row| self.get(*row).is_some())
    }
}

/// The type of such a column.
pub(crate) fn data_type<T: ArrowPrimitiveType>() -> DataType {
    DataType::List(Arc::new(Field::new("item", T::DATA_TYPE, false)))
}

/// Collects a column.
#[derive(Debug)]
pub(crate) struct ListsBuilder<T: ArrowPrimitiveType> {
    /// The rows that have a list, ascending, and where each ends among the values.
    ends: Vec<(usize, usize)>,
    values: Vec<T::Native>,
}

impl<T: ArrowPrimitiveType> Default for ListsBuilder<T> {
    fn default() -> Self {
        Self { ends: Vec::new(), values: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType> ListsBuilder<T> {
    /// Gives `row`, which is past all that have one, a list.
    pub(crate) fn push(&mut self, row: usize, values: impl IntoIterator<Item = T::Native>) {
        self.values.extend(values);
        self.ends.push((row, self.values.len()));
    }

    /// Whether no row has one.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// About how many bytes the column of so many rows takes once written.
    pub(crate) fn bytes(&self, rows: usize) -> usize {
        if self.is_empty() { 0 } else { rows * 4 + rows / 8 + self.values.len() * size_of::<T::Native>() }
    }

    /// The column for a batch of so many rows; the builder is empty afterwards.
    pub(crate) fn finish(&mut self, rows: usize) -> ArrayRef {
        let (mut offsets, mut valid) = (Vec::with_capacity(rows + 1), vec![false; rows]);
        let mut end = 0;
        offsets.push(0);
        let mut next = self.ends.drain(..).peekable();
        for (row, valid) in valid.iter_mut().enumerate() {
            if let Some((_, to)) = next.next_if(|(at, _)| *at == row) {
                (end, *valid) = (to, true);
            }
            offsets.push(i32::try_from(end).expect("a batch is bounded in bytes far below 2^31 values"));
        }
        drop(next);
        let values = PrimitiveArray::<T>::new(std::mem::take(&mut self.values).into(), None);
        let item = Arc::new(Field::new("item", T::DATA_TYPE, false));
        let nulls = NullBuffer::new(BooleanBuffer::from(valid));
        Arc::new(ListArray::new(item, OffsetBuffer::new(offsets.into()), Arc::new(values), Some(nulls)))
    }
}
