//! What the columns of a batch hold, whatever their types: times, numbers, texts.

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, Float64Array, LargeStringArray, StringArray, StringViewArray,
    cast::AsArray as _,
    types::{
        Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float16Type,
        Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
        UInt64Type,
    },
};
use arrow_schema::{DataType, TimeUnit};
use eddy_schemas::Timestamp;

use super::super::time::{RowClock, TimeFormat};

const DAY_NS: i64 = 86_400_000_000_000;

/// A column of texts.
pub enum Texts {
    /// Texts of 2 GB in all at most.
    Utf8(StringArray),
    /// More.
    Large(LargeStringArray),
    /// Views.
    View(StringViewArray),
    /// Each text once, and which one stands in each row.
    Dictionary(Vec<Option<usize>>, Box<Texts>),
}

impl Texts {
    /// The texts of a column; `None` if it holds something else.
    pub fn of(column: &ArrayRef) -> Option<Self> {
        if let Some((keys, values)) = dictionary(column.as_ref()) {
            return Some(Self::Dictionary(keys, Box::new(Self::of(&values)?)));
        }
        match column.data_type() {
            DataType::Utf8 => Some(Self::Utf8(column.as_string().clone())),
            DataType::LargeUtf8 => Some(Self::Large(column.as_string().clone())),
            DataType::Utf8View => Some(Self::View(column.as_string_view().clone())),
            _ => None,
        }
    }

