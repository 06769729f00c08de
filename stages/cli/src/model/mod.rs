//! `eddy model`: keys, signatures and what is in a bundle. Keys and signatures are minisign's own files. What it says to gateways
//! is [`crate::rollout`]'s.

mod diff;
mod files;
mod inspect;
mod keygen;
mod keys;
mod sign;
mod verify;

use clap::Subcommand;

use crate::rollout::wish::{self, RolloutCommand};

pub use self::{diff::DiffArgs, inspect::InspectArgs, keygen::KeygenArgs, sign::SignArgs, verify::VerifyArgs};

const KEYGEN: &str = "\
Examples:
  eddy model keygen site                     site.key and site.pub; asks for a password
  EDDY_MODEL_PASSWORD=… eddy model keygen site
  eddy model keygen ci --no-password         for a machine: whoever reads ci.key can sign

Gateways trust what is in site.pub: its last line, or the file, goes into trusted_keys of [gateway].";

const SIGN: &str = "\
Examples:
  eddy model sign new --key site.key
  eddy model sign new --key site.key --set-digest    model.onnx is new: its digest goes into model.toml first

What is signed is model.toml, which names the BLAKE3 of model.onnx; `minisign -V -p site.pub -m new/model.toml` checks it too.";

const VERIFY: &str = "\
Examples:
  eddy model verify new --trusted site.pub
  eddy model verify new --trusted site.pub --trusted RWTIWjZ3O1u9q8jpGSpcPgtsMyKGtTTnHPCmXHPTLVcbn9uDTLMRnbUb --json

Exit codes:
  0 whole and signed by one of the keys   1 not, with the reason   64 bad command line";

const INSPECT: &str = "\
Examples:
  eddy model inspect .run/bundles/*
  eddy model inspect new --json | jq '.heads[].name'

It reads unsigned bundles too, and checks no signature: `eddy model verify` does.";

const DIFF: &str = "\
Examples:
  eddy model diff .run/bundles/5f0c… new
  eddy replay --diff default new recording.csv     and what that means for alerts";

/// What is done with a bundle or its keys.
#[derive(Subcommand, Clone, Debug)]
pub enum ModelCommand {
    /// Make a pair of keys: NAME.key signs bundles, NAME.pub is what gateways trust
    #[command(after_help = KEYGEN)]
    Keygen(KeygenArgs),
    /// Sign a bundle
    #[command(after_help = SIGN)]
    Sign(SignArgs),
    /// Check that a bundle is whole and signed by a trusted key
    #[command(after_help = VERIFY)]
    Verify(VerifyArgs),
    /// Print what is in a bundle
    #[command(after_help = INSPECT)]
    Inspect(InspectArgs),
    /// Print in what two bundles differ
    #[command(after_help = DIFF)]
    Diff(DiffArgs),
    /// What is wanted of gateways
    #[command(flatten)]
    Rollout(RolloutCommand),
}

/// The command.
///
/// # Errors
/// Why a bundle or key is refused, or what cannot be read or written.
pub async fn run(command: &ModelCommand) -> anyhow::Result<()> {
    match command {
        ModelCommand::Keygen(args) => keygen::run(args),
        ModelCommand::Sign(args) => sign::run(args),
        ModelCommand::Verify(args) => verify::run(args),
        ModelCommand::Inspect(args) => inspect::run(args),
        ModelCommand::Diff(args) => diff::run(args),
        ModelCommand::Rollout(command) => wish::run(command).await,
    }
}

/// Prints a report: one line of JSON, or the text.
fn tell(json: bool, report: &(impl serde::Serialize + std::fmt::Display)) -> anyhow::Result<()> {
    crate::output::line(&if json { serde_json::to_string(report)? } else { report.to_string() });
    Ok(())
}
