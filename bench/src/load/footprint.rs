//! `footprint`: the size of the images, memory idle and loaded, and whether memory and the cost of a window stay flat over a day of event time.
//!
//! The gateway is as it is shipped, but for a short commissioning: streams have their bounds, and the janitor keeps them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use eddy_runtime::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::{
    Common, binaries::Binaries, feed, figures::rounded, gateway::Gateway, images, plan::Plan, sensors::Sensors,
    usage::Meter,
};

/// Channels of a device.
const CHANNELS: usize = 3;
/// How long a gateway that was just started is left alone before its memory counts as idle.
const IDLE: Duration = Duration::from_secs(5);

/// `footprint`'s part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FootprintArgs {
    /// Series; several numbers, separated by commas, make a table
    #[arg(long, value_delimiter = ',', default_values_t = [30_000])]
    series: Vec<usize>,
    /// Hours of event time
    #[arg(long, default_value_t = 24.0)]
    hours: f64,
    /// Seconds of event time between two readings of a series
    #[arg(long, default_value_t = 300.0)]
    period_s: f64,
    /// Points at which memory and cost are looked at
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=1000))]
    points: u64,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs it.
///
/// # Errors
/// Bad arguments, a gateway that does not come up or does not keep going.
pub(crate) async fn run(args: &FootprintArgs, binaries: &Binaries) -> Result<Value> {
    if args.series.iter().any(|series| *series < CHANNELS) {
        bail!("--series: at least {CHANNELS}");
    }
    if !(0.001..=86_400.0).contains(&args.period_s) || !(0.0..=8_760.0).contains(&args.hours) {
        bail!("--period-s takes 0.001 to 86400, --hours 0 to 8760");
    }
    let mut runs = Vec::new();
    for series in &args.series {
        runs.push(measure(args, binaries, *series).await?);
    }
    Ok(super::merged(runs))
}

async fn measure(args: &FootprintArgs, binaries: &Binaries, series: usize) -> Result<Value> {
    let sensors = Sensors::new(series / CHANNELS, CHANNELS);
    let images = images::made(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    if images::here(&images).is_null() {
        super::say("footprint: images_mb is missing: `make dist` makes this machine's image");
    }
    let plan = Plan {
        series: sensors.series(),
        shards: 1,
        commissioning_rows: args.common.commissioning_rows,
        roomy: false,
        parent: args.common.folder(),
    };
    let mut gateway = Gateway::start(binaries, &plan).await?;
    tokio::time::sleep(IDLE).await;
    let idle = Meter::start(gateway.pids()).stop();
    let step = (args.period_s * 1e9) as i64;
    let (warm, rows) = (args.common.warm_rows(), (args.hours * 3_600.0 / args.period_s) as u64);
    let began = SystemClock.now() - (warm + rows + 2) as i64 * step;
    super::say(&format!("footprint: warming up with {warm} rows of each of {} series", plan.series));
    feed::bulk(&mut gateway, &sensors, 0..warm, began, step).await?;
    let loaded = Meter::start(gateway.pids()).stop();
    let mut points = Vec::new();
    for point in 0..args.points {
        let part = |point: u64| warm + rows * point / args.points;
        let (from, to) = (part(point), part(point + 1));
        if from == to {
            continue;
        }
        let (meter, start) = (Meter::start(gateway.pids()), Instant::now());
        let at = began + from as i64 * step;
        let windows = feed::bulk(&mut gateway, &sensors, from..to, at, step).await?;
        let (used, seconds) = (meter.stop(), start.elapsed().as_secs_f64());
        let hours = (to - warm) as f64 * args.period_s / 3_600.0;
        let us_a_window = used.cpu_s_total() * 1e6 / windows as f64;
        super::say(&format!("{hours:.1} h: {:.1} MB, {us_a_window:.2} us of CPU a window", used.pss_mb_total()));
        points.push(json!({
            "hours": rounded(hours),
            "windows": windows,
            "pss_mb_total": used.pss_mb_total(),
            "cpu_us_per_window": rounded(us_a_window),
            "windows_per_s": rounded(windows as f64 / seconds),
            "generator_cpu_s": rounded(used.generator_cpu_s),
            "processes": used.json(),
        }));
    }
    let last = points.last().map_or(loaded.pss_mb_total().into(), |point| point["pss_mb_total"].clone());
    Ok(json!({
        "mode": "footprint",
        "profile": binaries.profile(),
        "series": sensors.series(),
        "period_s": args.period_s,
        "hours": args.hours,
        "commissioning_rows": args.common.commissioning_rows,
        "images_mb": images::here(&images),
        "idle_pss_mb": idle.pss_mb_total(),
        "commissioned_pss_mb": loaded.pss_mb_total(),
        "loaded_pss_mb": last,
        "idle_processes": idle.json(),
        "points": points,
        "images": images,
    }))
}
