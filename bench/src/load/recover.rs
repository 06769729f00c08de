//! `recover`: how long a gateway takes until it alerts (again): from an empty folder, after a kill, after an hour in which its stages were down.
//!
//! What is timed ends when a subscriber has the first alert about a fault that was sent after the kill, so that everything lies in it: starting,
//! reading state, replaying what no state held yet, and the way of the reading itself. Stages are started again by the bench, as `eddy up` would:
//! after the same wait.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use eddy_runtime::{
    client::ReadFrom,
    clock::{Clock as _, SystemClock},
};
use eddy_schemas::{ReadingsBuilder, SeriesName, Timestamp, alert::CloudEvent, names};
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};

use super::{
    Common,
    binaries::Binaries,
    feed::{self, ARROW},
    figures::{Figures, rounded},
    gateway::{Gateway, HOPS},
    journey,
    plan::Plan,
    sensors::{Faults, Sensors},
    usage::Meter,
};

/// Channels of a device.
const CHANNELS: usize = 3;
/// `gateway.restart_wait_ms_min` as it is shipped.
const RESTART_WAIT: Duration = Duration::from_millis(200);
/// How long the stages' last commit of state may take.
const COMMIT: Duration = Duration::from_millis(5_500);
/// An alert that has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is killed at once, by what it is called.
const CASES: [(&str, &[&str]); 6] = [
    ("nothing", &[]),
    ("capture", &["capture"]),
    ("preprocess", &["preprocess"]),
    ("embed", &["embed"]),
    ("detect", &["detect"]),
    ("all_stages", &["capture", "preprocess", "embed", "detect", "index"]),
];

/// `recover`'s part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RecoverArgs {
    /// Series
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(3..=100_000))]
    series: u32,
    /// Cold starts on an empty folder
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(0..=100))]
    starts: u16,
    /// How often each stage, all stages and the whole gateway are killed
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=100))]
    kills: u16,
    /// Hours of readings that arrive while all stages are down; 0: none
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Seconds of event time between two readings of a series
    #[arg(long, default_value_t = 60.0)]
    period_s: f64,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs it.
///
/// # Errors
/// Bad arguments, a gateway that does not come up or does not keep going, alerts that do not come.
pub(crate) async fn run(args: &RecoverArgs, binaries: &Binaries) -> Result<Value> {
    if !(0.001..=86_400.0).contains(&args.period_s) || !(0.0..=168.0).contains(&args.hours) {
        bail!("--period-s takes 0.001 to 86400, --hours 0 to 168");
    }
    let (mut up, mut first) = (Vec::new(), Vec::new());
    for start in 1..=args.starts {
        super::say(&format!("recover: cold start {start} of {}", args.starts));
        let [up_s, alert_s] = cold_start(args, binaries).await?;
        up.push(up_s);
        first.push(alert_s);
    }
    let (up, first) = (Figures::new(up), Figures::new(first));
    let mut fleet = Fleet::start(args, binaries).await?;
    let mut restarts = serde_json::Map::new();
    let mut killed = Vec::new();
    for (name, stages) in CASES.into_iter().filter(|_| args.kills > 0) {
        let mut seconds = Vec::new();
        for _ in 0..args.kills {
            seconds.push(fleet.restart(name, stages).await?);
        }
        if !stages.is_empty() {
            killed.extend_from_slice(&seconds);
        }
        restarts.insert(name.to_owned(), Figures::new(seconds).json());
    }
    let mut gateway = Vec::new();
    for _ in 0..args.kills {
        gateway.push(fleet.restart_gateway().await?);
    }
    let backlog = if args.hours > 0.0 { fleet.backlog(args).await? } else { Value::Null };
    Ok(json!({
        "mode": "recover",
        "profile": binaries.profile(),
        "series": fleet.sensors.series(),
        "period_s": args.period_s,
        "commissioning_rows": args.common.commissioning_rows,
        "restart_wait_ms": RESTART_WAIT.as_millis() as u64,
        "start_up_s": up.quantile(0.5).map(rounded),
        "start_first_alert_s": first.quantile(0.5).map(rounded),
        "restart_worst_s": Figures::new(killed).quantile(1.0).map(rounded),
        "restart_gateway_s": Figures::new(gateway).quantile(1.0).map(rounded),
        "starts_first_alert_s": first.json(),
        "restarts_s": restarts,
        "backlog": backlog,
    }))
}

