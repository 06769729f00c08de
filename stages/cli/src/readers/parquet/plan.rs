//! What the columns of a table are, by their names and types.

use arrow_schema::{DataType, Field, Schema};

use super::super::columns::{self, CHANNELS, DEVICES, QUALITY, SERIES, TIMES, VALUE};

/// Where a row's values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A channel per column: its place and its name.
    Wide(Vec<(usize, String)>),
    /// The channel's name and the value each in a column.
    Long {
        /// Place of the channel's name.
        channel: usize,
        /// Place of the value.
        value: usize,
    },
    /// eddy's own export: `device/channel` in a column.
    Series {
        /// Place of the series' name.
        series: usize,
        /// Place of the value.
        value: usize,
        /// Place of the quality flags, if there are any.
        quality: Option<usize>,
    },
}

/// Which columns are read and what they are. Places count among these alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    columns: Vec<usize>,
    /// Place of the time.
    pub time: usize,
    /// What the file calls it.
    pub time_name: String,
    /// Place of the device's name.
    pub device: Option<usize>,
    /// Where the values are.
    pub shape: Shape,
}

impl Plan {
    /// Reads a table's schema.
    ///
    /// # Errors
    /// What it lacks, and what it has.
    pub fn of(schema: &Schema) -> Result<Self, String> {
        let fields: Vec<&Field> = schema.fields().iter().map(AsRef::as_ref).collect();
        let find = |known: &[&str]| columns::find(known, fields.iter().map(|field| field.name().as_str()));
        let is_stamp = |field: &&Field| matches!(field.data_type(), DataType::Timestamp(..));
        let time = find(&TIMES).or_else(|| fields.iter().position(is_stamp)).ok_or_else(|| {
            let names = TIMES.join(", ");
            format!("no column of times: none is called {names}, none is of type Timestamp; {}", told(&fields))
        })?;
        require(fields[time], is_time, "a time")?;
        let device = find(&DEVICES);
        if let Some(device) = device {
            require(fields[device], is_text, "a device's name")?;
        }
        let mut places = Places::default();
        let time_place = places.add(time);
        let (series, channel, value) = (find(&[SERIES]), find(&CHANNELS), find(&[VALUE]));
        let (device, shape) = match (series.or(channel), value) {
            (Some(name), Some(value)) => {
                require(fields[name], is_text, "a name")?;
                require(fields[value], is_number, "a number")?;
                let (name, value) = (places.add(name), places.add(value));
                if series.is_some() {
                    let quality = find(&[QUALITY]).filter(|column| is_number(fields[*column].data_type()));
                    let quality = quality.map(|column| places.add(column));
                    (None, Shape::Series { series: name, value, quality })
                } else {
                    (device.map(|device| places.add(device)), Shape::Long { channel: name, value })
                }
            }
            _ => {
                let device_place = device.map(|device| places.add(device));
                let is_channel = |(column, field): &(usize, &&Field)| {
                    *column != time
                        && Some(*column) != device
                        && is_number(field.data_type())
                        && !columns::is_label(field.name())
                };
                let channels: Vec<_> = fields.iter().enumerate().filter(is_channel).collect();
                if channels.is_empty() {
                    return Err(format!("no column of numbers beside the time; {}", told(&fields)));
                }
                let named =
                    channels.into_iter().map(|(column, field)| (places.add(column), field.name().trim().into()));
                (device_place, Shape::Wide(named.collect()))
            }
        };
        let mut plan =
            Self { columns: Vec::new(), time: time_place, time_name: fields[time].name().clone(), device, shape };
        plan.sort(&places.0);
        Ok(plan)
    }

    /// The columns that are read, ascending.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The channels of a wide table.
    pub fn channels(&self) -> &[(usize, String)] {
        if let Shape::Wide(channels) = &self.shape { channels } else { &[] }
    }

    /// Turns places in `chosen` into places among the ascending columns, in which order a reader gives them.
    fn sort(&mut self, chosen: &[usize]) {
        self.columns = chosen.to_vec();
        self.columns.sort_unstable();
        let sorted = &self.columns;
        let place = |place: &mut usize| *place = sorted.partition_point(|column| *column < chosen[*place]);
        place(&mut self.time);
        self.device.iter_mut().for_each(place);
        match &mut self.shape {
            Shape::Wide(channels) => channels.iter_mut().for_each(|(at, _)| place(at)),
            Shape::Long { channel, value } => [channel, value].into_iter().for_each(place),
            Shape::Series { series, value, quality } => {
                [series, value].into_iter().for_each(place);
                quality.iter_mut().for_each(place);
            }
        }
    }
}

