//! The curves of an alert: its window, the windows nearest to it, and how unlikely it was, as far as the streams still hold them.
//!
//! A window is found by the positions that outputs name: the message of DETECTIONS that brought it says up to where it has read
//! EMBEDDINGS, and that one up to where it has read SAMPLES. From there the stream is read backwards, in parts that double.

use std::ops::RangeInclusive;

use eddy_runtime::{
    client::{ClientError, ReadFrom},
    position::{HEADER, Position},
};
use eddy_schemas::{Samples, Scores, SeriesName, Timestamp, names};
use futures_util::StreamExt as _;
use serde::Serialize;

use super::view::{AlertView, Stretch};
use crate::gateway::Gateway;

/// Bytes that are read for one curve: a window of a gateway with many devices is told by its end alone.
const BYTES_MAX: usize = 64 << 20;
/// Messages that are read for one curve.
const MESSAGES_MAX: u64 = 8_192;
/// Messages of the first part.
const PART: u64 = 32;
/// Points of a curve.
const POINTS_MAX: usize = 1_024;
/// Neighbours that are drawn.
const NEIGHBOURS_MAX: usize = 3;
/// Where nothing says how long an alert's window is.
const SPAN_NS: Timestamp = 3_600_000_000_000;

/// The curves of an alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plots {
    /// Its own window.
    pub window: Curve,
    /// The nearest others, nearest first.
    pub neighbours: Vec<Curve>,
    /// How unlikely its device's windows were meanwhile: -log10 of the tail probability; the joint one where there is one.
    pub score: Curve,
    /// -log10 of the tail probability at which it opened.
    pub threshold: f64,
}

/// A curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// The device.
    pub device: String,
    /// The channel.
    pub channel: String,
    /// What somebody said of it.
    pub label: Option<String>,
    /// The alert that it belongs to.
    pub alert: Option<String>,
    /// How far from the alert's window.
    pub distance: Option<f32>,
    /// Event time of each point, in milliseconds since the Unix epoch.
    pub times_ms: Vec<f64>,
    /// Its value.
    pub values: Vec<f64>,
    /// The stream does not hold the beginning any more, or it was too much to read.
    pub partial: bool,
}

/// Reads the curves of an alert. What the streams do not hold any more is empty.
///
/// # Errors
/// That the bus does not answer.
pub async fn of(gateway: &Gateway, alert: &AlertView) -> Result<Plots, ClientError> {
    let window = own(alert);
    let mut plots = Plots { threshold: -alert.threshold.max(f64::MIN_POSITIVE).log10(), ..Plots::default() };
    plots.window = samples(gateway, &window).await?;
    plots.score = scores(gateway, &window).await?;
    let known = alert.known.as_ref().map(|known| known.neighbours.as_slice()).unwrap_or_default();
    for neighbour in known.iter().take(NEIGHBOURS_MAX) {
        let mut curve = samples(gateway, neighbour).await?;
        curve.distance = Some(neighbour.distance);
        plots.neighbours.push(curve);
    }
    Ok(plots)
}

/// An alert's window: as the index knows it, or else the hour before it opened.
fn own(alert: &AlertView) -> Stretch {
    if let Some(known) = &alert.known {
        return known.window.clone();
    }
    let end = eddy_schemas::time_of(&alert.opened).unwrap_or(Timestamp::MAX);
    Stretch {
        device: alert.device.clone(),
        channel: alert.channels.first().map_or_else(String::new, |share| share.name.clone()),
        start: end.saturating_sub(SPAN_NS),
        end,
        distance: 0.0,
        sequence: alert.sequence,
        alert: Some(alert.alert.clone()),
        label: None,
    }
}

fn empty(window: &Stretch) -> Curve {
    Curve {
        device: window.device.clone(),
        channel: window.channel.clone(),
        label: window.label.clone(),
        alert: window.alert.clone(),
        partial: true,
        ..Curve::default()
    }
}

/// The samples of a window.
async fn samples(gateway: &Gateway, window: &Stretch) -> Result<Curve, ClientError> {
    let Some(embeddings) = reached(gateway, "DETECTIONS", window.sequence, "EMBEDDINGS").await? else {
        return Ok(empty(window));
    };
    let Some(samples) = reached(gateway, "EMBEDDINGS", embeddings, "SAMPLES").await? else {
        return Ok(empty(window));
    };
    let series = SeriesName::encode(&window.device, &window.channel);
    let filter = format!("samples.{}.*", gateway.site_token());
    let of = |payload: &[u8], points: &mut Vec<(Timestamp, f64)>| {
        let Ok(batch) = Samples::decode(payload) else { return };
        let rows = (0..batch.rows.len()).filter(|row| batch.rows.name(*row) == series);
        points.extend(rows.map(|row| (batch.rows.time[row], batch.value[row])));
    };
    backwards(gateway, ("SAMPLES", &filter, samples), window, of).await
}

