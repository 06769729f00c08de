//! The rows of a range, as they are collected, and their order in files.

use eddy_schemas::Timestamp;

use crate::{
    class::Class,
    column::{Cell, Cells, Column, Lists, NONE, Names},
};

const DAY: i64 = 86_400_000_000_000;

/// The columns that every class has, in the order of a file.
const COMMON: usize = 5;

/// Rows of one class.
#[derive(Debug)]
pub struct Table {
    class: Class,
    /// Devices, channels and other names that many rows share.
    pub names: Names,
    device: Vec<u32>,
    channel: Vec<u32>,
    time: Vec<Timestamp>,
    sequence: Vec<u64>,
    row: Vec<u32>,
    /// The class' own columns.
    columns: Vec<Column>,
    bytes: usize,
}

/// What every row has.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// A number of [`Table::names`].
    pub device: u32,
    /// A number of them, or [`NONE`].
    pub channel: u32,
    /// Event time.
    pub time: Timestamp,
    /// Of the message.
    pub sequence: u64,
    /// In the message.
    pub row: u32,
}

impl Table {
    /// An empty one with these columns beside the common ones.
    pub fn new(class: Class, columns: Vec<Column>) -> Self {
        Self {
            class,
            names: Names::default(),
            device: Vec::new(),
            channel: Vec::new(),
            time: Vec::new(),
            sequence: Vec::new(),
            row: Vec::new(),
            columns,
            bytes: 0,
        }
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes + self.names.bytes()
    }

    /// Adds a row, with a cell for each of the class' own columns that [`Self::new`] was given.
    pub fn push<const N: usize>(&mut self, key: Key, cells: [Cell<'_>; N]) {
        self.device.push(key.device);
        self.channel.push(key.channel);
        self.time.push(key.time);
        self.sequence.push(key.sequence);
        self.row.push(key.row);
        self.bytes += 32;
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.bytes += column.cells.push(cell);
        }
    }

    /// Gives the row that was pushed last its list in a column of that name, which is added where it is not there yet. Columns added
    /// so lack the rows that were given none.
    pub fn list(&mut self, name: &str, list: &[f32]) {
        let row = self.time.len() - 1;
        let found = self.columns.iter().position(|column| column.name == name);
        let at = found.unwrap_or_else(|| {
            self.columns.push(Column::new(name, Cells::List(Lists::default())));
            self.columns.len() - 1
        });
        let cells = &mut self.columns[at].cells;
        self.bytes += cells.fill_lists(row) + cells.push(Cell::List(Some(list)));
    }

    /// Fills columns that were added with nulls up to the last row.
    pub fn complete(&mut self) {
        let rows = self.time.len();
        self.bytes += self.columns.iter_mut().map(|column| column.cells.fill_lists(rows)).sum::<usize>();
        self.columns[..].sort_by_key(|column| column.name.starts_with("head_").then(|| column.name.clone()));
    }

    /// Per event date (days since the Unix epoch) its rows, in their order in the file: by device, channel, time, and then as they
    /// stand in the stream.
    pub fn dates(&self) -> Vec<(i32, Vec<u32>)> {
        let ranks = self.names.ranks();
        let rank = |number: u32| if number == NONE { 0 } else { ranks[number as usize] };
        let mut order: Vec<u32> = (0..self.time.len() as u32).collect();
        // Nanoseconds in 64 bits reach 106,751 days, well within an i32.
        let date = |row: usize| self.time[row].div_euclid(DAY) as i32;
        order.sort_unstable_by_key(|row| {
            let row = *row as usize;
            let series = (rank(self.device[row]), rank(self.channel[row]));
            (date(row), series, self.time[row], self.sequence[row], self.row[row])
        });
        let runs = order.chunk_by(|a, b| date(*a as usize) == date(*b as usize));
        runs.map(|run| (date(run[0] as usize), run.to_vec())).collect()
    }

    /// The columns of a file, the common ones first.
    pub fn columns(&self) -> Vec<ColumnRef<'_>> {
        let mut columns = Vec::with_capacity(COMMON + self.columns.len());
        columns.push(ColumnRef::Names("device", &self.device, false));
        if self.class.has_channel() {
            columns.push(ColumnRef::Names("channel", &self.channel, true));
        }
        columns.push(ColumnRef::Time("time", &self.time));
        columns.push(ColumnRef::Sequence("sequence", &self.sequence));
        columns.push(ColumnRef::Row("row", &self.row));
        columns.extend(self.columns.iter().map(ColumnRef::Own));
        columns
    }

    /// The different names in a column of that name, among `rows`, in order.
    pub fn distinct(&self, column: &str, rows: &[u32]) -> Vec<&str> {
        let Some(Column { cells: Cells::Name(numbers), .. }) = self.columns.iter().find(|own| own.name == column)
        else {
            return Vec::new();
        };
        let mut found: Vec<u32> = rows.iter().map(|row| numbers[*row as usize]).filter(|n| *n != NONE).collect();
        found.sort_unstable();
        found.dedup();
        let mut names: Vec<_> = found.into_iter().map(|number| self.names.name(number)).collect();
        names.sort_unstable();
        names
    }
}

/// A column on its way out.
#[derive(Clone, Copy, Debug)]
pub enum ColumnRef<'a> {
    /// Names, and whether some may be null.
    Names(&'static str, &'a [u32], bool),
    /// Times.
    Time(&'static str, &'a [i64]),
    /// Sequences.
    Sequence(&'static str, &'a [u64]),
    /// Rows of messages.
    Row(&'static str, &'a [u32]),
    /// One of the class' own.
    Own(&'a Column),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(table: &mut Table, device: &str, time: i64, row: u32) -> Key {
        Key { device: table.names.number(device), channel: NONE, time, sequence: 1, row }
    }

    #[test]
    fn rows_are_put_by_date_then_device_then_time() {
        let mut table = Table::new(Class::Labels, vec![]);
        for (row, (device, time)) in [("b", 5), ("a", DAY + 1), ("a", 7), ("b", 2), ("a", -1)].into_iter().enumerate() {
            let key = key(&mut table, device, time, row as u32);
            table.push(key, []);
        }
        assert_eq!(table.dates(), [(-1, vec![4]), (0, vec![2, 3, 0]), (1, vec![1])]);
    }

    #[test]
    fn a_column_that_comes_later_lacks_the_rows_before_it_and_after_it() {
        let mut table = Table::new(Class::Embeddings, vec![]);
        for row in 0..4 {
            let key = key(&mut table, "a", i64::from(row), row);
            table.push(key, []);
            if row == 1 {
                table.list("head_z", &[1.0]);
            }
            if row == 2 {
                table.list("head_b", &[1.0, 2.0]);
            }
        }
        table.complete();
        let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["head_b", "head_z"]);
        for (column, there) in table.columns.iter().zip([[false, false, true, false], [false, true, false, false]]) {
            let array = column.cells.gather(&[0, 1, 2, 3], &table.names);
            assert_eq!((0..4).map(|row| array.is_valid(row)).collect::<Vec<_>>(), there);
        }
    }
}
