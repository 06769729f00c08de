//! Columns that grow row by row and are written in another order.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray,
    TimestampNanosecondArray, UInt16Array, UInt32Array, UInt64Array, types::UInt32Type,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, TimeUnit};

/// No name: a null.
pub const NONE: u32 = u32::MAX;

/// Names that many rows share, each under a number.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
    bytes: usize,
}

impl Names {
    /// The number of a name.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        // A range is bounded in rows far below u32::MAX.
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        self.bytes += 2 * name.len() + 64;
        number
    }

    /// The name of a number.
    pub fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    /// Per number its place in the order of the names; what is null comes first.
    pub fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.names.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.name(*a).cmp(self.name(*b)));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in order.into_iter().enumerate() {
            ranks[number as usize] = rank as u32 + 1;
        }
        ranks
    }

    /// About how much memory they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A column of names as an array whose dictionary has those alone that occur, in the order of their first row.
    fn gather(&self, numbers: &[u32], rows: &[u32]) -> ArrayRef {
        let mut keys = HashMap::new();
        let mut values = Vec::new();
        let keys: UInt32Array = rows
            .iter()
            .map(|row| {
                let number = numbers[*row as usize];
                (number != NONE).then(|| {
                    *keys.entry(number).or_insert_with(|| {
                        values.push(self.name(number));
                        values.len() as u32 - 1
                    })
                })
            })
            .collect();
        let values = Arc::new(StringArray::from(values));
        Arc::new(DictionaryArray::<UInt32Type>::new(keys, values))
    }
}

/// Lists of numbers; rows may lack one.
#[derive(Debug, Default)]
pub struct Lists {
    /// Per row where its list ends in `values`, and whether it has one.
    ends: Vec<(usize, bool)>,
    values: Vec<f32>,
}

impl Lists {
    fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let (end, is_there) = self.ends[row];
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before].0);
        is_there.then_some(start..end)
    }

    fn gather(&self, rows: &[u32]) -> ArrayRef {
        let ranges: Vec<_> = rows.iter().map(|row| self.range(*row as usize)).collect();
        let lengths = ranges.iter().map(|range| range.as_ref().map_or(0, ExactSizeIterator::len));
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let mut values = Vec::with_capacity(offsets.last() as usize);
        ranges.iter().flatten().for_each(|range| values.extend_from_slice(&self.values[range.clone()]));
        let nulls = NullBuffer::from_iter(ranges.iter().map(Option::is_some));
        let Some(item) = item() else { unreachable!("the item of a list type is a field") };
        Arc::new(ListArray::new(item, offsets, Arc::new(Float32Array::from(values)), Some(nulls)))
    }
}

fn list_type() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Float32, false)))
}

fn item() -> Option<Arc<Field>> {
    if let DataType::List(item) = list_type() { Some(item) } else { None }
}

/// Nanoseconds since the Unix epoch, UTC.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// The cells of a column.
#[derive(Debug)]
pub enum Cells {
    /// NaN is a null.
    Number(Vec<f64>),
    /// Never null.
    Single(Vec<f32>),
    /// Never null.
    Small(Vec<u16>),
    /// Never null.
    Index(Vec<u32>),
    /// Never null.
    Sequence(Vec<u64>),
    /// Never null.
    Long(Vec<i64>),
    /// Never null.
    Time(Vec<i64>),
    /// Never null.
    Flag(Vec<bool>),
    /// Names that many rows share; [`NONE`] is a null.
    Name(Vec<u32>),
    /// Texts that few rows share, or none.
    Text(Vec<Option<String>>),
    /// Lists.
    List(Lists),
}

