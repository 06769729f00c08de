//! `eddy query`: alerts that went like one, or windows like one, from the gateway's index.

mod episodes;
mod file;
mod pictures;
mod region;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use eddy_schemas::{
    rfc3339,
    search::{FoundWindow, Like, SearchAnswer, SearchRequest},
};
use serde::Serialize;

use file::{FileQuestion, FileWindow};
use pictures::Stretch;

use crate::{
    alerts::{Since, parse_since},
    gateway::{Gateway, GatewayArgs},
    output,
};

/// Query's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct QueryArgs {
    /// An alert's id: alerts whose episodes went like its own; DEVICE/CHANNEL@TIME, or a file that `eddy replay` reads: windows like one
    #[arg(long, value_name = "ALERT|SERIES@TIME|FILE", value_parser = parse_like)]
    pub like: About,
    /// With an ALERT: windows like the one that opened it
    #[arg(long)]
    pub windows: bool,
    /// How many neighbours
    #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub k: u16,
    /// Only alerts or windows of this device; with a FILE: ask about this device of it
    #[arg(long)]
    pub device: Option<String>,
    /// Only those of other devices than the asked one; of the region's: of other sites than this
    #[arg(long, conflicts_with = "device")]
    pub others: bool,
    /// Only windows of this channel; with a FILE: ask about this channel of it
    #[arg(long)]
    pub channel: Option<String>,
    /// Only alerts that opened, or windows that end, since: `30m`, `7d` ago, or a time
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Only those with this label; `*`: with any
    #[arg(long)]
    pub label: Option<String>,
    /// Not farther than this
    #[arg(long, value_name = "DISTANCE")]
    pub radius: Option<f32>,
    /// The share of the true nearest to be found, to 1 [default: the index's]
    #[arg(long)]
    pub recall: Option<f32>,
    /// Who is asked
    #[arg(long, value_enum, default_value_t = Scope::Gateway)]
    pub scope: Scope,
    /// Only windows of this site, of the region's
    #[arg(long, value_name = "SITE")]
    pub of_site: Option<String>,
    /// With a FILE: the config that the gateway's stages run with [default: that of the gateway in --dir]
    #[arg(long, env = "EDDY_CONFIG", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// The answer as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Whose windows are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// This gateway's index
    Gateway,
    /// All sites of the region, through this gateway
    Region,
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq)]
pub enum About {
    /// Something that the index knows.
    Known(Like),
    /// The most unusual window of a recorded file.
    File(PathBuf),
}

/// A file that is there; else an alert's id, or a series at a time.
fn parse_like(text: &str) -> Result<About, String> {
    if Path::new(text).is_file() {
        return Ok(About::File(text.into()));
    }
    let Some((series, time)) = text.rsplit_once('@') else {
        return match text {
            "" => Err("expected an alert's id".into()),
            // No id has one of these.
            path if path.contains(['/', '.']) => Err("there is no such file".into()),
            alert => Ok(About::Known(Like::Alert(alert.to_owned()))),
        };
    };
    let (device, channel) = series.rsplit_once('/').ok_or("expected DEVICE/CHANNEL@TIME")?;
    let time = eddy_schemas::time_of(time).ok_or("expected a time like 2026-01-31T12:00:00Z after @")?;
    Ok(About::Known(Like::At { device: device.to_owned(), channel: channel.to_owned(), time }))
}

/// A request for the ten nearest.
pub fn request(like: Like) -> SearchRequest {
    SearchRequest {
        like,
        k: 10,
        radius: None,
        recall: None,
        device: None,
        other_than_device: None,
        channel: None,
        since: None,
        until: None,
        label: None,
        with_vector: false,
        bundle: None,
    }
}

/// Asks the gateway's index.
///
/// # Errors
/// Its refusal, or that it does not answer.
pub async fn ask(gateway: &Gateway, request: &SearchRequest) -> anyhow::Result<SearchAnswer> {
    let subject = format!("eddy.search.{}", gateway.site_token());
    let answer = gateway.client.request(&subject, serde_json::to_vec(request)?.into()).await?;
    serde_json::from_slice(&answer).context("the index's answer is of another release")
}

