//! CONTEXT: what the gateway knows of an alert's window, on `context.<site>.<device>`, one message for each alert.

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    search::{FoundLabel, FoundWindow},
};

/// The message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The alert that it is about.
    pub alert: String,
    /// The site.
    pub site: String,
    /// The device, as its operator calls it.
    pub device: String,
    /// Event time of the alert's opening: RFC 3339, UTC.
    pub opened: String,
    /// What the neighbours say.
    pub verdict: Verdict,
    /// In words, for people.
    pub text: String,
    /// The alert's own window.
    pub window: FoundWindow,
    /// The nearest windows that were known before it, nearest first; none of the same device overlaps it.
    pub neighbours: Vec<FoundWindow>,
    /// How many windows the index held.
    pub windows: u64,
    /// Digest of the bundle whose vectors were compared.
    pub bundle: String,
    /// What the region knows of it; `None` at a gateway of no region, and from releases that did not ask one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionContext>,
}

/// What other sites know of an alert's window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionContext {
    /// Whether it was asked, and what came of it.
    pub asked: Asked,
    /// Near windows of other sites, nearest first.
    #[serde(default)]
    pub neighbours: Vec<RegionWindow>,
    /// How many windows the region held where it was asked.
    #[serde(default)]
    pub windows: u64,
    /// Shards of the region that did not answer it in time: what they hold is not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_shards: Vec<u32>,
}

/// Whether the region was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Asked {
    /// It answered.
    Answered,
    /// Its sketch says that no other site has anything near: there was nothing to ask.
    NothingNear,
    /// There is no sketch of this bundle yet.
    NoSketch,
    /// It did not answer lately, so it is left alone for a while.
    BreakerOpen,
    /// It did not answer in time, or refused.
    NoAnswer {
        /// Why.
        problem: String,
    },
}

/// A window of another site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionWindow {
    /// The site.
    pub site: String,
    /// The device there.
    pub device: String,
    /// The channel.
    pub channel: String,
    /// Event time of its first sample: nanoseconds since the Unix epoch.
    pub start: Timestamp,
    /// Event time of its last sample.
    pub end: Timestamp,
    /// Euclidean distance between the vectors.
    pub distance: f32,
    /// Its anomaly score.
    pub score: f32,
    /// The alert that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// What somebody said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<FoundLabel>,
}

/// Whose windows a verdict stands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// What this gateway holds: its own windows, and those of other sites of which it was told what they are.
    #[default]
    Gateway,
    /// What the region answered.
    Region,
}

impl Tier {
    fn is_gateway(&self) -> bool {
        *self == Self::Gateway
    }
}

/// What an alert's window is, by what is known of its neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// The nearest labelled windows are this fault.
    Fault {
        /// Its name.
        name: String,
        /// How many of the near windows carry it.
        votes: usize,
        /// Whose these are.
        #[serde(default, skip_serializing_if = "Tier::is_gateway")]
        tier: Tier,
    },
    /// They are normal.
    KnownNormal {
        /// How many of the near windows say so.
        votes: usize,
        /// Whether any of them is another device's.
        sibling: bool,
        /// Whose these are.
        #[serde(default, skip_serializing_if = "Tier::is_gateway")]
        tier: Tier,
    },
    /// The device itself has shown the like before, and nobody has said what it is.
    Recurring,
    /// Other devices have, this one not.
    NovelToDevice,
    /// Nothing on this gateway is near.
    NovelToGateway,
    /// Nothing on this gateway, and nothing of other sites in the region.
    NovelToRegion,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As releases that asked no region wrote it.
    const OLD: &str = r#"{"alert":"00ff","site":"s","device":"d","opened":"2026-01-01T00:00:00Z","verdict":{"kind":"fault","name":"leak","votes":2},"text":"t","window":{"window":7,"device":"d","channel":"c","start":1,"end":2,"distance":0.0,"score":0.5,"filled":9,"sequence":3},"neighbours":[],"windows":8,"bundle":"b"}"#;

    #[test]
    fn a_context_of_a_gateway_without_a_region_is_what_it_was() {
        let context: Context = serde_json::from_str(OLD).unwrap();
        assert_eq!(context.region, None);
        assert_eq!(context.verdict, Verdict::Fault { name: "leak".into(), votes: 2, tier: Tier::Gateway });
        assert_eq!(serde_json::to_string(&context).unwrap(), OLD);
        let normal: Verdict = serde_json::from_str(r#"{"kind":"known_normal","votes":1,"sibling":true}"#).unwrap();
        assert_eq!(normal, Verdict::KnownNormal { votes: 1, sibling: true, tier: Tier::Gateway });
    }

    #[test]
    fn what_the_region_knows_comes_back() {
        let mut context: Context = serde_json::from_str(OLD).unwrap();
        context.verdict = Verdict::Fault { name: "leak".into(), votes: 2, tier: Tier::Region };
        let window = RegionWindow {
            site: "plant 2".into(),
            device: "pump".into(),
            channel: "t".into(),
            start: 1,
            end: 2,
            distance: 0.5,
            score: 1.0,
            alert: None,
            label: Some(FoundLabel { name: "leak".into(), origin: "plant 2/cli".into(), time: 5 }),
        };
        for asked in [Asked::Answered, Asked::NoAnswer { problem: "none".into() }, Asked::BreakerOpen] {
            let region = RegionContext { asked, neighbours: vec![window.clone()], windows: 9, missing_shards: vec![2] };
            context.region = Some(region);
            let json = serde_json::to_string(&context).unwrap();
            assert_eq!(serde_json::from_str::<Context>(&json).unwrap(), context, "{json}");
        }
    }
}
