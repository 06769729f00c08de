//! Parquet: wide tables (a channel per column of numbers), long ones (channel and value), and eddy's own exports.
//!
//! **Memory** is bounded whatever the file's size: a batch of at most 1,024 rows of the columns that are
//! needed, and the pages that it is cut from. A file is opened for its first row, which says when its turn comes in the
//! merge, closed again, and reopened behind that row: of a year in daily files two are open at a time, not 365.
//!
//! What a file's columns mean is `plan`'s to say; what they hold, `cells`'.

mod cells;
mod plan;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use arrow_array::RecordBatch;
use eddy_schemas::{SeriesName, Timestamp, quality};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
    },
};

use self::{
    cells::Texts,
    plan::{Plan, Shape},
};
use super::{
    Names, ReadError, Row, Skipped, Source,
    open::{BytesRead, error},
    time::{RowClock, TimeFormat},
};

/// Rows that are decoded at once at most, and values.
const BATCH_ROWS_MAX: usize = 1024;
const BATCH_VALUES_MAX: usize = 1 << 18;

/// A Parquet file.
pub struct ParquetSource {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    plan: Plan,
    device: String,
    rows: RowClock,
    /// How the file counts time, where its type does not say.
    format: Option<TimeFormat>,
    /// `None` until the first row was taken, and after the last.
    reader: Option<ParquetRecordBatchReader>,
    batch: Option<Batch>,
    /// Rows in the batches before the one in hand.
    before: usize,
    /// Per wide channel its series for the device of the last row.
    series: Vec<Option<u32>>,
    last_device: Option<u32>,
    bytes_read: BytesRead,
    /// Bytes of the file, and rows, for the progress bar.
    bytes: u64,
    skipped: Skipped,
}

/// Some rows, decoded.
struct Batch {
    len: usize,
    next: usize,
    times: Vec<Option<Timestamp>>,
    devices: Option<Texts>,
    values: Values,
}

enum Values {
    Wide(Vec<Vec<f64>>),
    Long { channels: Texts, values: Vec<f64> },
    Series { series: Texts, values: Vec<f64>, qualities: Option<Vec<f64>> },
}

