//! `throughput`: readings made durable a second, windows embedded and scored a second, and the same design in Python.
//!
//! One stage, or two, at a time have work, so that a figure is theirs and not the share that others left them: the rest
//! is stopped, and what they would do lies in the streams. Times are those at which the server stored the messages.

use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use eddy_runtime::{
    client::Ack,
    clock::{Clock as _, SystemClock},
};
use eddy_schemas::{ReadingsBuilder, Timestamp};
use serde_json::{Value, json};

use super::{
    Common,
    binaries::Binaries,
    feed::{self, ARROW},
    figures::rounded,
    gateway::{Gateway, HOPS, Hop, SITE},
    journey::{self, Stamp},
    peer,
    plan::Plan,
    sensors::{Faults, Sensors},
    usage::Meter,
};

/// Rows of a message, Arrow batch or lines.
pub(super) const MESSAGE_ROWS: u64 = 1_000;
/// Event time between two rows of a series.
pub(super) const STEP: i64 = 1_000_000_000;
/// Channels of a device.
pub(super) const CHANNELS: usize = 3;

/// `throughput`'s part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ThroughputArgs {
    /// Series; several numbers, separated by commas, make a table
    #[arg(long, value_delimiter = ',', default_values_t = [30_000])]
    series: Vec<usize>,
    /// Shards that the site is cut into; several numbers, separated by commas, make a table
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: Vec<u32>,
    /// Readings that go through each step
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(10_000..=20_000_000))]
    rows: u64,
    /// Seconds that the Python peer scores for; 0: no peer
    #[arg(long, default_value_t = 20.0)]
    peer_seconds: f64,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs it.
///
/// # Errors
/// Bad arguments, a gateway that does not come up or does not keep going.
pub(crate) async fn run(args: &ThroughputArgs, binaries: &Binaries) -> Result<Value> {
    if args.series.iter().any(|series| *series < CHANNELS) {
        bail!("--series: at least {CHANNELS}");
    }
    let mut runs = Vec::new();
    for series in &args.series {
        for shards in &args.shards {
            runs.push(measure(args, binaries, *series, *shards).await?);
        }
    }
    Ok(super::merged(runs))
}

async fn measure(args: &ThroughputArgs, binaries: &Binaries, series: usize, shards: u32) -> Result<Value> {
    let sensors = Sensors::new(series / CHANNELS, CHANNELS);
    let warm = args.common.warm_rows();
    let messages = args.rows / MESSAGE_ROWS;
    let began = SystemClock.now() - (warm + args.rows / sensors.series() as u64 + 400) as i64 * STEP;
    let plan = Plan {
        series: sensors.series(),
        shards,
        commissioning_rows: args.common.commissioning_rows,
        roomy: true,
        parent: args.common.folder(),
    };
    let mut gateway = Gateway::start(binaries, &plan).await?;
    super::say(&format!("throughput: warming up with {warm} rows of each of {} series", plan.series));
    feed::bulk(&mut gateway, &sensors, 0..warm, began, STEP).await?;
    let pss = Meter::start(gateway.pids()).stop();

    super::say("capture, Arrow");
    for stage in ["preprocess", "embed", "detect"] {
        gateway.suspend(stage).await?;
    }
    let batches = arrow(&sensors, warm, began + warm as i64 * STEP, messages);
    let (live, rest) = batches.split_at(batches.len() * 3 / 4);
    let captured = capture(&mut gateway, &feed::subject(), ARROW, live).await?;
    let drained = drain(&mut gateway, rest).await?;

    super::say("samples to scores");
    gateway.suspend("capture").await?;
    let sampled = hops(&mut gateway, 1..2).await?;
    gateway.suspend("preprocess").await?;
    let scored = hops(&mut gateway, 2..4).await?;
    for stage in ["embed", "detect"] {
        gateway.suspend(stage).await?;
    }
    let peer = score_by_peer(args, &gateway, &sampled, shards).await;

    super::say("capture, line protocol");
    gateway.resume("capture")?;
    let text = lines(messages / 4, began);
    let subject = format!("ingest.{SITE}.line");
    let lined = capture(&mut gateway, &subject, "text/plain; charset=utf-8", &text).await?;
    let windows = (batches.len() as u64 * MESSAGE_ROWS) as f64;
    let windows_per_s = windows / scored.seconds;
    let (peer_per_s, peer_problem) = match peer {
        Ok(scored) => (Some(scored), None),
        Err(problem) => (None, Some(problem.to_string())),
    };
    Ok(json!({
        "mode": "throughput",
        "profile": binaries.profile(),
        "series": sensors.series(),
        "shards": shards,
        "rows": args.rows,
        "commissioning_rows": args.common.commissioning_rows,
        "capture_readings_per_s": rounded(captured.rows_per_s),
        "capture_backlog_readings_per_s": rounded(drained.rows_per_s),
        "ingest_readings_per_s": rounded(drained.ingest_rows_per_s),
        "preprocess_readings_per_s": rounded(windows / sampled.seconds),
        "windows_per_s": rounded(windows_per_s),
        "peer_windows_per_s": peer_per_s.map(|peer| rounded(peer[0])),
        "peer_ratio": peer_per_s.map(|peer| rounded(windows_per_s / peer[0])),
        "peer_singly_windows_per_s": peer_per_s.map(|peer| rounded(peer[1])),
        "peer_singly_ratio": peer_per_s.map(|peer| rounded(windows_per_s / peer[1])),
        "peer_skipped": peer_problem,
        "line_protocol_readings_per_s": rounded(lined.rows_per_s),
        "pss_mb_total": pss.pss_mb_total(),
        "processes": {
            "memory": pss.json(),
            "capture": captured.processes,
            "capture_backlog": drained.processes,
            "preprocess": sampled.processes,
            "windows": scored.processes,
            "line_protocol": lined.processes,
        },
        "generator_cpu_s": rounded(captured.generator_cpu_s),
        "line_protocol_generator_cpu_s": rounded(lined.generator_cpu_s),
    }))
}