/// One cell, on its way in.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// For [`Cells::Number`].
    Number(f64),
    /// For [`Cells::Single`].
    Single(f32),
    /// For [`Cells::Small`].
    Small(u16),
    /// For [`Cells::Long`] and [`Cells::Time`].
    Long(i64),
    /// For [`Cells::Flag`].
    Flag(bool),
    /// For [`Cells::Name`].
    Name(u32),
    /// For [`Cells::Text`].
    Text(Option<&'a str>),
    /// For [`Cells::List`].
    List(Option<&'a [f32]>),
}

impl Cells {
    /// Adds a row's cell; returns about how many bytes it takes.
    ///
    /// # Panics
    /// If the cell is of another kind than the column, which is a mistake in this crate's tables.
    pub fn push(&mut self, cell: Cell<'_>) -> usize {
        match (self, cell) {
            (Self::Number(to), Cell::Number(value)) => to.push(value),
            (Self::Single(to), Cell::Single(value)) => to.push(value),
            (Self::Small(to), Cell::Small(value)) => to.push(value),
            (Self::Long(to) | Self::Time(to), Cell::Long(value)) => to.push(value),
            (Self::Flag(to), Cell::Flag(value)) => to.push(value),
            (Self::Name(to), Cell::Name(value)) => to.push(value),
            (Self::Text(to), Cell::Text(value)) => {
                to.push(value.map(str::to_owned));
                return 24 + value.map_or(0, str::len);
            }
            (Self::List(to), Cell::List(value)) => {
                to.values.extend_from_slice(value.unwrap_or_default());
                to.ends.push((to.values.len(), value.is_some()));
                return 16 + value.map_or(0, |values| values.len() * 4);
            }
            (column, cell) => unreachable!("{cell:?} for a column of {}", column.data_type()),
        }
        8
    }

    /// Of a column of lists: gives rows up to `rows` none; returns about how many bytes that takes.
    pub fn fill_lists(&mut self, rows: usize) -> usize {
        let Self::List(lists) = self else { return 0 };
        let missing = rows.saturating_sub(lists.ends.len());
        lists.ends.resize(lists.ends.len() + missing, (lists.values.len(), false));
        missing * 16
    }

    /// Its type in a file.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Number(_) => DataType::Float64,
            Self::Single(_) => DataType::Float32,
            Self::Small(_) => DataType::UInt16,
            Self::Index(_) => DataType::UInt32,
            Self::Sequence(_) => DataType::UInt64,
            Self::Long(_) => DataType::Int64,
            Self::Time(_) => time_type(),
            Self::Flag(_) => DataType::Boolean,
            Self::Name(_) => DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8)),
            Self::Text(_) => DataType::Utf8,
            Self::List(_) => list_type(),
        }
    }

    /// The cells of `rows`, in that order.
    pub fn gather(&self, rows: &[u32], names: &Names) -> ArrayRef {
        fn of<T: Copy>(from: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().map(|row| from[*row as usize]).collect()
        }
        match self {
            Self::Number(from) => {
                let number = |row: &u32| Some(from[*row as usize]).filter(|value| !value.is_nan());
                Arc::new(rows.iter().map(number).collect::<Float64Array>())
            }
            Self::Single(from) => Arc::new(Float32Array::from(of(from, rows))),
            Self::Small(from) => Arc::new(UInt16Array::from(of(from, rows))),
            Self::Index(from) => Arc::new(UInt32Array::from(of(from, rows))),
            Self::Sequence(from) => Arc::new(UInt64Array::from(of(from, rows))),
            Self::Long(from) => Arc::new(Int64Array::from(of(from, rows))),
            Self::Time(from) => Arc::new(TimestampNanosecondArray::from(of(from, rows)).with_timezone("UTC")),
            Self::Flag(from) => Arc::new(BooleanArray::from(of(from, rows))),
            Self::Name(from) => names.gather(from, rows),
            Self::Text(from) => {
                Arc::new(rows.iter().map(|row| from[*row as usize].as_deref()).collect::<StringArray>())
            }
            Self::List(from) => from.gather(rows),
        }
    }
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// What it is called in a file.
    pub name: String,
    /// What is in it.
    pub cells: Cells,
}

impl Column {
    /// An empty one.
    pub fn new(name: &str, cells: Cells) -> Self {
        Self { name: name.to_owned(), cells }
    }

    /// As a file's schema has it.
    pub fn field(&self) -> Field {
        let nullable = matches!(self.cells, Cells::Number(_) | Cells::Name(_) | Cells::Text(_) | Cells::List(_));
        Field::new(&self.name, self.cells.data_type(), nullable)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array as _, cast::AsArray as _, types::Float32Type};

    use super::*;

    #[test]
    fn lists_are_gathered_in_another_order_with_their_nulls() {
        let mut cells = Cells::List(Lists::default());
        cells.push(Cell::List(Some(&[1.0, 2.0])));
        cells.push(Cell::List(None));
        cells.push(Cell::List(Some(&[])));
        cells.push(Cell::List(Some(&[3.0])));
        let array = cells.gather(&[3, 1, 0, 2], &Names::default());
        let lists = array.as_list::<i32>();
        assert!(lists.is_null(1) && !lists.is_null(3));
        assert_eq!(lists.value(0).as_primitive::<Float32Type>().values(), &[3.0]);
        assert_eq!(lists.value(2).as_primitive::<Float32Type>().values(), &[1.0, 2.0]);
        assert!(lists.value(3).is_empty());
    }

    #[test]
    fn names_come_in_the_order_of_their_text() {
        let mut names = Names::default();
        let (b, a) = (names.number("b"), names.number("a"));
        assert_eq!(names.number("b"), b);
        let ranks = names.ranks();
        assert!(ranks[a as usize] < ranks[b as usize] && ranks[a as usize] > 0);
        let array = names.gather(&[b, NONE, a], &[2, 1]);
        assert_eq!((array.is_null(0), array.is_null(1)), (false, true));
    }
}
