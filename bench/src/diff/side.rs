//! One side of a comparison: a bundle folder, a config file, or what is shipped.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::Bytes;
use eddy_schemas::Timestamp;

use super::episodes::Episodes;
use crate::{
    offline::{Aside, Back, Front},
    pipeline::{Pipeline, Settings},
};

/// What stands for the shipped bundle and configuration.
pub const DEFAULT: &str = "default";

/// The settings that `name` stands for: `default`, a config file `.toml`, or else a bundle's folder, which runs with `config`.
pub fn settings(name: &Path, config: Option<&PathBuf>) -> Settings {
    let (config, bundle) = match name.extension() {
        _ if name.as_os_str() == DEFAULT => (config.cloned(), None),
        Some(extension) if extension == "toml" => (Some(name.to_owned()), None),
        _ => (config.cloned(), Some(name.to_owned())),
    };
    Settings { config, bundle, ..Settings::default() }
}

/// The stages of one side, and what they said.
pub struct Side {
    pub(super) pipeline: Pipeline,
    front: Front,
    back: Back,
    aside: Aside,
    pub(super) episodes: Episodes,
}

impl Side {
    /// New stages for a site of that name.
    ///
    /// # Errors
    /// What is wrong with the configuration or the bundle.
    pub fn new(settings: &Settings, site: &str) -> Result<Self> {
        let pipeline = Pipeline::new(settings)?;
        let (front, back) = (Front::new(&pipeline, site)?, Back::new(&pipeline, site)?);
        Ok(Self { pipeline, front, back, aside: Aside::default(), episodes: Episodes::default() })
    }

    /// Takes a message of INGEST.
    ///
    /// # Errors
    /// More alerts than are kept.
    pub fn ingest(&mut self, subject: &str, payload: &Bytes, arrival: Timestamp) -> Result<()> {
        for samples in self.front.ingest(subject, payload, arrival) {
            let judged = self.back.samples(samples);
            self.aside.join(judged.aside);
            judged.alerts.into_iter().try_for_each(|alert| self.episodes.take(alert))?;
        }
        Ok(())
    }

    /// What all stages put aside.
    pub fn aside(&self) -> Aside {
        let mut aside = self.front.aside.clone();
        aside.join(self.aside.clone());
        aside
    }
}
