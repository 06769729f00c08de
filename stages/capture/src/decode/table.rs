//! An Arrow table as devices and their libraries write it: a time column and numeric columns, one a channel; or long,
//! with a channel column and a value column. A null is no reading.

use arrow_array::{
    Array, ArrayRef, BooleanArray, RecordBatch, StringArray,
    cast::AsArray,
    types::{
        Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
        UInt64Type,
    },
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit as ArrowUnit};
use eddy_schemas::{Timestamp, side::Reason};

use super::{
    Refused, TimeUnit,
    collect::{Collector, Original, excerpt},
};

/// A column of numbers.
struct Numbers {
    name: String,
    /// Whether the channel is named by the channel column instead.
    long: bool,
    values: Vec<f64>,
    nulls: Option<NullBuffer>,
    slot: Option<u32>,
}

/// The time column.
struct Times {
    values: Vec<i64>,
    nulls: Option<NullBuffer>,
    unit: TimeUnit,
}

/// The channel column.
enum Texts {
    Plain(ArrayRef),
    /// Per row an index into the names, and the series that each of them was found to be.
    Dictionary {
        column: ArrayRef,
        keys: Vec<usize>,
        slots: Vec<Option<u32>>,
    },
}

/// Decodes one batch, whose first row is row `first` of the message.
pub(super) fn decode(batch: &RecordBatch, first: usize, out: &mut Collector<'_>) -> Result<(), Refused> {
    let times = times(batch, out)?;
    let long =
        batch.column_by_name(&out.rules.channel_key).is_some() && batch.column_by_name(&out.rules.value_key).is_some();
    let mut texts = if long { Some(texts(batch, out)?) } else { None };
    let mut columns = numbers(batch, long, first, out)?;
    out.reserve(batch.num_rows().saturating_mul(columns.len()));
    for row in 0..batch.num_rows() {
        out.begin("row", first + row);
        row_of(row, times.as_ref(), texts.as_mut(), &mut columns, out);
        out.end(|| Original::Row(render(row, times.as_ref(), texts.as_ref(), &columns)))?;
    }
    Ok(())
}

fn row_of(
    row: usize,
    times: Option<&Times>,
    mut texts: Option<&mut Texts>,
    columns: &mut [Numbers],
    out: &mut Collector<'_>,
) {
    let stamp = times.map_or(Ok(None), |times| times.at(row)).and_then(|time| out.stamp(time));
    let stamp = match stamp {
        Ok(stamp) => stamp,
        Err((reason, detail)) => {
            let lost = columns.iter().filter(|column| column.at(row).is_some()).count();
            return out.problem(reason, lost.max(1) as u64, || detail);
        }
    };
    for column in columns {
        let Some(value) = column.at(row) else {
            out.missing();
            continue;
        };
        let slot = match (&mut texts, column.long) {
            (Some(texts), true) => texts.slot(row, out),
            _ => column.slot.map_or_else(|| out.slot(&column.name), Ok),
        };
        match slot {
            Ok(slot) if value.is_finite() => {
                if !column.long {
                    column.slot = Some(slot);
                }
                out.push(slot, stamp.time, value, stamp.quality);
            }
            Ok(_) => {
                out.problem(Reason::InvalidField, 1, || format!("{} is {value}, not finite", excerpt(&column.name)))
            }
            Err((reason, detail)) => out.problem(reason, 1, || detail),
        }
    }
}

impl Numbers {
    fn at(&self, row: usize) -> Option<f64> {
        let valid = self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        valid.then(|| self.values[row])
    }
}

impl Times {
    fn at(&self, row: usize) -> Result<Option<Timestamp>, Refused> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        self.unit.integer(self.values[row]).map(Some).map_err(|problem| (Reason::InvalidField, problem))
    }
}

fn times(batch: &RecordBatch, out: &Collector<'_>) -> Result<Option<Times>, Refused> {
    let Some((name, column)) = out.rules.time_keys.iter().find_map(|key| Some((key, batch.column_by_name(key)?)))
    else {
        return Ok(None);
    };
    let (values, unit) = match column.data_type() {
        DataType::Int64 => (column.as_primitive::<Int64Type>().values().to_vec(), out.rules.time_unit),
        DataType::Timestamp(ArrowUnit::Second, _) => {
            (column.as_primitive::<TimestampSecondType>().values().to_vec(), TimeUnit::S)
        }
        DataType::Timestamp(ArrowUnit::Millisecond, _) => {
            (column.as_primitive::<TimestampMillisecondType>().values().to_vec(), TimeUnit::Ms)
        }
        DataType::Timestamp(ArrowUnit::Microsecond, _) => {
            (column.as_primitive::<TimestampMicrosecondType>().values().to_vec(), TimeUnit::Us)
        }
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => {
            (column.as_primitive::<TimestampNanosecondType>().values().to_vec(), TimeUnit::Ns)
        }
        other => {
            let problem = format!("time column {} is of type {other}: a timestamp or int64 is taken", excerpt(name));
            return Err((Reason::InvalidField, problem));
        }
    };
    Ok(Some(Times { values, nulls: column.nulls().cloned(), unit }))
}