/// Columns in the order in which they were chosen.
#[derive(Default)]
struct Places(Vec<usize>);

impl Places {
    fn add(&mut self, column: usize) -> usize {
        self.0.push(column);
        self.0.len() - 1
    }
}

fn require(field: &Field, is: fn(&DataType) -> bool, what: &str) -> Result<(), String> {
    if is(field.data_type()) {
        return Ok(());
    }
    Err(format!("column {:?} is of type {}, which is not {what}", field.name(), field.data_type()))
}

/// The columns that there are, for an error.
fn told(fields: &[&Field]) -> String {
    const FIELDS_MAX: usize = 20;
    let shown = fields.iter().take(FIELDS_MAX).map(|field| format!("{} ({})", field.name(), field.data_type()));
    let more =
        if fields.len() > FIELDS_MAX { format!(" and {} more", fields.len() - FIELDS_MAX) } else { String::new() };
    format!("the columns are {}{more}", shown.collect::<Vec<_>>().join(", "))
}

fn is_time(kind: &DataType) -> bool {
    use DataType::{Date32, Date64, Float64, Timestamp};
    is_integer(kind) || is_text(kind) || matches!(kind, Timestamp(..) | Date32 | Date64 | Float64)
}

fn is_integer(kind: &DataType) -> bool {
    use DataType::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    matches!(kind, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64)
}

fn is_number(kind: &DataType) -> bool {
    use DataType::{Boolean, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary, Float16, Float32, Float64};
    match kind {
        Dictionary(_, values) => is_number(values),
        Boolean | Float16 | Float32 | Float64 => true,
        Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => true,
        kind => is_integer(kind),
    }
}

fn is_text(kind: &DataType) -> bool {
    use DataType::{Dictionary, LargeUtf8, Utf8, Utf8View};
    match kind {
        Dictionary(_, values) => is_text(values),
        kind => matches!(kind, Utf8 | LargeUtf8 | Utf8View),
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::TimeUnit;

    use super::*;

    fn plan(fields: &[(&str, DataType)]) -> Result<Plan, String> {
        let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
        Plan::of(&Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
    }

    fn stamp() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    #[test]
    fn places_count_among_the_columns_that_are_read() {
        use DataType::{Boolean, Float64, Int32, Utf8};
        let wide = plan(&[
            ("t", Float64),
            ("note", Utf8),
            ("on", Boolean),
            ("when", stamp()),
            ("label", Int32),
            ("Device", Utf8),
        ])
        .unwrap();
        assert_eq!(wide.columns(), [0, 2, 3, 5]);
        assert_eq!((wide.time, wide.device, wide.time_name.as_str()), (2, Some(3), "when"));
        assert_eq!(wide.channels(), [(0, "t".to_owned()), (1, "on".to_owned())]);

        let long = plan(&[("value", Int32), ("x", Utf8), ("Metric", Utf8), ("ts", DataType::Int64)]).unwrap();
        assert_eq!((long.columns(), long.time), (&[0, 2, 3][..], 2));
        assert_eq!(long.shape, Shape::Long { channel: 1, value: 0 });

        let own = [
            ("series", Utf8),
            ("time", stamp()),
            ("value", Float64),
            ("quality", DataType::UInt16),
            ("arrival", stamp()),
        ];
        let own = plan(&own).unwrap();
        assert_eq!(own.shape, Shape::Series { series: 0, value: 2, quality: Some(3) });
    }

    #[test]
    fn what_a_table_lacks_is_told_with_what_it_has() {
        use DataType::{Binary, Float64, Utf8};
        for (fields, parts) in [
            (vec![("x", Float64)], vec!["no column of times", "timestamp", "x (Float64)"]),
            (vec![("time", stamp()), ("s", Utf8)], vec!["no column of numbers", "s (Utf8)"]),
            (vec![("time", Binary), ("x", Float64)], vec!["\"time\"", "Binary", "not a time"]),
            (vec![("time", stamp()), ("channel", Utf8), ("value", Utf8)], vec!["\"value\"", "Utf8", "not a number"]),
            (vec![("time", stamp()), ("device", Float64), ("x", Float64)], vec!["\"device\"", "Float64"]),
        ] {
            let problem = plan(&fields).unwrap_err();
            assert!(parts.iter().all(|part| problem.contains(part)), "{parts:?}: {problem}");
        }
    }
}
