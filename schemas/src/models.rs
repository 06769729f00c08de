//! Which bundle a site is to be judged by, and how far that is: what stands on the gateway's stream MODELS, and on the hub in a
//! bucket of bundles and one of wishes.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, names};

/// The gateway's stream: `models.<site>.desired` and `models.<site>.state`.
pub const STREAM: &str = "MODELS";
/// The hub's object store of bundles; an object is a file of one, `<digest>/<file>`.
pub const BUCKET: &str = "MODELS";
/// The hub's bucket of wishes, a [`Desired`] for each key: [`FOR_ALL`], or [`key_of`] a site, which goes first.
pub const DESIRED_BUCKET: &str = "DESIRED";
/// The key for every site that has none of its own.
pub const FOR_ALL: &str = "all";
/// The files of a bundle, in the order in which they are stored: the last one makes it whole.
pub const FILES: [&str; 3] = ["model.onnx", "model.toml.minisig", "model.toml"];

/// The key of a site's own wish.
pub fn key_of(site: &str) -> String {
    // Keys know fewer letters than subjects: `%` is none.
    format!("site.{}", names::encode(site).replace('%', "="))
}

/// Where a gateway's wish stands.
pub fn desired_subject(site_token: &str) -> String {
    format!("models.{site_token}.desired")
}

/// Where it stands how far the wish is.
pub fn state_subject(site_token: &str) -> String {
    format!("models.{site_token}.state")
}

/// Which bundle somebody wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Its digest.
    pub digest: String,
    /// Who wants it: `cli`, `region/<who>`.
    pub origin: String,
    /// When it was said.
    pub time: Timestamp,
    /// Without rehearsal and without a time in the shadow: for going back, or for somebody who knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
}

/// How far a wish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The bundle is not on the gateway yet.
    Waiting,
    /// The bundle is judged by the recent past, beside the active one.
    Rehearsing,
    /// It runs in the shadow, and learns.
    Shadow,
    /// It is what judges.
    Active,
    /// It will not be: the active one goes on.
    Refused,
}

/// How far the newest wish is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The wish: its sequence on the stream.
    pub wish: u64,
    /// The bundle's digest.
    pub digest: String,
    /// How far.
    pub phase: Phase,
    /// Why, in words.
    pub reason: String,
    /// When that began, by the gateway's clock.
    pub time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sites_key_is_one_that_a_bucket_takes() {
        let key = key_of("plant 1.a/ü");
        assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=./".contains(&b)), "{key}");
        assert_ne!(key_of("a=20b"), key_of("a b"));
    }

    #[test]
    fn a_wish_is_plain_unless_it_is_urgent() {
        let plain = Desired { digest: "d".into(), origin: "cli".into(), time: 5, at_once: false };
        let json = serde_json::to_string(&plain).unwrap();
        assert_eq!(json, r#"{"digest":"d","origin":"cli","time":5}"#);
        assert_eq!(serde_json::from_str::<Desired>(&json).unwrap(), plain);
    }
}