/// Seconds from the start of `eddy up` on an empty folder until all of it is up, and until the first alert of a device that is commissioned with
/// what it sends at once, and then at fault.
async fn cold_start(args: &RecoverArgs, binaries: &Binaries) -> Result<[f64; 2]> {
    let sensors = Sensors::new(1, CHANNELS);
    let (warm, step) = (args.common.warm_rows(), step(args));
    let began = Instant::now();
    let gateway = Gateway::start(binaries, &plan(args, &sensors)).await?;
    let up_s = began.elapsed().as_secs_f64();
    let alerts = alerts(&gateway).await?;
    let first = SystemClock.now() - (warm as i64 + 3) * step;
    let mut batch = ReadingsBuilder::default();
    for row in 0..=warm {
        sensors.push(&mut batch, 0..1, row, first + row as i64 * step, &fault_at(warm));
    }
    gateway.client.publish(&feed::subject(), &[("Content-Type", ARROW)], batch.encode().into()).await?;
    heard(alerts, "dev-00000").await?;
    Ok([up_s, began.elapsed().as_secs_f64()])
}

fn step(args: &RecoverArgs) -> i64 {
    (args.period_s * 1e9) as i64
}

fn plan(args: &RecoverArgs, sensors: &Sensors) -> Plan {
    Plan {
        series: sensors.series(),
        shards: 1,
        commissioning_rows: args.common.commissioning_rows,
        roomy: true,
        parent: args.common.folder(),
    }
}

/// One device is at fault from this row on: the one with the row's number.
fn fault_at(row: u64) -> Faults {
    Faults { first: row, rows: 1, share: 0.0 }
}

/// What is said from now on.
async fn alerts(gateway: &Gateway) -> Result<impl Stream<Item = Result<CloudEvent>> + use<>> {
    let alerts = gateway.client.follow("DETECTIONS", &["alerts.>"], ReadFrom::New).await?;
    Ok(alerts.map(|alert| serde_json::from_slice(&alert?.payload).context("an alert")))
}

