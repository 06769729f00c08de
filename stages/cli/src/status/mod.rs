//! `eddy status`: how the gateway is, from its streams alone; so it works on any gateway that can be reached.

pub mod fold;
pub mod gather;
pub mod show;

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use eddy_schemas::{health::Health, models::State, search::IndexStats, sync::UplinkStats};
use serde::Serialize;

use crate::{gateway::GatewayArgs, output, rollout::seen::Seen};

/// Status' part of the command line.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// All of it as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Seconds over which rates are measured
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = parse_interval)]
    pub interval: f64,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

fn parse_interval(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.1..=60.0).contains(seconds));
    seconds.ok_or_else(|| "expected 0.1 to 60 seconds".into())
}

/// A stage on the path to an alert: what it writes.
struct PathStage {
    name: &'static str,
    output_stream: &'static str,
    output_prefix: &'static str,
}

/// The path, in its order.
const PATH: [PathStage; 4] = [
    PathStage { name: "capture", output_stream: "READINGS", output_prefix: "readings" },
    PathStage { name: "preprocess", output_stream: "SAMPLES", output_prefix: "samples" },
    PathStage { name: "embed", output_stream: "EMBEDDINGS", output_prefix: "embeddings" },
    PathStage { name: "detect", output_stream: "DETECTIONS", output_prefix: "scores" },
];

/// A gateway's streams, in the order of the path.
const STREAMS: [&str; 10] =
    ["INGEST", "CONTROL", "READINGS", "SAMPLES", "EMBEDDINGS", "DETECTIONS", "CONTEXT", "HEALTH", "REGION", "SIDE"];

/// The state of a gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Where it was asked.
    pub url: String,
    /// The site.
    pub site: String,
    /// Consumers of the stages.
    pub readers: Vec<Reader>,
    /// The last message on each output subject.
    pub checkpoints: Vec<Checkpoint>,
    /// The streams.
    pub streams: Vec<StreamUse>,
    /// The last alert's event, as it is written.
    pub last_alert: Option<serde_json::Value>,
    /// Conditions of devices that hold now.
    pub health: Vec<Health>,
    /// What the index holds; `None` if it does not answer.
    pub index: Option<IndexStats>,
    /// How the way to the region stands; `None` where there is no region, or sync does not answer.
    pub region: Option<UplinkStats>,
    /// Which bundles judge, and how one in the shadow does.
    pub bundles: Seen,
    /// How far the bundle is that was wanted last.
    pub wish: Option<State>,
    /// What `eddy up` does not start again, and how it ended.
    pub given_up: BTreeMap<String, String>,
    /// Per stage what it put aside.
    pub aside: BTreeMap<String, Aside>,
}

/// How far a stage is behind in one of its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reader {
    /// The consumer: the stage, and the shard where there is one.
    pub name: String,
    /// The stream that it reads.
    pub stream: String,
    /// Messages that it was not handed yet.
    pub lag_messages: u64,
    /// Messages that it was handed and did not ack.
    pub in_flight_messages: u64,
    /// Messages that it was handed per second.
    pub messages_per_s: u64,
    /// Whether it is asking for messages: the stage runs.
    pub connected: bool,
}

/// How far a stage has come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checkpoint {
    /// The stage.
    pub stage: String,
    /// The subject that it writes.
    pub subject: String,
    /// The input position that its last output reaches.
    pub reaches: Option<String>,
    /// How old that output is.
    pub age_s: f64,
}

/// How full a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamUse {
    /// Its name.
    pub name: String,
    /// Messages in it.
    pub messages: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Its bound.
    pub bytes_max: Option<u64>,
    /// Messages that came per second.
    pub messages_per_s: u64,
}

/// What a stage put aside and SIDE still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Aside {
    /// Readings that came too late.
    pub late_readings: u64,
    /// Refused inputs, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Why the last input was refused.
    pub last_refusal: Option<String>,
}

/// The command.
///
/// # Errors
/// If the gateway does not answer.
pub async fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let gateway = args.gateway.connect().await?;
    let status = gather::gather(&gateway, Duration::from_secs_f64(args.interval)).await?;
    if args.json {
        output::line(&serde_json::to_string(&status)?);
    } else {
        show::show(&status).iter().for_each(|line| output::line(line));
    }
    Ok(())
}
