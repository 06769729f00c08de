//! One Parquet file: the rows of a range, a class and an event date.
//!
//! A file is made in memory: its rows are those of one range, which has a bound. Rows are sorted by device, channel and time, so a row
//! group holds few devices, and its statistics (and a page's, in the page index) say which: a bloom filter would say no more.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array};
use arrow_array::{DictionaryArray, types::UInt32Type};
use arrow_schema::{DataType, Field, Schema};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

use crate::{
    column::{Cells, NONE, time_type},
    table::{ColumnRef, Table},
};

/// Rows of a row group: what a query for one device and time reads at least.
pub const ROW_GROUP_ROWS: usize = 32_768;
/// Rows of a page.
const PAGE_ROWS: usize = 4_096;
/// zstd's level: higher ones take several times as long for a few percent.
const ZSTD_LEVEL: i32 = 3;
/// The version of the files' columns.
pub const SCHEMA_VERSION: &str = "1";

/// The bytes of the file of `rows` of `table`, with these key-value pairs.
///
/// # Errors
/// What the writer says; of tables of this crate it takes all.
pub fn encode(table: &Table, rows: &[u32], metadata: Vec<(String, String)>) -> Result<Vec<u8>, ParquetError> {
    let columns = table.columns();
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    // The Arrow schema is left out: Parquet's own types say all, and a reader is not told of our dictionaries.
    let options =
        ArrowWriterOptions::new().with_properties(properties(&columns, metadata)?).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options)?;
    for group in rows.chunks(ROW_GROUP_ROWS) {
        let arrays = columns.iter().map(|column| gather(column, table, group)).collect();
        writer.write(&RecordBatch::try_new(schema.clone(), arrays)?)?;
        writer.flush()?;
    }
    writer.into_inner()
}

fn name_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
}

fn field(column: &ColumnRef<'_>) -> Field {
    match column {
        ColumnRef::Names(name, _, nullable) => Field::new(*name, name_type(), *nullable),
        ColumnRef::Time(name, _) => Field::new(*name, time_type(), false),
        ColumnRef::Sequence(name, _) => Field::new(*name, DataType::UInt64, false),
        ColumnRef::Row(name, _) => Field::new(*name, DataType::UInt32, false),
        ColumnRef::Own(column) => column.field(),
    }
}

fn gather(column: &ColumnRef<'_>, table: &Table, rows: &[u32]) -> ArrayRef {
    fn of<T: Copy>(from: &[T], rows: &[u32]) -> Vec<T> {
        rows.iter().map(|row| from[*row as usize]).collect()
    }
    match column {
        ColumnRef::Names(_, numbers, _) => names(table, numbers, rows),
        ColumnRef::Time(_, times) => Arc::new(TimestampNanosecondArray::from(of(times, rows)).with_timezone("UTC")),
        ColumnRef::Sequence(_, sequences) => Arc::new(UInt64Array::from(of(sequences, rows))),
        ColumnRef::Row(_, numbers) => Arc::new(UInt32Array::from(of(numbers, rows))),
        ColumnRef::Own(column) => column.cells.gather(rows, &table.names),
    }
}

/// Sorted names: a run of rows has the same.
fn names(table: &Table, numbers: &[u32], rows: &[u32]) -> ArrayRef {
    let (mut values, mut keys, mut last) = (Vec::<&str>::new(), Vec::with_capacity(rows.len()), NONE);
    for row in rows {
        let number = numbers[*row as usize];
        if number == NONE {
            keys.push(None);
            continue;
        }
        if number != last || values.is_empty() {
            values.push(table.names.name(number));
            last = number;
        }
        keys.push(Some(values.len() as u32 - 1));
    }
    let values = Arc::new(StringArray::from(values));
    Arc::new(DictionaryArray::<UInt32Type>::new(UInt32Array::from(keys), values))
}

fn properties(columns: &[ColumnRef<'_>], metadata: Vec<(String, String)>) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        // Files of one range are the same bytes whichever release of a library wrote them, as far as that is ours to say.
        .set_created_by("eddy-export".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(
            metadata.into_iter().map(|(key, value)| KeyValue::new(key, Some(value))).collect(),
        ));
    for column in columns {
        let (name, coding) = match column {
            ColumnRef::Names(name, ..) => (*name, Coding::Dictionary),
            ColumnRef::Time(name, _) | ColumnRef::Sequence(name, _) | ColumnRef::Row(name, _) => (*name, Coding::Delta),
            ColumnRef::Own(column) => (column.name.as_str(), Coding::of(&column.cells)),
        };
        let path = match column {
            ColumnRef::Own(column) if matches!(column.cells, Cells::List(_)) => {
                ColumnPath::new(vec![name.to_owned(), "list".to_owned(), "element".to_owned()])
            }
            _ => ColumnPath::new(vec![name.to_owned()]),
        };
        if matches!(name, "device" | "channel" | "time") {
            builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
        }
        builder = match coding {
            Coding::Dictionary => builder,
            Coding::Delta => builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            // Where a dictionary gets too large, what does not fit goes by this.
            Coding::DictionaryOrSplit => builder.set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT),
            Coding::Split => builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT),
            Coding::Plain => builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::None),
        };
    }
    Ok(builder.build())
}

/// How a column is encoded before it is compressed.
#[derive(Clone, Copy)]
enum Coding {
    Dictionary,
    Delta,
    DictionaryOrSplit,
    Split,
    Plain,
}

impl Coding {
    fn of(cells: &Cells) -> Self {
        match cells {
            Cells::Name(_) | Cells::Small(_) | Cells::Flag(_) => Self::Dictionary,
            Cells::Time(_) | Cells::Index(_) | Cells::Sequence(_) | Cells::Long(_) => Self::Delta,
            // Sensors round, and tails are of steps: few different values.
            Cells::Number(_) => Self::DictionaryOrSplit,
            // Scores and vectors are not: a dictionary of them is larger than they are.
            Cells::Single(_) | Cells::List(_) => Self::Split,
            Cells::Text(_) => Self::Plain,
        }
    }
}
