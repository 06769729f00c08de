//! Bytes in, readings and refused parts out: no NATS, no stage, no clock. Whatever brings readings to a gateway calls
//! [`decode`] with the bytes, their media type, the device that they came from and when they arrived.
//!
//! A message is split into *parts*: a JSON element, a SenML record, a line, a row of a table. Good readings of a part go
//! through; what is wrong with it becomes one [`Bad`] with the part's own bytes. Only where the parts cannot be told
//! apart (no JSON, a cut-off Arrow stream) the message is [`Refused`] whole.

mod arrow;
mod burst;
mod collect;
mod json;
mod line;
mod number;
mod object;
mod senml;
mod table;
mod time;

use eddy_schemas::{Timestamp, names, side::Reason};
use serde::Deserialize;

pub use burst::Bursts;
pub use collect::{Bad, Decoded, Device, Original, Series};
pub use time::TimeUnit;

use collect::Collector;

/// A whole message that is refused: the class of the reason, and what is wrong.
pub type Refused = (Reason, String);

/// What comes with the bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'a> {
    /// The device that sent them, as its operator calls it. `None`: each part of the message names its own, by one of
    /// [`Rules::device_keys`] in JSON, [`Rules::line_device_tags`] in line protocol, or its SenML base name.
    pub device: Option<&'a str>,
    /// The channel of a bare number or of [`Rules::value_key`]; it stands in front of other channels. `None`: they stand alone.
    pub channel: Option<&'a str>,
    /// When they arrived: the time of readings that have none, and what "future" is judged against.
    pub arrival: Timestamp,
    /// Their media type (`Content-Type`); without it the content decides.
    pub content_type: Option<&'a str>,
    /// Unit of line protocol's times, where the request says otherwise than [`Rules::line_time_unit`].
    pub line_time_unit: Option<TimeUnit>,
}

/// How formats map to channels and times, and what is too much: `default.toml` explains each.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Unit of times given as numbers.
    pub time_unit: TimeUnit,
    /// The same for line protocol.
    pub line_time_unit: TimeUnit,
    /// Keys and columns that hold the time, the first that is present.
    pub time_keys: Vec<String>,
    /// Nanoseconds that a reading may be ahead of its arrival.
    pub future_limit: i64,
    /// Keys, fields and columns that hold no reading.
    pub ignored_keys: Vec<String>,
    /// Key of a long record's channel.
    pub channel_key: String,
    /// Key of a long record's value.
    pub value_key: String,
    /// Keys that name a record's device, where its source does not.
    pub device_keys: Vec<String>,
    /// Tags that name a line's device, where its source does not.
    pub line_device_tags: Vec<String>,
    /// Keys of objects that hold channels.
    pub values_keys: Vec<String>,
    /// Key of a burst's sampling rate in hertz.
    pub burst_rate_key: String,
    /// Key of a burst's array of values.
    pub burst_values_key: String,
    /// Values of a burst.
    pub burst_values_max: usize,
    /// Whether a readings batch may name other devices than its source.
    pub any_device: bool,
    /// How a SenML name becomes a channel.
    pub senml_channel: SenmlChannel,
    /// How measurement and field become a channel.
    pub line_channel: LineChannel,
    /// Tags whose values stand in front of the channel.
    pub line_channel_tags: Vec<String>,
    /// Bytes of a message.
    pub payload_bytes_max: usize,
    /// Readings of a message.
    pub readings_max: usize,
    /// Channels that a device may name in a message.
    pub channels_max: usize,
}

/// How a SenML name becomes a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenmlChannel {
    /// Base name and name, without the device's own name in front.
    Full,
    /// The name alone.
    Name,
}

/// How line protocol's measurement and field become a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineChannel {
    /// `<measurement>` for the field `value`, `<field>` for the device's own measurement, else `<measurement>.<field>`.
    Auto,
    /// `<field>`.
    Field,
    /// `<measurement>.<field>`.
    MeasurementField,
}

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Senml,
    Line,
    Arrow,
    Number,
}

