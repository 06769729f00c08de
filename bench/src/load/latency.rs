//! `latency`: from sensor to alert, hop by hop, beside the bare floor of the same run.
//!
//! Rounds of the real pipeline and of the floor alternate on one server; whichever is not measured is idle. The sensor's
//! time is when its message was due, so a sender that is held up makes the figures worse; so does everything up to the
//! subscriber, a JetStream consumer, which sees a message only once it is on disk.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use eddy_runtime::{
    client::ReadFrom,
    clock::{Clock as _, SystemClock},
};
use eddy_schemas::{Timestamp, alert::CloudEvent};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{
    Common,
    binaries::Binaries,
    collected::Collected,
    feed::{self, Spread},
    figures::{Figures, ms, rounded},
    floor,
    gateway::{Gateway, HOPS},
    journey,
    plan::Plan,
    sensors::{Faults, Sensors},
    usage::{Meter, Used},
};

/// Seconds of every round that are sent but not measured.
const LEAD_S: f64 = 2.0;
/// How long the stages' last commit of state may take after a round.
const COMMIT: Duration = Duration::from_millis(5_500);

/// `latency`'s part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LatencyArgs {
    /// Devices; several numbers, separated by commas, make a table
    #[arg(long, value_delimiter = ',', default_values_t = [10_000])]
    devices: Vec<usize>,
    /// Channels of each device
    #[arg(long, default_value_t = 3)]
    channels: usize,
    /// Readings a second of each channel (0.01 to 100)
    #[arg(long, default_value_t = 1.0)]
    hz: f64,
    /// Seconds that are measured, all rounds together
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Rounds of real pipeline and floor, one after the other
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Part of the readings that come after a newer one of their series
    #[arg(long, default_value_t = 0.01)]
    out_of_order: f64,
    /// Part of the devices that have a fault in each round
    #[arg(long, default_value_t = 0.05)]
    faults: f64,
    /// Where readings enter
    #[arg(long, value_enum, default_value_t = Source::Ingest)]
    source: Source,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Where readings enter the gateway.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Source {
    /// Published on `ingest.<site>.<device>`.
    Ingest,
}

impl LatencyArgs {
    fn check(&self) -> Result<()> {
        if !(0.01..=100.0).contains(&self.hz) {
            bail!("--hz {}: 0.01 to 100 is taken", self.hz);
        }
        if !(0.0..=0.3).contains(&self.out_of_order) || !(0.0..=1.0).contains(&self.faults) {
            bail!("--out-of-order takes 0 to 0.3, --faults 0 to 1");
        }
        if self.devices.is_empty() || self.devices.contains(&0) || self.channels == 0 || self.rounds == 0 {
            bail!("--devices, --channels and --rounds take at least 1");
        }
        if self.seconds * self.hz < f64::from(self.rounds) {
            bail!("--seconds {}: at least one reading a series and round", self.seconds);
        }
        Ok(())
    }
}

/// Runs it.
///
/// # Errors
/// Bad arguments, a gateway that does not come up or does not keep going.
pub(crate) async fn run(args: &LatencyArgs, binaries: &Binaries) -> Result<Value> {
    args.check()?;
    let Source::Ingest = args.source;
    let mut runs = Vec::new();
    for devices in &args.devices {
        runs.push(measure(args, binaries, *devices).await?);
    }
    Ok(super::merged(runs))
}

/// All rounds together.
#[derive(Debug, Default)]
struct Measured {
    alerts: Vec<f64>,
    /// About times at which a reading of the device was held back, by its sensor and not by the pipeline.
    held_alerts: Vec<f64>,
    delivery: Vec<f64>,
    /// Per message: due, stored in the five streams.
    ways: Vec<Vec<Timestamp>>,
    floor: Vec<Vec<Timestamp>>,
    lateness: Vec<f64>,
    floor_lateness: Vec<f64>,
    rows: u64,
    late_rows: u64,
    seconds: f64,
    used: Used,
    ratios: [f64; floor::HOPS],
    bytes: [u64; HOPS.len() + 1],
    messages: [u64; HOPS.len() + 1],
}

