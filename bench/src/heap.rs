//! How many bytes of the heap a series costs in embed and in detect, beside the bytes of its records: what the allocator hands out, by
//! `mallinfo2`, before and after each stage is dropped. One process and one thread, so that the same input gives the same figures. And what a
//! window costs both stages as its series' history grows, in CPU time.

use std::time::Duration;

use anyhow::Result;
use eddy_bench::{
    offline::Back,
    pipeline::{Pipeline, Settings},
};
use eddy_cli::output;
use eddy_schemas::{SamplesBuilder, SeriesName};
use nix::time::{ClockId, clock_gettime};

/// Event time from sample to sample.
const PERIOD_NS: i64 = 1_000_000_000;
/// Channels of a device.
const CHANNELS: usize = 3;

/// Heap's part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HeapArgs {
    /// Series, in devices of three channels
    #[arg(long, default_value_t = 999, value_parser = clap::value_parser!(u32).range(3..=100_000))]
    series: u32,
    /// Samples of each
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rows: u32,
    /// Stretches of the rows whose cost is told apart
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    points: u32,
    /// Print one JSON object in place of a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Measures, and prints the figures.
///
/// # Errors
/// What is wrong with the configuration or the bundle.
pub(crate) fn run(args: &HeapArgs) -> Result<()> {
    let pipeline = Pipeline::new(&args.settings)?;
    let before = in_use();
    let mut back = Back::new(&pipeline, "heap")?;
    let mut sensors: Vec<Sensor> = (0..args.series).map(Sensor::new).collect();
    let sensors_bytes = in_use() - before;
    let (mut points, mut spent, mut windows) = (Vec::new(), Duration::ZERO, 0_u32);
    for row in 0..args.rows {
        let mut samples = SamplesBuilder::default();
        for sensor in &mut sensors {
            let value = sensor.next(row);
            samples.push(&sensor.name, i64::from(row) * PERIOD_NS, value, 0, PERIOD_NS);
        }
        let (samples, before) = (samples.encode(), cpu_time()?);
        back.samples(samples);
        spent += cpu_time()? - before;
        windows += args.series;
        if (row + 1) * args.points / args.rows > row * args.points / args.rows {
            let us = spent.as_secs_f64() * 1e6 / f64::from(windows);
            points.push(serde_json::json!({"rows": row + 1, "us_per_window": (us * 1e3).round() / 1e3}));
            (spent, windows) = (Duration::ZERO, 0);
        }
    }
    let records = back.state_bytes() as f64 / f64::from(args.series);
    drop(sensors);
    let [embed, detect] = back.heap_bytes(in_use).map(|bytes| bytes as f64 / f64::from(args.series));
    let figures = serde_json::json!({
        "mode": "heap", "series": args.series, "rows": args.rows, "points": points, "records_bytes": records.round(),
        "embed_heap_bytes": embed.round(), "detect_heap_bytes": detect.round(),
    });
    if args.json {
        output::line(&figures.to_string());
    } else {
        output::line(&format!(
            "a series of {} rows: {detect:.0} bytes of heap in detect, {embed:.0} in embed; {records:.0} bytes of records ({} series, {sensors_bytes} bytes of sensors left out)",
            args.rows, args.series
        ));
    }
    Ok(())
}

/// CPU time of this thread.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Bytes that are allocated.
fn in_use() -> usize {
    // SAFETY: it takes nothing and returns a struct of numbers; glibc locks its arenas itself.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// A daily course, a faster one, and noise, of its own size and phase.
struct Sensor {
    name: String,
    seed: u64,
    size: f64,
}

impl Sensor {
    fn new(at: u32) -> Self {
        let at = at as usize;
        let name = SeriesName::encode(&format!("device{}", at / CHANNELS), ["t", "flow", "power"][at % CHANNELS]);
        Self { name, seed: at as u64 + 1, size: 1.0 + (at % 7) as f64 }
    }

    fn next(&mut self, row: u32) -> f64 {
        // Knuth's generator: the figures need no better one.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = (self.seed >> 40) as f64 / f64::from(1 << 24) - 0.5;
        let row = f64::from(row);
        self.size * ((row / 211.0).sin() + 0.3 * (row / 17.0 + self.size).sin() + 0.4 * noise)
    }
}