/// Messages in eddy's layout: the fleet's rows, one time after the other.
pub(super) fn arrow(sensors: &Sensors, first_row: u64, at: Timestamp, messages: u64) -> Vec<Bytes> {
    let series = sensors.series() as u64;
    let mut batch = ReadingsBuilder::default();
    let message = |number: u64| -> Bytes {
        for place in number * MESSAGE_ROWS..(number + 1) * MESSAGE_ROWS {
            let (row, index) = (place / series, (place % series) as usize);
            let value = sensors.value(index, first_row + row, &Faults::default());
            let time = at + row as i64 * STEP;
            batch.push(sensors.name(index), time, value, 0, time);
        }
        batch.encode().into()
    };
    (0..messages).map(message).collect()
}

/// The same number of lines a message, as Telegraf would write them: one measurement, a tag, three fields.
fn lines(messages: u64, at: Timestamp) -> Vec<Bytes> {
    let line = |place: u64| {
        let time = at + place as i64 * 1_000_000;
        format!(
            "machine,host=line temperature={}.5,pressure={}.25,speed={}i {time}\n",
            place % 90,
            place % 7,
            place % 4000
        )
    };
    let lines_a_message = MESSAGE_ROWS / 3;
    let message = |number: u64| {
        let text: String = (number * lines_a_message..(number + 1) * lines_a_message).map(line).collect();
        Bytes::from(text)
    };
    (0..messages).map(message).collect()
}

struct Captured {
    rows_per_s: f64,
    ingest_rows_per_s: f64,
    generator_cpu_s: f64,
    processes: Value,
}

/// Sends messages as fast as INGEST takes them, while capture works; from the first publish to the last of READINGS.
async fn capture(gateway: &mut Gateway, subject: &str, kind: &str, messages: &[Bytes]) -> Result<Captured> {
    let (before, ingested) = (gateway.last_sequence("READINGS").await?, gateway.last_sequence("INGEST").await?);
    let meter = Meter::start(gateway.pids());
    let (start, began) = (SystemClock.now(), Instant::now());
    send(gateway, subject, kind, messages).await?;
    let ingest_s = began.elapsed().as_secs_f64();
    gateway.settle(1).await?;
    let used = meter.stop();
    let stamps = journey::stamps(&gateway.url, "READINGS", &HOPS[0].subject(), before + 1).await?;
    let end = stamps.last().map_or(start, |last| last.stored_at);
    let taken = gateway.last_sequence("INGEST").await? - ingested;
    if taken != messages.len() as u64 {
        bail!("INGEST took {taken} of {} messages", messages.len());
    }
    // A message of line protocol has a third of the lines, of three readings each.
    let rows_a_message = if kind == ARROW { MESSAGE_ROWS } else { MESSAGE_ROWS / 3 * 3 };
    let rows = (messages.len() as u64 * rows_a_message) as f64;
    Ok(Captured {
        rows_per_s: rows / ((end - start) as f64 / 1e9),
        ingest_rows_per_s: rows / ingest_s,
        generator_cpu_s: used.generator_cpu_s,
        processes: used.json(),
    })
}

/// Sends messages as fast as their stream takes them.
///
/// # Errors
/// If it does not.
pub(super) async fn send(gateway: &Gateway, subject: &str, kind: &str, messages: &[Bytes]) -> Result<()> {
    let mut acks: std::collections::VecDeque<Ack> = std::collections::VecDeque::new();
    for message in messages {
        acks.push_back(gateway.client.send(subject, &[("Content-Type", kind)], message.clone()).await?);
        if acks.len() >= 200
            && let Some(ack) = acks.pop_front()
        {
            ack.stored().await?;
        }
    }
    for ack in acks {
        ack.stored().await?;
    }
    Ok(())
}

