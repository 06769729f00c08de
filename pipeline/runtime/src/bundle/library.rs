//! Where a stage finds a bundle by its digest.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use eddy_schemas::models::FILES;

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

    /// Verifies the bundle in `dir` and takes it into the folder; returns it. What is there already stays as it is.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn install(&self, dir: &Path) -> Result<Bundle, BundleError> {
        let bundle = Bundle::open(dir, &self.trusted_keys, self.allow_unsigned)?;
        let folder = self.folder.as_ref().ok_or_else(|| BundleError::NoFolder { digest: bundle.digest.clone() })?;
        let place = folder.join(&bundle.digest);
        if self.open(&bundle.digest).is_ok_and(|_| place.is_dir()) {
            return Ok(bundle);
        }
        let part = folder.join(format!(".{}.part", bundle.digest));
        let error = |path: &Path| {
            let path = path.to_owned();
            move |error| BundleError::Write { path, error }
        };
        for gone in [&part, &place] {
            match fs::remove_dir_all(gone) {
                Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(error(gone)(problem)),
                _ => {}
            }
        }
        fs::create_dir_all(&part).map_err(error(&part))?;
        for name in FILES {
            let (from, to) = (dir.join(name), part.join(name));
            match fs::copy(&from, &to) {
                // An unsigned one, where that is allowed.
                Err(problem) if problem.kind() == io::ErrorKind::NotFound => continue,
                copied => copied.map_err(error(&to))?,
            };
            fs::File::open(&to).and_then(|file| file.sync_all()).map_err(error(&to))?;
        }
        fs::rename(&part, &place).map_err(error(&place))?;
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(error(folder))?;
        // What was copied is what was verified.
        self.open(&bundle.digest)
    }

    /// The digests of the bundles in the folder, sorted; whether they can be opened is another question.
    ///
    /// # Errors
    /// That the folder cannot be read.
    pub fn digests(&self) -> io::Result<Vec<String>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let mut digests = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if eddy_schemas::control::is_digest(&name) {
                digests.push(name);
            }
        }
        digests.sort_unstable();
        Ok(digests)
    }

    /// Whether a bundle of this digest lies there, whatever it is worth.
    pub fn has(&self, digest: &str) -> bool {
        self.place(digest).is_ok_and(|place| place.join("model.toml").is_file())
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