/// Decodes one message.
///
/// # Errors
/// The message is refused whole: too large, of no known type, or not what it claims to be.
pub fn decode(payload: &[u8], source: &Source<'_>, rules: &Rules) -> Result<Decoded, Refused> {
    if payload.len() > rules.payload_bytes_max {
        let (size, most) = (payload.len(), rules.payload_bytes_max);
        return Err((
            Reason::TooLarge,
            format!("the message has {size} bytes, at most {most} are taken (payload_bytes_max)"),
        ));
    }
    if payload.is_empty() {
        return Err((Reason::Malformed, "the message is empty".into()));
    }
    if let Some(device) = source.device.filter(|device| !names::is_valid(device)) {
        let (found, most) = (collect::excerpt(device), names::NAME_BYTES_MAX);
        let problem = format!("device {found} is empty or longer than {most} bytes once percent-encoded");
        return Err((Reason::InvalidField, problem));
    }
    let format = match source.content_type.map(media_type) {
        Some(named) if !named.is_empty() && named != "application/octet-stream" => of_media_type(&named, payload)?,
        _ => sniff(payload),
    };
    let mut collector = Collector::new(source, rules);
    match format {
        Format::Json => json::decode(text(payload)?, &mut collector)?,
        Format::Senml => senml::decode(text(payload)?, &mut collector)?,
        Format::Line => line::decode(payload, &mut collector)?,
        Format::Arrow => arrow::decode(payload, &mut collector)?,
        Format::Number => number::decode(text(payload)?, &mut collector)?,
    }
    Ok(collector.finish())
}

fn text(payload: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(payload).map_err(|error| {
        let (at, byte) = (error.valid_up_to(), payload[error.valid_up_to()]);
        (Reason::Malformed, format!("byte {at} (0x{byte:02x}) is not UTF-8"))
    })
}

/// The media type without its parameters, in lower case.
fn media_type(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn of_media_type(named: &str, payload: &[u8]) -> Result<Format, Refused> {
    match named {
        "application/json" | "text/json" => Ok(Format::Json),
        "application/senml+json" => Ok(Format::Senml),
        "text/plain" if number::looks_like(payload) => Ok(Format::Number),
        "text/plain" => Ok(Format::Line),
        "application/vnd.apache.arrow.stream" => Ok(Format::Arrow),
        _ if named.starts_with("application/x-influx") || named.starts_with("text/x-influx") => Ok(Format::Line),
        _ => Err((
            Reason::Malformed,
            format!(
                "content type {} is not read: send application/json, application/senml+json, text/plain (line protocol) \
                 or application/vnd.apache.arrow.stream, or none",
                collect::excerpt(named)
            ),
        )),
    }
}

/// What the bytes look like: Arrow's continuation marker, a JSON object or array, a SenML pack, a bare number, else line
/// protocol.
fn sniff(payload: &[u8]) -> Format {
    if payload.starts_with(&[0xff; 4]) || payload.starts_with(b"ARROW1") {
        return Format::Arrow;
    }
    match payload.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Format::Json,
        Some(b'[') if std::str::from_utf8(payload).is_ok_and(senml::looks_like) => Format::Senml,
        Some(b'[') => Format::Json,
        _ if number::looks_like(payload) => Format::Number,
        _ => Format::Line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_decides_and_without_it_the_content() {
        for (header, format) in [
            ("application/json; charset=utf-8", Format::Json),
            ("Application/SenML+JSON", Format::Senml),
            ("text/plain", Format::Line),
            ("application/x-influxdb-line-protocol", Format::Line),
            ("application/vnd.apache.arrow.stream", Format::Arrow),
        ] {
            assert_eq!(of_media_type(&media_type(header), b"a b=1"), Ok(format), "{header}");
        }
        assert!(of_media_type("image/png", b"").unwrap_err().1.contains("image/png"));
        for (content, format) in [
            (&b" {\"a\":1}"[..], Format::Json),
            (b"[{\"a\":1}]", Format::Json),
            (b"[]", Format::Json),
            (b"[{\"bv\":12.1}]", Format::Json),
            (b"[{\"n\":\"t\",\"v\":1}]", Format::Senml),
            (b"[{\"bn\":\"urn:x:\",\"n\":\"t\",\"v\":1}]", Format::Senml),
            (b"cpu v=1", Format::Line),
            (b" -21.5e3\n", Format::Number),
            (b"true", Format::Number),
            (b"inf", Format::Line),
            (b"\xff\xff\xff\xff....", Format::Arrow),
            (b"\xff\xfe", Format::Line),
        ] {
            assert_eq!(sniff(content), format, "{content:?}");
        }
    }
}