    /// The text of a row; `None` for null.
    pub fn get(&self, row: usize) -> Option<&str> {
        match self {
            Self::Utf8(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::Large(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::View(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::Dictionary(keys, texts) => texts.get(keys[row]?),
        }
    }
}

/// Per row which of the values it is, and the values; `None` if the column is no dictionary.
fn dictionary(column: &dyn Array) -> Option<(Vec<Option<usize>>, ArrayRef)> {
    let dictionary = column.as_any_dictionary_opt()?;
    let values = dictionary.values().clone();
    // A dictionary without values has none in its rows either.
    let keys = if values.is_empty() { vec![0; column.len()] } else { dictionary.normalized_keys() };
    let keys =
        keys.into_iter().enumerate().map(|(row, key)| (column.is_valid(row) && !values.is_empty()).then_some(key));
    Some((keys.collect(), values))
}

/// The numbers of a column, NaN where there is none; `None` if it holds something else.
pub fn numbers(column: &dyn Array) -> Option<Vec<f64>> {
    if let Some((keys, values)) = dictionary(column) {
        let values = numbers(values.as_ref())?;
        return Some(keys.into_iter().map(|key| key.map_or(f64::NAN, |key| values[key])).collect());
    }
    Some(match column.data_type() {
        DataType::Boolean => {
            column.as_boolean().iter().map(|set| set.map_or(f64::NAN, |set| f64::from(u8::from(set)))).collect()
        }
        DataType::Int8 => primitive::<Int8Type>(column, f64::from),
        DataType::Int16 => primitive::<Int16Type>(column, f64::from),
        DataType::Int32 => primitive::<Int32Type>(column, f64::from),
        // To the nearest.
        DataType::Int64 => primitive::<Int64Type>(column, |value| value as f64),
        DataType::UInt8 => primitive::<UInt8Type>(column, f64::from),
        DataType::UInt16 => primitive::<UInt16Type>(column, f64::from),
        DataType::UInt32 => primitive::<UInt32Type>(column, f64::from),
        DataType::UInt64 => primitive::<UInt64Type>(column, |value| value as f64),
        DataType::Float16 => primitive::<Float16Type>(column, f64::from),
        DataType::Float32 => primitive::<Float32Type>(column, f64::from),
        DataType::Float64 => primitive::<Float64Type>(column, |value| value),
        DataType::Decimal32(..) => decimal::<Decimal32Type>(column),
        DataType::Decimal64(..) => decimal::<Decimal64Type>(column),
        DataType::Decimal128(..) => decimal::<Decimal128Type>(column),
        DataType::Decimal256(..) => decimal::<Decimal256Type>(column),
        _ => return None,
    })
}

fn primitive<T: ArrowPrimitiveType>(column: &dyn Array, number: impl Fn(T::Native) -> f64) -> Vec<f64> {
    column.as_primitive::<T>().iter().map(|value| value.map_or(f64::NAN, &number)).collect()
}

/// By way of their text, which is what rounds to the nearest.
fn decimal<T: DecimalType + ArrowPrimitiveType>(column: &dyn Array) -> Vec<f64> {
    let decimals = column.as_primitive::<T>();
    let number = |row| decimals.is_valid(row).then(|| decimals.value_as_string(row).parse().ok()).flatten();
    (0..decimals.len()).map(|row| number(row).unwrap_or(f64::NAN)).collect()
}

/// The times of a column, `None` where there is none, or none in the file's format, which the first number or text sets;
/// `None` if the column holds no times at all.
pub fn times(column: &ArrayRef, format: &mut Option<TimeFormat>, rows: RowClock) -> Option<Vec<Option<Timestamp>>> {
    let scaled = |unit: i64| move |value: i64| value.checked_mul(unit);
    Some(match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            whole::<TimestampSecondType>(column, |value| value, scaled(1_000_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            whole::<TimestampMillisecondType>(column, |value| value, scaled(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            whole::<TimestampMicrosecondType>(column, |value| value, scaled(1_000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            whole::<TimestampNanosecondType>(column, |value| value, scaled(1))
        }
        DataType::Date32 => whole::<Date32Type>(column, i64::from, scaled(DAY_NS)),
        DataType::Date64 => whole::<Date64Type>(column, |value| value, scaled(1_000_000)),
        DataType::Float64 => fractional(column.as_primitive(), format, rows),
        _ => match integers(column) {
            Some(integers) => integers
                .into_iter()
                .map(|number| {
                    let number = number?;
                    format.get_or_insert_with(|| TimeFormat::of_integer(number)).integer(number, rows)
                })
                .collect(),
            None => textual(&Texts::of(column)?, column.len(), format, rows),
        },
    })
}

fn whole<T: ArrowPrimitiveType>(
    column: &dyn Array,
    integer: impl Fn(T::Native) -> i64,
    time: impl Fn(i64) -> Option<Timestamp>,
) -> Vec<Option<Timestamp>> {
    column.as_primitive::<T>().iter().map(|value| time(integer(value?))).collect()
}

fn integers(column: &dyn Array) -> Option<Vec<Option<i64>>> {
    fn all<T: ArrowPrimitiveType<Native: TryInto<i64>>>(column: &dyn Array) -> Vec<Option<i64>> {
        column.as_primitive::<T>().iter().map(|value| value?.try_into().ok()).collect()
    }
    Some(match column.data_type() {
        DataType::Int8 => all::<Int8Type>(column),
        DataType::Int16 => all::<Int16Type>(column),
        DataType::Int32 => all::<Int32Type>(column),
        DataType::Int64 => all::<Int64Type>(column),
        DataType::UInt8 => all::<UInt8Type>(column),
        DataType::UInt16 => all::<UInt16Type>(column),
        DataType::UInt32 => all::<UInt32Type>(column),
        DataType::UInt64 => all::<UInt64Type>(column),
        _ => return None,
    })
}

/// Numbers with a fraction, as exact as their shortest text.
fn fractional(column: &Float64Array, format: &mut Option<TimeFormat>, rows: RowClock) -> Vec<Option<Timestamp>> {
    let time = |value: Option<f64>| parse(&value?.to_string(), format, rows);
    column.iter().map(time).collect()
}

fn textual(texts: &Texts, len: usize, format: &mut Option<TimeFormat>, rows: RowClock) -> Vec<Option<Timestamp>> {
    (0..len).map(|row| parse(texts.get(row)?, format, rows)).collect()
}

fn parse(text: &str, format: &mut Option<TimeFormat>, rows: RowClock) -> Option<Timestamp> {
    if format.is_none() {
        *format = TimeFormat::detect(text);
    }
    format.as_ref()?.parse(text, rows)
}
