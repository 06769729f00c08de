//! What the measuring processes read and write, in a folder of one size.

use std::path::{Path, PathBuf};

/// The paths.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// Vectors to store, and to ask for.
    pub(super) base: PathBuf,
    pub(super) queries: PathBuf,
    /// The true ten nearest of each query.
    pub(super) truth: PathBuf,
    /// Those that an engine found.
    pub(super) found: PathBuf,
    /// Our own store.
    pub(super) store: PathBuf,
}

impl Files {
    /// Those in a folder.
    pub(super) fn of(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        Self {
            base: file("base.f32"),
            queries: file("queries.f32"),
            truth: file("truth.u32"),
            found: file("found.u32"),
            store: file("store"),
        }
    }
}
