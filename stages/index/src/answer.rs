//! Answers to `eddy.search.<site>`.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use eddy_runtime::service::Refusal;
use eddy_schemas::{
    Timestamp,
    episodes::{EpisodesAnswer, EpisodesRequest},
    names,
    search::{CheckAnswer, CheckRequest, IndexStats, Like, SearchAnswer, SearchRequest},
};
use eddy_vectors::index::{Filter, IndexError, Model, Neighbour, Query, Recall, Searcher, Store};

use crate::{
    context::found,
    episodes::{self, Episode},
};

/// Most neighbours of one answer.
const NEIGHBOURS_MAX: usize = 1_000;

/// The largest number that f16 holds.
const COMPONENT_MAX: f32 = 65_504.0;

/// The names of the endpoints.
pub const SEARCH: &str = "search";
/// See [`SEARCH`].
pub const STATS: &str = "stats";
/// See [`SEARCH`].
pub const CHECK: &str = "check";
/// See [`SEARCH`].
pub const EPISODES: &str = "episodes";

/// What answers need.
pub struct Answers {
    pub(crate) store: Arc<Store>,
    pub(crate) searcher: Arc<Searcher>,
    pub(crate) recall: f32,
}

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal { code: 400, message: message.into() }
}

fn missing(message: impl Into<String>) -> Refusal {
    Refusal { code: 404, message: message.into() }
}

fn failed(error: IndexError) -> Refusal {
    let code = if matches!(error, IndexError::Query(_)) { 400 } else { 500 };
    Refusal { code, message: error.to_string() }
}

impl Answers {
    /// Answers one request; blocks.
    ///
    /// # Errors
    /// What is wrong with it, or with the store.
    pub(crate) fn answer(&self, endpoint: &str, payload: &[u8]) -> Result<Bytes, Refusal> {
        let json = if endpoint == STATS {
            serde_json::to_vec(&self.stats().map_err(failed)?)
        } else if endpoint == CHECK {
            let request = serde_json::from_slice(payload).map_err(|error| wrong(format!("not a check: {error}")))?;
            serde_json::to_vec(&self.check(&request).map_err(failed)?)
        } else if endpoint == EPISODES {
            let request = serde_json::from_slice(payload);
            let request = request.map_err(|error| wrong(format!("not a question about an alert: {error}")))?;
            serde_json::to_vec(&self.episodes(&request)?)
        } else {
            let request: SearchRequest =
                serde_json::from_slice(payload).map_err(|error| wrong(format!("not a search: {error}")))?;
            serde_json::to_vec(&self.search(&request)?)
        };
        json.map(Bytes::from).map_err(|error| Refusal { code: 500, message: error.to_string() })
    }

    fn stats(&self) -> Result<IndexStats, IndexError> {
        let stats = self.store.stats()?;
        Ok(IndexStats {
            windows: stats.windows,
            tail: stats.tail,
            flat: stats.flat,
            deleted: stats.deleted,
            segments: stats.segments,
            waiting: stats.waiting,
            series: stats.series,
            labels: stats.labels,
            bytes: stats.bytes,
            missed: stats.missed,
            position: self.store.position()?.unwrap_or_default(),
        })
    }

    fn check(&self, request: &CheckRequest) -> Result<CheckAnswer, IndexError> {
        // The position first: what is committed after it is counted with what it reaches.
        let position = self.store.position()?.unwrap_or_default();
        self.searcher.refresh()?;
        Ok(CheckAnswer {
            problems: self.searcher.check(request.sample)?,
            windows_from: self.searcher.windows_from(request.from_sequence)?,
            position,
        })
    }

    pub(crate) fn episodes(&self, request: &EpisodesRequest) -> Result<EpisodesAnswer, Refusal> {
        let began = Instant::now();
        in_bounds(request.k, request.radius)?;
        self.searcher.refresh().map_err(failed)?;
        let asked = Episode::of(&self.searcher, &request.alert).map_err(failed)?;
        let asked = asked.ok_or_else(|| missing(nothing(&Like::Alert(request.alert.clone()))))?;
        let (episodes, compared) = episodes::like(&self.searcher, &asked, request).map_err(failed)?;
        let bundle = asked.model.digest.clone();
        let took_us = began.elapsed().as_micros() as u64;
        Ok(EpisodesAnswer { bundle, asked: asked.told(0.0), episodes, compared, took_us })
    }

