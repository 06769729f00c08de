//! `eddy eval`, `eddy replay --diff`, `eddy export` and `eddy drill`: handed over to a binary beside this one, as git does with its own commands. What
//! they need (the stages, the inference engine, S3) is not carried by `eddy`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Error, Result, ensure};
use clap::Args;

/// Of `eddy eval`.
pub const EVAL: &str = "eddy-eval";
/// Of `eddy export`.
pub const EXPORT: &str = "eddy-export";
/// Of `eddy drill`.
pub const DRILL: &str = "eddy-drill";

/// What the other binary is told.
#[derive(Debug, Args)]
pub struct HandedArgs {
    /// As its own --help tells them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Where it lies.
///
/// # Errors
/// That it does not lie beside this program.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this program lies cannot be told")?;
    let binary = own.parent().unwrap_or(Path::new(".")).join(name);
    ensure!(
        binary.is_file(),
        "{}: not there; `cargo build --bins` builds it, and it belongs beside eddy",
        binary.display()
    );
    Ok(binary)
}

/// Becomes it; returns only with why it cannot.
pub fn run(name: &str, args: &HandedArgs) -> Error {
    hand_over(name, &args.arguments)
}

/// Becomes it with these arguments; returns only with why it cannot.
pub fn hand_over(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Error {
    let become_it = || -> Result<Error> {
        let binary = binary(name)?;
        let error = Command::new(&binary).args(arguments).exec();
        Ok(Error::new(error).context(binary.display().to_string()))
    };
    become_it().unwrap_or_else(|error| error)
}
