//! The gateway's binaries, beside the bench's own: `cargo run -p eddy-bench` builds only the latter.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// What a gateway runs.
const NAMES: [&str; 5] = ["eddy", "eddy-capture", "eddy-preprocess", "eddy-embed", "eddy-detect"];

/// Where they are, and the bench itself.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    /// Their folder.
    pub(super) folder: PathBuf,
    /// The bench, for the processes of the floor. Asked before anything is built: a build may replace the file.
    pub(super) bench: PathBuf,
}

impl Binaries {
    /// Finds them. Missing ones, and those older than the bench (which contains the same stages), are built if cargo
    /// started the bench.
    ///
    /// # Errors
    /// If some are missing and cannot be built.
    pub(super) fn find() -> Result<Self> {
        let bench = std::env::current_exe().context("asking for the path of eddy-bench")?;
        let folder = bench.parent().map(Path::to_owned).unwrap_or_default();
        let wanting = wanting(&folder, &bench);
        let cargo = std::env::var_os("CARGO");
        if !wanting.is_empty()
            && let Some(cargo) = cargo
        {
            eprintln!("{} of {}: missing or older than eddy-bench", wanting.join(", "), folder.display());
            build(Path::new(&cargo), &folder)?;
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
        if cargo_is_absent() && !wanting.is_empty() {
            eprintln!("warning: {} older than eddy-bench: the figures may be those of other code", wanting.join(", "));
        }
        Ok(Self { folder, bench })
    }

    /// The path of one.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `release`, `debug`, or the name of another profile.
    pub(super) fn profile(&self) -> String {
        self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

fn cargo_is_absent() -> bool {
    std::env::var_os("CARGO").is_none()
}

fn wanting(folder: &Path, bench: &Path) -> Vec<&'static str> {
    let made = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let own = made(bench);
    NAMES.into_iter().filter(|name| made(&folder.join(name)) < own).collect()
}

fn build(cargo: &Path, folder: &Path) -> Result<()> {
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
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
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
    fn what_is_missing_or_older_is_wanting() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("eddy"), "").unwrap();
        std::fs::write(at("bench"), "").unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
        std::fs::File::options().write(true).open(at("eddy")).unwrap().set_modified(old).unwrap();
        assert_eq!(wanting(folder.path(), &at("bench")), NAMES);
        for name in NAMES {
            std::fs::write(at(name), "new").unwrap();
        }
        assert_eq!(wanting(folder.path(), &at("bench")), Vec::<&str>::new());
    }
}
