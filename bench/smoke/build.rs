//! Tells the program by which compiler, and how, it was made: counts of another one are not comparable.

use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(rustc).arg("--version").output();
    let version = told.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    println!("cargo:rustc-env=EDDY_SMOKE_RUSTC={}", version.trim());
    // Level, debug information and flags, as cargo sets them for this build.
    let setting = |name| env::var(name).unwrap_or_default().replace('\x1f', " ");
    println!("cargo:rustc-env=EDDY_SMOKE_LEVEL={}", setting("OPT_LEVEL"));
    println!("cargo:rustc-env=EDDY_SMOKE_FLAGS={}", setting("CARGO_ENCODED_RUSTFLAGS"));
}
