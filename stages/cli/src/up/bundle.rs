//! The default bundle, carried in the binary.

use std::{ffi::OsString, io, path::Path};

const FILES: [(&str, &[u8]); 3] = [
    ("model.onnx", include_bytes!("../../../../fixtures/bundles/default/model.onnx")),
    ("model.toml", include_bytes!("../../../../fixtures/bundles/default/model.toml")),
    ("model.toml.minisig", include_bytes!("../../../../fixtures/bundles/default/model.toml.minisig")),
];
const KEY: &str = include_str!("../../../../fixtures/bundles/default.pub");

/// Writes the bundle to `folder`, if it is not there as it should be.
///
/// # Errors
/// If the folder cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if std::fs::read(&path).ok().as_deref() != Some(bytes) {
            std::fs::write(path, bytes)?;
        }
    }
    Ok(())
}

/// What makes the stages use the bundle in `folder`.
pub fn environment(folder: &Path) -> Vec<(String, OsString)> {
    // The key stands on the file's last line; the line before is a comment.
    let key = KEY.lines().last().unwrap_or_default();
    let keys = OsString::from(format!("[\"{key}\"]"));
    ["EMBED", "DETECT"]
        .iter()
        .flat_map(|stage| {
            [
                (format!("EDDY_{stage}_BUNDLE"), folder.as_os_str().to_owned()),
                (format!("EDDY_{stage}_TRUSTED_KEYS"), keys.clone()),
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_a_signed_bundle() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let key = KEY.lines().last().unwrap().to_owned();
        let bundle = eddy_runtime::bundle::Bundle::open(folder.path(), &[key], false).unwrap();
        assert_eq!(bundle.manifest.name, "default");
    }
}
