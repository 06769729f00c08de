//! Is everything through? Told from checkpoints, not from waiting long enough.
//!
//! The last message on each output subject names the input position that it reaches. So the input is through when each
//! stage's output reaches the last message of what the stage before it wrote.

use std::time::{Duration, Instant};

use eddy_runtime::{
    client::ClientError,
    position::{HEADER, Position},
};

use crate::gateway::Gateway;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A hop: what is read, and what is written from it.
struct Hop {
    stage: &'static str,
    input: &'static str,
    input_prefix: &'static str,
    output: &'static str,
    output_prefix: &'static str,
}

/// The hops after capture, each within a shard.
const HOPS: [Hop; 3] = [
    Hop {
        stage: "preprocess",
        input: "READINGS",
        input_prefix: "readings",
        output: "SAMPLES",
        output_prefix: "samples",
    },
    Hop {
        stage: "embed",
        input: "SAMPLES",
        input_prefix: "samples",
        output: "EMBEDDINGS",
        output_prefix: "embeddings",
    },
    Hop {
        stage: "detect",
        input: "EMBEDDINGS",
        input_prefix: "embeddings",
        output: "DETECTIONS",
        output_prefix: "scores",
    },
];

/// What is not through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The stage.
    pub stage: &'static str,
    /// How far it has come, and how far it has to.
    pub place: String,
}

/// The first stage that has not reached the end of its input; `None` once all of INGEST is through.
///
/// # Errors
/// If the gateway does not answer.
pub async fn behind(gateway: &Gateway, shards: u32) -> Result<Option<Behind>, ClientError> {
    let site = gateway.site_token();
    let ingested = gateway.client.stream("INGEST").await?.map_or(0, |info| info.last_sequence);
    for shard in 0..shards {
        // Capture's outputs all carry the position of the whole; the furthest shard tells.
        let subject = format!("readings.{site}.{shard}");
        match lacking(gateway, "READINGS", &subject, "INGEST", ingested).await? {
            None => break,
            Some(place) if shard + 1 == shards => return Ok(Some(Behind { stage: "capture", place })),
            Some(_) => {}
        }
    }
    for hop in &HOPS {
        for shard in 0..shards {
            let last = gateway.client.last(hop.input, &format!("{}.{site}.{shard}", hop.input_prefix)).await?;
            let Some(last) = last else { continue };
            let output = format!("{}.{site}.{shard}", hop.output_prefix);
            if let Some(place) = lacking(gateway, hop.output, &output, hop.input, last.sequence).await? {
                return Ok(Some(Behind { stage: hop.stage, place }));
            }
        }
    }
    Ok(None)
}

/// What the last message on `subject` reaches in `input`, if that is less than `sequence`.
async fn lacking(
    gateway: &Gateway,
    output: &str,
    subject: &str,
    input: &str,
    sequence: u64,
) -> Result<Option<String>, ClientError> {
    let last = gateway.client.last(output, subject).await?;
    let header = last.as_ref().and_then(|last| last.header(HEADER)).unwrap_or_default();
    let position: Position = header.parse().unwrap_or_default();
    let covered = sequence == 0 || position.place(input).is_some_and(|place| place.next_sequence() > sequence);
    Ok((!covered).then(|| format!("reaches {header:?} of {input}'s {sequence} messages")))
}

/// Waits until all of INGEST is through.
///
/// # Errors
/// If for `patience` nothing moves: which stage is behind.
pub async fn wait(gateway: &Gateway, shards: u32, patience: Duration) -> anyhow::Result<()> {
    let (mut last, mut moved_at) = (None, Instant::now());
    loop {
        let Some(now) = behind(gateway, shards).await? else { return Ok(()) };
        if moved_at.elapsed() > patience {
            anyhow::bail!("{} has not moved for {patience:?}: {}", now.stage, now.place);
        }
        if last.as_ref() != Some(&now) {
            (last, moved_at) = (Some(now), Instant::now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