/// Capture alone: its input lies in INGEST before it starts.
async fn drain(gateway: &mut Gateway, messages: &[Bytes]) -> Result<Captured> {
    gateway.suspend("capture").await?;
    let began = Instant::now();
    send(gateway, &feed::subject(), ARROW, messages).await?;
    let ingest_s = began.elapsed().as_secs_f64();
    let done = hops(gateway, 0..1).await?;
    let rows = (messages.len() as u64 * MESSAGE_ROWS) as f64;
    Ok(Captured {
        rows_per_s: rows / done.seconds,
        ingest_rows_per_s: rows / ingest_s,
        generator_cpu_s: 0.0,
        processes: done.processes,
    })
}

/// A backlog that was worked off.
struct Hopped {
    /// From the first output of the first stage to the last of the last one, with what the first output took put back.
    seconds: f64,
    /// Sequences of the last stage's output.
    outputs: std::ops::RangeInclusive<u64>,
    processes: Value,
}

/// Starts the stages of some hops on what lies before the first of them, and waits until the last is through.
async fn hops(gateway: &mut Gateway, range: std::ops::Range<usize>) -> Result<Hopped> {
    let (first, last): (Hop, Hop) = (HOPS[range.start], HOPS[range.end - 1]);
    let (from, to) = (gateway.last_sequence(first.output).await?, gateway.last_sequence(last.output).await?);
    for hop in &HOPS[range.clone()] {
        gateway.resume(hop.stage)?;
    }
    let meter = Meter::start(gateway.pids());
    gateway.settle(range.end).await?;
    let used = meter.stop();
    let begun = journey::stamps(&gateway.url, first.output, &first.subject(), from + 1).await?;
    let ended = journey::stamps(&gateway.url, last.output, &last.subject(), to + 1).await?;
    Ok(Hopped {
        seconds: elapsed(&begun, &ended)?,
        outputs: to + 1..=ended.last().map_or(to, |stamp| stamp.sequence),
        processes: used.json(),
    })
}

/// The first output's own share of the work is taken to be its share of the bytes.
fn elapsed(begun: &[Stamp], ended: &[Stamp]) -> Result<f64> {
    let (Some(first), Some(last)) = (begun.first(), ended.last()) else { bail!("nothing came out") };
    let seconds = (last.stored_at - first.stored_at) as f64 / 1e9;
    let bytes: u64 = begun.iter().map(|stamp| stamp.bytes).sum();
    let share = first.bytes as f64 / bytes.max(1) as f64;
    if seconds <= 0.0 || share >= 1.0 {
        bail!("all came out in one message: give it more --rows");
    }
    Ok(seconds / (1.0 - share))
}

/// Windows a second of the peer, vectorised and row by row.
async fn score_by_peer(args: &ThroughputArgs, gateway: &Gateway, sampled: &Hopped, shards: u32) -> Result<[f64; 2]> {
    if shards > 1 {
        bail!("the Python peer reads one shard");
    }
    if args.peer_seconds <= 0.0 {
        bail!("--peer-seconds 0");
    }
    let skipped = |problem: anyhow::Error| {
        super::say(&format!("SKIPPED: the Python peer: {problem:#}"));
        problem
    };
    let python = peer::environment("py-peer", "requirements.txt", peer::Install::All).await.map_err(skipped)?.python;
    let mut windows_per_s = [0.0; 2];
    for (singly, windows_per_s) in [false, true].into_iter().zip(&mut windows_per_s) {
        super::say(if singly { "the Python peer, row by row" } else { "the Python peer, vectorised" });
        let samples = peer::Samples {
            scored_from: *sampled.outputs.start(),
            last: *sampled.outputs.end(),
            seconds: args.peer_seconds,
            singly,
        };
        let scored = peer::score(gateway, &python, samples, &args.common.folder()).await.map_err(skipped)?;
        *windows_per_s = scored.windows as f64 / scored.seconds.max(f64::MIN_POSITIVE);
    }
    Ok(windows_per_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_first_output_is_put_back() {
        let stamp = |sequence, stored_at, bytes| Stamp { sequence, stored_at, bytes, reaches: Default::default() };
        let begun = [stamp(1, 10_000_000_000, 25), stamp(2, 11_000_000_000, 75)];
        assert_eq!(elapsed(&begun, &[stamp(9, 13_000_000_000, 1)]).unwrap(), 4.0);
        assert!(elapsed(&begun[..1], &begun[..1]).is_err());
        assert!(elapsed(&[], &begun).is_err());
    }

    #[test]
    fn messages_hold_a_thousand_rows_of_the_fleet_in_turn() {
        let sensors = Sensors::new(200, 3);
        let batches = arrow(&sensors, 5, 1_000, 3);
        let readings = eddy_schemas::Readings::decode(&batches[1]).unwrap();
        assert_eq!((batches.len(), readings.rows.len(), readings.rows.name(200)), (3, 1000, sensors.name(0)));
        assert_eq!(readings.rows.time[200], 1_000 + 2 * STEP);
    }

    #[test]
    fn lines_are_what_capture_reads() {
        let text = lines(2, 0);
        assert_eq!(text[1].iter().filter(|byte| **byte == b'\n').count(), 333);
    }
}
