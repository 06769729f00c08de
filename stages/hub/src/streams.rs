//! The region's streams.

use eddy_runtime::bus::nats::PlannedStream;
use eddy_schemas::{
    models, names,
    region::{NEWS_STREAM, SKETCH_BUCKET, said_subject},
    sync,
};

use crate::config::Config;

/// Who leads what: `hub.lead.<shard>`.
pub const LEADERS: &str = "HUB";
/// Bytes of [`LEADERS`]: some heartbeats of each shard.
const LEADERS_BYTES: u64 = 64 << 20;
/// Bytes of the wishes: a line for each site.
const DESIRED_BYTES: u64 = 16 << 20;

/// A shard's lease.
pub fn lead_subject(shard: u32) -> String {
    format!("hub.lead.{shard}")
}

/// The stream of sketches.
pub fn sketches() -> String {
    format!("KV_{SKETCH_BUCKET}")
}

/// The site of a stream `SITE_<site>`.
pub fn site_of(stream: &str) -> Option<String> {
    stream.strip_prefix(sync::STREAM_PREFIX).filter(|token| !token.is_empty()).map(names::decode)
}

/// A site's stream: what its gateway sends, and what operators say of it here. At its bound it refuses the gateway, which has
/// budgets of its own; nothing that was taken is dropped for what is new.
pub fn site(name: &str, config: &Config) -> PlannedStream {
    PlannedStream {
        name: sync::stream_of(name),
        subjects: vec![format!("sync.{}.>", names::encode(name)), said_subject(name)],
        bytes_max: config.site_mb << 20,
        per_subject_max: None,
        drops_oldest: false,
        replicas: config.replicas,
    }
}

/// All that a region needs before its first site.
pub fn region(config: &Config) -> Vec<PlannedStream> {
    let replicas = config.replicas;
    let planned = |name: &str, subjects: &str, bytes_max, per_subject_max| PlannedStream {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        bytes_max,
        per_subject_max,
        drops_oldest: true,
        replicas,
    };
    vec![
        planned(LEADERS, "hub.lead.>", LEADERS_BYTES, Some(4)),
        planned(NEWS_STREAM, "region.label.>", config.region_mb << 20, None),
        planned(&sketches(), &format!("$KV.{SKETCH_BUCKET}.>"), config.sketches_mb << 20, Some(1)),
        PlannedStream {
            subjects: ["C", "M"].map(|kind| format!("$O.{}.{kind}.>", models::BUCKET)).into(),
            // What was pushed is not dropped for what is new.
            drops_oldest: false,
            ..planned(&format!("OBJ_{}", models::BUCKET), "", config.models_mb << 20, None)
        },
        planned(
            &format!("KV_{}", models::DESIRED_BUCKET),
            &format!("$KV.{}.>", models::DESIRED_BUCKET),
            DESIRED_BYTES,
            Some(4),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_says_its_site() {
        assert_eq!(site_of(&sync::stream_of("plant 1.b")), Some("plant 1.b".into()));
        assert_eq!(site_of("SITE_"), None);
        assert_eq!(site_of("REGION"), None);
    }
}