    pub(crate) fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, Refusal> {
        let began = Instant::now();
        in_bounds(request.k, request.radius)?;
        let recall = request.recall.unwrap_or(self.recall);
        if !(recall > 0.0 && recall <= 1.0) {
            return Err(wrong(format!("recall = {recall}: above 0, to 1 is taken")));
        }
        if let Like::Vector(vector) = &request.like {
            in_range(vector)?;
        }
        self.searcher.refresh().map_err(failed)?;
        let (own, vector, model) = self.subject(request)?;
        let token = |name: &Option<String>| name.as_deref().map(names::encode);
        let filter = Filter {
            device: token(&request.device),
            other_than_device: token(&request.other_than_device),
            channel: token(&request.channel),
            since: request.since,
            until: request.until,
            label: request.label.clone(),
            without: own.iter().map(|own| own.window).collect(),
            ..Filter::default()
        };
        let query = Query {
            model: &model,
            vector: &vector,
            count: request.k,
            radius: request.radius.unwrap_or(f32::INFINITY),
            recall: if recall < 1.0 { Recall::AtLeast(recall) } else { Recall::Exact },
            filter,
        };
        let near = self.searcher.search(&query).map_err(failed)?;
        let tell = |neighbour: &Neighbour| found(&self.searcher, neighbour).map_err(failed);
        Ok(SearchAnswer {
            query: own.as_ref().map(tell).transpose()?,
            neighbours: near.iter().map(tell).collect::<Result<_, _>>()?,
            windows: self.store.stats().map_err(failed)?.windows,
            took_us: began.elapsed().as_micros() as u64,
            vector: request.with_vector.then_some(vector),
            bundle: model.digest,
        })
    }

    /// The window that is asked about, if it is one of the index's; its vector, and whose it is.
    fn subject(&self, request: &SearchRequest) -> Result<(Option<Neighbour>, Vec<f32>, Model), Refusal> {
        let like = &request.like;
        let window = match like {
            Like::Vector(vector) => return Ok((None, vector.clone(), self.model(request.bundle.as_deref())?)),
            Like::Window(window) => Some(*window),
            Like::Alert(alert) => self.searcher.tagged(alert).map_err(failed)?.first().copied(),
            Like::At { device, channel, time } => self.nearest_in_time(device, channel, *time).map_err(failed)?,
        };
        let found = window.map(|window| self.searcher.window(window)).transpose().map_err(failed)?.flatten();
        let (own, vector, model) = found.ok_or_else(|| missing(nothing(like)))?;
        Ok((Some(own), vector, model))
    }

    /// The model of a bundle, or the newest.
    fn model(&self, bundle: Option<&str>) -> Result<Model, Refusal> {
        let models = self.searcher.models();
        let newest = models.last().cloned().ok_or_else(|| missing("the index is empty"))?;
        let Some(bundle) = bundle else { return Ok(newest) };
        let found = models.into_iter().rev().find(|model| model.digest == bundle);
        found.ok_or_else(|| {
            missing(format!(
                "no window of bundle {bundle}: the newest ones are of {}, and those of two are never compared",
                newest.digest
            ))
        })
    }

    fn nearest_in_time(&self, device: &str, channel: &str, time: Timestamp) -> Result<Option<u64>, IndexError> {
        let (device, channel) = (Some(names::encode(device)), Some(names::encode(channel)));
        let all = self.searcher.matching(&Filter { device, channel, ..Filter::default() })?;
        let mut nearest: Option<(u64, u64)> = None;
        for window in all {
            let Some((own, ..)) = self.searcher.window(window)? else { continue };
            let away = own.facts.end.abs_diff(time);
            if nearest.is_none_or(|(best, _)| away < best) {
                nearest = Some((away, window));
            }
        }
        Ok(nearest.map(|(_, window)| window))
    }
}

fn in_bounds(k: usize, radius: Option<f32>) -> Result<(), Refusal> {
    if !(1..=NEIGHBOURS_MAX).contains(&k) {
        return Err(wrong(format!("k = {k}: 1 to {NEIGHBOURS_MAX} is taken")));
    }
    match radius.filter(|radius| radius.is_nan() || *radius < 0.0) {
        Some(radius) => Err(wrong(format!("radius = {radius}: 0 or more is taken"))),
        None => Ok(()),
    }
}

/// Vectors are stored as f16: what lies beyond has no neighbours but by rounding.
fn in_range(vector: &[f32]) -> Result<(), Refusal> {
    let beyond = |x: &f32| !x.is_finite() || x.abs() > COMPONENT_MAX;
    match vector.iter().position(beyond) {
        Some(at) => Err(wrong(format!(
            "component {at} of the vector is {}: -{COMPONENT_MAX} to {COMPONENT_MAX} is taken, as f16 holds it",
            vector[at]
        ))),
        None => Ok(()),
    }
}

fn nothing(like: &Like) -> String {
    match like {
        Like::Alert(alert) => format!("no window of alert {alert}: it may have aged out, or not be indexed yet"),
        Like::Window(window) => format!("no window {window}"),
        Like::At { device, channel, .. } => {
            format!("no window of {device}/{channel}: detect keeps those that are new to it, and those that alert")
        }
        Like::Vector(_) => "the index is empty".into(),
    }
}
