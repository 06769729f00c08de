//! Provisioning: the gateway's streams and durable consumers, as design and measurements ask for them.
//!
//! Stages only use what is provisioned (least privilege); `eddy up` runs this. It is idempotent:
//! an existing stream keeps its messages, and its bounds are moved to what is asked.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, pull},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};

use eddy_schemas::{models, region::GATEWAY_STREAM};

use crate::{
    bus::Source,
    client::{Client, ClientError},
    incarnation,
};

/// The byte bounds of a gateway's streams. Their sum must stay below the server's `max_file_store`, and that below the
/// partition: a full disk wedges a stream until the server restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamBounds {
    /// INGEST: how long devices can send while capture is down.
    pub ingest_mb: u64,
    /// CONTROL.
    pub control_mb: u64,
    /// READINGS: the recording.
    pub readings_mb: u64,
    /// SAMPLES.
    pub samples_mb: u64,
    /// EMBEDDINGS.
    pub embeddings_mb: u64,
    /// DETECTIONS.
    pub detections_mb: u64,
    /// CONTEXT: its oldest goes first.
    pub context_mb: u64,
    /// HEALTH: its oldest goes first.
    pub health_mb: u64,
    /// REGION: its oldest goes first.
    pub region_mb: u64,
    /// MODELS: its oldest goes first.
    pub models_mb: u64,
    /// SIDE: its oldest goes first.
    pub side_mb: u64,
}

impl StreamBounds {
    /// Their sum in bytes.
    pub fn total_bytes(&self) -> u64 {
        let all = [
            self.ingest_mb,
            self.control_mb,
            self.readings_mb,
            self.samples_mb,
            self.embeddings_mb,
            self.detections_mb,
            self.context_mb,
            self.health_mb,
            self.region_mb,
            self.models_mb,
            self.side_mb,
        ];
        all.iter().sum::<u64>() << 20
    }
}

/// A stage on the path to an alert and the stream it reads: what holds a stream back.
pub(crate) struct PathReader {
    pub(crate) stage: &'static str,
    pub(crate) stream: &'static str,
    pub(crate) prefix: &'static str,
    pub(crate) sharded: bool,
}

/// Every reader on the path to an alert.
pub(crate) const PATH: [PathReader; 5] = [
    PathReader { stage: "capture", stream: "INGEST", prefix: "ingest", sharded: false },
    PathReader { stage: "capture", stream: "CONTROL", prefix: "control", sharded: false },
    PathReader { stage: "preprocess", stream: "READINGS", prefix: "readings", sharded: true },
    PathReader { stage: "embed", stream: "SAMPLES", prefix: "samples", sharded: true },
    PathReader { stage: "detect", stream: "EMBEDDINGS", prefix: "embeddings", sharded: true },
];

/// Most messages of a consumer that are delivered but not acknowledged: between two commits of state all are.
pub(crate) const ACK_PENDING_MAX: i64 = 20_000;
/// After how long an unacknowledged message comes again; the stage says "in progress" long before.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(60);

/// Largest message that INGEST and CONTROL take: a dead letter must hold it, in base64, within `max_payload` (4 MB).
pub const SOURCE_BYTES_MAX: i32 = 5 << 19;

/// Wishes for bundles that are kept, and words on how far they are.
const MODELS_PER_SUBJECT: i64 = 256;

struct Planned {
    name: &'static str,
    prefixes: &'static [&'static str],
    megabytes: u64,
    /// What happens at the bound: the newest is refused (10077 reaches the sender) or the oldest goes.
    discard: DiscardPolicy,
    atomic: bool,
}