/// Waits for the first alert about a device.
async fn heard(alerts: impl Stream<Item = Result<CloudEvent>>, device: &str) -> Result<()> {
    let mut alerts = std::pin::pin!(alerts);
    let heard = async {
        while let Some(event) = alerts.next().await {
            if event?.data.device == device {
                return Ok(());
            }
        }
        bail!("the subscription ended")
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await;
    heard.with_context(|| format!("no alert about {device} within {} s", PATIENCE.as_secs()))?
}

/// A gateway with a commissioned fleet.
struct Fleet {
    gateway: Gateway,
    sensors: Sensors,
    step: i64,
    /// The time of row 0.
    began: Timestamp,
    /// The next row.
    row: u64,
}

impl Fleet {
    async fn start(args: &RecoverArgs, binaries: &Binaries) -> Result<Self> {
        let sensors = Sensors::new(args.series as usize / CHANNELS, CHANNELS);
        let (warm, step) = (args.common.warm_rows(), step(args));
        let kills = u64::from(args.kills) * (CASES.len() as u64 + 1) * 2;
        let began = SystemClock.now() - (warm + kills + backlog_rows(args) + 4) as i64 * step;
        let mut gateway = Gateway::start(binaries, &plan(args, &sensors)).await?;
        super::say(&format!("recover: warming up with {warm} rows of each of {} series", sensors.series()));
        feed::bulk(&mut gateway, &sensors, 0..warm, began, step).await?;
        Ok(Self { gateway, sensors, step, began, row: warm })
    }

    fn time(&self, row: u64) -> Timestamp {
        self.began + row as i64 * self.step
    }

    /// One row of every series, so that a stage has something to replay that its state may not hold.
    async fn next_row(&mut self) -> Result<()> {
        tokio::time::sleep(COMMIT).await;
        let time = self.time(self.row);
        feed::bulk(&mut self.gateway, &self.sensors, self.row..self.row + 1, time, self.step).await?;
        self.row += 1;
        Ok(())
    }

    /// The next row of the one device that is at fault there; its name.
    async fn send_fault(&mut self) -> Result<String> {
        let device = (self.row % self.sensors.devices as u64) as usize;
        let mut batch = ReadingsBuilder::default();
        self.sensors.push(&mut batch, device..device + 1, self.row, self.time(self.row), &fault_at(self.row));
        self.row += 1;
        let headers = [("Content-Type", ARROW)];
        self.gateway.client.publish(&feed::subject(), &headers, batch.encode().into()).await?;
        Ok(device_of(&self.sensors, device))
    }

    /// Seconds from the kill of some stages to an alert about what was sent after it.
    async fn restart(&mut self, name: &str, stages: &[&str]) -> Result<f64> {
        self.next_row().await?;
        let alerts = alerts(&self.gateway).await?;
        let began = Instant::now();
        if !stages.is_empty() {
            self.gateway.kill(stages).await?;
        }
        let device = self.send_fault().await?;
        if !stages.is_empty() {
            tokio::time::sleep(RESTART_WAIT.saturating_sub(began.elapsed())).await;
        }
        for stage in stages {
            self.gateway.resume(stage)?;
        }
        heard(alerts, &device).await.with_context(|| format!("{name} was killed; {}", self.said(stages)))?;
        let seconds = began.elapsed().as_secs_f64();
        super::say(&format!("killed {name}: an alert after {seconds:.2} s"));
        self.gateway.settle(HOPS.len()).await?;
        Ok(seconds)
    }

    fn said(&self, stages: &[&str]) -> String {
        stages.last().map_or_else(String::new, |stage| self.gateway.last_words(stage))
    }

    /// The same of everything, with the server and the supervisor, which starts all of it again.
    async fn restart_gateway(&mut self) -> Result<f64> {
        self.next_row().await?;
        let began = Instant::now();
        self.gateway.kill_all().await?;
        let alerts = alerts(&self.gateway).await?;
        let device = self.send_fault().await?;
        heard(alerts, &device).await.context("everything was killed")?;
        let seconds = began.elapsed().as_secs_f64();
        super::say(&format!("killed everything: an alert after {seconds:.2} s"));
        self.gateway.settle(HOPS.len()).await?;
        Ok(seconds)
    }

    /// Stages that were down while readings arrived.
    async fn backlog(&mut self, args: &RecoverArgs) -> Result<Value> {
        let stages = HOPS.map(|hop| hop.stage);
        for stage in stages {
            self.gateway.suspend(stage).await?;
        }
        let rows = self.row..self.row + backlog_rows(args);
        super::say(&format!("recover: {} rows of each series while the stages are down", rows.end - rows.start));
        let sent = feed::pour(&self.gateway, &self.sensors, rows.clone(), self.time(rows.start), self.step).await?;
        self.row = rows.end;
        let device = self.send_fault().await?;
        let alerts = alerts(&self.gateway).await?;
        let before = self.gateway.last_sequence("DETECTIONS").await?;
        let (start, began) = (SystemClock.now(), Instant::now());
        for stage in stages {
            self.gateway.resume(stage)?;
        }
        let meter = Meter::start(self.gateway.pids());
        heard(alerts, &device).await.context("after the backlog")?;
        let alert_s = began.elapsed().as_secs_f64();
        self.gateway.settle(HOPS.len()).await?;
        let used = meter.stop();
        let scored = journey::stamps(&self.gateway.url, "DETECTIONS", &HOPS[3].subject(), before + 1).await?;
        let end = scored.last().map_or(start, |last| last.stored_at);
        let seconds = (end - start) as f64 / 1e9;
        let rows_per_s = sent as f64 / seconds;
        Ok(json!({
            "hours": args.hours,
            "rows": sent,
            "caught_up_s": rounded(seconds),
            "first_alert_s": rounded(alert_s),
            "rows_per_s": rounded(rows_per_s),
            "rows_came_per_s": rounded(self.sensors.series() as f64 / args.period_s),
            "pss_mb_total": used.pss_mb_total(),
            "processes": used.json(),
        }))
    }
}

fn backlog_rows(args: &RecoverArgs) -> u64 {
    (args.hours * 3_600.0 / args.period_s) as u64
}

/// A device's name, as alerts tell it.
fn device_of(sensors: &Sensors, device: usize) -> String {
    names::decode(SeriesName::device_token(sensors.name(device * sensors.channels)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_at_fault_is_the_one_that_is_waited_for() {
        let sensors = Sensors::new(5, CHANNELS);
        for row in [204_u64, 208, 211] {
            let at_fault = |device: usize| sensors.value(device * CHANNELS, row, &fault_at(row)) > 10.0;
            let devices: Vec<usize> = (0..5).filter(|device| at_fault(*device)).collect();
            assert_eq!(devices, [(row % 5) as usize]);
            assert_eq!(device_of(&sensors, devices[0]), format!("dev-{:05}", row % 5));
        }
    }
}
