//! What a gateway would make of the same messages, without a bus: the stages of one configuration, in two halves.
//!
//! [`Front`] is capture and preprocess, [`Back`] what a bundle decides, embed and detect. Unlike a [`crate::chain::Chain`], which wants
//! all of a benchmark's rows scored, what a stage refuses is counted and the rest goes on, as a gateway's dead letters let it.

use anyhow::{Result, anyhow};
use bytes::Bytes;
use eddy_capture::Capture;
use eddy_detect::Detect;
use eddy_embed::Embed;
use eddy_preprocess::Preprocess;
use eddy_runtime::stage::{Batch, Incoming, Outbox, Scope, Stage};
use eddy_schemas::Timestamp;

use crate::{chain::problems, pipeline::Pipeline, state::Meter};

/// Bytes of one output; alerts do not depend on it.
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// What one stage made of one message.
#[derive(Debug, Default)]
pub(crate) struct Stepped {
    /// Its merged outputs, in order; none is empty.
    pub(crate) main: Vec<Vec<u8>>,
    /// Alerts: subject and bytes.
    pub(crate) alerts: Vec<(String, Vec<u8>)>,
    /// What it put aside.
    pub(crate) aside: Aside,
}

/// What stages put aside, and the first example of what they refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// Readings that a stage refused, or rows that it could not read.
    pub rejected: u64,
    /// Readings that came after their place had gone out.
    pub late: u64,
    /// Why the first one was refused.
    pub first: Option<String>,
}

impl Aside {
    /// Both together.
    pub fn join(&mut self, other: Self) {
        self.rejected += other.rejected;
        self.late += other.late;
        self.first = self.first.take().or(other.first);
    }

    fn refuse(&mut self, stage: &str, readings: u64, why: &str) {
        self.rejected += readings;
        self.first.get_or_insert_with(|| format!("{stage}: {why}"));
    }
}

/// One message through a stage.
pub(crate) fn step<S: Stage>(stage: &mut S, message: &Incoming) -> Stepped {
    let mut stepped = Stepped::default();
    let input = match stage.decode(message) {
        Ok(input) => input,
        Err((reason, detail)) => {
            stepped.aside.refuse(S::SPEC.name, 1, &format!("{reason:?}: {detail}"));
            return stepped;
        }
    };
    let (mut row, end) = (0, S::rows(&input));
    while row < end {
        let mut out = Outbox::new(stage.outputs(), OUTPUT_BYTES_MAX);
        row = stage.process(message, &input, row..end, &mut out);
        for rejected in &out.rejected {
            stepped.aside.refuse(S::SPEC.name, rejected.rejection.readings, &rejected.rejection.detail);
        }
        stepped.aside.late += out.late.len() as u64;
        stepped.main.extend(out.main.iter_mut().filter(|batch| batch.rows() > 0).map(Batch::encode));
        stepped.alerts.extend(out.alerts.into_iter().map(|alert| (alert.subject, alert.payload)));
    }
    stepped
}

/// A message as it would lie on the input of stage `S`.
pub(crate) fn incoming<S: Stage>(site_token: &str, payload: Vec<u8>) -> Incoming {
    let input = &S::SPEC.inputs[0];
    Incoming {
        stream: input.stream.into(),
        subject: format!("{}.{site_token}.0", input.prefix),
        sequence: 1,
        stored_at: 0,
        content_type: None,
        payload: Bytes::from(payload),
    }
}

fn scope(site: &str) -> Scope {
    Scope { site: site.to_owned(), shard: 0, shards: 1 }
}

/// From what a device sent, or from READINGS, to SAMPLES.
pub struct Front {
    capture: Capture,
    preprocess: Preprocess,
    site_token: String,
    /// Messages of INGEST so far.
    sequence: u64,
    /// What both stages put aside so far.
    pub aside: Aside,
}