async fn measure(args: &LatencyArgs, binaries: &Binaries, devices: usize) -> Result<Value> {
    let sensors = Sensors::new(devices, args.channels);
    let common = &args.common;
    let plan = Plan {
        series: sensors.series(),
        shards: 1,
        commissioning_rows: common.commissioning_rows,
        roomy: true,
        parent: common.folder(),
    };
    let mut gateway = Gateway::start(binaries, &plan).await?;
    let step = (1e9 / args.hz) as i64;
    let warm = common.warm_rows();
    super::say(&format!("latency: {devices} devices; warming up with {warm} rows of each of {} series", plan.series));
    let began = SystemClock.now() - (warm as i64 + 3) * step;
    feed::bulk(&mut gateway, &sensors, 0..warm, began, step).await?;
    tokio::time::sleep(COMMIT).await;
    let (mut measured, mut row) = (Measured::default(), warm);
    let rows = ((args.seconds * args.hz / f64::from(args.rounds)).round() as u64).max(1);
    let lead = (LEAD_S * args.hz).ceil() as u64;
    for round in 1..=args.rounds {
        super::say(&format!("round {round} of {}: pipeline", args.rounds));
        let faults = Faults { first: row + lead, rows, share: args.faults };
        pipeline(args, &mut gateway, &sensors, lead, faults, &mut measured).await?;
        tokio::time::sleep(COMMIT).await;
        super::say(&format!("round {round} of {}: floor", args.rounds));
        let mut spread = Spread::new(&sensors, args.hz, args.out_of_order, row, faults);
        let ticks = spread.ticks(lead + rows);
        let make = |tick, time| spread.message(tick, time);
        let run = floor::run(&gateway, &binaries.bench, &measured.ratios, ticks, make).await?;
        measured.floor_lateness.extend(run.lateness.iter().map(|late| ms(*late)));
        let from = run.ways.first().map_or(0, |way| way[0]) + lead as i64 * step;
        measured.floor.extend(run.ways.into_iter().filter(|way| way[0] >= from));
        row += lead + rows;
    }
    Ok(told(args, binaries, &sensors, &measured))
}

/// One round of the real pipeline.
async fn pipeline(
    args: &LatencyArgs,
    gateway: &mut Gateway,
    sensors: &Sensors,
    lead: u64,
    faults: Faults,
    measured: &mut Measured,
) -> Result<()> {
    let mut before = vec![gateway.last_sequence("INGEST").await?];
    for hop in HOPS {
        before.push(gateway.last_sequence(hop.output).await?);
    }
    let alerts = gateway.client.follow("DETECTIONS", &["alerts.>"], ReadFrom::New).await?;
    let alerts = Collected::of(alerts.map(|alert| anyhow::Ok((SystemClock.now(), alert?))));
    let mut spread = Spread::new(sensors, args.hz, args.out_of_order, faults.first - lead, faults);
    let ticks = spread.ticks(lead + faults.rows);
    let meter = Meter::start(gateway.pids());
    let sent = feed::paced(&gateway.client, &feed::subject(), ticks, |tick, time| spread.message(tick, time)).await;
    let sent = sent.with_context(|| gateway.last_words("nats-server"))?;
    let mut used = meter.stop();
    gateway.settle(HOPS.len()).await?;
    used.add(&measured.used);
    measured.used = used;
    measured.rows += spread.rows;
    measured.late_rows += spread.late_rows;
    measured.seconds += ticks as f64 * feed::TICK.as_secs_f64();
    let from = sent.first().map_or(0, |sent| sent.due) + (lead as f64 * 1e9 / args.hz) as i64;
    measured.lateness.extend(sent.iter().map(|sent| ms(sent.lateness)));
    // The last alert may be on its way still; it is not the stream's last message, so there is nothing to wait for by name.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for (received, alert) in alerts.take(|(_, alert)| alert.sequence, 0).await? {
        let event: CloudEvent = serde_json::from_slice(&alert.payload).context("an alert")?;
        let time: jiff::Timestamp = event.time.parse().context("an alert's time")?;
        // Event times of this run lie within i64's 292 years around 1970.
        let time = time.as_nanosecond() as i64;
        if time >= from {
            let of_held = spread.held_back.contains(&(eddy_schemas::names::encode(&event.data.device), time));
            let alerts = if of_held { &mut measured.held_alerts } else { &mut measured.alerts };
            alerts.push(ms(received - time));
            measured.delivery.push(ms(received - alert.stored_at));
        }
    }
    let mut stamps = vec![journey::stamps(&gateway.url, "INGEST", "ingest.>", before[0] + 1).await?];
    for (hop, before) in HOPS.iter().zip(&before[1..]) {
        stamps.push(journey::stamps(&gateway.url, hop.output, &hop.subject(), before + 1).await?);
    }
    for (at, stamps) in stamps.iter().enumerate() {
        measured.bytes[at] += stamps.iter().map(|stamp| stamp.bytes).sum::<u64>();
        measured.messages[at] += stamps.len() as u64;
    }
    for (hop, ratio) in measured.ratios.iter_mut().enumerate() {
        *ratio = measured.bytes[hop + 1] as f64 / measured.bytes[hop].max(1) as f64;
    }
    let first: Vec<(u64, Timestamp)> = stamps[0].iter().map(|stamp| (stamp.sequence, stamp.stored_at)).collect();
    let chain: Vec<_> = HOPS.iter().map(|hop| hop.input).zip(stamps.into_iter().skip(1)).collect();
    let ways = journey::journeys(&first, &chain);
    if ways.len() != sent.len() {
        bail!(
            "{} messages were sent, {} came through: the streams are cut, or somebody else sends",
            sent.len(),
            ways.len()
        );
    }
    let whole = sent.iter().zip(ways).map(|(sent, way)| [sent.due].into_iter().chain(way).collect::<Vec<_>>());
    measured.ways.extend(whole.filter(|way| way[0] >= from));
    Ok(())
}

