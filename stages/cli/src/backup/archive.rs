//! The archive: a plain tar whose entries are zstd frames, so that damage in one is told of that one, and `tar` and `zstd` open it
//! where no eddy is at hand. Its last two entries are the manifest and the manifest's own digest.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::NamedTempFile;

use super::manifest::{FORMAT, Manifest, Part};

const MANIFEST: &str = "manifest.json";
const SEAL: &str = "manifest.blake3";
const SUFFIX: &str = ".zst";
/// Fast enough for a gateway; streams are compressed already.
const LEVEL: i32 = 3;
/// Far more than any manifest has.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// Far more than any name has; a reader of tar takes a name of any length into memory.
const NAME_BYTES_MAX: u64 = 4_096;

/// An archive that is being written; nothing is at its place before [`Writer::finish`].
pub struct Writer {
    /// Under a name that nobody knows, and gone when this is dropped.
    tar: tar::Builder<NamedTempFile>,
    place: PathBuf,
    parts: Vec<Part>,
}

/// A part that is being written.
pub struct PartWriter {
    name: String,
    mode: u32,
    bytes: u64,
    digest: blake3::Hasher,
    frame: zstd::Encoder<'static, File>,
}

impl Writer {
    /// An archive that will be at `place`, readable by its owner alone.
    ///
    /// # Errors
    /// That something is there, or the folder cannot be written.
    pub fn create(place: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(!place.exists(), "{} is there already", place.display());
        let folder = folder_of(place);
        let draft = tempfile::Builder::new().prefix(".eddy-backup-").tempfile_in(folder);
        let draft = draft.with_context(|| format!("a draft in {}", folder.display()))?;
        Ok(Self { tar: tar::Builder::new(draft), place: place.to_owned(), parts: Vec::new() })
    }

    /// The folder that the archive will be in.
    pub fn folder(&self) -> &Path {
        folder_of(&self.place)
    }

    /// Begins a part, beside the archive: a tar's entry needs its size first.
    ///
    /// # Errors
    /// That the folder cannot be written.
    pub fn begin(&self, name: String, mode: u32) -> io::Result<PartWriter> {
        let file = tempfile::tempfile_in(self.folder())?;
        let frame = zstd::Encoder::new(file, LEVEL)?;
        Ok(PartWriter { name, mode, bytes: 0, digest: blake3::Hasher::new(), frame })
    }

    /// Takes a part that is complete.
    ///
    /// # Errors
    /// That the archive cannot be written.
    pub fn end(&mut self, part: PartWriter) -> io::Result<()> {
        let mut file = part.frame.finish()?;
        io::Seek::rewind(&mut file)?;
        let size = file.metadata()?.len();
        self.append(&format!("{}{SUFFIX}", part.name), part.mode, size, file)?;
        let blake3 = part.digest.finalize().to_hex().to_string();
        self.parts.push(Part { name: part.name, bytes: part.bytes, blake3, mode: part.mode });
        Ok(())
    }

    /// A part of all that `content` has.
    ///
    /// # Errors
    /// That it cannot be read, or the archive not be written.
    pub fn copy(&mut self, name: String, mode: u32, mut content: impl Read) -> io::Result<()> {
        let mut part = self.begin(name, mode)?;
        io::copy(&mut content, &mut part)?;
        self.end(part)
    }

    fn append(&mut self, name: &str, mode: u32, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(0);
        self.tar.append_data(&mut header, name, content)
    }

    /// Writes the manifest, brings all of it to disk, and puts it in its place. Returns what was written, and its size.
    ///
    /// # Errors
    /// That it cannot be written.
    pub fn finish(mut self, mut manifest: Manifest) -> anyhow::Result<(Manifest, u64)> {
        manifest.parts.clone_from(&self.parts);
        let json = serde_json::to_vec_pretty(&manifest)?;
        let seal = blake3::hash(&json).to_hex();
        self.append(MANIFEST, 0o600, json.len() as u64, &*json)?;
        self.append(SEAL, 0o600, seal.len() as u64, seal.as_bytes())?;
        let failed = || self.place.display().to_string();
        let draft = self.tar.into_inner().with_context(failed)?;
        draft.as_file().sync_all().with_context(failed)?;
        let bytes = draft.as_file().metadata()?.len();
        draft.persist_noclobber(&self.place).map_err(|problem| problem.error).with_context(failed)?;
        File::open(folder_of(&self.place))?.sync_all().with_context(failed)?;
        Ok((manifest, bytes))
    }
}

