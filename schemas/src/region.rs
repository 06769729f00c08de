//! What the region answers and tells (`proto/eddy/region/v1/region.proto`), and how its gateways hear of it.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, names};

/// The protobuf messages, as `proto/eddy/region/v1/region.proto` documents them.
#[allow(missing_docs)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/eddy.region.v1.rs"));
}

/// What the subjects of JetStream's API begin with for a gateway: the streams are the hub's account's, whose API another account sees
/// under a name of its own.
pub const API_PREFIX: &str = "JS.region.API";

/// On the hub's NATS: requests on `eddy.region.<method>`, in protobuf. On a gateway's `eddy.region.<site>.<method>`, which sync passes on.
pub const REQUEST_PREFIX: &str = "eddy.region";
/// `SearchRequest` to `SearchResponse`.
pub const SEARCH: &str = "search";
/// `ReceiptsRequest` to `ReceiptsResponse`.
pub const RECEIPTS: &str = "receipts";
/// `StatsRequest` to `StatsResponse`.
pub const STATS: &str = "stats";

/// The hub's stream of what all gateways should know: labels on `region.label.<site>`, a JSON [`LabelNews`] each.
pub const NEWS_STREAM: &str = "REGION";
/// The hub's KV bucket of sketches, a `Sketch` (protobuf) under each bundle's digest; its stream is `KV_SKETCHES`.
pub const SKETCH_BUCKET: &str = "SKETCHES";
/// A gateway's stream of what the region told it: the last `Sketch` of a bundle on `region.<site>.sketch.<digest>`.
pub const GATEWAY_STREAM: &str = "REGION";

/// An operator's word of an alert that was said in the region, as JSON on [`said_subject`] of the site's stream there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// The device.
    pub device: String,
    /// Its alert.
    pub alert: String,
    /// `normal`, or the name of a fault.
    pub label: String,
    /// Who says it: `hub/<certificate subject>`.
    pub origin: String,
    /// When, by their clock.
    pub time: Timestamp,
}

/// Where operators' words about a site's alerts go: a subject of the site's own stream.
pub fn said_subject(site: &str) -> String {
    format!("said.{}", names::encode(site))
}

/// A label that somebody gave in the region, and the window that it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelNews {
    /// The site whose window it is.
    pub site: String,
    /// The device there.
    pub device: String,
    /// The channel.
    pub channel: String,
    /// The alert.
    pub alert: String,
    /// `normal`, or the name of a fault.
    pub label: String,
    /// Where it was said, and by whom: `<site>/<origin>`, or `hub/<certificate subject>`.
    pub origin: String,
    /// When, by the clock of who said it.
    pub time: Timestamp,
    /// Hex digest of the bundle.
    pub bundle: String,
    /// Event time of the window's first sample.
    pub start: Timestamp,
    /// Event time of its last sample.
    pub end: Timestamp,
    /// How many of its samples are real.
    pub filled: u16,
    /// Its anomaly score.
    pub score: f32,
    /// The learned head's vector.
    pub vector: Vec<f32>,
}
