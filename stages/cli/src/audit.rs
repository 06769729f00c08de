//! `eddy audit`: is the region's log of what happened what was written?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use eddy_schemas::audit::{self, Head};

use crate::output;

/// What is done with a log.
#[derive(Subcommand, Clone, Debug)]
pub enum AuditCommand {
    /// Check that no line was changed, moved, added or removed
    Verify(VerifyArgs),
}

/// How a log is checked.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// A file of the log, or its folder: all files as one chain
    pub log: PathBuf,
    /// It must hold this entry: the head that an earlier check printed. Without it lines missing at the end cannot be known
    #[arg(long, value_name = "NUMBER:HASH")]
    pub holds: Option<Head>,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// The command.
///
/// # Errors
/// The first line that is wrong, or that the log does not hold what it should.
pub fn run(command: &AuditCommand) -> anyhow::Result<()> {
    let AuditCommand::Verify(args) = command;
    let mut held = false;
    let verified = audit::read(&args.log, |_, head| held |= Some(*head) == args.holds)?;
    let (first, last) = (verified.first, verified.head.seq);
    if let Some(holds) = args.holds.filter(|_| !held) {
        let why = match holds.seq {
            seq if seq > last => "lines are missing at its end",
            seq if seq < first => "it is in an older file: check the folder, or that file",
            _ => "the log was made anew",
        };
        anyhow::bail!(
            "{}: entry {} with that hash is not in it, whose entries are {first} to {last}: {why}",
            args.log.display(),
            holds.seq
        );
    }
    if args.json {
        let found = serde_json::json!({"first": first, "last": last, "head": verified.head.to_string(), "files": verified.files});
        output::line(&found.to_string());
    } else if last == 0 {
        output::line("sound: no entries yet");
    } else {
        let before = if first > 1 { format!(" (1 to {} are elsewhere)", first - 1) } else { String::new() };
        output::line(&format!("sound: entries {first} to {last}{before}\nhead: {}", verified.head));
    }
    Ok(())
}
