//! The committed recording, as messages.

use std::{collections::BTreeSet, io::Read, path::Path};

use bytes::Bytes;
use eddy_runtime::client::Client;
use eddy_schemas::{ReadingsBuilder, SeriesName, Timestamp, names};

use crate::gateway::SITE;

/// One reading: channel, time, value.
type Reading = (String, Timestamp, f64);

/// A device's readings in recorded order.
#[derive(Clone)]
pub struct Device {
    pub name: String,
    pub readings: Vec<Reading>,
}

impl Device {
    /// Its first readings, and the rest.
    pub fn cut(&self, at: usize) -> (Self, Self) {
        let (first, rest) = self.readings.split_at(at);
        let of = |readings: &[Reading]| Self { name: self.name.clone(), readings: readings.to_vec() };
        (of(first), of(rest))
    }
}

/// Some devices of the committed recording, `rows` rows of each (a row is one reading a channel).
pub fn fleet(devices: &[&str], rows: usize) -> Vec<Device> {
    devices.iter().map(|device| read(device, rows)).collect()
}

fn read(device: &str, rows: usize) -> Device {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet");
    let file = std::fs::File::open(folder.join(format!("{}.csv.gz", names::encode(device)))).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut lines = text.lines();
    let channels: Vec<&str> = lines.next().unwrap().split(',').skip(1).collect();
    let mut readings = Vec::new();
    for line in lines.take(rows) {
        let mut cells = line.split(',');
        let time = nanoseconds(cells.next().unwrap());
        for (channel, cell) in channels.iter().zip(cells) {
            if let Ok(value) = cell.parse() {
                readings.push(((*channel).to_owned(), time, value));
            }
        }
    }
    Device { name: device.to_owned(), readings }
}

/// `2026-01-05T00:00:00Z` without a calendar library: the recording's months are January and February 2026.
fn nanoseconds(text: &str) -> Timestamp {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    assert!(text.starts_with("2026-0") && text.ends_with('Z'), "{text}");
    let days = 20_454 + (number(5..7) - 1) * 31 + number(8..10) - 1;
    ((days * 24 + number(11..13)) * 60 + number(14..16)) * 60_000_000_000 + number(17..19) * 1_000_000_000
}

/// Sends the devices' readings, `per_message` rows a message, a message of each device in turn.
pub async fn send(client: &Client, devices: &[Device], per_message: usize) {
    let mut chunks: Vec<_> = devices.iter().map(|device| (device, device.readings.chunks(per_message))).collect();
    loop {
        let mut acks = Vec::new();
        for (device, rest) in &mut chunks {
            let Some(readings) = rest.next() else { continue };
            acks.push(client.send(&subject(&device.name), &[ARROW], encode(&device.name, readings)).await.unwrap());
        }
        if acks.is_empty() {
            return;
        }
        for ack in acks {
            ack.stored().await.unwrap();
        }
    }
}

const ARROW: (&str, &str) = ("Content-Type", "application/vnd.apache.arrow.stream");

/// The subject that a device publishes on.
pub fn subject(device: &str) -> String {
    format!("ingest.{SITE}.{}", names::encode(device))
}

fn encode(device: &str, readings: &[Reading]) -> Bytes {
    let mut batch = ReadingsBuilder::default();
    for (channel, time, value) in readings {
        batch.push(&SeriesName::encode(device, channel), *time, *value, 0, *time);
    }
    batch.encode().into()
}

/// The different readings, by series and time.
pub fn unique(devices: &[Device]) -> BTreeSet<(String, i64)> {
    let all = devices.iter().flat_map(|device| {
        device.readings.iter().map(|(channel, time, _)| (SeriesName::encode(&device.name, channel), *time))
    });
    all.collect()
}
