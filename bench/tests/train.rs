//! The Python of `fixtures/train`, but for the framework: reading exports, manifests, calibration. Skipped where a Python with
//! pyarrow is missing: `make train-tools` installs one.

#![allow(clippy::unwrap_used)]

use std::{env, path::Path, process::Command};

#[test]
fn what_retraining_reads_and_chooses_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let own = root.join(".tools/py-train/bin/python");
    let fallback = if own.is_file() { own.into_os_string() } else { "python3".into() };
    let python = env::var_os("EDDY_PYTHON").unwrap_or(fallback);
    let has_parquet = Command::new(&python).args(["-c", "import numpy, pyarrow.parquet"]).output();
    if !has_parquet.is_ok_and(|out| out.status.success()) {
        println!("SKIPPED: {} with pyarrow is not there: make train-tools, or set EDDY_PYTHON", python.display());
        return;
    }
    let tests = ["-B", "-m", "unittest", "-q"];
    let out = Command::new(&python).args(tests).current_dir(root.join("fixtures/train")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