/// Milliseconds from column `a` to column `b`.
fn between(ways: &[Vec<Timestamp>], a: usize, b: usize) -> Figures {
    Figures::new(ways.iter().map(|way| ms(way[b] - way[a])).collect())
}

fn told(args: &LatencyArgs, binaries: &Binaries, sensors: &Sensors, measured: &Measured) -> Value {
    let alerts = Figures::new(measured.alerts.clone());
    let floor = between(&measured.floor, 0, HOPS.len() + 2);
    let at = |figures: &Figures, share| figures.quantile(share).map(rounded);
    let names = ["publish"].into_iter().chain(HOPS.iter().map(|hop| hop.stage));
    let mut hops: serde_json::Map<String, Value> = names
        .clone()
        .enumerate()
        .map(|(hop, name)| (name.to_owned(), between(&measured.ways, hop, hop + 1).json()))
        .collect();
    hops.insert("delivery".into(), Figures::new(measured.delivery.clone()).json());
    let floor_hops: serde_json::Map<String, Value> = names
        .chain(["delivery"])
        .enumerate()
        .map(|(hop, name)| (name.to_owned(), between(&measured.floor, hop, hop + 1).json()))
        .collect();
    let bytes: Vec<u64> = measured.bytes.iter().zip(&measured.messages).map(|(b, n)| b / n.max(&1)).collect();
    json!({
        "mode": "latency",
        "profile": binaries.profile(),
        "devices": sensors.devices,
        "series": sensors.series(),
        "hz": args.hz,
        "seconds": args.seconds,
        "commissioning_rows": args.common.commissioning_rows,
        "p50_ms": at(&alerts, 0.5),
        "p99_ms": at(&alerts, 0.99),
        "max_ms": at(&alerts, 1.0),
        "alerts": alerts.len(),
        "held_back_alerts_ms": Figures::new(measured.held_alerts.clone()).json(),
        "floor_p50_ms": at(&floor, 0.5),
        "floor_p99_ms": at(&floor, 0.99),
        "floor_max_ms": at(&floor, 1.0),
        "scored_ms": between(&measured.ways, 0, HOPS.len() + 1).json(),
        "hops_ms": hops,
        "floor_hops_ms": floor_hops,
        "message_bytes_mean": bytes,
        "messages": measured.messages,
        "readings_per_s": rounded(measured.rows as f64 / measured.seconds),
        "out_of_order_rows": measured.late_rows,
        "generator_late_ms": Figures::new(measured.lateness.clone()).json(),
        "floor_generator_late_ms": Figures::new(measured.floor_lateness.clone()).json(),
        "generator_cpu_s": rounded(measured.used.generator_cpu_s),
        "measured_s": measured.seconds,
        "pss_mb_total": measured.used.pss_mb_total(),
        "processes": measured.used.json(),
    })
}
