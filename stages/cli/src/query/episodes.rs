//! `eddy query --like ALERT`: alerts whose episodes went like its own.

use anyhow::{Context as _, ensure};
use eddy_schemas::{
    SeriesName,
    alert::Share,
    episodes::{EpisodesAnswer, EpisodesRequest, FoundEpisode},
    rfc3339,
};

use super::{
    QueryArgs,
    pictures::{self, Stretch},
    span,
};
use crate::{alerts::Since, gateway::Gateway, output};

/// A channel that contributed less is not told.
const SHARE_MIN: f64 = 0.05;

/// Asks the gateway's index, and prints a line an alert.
pub(super) async fn run(args: &QueryArgs, alert: &str, gateway: &Gateway) -> anyhow::Result<()> {
    ensure!(
        args.channel.is_none() && args.recall.is_none(),
        "--channel and --recall are about windows: add --windows for those like the one that opened the alert"
    );
    let request = EpisodesRequest {
        k: args.k.into(),
        radius: args.radius,
        device: args.device.clone(),
        others: args.others,
        since: args.since.map(Since::time),
        label: args.label.clone(),
        ..EpisodesRequest::new(alert)
    };
    let answer = ask(gateway, &request).await?;
    if args.json {
        output::line(&serde_json::to_string(&answer)?);
        return Ok(());
    }
    let all: Vec<&FoundEpisode> = std::iter::once(&answer.asked).chain(&answer.episodes).collect();
    let stretches: Vec<Stretch> = all.iter().map(|episode| stretch(episode)).collect();
    let pictures = pictures::of(gateway, &stretches).await?;
    for (at, (episode, picture)) in all.iter().zip(&pictures).enumerate() {
        let first = if at == 0 { "asked".to_owned() } else { format!("{:.3}", episode.distance) };
        output::line(&line(&first, episode, picture));
    }
    let ms = answer.took_us as f64 / 1e3;
    output::line(&format!("{} of {} alerts, {ms:.1} ms", answer.episodes.len(), answer.compared));
    if answer.asked.windows == 0 {
        output::line("compared by the windows that opened them: the asked alert has told no later ones");
    }
    Ok(())
}

async fn ask(gateway: &Gateway, request: &EpisodesRequest) -> anyhow::Result<EpisodesAnswer> {
    let subject = format!("eddy.search.{}.episodes", gateway.site_token());
    let answer = gateway.client.request(&subject, serde_json::to_vec(request)?.into()).await?;
    serde_json::from_slice(&answer).context("the index's answer is of another release")
}

/// Its loudest channel, from the beginning of the window that opened it on.
fn stretch(episode: &FoundEpisode) -> Stretch {
    let channel = episode.channels.first().map_or("", |share| share.name.as_str());
    Stretch { series: SeriesName::encode(&episode.device, channel), start: episode.start, end: episode.end }
}

fn line(first: &str, episode: &FoundEpisode, picture: &str) -> String {
    let label = episode.label.as_ref().map_or("-".into(), |label| output::printable(&label.name));
    let of = |share: &Share| format!("{} {:.0}%", output::printable(&share.name), 100.0 * share.share);
    let told = episode.channels.iter().filter(|share| share.share >= SHARE_MIN).map(of);
    let channels = told.collect::<Vec<_>>().join(", ");
    let (device, opened) = (output::printable(&episode.device), rfc3339(episode.opened));
    let (length, alert) = (span(episode.end - episode.opened), &episode.alert);
    format!("{first:>8}  {device:<16}  {opened}  {length:>7}  {label:<10}  {alert:<16}  {channels:<36}  {picture}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_one_line_with_its_loud_channels() {
        let share = |name: &str, share| Share { name: name.into(), share };
        let episode = FoundEpisode {
            alert: "00ff".into(),
            device: "pump\u{1b}".into(),
            opened: 60_000_000_000,
            start: 0,
            end: 180_000_000_000,
            distance: 0.25,
            channels: vec![share("flow", 0.7), share("t", 0.28), share("voc", 0.02)],
            windows: 4,
            label: None,
        };
        let told = line("0.250", &episode, "▁█");
        assert!(told.starts_with("   0.250  pump\\u{1b}"), "{told}");
        assert!(told.contains("1970-01-01T00:01:00Z    2 min  -           00ff"), "{told}");
        assert!(told.contains("flow 70%, t 28%  ") && !told.contains("voc") && told.ends_with("▁█"), "{told}");
        assert_eq!(stretch(&episode).series, SeriesName::encode("pump\u{1b}", "flow"));
    }
}
