//! The stages in one process, preprocess to detect, through the same bytes as on the bus.

use anyhow::{Result, anyhow};
use bytes::Bytes;
use eddy_detect::Detect;
use eddy_embed::Embed;
use eddy_preprocess::Preprocess;
use eddy_runtime::{
    config::ConfigError,
    stage::{Scope, Stage},
};
use eddy_schemas::{
    ReadingsBuilder, SamplesBuilder, Scores, Timestamp,
    alert::{CloudEvent, Phase},
    flags,
};

use crate::{
    offline::{self, Stepped, whole},
    pipeline::Pipeline,
    state::{Meter, StateBytes},
    table,
};

/// Rows of one message; the figures do not depend on it, but state is measured between messages.
pub(crate) const MESSAGE_ROWS: usize = 256;

/// What came out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Every score row, in order.
    pub rows: Vec<Row>,
    /// The learned head's vectors of the windows that were kept or alerted, in order, one behind the other.
    pub told: Vec<f32>,
    /// Every alert, in order.
    pub alerts: Vec<CloudEvent>,
    /// What detect would publish on DETECTIONS, in order, if that was asked for.
    pub messages: Vec<Message>,
    /// The largest state that was seen between two messages, all series together.
    pub state_max: StateBytes,
    /// The state at the end, all series together.
    pub state_end: StateBytes,
}

impl Outcome {
    /// When alerts were opened, in order.
    ///
    /// # Errors
    /// If an alert's time is none.
    pub fn opened(&self) -> Result<Vec<Timestamp>> {
        let opened = self.alerts.iter().filter(|alert| alert.data.phase == Phase::Opened);
        opened.map(|alert| table::time(&alert.data.opened)).collect()
    }
}

/// A message as it stands on DETECTIONS.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Its bytes.
    pub payload: Bytes,
}

/// A score row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Event time.
    pub time: Timestamp,
    /// The anomaly score.
    pub score: f64,
    /// Its tail probability.
    pub tail: f64,
    /// [`eddy_schemas::flags`].
    pub flags: u16,
}

impl Row {
    /// Whether it is of all channels of a device together.
    pub fn is_joint(&self) -> bool {
        self.flags & flags::JOINT != 0
    }
}

/// What a chain begins with, and the message that is being filled for it.
enum Front {
    Preprocess(Box<Preprocess>, ReadingsBuilder),
    Embed(SamplesBuilder),
}

/// The stages, new, for the series of one stream.
pub struct Chain {
    front: Front,
    embed: Embed,
    detect: Detect,
    meters: [Meter; 3],
    outcome: Outcome,
    keeps_messages: bool,
}

impl Pipeline {
    /// New stages, that commission a series on so many rows (0: as many as the bundle says).
    ///
    /// # Errors
    /// What is wrong with the configuration or the bundle.
    pub fn chain(&self, commissioning_rows: usize) -> Result<Chain> {
        let preprocess = Preprocess::new(self.preprocess.clone(), &scope()).map_err(problems)?;
        self.chain_from(Front::Preprocess(Box::new(preprocess), ReadingsBuilder::default()), commissioning_rows)
    }

    /// The same without preprocess: it takes samples.
    ///
    /// # Errors
    /// What is wrong with the configuration or the bundle.
    pub fn chain_of_samples(&self, commissioning_rows: usize) -> Result<Chain> {
        self.chain_from(Front::Embed(SamplesBuilder::default()), commissioning_rows)
    }

    fn chain_from(&self, front: Front, commissioning_rows: usize) -> Result<Chain> {
        let mut embed = self.embed.clone();
        embed.commissioning_rows = commissioning_rows;
        let detect = Detect::with_manifest(self.detect.clone(), &scope(), &self.manifest, &self.digest);
        Ok(Chain {
            front,
            embed: Embed::new(embed, &scope()).map_err(problems)?,
            detect: detect.map_err(problems)?,
            meters: Default::default(),
            outcome: Outcome::default(),
            keeps_messages: false,
        })
    }
}

