//! `eddy doctor index`: is what the index keeps what its streams say?

use anyhow::Context as _;
use clap::Args;
use eddy_runtime::{client::ReadFrom, position::Position};
use eddy_schemas::{
    Scores,
    search::{CheckAnswer, CheckRequest},
};
use futures_util::StreamExt as _;

use crate::{
    gateway::{Gateway, GatewayArgs},
    output,
};

/// How the index is checked.
#[derive(Args, Clone, Debug)]
pub struct IndexArgs {
    /// So many windows are asked for by their own vectors
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: u32,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Sound {
    /// What is wrong.
    pub problems: Vec<String>,
    /// Windows that it has of what DETECTIONS still holds.
    windows: u64,
    /// How many of these DETECTIONS tells.
    told: u64,
    /// How far it had come.
    position: String,
}

/// The command.
///
/// # Errors
/// That something is wrong, or that the index does not answer.
pub async fn run(args: &IndexArgs) -> anyhow::Result<()> {
    let gateway = args.gateway.connect().await?;
    let Sound { problems, windows, told, position } = check(&gateway, args.sample as usize).await?;
    if args.json {
        let found = serde_json::json!({"problems": problems, "windows": windows, "told": told, "position": position});
        output::line(&found.to_string());
    } else {
        problems.iter().for_each(|problem| output::line(&output::printable(problem)));
        output::line(&format!("index: {windows} windows for the {told} that DETECTIONS still tells"));
    }
    anyhow::ensure!(problems.is_empty(), "the index is not sound: stop the stage, then `eddy-index recover`");
    Ok(())
}

/// Asks the index, and the stream that it is made of.
///
/// # Errors
/// That one of them does not answer.
pub async fn check(gateway: &Gateway, sample: usize) -> anyhow::Result<Sound> {
    let info = gateway.client.stream("DETECTIONS").await?.context("the gateway has no stream DETECTIONS")?;
    let request = CheckRequest { from_sequence: info.first_sequence, sample };
    let subject = format!("eddy.search.{}.check", gateway.site_token());
    let answer = gateway.client.request(&subject, serde_json::to_vec(&request)?.into()).await?;
    let answer: CheckAnswer = serde_json::from_slice(&answer).context("the index's answer is of another release")?;
    let position: Position = answer.position.parse().unwrap_or_default();
    let reached = position.place("DETECTIONS").map_or(0, |place| place.sequence);
    let told = told(gateway, reached).await?;
    let mut problems = answer.problems;
    // What came while it was asked may be in it already.
    if answer.windows_from < told {
        problems.push(format!(
            "it holds {} windows of messages {} to {reached} of DETECTIONS, which tell {told}",
            answer.windows_from, info.first_sequence
        ));
    }
    Ok(Sound { problems, windows: answer.windows_from, told, position: answer.position })
}

/// How many windows DETECTIONS tells up to a message.
async fn told(gateway: &Gateway, reached: u64) -> anyhow::Result<u64> {
    let filter = format!("scores.{}.*", gateway.site_token());
    let mut messages = gateway.client.read("DETECTIONS", &[&filter], ReadFrom::Start).await?;
    let mut told = 0;
    while let Some(message) = messages.next().await {
        let message = message?;
        if message.sequence > reached {
            break;
        }
        let Ok(scores) = Scores::decode(&message.payload) else { continue };
        told += (0..scores.rows.len()).filter(|row| scores.window(*row).is_some()).count() as u64;
    }
    Ok(told)
}