impl Front {
    /// Both stages, new, for a site of that name.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(pipeline: &Pipeline, site: &str) -> Result<Self> {
        Ok(Self {
            capture: Capture::new(pipeline.capture()?, &scope(site)).map_err(problems)?,
            preprocess: Preprocess::new(pipeline.preprocess.clone(), &scope(site)).map_err(problems)?,
            site_token: eddy_schemas::names::encode(site),
            sequence: 0,
            aside: Aside::default(),
        })
    }

    /// A message of INGEST, an Arrow batch, that arrived then; what becomes of it on SAMPLES.
    pub fn ingest(&mut self, subject: &str, payload: &Bytes, arrival: Timestamp) -> Vec<Vec<u8>> {
        self.sequence += 1;
        let message = Incoming {
            stream: "INGEST".into(),
            subject: subject.to_owned(),
            sequence: self.sequence,
            stored_at: arrival,
            content_type: Some("application/vnd.apache.arrow.stream".into()),
            payload: payload.clone(),
        };
        let captured = step(&mut self.capture, &message);
        self.aside.join(captured.aside);
        captured.main.into_iter().flat_map(|readings| self.readings(readings)).collect()
    }

    /// A message of READINGS; what becomes of it on SAMPLES.
    pub fn readings(&mut self, payload: Vec<u8>) -> Vec<Vec<u8>> {
        let sampled = step(&mut self.preprocess, &incoming::<Preprocess>(&self.site_token, payload));
        self.aside.join(sampled.aside);
        sampled.main
    }
}

/// From SAMPLES to DETECTIONS, with one bundle.
pub struct Back {
    embed: Embed,
    detect: Detect,
    meters: (Meter, Meter),
    site_token: String,
}

/// What became of a message of SAMPLES.
#[derive(Debug, Default)]
pub struct Judged {
    /// Score batches, encoded.
    pub scores: Vec<Vec<u8>>,
    /// Alerts, as they are published.
    pub alerts: Vec<Vec<u8>>,
    /// What both stages put aside.
    pub aside: Aside,
}

impl Back {
    /// Both stages, new, for a site of that name.
    ///
    /// # Errors
    /// What is wrong with the configuration or the bundle.
    pub fn new(pipeline: &Pipeline, site: &str) -> Result<Self> {
        let detect = Detect::with_manifest(pipeline.detect.clone(), &scope(site), &pipeline.manifest, &pipeline.digest);
        Ok(Self {
            embed: Embed::new(pipeline.embed.clone(), &scope(site)).map_err(problems)?,
            detect: detect.map_err(problems)?,
            meters: Default::default(),
            site_token: eddy_schemas::names::encode(site),
        })
    }

    /// A message of SAMPLES.
    pub fn samples(&mut self, payload: Vec<u8>) -> Judged {
        let embedded = step(&mut self.embed, &incoming::<Embed>(&self.site_token, payload));
        let mut judged = Judged { aside: embedded.aside, ..Judged::default() };
        for embeddings in embedded.main {
            let detected = step(&mut self.detect, &incoming::<Detect>(&self.site_token, embeddings));
            judged.scores.extend(detected.main);
            judged.alerts.extend(detected.alerts.into_iter().map(|(_, payload)| payload));
            judged.aside.join(detected.aside);
        }
        judged
    }

    /// How much less is `in_use` once embed is dropped, and then once detect is.
    pub fn heap_bytes(self, in_use: impl Fn() -> usize) -> [usize; 2] {
        let Self { embed, detect, meters, .. } = self;
        drop(meters);
        let all = in_use();
        drop(embed);
        let of_detect = in_use();
        drop(detect);
        [all - of_detect, of_detect - in_use()]
    }

    /// Bytes of state that both stages keep, keys included, of all series.
    pub fn state_bytes(&mut self) -> usize {
        self.meters.0.measure(&mut self.embed) + self.meters.1.measure(&mut self.detect)
    }
}

/// The first thing that was refused, as an error: for those that want every row.
pub(crate) fn whole(stepped: Stepped) -> Result<Stepped> {
    match stepped.aside.first {
        Some(problem) => Err(anyhow!(problem)),
        None => Ok(stepped),
    }
}
