//! What counts depend on beside the code: only counts of the same environment are compared.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// Where counts come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The processor's architecture.
    pub arch: String,
    /// The extensions that valgrind's processor has of those that code asks for when it runs: they choose the path.
    pub features: String,
    /// The compiler's version.
    pub rustc: String,
    /// How it compiled: level, checks, flags.
    pub build: String,
    /// The C library, whose allocator and copying are counted too.
    pub libc: String,
    /// Valgrind's version: it makes the processor that the program sees.
    pub valgrind: String,
}

impl Environment {
    /// That of counts which are taken here, of a program that saw these `features`.
    ///
    /// # Errors
    /// If valgrind does not say its version.
    pub fn here(features: String) -> Result<Self> {
        let told = |command: &mut Command| -> Option<String> {
            let output = command.output().ok().filter(|output| output.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let checks = if cfg!(debug_assertions) { "with checks" } else { "without checks" };
        let flags = env!("EDDY_SMOKE_FLAGS");
        let libc = told(Command::new("getconf").arg("GNU_LIBC_VERSION"));
        Ok(Self {
            arch: std::env::consts::ARCH.to_owned(),
            features,
            rustc: env!("EDDY_SMOKE_RUSTC").to_owned(),
            build: format!("opt-level {}, {checks} {flags}", env!("EDDY_SMOKE_LEVEL")).trim().to_owned(),
            libc: libc.unwrap_or_else(|| "not glibc".into()),
            valgrind: told(Command::new("valgrind").arg("--version")).context("valgrind does not tell its version")?,
        })
    }

    /// What is different in `other`, a line each: `rustc: OWN, there OTHER`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fields = |of: &Self| {
            let Self { arch, features, rustc, build, libc, valgrind } = of.clone();
            [
                ("arch", arch),
                ("features", features),
                ("rustc", rustc),
                ("build", build),
                ("libc", libc),
                ("valgrind", valgrind),
            ]
        };
        let pairs = fields(self).into_iter().zip(fields(other)).filter(|(own, theirs)| own != theirs);
        pairs.map(|((what, own), (_, theirs))| format!("{what}: {own}, there {theirs}")).collect()
    }
}

/// The extensions that this process sees, of those that eddy's code and its dependencies ask for.
pub fn features() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("sse4.2", is_x86_feature_detected!("sse4.2")),
            ("popcnt", is_x86_feature_detected!("popcnt")),
            ("bmi2", is_x86_feature_detected!("bmi2")),
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
        ];
        found.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    }
    #[cfg(not(target_arch = "x86_64"))]
    "its own".to_owned()
}

/// What [`features`] says in another process, as that process printed it.
///
/// # Errors
/// If that is more than a line.
pub fn read_features(printed: &str) -> Result<String> {
    ensure!(printed.lines().count() <= 1, "features are a line, not {printed:?}");
    Ok(printed.trim().to_owned())
}
