//! How large the images are that a gateway is given: what `make dist` wrote about each archive that it made.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::figures::rounded;

/// Where `make dist` puts them, in the workspace.
const FOLDER: &str = ".run/dist";

/// `eddy-VERSION-image-ARCH.json`.
#[derive(Clone, Debug, Deserialize)]
struct Image {
    arch: String,
    image: String,
    revision: String,
    /// What it takes on a gateway's disk.
    unpacked_bytes: u64,
    /// What is brought there.
    archive_bytes: u64,
}

/// `{"amd64": {"image": …, "revision": …, "images_mb": …, "archive_mb": …}, …}`; null where nothing was made.
///
/// # Errors
/// A file that is not one of these.
pub(super) fn made(workspace: &Path) -> Result<Value> {
    let mut all = serde_json::Map::new();
    let entries = std::fs::read_dir(workspace.join(FOLDER)).into_iter().flatten();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.contains("-image-") || path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let image: Image = serde_json::from_str(&text)
            .with_context(|| format!("{}: not of this release's `make dist`", path.display()))?;
        let megabytes = |bytes: u64| rounded(bytes as f64 / f64::from(1 << 20));
        let about = json!({
            "image": image.image,
            "revision": image.revision,
            "images_mb": megabytes(image.unpacked_bytes),
            "archive_mb": megabytes(image.archive_bytes),
        });
        all.insert(image.arch, about);
    }
    Ok(if all.is_empty() { Value::Null } else { all.into() })
}

/// The size of all images together on this machine's kind of processor, in MB: one holds every program and the server. Null where none was made.
pub(super) fn here(made: &Value) -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    made[arch]["images_mb"].clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_were_made_are_told_and_none_is_null() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = made(folder.path()).unwrap();
        assert_eq!((&nothing, here(&nothing)), (&Value::Null, Value::Null));
        let dist = folder.path().join(FOLDER);
        std::fs::create_dir_all(&dist).unwrap();
        for (arch, bytes) in [("amd64", 50_u64 << 20), ("arm64", 60 << 20)] {
            let about = json!({"arch": arch, "image": "eddy:1", "revision": "abc", "archive": "x.tar", "packed_bytes": 1,
                "unpacked_bytes": bytes, "archive_bytes": bytes / 2});
            std::fs::write(dist.join(format!("eddy-1-image-{arch}.json")), about.to_string()).unwrap();
        }
        std::fs::write(dist.join("eddy-1-sha256sums"), "").unwrap();
        let two = made(folder.path()).unwrap();
        assert_eq!((&two["arm64"]["images_mb"], &two["amd64"]["archive_mb"]), (&json!(60.0), &json!(25.0)));
        assert!(here(&two).is_number() || !matches!(std::env::consts::ARCH, "x86_64" | "aarch64"));
        std::fs::write(dist.join("eddy-1-image-arm64.json"), "{}").unwrap();
        assert!(made(folder.path()).unwrap_err().to_string().contains("make dist"));
    }
}
