//! Other libraries on the same vectors: `bench/peers/ann.py`, each in a process of its own.

use std::{path::Path, path::PathBuf, process::Command};

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Set, TIMEOUT, say};
use crate::load::{
    figures::rounded,
    peer::{self, Install},
};

/// What a library says of itself.
#[derive(Clone, Debug, Deserialize)]
struct Figures {
    setting: String,
    p50_us: f64,
    p99_us: f64,
    build_per_s: f64,
    rss_mb: f64,
    disk_mb: f64,
}

/// A Python with what of them installs here; none without any.
pub(super) async fn python(skipped: &mut Vec<String>) -> Option<PathBuf> {
    match peer::environment("py-ann", "requirements-ann.txt", Install::Each).await {
        Ok(environment) => {
            environment.skipped.iter().for_each(|problem| say(&format!("SKIPPED: {problem}")));
            skipped.extend(environment.skipped);
            Some(environment.python)
        }
        Err(problem) => {
            say(&format!("SKIPPED: all peers: {problem:#}"));
            skipped.push(format!("all peers: {problem:#}"));
            None
        }
    }
}

/// Measures one of them.
pub(super) async fn measure(python: &Path, engine: &str, set: &Set) -> Result<Value> {
    let files = set.files();
    let mut command = Command::new(python);
    command.arg(peer::folder().join("ann.py")).args(["--engine", engine]);
    command.args(["--dimensions", &set.dimensions.to_string()]);
    command.arg("--base").arg(&files.base).arg("--queries").arg(&files.queries).arg("--truth").arg(&files.truth);
    command.arg("--found").arg(&files.found);
    // One thread, whichever library of theirs has a pool.
    command.envs(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"].map(|name| (name, "1")));
    let figures: Figures = peer::figures(&mut command, TIMEOUT, &set.folder).await?;
    let [first, all] = set.recall()?;
    Ok(json!({
        "engine": engine, "n": set.n(), "setting": figures.setting,
        "recall_at_1": rounded(first), "recall_at_10": rounded(all),
        "p50_us": rounded(figures.p50_us), "p99_us": rounded(figures.p99_us),
        "build_per_s": rounded(figures.build_per_s),
        "rss_mb": rounded(figures.rss_mb), "disk_mb": rounded(figures.disk_mb),
    }))
}
