//! Bundles that were pushed to the region come down into the gateway's folder, whoever of them is wanted; and wishes for them.
//!
//! The region's bucket is an object store: the chunks of a file, then a message that says which they are. A chunk lies in a file
//! of its own, named by its sequence, until that message comes: what comes again after a crash is written again. A bundle
//! whose files are there is verified and taken ([`Library::install`]); what is not signed by a trusted key is removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use eddy_runtime::{
    bundle::Library,
    bus::{Bus, BusError, Publication, PublishError, nats::Read},
    telemetry::Telemetry,
};
use eddy_schemas::{
    control::is_digest,
    models::{self, Desired, FILES, FOR_ALL},
    names,
};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::tail::Taker;

/// The bucket's stream and subjects.
pub const STREAM: &str = "OBJ_MODELS";
/// See [`STREAM`].
pub const SUBJECTS: &str = "$O.MODELS.>";
/// The stream and subjects of the wishes.
pub const WISH_STREAM: &str = "KV_DESIRED";
/// See [`WISH_STREAM`].
pub const WISH_SUBJECTS: &str = "$KV.DESIRED.>";
const CHUNK_PREFIX: &str = "$O.MODELS.C.";
const META_PREFIX: &str = "$O.MODELS.M.";
const WISH_PREFIX: &str = "$KV.DESIRED.";
/// What came and is no bundle yet may take so much; past it all of it is removed.
const INCOMING_BYTES_MAX: u64 = 256 << 20;

/// What takes the bucket's messages.
pub struct Bundles {
    /// Where verified ones go.
    pub library: Library,
    /// What came, below the folder of bundles.
    pub incoming: PathBuf,
    /// What it tells about itself.
    pub telemetry: Arc<Telemetry>,
}

/// What of an object's description is needed.
#[derive(Deserialize)]
struct Meta {
    name: String,
    nuid: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    chunks: usize,
    #[serde(default)]
    deleted: bool,
}

/// What became of a message.
#[derive(Debug, PartialEq)]
enum Taken {
    /// It waits for others.
    Waits,
    /// A bundle is whole, and in the folder.
    Installed(String),
}

impl Bundles {
    /// Below `folder`, which holds the bundles.
    pub fn new(library: Library, folder: &Path, telemetry: Arc<Telemetry>) -> Self {
        telemetry.decision("bundle_refused", 0);
        Self { library, incoming: folder.join(".incoming"), telemetry }
    }

    fn message(&self, message: &Read) -> Result<Taken, String> {
        let told = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| format!("{path}: {error}")
        };
        if let Some(nuid) = message.subject.strip_prefix(CHUNK_PREFIX) {
            if !is_token(nuid) {
                return Err(format!("{nuid:?} is no object's id"));
            }
            let folder = self.incoming.join(nuid);
            self.make_room().map_err(told(&self.incoming))?;
            fs::create_dir_all(&folder).map_err(told(&folder))?;
            // Sorted by name they are sorted by sequence.
            let path = folder.join(format!("{:020}", message.sequence));
            fs::write(&path, &message.payload).map_err(told(&path))?;
            return Ok(Taken::Waits);
        }
        let meta: Meta = match message.subject.starts_with(META_PREFIX) {
            true => serde_json::from_slice(&message.payload).map_err(|error| format!("no object: {error}"))?,
            false => return Err("neither a chunk nor an object".into()),
        };
        if meta.deleted || meta.nuid.is_empty() {
            return Ok(Taken::Waits);
        }
        let named = meta.name.split_once('/').filter(|(digest, file)| is_digest(digest) && FILES.contains(file));
        let Some((digest, file)) = named.filter(|_| is_token(&meta.nuid)) else {
            return Err(format!("object {:?} is no file of a bundle: <digest>/<file> is taken", meta.name));
        };
        self.assemble(&meta, digest, file)?;
        self.install(digest, file)
    }

    /// Makes a file of its chunks.
    fn assemble(&self, meta: &Meta, digest: &str, file: &str) -> Result<(), String> {
        let failed = |error: io::Error| format!("object {:?}: {error}", meta.name);
        let (chunks, bundle) = (self.incoming.join(&meta.nuid), self.incoming.join(digest));
        let mut paths = match fs::read_dir(&chunks) {
            // An object without a byte has none.
            Err(error) if error.kind() == io::ErrorKind::NotFound && meta.size == 0 => Vec::new(),
            entries => {
                let entries: Result<Vec<_>, _> = entries.map_err(failed)?.collect();
                entries.map_err(failed)?.into_iter().map(|entry| entry.path()).collect()
            }
        };
        paths.sort_unstable();
        let mut bytes = Vec::new();
        for path in &paths {
            bytes.extend(fs::read(path).map_err(failed)?);
        }
        if bytes.len() as u64 != meta.size || paths.len() != meta.chunks {
            let (found, size) = (bytes.len(), meta.size);
            let counts = format!("{} of {} chunks", paths.len(), meta.chunks);
            return Err(format!(
                "object {:?}: {found} of {size} bytes in {counts} came: push the bundle again",
                meta.name
            ));
        }
        fs::create_dir_all(&bundle).and_then(|()| fs::write(bundle.join(file), bytes)).map_err(failed)?;
        fs::remove_dir_all(&chunks).or_else(|error| if meta.size == 0 { Ok(()) } else { Err(error) }).map_err(failed)
    }

    /// Takes the bundle if its last file came.
    fn install(&self, digest: &str, file: &str) -> Result<Taken, String> {
        if FILES.last() != Some(&file) {
            return Ok(Taken::Waits);
        }
        let bundle = self.incoming.join(digest);
        let found = fs::read(bundle.join(file)).map(|bytes| blake3::hash(&bytes).to_hex().to_string());
        let installed = match found {
            Ok(found) if found == digest => self.library.install(&bundle).map_err(|error| error.to_string()),
            Ok(found) => Err(format!("its {file} is that of bundle {found}")),
            Err(error) => Err(error.to_string()),
        };
        // A refused one is not kept; what cannot be removed is no reason against a good one.
        let _ = fs::remove_dir_all(&bundle);
        installed.map(|bundle| Taken::Installed(bundle.digest)).map_err(|error| format!("bundle {digest}: {error}"))
    }

    /// Removes what came if it is too much: objects that never became whole.
    fn make_room(&self) -> io::Result<()> {
        let mut bytes = 0;
        for folder in fs::read_dir(&self.incoming).into_iter().flatten() {
            for file in fs::read_dir(folder?.path()).into_iter().flatten() {
                bytes += file?.metadata()?.len();
            }
        }
        if bytes <= INCOMING_BYTES_MAX { Ok(()) } else { fs::remove_dir_all(&self.incoming) }
    }
}

