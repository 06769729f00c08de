//! What other sites know of an alert's window: asked where their sketch says that they could know something, never for longer than a
//! deadline, and not at all while nobody answers.

mod breaker;
mod sketches;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eddy_runtime::{bus::nats::NatsBus, telemetry::Telemetry};
use eddy_schemas::{
    context::{Asked, RegionContext, RegionWindow},
    names,
    region::{REQUEST_PREFIX, SEARCH, wire},
    search::FoundLabel,
};
use eddy_vectors::sketch::{self, Sketch};
use prost::Message as _;
use tokio::{task::JoinSet, time::Instant};

use self::breaker::Breaker;
pub use self::sketches::Sketches;
use crate::config::Config;

/// The region, as index sees it.
pub trait Region: Clone + Send + Sync + 'static {
    /// Sketches of a bundle; `None`: this gateway is of no region.
    fn sketches(&self, bundle: &str) -> Option<Vec<Arc<Sketch>>>;

    /// Asks, and waits at most so long.
    fn search(
        &self,
        request: wire::SearchRequest,
        within: Duration,
    ) -> impl Future<Output = Result<wire::SearchResponse, String>> + Send;
}

/// The region, by way of sync: it mirrors the sketches, and passes questions on.
#[derive(Clone, Debug)]
pub struct ThroughSync {
    bus: NatsBus,
    subject: String,
    sketches: Sketches,
}

impl ThroughSync {
    /// On the gateway's bus.
    pub fn new(bus: NatsBus, site: &str, sketches: Sketches) -> Self {
        Self { bus, subject: format!("{REQUEST_PREFIX}.{}.{SEARCH}", names::encode(site)), sketches }
    }
}

impl Region for ThroughSync {
    fn sketches(&self, bundle: &str) -> Option<Vec<Arc<Sketch>>> {
        self.sketches.of(bundle)
    }

    async fn search(&self, request: wire::SearchRequest, within: Duration) -> Result<wire::SearchResponse, String> {
        let answer = self.bus.request(&self.subject, request.encode_to_vec().into(), within).await;
        let answer = answer.map_err(|error| error.to_string())?;
        wire::SearchResponse::decode(answer).map_err(|error| format!("{}: not an answer: {error}", self.subject))
    }
}

/// A question about a window, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// This gateway is of no region.
    None,
    /// It need not be asked.
    Needless(Asked),
    /// It is to be asked.
    Of(Box<wire::SearchRequest>),
}

/// Asks the region.
pub struct Asking<R> {
    region: R,
    site: String,
    neighbours: usize,
    deadline: Duration,
    breaker: Mutex<Breaker>,
    telemetry: Arc<Telemetry>,
}

impl<R: Region> Asking<R> {
    /// For a gateway of `site`.
    pub fn new(region: R, site: String, config: &Config, telemetry: Arc<Telemetry>) -> Self {
        let pause = Duration::from_secs_f64(config.region_pause_s);
        Self {
            region,
            site,
            // As many as a verdict may want, and as a context tells: over a slow link each one costs time.
            neighbours: config.context_neighbours.max(2 * config.votes),
            deadline: Duration::from_millis(config.region_deadline_ms),
            breaker: Mutex::new(Breaker::new(config.region_failures_max, pause)),
            telemetry,
        }
    }

    /// When all that is asked now must be answered.
    pub fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// What is to be asked about a vector of a bundle, of windows within `radius` of it on the channels of that name.
    pub fn question(&self, bundle: &str, vector: &[f32], radius: f32, channel: &str) -> Question {
        let Some(sketches) = self.region.sketches(bundle) else { return Question::None };
        if sketches.is_empty() {
            return Question::Needless(Asked::NoSketch);
        }
        if !sketches.iter().any(|sketch| sketch::could_know(sketch, vector, radius, &self.site)) {
            return Question::Needless(Asked::NothingNear);
        }
        Question::Of(Box::new(wire::SearchRequest {
            vector: vector.to_vec(),
            bundle: bundle.to_owned(),
            k: u32::try_from(self.neighbours).unwrap_or(u32::MAX),
            radius,
            other_than_site: self.site.clone(),
            channel: channel.to_owned(),
            ..wire::SearchRequest::default()
        }))
    }

    /// Answers to questions, in their order, all at the same time: what is not there by `until` is not waited for.
    pub async fn ask(&self, questions: Vec<Question>, until: Instant) -> Vec<Option<RegionContext>> {
        let mut answers: Vec<Option<RegionContext>> = vec![None; questions.len()];
        let mut asked = JoinSet::new();
        for (at, question) in questions.into_iter().enumerate() {
            let request = match question {
                Question::None => continue,
                Question::Needless(why) => {
                    answers[at] = Some(unasked(why));
                    continue;
                }
                Question::Of(request) => request,
            };
            let within = until.saturating_duration_since(Instant::now());
            if within.is_zero() {
                let problem = "questions about other alerts took all the time that there was".into();
                answers[at] = Some(unasked(Asked::NoAnswer { problem }));
            } else if self.breaker().may_ask(Instant::now()) {
                let region = self.region.clone();
                asked.spawn(async move {
                    let answer = tokio::time::timeout(within, region.search(*request, within)).await;
                    (at, answer.unwrap_or_else(|_| Err(format!("no answer within {} ms", within.as_millis()))))
                });
            } else {
                answers[at] = Some(unasked(Asked::BreakerOpen));
            }
        }
        while let Some(joined) = asked.join_next().await {
            // A task that panicked leaves its context without the region's part.
            let Ok((at, answer)) = joined else { continue };
            answers[at] = Some(self.read(answer));
        }
        answers.iter().flatten().for_each(|answer| self.telemetry.decision(kind(&answer.asked), 1));
        answers
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, answer: Result<wire::SearchResponse, String>) -> RegionContext {
        match answer {
            Ok(answer) => {
                self.breaker().answered();
                let is_others = |window: &wire::Window| window.site != self.site;
                let near = answer.neighbours.into_iter().filter(is_others).take(self.neighbours);
                RegionContext {
                    asked: Asked::Answered,
                    neighbours: near.map(told).collect(),
                    windows: answer.windows,
                    missing_shards: answer.missing_shards,
                }
            }
            Err(problem) => {
                self.breaker().failed(Instant::now());
                tracing::debug!(problem, "the region was asked in vain");
                unasked(Asked::NoAnswer { problem })
            }
        }
    }
}

fn unasked(why: Asked) -> RegionContext {
    RegionContext { asked: why, neighbours: Vec::new(), windows: 0, missing_shards: Vec::new() }
}

fn kind(asked: &Asked) -> &'static str {
    match asked {
        Asked::Answered => "region_answered",
        Asked::NothingNear => "region_nothing_near",
        Asked::NoSketch => "region_no_sketch",
        Asked::BreakerOpen => "region_breaker_open",
        Asked::NoAnswer { .. } => "region_no_answer",
    }
}

fn told(window: wire::Window) -> RegionWindow {
    let label = (!window.label.is_empty()).then_some(FoundLabel {
        name: window.label,
        origin: window.label_origin,
        time: window.label_time,
    });
    RegionWindow {
        site: window.site,
        device: window.device,
        channel: window.channel,
        start: window.start,
        end: window.end,
        distance: window.distance,
        score: window.score,
        alert: (!window.alert.is_empty()).then_some(window.alert),
        label,
    }
}

#[cfg(test)]
pub mod tests;
