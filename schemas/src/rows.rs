//! The columns that every batch has: series, event time, control.

use std::{hash::BuildHasher, ops::Index, sync::Arc};

use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray, UInt32Array,
    builder::{ArrayBuilder, StringBuilder},
    types::UInt32Type,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field};
use hashbrown::HashTable;

use crate::{
    Control, Timestamp,
    layout::{Layout, LayoutError},
};

/// Names of series, where the message has them: with many series nearly each row has a name of its own, and a copy of each would
/// be an allocation a row in every stage.
#[derive(Clone, Debug)]
pub struct SeriesNames(StringArray);

impl SeriesNames {
    fn new(names: &StringArray) -> Self {
        match names.null_count() {
            0 => Self(names.clone()),
            // A null is the empty name; what lies under it may be anything.
            _ => Self(StringArray::from_iter_values(names.iter().map(Option::unwrap_or_default))),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|index| self.0.value(index))
    }
}

impl Index<usize> for SeriesNames {
    type Output = str;

    fn index(&self, index: usize) -> &str {
        self.0.value(index)
    }
}

/// The first columns of a batch that was read. A row is a measurement or a control.
///
/// `names[series[row]]` is the series of a measurement, as [`crate::SeriesName`] writes it.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The distinct series of this batch.
    pub names: SeriesNames,
    /// Per row an index into `names`; on a control's row it has no meaning.
    pub series: ScalarBuffer<u32>,
    /// Per row the event time; on a control's row the time at which it was said.
    pub time: ScalarBuffer<Timestamp>,
    /// The controls with their rows, in order.
    pub controls: Vec<(usize, Control)>,
}

impl Rows {
    /// How many rows there are, controls included.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// The control on `row`, if it is one.
    pub fn control(&self, row: usize) -> Option<&Control> {
        if self.controls.is_empty() {
            return None;
        }
        self.controls.binary_search_by_key(&row, |(at, _)| *at).ok().map(|index| &self.controls[index].1)
    }

    /// The series of a measurement's row.
    pub fn name(&self, row: usize) -> &str {
        &self.names[self.series[row] as usize]
    }

    pub(crate) fn read(layout: &Layout, batch: &RecordBatch) -> Result<Self, LayoutError> {
        let series: &DictionaryArray<UInt32Type> = layout.column(batch, "series")?;
        let names: &StringArray = series
            .values()
            .as_any()
            .downcast_ref()
            .ok_or_else(|| layout.content("the series dictionary does not hold strings"))?;
        let names = SeriesNames::new(names);
        let time: &Int64Array = layout.column(batch, "time")?;
        let control: &StringArray = layout.column(batch, "control")?;
        let mut controls = Vec::new();
        if control.null_count() < control.len() {
            for row in (0..control.len()).filter(|row| control.is_valid(*row)) {
                let parsed = Control::parse(control.value(row).as_bytes())
                    .map_err(|problem| layout.content(format!("row {row}: {problem}")))?;
                controls.push((row, parsed));
            }
        }
        let keys = series.keys().values().clone();
        // A key past the dictionary would be refused by Arrow's own validation; an empty dictionary with rows is ours.
        let is_control = |row: &usize| control.is_valid(*row);
        if let Some(row) = (0..keys.len()).find(|row| keys[*row] as usize >= names.len() && !is_control(row)) {
            return Err(layout.content(format!("row {row} names series {} of {}", keys[row], names.len())));
        }
        for (index, name) in names.iter().enumerate() {
            if !crate::SeriesName::is_canonical(name) && !name.is_empty() {
                return Err(layout.content(format!("series {index} is called {name:?}, not device/channel")));
            }
        }
        Ok(Self { names, series: keys, time: time.values().clone(), controls })
    }

    /// As [`Self::read`]; and every measurement is of a series that has a name. (A dictionary of controls alone has an
    /// empty one for them to point to. In READINGS such a row is put aside by itself.)
    pub(crate) fn read_named(layout: &Layout, batch: &RecordBatch) -> Result<Self, LayoutError> {
        let rows = Self::read(layout, batch)?;
        if rows.names.iter().any(str::is_empty)
            && let Some(row) = (0..rows.len()).find(|row| rows.control(*row).is_none() && rows.name(*row).is_empty())
        {
            return Err(layout.content(format!("row {row} is of a series without a name")));
        }
        Ok(rows)
    }
}

/// A series of a batch that is being made: its hash, its dictionary key, and where in the names' text its name lies.
/// (The builder's offsets say where, too: two look-ups there cost 20 instructions a row.)
#[derive(Debug)]
struct Known {
    hash: u64,
    key: u32,
    from: u32,
    to: u32,
}

impl Known {
    fn name<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.from as usize..self.to as usize]
    }
}