/// An id as NATS makes them: safe as a folder's name.
fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

impl Taker for Bundles {
    async fn take(&mut self, message: &Read) -> Result<(), BusError> {
        match self.message(message) {
            Ok(Taken::Waits) => {}
            Ok(Taken::Installed(digest)) => {
                tracing::info!(digest, "a bundle came from the region");
                self.telemetry.decision("bundle_taken", 1);
            }
            Err(problem) => {
                tracing::warn!(problem, subject = message.subject, sequence = message.sequence, "put aside");
                self.telemetry.decision("bundle_refused", 1);
            }
        }
        Ok(())
    }
}

/// What takes wishes: the site's own one goes before the one for all.
pub struct Wishes<B, H> {
    /// The gateway's streams.
    pub bus: B,
    /// The region's.
    pub hub: H,
    /// The site.
    pub site: String,
    /// Wakes what brings bundles down: the wanted one may be new.
    pub wake: Arc<Notify>,
    /// What it tells about itself.
    pub telemetry: Arc<Telemetry>,
}

/// Whom a wish is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Site,
    All,
}

/// The wish in a message, if it can be for this site; one that was taken back is none.
fn wish(site: &str, message: &Read) -> Result<Option<(For, Desired)>, String> {
    let key = message.subject.strip_prefix(WISH_PREFIX).ok_or("not a key of the bucket")?;
    let whom = match key {
        FOR_ALL => For::All,
        key if key == models::key_of(site) => For::Site,
        _ => return Ok(None),
    };
    if message.payload.is_empty() {
        return Ok(None);
    }
    let mut wish: Desired = serde_json::from_slice(&message.payload).map_err(|error| format!("no wish: {error}"))?;
    if !is_digest(&wish.digest) {
        return Err(format!("{:?} is no bundle's digest", wish.digest));
    }
    wish.origin = format!("region/{}", wish.origin);
    Ok(Some((whom, wish)))
}

impl<B: Bus, H: Bus> Taker for Wishes<B, H> {
    async fn take(&mut self, message: &Read) -> Result<(), BusError> {
        let wish = match wish(&self.site, message) {
            Ok(Some((For::All, _))) if self.has_own().await? => return Ok(()),
            Ok(Some((_, wish))) => wish,
            Ok(None) => return Ok(()),
            Err(problem) => {
                tracing::warn!(problem, subject = message.subject, sequence = message.sequence, "put aside");
                self.telemetry.decision("wish_refused", 1);
                return Ok(());
            }
        };
        let subject = models::desired_subject(&names::encode(&self.site));
        let json = serde_json::to_vec(&wish).map_err(|error| BusError::Unavailable(error.to_string()))?;
        // A wish that came already, before a crash or with the stream's beginning, is none anew: what was said here since stands.
        let last = self.bus.last(models::STREAM, &subject).await?;
        let is_older = |last: &[u8]| serde_json::from_slice::<Desired>(last).is_ok_and(|last| last.time >= wish.time);
        if last.as_ref().is_some_and(|last| is_older(&last.payload)) {
            return Ok(());
        }
        let guard = Some(last.map_or(0, |last| last.sequence));
        let publication =
            Publication { stream: models::STREAM.into(), subject, headers: Vec::new(), payload: json.into(), guard };
        match self.bus.publish(vec![publication]).await {
            Ok(_) => {
                self.wake.notify_one();
                tracing::info!(digest = wish.digest, origin = wish.origin, "a bundle is wanted");
                self.telemetry.decision("wish_taken", 1);
                Ok(())
            }
            Err(PublishError::Fatal(problem)) => {
                tracing::error!(problem, subject = message.subject, "put aside");
                Ok(())
            }
            Err(error) => Err(BusError::Unavailable(error.to_string())),
        }
    }
}

impl<B: Bus, H: Bus> Wishes<B, H> {
    /// Whether the region wants something of this site in particular.
    async fn has_own(&self) -> Result<bool, BusError> {
        let own = format!("{WISH_PREFIX}{}", models::key_of(&self.site));
        Ok(self.hub.last(WISH_STREAM, &own).await?.is_some_and(|last| !last.payload.is_empty()))
    }
}

#[cfg(test)]
mod tests;
