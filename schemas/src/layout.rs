//! Versioned Arrow layouts: how a batch is written, and which older ones are still read.
//!
//! A batch is one Arrow IPC *stream*: a schema, the dictionary of series names, one record batch. The schema's metadata
//! names the layout and its version (`eddy.layout`, `eddy.version`) and, from EMBEDDINGS on, the bundle (`eddy.bundle`).
//! Release N reads N-1: a column says since which version it exists and what stands in for it in older batches.
//! A newer or unknown version is refused, never guessed at.

use std::{
    collections::HashMap,
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::{ArrowError, Field, Schema};

/// Why a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Not Arrow IPC at all, or cut off.
    #[error("not an Arrow IPC stream with one batch: {0}")]
    Arrow(#[from] ArrowError),
    /// Another kind of batch.
    #[error("expected layout {expected}, found {found:?}: was it published on the wrong subject?")]
    Layout {
        /// What the reader is for.
        expected: &'static str,
        /// What the batch says it is.
        found: String,
    },
    /// From a release that this one does not know.
    #[error(
        "layout {layout} version {found:?} is not known: this release reads {oldest} to {current}; \
         upgrade the reader, or replay with the release that wrote it"
    )]
    Version {
        /// The layout.
        layout: &'static str,
        /// The version that was found.
        found: String,
        /// The oldest version that is read.
        oldest: u16,
        /// The version that is written.
        current: u16,
    },
    /// The columns do not fit together.
    #[error("layout {layout}: {problem}")]
    Content {
        /// The layout.
        layout: &'static str,
        /// What is wrong, with the offending value.
        problem: String,
    },
}

/// Columns that rows may lack; no other has nulls. (A column of lists is read by [`crate::lists`].)
const NULLABLE: [&str; 3] = ["control", "vector", "burst_rate_hz"];

/// A layout: its name and the versions that this release reads.
#[derive(Debug)]
pub struct Layout {
    /// Stands in the schema's metadata.
    pub name: &'static str,
    /// The oldest version that is read.
    pub oldest: u16,
    /// The version that is written.
    pub current: u16,
}

impl Layout {
    /// Writes one batch.
    pub(crate) fn write(&self, fields: Vec<Field>, columns: Vec<ArrayRef>, extra: &[(&str, &str)]) -> Vec<u8> {
        let mut metadata = HashMap::from([
            ("eddy.layout".to_owned(), self.name.to_owned()),
            ("eddy.version".to_owned(), self.current.to_string()),
        ]);
        metadata.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let batch = RecordBatch::try_new(schema.clone(), columns)
            .expect("builders keep every column at one length and of its field's type");
        let bytes = Vec::with_capacity(batch.get_array_memory_size() + 2048);
        let written = StreamWriter::try_new(bytes, &schema).and_then(|mut writer| {
            writer.write(&batch)?;
            writer.into_inner()
        });
        written.expect("writing Arrow IPC to memory fails on no schema that the builders make")
    }

    /// Reads one batch and its version.
    ///
    /// # Errors
    /// Every way in which the bytes are not a batch of this layout in a version that is known.
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<(RecordBatch, u16), LayoutError> {
        // Arrow's reader checks most lengths with an error and a few with an assertion: both mean the same of the bytes.
        let contradict = || ArrowError::IpcError("its lengths contradict each other".to_owned());
        catch_unwind(AssertUnwindSafe(|| self.read_stream(bytes))).unwrap_or_else(|_| Err(contradict().into()))
    }

    fn read_stream(&self, bytes: &[u8]) -> Result<(RecordBatch, u16), LayoutError> {
        let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
        let schema = reader.schema();
        let of = |key: &str| schema.metadata().get(key).cloned().unwrap_or_default();
        if of("eddy.layout") != self.name {
            return Err(LayoutError::Layout { expected: self.name, found: of("eddy.layout") });
        }
        let version = match of("eddy.version").parse::<u16>() {
            Ok(version) if (self.oldest..=self.current).contains(&version) => version,
            _ => {
                return Err(LayoutError::Version {
                    layout: self.name,
                    found: of("eddy.version"),
                    oldest: self.oldest,
                    current: self.current,
                });
            }
        };
        let batch = reader.next().ok_or_else(|| self.content("the stream holds no batch"))??;
        if reader.next().is_some() {
            return Err(self.content("the stream holds more than one batch: send one message for each"));
        }
        Ok((batch, version))
    }

    pub(crate) fn content(&self, problem: impl Into<String>) -> LayoutError {
        LayoutError::Content { layout: self.name, problem: problem.into() }
    }

    /// The column `name` as an array of type `A`.
    pub(crate) fn column<'a, A: 'static>(&self, batch: &'a RecordBatch, name: &str) -> Result<&'a A, LayoutError> {
        let column = batch.column_by_name(name).ok_or_else(|| self.content(format!("column {name:?} is missing")))?;
        if !NULLABLE.contains(&name) && column.null_count() > 0 {
            return Err(self.content(format!("column {name:?} has nulls")));
        }
        column
            .as_any()
            .downcast_ref()
            .ok_or_else(|| self.content(format!("column {name:?} is of type {}", column.data_type())))
    }
}
