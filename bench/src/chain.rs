//! The pipeline in one process: embed and detect, through the same bytes as on the bus.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use eddy_detect::Detect;
use eddy_embed::Embed;
use eddy_runtime::{
    bundle::Bundle,
    stage::{Batch, Incoming, Outbox, Scope, Stage},
};
use eddy_schemas::{SamplesBuilder, Scores, Timestamp, alert::CloudEvent, flags};
use serde::de::DeserializeOwned;

/// Rows of one message; the figures do not depend on it.
const MESSAGE_ROWS: usize = 2000;
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// What is run, and with which settings.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Folder of the model bundle.
    #[arg(long, default_value = "fixtures/bundles/default")]
    pub bundle: PathBuf,
    /// A key of detect's config to set otherwise, as in `gate_tail=1e-4`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A field of a head of the bundle to set otherwise, for detect alone, as in `raw.weight=0.05`.
    #[arg(long = "head", value_name = "HEAD.FIELD=VALUE")]
    pub head: Vec<String>,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Series, time, score, tail probability and flags of every score row, in order.
    pub rows: Vec<Row>,
    /// Every alert, in order.
    pub alerts: Vec<CloudEvent>,
}

/// A score row.
#[derive(Clone, Debug)]
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

/// Embed and detect.
pub struct Chain {
    embed: Embed,
    detect: Detect,
    samples: SamplesBuilder,
    outcome: Outcome,
}

impl Chain {
    /// Both new, with a commissioning of so many rows (0: as many as the bundle says).
    ///
    /// # Errors
    /// What is wrong with the settings or the bundle.
    pub fn new(settings: &Settings, commissioning_rows: usize) -> Result<Self> {
        let scope = Scope { site: "bench".into(), shard: 0, shards: 1 };
        let bundle = settings.bundle.display();
        let common = [format!("bundle={:?}", bundle.to_string()), "allow_unsigned=true".into()];
        let rows = [format!("commissioning_rows={commissioning_rows}")];
        let embed =
            Embed::new(config(Embed::DEFAULTS, "embed", common.iter().chain(&rows))?, &scope).map_err(joined)?;
        let mut opened = Bundle::open(&settings.bundle, &[], true)?;
        for change in &settings.head {
            set_head(&mut opened, change)?;
        }
        let config = config(Detect::DEFAULTS, "detect", common.iter().chain(&settings.set))?;
        let detect = Detect::with_manifest(config, &scope, &opened.manifest, &opened.digest).map_err(joined)?;
        Ok(Self { embed, detect, samples: SamplesBuilder::default(), outcome: Outcome::default() })
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// If a stage refuses it.
    pub fn push(&mut self, series: &str, time: Timestamp, value: f64, quality: u16, period: i64) -> Result<()> {
        self.samples.push(series, time, value, quality, period);
        if self.samples.len() >= MESSAGE_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let samples = self.samples.encode();
        for embeddings in step(&mut self.embed, samples)?.main {
            let out = step(&mut self.detect, embeddings)?;
            for scores in out.main {
                let scores = Scores::decode(&scores)?;
                self.outcome.rows.extend((0..scores.rows.len()).map(|row| Row {
                    time: scores.rows.time[row],
                    score: f64::from(scores.score[row]),
                    tail: scores.tail[row],
                    flags: scores.flags[row],
                }));
            }
            for alert in &out.alerts {
                self.outcome.alerts.push(serde_json::from_slice(alert)?);
            }
        }
        Ok(())
    }

    /// What came out of all samples.
    ///
    /// # Errors
    /// If a stage refuses the last of them.
    pub fn finish(mut self) -> Result<Outcome> {
        self.flush()?;
        Ok(self.outcome)
    }

    /// Bytes of detect's state, all records together.
    pub fn state_bytes(&mut self) -> usize {
        let mut bytes = 0;
        self.detect.save(&mut |key, value| bytes += key.len() + value.map_or(0, <[u8]>::len));
        bytes
    }
}

struct Stepped {
    main: Vec<Vec<u8>>,
    alerts: Vec<Vec<u8>>,
}

fn step<S: Stage>(stage: &mut S, payload: Vec<u8>) -> Result<Stepped> {
    let message = Incoming {
        stream: S::SPEC.inputs[0].stream.into(),
        subject: format!("{}.bench.0", S::SPEC.inputs[0].prefix),
        sequence: 1,
        stored_at: 0,
        content_type: None,
        payload: Bytes::from(payload),
    };
    let input = stage.decode(&message).map_err(|(reason, detail)| anyhow!("{}: {reason:?}: {detail}", S::SPEC.name))?;
    let mut stepped = Stepped { main: Vec::new(), alerts: Vec::new() };
    let (mut row, end) = (0, S::rows(&input));
    while row < end {
        let mut out = Outbox::new(stage.outputs(), OUTPUT_BYTES_MAX);
        row = stage.process(&message, &input, row..end, &mut out);
        if let Some(rejected) = out.rejected.first() {
            return Err(anyhow!("{}: rejected: {}", S::SPEC.name, rejected.rejection.detail));
        }
        stepped.main.extend(out.main.iter_mut().filter(|batch| batch.rows() > 0).map(Batch::encode));
        stepped.alerts.extend(out.alerts.into_iter().map(|alert| alert.payload));
    }
    Ok(stepped)
}

fn joined(problems: Vec<String>) -> anyhow::Error {
    anyhow!(problems.join("\n"))
}

fn config<'a, C: DeserializeOwned>(
    defaults: &str,
    table: &str,
    changes: impl Iterator<Item = &'a String>,
) -> Result<C> {
    let mut file: toml::Table = toml::from_str(defaults)?;
    let keys = file.get_mut(table).and_then(toml::Value::as_table_mut).ok_or_else(|| anyhow!("no table [{table}]"))?;
    for change in changes {
        let set: toml::Table = toml::from_str(change)?;
        keys.extend(set);
    }
    Ok(keys.clone().try_into()?)
}

fn set_head(bundle: &mut Bundle, change: &str) -> Result<()> {
    let wrong = || anyhow!("--head {change:?}: expected HEAD.FIELD=NUMBER, or HEAD.memory=gated|frozen");
    let (path, value) = change.split_once('=').ok_or_else(wrong)?;
    let (name, field) = path.split_once('.').ok_or_else(wrong)?;
    let head = bundle.manifest.heads.iter_mut().find(|head| head.name == name).ok_or_else(wrong)?;
    let number = || value.parse::<f64>().map_err(|_| wrong());
    match field {
        "weight" => head.weight = number()?,
        "evidence" => head.evidence = number()?,
        "floor" => head.floor = number()?,
        "history_bytes" => head.history_bytes = number()? as u32,
        "exclusion" => head.exclusion = number()? as usize,
        "min_rows" => head.min_rows = number()? as usize,
        "memory" if value == "gated" => head.memory = eddy_runtime::bundle::Memory::Gated,
        "memory" if value == "frozen" => head.memory = eddy_runtime::bundle::Memory::Frozen,
        _ => return Err(wrong()),
    }
    Ok(())
}
