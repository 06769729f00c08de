//! INV-7: raw values, and vectors from which they can be read off, leave the gateway only under an explicit policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, PoisonError},
};

use eddy_runtime::bundle::Library;
use serde::{Deserialize, Serialize};

use crate::class::Class;

/// What leaves under a policy alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Raw {
    /// The class of this name.
    Readings,
    /// The class of this name.
    Samples,
    /// In embeddings: vectors of heads that the bundle says may not leave.
    Heads,
}

impl Raw {
    const ALL: [(&'static str, Self); 3] =
        [("readings", Self::Readings), ("samples", Self::Samples), ("heads", Self::Heads)];

    /// What is called that.
    ///
    /// # Errors
    /// If nothing is.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, raw)| raw).ok_or_else(|| format!("{name:?}: readings, samples or heads is taken"))
    }
}

/// What raw data may leave, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What may leave.
    pub raw: BTreeSet<Raw>,
    /// Why; it stands in each file. Without it nothing raw leaves.
    pub purpose: String,
}

impl Policy {
    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        if !self.raw.is_empty() && self.purpose.trim().is_empty() {
            return Some("export.policy.purpose = \"\": say what the raw data of export.policy.raw is for".into());
        }
        (self.purpose.len() > 256)
            .then(|| format!("export.policy.purpose has {} bytes: at most 256 are taken", self.purpose.len()))
    }

    /// Whether this may leave.
    pub fn allows(&self, raw: Raw) -> bool {
        self.raw.contains(&raw) && !self.purpose.trim().is_empty()
    }

    /// Whether `class` may leave.
    ///
    /// # Errors
    /// If not: what would have to be said, and where.
    pub fn check(&self, class: Class) -> Result<(), String> {
        let raw = match class {
            Class::Readings => Raw::Readings,
            Class::Samples => Raw::Samples,
            _ => return Ok(()),
        };
        if self.allows(raw) {
            return Ok(());
        }
        let name = class.name();
        Err(format!(
            "class {name} holds raw values, which leave a gateway only under a policy (INV-7): state export.policy.raw = [{name:?}] and \
             export.policy.purpose in its config, or --allow {name} --purpose WHY"
        ))
    }
}

/// Which heads' vectors may leave, by the digest of the bundle that made them.
#[derive(Debug)]
pub struct Heads {
    all: bool,
    library: Library,
    /// What was looked up: the leaving heads of a bundle, none where it is not at hand.
    by_bundle: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Heads {
    /// Those that their bundle, which is one of the library's, lets leave; all, if the policy says so.
    pub fn new(policy: &Policy, library: Library) -> Self {
        Self { all: policy.allows(Raw::Heads), library, by_bundle: Mutex::default() }
    }

    /// All: for who only counts rows.
    pub fn all() -> Self {
        Self { all: true, library: Library::new(Path::new(""), &[], false), by_bundle: Mutex::default() }
    }

    /// Whether the vectors of `head` of the bundle with this digest may leave.
    pub fn may_leave(&self, digest: &str, head: &str) -> bool {
        if self.all {
            return true;
        }
        // A thread that panicked left what it had looked up.
        let mut known = self.by_bundle.lock().unwrap_or_else(PoisonError::into_inner);
        let leaving = known.entry(digest.to_owned()).or_insert_with(|| {
            let opened = self.library.open(digest);
            if let Err(error) = &opened {
                tracing::warn!(digest, %error, "vectors of this bundle stay: what of them may leave is not known");
            }
            let heads = opened.map(|bundle| bundle.manifest.heads).unwrap_or_default();
            heads.into_iter().filter(|head| head.leaves_gateway).map(|head| head.name).collect()
        });
        leaving.contains(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_classes_need_a_policy_with_a_purpose() {
        let refused = Policy::default().check(Class::Readings).unwrap_err();
        assert!(refused.contains("export.policy.raw = [\"readings\"]") && refused.contains("--allow"), "{refused}");
        let mut policy = Policy { raw: [Raw::Readings].into(), purpose: "  ".into() };
        assert!(policy.check(Class::Readings).is_err() && policy.problem().is_some());
        policy.purpose = "retraining".into();
        assert!(policy.check(Class::Readings).is_ok() && policy.check(Class::Samples).is_err());
        for class in [Class::Embeddings, Class::Scores, Class::Alerts, Class::Contexts, Class::Labels] {
            assert_eq!(Policy::default().check(class), Ok(()));
        }
    }

    #[test]
    fn heads_of_a_bundle_that_is_not_known_stay() {
        let bundles = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/bundles");
        let manifest = std::fs::read(bundles.join("default/model.toml")).unwrap();
        let known = blake3::hash(&manifest).to_hex().to_string();
        let folder = tempfile::tempdir().unwrap();
        let library = || Library::new(folder.path(), &[bundles.join("default.pub").display().to_string()], false);
        library().install(&bundles.join("default")).unwrap();
        let heads = Heads::new(&Policy::default(), library());
        assert!(heads.may_leave(&known, "learned") && !heads.may_leave(&known, "value"));
        assert!(!heads.may_leave(&"0".repeat(64), "learned"));
        let policy = Policy { raw: [Raw::Heads].into(), purpose: "retraining".into() };
        assert!(Heads::new(&policy, library()).may_leave("other", "raw"));
    }
}
