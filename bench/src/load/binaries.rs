//! The gateway's binaries, beside the bench's own: `cargo run -p eddy-bench` builds only the latter.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};

/// What a gateway and its region run.
const NAMES: [&str; 9] = [
    "eddy",
    "eddy-capture",
    "eddy-preprocess",
    "eddy-embed",
    "eddy-detect",
    "eddy-index",
    "eddy-sync",
    "eddy-hub",
    "eddy-export",
];

/// What a gateway alone runs: all that another build must have.
const GATEWAY: [&str; 6] = ["eddy", "eddy-capture", "eddy-preprocess", "eddy-embed", "eddy-detect", "eddy-index"];

/// What they are made of, in the workspace.
const SOURCES: [&str; 5] = ["pipeline", "stages", "schemas", "fixtures/bundles", "Cargo.lock"];

/// Where they are, and the bench itself.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    /// Their folder.
    pub(super) folder: PathBuf,
    /// The bench, for the processes of the floor. Asked before anything is built: a build may replace the file.
    pub(crate) bench: PathBuf,
}

impl Binaries {
    /// Finds them. Missing ones, and those older than a source of theirs, are built if cargo started the bench.
    ///
    /// # Errors
    /// If some are missing and cannot be built.
    pub(crate) fn find() -> Result<Self> {
        let bench = std::env::current_exe().context("asking for the path of eddy-bench")?;
        let folder = bench.parent().map(Path::to_owned).unwrap_or_default();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let newest = SOURCES.iter().filter_map(|source| newest(&workspace.join(source))).max();
        let wanting = wanting(&folder, newest);
        match std::env::var_os("CARGO") {
            Some(cargo) if !wanting.is_empty() => {
                eprintln!("{} of {}: missing, or older than the sources", wanting.join(", "), folder.display());
                build(Path::new(&cargo), &folder, &workspace)?;
            }
            None if !wanting.is_empty() => {
                eprintln!(
                    "warning: {} missing or older than the sources: `cargo build --workspace --bins` makes them new",
                    wanting.join(", ")
                );
            }
            _ => {}
        }
        let missing: Vec<&str> = NAMES.into_iter().filter(|name| !folder.join(name).is_file()).collect();
        if !missing.is_empty() {
            bail!(
                "{} not in {}: run `cargo build --workspace --bins` in the same profile, or start the bench with \
                 `cargo run`",
                missing.join(", "),
                folder.display()
            );
        }
        Ok(Self { folder, bench })
    }

    /// Those of another build, which this bench drives.
    ///
    /// # Errors
    /// If the folder lacks one that a gateway needs.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let bench = std::env::current_exe().context("asking for the path of eddy-bench")?;
        let missing: Vec<&str> = GATEWAY.into_iter().filter(|name| !folder.join(name).is_file()).collect();
        if !missing.is_empty() {
            bail!("{} not in {}", missing.join(", "), folder.display());
        }
        Ok(Self { folder: folder.to_owned(), bench })
    }

    /// Where they lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of one.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `release`, `debug`, or the name of another profile.
    pub(crate) fn profile(&self) -> String {
        self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// `eddy-eval`, which is built with the bench and measures quality.
    pub(crate) fn eval(&self) -> PathBuf {
        self.bench.with_file_name("eddy-eval")
    }

    /// When the newest of them was made, in seconds since 1970: another number is another build.
    pub(crate) fn made(&self) -> u64 {
        let all = NAMES.iter().map(|name| self.path(name)).chain([self.bench.clone(), self.eval()]);
        let newest = all.filter_map(|path| newest(&path)).max();
        newest.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
    }
}

/// When the newest file below `path` was changed; `None` where there is none.
fn newest(path: &Path) -> Option<SystemTime> {
    if path.is_file() {
        return path.metadata().and_then(|metadata| metadata.modified()).ok();
    }
    std::fs::read_dir(path).ok()?.filter_map(|entry| newest(&entry.ok()?.path())).max()
}

fn wanting(folder: &Path, newest: Option<SystemTime>) -> Vec<&'static str> {
    let made = |name: &str| folder.join(name).metadata().and_then(|metadata| metadata.modified()).ok();
    NAMES.into_iter().filter(|name| made(name).is_none_or(|made| newest.is_some_and(|newest| made < newest))).collect()
}

fn build(cargo: &Path, folder: &Path, workspace: &Path) -> Result<()> {
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace", "--bins"]);
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("release") => command.arg("--release"),
        Some(profile) if profile != "debug" => command.args(["--profile", profile]),
        _ => &mut command,
    };
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    // The workspace of this source: cargo may have been started elsewhere with --manifest-path.
    command.current_dir(workspace);
    eprintln!("building: {command:?}");
    // Standard output is kept for the figures.
    let status = command.stdout(Stdio::null()).status().context("starting cargo")?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_older_than_its_sources_is_wanting() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("sources/deep")).unwrap();
        std::fs::write(at("sources/deep/lib.rs"), "").unwrap();
        let sources = newest(&at("sources"));
        assert!(sources.is_some() && newest(&at("nowhere")).is_none());
        for name in NAMES {
            std::fs::write(at(name), "").unwrap();
        }
        assert_eq!(wanting(folder.path(), sources), Vec::<&str>::new());
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
        std::fs::File::options().write(true).open(at("eddy")).unwrap().set_modified(old).unwrap();
        std::fs::remove_file(at("eddy-embed")).unwrap();
        assert_eq!(wanting(folder.path(), sources), ["eddy", "eddy-embed"]);
        assert_eq!(wanting(folder.path(), None), ["eddy-embed"]);
        assert!(Binaries::of(folder.path()).unwrap_err().to_string().starts_with("eddy-embed not in"));
        std::fs::write(at("eddy-embed"), "").unwrap();
        assert_eq!(Binaries::of(folder.path()).unwrap().path("eddy"), at("eddy"));
    }
}