/// The columns that hold readings. Those that hold no numbers are put aside together, as one part with the whole message.
fn numbers(batch: &RecordBatch, long: bool, first: usize, out: &mut Collector<'_>) -> Result<Vec<Numbers>, Refused> {
    let (schema, rules) = (batch.schema(), out.rules);
    let time = rules.time_keys.iter().find(|key| batch.column_by_name(key).is_some());
    let holds_readings = |name: &String| {
        Some(name) != time && !rules.ignored_keys.contains(name) && !(long && *name == rules.channel_key)
    };
    let wanted: Vec<_> =
        schema.fields().iter().zip(batch.columns()).filter(|(field, _)| holds_readings(field.name())).collect();
    let cells = batch.num_rows().saturating_mul(wanted.len());
    if cells > rules.readings_max {
        let most = rules.readings_max;
        return Err((
            Reason::TooLarge,
            format!("the message has {cells} cells, at most {most} are taken (message_readings_max)"),
        ));
    }
    let mut columns = Vec::with_capacity(wanted.len());
    out.begin("columns of the batch at row", first);
    for (field, column) in wanted {
        match floats(column) {
            Some(values) => columns.push(Numbers {
                name: field.name().clone(),
                long: long && *field.name() == rules.value_key,
                values,
                nulls: column.nulls().cloned(),
                slot: None,
            }),
            None => {
                let lost = column.len() - column.logical_null_count();
                let kind = column.data_type();
                out.problem(Reason::InvalidField, lost as u64, || {
                    format!("{} is of type {kind}, not numbers (see ignored_keys)", excerpt(field.name()))
                });
            }
        }
    }
    out.end(|| Original::Message)?;
    Ok(columns)
}

fn floats(column: &ArrayRef) -> Option<Vec<f64>> {
    macro_rules! widened {
        ($kind:ty) => {
            column.as_primitive::<$kind>().values().iter().map(|value| f64::from(*value)).collect()
        };
    }
    // Beyond 2^53 an integer is rounded to the nearest float.
    macro_rules! rounded {
        ($kind:ty) => {
            column.as_primitive::<$kind>().values().iter().map(|value| *value as f64).collect()
        };
    }
    Some(match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().values().to_vec(),
        DataType::Float32 => widened!(Float32Type),
        DataType::Float16 => widened!(Float16Type),
        DataType::Int8 => widened!(Int8Type),
        DataType::Int16 => widened!(Int16Type),
        DataType::Int32 => widened!(Int32Type),
        DataType::UInt8 => widened!(UInt8Type),
        DataType::UInt16 => widened!(UInt16Type),
        DataType::UInt32 => widened!(UInt32Type),
        DataType::Int64 => rounded!(Int64Type),
        DataType::UInt64 => rounded!(UInt64Type),
        DataType::Boolean => {
            let column: &BooleanArray = column.as_boolean();
            column.values().iter().map(|set| f64::from(u8::from(set))).collect()
        }
        _ => return None,
    })
}

fn texts(batch: &RecordBatch, out: &Collector<'_>) -> Result<Texts, Refused> {
    let key = &out.rules.channel_key;
    let refused = |kind: &DataType| {
        (Reason::InvalidField, format!("channel column {} is of type {kind}: strings are taken", excerpt(key)))
    };
    let column = batch.column_by_name(key).ok_or_else(|| refused(&DataType::Null))?.clone();
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(Texts::Plain(column)),
        DataType::Dictionary(_, value) if **value == DataType::Utf8 => {
            let dictionary = column.as_any_dictionary();
            let names = dictionary.values().len();
            // An empty dictionary has null keys only, and no key that could be looked up.
            let keys = if names == 0 { Vec::new() } else { dictionary.normalized_keys() };
            Ok(Texts::Dictionary { keys, slots: vec![None; names], column })
        }
        other => Err(refused(other)),
    }
}

impl Texts {
    fn at(&self, row: usize) -> Option<&str> {
        match self {
            Self::Plain(column) if column.is_null(row) => None,
            Self::Plain(column) => match column.data_type() {
                DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
                DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row)),
                _ => Some(column.as_string_view().value(row)),
            },
            Self::Dictionary { column, .. } if column.is_null(row) => None,
            Self::Dictionary { column, keys, .. } => {
                let names: &StringArray = column.as_any_dictionary().values().as_string();
                keys.get(row).filter(|key| names.is_valid(**key)).map(|key| names.value(*key))
            }
        }
    }

    fn slot(&mut self, row: usize, out: &mut Collector<'_>) -> Result<u32, Refused> {
        if let Self::Dictionary { keys, slots, column } = self
            && let (true, Some(slot)) = (column.is_valid(row), keys.get(row).and_then(|key| slots[*key]))
        {
            return Ok(slot);
        }
        let name = self.at(row).ok_or_else(|| (Reason::InvalidField, "the value has no channel".to_owned()))?;
        let slot = out.slot(name)?;
        if let Self::Dictionary { keys, slots, .. } = self
            && let Some(key) = keys.get(row)
        {
            slots[*key] = Some(slot);
        }
        Ok(slot)
    }
}

fn render(row: usize, times: Option<&Times>, texts: Option<&Texts>, columns: &[Numbers]) -> String {
    let mut object = serde_json::Map::new();
    if let Some(times) = times {
        let null = times.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        object.insert("time".into(), if null { serde_json::Value::Null } else { times.values[row].into() });
    }
    if let Some(texts) = texts {
        object.insert("channel".into(), texts.at(row).into());
    }
    for column in columns {
        // JSON has neither NaN nor infinity: they are told as text.
        let value = match column.at(row) {
            Some(value) if !value.is_finite() => value.to_string().into(),
            value => serde_json::Value::from(value),
        };
        object.insert(column.name.clone(), value);
    }
    serde_json::Value::Object(object).to_string()
}
