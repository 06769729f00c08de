//! The demo's last step: what its streams hold, as Parquet.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{gateway::DEFAULT_DIR, handed};

/// The demo's data is made up, so it states a policy for all of it.
const PURPOSE: &str = "the demo: a generated recording";

/// Where it lies: beside what is kept, or else in the working folder, in place of the last demo's.
pub fn folder(keep: Option<&Path>) -> PathBuf {
    keep.map_or_else(|| Path::new(DEFAULT_DIR).join("demo-export"), |dir| dir.join("export"))
}

/// Exports everything that the gateway in `dir` holds, and says how to ask for it.
///
/// # Errors
/// What `eddy-export` says.
pub async fn run(dir: &Path, to: &Path) -> anyhow::Result<()> {
    // Another gateway's rows would stand beside this one's. Only what an export made is removed.
    if to.join("_manifests").is_dir() {
        std::fs::remove_dir_all(to).with_context(|| to.display().to_string())?;
    }
    let mut command = tokio::process::Command::new(handed::binary(handed::EXPORT)?);
    command.arg("--to").arg(to).arg("--dir").arg(dir).args([
        "--json",
        "--allow",
        "readings,samples",
        "--purpose",
        PURPOSE,
    ]);
    command.args(["--class", "readings,samples,embeddings,scores,alerts,contexts,labels"]);
    // What this process was told of another gateway is not meant for its own.
    ["EDDY_BUS_URL", "EDDY_SITE_NAME", "EDDY_GATEWAY_DIR", "EDDY_CONFIG"].iter().for_each(|name| {
        command.env_remove(name);
    });
    let output = command.kill_on_drop(true).output().await.context("eddy-export")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "the export failed: {}", said.trim());
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).context("eddy-export")?;
    let count = |key: &str| summary.get(key).and_then(serde_json::Value::as_u64).unwrap_or_default();
    let place = to.display();
    eprintln!(
        "eddy: exported {} rows as Parquet, {} files of {:.1} MB, to {place}; ask for them, for example:",
        count("rows"),
        count("files"),
        count("bytes") as f64 / 1e6,
    );
    eprintln!(
        "  duckdb -c \"select device, severity, count(*) from '{place}/class=alerts/**/*.parquet' where type = 'eddy.alert.opened' group by all \
         order by all\""
    );
    eprintln!("  eddy export receipts --to {place} --offline; eddy replay {place}");
    Ok(())
}