fn folder_of(place: &Path) -> &Path {
    place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.write_all(bytes)?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads an archive from end to end: its manifest, if every part is what that says.
///
/// # Errors
/// Everything that is damaged or missing.
pub fn verify(place: &Path) -> anyhow::Result<Manifest> {
    short_names(place)?;
    let mut found = Vec::new();
    let (mut manifest, mut seal, mut problems) = (None, None, Vec::new());
    let mut last = "its beginning".to_owned();
    let ended = each(place, &mut |name, mode, content| {
        last = name.to_owned();
        match name {
            MANIFEST => manifest = Some(read(content)?),
            SEAL => seal = Some(read(content)?),
            _ => match digest(content) {
                Ok((bytes, blake3)) => {
                    let name = name.strip_suffix(SUFFIX).unwrap_or(name).to_owned();
                    found.push(Part { name, bytes, blake3, mode });
                }
                Err(problem) => problems.push(format!("{name} is damaged: {problem}")),
            },
        }
        Ok(())
    });
    if let Err(problem) = ended {
        problems.push(format!("it cannot be read on after {last}: {problem}"));
    }
    let told = |problems: &[String]| anyhow::anyhow!("{}:\n  {}", place.display(), problems.join("\n  "));
    let Some(manifest) = manifest else {
        problems.push(format!("{MANIFEST} is missing: it is no backup, or ends too early"));
        return Err(told(&problems));
    };
    if seal.as_deref() != Some(blake3::hash(&manifest).to_hex().as_bytes()) {
        problems.push(format!("{MANIFEST} is damaged"));
        return Err(told(&problems));
    }
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .with_context(|| format!("{}: {MANIFEST} is of another release", place.display()))?;
    anyhow::ensure!(
        manifest.format == FORMAT,
        "{}: its layout is {}, this release reads {FORMAT}",
        place.display(),
        manifest.format
    );
    for part in &manifest.parts {
        match found.iter().find(|found| found.name == part.name) {
            Some(found) if (found.bytes, &found.blake3) == (part.bytes, &part.blake3) => {}
            Some(_) => problems.push(format!("{} is damaged: it is not what the manifest says", part.name)),
            // What could not be read was told already.
            None if problems.iter().any(|problem| problem.starts_with(&part.name)) => {}
            None => problems.push(format!("{} is missing", part.name)),
        }
    }
    let outside = manifest.streams.keys().chain(manifest.from.keys()).filter(|name| !is_plain(name));
    problems.extend(outside.map(|name| format!("{name:?} is no name of a part")));
    let strangers = found.iter().filter(|found| !manifest.parts.iter().any(|part| part.name == found.name));
    problems.extend(strangers.map(|found| format!("{} is not in the manifest", found.name)));
    if problems.is_empty() { Ok(manifest) } else { Err(told(&problems)) }
}

/// Calls `take` with every part's name, its permission bits, and its content.
///
/// # Errors
/// That the archive cannot be read, or what `take` says.
pub fn parts(place: &Path, take: &mut dyn FnMut(&str, u32, &mut dyn Read) -> anyhow::Result<()>) -> anyhow::Result<()> {
    each(place, &mut |name, mode, content| match name.strip_suffix(SUFFIX) {
        Some(name) => take(name, mode, &mut zstd::Decoder::new(content)?),
        None => Ok(()),
    })
}

fn each(place: &Path, take: &mut dyn FnMut(&str, u32, &mut dyn Read) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let file = File::open(place).with_context(|| place.display().to_string())?;
    let mut tar = tar::Archive::new(file);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        anyhow::ensure!(is_plain(&name) && entry.header().entry_type().is_file(), "{name:?} is no name of a part");
        let mode = entry.header().mode()? & 0o777;
        take(&name, mode, &mut entry)?;
    }
    Ok(())
}

