//! What holds for every decoder, whatever bytes come. Three callers run the very same checks: the property tests
//! ([`super::properties`]), the replay of the committed corpus (`super::corpus`), and the fuzz targets in
//! `stages/capture/fuzz`, which take this folder and the decoders in by their paths.
//!
//! A corpus file begins with two bytes of [`Setting`], then comes the message. For a message that is decoded:
//!
//! - the same bytes give the same result;
//! - every column has one length, every index points somewhere, every value is finite, every series has its one name;
//! - every refused part lies in the message, in order, and counts: told = taken + lost;
//! - what was taken, written as a readings batch and read again, is the same, bit for bit;
//! - what comes out takes at most [`BYTES_PER_BYTE`] bytes per byte that came, and [`BYTES_MIN`];
//! - cutting the message (lines, elements, records) changes no reading: see [`cutting`].

pub(crate) mod cutting;
pub(crate) mod sources;

use eddy_schemas::{Readings, ReadingsBuilder, SeriesName, names, quality};

use crate::decode::{
    Decoded, LineChannel, Original, Refused, Rules, SenmlChannel, Source, TimeUnit, decode as decode_message,
};

/// 2026-01-01T00:00:00Z
pub(crate) const ARRIVAL: i64 = 1_767_225_600_000_000_000;
/// A table's cell may be one bit, and a reading takes 22 bytes.
pub(crate) const BYTES_PER_BYTE: usize = 256;
/// Texts of a hundred refused parts and the names of a device.
pub(crate) const BYTES_MIN: usize = 64 * 1024;
/// Parts that are told one by one, and one for all others.
const BAD_MAX: usize = 101;

/// One decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// By its content.
    Sniffed,
    Json,
    Senml,
    Line,
    Arrow,
    /// Bare numbers, or else line protocol.
    Plain,
}

impl Format {
    fn content_type(self) -> Option<&'static str> {
        match self {
            Self::Sniffed => None,
            Self::Json => Some("application/json"),
            Self::Senml => Some("application/senml+json; charset=utf-8"),
            Self::Line => Some("application/x-influxdb-line-protocol"),
            Self::Arrow => Some("application/vnd.apache.arrow.stream"),
            Self::Plain => Some("text/plain"),
        }
    }
}

/// What a message comes with, by two bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    bits: [u8; 2],
    pub format: Format,
}

impl Setting {
    pub fn new(format: Format, bits: [u8; 2]) -> Self {
        Self { bits, format }
    }

    fn is_set(self, bit: u8) -> bool {
        self.bits[0] & 1 << bit != 0
    }

    /// The message's source: with and without a device, a channel, a unit.
    pub fn source(self) -> Source<'static> {
        Source {
            device: self.is_set(0).then_some("d"),
            channel: self.is_set(1).then_some("c"),
            arrival: ARRIVAL,
            content_type: self.format.content_type(),
            line_time_unit: self.is_set(6).then_some(TimeUnit::S),
        }
    }

    /// The defaults, with every choice that they leave, and with bounds that a fuzzer reaches.
    pub fn rules(self) -> Rules {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let units = [TimeUnit::Auto, TimeUnit::S, TimeUnit::Ms, TimeUnit::Us, TimeUnit::Ns, TimeUnit::Rfc3339];
        Rules {
            time_unit: units[usize::from(self.bits[1]) % units.len()],
            line_time_unit: TimeUnit::Ns,
            time_keys: list(&["time", "ts"]),
            future_limit: 300_000_000_000,
            ignored_keys: list(&["id", "unit"]),
            channel_key: "channel".into(),
            value_key: "value".into(),
            device_keys: list(&["device", "dev"]),
            line_device_tags: list(&["device", "host"]),
            values_keys: list(&["values"]),
            burst_rate_key: "rate_hz".into(),
            burst_values_key: "values".into(),
            burst_values_max: 4_096,
            any_device: !self.is_set(2),
            senml_channel: if self.is_set(3) { SenmlChannel::Name } else { SenmlChannel::Full },
            line_channel: match (self.is_set(4), self.is_set(5)) {
                (false, _) => LineChannel::Auto,
                (true, false) => LineChannel::Field,
                (true, true) => LineChannel::MeasurementField,
            },
            line_channel_tags: list(&["host"]),
            payload_bytes_max: 1 << 20,
            readings_max: 5_000,
            channels_max: if self.is_set(7) { 3 } else { 1_000 },
        }
    }
}

/// Checks one input of the corpus.
#[allow(dead_code, reason = "the fuzz targets and the replay of their corpus call it")]
pub fn input(format: Format, data: &[u8]) {
    if let Some((bits, payload)) = data.split_first_chunk() {
        decoded(payload, Setting::new(format, *bits)).ok();
    }
}

/// Decodes a message, and checks all of what this module says.
pub(crate) fn decoded(payload: &[u8], setting: Setting) -> Result<Decoded, Refused> {
    let (source, rules) = (setting.source(), setting.rules());
    let result = decode_message(payload, &source, &rules);
    assert_eq!(result, decode_message(payload, &source, &rules), "the same bytes, another result");
    match &result {
        Ok(decoded) => {
            columns(decoded);
            parts(decoded, payload, &rules);
            let bytes = bytes(decoded);
            assert!(bytes <= payload.len() * BYTES_PER_BYTE + BYTES_MIN, "{bytes} bytes of {}", payload.len());
            read_again(decoded, &rules);
            cutting::check(payload, decoded, setting);
        }
        Err((_, detail)) => {
            assert!(!detail.is_empty() && detail.len() <= payload.len() * 8 + 4_096, "{} bytes", detail.len());
        }
    }
    result
}

