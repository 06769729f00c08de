//! Which source this is.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The workspace that this program was built from.
pub(crate) fn workspace() -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    place.canonicalize().unwrap_or(place)
}

/// Its commit, with `-dirty` behind it where something was changed; `unknown` where there is no git.
pub(crate) fn described() -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(workspace()).args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    let output = git.output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