fn plan(bounds: &StreamBounds) -> Vec<Planned> {
    let new =
        |name, prefixes, megabytes, atomic| Planned { name, prefixes, megabytes, discard: DiscardPolicy::New, atomic };
    let old =
        |name, prefixes, megabytes, atomic| Planned { name, prefixes, megabytes, discard: DiscardPolicy::Old, atomic };
    vec![
        new("INGEST", &["ingest"], bounds.ingest_mb, false),
        new("CONTROL", &["control"], bounds.control_mb, false),
        new("READINGS", &["readings"], bounds.readings_mb, true),
        new("SAMPLES", &["samples"], bounds.samples_mb, false),
        new("EMBEDDINGS", &["embeddings"], bounds.embeddings_mb, false),
        new("DETECTIONS", &["scores", "alerts"], bounds.detections_mb, true),
        // Nobody on the path reads these, and rubbish must not stop the pipeline.
        old("CONTEXT", &["context"], bounds.context_mb, false),
        old("HEALTH", &["health"], bounds.health_mb, true),
        old(GATEWAY_STREAM, &["region"], bounds.region_mb, false),
        old(models::STREAM, &["models"], bounds.models_mb, false),
        old("SIDE", &["late", "deadletter"], bounds.side_mb, false),
    ]
}

/// Creates or updates the streams and durable consumers of `site`, cut into `shards`.
///
/// # Errors
/// If the server refuses: its words say which stream and why.
pub async fn provision(client: &Client, site: &str, shards: u32, bounds: &StreamBounds) -> Result<(), ClientError> {
    let token = eddy_schemas::names::encode(site);
    for planned in plan(bounds) {
        // A stream that is not there, or a server that does not answer, shows when it is made.
        let known = client.context().get_stream(planned.name).await.ok();
        let metadata = known.map(|stream| incarnation::kept(stream.cached_info())).unwrap_or_default();
        let config = Config {
            metadata,
            name: planned.name.to_owned(),
            subjects: planned.prefixes.iter().map(|prefix| format!("{prefix}.{token}.>")).collect(),
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: 1,
            max_bytes: (planned.megabytes << 20) as i64,
            max_message_size: if matches!(planned.name, "INGEST" | "CONTROL") { SOURCE_BYTES_MAX } else { -1 },
            discard: planned.discard,
            // What is wanted must not be dropped for what is said of it.
            max_messages_per_subject: if planned.name == models::STREAM { MODELS_PER_SUBJECT } else { -1 },
            allow_direct: true,
            allow_atomic_publish: planned.atomic,
            ..Default::default()
        };
        let refused = |error: &dyn std::fmt::Display| {
            ClientError::refused(format!("stream {} of {} MB", planned.name, planned.megabytes), error)
        };
        client.context().create_or_update_stream(config).await.map_err(|error| refused(&error))?;
    }
    for (_, source) in path_consumers(&token, shards) {
        let stream = client.context().get_stream(&source.stream).await;
        let refused = |error: &dyn std::fmt::Display| {
            ClientError::refused(format!("consumer {} of {}", source.durable, source.stream), error)
        };
        let stream = stream.map_err(|error| refused(&error))?;
        stream.create_consumer(durable(&source)).await.map_err(|error| refused(&error))?;
    }
    Ok(())
}

/// The durable consumers on the path to an alert, each with the stage whose it is.
pub fn path_consumers(site_token: &str, shards: u32) -> Vec<(&'static str, Source)> {
    let of = |reader: &'static PathReader| {
        let shards = if reader.sharded { shards } else { 1 };
        (0..shards).map(move |shard| (reader.stage, source(reader, site_token, shard)))
    };
    PATH.iter().flat_map(of).collect()
}

pub(crate) fn source(reader: &PathReader, site_token: &str, shard: u32) -> Source {
    let (durable, filter) = if reader.sharded {
        (format!("{}-{shard}", reader.stage), format!("{}.{site_token}.{shard}", reader.prefix))
    } else {
        (reader.stage.to_owned(), format!("{}.{site_token}.>", reader.prefix))
    };
    Source { stream: reader.stream.to_owned(), durable, filter, ack_pending_max: ACK_PENDING_MAX, ack_wait: ACK_WAIT }
}

/// A durable consumer: ack-all, so that one ack after a commit covers all that the commit contains.
pub(crate) fn durable(source: &Source) -> pull::Config {
    pull::Config {
        durable_name: Some(source.durable.clone()),
        filter_subject: source.filter.clone(),
        ack_policy: AckPolicy::All,
        ack_wait: source.ack_wait,
        max_ack_pending: source.ack_pending_max,
        max_deliver: -1,
        ..Default::default()
    }
}
