//! From a stream's messages to rows, one module for each kind of message.

mod batches;
mod documents;
mod embeddings;
mod sent;

use eddy_runtime::client::StoredMessage;
use eddy_schemas::{Rows, SeriesName};

pub use self::sent::take_sent;

use crate::{
    class::Class,
    column::NONE,
    policy::Heads,
    select::Filter,
    table::{Key, Table},
};

/// What rows are taken by.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    /// Which rows.
    pub filter: &'a Filter,
    /// Which heads' vectors.
    pub heads: &'a Heads,
}

/// What of a message could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// The message, or so many of its entries.
    pub count: u64,
    /// What is wrong with the first one.
    pub problem: String,
}

impl Unread {
    /// Nothing of the message.
    pub fn whole(problem: String) -> Self {
        Self { count: 1, problem }
    }

    fn add(&mut self, problem: String) {
        if self.count == 0 {
            self.problem = problem;
        }
        self.count += 1;
    }
}

/// An empty table of this class.
pub fn table(class: Class) -> Table {
    match class {
        Class::Readings => batches::readings_table(),
        Class::Samples => batches::samples_table(),
        Class::Scores => batches::scores_table(),
        Class::Embeddings => embeddings::table(),
        Class::Alerts => documents::alerts_table(),
        Class::Contexts => documents::contexts_table(),
        Class::Labels => documents::labels_table(),
    }
}

/// Adds the rows of a gateway's message that are taken.
///
/// # Errors
/// That it is no message of this class; nothing of it was added then.
pub fn take(class: Class, message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), String> {
    match class {
        Class::Readings => batches::readings(message, taking, table),
        Class::Samples => batches::samples(message, taking, table),
        Class::Scores => batches::scores(message, taking, table),
        Class::Embeddings => embeddings::take(message, taking, table),
        Class::Alerts => documents::alert(message, taking, table),
        Class::Contexts => documents::context(message, taking, table),
        Class::Labels => documents::labels(message, taking, table),
    }
}

/// The series of a message under their numbers in the table; `None` where its device is not taken.
struct Series(Vec<Option<(u32, u32)>>);

impl Series {
    fn of(rows: &Rows, filter: &Filter, table: &mut Table) -> Self {
        let number = |name: &str| {
            // READINGS takes a row of a series without a name, and so does its export.
            let Some(series) = SeriesName::parse(name) else {
                return filter.takes_device("").then(|| (table.names.number(""), NONE));
            };
            let is_taken = filter.takes_device(&series.device);
            is_taken.then(|| (table.names.number(&series.device), table.names.number(&series.channel)))
        };
        Self(rows.names.iter().map(number).collect())
    }

    /// The measured rows that are taken.
    fn keys<'a>(&'a self, rows: &'a Rows, filter: &'a Filter, sequence: u64) -> impl Iterator<Item = (usize, Key)> {
        let mut controls = rows.controls.iter().map(|(row, _)| *row).peekable();
        (0..rows.len()).filter_map(move |row| {
            if controls.next_if_eq(&row).is_some() || !filter.takes_time(rows.time[row]) {
                return None;
            }
            let (device, channel) = self.0[rows.series[row] as usize]?;
            Some((row, Key { device, channel, time: rows.time[row], sequence, row: row as u32 }))
        })
    }
}
