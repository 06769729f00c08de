//! `eddy eval` and `eddy replay --diff`: handed over to `eddy-eval`, the binary beside this one, as git does with its own commands. What
//! they need (the stages, the inference engine) is not carried by `eddy`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Error, Result, ensure};
use clap::Args;

const BINARY: &str = "eddy-eval";

/// What `eddy-eval` is told.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// As `eddy eval --help` tells them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Where `eddy-eval` lies.
///
/// # Errors
/// That it does not lie beside this program.
pub fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this program lies cannot be told")?;
    let binary = own.parent().unwrap_or(Path::new(".")).join(BINARY);
    ensure!(
        binary.is_file(),
        "{}: not there; `cargo build --bins` builds it, and it belongs beside eddy",
        binary.display()
    );
    Ok(binary)
}

/// Becomes `eddy-eval`; returns only with why it cannot.
pub fn run(args: &EvalArgs) -> Error {
    hand_over(&args.arguments)
}

/// Becomes `eddy-eval` with these arguments; returns only with why it cannot.
pub fn hand_over(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Error {
    let become_it = || -> Result<Error> {
        let binary = binary()?;
        let error = Command::new(&binary).args(arguments).exec();
        Ok(Error::new(error).context(binary.display().to_string()))
    };
    become_it().unwrap_or_else(|error| error)
}
