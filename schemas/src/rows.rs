//! The columns that every batch has: series, event time, control.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray, UInt32Array, builder::StringBuilder,
    types::UInt32Type,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field};

use crate::{
    Control, Timestamp,
    layout::{Layout, LayoutError},
};

/// The first columns of a batch that was read. A row is a measurement or a control.
///
/// `names[series[row]]` is the series of a measurement, as [`crate::SeriesName`] writes it.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The distinct series of this batch.
    pub names: Vec<String>,
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
        let names: Vec<String> = names.iter().map(|name| name.unwrap_or_default().to_owned()).collect();
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
        if rows.names.iter().any(String::is_empty)
            && let Some(row) = (0..rows.len()).find(|row| rows.control(*row).is_none() && rows.name(*row).is_empty())
        {
            return Err(layout.content(format!("row {row} is of a series without a name")));
        }
        Ok(rows)
    }
}

/// Collects the first columns of a batch.
#[derive(Debug, Default)]
pub struct RowsBuilder {
    /// Asked for every row, so by a hash that is quick for short names. It promises nothing against names that are made to collide; how
    /// many series there can be is bounded before.
    keys: HashMap<String, u32, foldhash::quality::RandomState>,
    names: Vec<String>,
    name_bytes: usize,
    series: Vec<u32>,
    time: Vec<Timestamp>,
    controls: Vec<(usize, String)>,
    control_bytes: usize,
}

impl RowsBuilder {
    /// Adds a measurement's row.
    pub fn push(&mut self, series: &str, time: Timestamp) {
        let key = match self.keys.get(series) {
            Some(key) => *key,
            None => self.add_name(series),
        };
        self.series.push(key);
        self.time.push(time);
    }

    fn add_name(&mut self, series: &str) -> u32 {
        // A batch is bounded in bytes far below u32::MAX names.
        let key = self.names.len() as u32;
        self.names.push(series.to_owned());
        self.name_bytes += series.len() + 8;
        self.keys.insert(series.to_owned(), key);
        key
    }

    /// Adds a control's row.
    pub fn push_control(&mut self, control: &Control) {
        if self.names.is_empty() {
            // A dictionary key needs a value to point to.
            self.add_name("");
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
        self.time.len() * 16 + self.name_bytes + self.control_bytes
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
        let names: ArrayRef = Arc::new(StringArray::from(std::mem::take(&mut self.names)));
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
        self.keys.clear();
        self.name_bytes = 0;
        self.control_bytes = 0;
        let time = Int64Array::from(std::mem::take(&mut self.time));
        vec![Arc::new(series), Arc::new(time), Arc::new(control)]
    }
}
