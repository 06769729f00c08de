//! Where a stage finds a bundle by its digest.

use std::path::{Path, PathBuf};

use super::{Bundle, BundleError};

/// The bundles of a gateway: the configured one, and those of a folder that holds a folder for each, named by its digest.
#[derive(Clone, Debug)]
pub struct Library {
    configured: Option<(PathBuf, String)>,
    folder: Option<PathBuf>,
    trusted_keys: Vec<String>,
    allow_unsigned: bool,
}

impl Library {
    /// Bundles below `folder` (none, if it is empty) that one of the trusted keys signed; see [`Bundle::open`].
    pub fn new(folder: &Path, trusted_keys: &[String], allow_unsigned: bool) -> Self {
        Self {
            configured: None,
            folder: (!folder.as_os_str().is_empty()).then(|| folder.to_owned()),
            trusted_keys: trusted_keys.to_vec(),
            allow_unsigned,
        }
    }

    /// With the bundle that the stage was configured with, which may lie elsewhere.
    #[must_use]
    pub fn with_configured(mut self, dir: &Path, digest: &str) -> Self {
        self.configured = Some((dir.to_owned(), digest.to_owned()));
        self
    }

    /// Where the bundle of this digest lies, or would.
    ///
    /// # Errors
    /// That no folder is configured.
    pub fn place(&self, digest: &str) -> Result<PathBuf, BundleError> {
        match (&self.configured, &self.folder) {
            (Some((dir, configured)), _) if configured == digest => Ok(dir.clone()),
            (_, Some(folder)) => Ok(folder.join(digest)),
            (_, None) => Err(BundleError::NoFolder { digest: digest.to_owned() }),
        }
    }

    /// Opens the bundle of this digest.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn open(&self, digest: &str) -> Result<Bundle, BundleError> {
        let dir = self.place(digest)?;
        let bundle = Bundle::open(&dir, &self.trusted_keys, self.allow_unsigned)?;
        if bundle.digest == digest {
            Ok(bundle)
        } else {
            Err(BundleError::Another { path: dir, expected: digest.to_owned(), found: bundle.digest })
        }
    }
}