pub(crate) fn scope() -> Scope {
    Scope { site: "bench".into(), shard: 0, shards: 1 }
}

pub(crate) fn problems(problems: Vec<String>) -> anyhow::Error {
    ConfigError { problems }.into()
}

impl Chain {
    /// The same, and its outcome has the messages too.
    pub fn with_messages(self) -> Self {
        Self { keeps_messages: true, ..self }
    }

    /// Adds a reading that arrived when it happened.
    ///
    /// # Errors
    /// If a stage refuses a message.
    pub fn push(&mut self, series: &str, time: Timestamp, value: f64) -> Result<()> {
        match &mut self.front {
            Front::Preprocess(_, readings) => readings.push(series, time, value, 0, time),
            Front::Embed(samples) => samples.push(series, time, value, 0, 0),
        }
        self.flush_full()
    }

    /// Adds a sample, past preprocess.
    ///
    /// # Errors
    /// If a stage refuses a message, or if the chain begins with preprocess.
    pub fn push_sample(&mut self, series: &str, time: Timestamp, value: f64, quality: u16, period: i64) -> Result<()> {
        let Front::Embed(samples) = &mut self.front else {
            return Err(anyhow!("this chain begins with preprocess, which makes the samples"));
        };
        samples.push(series, time, value, quality, period);
        self.flush_full()
    }

    fn flush_full(&mut self) -> Result<()> {
        let rows = match &self.front {
            Front::Preprocess(_, readings) => readings.len(),
            Front::Embed(samples) => samples.len(),
        };
        if rows >= MESSAGE_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let samples = match &mut self.front {
            Front::Preprocess(preprocess, readings) => step(&mut **preprocess, readings.encode())?.main,
            Front::Embed(samples) => vec![samples.encode()],
        };
        for samples in samples {
            for embeddings in step(&mut self.embed, samples)?.main {
                let out = step(&mut self.detect, embeddings)?;
                if self.keeps_messages {
                    let scores = out.main.iter().map(|payload| ("scores.bench.0".to_owned(), payload.clone()));
                    let messages = out.alerts.iter().cloned().chain(scores);
                    self.outcome
                        .messages
                        .extend(messages.map(|(subject, payload)| Message { subject, payload: payload.into() }));
                }
                for scores in out.main {
                    let scores = Scores::decode(&scores)?;
                    let told = (0..scores.rows.len()).filter_map(|row| scores.window(row));
                    self.outcome.told.extend(told.flat_map(|told| told.vector).map(half::f16::to_f32));
                    self.outcome.rows.extend((0..scores.rows.len()).map(|row| Row {
                        time: scores.rows.time[row],
                        score: f64::from(scores.score[row]),
                        tail: scores.tail[row],
                        flags: scores.flags[row],
                    }));
                }
                for (_, alert) in &out.alerts {
                    self.outcome.alerts.push(serde_json::from_slice(alert)?);
                }
            }
        }
        self.measure();
        Ok(())
    }

    fn measure(&mut self) {
        let [preprocess, embed, detect] = &mut self.meters;
        self.outcome.state_end = StateBytes {
            preprocess: match &mut self.front {
                Front::Preprocess(stage, _) => preprocess.measure(&mut **stage),
                Front::Embed(_) => 0,
            },
            embed: embed.measure(&mut self.embed),
            detect: detect.measure(&mut self.detect),
        };
        self.outcome.state_max = self.outcome.state_max.max(self.outcome.state_end);
    }

    /// What came out of everything.
    ///
    /// # Errors
    /// If a stage refuses the last message.
    pub fn finish(mut self) -> Result<Outcome> {
        self.flush()?;
        Ok(self.outcome)
    }
}

/// One message through a stage, of which nothing may be refused.
pub(crate) fn step<S: Stage>(stage: &mut S, payload: Vec<u8>) -> Result<Stepped> {
    whole(offline::step(stage, &offline::incoming::<S>("bench", payload)))
}