/// Whether a name stays below whatever folder it is put in, in each of its tails too: `a//b` has one that is absolute.
fn is_plain(name: &str) -> bool {
    name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// That no entry would have a name of any length read into memory.
fn short_names(place: &Path) -> anyhow::Result<()> {
    let mut tar = tar::Archive::new(File::open(place).with_context(|| place.display().to_string())?);
    for entry in tar.entries_with_seek()?.raw(true) {
        // What cannot be read is told with its place by whoever reads the parts.
        let Ok(entry) = entry else { return Ok(()) };
        let (kind, size) = (entry.header().entry_type(), entry.size());
        let is_name = kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
        anyhow::ensure!(!is_name || size <= NAME_BYTES_MAX, "{}: a name of {size} bytes", place.display());
    }
    Ok(())
}

fn read(content: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn digest(content: &mut dyn Read) -> io::Result<(u64, String)> {
    let mut digest = blake3::Hasher::new();
    let bytes = io::copy(&mut zstd::Decoder::new(content)?, &mut digest)?;
    Ok((bytes, digest.finalize().to_hex().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(folder: &Path) -> PathBuf {
        let place = folder.join("a.tar");
        let mut writer = Writer::create(&place).unwrap();
        for name in ["files/state/x", "streams/READINGS"] {
            // Not compressible, so that every byte of the archive matters.
            let content: Vec<u8> = (0..20_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
            writer.copy(name.to_owned(), 0o640, &*content).unwrap();
        }
        let manifest = serde_json::json!({
            "format": FORMAT, "eddy": "1", "site": "s", "shards": 1, "made_at": "", "running": true, "with_keys": false,
            "positions": {}, "streams": {}, "from": {}, "notes": [], "parts": [],
        });
        writer.finish(serde_json::from_value(manifest).unwrap()).unwrap();
        place
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = made(folder.path());
        let manifest = verify(&place).unwrap();
        let mut seen = Vec::new();
        parts(&place, &mut |name, mode, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            seen.push((name.to_owned(), mode, bytes.len() as u64));
            Ok(())
        })
        .unwrap();
        let told: Vec<_> = manifest.parts.iter().map(|part| (part.name.clone(), part.mode, part.bytes)).collect();
        assert_eq!(seen, told);
        assert_eq!(seen[0], ("files/state/x".to_owned(), 0o640, 80_000));
        assert!(Writer::create(&place).is_err(), "nothing is written over");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let place = made(folder.path());
        let good = std::fs::read(&place).unwrap();
        for (at, expected) in [(50_000, "files/state/x"), (120_000, "streams/READINGS")] {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            std::fs::write(&place, bad).unwrap();
            let told = verify(&place).unwrap_err().to_string();
            assert!(told.contains(expected) && told.contains("damaged"), "{at}: {told}");
        }
        for cut in [0, 100, 50_000, good.len() - 2_000] {
            std::fs::write(&place, &good[..cut]).unwrap();
            assert!(verify(&place).is_err(), "cut at {cut}");
        }
        // Every single byte: whatever it hits, it is found.
        for at in (0..good.len()).step_by(997) {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            std::fs::write(&place, &bad).unwrap();
            let is_padding = good[at] == 0 && verify(&place).is_ok();
            assert!(is_padding || verify(&place).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("evil.tar");
        for name in ["../../etc/x.zst", "files//etc/x.zst", "/etc/x.zst", "files/./x.zst", "files/../x.zst", "files/"] {
            let mut tar = tar::Builder::new(File::create(&place).unwrap());
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(0);
            header.set_cksum();
            tar.append(&header, io::empty()).unwrap();
            tar.into_inner().unwrap();
            let told = verify(&place).unwrap_err().to_string();
            assert!(told.contains("no name of a part"), "{name}: {told}");
        }
    }

    #[test]
    fn a_name_without_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("long.tar");
        let mut file = File::create(&place).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(2 << 30);
        header.set_cksum();
        file.write_all(header.as_bytes()).unwrap();
        file.set_len(3 << 30).unwrap();
        assert!(verify(&place).unwrap_err().to_string().contains("a name of 2147483648 bytes"));
    }

    #[test]
    fn an_archive_is_its_owners_and_nothing_is_written_through_a_link() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join("a.tar.draft")).unwrap();
        let place = made(folder.path());
        assert_eq!(place.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(place.symlink_metadata().unwrap().is_file());
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    }
}
