//! Detect: vectors become scores, scores become episodes, episodes are told as alerts.
//!
//! Input EMBEDDINGS, output DETECTIONS: exactly one score row per embedding, one more (channel `*`) whenever the channels
//! of a device have been judged together, every control in its place; alerts go out atomically with the rows that
//! they came with. A row is judged by the nearest of what its own series has seen, that distance by how often the series
//! had one as large, and the device by all its channels: see [`crate::judge`], [`crate::series`], [`crate::joint`],
//! [`crate::device`]. Each bundle that embed runs has a judge of its own: see [`crate::panel`].
//!
//! State: [`crate::records`], told device by device while rows come: a replay leaves out the rows that a device has seen. Ordering: a series' rows in time order, as embed gives them. Redelivery: none, the loop
//! suppresses it. A device's rows and alerts depend on that device's rows and on controls alone, in their order: on no
//! other device, no batch and no clock.

use std::ops::Range;

use eddy_runtime::{
    bundle::{Bundle, Library, Manifest},
    position::Seen,
    stage::{Incoming, Input, Outbox, SaveRecord, Scope, Spec, Stage, StateError},
};
use eddy_schemas::{ControlKind, Embeddings, LayoutError, ScoresBuilder, side::Reason};

use crate::{
    Config,
    judge::{Court, Row},
    panel::Panel,
    plan::Plan,
};

/// The stage.
pub struct Detect {
    court: Court,
    panel: Panel,
}

impl Stage for Detect {
    const SPEC: Spec = Spec {
        name: "detect",
        inputs: &[Input { stream: "EMBEDDINGS", prefix: "embeddings", sharded: true }],
        output_stream: "DETECTIONS",
        output_prefix: "scores",
        stateful: true,
        state_version: 3,
    };
    const DEFAULTS: &'static str = include_str!("../default.toml");
    type Config = Config;
    type Input = Embeddings;
    type Output = ScoresBuilder;

    fn new(config: Config, scope: &Scope) -> Result<Self, Vec<String>> {
        match Bundle::open(&config.bundle, &config.trusted_keys, config.allow_unsigned) {
            Ok(bundle) => Self::with_manifest(config, scope, &bundle.manifest, &bundle.digest),
            Err(error) => {
                let mut problems = config.validate();
                problems.push(format!("detect.bundle: {error}"));
                Err(problems)
            }
        }
    }

    fn outputs(&self) -> Vec<ScoresBuilder> {
        vec![self.panel.batch()]
    }

    fn decode(&self, message: &Incoming) -> Result<Embeddings, (Reason, String)> {
        let batch = Embeddings::decode(&message.payload).map_err(|error| match error {
            LayoutError::Version { .. } => (Reason::UnknownVersion, error.to_string()),
            _ => (Reason::Malformed, error.to_string()),
        })?;
        // A batch of controls alone is of no bundle in particular, but embed always names its own.
        match self.panel.refuses(&batch) {
            Some(problem) => Err((Reason::BundleMismatch, problem)),
            None => Ok(batch),
        }
    }

    fn rows(input: &Embeddings) -> usize {
        input.rows.len()
    }

    fn process(
        &mut self,
        message: &Incoming,
        input: &Embeddings,
        rows: Range<usize>,
        out: &mut Outbox<ScoresBuilder>,
    ) -> usize {
        let Self { court, panel } = self;
        if !out.main[0].is_empty() && out.main[0].bundle() != input.bundle {
            // A message is of one bundle; so is an output.
            out.end_output();
            return rows.start;
        }
        if let Err(problem) = panel.follow(court, input) {
            out.stop(problem);
            return rows.start;
        }
        panel.fit(&mut out.main[0]);
        panel.begin(input);
        let mut reached = rows.start;
        for row in rows {
            match input.rows.control(row) {
                Some(control) => {
                    panel.obey(court, &control.kind, out);
                    out.main[0].push_control(control);
                    panel.reset_slots(input);
                    if matches!(control.kind, ControlKind::Bundle { .. }) {
                        // What comes next may be of other bundles.
                        out.end_output();
                    }
                }
                None => panel.take(court, Row { message, input, row, heads: &input.heads }, out),
            }
            reached = row + 1;
            if out.is_full() {
                break;
            }
        }
        out.main[0].set_shadow(panel.report());
        let (judged, upper_twentieth) = panel.active().drift();
        out.count("judged", judged);
        out.count("upper_twentieth", upper_twentieth);
        if let Some((tails, newest)) = panel.active().scored() {
            out.score(&tails, newest);
        }
        reached
    }

    fn bundles(&self) -> Vec<(&'static str, String)> {
        let shadow = self.panel.report().map(|report| ("shadow", report.bundle));
        [("active", self.panel.active().plan.digest.clone())].into_iter().chain(shadow).collect()
    }

    fn save(&mut self, record: &mut SaveRecord<'_>) {
        self.panel.begin_save();
        self.panel.save_some(usize::MAX, record);
    }

    fn begin_save(&mut self) {
        self.panel.begin_save();
    }

    fn save_some(&mut self, at_most: usize, record: &mut SaveRecord<'_>) -> bool {
        self.panel.save_some(at_most, record)
    }

    fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.panel.load(key, value)
    }

    fn loaded(&mut self, seen: Seen) {
        self.panel.loaded(seen);
    }

    fn clear(&mut self) {
        self.panel.clear();
    }
}

impl Detect {
    /// Builds the stage for a manifest that is already in memory.
    ///
    /// # Errors
    /// Every problem of the config and of the manifest's part in detection.
    pub fn with_manifest(
        config: Config,
        scope: &Scope,
        manifest: &Manifest,
        digest: &str,
    ) -> Result<Self, Vec<String>> {
        let mut problems = config.validate();
        match Plan::new(manifest, digest) {
            Ok(plan) if problems.is_empty() => {
                let library = Library::new(&config.bundles, &config.trusted_keys, config.allow_unsigned)
                    .with_configured(&config.bundle, digest);
                Ok(Self { court: Court { site: scope.site.clone(), config }, panel: Panel::new(library, plan) })
            }
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more.into_iter().map(|problem| format!("detect.bundle: {problem}")));
                Err(problems)
            }
        }
    }
}

#[cfg(test)]
mod tests;
