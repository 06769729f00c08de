//! `eddy alerts`: what detect found, one line an event of an episode, or the CloudEvents as they are.

use clap::Args;
use eddy_runtime::client::{ReadFrom, StoredMessage};
use eddy_schemas::{
    Timestamp,
    alert::{Alert, CloudEvent},
};
use futures_util::StreamExt as _;

use crate::{
    demo::oracle::alerts_hash,
    gateway::{Gateway, GatewayArgs},
    output,
};

/// Alerts' part of the command line.
#[derive(Args, Clone, Debug)]
pub struct AlertsArgs {
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Only what was found since: `30m`, `1h`, `7d` ago, or a time like 2026-01-31T12:00:00Z [default: all there is]
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,
    /// The CloudEvents, one a line
    #[arg(long)]
    pub json: bool,
    /// How many there are, and a hash over all of them: the same for the same alerts, in whatever order devices had them
    #[arg(long, conflicts_with_all = ["follow", "json"])]
    pub hash: bool,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// A moment, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// That moment.
    Time(Timestamp),
    /// So many nanoseconds before now.
    Ago(i64),
}

/// Reads it.
///
/// # Errors
/// What is expected.
pub fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(nanoseconds) = parse_duration(text) {
        return Ok(Since::Ago(nanoseconds));
    }
    let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| Timestamp::try_from(time.as_nanosecond()).ok());
    time.map(Since::Time).ok_or_else(|| "expected a duration like 1h, or a time like 2026-01-31T12:00:00Z".into())
}

impl Since {
    /// As nanoseconds since the Unix epoch.
    pub fn time(self) -> Timestamp {
        match self {
            Self::Time(time) => time,
            Self::Ago(nanoseconds) => crate::now() - nanoseconds,
        }
    }
}

/// Nanoseconds of `90s`, `30m`, `2h`, `7d`.
///
/// # Errors
/// What is expected.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let wrong = || "expected a duration like 90s, 30m, 2h or 7d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let nanoseconds = count.checked_mul(seconds * 1_000_000_000).filter(|nanoseconds| *nanoseconds > 0);
    nanoseconds.ok_or_else(wrong)
}

/// The command.
///
/// # Errors
/// If the gateway does not answer.
pub async fn run(args: &AlertsArgs) -> anyhow::Result<()> {
    let gateway = args.gateway.connect().await?;
    let from = match args.since {
        None => ReadFrom::Start,
        Some(since) => ReadFrom::Time(since.time()),
    };
    let filter = alerts_of(&gateway);
    let filters = [filter.as_str()];
    if args.follow {
        let mut messages = gateway.client.follow("DETECTIONS", &filters, from).await?;
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => show(&message?, args.json),
                    None => return Ok(()),
                },
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    }
    let mut messages = gateway.client.read("DETECTIONS", &filters, from).await?;
    let mut all = Vec::new();
    while let Some(message) = messages.next().await {
        let message = message?;
        if args.hash {
            all.push(message.payload.to_vec());
        } else {
            show(&message, args.json);
        }
    }
    if args.hash {
        output::line(&format!("{} alerts_hash={}", all.len(), alerts_hash(all)));
    }
    Ok(())
}

/// The subjects of the gateway's alerts.
pub fn alerts_of(gateway: &Gateway) -> String {
    format!("alerts.{}.>", gateway.site_token())
}

fn show(message: &StoredMessage, json: bool) {
    if json {
        output::line(&String::from_utf8_lossy(&message.payload));
        return;
    }
    match serde_json::from_slice::<CloudEvent>(&message.payload) {
        Ok(event) => output::line(&line(&event)),
        Err(problem) => eprintln!("eddy: message {} on {}: no alert: {problem}", message.sequence, message.subject),
    }
}

/// An alert's event as one line: time, severity, phase, device, channels, tail probability, episode.
pub fn line(event: &CloudEvent) -> String {
    let alert = &event.data;
    format!(
        "{}  {:<8}  {:<7}  {}  {}  p={:.1e}  {}",
        event.time,
        alert.severity.as_str(),
        alert.phase.as_str(),
        output::printable(&alert.device),
        channels(alert),
        alert.tail,
        alert.alert,
    )
}

/// The channels that made the most of it, with their shares.
fn channels(alert: &Alert) -> String {
    let shown = alert.channels.iter().take(3).filter(|share| share.share >= 0.05);
    let one = |name: &str, share: f64| format!("{} {:.0}%", output::printable(name), share * 100.0);
    let text = shown.map(|share| one(&share.name, share.share)).collect::<Vec<_>>().join(", ");
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use eddy_schemas::alert::{Phase, Severity, Share};

    use super::*;

    #[test]
    fn since_is_a_duration_or_a_time() {
        assert_eq!(parse_since("90s"), Ok(Since::Ago(90_000_000_000)));
        assert_eq!(parse_since("1h"), Ok(Since::Ago(3_600_000_000_000)));
        assert_eq!(parse_since("1970-01-01T00:00:01Z"), Ok(Since::Time(1_000_000_000)));
        for wrong in ["", "1", "h", "-1h", "1w", "yesterday", "99999999999d", "é"] {
            assert!(parse_since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_line_says_what_when_where() {
        let share = |name: &str, share| Share { name: name.into(), share };
        let alert = Alert {
            alert: "0123456789abcdef".into(),
            phase: Phase::Opened,
            severity: Severity::Critical,
            site: "s".into(),
            device: "pump\u{7}1".into(),
            opened: "2026-01-01T00:00:00Z".into(),
            score: 2.0,
            tail: 1.5e-7,
            threshold: 1e-4,
            tail_min: 1.5e-7,
            channels: vec![share("t", 0.72), share("h", 0.26), share("x", 0.02)],
            heads: vec![share("value", 1.0)],
            bundle: "b".into(),
        };
        let line = line(&CloudEvent::new(alert, 0, "2026-01-01T00:05:00Z".into()));
        assert_eq!(
            line,
            "2026-01-01T00:05:00Z  critical  opened   pump\\u{7}1  t 72%, h 26%  p=1.5e-7  0123456789abcdef"
        );
    }
}
