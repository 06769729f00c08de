//! Which bundles run: the active one, and the one in the shadow, if there is one; changed by controls alone, so that it is a
//! function of the recording.

use eddy_runtime::{
    bundle::{BundleError, Library},
    stage::{SaveRecord, StateError},
};
use eddy_schemas::{BundleAction, EmbeddingsBuilder};

use crate::loaded::Loaded;

/// The record of the digests: the active bundle's, and on a second line that of the one in the shadow. It sorts before the
/// records of series, whose windows are as long as these bundles take them.
pub(crate) const KEY: &[u8] = b"b";

/// Why a control was not obeyed.
#[derive(Debug)]
pub(crate) enum Disobeyed {
    /// The bundle cannot be had at this time. Capture saw it, so another reading of the same recording will obey: this one must not
    /// go on without.
    Away(String),
    /// It is there and cannot run: so it will be on each reading.
    Unfit(String),
}

/// The bundles in memory.
pub(crate) struct Roles {
    library: Library,
    /// As configured: what a stage without state begins with.
    configured: String,
    pub(crate) active: Loaded,
    pub(crate) shadow: Option<Loaded>,
    is_saved: bool,
}

impl Roles {
    pub(crate) fn new(library: Library, configured: Loaded) -> Self {
        Self { library, configured: configured.digest.clone(), active: configured, shadow: None, is_saved: false }
    }

    /// The bundles that run, the active one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Loaded> {
        std::iter::once(&self.active).chain(&self.shadow)
    }

    /// The same, to gather rows.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Loaded> {
        std::iter::once(&mut self.active).chain(&mut self.shadow)
    }

    /// Samples that the longest window of them takes.
    pub(crate) fn width(&self) -> usize {
        self.all().map(|loaded| loaded.width).max().unwrap_or_default()
    }

    fn shadow_digest(&self) -> Option<&str> {
        self.shadow.as_ref().map(|shadow| shadow.digest.as_str())
    }

    /// An empty batch for their vectors.
    pub(crate) fn batch(&self) -> EmbeddingsBuilder {
        let batch = EmbeddingsBuilder::new(&self.active.digest, &self.active.heads);
        match &self.shadow {
            Some(shadow) => batch.with_shadow(&shadow.digest, &shadow.heads),
            None => batch,
        }
    }

    /// Gives an output that has not begun the shape for the bundles that run; whether it has that now.
    pub(crate) fn fit(&self, batch: &mut EmbeddingsBuilder) -> bool {
        let fits = batch.is_of(&self.active.digest, self.shadow_digest());
        if !fits && batch.is_empty() {
            *batch = self.batch();
            return true;
        }
        fits
    }

    /// Does what a control asks. No row may wait for its vectors.
    ///
    /// # Errors
    /// Why that was not done; everything is as it was.
    pub(crate) fn obey(&mut self, digest: &str, action: BundleAction) -> Result<(), Disobeyed> {
        let is_active = self.active.digest == digest;
        let in_shadow = self.shadow_digest() == Some(digest);
        match action {
            BundleAction::Stage if is_active || in_shadow => return Ok(()),
            BundleAction::Activate if is_active => return Ok(()),
            BundleAction::Stage => self.shadow = Some(self.open(digest)?),
            BundleAction::Activate => {
                let next = match self.shadow.take_if(|_| in_shadow) {
                    Some(shadow) => shadow,
                    None => self.open(digest)?,
                };
                self.shadow = Some(std::mem::replace(&mut self.active, next));
            }
            BundleAction::Retire if in_shadow => self.shadow = None,
            BundleAction::Retire => return Ok(()),
        }
        self.is_saved = false;
        Ok(())
    }

    fn open(&self, digest: &str) -> Result<Loaded, Disobeyed> {
        let bundle = self.library.open(digest).map_err(|error| match error {
            // A stage without a folder never had any but its own.
            BundleError::NoFolder { .. } => Disobeyed::Unfit(error.to_string()),
            error => Disobeyed::Away(error.to_string()),
        })?;
        Loaded::new(bundle).map_err(|problems| Disobeyed::Unfit(format!("bundle {digest}: {}", problems.join("; "))))
    }

    pub(crate) fn save(&mut self, record: &mut SaveRecord<'_>) {
        if !std::mem::replace(&mut self.is_saved, true) {
            let digests: Vec<&str> = self.all().map(|loaded| loaded.digest.as_str()).collect();
            record(KEY, Some(digests.join("\n").as_bytes()));
        }
    }

    pub(crate) fn load(&mut self, value: &[u8]) -> Result<(), StateError> {
        let wrong = |problem: String| StateError { key: "b".into(), problem };
        let text = std::str::from_utf8(value).map_err(|error| wrong(error.to_string()))?;
        let (active, shadow) = match text.split_once('\n') {
            Some((active, shadow)) => (active, Some(shadow)),
            None => (text, None),
        };
        let advice = |problem: Disobeyed| {
            let (Disobeyed::Away(problem) | Disobeyed::Unfit(problem)) = problem;
            wrong(format!("made with it, and it cannot be had: {problem}: bring it back, or clear this stage's state"))
        };
        if active != self.active.digest {
            self.active = self.open(active).map_err(advice)?;
        }
        self.shadow = shadow.map(|digest| self.open(digest)).transpose().map_err(advice)?;
        self.is_saved = true;
        Ok(())
    }

    /// Back to the configured bundle.
    ///
    /// # Panics
    /// If it can no longer be opened: the loop then tries again.
    pub(crate) fn clear(&mut self) {
        self.shadow = None;
        self.is_saved = false;
        self.active.forget();
        if self.active.digest != self.configured {
            self.active = self.open(&self.configured).unwrap_or_else(|problem| panic!("{problem:?}"));
        }
    }
}