/// Collects the first columns of a batch.
#[derive(Debug, Default)]
pub struct RowsBuilder {
    /// The distinct series so far, as they are sent.
    names: StringBuilder,
    /// Where they are. Asked for every row, so by a hash that is quick for short names. It promises nothing against names that are made
    /// to collide; how many series there can be is bounded before.
    known: HashTable<Known>,
    hasher: foldhash::quality::RandomState,
    series: Vec<u32>,
    time: Vec<Timestamp>,
    controls: Vec<(usize, String)>,
    control_bytes: usize,
}

impl RowsBuilder {
    /// Adds a measurement's row.
    pub fn push(&mut self, series: &str, time: Timestamp) {
        let hash = self.hasher.hash_one(series);
        let text = self.names.values_slice();
        let key = match self.known.find(hash, |known| known.name(text) == series.as_bytes()) {
            Some(known) => known.key,
            None => self.add_name(series, hash),
        };
        self.series.push(key);
        self.time.push(time);
    }

    fn add_name(&mut self, series: &str, hash: u64) -> u32 {
        // A batch is bounded in bytes far below u32::MAX, and so are its names.
        let (key, from) = (self.names.len() as u32, self.names.values_slice().len() as u32);
        self.names.append_value(series);
        let known = Known { hash, key, from, to: self.names.values_slice().len() as u32 };
        self.known.insert_unique(hash, known, |known| known.hash);
        key
    }

    /// Adds a control's row.
    pub fn push_control(&mut self, control: &Control) {
        if self.names.is_empty() {
            // A dictionary key needs a value to point to.
            let hash = self.hasher.hash_one("");
            self.add_name("", hash);
        }
        let json = control.to_json();
        self.control_bytes += json.len();
        self.controls.push((self.time.len(), json));
        self.series.push(0);
        self.time.push(control.time);
    }

    /// How many rows there are, controls included.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// About how many bytes these columns take once written.
    pub fn bytes(&self) -> usize {
        let names = self.names.values_slice().len() + 8 * self.names.len();
        self.time.len() * 16 + names + self.control_bytes
    }

    pub(crate) fn fields() -> Vec<Field> {
        vec![
            Field::new("series", DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8)), false),
            Field::new("time", DataType::Int64, false),
            Field::new("control", DataType::Utf8, true),
        ]
    }

    /// The columns in [`Self::fields`]' order; the builder is empty afterwards.
    pub(crate) fn finish(&mut self) -> Vec<ArrayRef> {
        let rows = self.time.len();
        let keys = UInt32Array::from(std::mem::take(&mut self.series));
        let names: ArrayRef = Arc::new(self.names.finish());
        let series = DictionaryArray::<UInt32Type>::try_new(keys, names).expect("every key was made with its name");
        let control = if self.controls.is_empty() {
            StringArray::new_null(rows)
        } else {
            let mut column = StringBuilder::new();
            let mut next = self.controls.drain(..).peekable();
            for row in 0..rows {
                match next.next_if(|(at, _)| *at == row) {
                    Some((_, json)) => column.append_value(json),
                    None => column.append_null(),
                }
            }
            column.finish()
        };
        self.known.clear();
        self.control_bytes = 0;
        let time = Int64Array::from(std::mem::take(&mut self.time));
        vec![Arc::new(series), Arc::new(time), Arc::new(control)]
    }
}

#[cfg(test)]
mod tests {
    use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer};

    use super::*;

    #[test]
    fn a_null_among_the_names_is_the_empty_name_whatever_lies_under_it() {
        let offsets = OffsetBuffer::new(vec![0, 3, 6].into());
        let nulls = NullBuffer::from(vec![true, false]);
        let names = StringArray::new(offsets, Buffer::from_vec(b"a/bc/d".to_vec()), Some(nulls));
        let names = SeriesNames::new(&names);
        assert_eq!((&names[0], &names[1], names.len()), ("a/b", "", 2));
        assert_eq!(names.iter().collect::<Vec<_>>(), ["a/b", ""]);
    }

    #[test]
    fn a_name_is_sent_once_a_batch_and_batches_know_nothing_of_each_other() {
        let mut builder = RowsBuilder::default();
        for batch in 0..2 {
            // Half of the second batch's names were in the first, elsewhere.
            let names: Vec<String> = (0..1000).rev().map(|n| format!("device/{}", n + 500 * batch)).collect();
            for name in names.iter().chain(names.iter().rev()) {
                builder.push(name, 0);
            }
            assert_eq!(builder.bytes(), 2000 * 16 + names.iter().map(|name| name.len() + 8).sum::<usize>());
            let columns = builder.finish();
            let series: &DictionaryArray<UInt32Type> = columns[0].as_any().downcast_ref().unwrap();
            let sent: &StringArray = series.values().as_any().downcast_ref().unwrap();
            assert!(sent.iter().eq(names.iter().map(|name| Some(name.as_str()))));
            assert!(series.keys().values().iter().copied().eq((0..1000).chain((0..1000).rev())));
        }
    }
}