/// The command.
///
/// # Errors
/// If nothing is known of what was asked, or the index does not answer.
pub async fn run(args: &QueryArgs) -> anyhow::Result<()> {
    let gateway = args.gateway.connect().await?;
    if args.scope == Scope::Region {
        return region::run(args, &gateway).await;
    }
    anyhow::ensure!(
        args.of_site.is_none(),
        "--of-site: a gateway has windows of its own site; `--scope region` has those of others"
    );
    if let (About::Known(Like::Alert(alert)), false) = (&args.like, args.windows) {
        return episodes::run(args, alert, &gateway).await;
    }
    let (asked, file) = match &args.like {
        About::Known(like) => (known(args, like, &gateway).await?, None),
        About::File(path) => {
            let window = most_unusual(args, path, &gateway).await?;
            let like = Like::Vector(window.vector.clone());
            (SearchRequest { bundle: Some(window.bundle.clone()), ..request(like) }, Some(window))
        }
    };
    let asked = SearchRequest {
        k: args.k.into(),
        radius: args.radius,
        recall: args.recall,
        since: args.since.map(Since::time),
        label: args.label.clone(),
        ..asked
    };
    let answer = ask(&gateway, &asked).await?;
    if args.json {
        output::line(&serde_json::to_string(&Answered { file: file.as_ref(), answer: &answer })?);
        return Ok(());
    }
    if let (About::File(path), Some(window)) = (&args.like, &file) {
        output::line(&line("asked", &window.as_found(), &file::picture(path, window)?));
    }
    let windows: Vec<Stretch> = answer.query.iter().chain(&answer.neighbours).map(Stretch::from).collect();
    let mut pictures = pictures::of(&gateway, &windows).await?.into_iter();
    if let Some(own) = &answer.query {
        output::line(&line("asked", own, &pictures.next().unwrap_or_default()));
    }
    for neighbour in &answer.neighbours {
        let distance = format!("{:.3}", neighbour.distance);
        output::line(&line(&distance, neighbour, &pictures.next().unwrap_or_default()));
    }
    let ms = answer.took_us as f64 / 1e3;
    output::line(&format!("{} of {} windows, {ms:.1} ms", answer.neighbours.len(), answer.windows));
    Ok(())
}

/// An answer as JSON, with the file's window that was asked about.
#[derive(Serialize)]
struct Answered<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a FileWindow>,
    #[serde(flatten)]
    answer: &'a SearchAnswer,
}

/// A question about something that the index knows.
async fn known(args: &QueryArgs, like: &Like, gateway: &Gateway) -> anyhow::Result<SearchRequest> {
    let mut asked = request(like.clone());
    (asked.device, asked.channel) = (args.device.clone(), args.channel.clone());
    if args.others {
        asked.other_than_device = Some(match like {
            Like::At { device, .. } => device.clone(),
            like => {
                let own = ask(gateway, &SearchRequest { k: 1, ..request(like.clone()) }).await?.query;
                own.context("the index does not know the device")?.device
            }
        });
    }
    Ok(asked)
}

/// The window of a file that is asked about; says which one, where it was chosen among several series.
async fn most_unusual(args: &QueryArgs, path: &Path, gateway: &Gateway) -> anyhow::Result<FileWindow> {
    anyhow::ensure!(!args.others, "--others: a file is of no device of the gateway's; leave it out");
    let question = FileQuestion {
        path,
        device: args.device.as_deref(),
        channel: args.channel.as_deref(),
        config: args.config.as_deref(),
    };
    let window = file::most_unusual(&question, gateway, &args.gateway).await?;
    if window.series > 1 {
        let (device, channel) = (output::printable(&window.device), output::printable(&window.channel));
        eprintln!(
            "eddy: {} has {} series; asked is its most unusual window, of {device}/{channel} (--device and --channel choose)",
            path.display(),
            window.series
        );
    }
    Ok(window)
}

fn line(first: &str, window: &FoundWindow, picture: &str) -> String {
    let series = format!("{}/{}", output::printable(&window.device), output::printable(&window.channel));
    let label = window.label.as_ref().map_or("-".into(), |label| output::printable(&label.name));
    let alert = window.alert.as_deref().unwrap_or("-");
    let length = span(window.end - window.start);
    format!("{first:>8}  {series:<28}  {}  {length:>7}  {label:<10}  {alert:<16}  {picture}", rfc3339(window.end))
}

/// A context's neighbour in few words.
pub fn brief(window: &FoundWindow) -> String {
    let label = window.label.as_ref().map(|label| format!(" [{}]", output::printable(&label.name)));
    let alert = window.alert.as_ref().map(|alert| format!(" alert {alert}"));
    format!(
        "{}/{} at {} d={:.2}{}{}",
        output::printable(&window.device),
        output::printable(&window.channel),
        rfc3339(window.end),
        window.distance,
        alert.unwrap_or_default(),
        label.unwrap_or_default(),
    )
}

fn span(nanoseconds: i64) -> String {
    match nanoseconds as f64 / 1e9 {
        s if s <= 0.0 => "-".into(),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_an_alert_a_series_at_a_time_or_a_file() {
        assert_eq!(parse_like("00ff"), Ok(About::Known(Like::Alert("00ff".into()))));
        let at = Like::At { device: "a/b".into(), channel: "t".into(), time: 1_000_000_000 };
        assert_eq!(parse_like("a/b/t@1970-01-01T00:00:01Z"), Ok(About::Known(at)));
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(parse_like(file), Ok(About::File(file.into())));
        for wrong in ["", "pump@1970-01-01T00:00:01Z", "pump/t@yesterday", "gone.csv", "data/gone"] {
            assert!(parse_like(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            [span(0), span(5_000_000), span(60_000_000_000), span(14_400_000_000_000)],
            ["-", "5 ms", "60 s", "4.0 h"]
        );
    }
}
