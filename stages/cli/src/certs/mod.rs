//! `eddy certs`: a development CA and the certificates of a region.
//!
//! A certificate's file is named after its subject's CN: `hub` (server and client: hub processes call each other), `site-<name>`
//! (a gateway, to the hub's NATS), and people and tools by their own names, whose roles the hub's config gives.

mod authority;
mod files;

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;

use self::{
    authority::{Authority, Kind},
    files::Made,
};
use crate::output;

/// CN of the hub's own certificate.
const HUB: &str = "hub";
/// What a gateway's CN begins with.
const SITE: &str = "site-";
/// X.520's bound of a CN.
const CN_BYTES_MAX: usize = 64;

/// Certs' part of the command line.
#[derive(Args, Clone, Debug)]
pub struct CertsArgs {
    /// The folder; a CA that is in it is used again
    #[arg(long)]
    pub out: PathBuf,
    /// A name or address by which the hub is reached; the hub's certificate is made anew for exactly these [default: localhost,
    /// 127.0.0.1 and ::1, when there is none]
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
    /// A gateway's site
    #[arg(long = "site", value_name = "NAME")]
    pub sites: Vec<String>,
    /// Somebody, or a tool, that may search and read receipts
    #[arg(long = "reader", value_name = "NAME")]
    pub readers: Vec<String>,
    /// Somebody who may also label
    #[arg(long = "labeler", value_name = "NAME")]
    pub labelers: Vec<String>,
    /// Somebody who may do everything
    #[arg(long = "operator", value_name = "NAME")]
    pub operators: Vec<String>,
    /// Days that the certificates are good for; the CA is for ten years
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub days: u32,
    /// Make anew what is in the folder and expires within 30 days (or within so many), with new keys; the hub's for the names that it has
    #[arg(long, value_name = "DAYS", num_args = 0..=1, default_missing_value = "30", require_equals = true)]
    pub renew: Option<u32>,
}

/// The command.
///
/// # Errors
/// As [`make`].
pub fn run(args: &CertsArgs) -> anyhow::Result<()> {
    make(args)?.iter().for_each(|line| output::line(line));
    let people = [("reader", &args.readers), ("labeler", &args.labelers), ("operator", &args.operators)];
    if people.iter().any(|(_, names)| !names.is_empty()) {
        output::line("\nFor the hub's config:\n[hub.roles]");
        people
            .iter()
            .for_each(|(role, names)| output::line(&format!("{role} = {}", toml::Value::from((*names).clone()))));
    }
    Ok(())
}

/// Makes all of them; says of each what became of it.
///
/// # Errors
/// A name that is not taken, a CA that cannot sign, or a file that cannot be written.
pub fn make(args: &CertsArgs) -> anyhow::Result<Vec<String>> {
    let people = [("reader", &args.readers), ("labeler", &args.labelers), ("operator", &args.operators)];
    let mut names: BTreeSet<String> = people.iter().flat_map(|(_, names)| names.iter().cloned()).collect();
    for name in &names {
        let is_taken = [HUB, "ca"].contains(&name.as_str()) || name.starts_with(SITE);
        anyhow::ensure!(
            !is_taken,
            "{name:?}: `ca`, `{HUB}` and what begins with `{SITE}` are no person's or tool's names"
        );
    }
    names.extend(args.sites.iter().map(|site| format!("{SITE}{site}")));
    for name in &names {
        let fits =
            name.len() <= CN_BYTES_MAX && !matches!(name.as_str(), "" | SITE) && !name.chars().any(char::is_control);
        anyhow::ensure!(
            fits,
            "{name:?}: a name of up to {CN_BYTES_MAX} bytes in all, without control characters, is taken"
        );
    }
    let (authority, made) = Authority::open(&args.out, crate::now())?;
    let mut told = vec![line("ca", made)];
    let renewed = authority.renew(args.renew.unwrap_or(0), args.days)?;
    told.extend(renewed.iter().map(|name| line(name, Made::Again)));
    // A folder is renewed as it is; nothing is added that nobody asked for.
    let only_renews = args.renew.is_some() && args.hosts.is_empty() && names.is_empty();
    if only_renews {
        return Ok(told);
    }
    let hosts = if args.hosts.is_empty() {
        ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec()
    } else {
        args.hosts.clone()
    };
    // Hosts that were asked for must be in it.
    let made = authority.provide(HUB, Kind::Hub { hosts, anew: !args.hosts.is_empty() }, args.days)?;
    told.push(line(HUB, made));
    for name in &names {
        told.push(line(name, authority.provide(name, Kind::Client, args.days)?));
    }
    Ok(told)
}

fn line(name: &str, made: Made) -> String {
    let done = match made {
        Made::New => "made",
        Made::Again => "made anew",
        Made::Kept => "kept",
    };
    let file = files::stem(name);
    format!("{done}: {file}.pem, {file}.key")
}

#[cfg(test)]
mod tests;
