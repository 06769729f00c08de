//! `eddy query --scope region`: windows like one, of all sites.

use anyhow::Context as _;
use eddy_schemas::{
    region::{SEARCH, wire},
    rfc3339,
    search::{Like, SearchRequest},
};
use serde_json::json;

use super::{About, QueryArgs, Scope, span};
use crate::{alerts::Since, gateway::Gateway, output, region};

/// Looks up the vector at the gateway's index, and asks the region.
pub(super) async fn run(args: &QueryArgs, gateway: &Gateway) -> anyhow::Result<()> {
    debug_assert_eq!(args.scope, Scope::Region, "the caller tells scopes apart");
    let mut request = about(args, gateway).await?;
    request.k = args.k.into();
    request.radius = args.radius.unwrap_or(0.0);
    request.recall = args.recall.unwrap_or(0.0);
    request.site = args.of_site.clone().unwrap_or_default();
    request.other_than_site = if args.others { gateway.site.clone() } else { String::new() };
    request.device = args.device.clone().unwrap_or_default();
    request.channel = args.channel.clone().unwrap_or_default();
    request.since = args.since.map(Since::time).unwrap_or_default();
    request.label = args.label.clone().unwrap_or_default();
    let answer: wire::SearchResponse = region::ask(gateway, SEARCH, &request).await?;
    if args.json {
        output::line(&json(&answer).to_string());
        return Ok(());
    }
    answer.neighbours.iter().for_each(|window| output::line(&line(window)));
    let ms = answer.took_us as f64 / 1e3;
    output::line(&format!("{} of {} windows, {ms:.1} ms", answer.neighbours.len(), answer.windows));
    if !answer.missing_shards.is_empty() {
        output::line(&format!("without shards {:?}: nobody answered for them in time", answer.missing_shards));
    }
    Ok(())
}

/// What is asked about: the vector that the gateway's index has of it, or else the alert, by its name.
async fn about(args: &QueryArgs, gateway: &Gateway) -> anyhow::Result<wire::SearchRequest> {
    let like = match &args.like {
        About::Known(like) => like,
        About::File(path) => {
            let window = super::most_unusual(args, path, gateway).await?;
            return Ok(wire::SearchRequest { vector: window.vector, bundle: window.bundle, ..Default::default() });
        }
    };
    let of_index = SearchRequest { k: 1, with_vector: true, ..super::request(like.clone()) };
    match (super::ask(gateway, &of_index).await, like) {
        (Ok(answer), _) => {
            let vector = answer.vector.context("this gateway's index is of a release that tells no vectors")?;
            Ok(wire::SearchRequest { vector, bundle: answer.bundle, ..Default::default() })
        }
        (Err(_), Like::Alert(alert)) => Ok(wire::SearchRequest { alert: alert.clone(), ..Default::default() }),
        (Err(error), _) => Err(error),
    }
}

fn line(window: &wire::Window) -> String {
    let [site, device, channel] = [&window.site, &window.device, &window.channel].map(|name| output::printable(name));
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { output::printable(text) };
    let (label, alert) = (or_none(&window.label), or_none(&window.alert));
    let (series, length) = (format!("{site}/{device}/{channel}"), span(window.end.saturating_sub(window.start)));
    let end = rfc3339(window.end);
    format!("{:>8.3}  {series:<36}  {end}  {length:>7}  {label:<10}  {alert}", window.distance)
}

/// In the words of the gateway's own answers.
fn json(answer: &wire::SearchResponse) -> serde_json::Value {
    let window = |window: &wire::Window| {
        let alert = (!window.alert.is_empty()).then_some(&window.alert);
        let label = (!window.label.is_empty())
            .then(|| json!({"name": window.label, "origin": window.label_origin, "time": window.label_time}));
        json!({
            "site": window.site, "device": window.device, "channel": window.channel, "shard": window.shard,
            "window": window.number, "start": window.start, "end": window.end, "distance": window.distance,
            "score": window.score, "filled": window.filled, "alert": alert, "label": label,
        })
    };
    json!({
        "bundle": answer.bundle,
        "neighbours": answer.neighbours.iter().map(window).collect::<Vec<_>>(),
        "windows": answer.windows,
        "took_us": answer.took_us,
        "missing_shards": answer.missing_shards,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_another_site_is_one_line_and_one_object() {
        let window = wire::Window {
            site: "plant 2".into(),
            device: "pump\u{1b}".into(),
            channel: "t".into(),
            end: 60_000_000_000,
            distance: 0.5,
            label: "leak".into(),
            label_origin: "plant 2/cli".into(),
            ..Default::default()
        };
        let told = line(&window);
        assert!(told.starts_with("   0.500  plant 2/pump\\u{1b}/t "), "{told}");
        assert!(told.contains("1970-01-01T00:01:00Z") && told.ends_with("leak        -"), "{told}");
        let answer = wire::SearchResponse { neighbours: vec![window], missing_shards: vec![1], ..Default::default() };
        let json = json(&answer);
        assert_eq!(json["neighbours"][0]["label"]["origin"], "plant 2/cli");
        assert!(json["neighbours"][0]["alert"].is_null() && json["missing_shards"][0] == 1);
    }
}
