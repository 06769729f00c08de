//! READINGS as capture would have written them: 1,000 devices of 3 channels at 1 Hz.

use anyhow::Result;
use eddy_runtime::client::Client;
use eddy_schemas::{ReadingsBuilder, SeriesName, rfc3339};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const DEVICES: usize = 1_000;
const CHANNELS: [&str; 3] = ["temperature", "pressure", "vibration"];
/// Rows of a message.
const ROWS: usize = 3_000;
/// 2026-01-05T00:00:00Z.
const START: i64 = 1_767_571_200_000_000_000;
/// Messages that are on their way at once.
const ACKS_MAX: usize = 32;

/// What lies in the stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    pub(super) rows: u64,
    pub(super) messages: u64,
    /// Their payloads.
    pub(super) stream_bytes: u64,
    /// Each row as a line of JSON.
    pub(super) json_bytes: u64,
}

/// At least so many rows. Each series is a random walk, told with two decimals.
pub(super) async fn fill(client: &Client, site: &str, rows: u64) -> Result<Filled> {
    let series: Vec<(String, String, &str)> = (0..DEVICES)
        .flat_map(|n| CHANNELS.map(|channel| (format!("device-{n:04}"), channel)))
        .map(|(device, channel)| (SeriesName::encode(&device, channel), device, channel))
        .collect();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut values: Vec<f64> = series.iter().map(|_| random.random_range(10.0..90.0)).collect();
    let (mut filled, mut batch, mut acks) = (Filled::default(), ReadingsBuilder::default(), Vec::new());
    let subject = format!("readings.{site}.0");
    while filled.rows < rows {
        let time = START + filled.messages as i64 * 1_000_000_000;
        for ((name, device, channel), value) in series.iter().zip(&mut values).take(ROWS) {
            *value += random.random_range(-0.5..0.5);
            let told = (*value * 100.0).round() / 100.0;
            batch.push(name, time, told, 0, time + 20_000_000);
            // Of every hundredth row, times a hundred: it is a figure to compare with.
            if filled.rows.is_multiple_of(100) {
                let line =
                    json!({ "device": device, "channel": channel, "time": rfc3339(time), "value": told, "quality": 0 });
                filled.json_bytes += 100 * (line.to_string().len() as u64 + 1);
            }
            filled.rows += 1;
        }
        let payload = batch.encode();
        filled.stream_bytes += payload.len() as u64;
        filled.messages += 1;
        acks.push(client.send(&subject, &[], payload.into()).await?);
        if acks.len() == ACKS_MAX {
            for ack in acks.drain(..) {
                ack.stored().await?;
            }
        }
    }
    for ack in acks {
        ack.stored().await?;
    }
    Ok(filled)
}