/// The tail probabilities of a window's device meanwhile.
async fn scores(gateway: &Gateway, window: &Stretch) -> Result<Curve, ClientError> {
    let (own, device) = (SeriesName::encode(&window.device, &window.channel), names::encode(&window.device));
    let joint = format!("{device}/{}", eddy_schemas::JOINT_CHANNEL);
    let filter = format!("scores.{}.*", gateway.site_token());
    let of = |payload: &[u8], points: &mut Vec<(Timestamp, f64)>| {
        let Ok(batch) = Scores::decode(payload) else { return };
        let rows = (0..batch.rows.len()).filter(|row| [own.as_str(), joint.as_str()].contains(&batch.rows.name(*row)));
        points.extend(rows.map(|row| (batch.rows.time[row], -batch.tail[row].max(f64::MIN_POSITIVE).log10())));
    };
    let mut curve = backwards(gateway, ("DETECTIONS", &filter, window.sequence), window, of).await?;
    merge_equal_times(&mut curve);
    Ok(curve)
}

/// Of a series' and its device's word on one time the less likely one counts.
fn merge_equal_times(curve: &mut Curve) {
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(curve.values.len());
    for (time, value) in curve.times_ms.iter().copied().zip(curve.values.iter().copied()) {
        match points.last_mut() {
            Some((last, held)) if *last >= time => *held = held.max(value),
            _ => points.push((time, value)),
        }
    }
    (curve.times_ms, curve.values) = points.into_iter().unzip();
}

/// Up to where message `sequence` of `stream`, or the next one that says so, has read `input`.
async fn reached(gateway: &Gateway, stream: &str, sequence: u64, input: &str) -> Result<Option<u64>, ClientError> {
    let mut messages = gateway.client.read(stream, &[], ReadFrom::Sequence(sequence)).await?;
    // Alerts lie before the scores that they came with.
    for _ in 0..PART {
        let Some(message) = messages.next().await else { return Ok(None) };
        let message = message?;
        let position: Option<Position> = message.header(HEADER).and_then(|text| text.parse().ok());
        if let Some(place) = position.as_ref().and_then(|position| position.place(input)) {
            return Ok(Some(place.sequence));
        }
    }
    Ok(None)
}

/// Reads a stream backwards from a message until a window's first point is there.
async fn backwards(
    gateway: &Gateway,
    (stream, filter, last): (&str, &str, u64),
    window: &Stretch,
    of: impl Fn(&[u8], &mut Vec<(Timestamp, f64)>),
) -> Result<Curve, ClientError> {
    let first = gateway.client.stream(stream).await?.map_or(1, |info| info.first_sequence).max(1);
    let mut points: Vec<(Timestamp, f64)> = Vec::new();
    let (mut end, mut part, mut bytes, mut messages) = (last, PART, 0, 0);
    let mut whole = false;
    while end >= first && bytes < BYTES_MAX && messages < MESSAGES_MAX && !whole {
        let begin = end.saturating_sub(part - 1).max(first);
        let mut earlier = Vec::new();
        bytes += read(gateway, stream, filter, begin..=end, |payload| of(payload, &mut earlier)).await?;
        messages += end - begin + 1;
        whole = earlier.iter().any(|(time, _)| *time <= window.start);
        earlier.append(&mut points);
        (points, end, part) = (earlier, begin - 1, part * 2);
    }
    points.retain(|(time, _)| (window.start..=window.end).contains(time));
    points.sort_by_key(|(time, _)| *time);
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let kept = points.iter().rev().step_by(step).rev();
    let (times_ms, values) = kept.map(|(time, value)| (*time as f64 / 1e6, *value)).unzip();
    Ok(Curve { times_ms, values, partial: !whole, ..empty(window) })
}

/// Hands each payload of a range of a stream on; how many bytes they had.
async fn read(
    gateway: &Gateway,
    stream: &str,
    filter: &str,
    range: RangeInclusive<u64>,
    mut take: impl FnMut(&[u8]),
) -> Result<usize, ClientError> {
    let mut messages = gateway.client.read(stream, &[filter], ReadFrom::Sequence(*range.start())).await?;
    let mut bytes = 0;
    while let Some(message) = messages.next().await {
        let message = message?;
        if message.sequence > *range.end() {
            break;
        }
        bytes += message.payload.len();
        take(&message.payload);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_words_on_one_time_the_less_likely_counts() {
        let mut curve = Curve {
            times_ms: vec![1.0, 1.0, 2.0, 3.0, 3.0],
            values: vec![1.0, 4.0, 2.0, 5.0, 0.0],
            ..Curve::default()
        };
        merge_equal_times(&mut curve);
        assert_eq!((curve.times_ms, curve.values), (vec![1.0, 2.0, 3.0], vec![4.0, 2.0, 5.0]));
    }
}
