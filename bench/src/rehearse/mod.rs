//! `eddy-eval rehearse`: a new bundle and the old one over the newest readings of a gateway, before it is activated there.
//!
//! Both run here, message by message, on the samples of one preprocess; which goes first changes with every message, and each is timed
//! by the CPU time of this thread. The gateway's stages see nothing of it. Both begin as on a new gateway: every series commissions
//! itself on the tail's first rows, and alerts of that time do not exist on either side.
//!
//! Both bundles are opened whether they are signed or not: who asks has verified them.

pub mod judge;
mod sample;
mod side;
mod tail;

use std::{fmt, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use eddy_cli::gateway::{Gateway, GatewayArgs};
use eddy_preprocess::Preprocess;
use eddy_runtime::{bus::nats::NatsBus, config, identity::Identity, stage::Stage as _};
use eddy_schemas::{Timestamp, rfc3339};
use serde::Serialize;

use crate::{
    offline::Front,
    pipeline::{Pipeline, Settings},
};
use judge::{Limits, Verdict};
use sample::Sample;
use side::{Side, SideReport};
use tail::{Tail, Wanted};

/// What is rehearsed, and on what.
#[derive(Clone, Debug, clap::Args)]
pub struct RehearseArgs {
    /// Folder of the bundle that runs
    #[arg(long, value_name = "DIR")]
    pub old: PathBuf,
    /// Folder of the one that is to run
    #[arg(long, value_name = "DIR")]
    pub new: PathBuf,
    /// At most so many of the newest rows of READINGS
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub rows: u64,
    /// Only rows that arrived in so many minutes before the newest one
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=5_256_000))]
    pub minutes: Option<u32>,
    /// Only the devices that are met first, until they have so many series: each takes some 60 KB of memory for both bundles
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub series_max: u32,
    /// The config file of the gateway's stages [default: that of the gateway in --dir]
    #[arg(long, short, env = "EDDY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// What is borne.
    #[command(flatten)]
    pub limits: Limits,
    /// Which gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What a rehearsal tells.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What is said of the new bundle.
    pub verdict: Verdict,
    /// Every reason for it.
    pub reasons: Vec<String>,
    /// Rows of READINGS, controls included.
    pub rows: u64,
    /// Messages that held them.
    pub messages: u64,
    /// Arrival of the oldest and the newest row: RFC 3339, UTC.
    pub from: Option<String>,
    /// The newest.
    pub to: Option<String>,
    /// Series that were scored.
    pub series: usize,
    /// Rows of devices beyond `--series-max`.
    pub rows_left_out: u64,
    /// Rows that came after their place had gone out: neither side saw them.
    pub late: u64,
    /// What was borne.
    pub limits: Limits,
    /// The bundle that runs.
    pub old: SideReport,
    /// The one that is to run; `None` if it cannot be opened or does not fit.
    pub new: Option<SideReport>,
}

/// Reads the tail and runs both bundles over it.
///
/// # Errors
/// That the gateway does not answer, or holds no readings; what is wrong with the old bundle or the configuration.
pub fn run(args: &RehearseArgs) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(rehearse(args))
}

async fn rehearse(args: &RehearseArgs) -> Result<Report> {
    let gateway = args.gateway.connect().await?;
    let config_file = args.config.clone().or_else(|| gateway.file.as_ref()?.config_file.clone());
    let settings = |bundle: &PathBuf| Settings {
        config: config_file.clone(),
        bundle: Some(bundle.clone()),
        ..Settings::default()
    };
    let pipeline = Pipeline::new(&settings(&args.old)).context("the old bundle")?;
    let front = Front::new(&pipeline, &gateway.site)?;
    let old = Side::new(pipeline, &gateway.site)?;
    let new = Pipeline::new(&settings(&args.new)).and_then(|pipeline| Side::new(pipeline, &gateway.site));
    let mut new = match new {
        Ok(new) => new,
        Err(error) => return Ok(unopened(args, old, format!("it fails: {error:#}"))),
    };
    let mut tail = open(args, &gateway, config_file.as_ref()).await?;
    let mut run = Run { front, old, sample: Sample::new(args.series_max as usize), read: Read::default() };
    loop {
        let messages = tail.next().await?;
        if messages.is_empty() && tail.left() == 0 {
            break;
        }
        for message in messages {
            run.take(&mut new, &message.payload)?;
        }
    }
    ensure!(run.read.rows > 0, "READINGS of site {} holds no rows", gateway.site);
    Ok(run.report(args, new))
}

