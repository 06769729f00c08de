//! The gateway's folder of bundles, and the default one, which is carried in the binary.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use eddy_runtime::bundle::{BundleError, Library};

use super::Plan;

const FILES: [(&str, &[u8]); 3] = [
    ("model.onnx", include_bytes!("../../../../fixtures/bundles/default/model.onnx")),
    ("model.toml", include_bytes!("../../../../fixtures/bundles/default/model.toml")),
    ("model.toml.minisig", include_bytes!("../../../../fixtures/bundles/default/model.toml.minisig")),
];
const KEY: &str = include_str!("../../../../fixtures/bundles/default.pub");

/// Where a gateway in `dir` has its bundles.
pub fn folder(dir: &Path) -> PathBuf {
    dir.join("bundles")
}

/// Where a gateway in `dir` has the default bundle: with the others, named by its digest.
pub fn default_place(dir: &Path) -> PathBuf {
    let [_, (_, manifest), _] = FILES;
    folder(dir).join(blake3::hash(manifest).to_hex().as_str())
}

/// The key that signed the default bundle.
pub fn default_key() -> &'static str {
    // It stands on the file's last line; the line before is a comment.
    KEY.lines().last().unwrap_or_default()
}

/// Writes the default bundle to its place below `dir`, if it is not there as it should be.
///
/// # Errors
/// If the folder cannot be written.
pub fn write(dir: &Path) -> io::Result<()> {
    let folder = default_place(dir);
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if std::fs::read(&path).ok().as_deref() != Some(bytes) {
            std::fs::write(path, bytes)?;
        }
    }
    Ok(())
}

/// Takes the bundle that the config names into the gateway's folder, so that a control can go back to it. Whether it may be used
/// at all its stages say.
///
/// # Errors
/// That it is no bundle.
pub fn take_own(plan: &Plan) -> Result<(), BundleError> {
    let Some(own) = &plan.own_bundle_dir else { return Ok(()) };
    Library::new(&folder(&plan.dir), &[], true).install(own).map(drop)
}

/// What makes embed and detect begin with the bundle in `place`, which one of the keys signed.
pub fn environment(place: &Path, keys: &[String]) -> Vec<(String, OsString)> {
    let of = |stage: &&str| {
        let bundle = place.as_os_str().to_owned();
        [(format!("EDDY_{stage}_BUNDLE"), bundle), (format!("EDDY_{stage}_TRUSTED_KEYS"), list(keys))]
    };
    ["EMBED", "DETECT"].iter().flat_map(of).collect()
}

/// What makes them find further ones, and know who may sign them.
pub fn further(plan: &Plan) -> Vec<(String, OsString)> {
    let mut variables = Vec::new();
    for stage in ["CAPTURE", "EMBED", "DETECT", "SYNC", "EXPORT"] {
        variables.push((format!("EDDY_{stage}_BUNDLES"), folder(&plan.dir).into_os_string()));
        // All of them judge alike: what one lets in the others must obey.
        variables.push((format!("EDDY_{stage}_TRUSTED_KEYS"), list(&plan.trusted_keys())));
        if plan.allows_unsigned() {
            variables.push((format!("EDDY_{stage}_ALLOW_UNSIGNED"), "true".into()));
        }
    }
    variables
}

/// A list of strings as the environment has it.
fn list(keys: &[String]) -> OsString {
    OsString::from(serde_json::Value::from(keys).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_a_signed_bundle() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let place = default_place(folder.path());
        let bundle = eddy_runtime::bundle::Bundle::open(&place, &[default_key().to_owned()], false).unwrap();
        assert_eq!((bundle.manifest.name.as_str(), place.file_name()), ("default", Some(bundle.digest.as_ref())));
    }
}
