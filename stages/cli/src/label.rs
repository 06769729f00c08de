//! `eddy label`: an operator's word about an alert.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use eddy_runtime::client::ReadFrom;
use eddy_schemas::{
    ControlKind,
    alert::CloudEvent,
    search::{Like, SearchRequest},
};
use futures_util::StreamExt as _;

use crate::{
    alerts::alerts_of,
    device,
    gateway::{Gateway, GatewayArgs},
    output, query,
};

/// Label's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct LabelArgs {
    /// The alert: the last column of `eddy alerts`
    pub alert: String,
    /// What it was
    #[command(subcommand)]
    pub word: Word,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What an alert was.
#[derive(Subcommand, Clone, Debug)]
pub enum Word {
    /// Nothing: it closes, and the pattern does not alert again
    Normal,
    /// A fault, by its name
    Fault {
        /// Any name but `normal`
        name: String,
    },
}

/// A label as it is stored: `normal`, however it is written, or a fault's name.
///
/// # Errors
/// That it is none.
pub fn word(text: &str) -> Result<&str, String> {
    let text = text.trim();
    let is_name = !text.is_empty() && text != "*" && text.len() <= 200 && text == output::printable(text);
    if !is_name {
        return Err(
            "this is no label: `normal` or a fault's name of 1 to 200 printable bytes is taken, but not `*`".into()
        );
    }
    Ok(if text.eq_ignore_ascii_case(NORMAL) { NORMAL } else { text })
}

/// The label that is no fault.
const NORMAL: &str = "normal";

/// The command.
///
/// # Errors
/// If there is no such alert, or the label is not stored.
pub async fn run(args: &LabelArgs) -> anyhow::Result<()> {
    let label = match &args.word {
        Word::Normal => NORMAL.to_owned(),
        Word::Fault { name } => {
            let label = word(name).map_err(anyhow::Error::msg)?;
            anyhow::ensure!(label != NORMAL, "{name:?} is no fault's name: `eddy label ALERT normal` says so");
            label.to_owned()
        }
    };
    let gateway = args.gateway.connect().await?;
    let device = device_of(&gateway, &args.alert).await?;
    let what = format!("alert {} was {}", args.alert, output::printable(&label));
    let kind = ControlKind::Label { device, alert: args.alert.clone(), label };
    device::say(&gateway, kind, crate::now(), &what).await
}

/// The device of an alert: by the alert itself, or, where that is gone, by what the index remembers.
async fn device_of(gateway: &Gateway, alert: &str) -> anyhow::Result<String> {
    let filter = alerts_of(gateway);
    let mut messages = gateway.client.read("DETECTIONS", &[&filter], ReadFrom::Start).await?;
    while let Some(message) = messages.next().await {
        let event = serde_json::from_slice::<CloudEvent>(&message?.payload);
        if let Ok(event) = event
            && event.data.alert == alert
        {
            return Ok(event.data.device);
        }
    }
    let request = SearchRequest { k: 1, ..query::request(Like::Alert(alert.to_owned())) };
    let answer = query::ask(gateway, &request).await;
    let own = answer.ok().and_then(|answer| answer.query);
    own.map(|own| own.device).with_context(|| format!("no alert {alert}: `eddy alerts` prints them, the id comes last"))
}