impl ParquetSource {
    /// Reads the file's footer; rows that name no device belong to `device`.
    ///
    /// # Errors
    /// No Parquet file, or one whose columns do not say what is a time and what is measured.
    pub fn open(path: &Path, device: String, rows: RowClock, bytes_read: BytesRead) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|problem| error(path, problem))?;
        let bytes = file.metadata().map_err(|problem| error(path, problem))?.len();
        let metadata = guarded(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()))
            .and_then(|loaded| loaded.map_err(|problem| problem.to_string()))
            .map_err(|problem| error(path, format!("no Parquet file, or a damaged one: {problem}")))?;
        let plan = Plan::of(metadata.schema()).map_err(|problem| error(path, problem))?;
        let series = vec![None; plan.channels().len()];
        if metadata.metadata().file_metadata().num_rows() == 0 {
            bytes_read.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(Self {
            path: path.to_owned(),
            metadata,
            plan,
            device,
            rows,
            format: None,
            reader: None,
            batch: None,
            before: 0,
            series,
            last_device: None,
            bytes_read,
            bytes,
            skipped: Skipped::default(),
        })
    }

    /// A reader of the rows from `offset` on, `batch_rows` at a time.
    fn reader(&self, offset: usize, batch_rows: usize) -> Result<ParquetRecordBatchReader, ReadError> {
        let file = File::open(&self.path).map_err(|problem| error(&self.path, problem))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), self.plan.columns().iter().copied());
        let built = guarded(|| builder.with_projection(mask).with_batch_size(batch_rows).with_offset(offset).build());
        built.and_then(|built| built.map_err(|problem| problem.to_string())).map_err(|problem| self.failed(&problem))
    }

    fn failed(&self, problem: &str) -> ReadError {
        let hint = if problem.contains("Disabled feature") {
            "; Snappy, Zstandard and no compression are read: write it with one of these"
        } else {
            ""
        };
        error(&self.path, format!("from row {} on: {problem}{hint}", self.before + 1))
    }

    /// Decodes the next batch; `false` behind the last.
    fn next_batch(&mut self) -> Result<bool, ReadError> {
        let is_first = self.before == 0 && self.batch.is_none();
        let done = self.batch.take().map_or(0, |batch| batch.len);
        self.before += done;
        self.count(done);
        if self.before >= self.total_rows() {
            self.reader = None;
            return Ok(false);
        }
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            // Only the first row: it says when the others are due.
            None if is_first => self.reader(0, 1)?,
            None => {
                let most = BATCH_VALUES_MAX / self.plan.columns().len().max(1);
                self.reader(self.before, most.clamp(1, BATCH_ROWS_MAX))?
            }
        };
        let next = guarded(|| reader.next()).map_err(|problem| self.failed(&problem))?;
        let Some(next) = next else {
            let problem = format!("the file ends there, although it says that it has {} rows", self.total_rows());
            return Err(self.failed(&problem));
        };
        let batch = next.map_err(|problem| self.failed(&problem.to_string()))?;
        if !is_first {
            self.reader = Some(reader);
        }
        self.batch = Some(self.decode(&batch)?);
        Ok(true)
    }

    fn total_rows(&self) -> usize {
        usize::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Notes that so many rows more are done, as their part of the file.
    fn count(&self, rows: usize) {
        let share = |rows: usize| (u128::from(self.bytes) * rows as u128 / self.total_rows().max(1) as u128) as u64;
        let more = share(self.before) - share(self.before - rows);
        self.bytes_read.fetch_add(more, Ordering::Relaxed);
    }

    fn decode(&mut self, batch: &RecordBatch) -> Result<Batch, ReadError> {
        let path = self.path.clone();
        // The plan chose columns of types that can be decoded; a dictionary may still hold anything.
        let wrong = |column: usize| {
            let field = batch.schema();
            let field = field.field(column);
            error(&path, format!("column {:?} of type {} cannot be read", field.name(), field.data_type()))
        };
        let numbers = |column: usize| cells::numbers(batch.column(column).as_ref()).ok_or_else(|| wrong(column));
        let texts = |column: usize| Texts::of(batch.column(column)).ok_or_else(|| wrong(column));
        let times = cells::times(batch.column(self.plan.time), &mut self.format, self.rows);
        let times = times.ok_or_else(|| wrong(self.plan.time))?;
        let devices = self.plan.device.map(texts).transpose()?;
        let values = match &self.plan.shape {
            Shape::Wide(channels) => {
                Values::Wide(channels.iter().map(|(column, _)| numbers(*column)).collect::<Result<_, _>>()?)
            }
            Shape::Long { channel, value } => Values::Long { channels: texts(*channel)?, values: numbers(*value)? },
            Shape::Series { series, value, quality } => Values::Series {
                series: texts(*series)?,
                values: numbers(*value)?,
                qualities: quality.map(numbers).transpose()?,
            },
        };
        Ok(Batch { len: batch.num_rows(), next: 0, times, devices, values })
    }

    /// Takes the row at `at` of the batch; `false` if there is nothing in it.
    fn take(&mut self, batch: &Batch, at: usize, names: &mut Names, row: &mut Row) -> bool {
        row.values.clear();
        if let Err((column, problem)) = self.try_take(batch, at, names, row) {
            let (path, number) = (&self.path, self.before + at + 1);
            self.skipped.note(|| format!("{} row {number} column {column:?}: {problem}", path.display()));
        }
        !row.values.is_empty()
    }

    fn try_take(&mut self, batch: &Batch, at: usize, names: &mut Names, row: &mut Row) -> Result<(), Wrong> {
        let time = batch.times[at];
        row.time = time.ok_or_else(|| (self.plan.time_name.clone(), "no time, or none like this file's others"))?;
        if let Values::Series { series, values, qualities } = &batch.values {
            let flags = qualities.as_ref().map_or(0.0, |qualities| qualities[at]);
            // What was filled in was never measured. A cast saturates, and takes NaN for 0.
            if flags as u16 & (quality::HELD | quality::INTERPOLATED) != 0 {
                return Ok(());
            }
            let name =
                series.get(at).and_then(SeriesName::parse).ok_or_else(|| wrong("series", "not device/channel"))?;
            row.device = names.device(&name.device).map_err(|_| wrong("series", "not a device's name"))?;
            let series =
                names.series(row.device, &name.channel).map_err(|_| wrong("series", "not a channel's name"))?;
            return push(series, values[at], row).map_err(|problem| wrong("value", problem));
        }
        let device = batch.devices.as_ref().map_or(Some(self.device.as_str()), |devices| devices.get(at));
        let device = device.and_then(|name| names.device(name).ok());
        row.device = device.ok_or_else(|| wrong("device", "not a device's name"))?;
        match &batch.values {
            Values::Long { channels, values } => {
                let series = channels.get(at).and_then(|channel| names.series(row.device, channel).ok());
                let series = series.ok_or_else(|| wrong("channel", "not a channel's name"))?;
                push(series, values[at], row).map_err(|problem| wrong("value", problem))
            }
            Values::Wide(columns) => self.wide(columns, at, names, row),
            Values::Series { .. } => Ok(()),
        }
    }

    /// Takes every value of a wide row; tells the first that is wrong.
    fn wide(&mut self, columns: &[Vec<f64>], at: usize, names: &mut Names, row: &mut Row) -> Result<(), Wrong> {
        if self.last_device.replace(row.device) != Some(row.device) {
            self.series.fill(None);
        }
        let mut first = Ok(());
        for ((column, series), (_, name)) in columns.iter().zip(&mut self.series).zip(self.plan.channels()) {
            if column[at].is_nan() {
                continue;
            }
            if series.is_none() {
                *series = names.series(row.device, name).ok();
            }
            let pushed = series.ok_or("not a channel's name").and_then(|series| push(series, column[at], row));
            first = first.and(pushed.map_err(|problem| wrong(name, problem)));
        }
        first
    }
}

/// A column and what is wrong with it.
type Wrong = (String, &'static str);

fn wrong(column: &str, problem: &'static str) -> Wrong {
    (column.to_owned(), problem)
}

/// Adds a value, if it is one: NaN is missing, an infinity wrong.
fn push(series: u32, value: f64, row: &mut Row) -> Result<(), &'static str> {
    if value.is_infinite() {
        return Err("not a finite number");
    }
    if !value.is_nan() {
        row.values.push((series, value));
    }
    Ok(())
}

/// What the decoder makes of a damaged file: it may panic where it should tell.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|_| "damaged: it cannot be decoded".into())
}

impl Source for ParquetSource {
    fn read(&mut self, names: &mut Names, row: &mut Row) -> Result<bool, ReadError> {
        loop {
            if let Some(mut batch) = self.batch.take() {
                let mut found = false;
                while batch.next < batch.len && !found {
                    let at = batch.next;
                    batch.next += 1;
                    found = self.take(&batch, at, names, row);
                }
                self.batch = Some(batch);
                if found {
                    return Ok(true);
                }
            }
            if !self.next_batch()? {
                return Ok(false);
            }
        }
    }

    fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}