/// The tail that is asked for.
async fn open(args: &RehearseArgs, gateway: &Gateway, config_file: Option<&PathBuf>) -> Result<Tail> {
    let Some(stream) = gateway.client.stream("READINGS").await? else {
        bail!("no stream READINGS: was the gateway provisioned (`eddy up`)?");
    };
    let of_bus = std::env::vars().filter(|(name, _)| name.starts_with("EDDY_BUS_"));
    let loaded = config::load::<<Preprocess as eddy_runtime::stage::Stage>::Config>(
        Preprocess::SPEC.name,
        Preprocess::DEFAULTS,
        config_file.map(PathBuf::as_path),
        of_bus,
    );
    let mut bus = loaded?.0.bus;
    gateway.client.url().clone_into(&mut bus.url);
    match args.gateway.bus.identity(gateway.file.as_ref()) {
        Identity::Credentials(file) => bus.credentials_file = file,
        Identity::NKey(file) => bus.nkey_file = file,
        Identity::Nobody => {}
    }
    let bus = NatsBus::connect(&bus, "eddy-rehearse").await?;
    let span = args.minutes.map(|minutes| i64::from(minutes) * 60_000_000_000);
    let wanted = Wanted { rows: args.rows, span };
    Tail::find(bus, &gateway.site_token(), stream.first_sequence, stream.last_sequence, wanted).await
}

/// What was read.
#[derive(Default)]
struct Read {
    rows: u64,
    messages: u64,
    arrival: Option<(Timestamp, Timestamp)>,
}

struct Run {
    front: Front,
    old: Side,
    sample: Sample,
    read: Read,
}

impl Run {
    /// A message of READINGS through both.
    fn take(&mut self, new: &mut Side, payload: &bytes::Bytes) -> Result<()> {
        let readings = eddy_schemas::Readings::decode(payload)?;
        self.read.rows += readings.rows.len() as u64;
        self.read.messages += 1;
        for arrival in readings.arrival.iter().copied() {
            let (from, to) = self.read.arrival.unwrap_or((arrival, arrival));
            self.read.arrival = Some((from.min(arrival), to.max(arrival)));
        }
        for samples in self.front.readings(self.sample.of(&readings)) {
            // The second finds the samples in the cache.
            if self.read.messages.is_multiple_of(2) {
                self.old.take(samples.clone())?;
                new.take(samples)?;
            } else {
                new.take(samples.clone())?;
                self.old.take(samples)?;
            }
        }
        Ok(())
    }

    fn report(self, args: &RehearseArgs, new: Side) -> Report {
        let series = self.old.series().max(new.series());
        let (old, new) = (self.old.report(), new.report());
        let (verdict, reasons) = judge::judge(&old.measured, &new.measured, &args.limits);
        Report {
            verdict,
            reasons,
            rows: self.read.rows,
            messages: self.read.messages,
            from: self.read.arrival.map(|(from, _)| rfc3339(from)),
            to: self.read.arrival.map(|(_, to)| rfc3339(to)),
            series,
            rows_left_out: self.sample.left_out,
            late: self.front.aside.late,
            limits: args.limits,
            old,
            new: Some(new),
        }
    }
}

/// Of a bundle with which nothing can be run.
fn unopened(args: &RehearseArgs, old: Side, reason: String) -> Report {
    Report {
        verdict: Verdict::Refused,
        reasons: vec![reason],
        rows: 0,
        messages: 0,
        from: None,
        to: None,
        series: 0,
        rows_left_out: 0,
        late: 0,
        limits: args.limits,
        old: old.report(),
        new: None,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(from), Some(to)) = (&self.from, &self.to) {
            let Self { rows, messages, series, .. } = self;
            writeln!(f, "{rows} rows in {messages} messages that arrived {from} to {to}; {series} series scored")?;
            if self.rows_left_out > 0 {
                writeln!(f, "{} rows are of devices that were left out (--series-max)", self.rows_left_out)?;
            }
        }
        for (name, side) in [("old", Some(&self.old)), ("new", self.new.as_ref())] {
            if let Some(side) = side {
                writeln!(f, "{name}: {side}")?;
            }
        }
        for reason in &self.reasons {
            writeln!(f, "  {reason}")?;
        }
        let verdict = match self.verdict {
            Verdict::Accepted => "accepted",
            Verdict::Refused => "refused",
            Verdict::TooShort => "too_short",
        };
        write!(f, "rehearse: {verdict}")
    }
}