fn columns(decoded: &Decoded) {
    for length in [decoded.of.len(), decoded.value.len(), decoded.quality.len()] {
        assert_eq!(length, decoded.time.len());
    }
    assert!(decoded.value.iter().all(|value| value.is_finite()));
    for reading in 0..decoded.time.len() {
        if let Some(burst) = decoded.bursts.get(reading) {
            assert_eq!((burst.problem(), decoded.value[reading]), (None, burst.rms()));
        }
    }
    assert!(decoded.of.iter().all(|series| (*series as usize) < decoded.series.len()));
    let source_flags = quality::ARRIVAL_TIME;
    let from_batch = quality::RANGE | quality::SPIKE | quality::STUCK | quality::INTERPOLATED | quality::HELD;
    assert!(decoded.quality.iter().all(|flags| flags & !(source_flags | from_batch) == 0));
    for series in &decoded.series {
        let device = &decoded.devices[series.device as usize].name;
        let name = SeriesName::parse(&series.text).unwrap_or_else(|| panic!("series {:?}", series.text));
        assert_eq!((&name.device, series.text.as_str()), (device, &*SeriesName::encode(device, &name.channel)));
        assert!(names::is_valid(&name.channel));
    }
}

fn parts(decoded: &Decoded, payload: &[u8], rules: &Rules) {
    assert!(decoded.bad.len() <= BAD_MAX);
    let lost: u64 = decoded.bad.iter().map(|bad| bad.readings).sum();
    assert_eq!(decoded.readings(), decoded.time.len() as u64 + lost);
    assert!(decoded.readings() <= rules.readings_max as u64, "{} readings", decoded.readings());
    assert_eq!(decoded.len(), decoded.time.len() + decoded.bad.len());
    let (mut after, mut end) = (0, 0);
    for (index, bad) in decoded.bad.iter().enumerate() {
        assert!(bad.readings > 0 && bad.after >= after && bad.after <= decoded.time.len(), "{bad:?}");
        assert!(!bad.detail.is_empty());
        after = bad.after;
        match &bad.original {
            Original::Bytes(range) => {
                assert!(payload.get(range.clone()).is_some() && range.start >= end, "{bad:?} after byte {end}");
                end = range.end;
            }
            Original::Row(json) => drop(serde_json::from_str::<serde_json::Value>(json).expect("a row is JSON")),
            Original::Message => {}
        }
        assert_eq!((decoded.bad_before(after + index), decoded.bad_before(after + index + 1)), (index, index + 1));
    }
}

/// About what a message takes once decoded.
pub(crate) fn bytes(decoded: &Decoded) -> usize {
    let bad = decoded.bad.iter().map(|bad| {
        let row = if let Original::Row(json) = &bad.original { json.len() } else { 0 };
        size_of_val(bad) + bad.detail.len() + row
    });
    let devices = decoded.devices.iter().map(|device| size_of_val(device) + 2 * device.name.len());
    let series = decoded.series.iter().map(|series| size_of_val(series) + series.text.len());
    decoded.time.len() * 22 + bad.sum::<usize>() + devices.sum::<usize>() + series.sum::<usize>()
}

/// A reading as it is compared: series, time, the value's bits, flags.
pub(crate) type Row = (String, i64, u64, u16);

pub(crate) fn rows(decoded: &Decoded) -> Vec<Row> {
    let name = |row: usize| decoded.series[decoded.of[row] as usize].text.clone();
    let row = |row: usize| (name(row), decoded.time[row], decoded.value[row].to_bits(), decoded.quality[row]);
    (0..decoded.time.len()).map(row).collect()
}

/// What was taken, as a batch, is read again by the schema and by the decoder itself.
fn read_again(decoded: &Decoded, rules: &Rules) {
    let mut batch = ReadingsBuilder::default();
    let rows = rows(decoded);
    for (name, time, bits, quality) in &rows {
        batch.push(name, *time, f64::from_bits(*bits), *quality, ARRIVAL);
    }
    let bytes = batch.encode();
    let read = Readings::decode(&bytes).expect("a batch that was just written");
    let of = |row: usize| {
        (read.rows.name(row).to_owned(), read.rows.time[row], read.value[row].to_bits(), read.quality[row])
    };
    assert_eq!((0..read.rows.len()).map(of).collect::<Vec<_>>(), rows);
    let rules = Rules { any_device: true, payload_bytes_max: usize::MAX, channels_max: usize::MAX, ..rules.clone() };
    let again = decode_message(&bytes, &Source { arrival: ARRIVAL, ..Source::default() }, &rules);
    let again = again.unwrap_or_else(|refused| panic!("what was taken is refused: {refused:?}"));
    assert_eq!(self::rows(&again), rows);
    assert!(again.bad.is_empty() && again.missing == 0, "{:?}", again.bad);
}
