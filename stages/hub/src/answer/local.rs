//! Answers from one shard that this process leads. All of it blocks.

use eddy_schemas::{
    SeriesName,
    region::wire::{GetWindowResponse, SearchResponse, ShardStats, Window},
};
use eddy_vectors::index::{Model, Neighbour, Query, Recall, WindowId};

use super::{
    asked::Search,
    refusal::{Refusal, Why},
    region::Shard,
};

/// A window with its vector and bundle.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) window: Window,
    pub(super) vector: Vec<f32>,
    pub(super) bundle: String,
}

/// Searches a shard near `vector`, until `is_over`.
pub(super) fn search(
    shard: u32,
    led: &dyn Shard,
    asked: &Search,
    vector: &[f32],
    recall: Recall,
    is_over: &dyn Fn() -> bool,
) -> Result<SearchResponse, Refusal> {
    led.searcher().refresh()?;
    let windows = led.store().stats()?.windows;
    let Some(model) = model(led, asked.bundle.as_deref(), vector.len())? else {
        return Ok(SearchResponse { windows, ..Default::default() });
    };
    let query = Query {
        model: &model,
        vector,
        count: asked.k,
        radius: asked.radius,
        recall: asked.recall.unwrap_or(recall),
        filter: asked.filter.clone(),
    };
    let near = led.searcher().search_until(&query, is_over)?;
    let neighbours = near.iter().map(|neighbour| told(shard, led, neighbour)).collect::<Result<_, _>>()?;
    Ok(SearchResponse { bundle: model.digest.clone(), neighbours, windows, ..Default::default() })
}

/// The model of a bundle, or the newest one; `None`: the shard has none.
fn model(led: &dyn Shard, bundle: Option<&str>, components: usize) -> Result<Option<Model>, Refusal> {
    let mut models = led.searcher().models();
    models.retain(|model| bundle.is_none_or(|bundle| bundle == model.digest));
    let Some(newest) = models.pop() else { return Ok(None) };
    if newest.dimensions != components {
        let (digest, dimensions) = (&newest.digest, newest.dimensions);
        return Err(Refusal::wrong(format!(
            "a vector of {components} components for bundle {digest}, whose vectors have {dimensions}"
        )));
    }
    Ok(Some(newest))
}

/// A window by its number.
pub(super) fn window(shard: u32, led: &dyn Shard, number: WindowId) -> Result<Option<Found>, Refusal> {
    led.searcher().refresh()?;
    let Some((own, vector, model)) = led.searcher().window(number)? else { return Ok(None) };
    Ok(Some(Found { window: told(shard, led, &own)?, vector, bundle: model.digest }))
}

/// The window that opened an alert: of the first of `sites` that has one, else of any site that is known.
pub(super) fn alerted(shard: u32, led: &dyn Shard, alert: &str, sites: &[String]) -> Result<Option<Found>, Refusal> {
    for site in sites.iter().chain(&led.sites()) {
        let Some(number) = led.opener(site, alert)? else { continue };
        if let Some(found) = window(shard, led, number)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A window, its vector, and all that was said of it.
pub(super) fn get(led: &dyn Shard, found: Found) -> Result<GetWindowResponse, Refusal> {
    let history = match found.window.alert.as_str() {
        "" => Vec::new(),
        alert => led.history(&found.window.site, alert)?,
    };
    Ok(GetWindowResponse { window: Some(found.window), bundle: found.bundle, vector: found.vector, history })
}

/// A shard's size and place.
pub(super) fn stats(shard: u32, led: &dyn Shard) -> Result<ShardStats, Refusal> {
    let stats = led.store().stats()?;
    Ok(ShardStats {
        shard,
        windows: stats.windows,
        bytes: stats.bytes,
        lag_messages: led.lag_messages(),
        position: led.store().position()?.unwrap_or_default(),
        ..Default::default()
    })
}

fn told(shard: u32, led: &dyn Shard, neighbour: &Neighbour) -> Result<Window, Refusal> {
    let Neighbour { window: number, distance, series, facts, label } = neighbour;
    let series = SeriesName::parse(series).ok_or_else(|| {
        tracing::error!(shard, number, series, "a window's series is no name");
        Refusal::new(Why::Failed, format!("window {number} of shard {shard} has no name: the hub's log says which"))
    })?;
    // Devices are filed as `<site>/<device>`.
    let (site, device) = series.device.split_once('/').unwrap_or(("", &series.device));
    let alert = led.searcher().tag(*number)?.unwrap_or_default();
    let alert = alert.split_once('/').map_or("", |(_, alert)| alert);
    let (label, label_origin, label_time) =
        label.clone().map_or_else(Default::default, |label| (label.name, label.origin, label.time));
    Ok(Window {
        site: site.to_owned(),
        device: device.to_owned(),
        channel: series.channel,
        shard,
        number: *number,
        start: facts.start,
        end: facts.end,
        distance: *distance,
        score: facts.score,
        filled: u32::from(facts.filled),
        alert: alert.to_owned(),
        label,
        label_origin,
        label_time,
    })
}
