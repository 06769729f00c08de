//! `eddy receipts`: what the region can prove that it has of its sites, and what it will never have.

use anyhow::ensure;
use clap::Args;
use eddy_schemas::{
    region::{RECEIPTS, wire},
    rfc3339,
    sync::{Class, ClassStats},
};
use serde::Serialize;

use crate::{
    gateway::{BusArgs, Gateway},
    output, region,
};

/// Receipts' part of the command line.
#[derive(Args, Clone, Debug)]
pub struct ReceiptsArgs {
    /// Only of this site [default: every site of the region]
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// All of it as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// The site of the gateway that is asked [default: that of the gateway in --dir, else --site]
    #[arg(long, env = "EDDY_SITE_NAME", value_name = "NAME")]
    pub through: Option<String>,
    /// Which gateway
    #[command(flatten)]
    pub bus: BusArgs,
}

/// What the region has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Receipts {
    /// A site's classes, the most urgent first; of each the chain that goes on last.
    pub chains: Vec<Chain>,
    /// Shards of the hub that did not answer in time.
    pub missing_shards: Vec<u32>,
}

/// What is held of a class of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// The site.
    pub site: String,
    /// The class, by its token.
    pub class: String,
    /// The chain's name in hex.
    pub chain: String,
    /// The chain before it, if there was one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replaces: String,
    /// Whether it goes on.
    pub current: bool,
    /// Batches that are held.
    pub batches: u64,
    /// Entries that are held.
    pub entries: u64,
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
    /// The last batch's receipt in hex.
    pub receipt: String,
    /// Numbers that will never come.
    pub missing: Vec<Missing>,
    /// When the last batch was taken: nanoseconds since the Unix epoch.
    pub taken: i64,
}

/// Numbers that will never come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// Entries that they stand for.
    pub count: u64,
    /// Why.
    pub cause: String,
    /// Which.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Asks the region what it has of a site; of an empty name, of all.
///
/// # Errors
/// That it does not answer.
pub async fn ask(gateway: &Gateway, site: &str) -> anyhow::Result<Receipts> {
    let request = wire::ReceiptsRequest { site: site.to_owned() };
    let answer: wire::ReceiptsResponse = region::ask(gateway, RECEIPTS, &request).await?;
    let mut chains: Vec<Chain> = answer.chains.into_iter().map(chain).collect();
    let priority = |chain: &Chain| Class::of_token(&chain.class).map_or(i32::MAX, |class| class as i32);
    chains.sort_by_key(|chain| (chain.site.clone(), priority(chain), chain.current, chain.taken, chain.chain.clone()));
    Ok(Receipts { chains, missing_shards: answer.missing_shards })
}

/// The command.
///
/// # Errors
/// If something is missing, or nobody answers.
pub async fn run(args: &ReceiptsArgs) -> anyhow::Result<()> {
    let mut gateway = args.bus.connect(args.through.clone()).await?;
    if args.through.is_none() && gateway.file.is_none() {
        gateway.site = args.site.clone().unwrap_or(gateway.site);
    }
    let receipts = ask(&gateway, args.site.as_deref().unwrap_or_default()).await?;
    let chains = &receipts.chains;
    if args.json {
        output::line(&serde_json::to_string(&receipts)?);
    } else {
        lines(chains).iter().for_each(|line| output::line(line));
    }
    if let Some(uplink) = crate::status::gather::region(&gateway).await {
        let waiting: Vec<String> = uplink.classes.iter().filter(|class| class.waiting > 0).map(waits).collect();
        if !waiting.is_empty() && !args.json {
            output::line(&format!("not sent yet by {}: {}", output::printable(&gateway.site), waiting.join(", ")));
        }
        // A gateway that sent nothing is in no ledger.
        let is_known = chains.iter().any(|chain| chain.site == gateway.site);
        let is_asked = args.site.as_ref().is_none_or(|site| *site == gateway.site);
        ensure!(
            is_known || !is_asked,
            "the region has nothing of site {:?}, whose gateway was asked: no batch has come there yet",
            gateway.site
        );
    }
    let of = args.site.as_ref().map_or_else(|| "any site".to_owned(), |site| format!("site {:?}", site));
    let unheard = &receipts.missing_shards;
    ensure!(
        unheard.is_empty(),
        "shards {unheard:?} of the hub did not answer in time: what they hold is not known; ask again"
    );
    ensure!(!chains.is_empty(), "the region has nothing of {of}: no batch has come there yet");
    let lacking = chains.iter().filter(|chain| !chain.missing.is_empty()).count();
    ensure!(lacking == 0, "something is missing of {lacking} of {} chains", chains.len());
    Ok(())
}

fn waits(class: &ClassStats) -> String {
    format!("{} {}", class.waiting, class.class)
}

fn chain(told: wire::ChainReceipt) -> Chain {
    let missing = |range: wire::MissingRange| Missing {
        first: range.first,
        last: range.last,
        count: range.count,
        cause: range.cause,
        detail: range.detail,
    };
    Chain {
        site: told.site,
        class: told.class,
        chain: told.chain,
        replaces: told.replaces,
        current: told.current,
        batches: told.batches,
        entries: told.entries,
        first: told.first,
        last: told.last,
        receipt: told.receipt,
        missing: told.missing.into_iter().map(missing).collect(),
        taken: told.taken,
    }
}

/// A heading for each site, a line for each chain of a class, and below it one for each gap.
fn lines(chains: &[Chain]) -> Vec<String> {
    let (mut lines, mut site) = (Vec::new(), None);
    for chain in chains {
        if site != Some(&chain.site) {
            lines.push(format!("site {}", output::printable(&chain.site)));
            site = Some(&chain.site);
        }
        let mut about = vec![
            format!("chain {}", short(&chain.chain)),
            counted(chain.batches, "batch", "batches"),
            format!("receipt {}", short(&chain.receipt)),
            format!("taken {}", rfc3339(chain.taken)),
        ];
        if !chain.replaces.is_empty() {
            about.push(format!("replaces chain {}", short(&chain.replaces)));
        }
        if !chain.current {
            about.push("ended: another chain goes on".to_owned());
        }
        let missing: u64 = chain.missing.iter().map(|range| range.count).sum();
        let what = if chain.missing.is_empty() { "nothing".to_owned() } else { missing.to_string() };
        let (class, about) = (output::printable(&chain.class), about.join(", "));
        lines.push(format!("  {class}: {what} missing from {} to {} ({about})", chain.first, chain.last));
        lines.extend(chain.missing.iter().map(gap));
    }
    lines
}

fn gap(range: &Missing) -> String {
    let numbers = if range.first == range.last {
        format!("number {}", range.first)
    } else {
        format!("numbers {} to {}", range.first, range.last)
    };
    let detail =
        if range.detail.is_empty() { String::new() } else { format!(": {}", output::printable(&range.detail)) };
    format!("    {numbers}: {} will never come, by {}{detail}", range.count, output::printable(&range.cause))
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The beginning of a digest is enough for people.
fn short(hex: &str) -> String {
    let head: String = hex.chars().take(8).collect();
    if head.len() < hex.len() { format!("{}…", output::printable(&head)) } else { output::printable(&head) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(class: &str, missing: Vec<Missing>) -> Chain {
        Chain {
            site: "plant 1".into(),
            class: class.into(),
            chain: "3f".repeat(16),
            replaces: String::new(),
            current: true,
            batches: 40,
            entries: 812,
            first: 1,
            last: 812,
            receipt: "ab".repeat(32),
            missing,
            taken: 0,
        }
    }

    #[test]
    fn what_is_there_is_one_line_and_every_gap_has_its_cause() {
        let gap = |first, last, count, detail: &str| Missing {
            first,
            last,
            count,
            cause: "budget".into(),
            detail: detail.into(),
        };
        let gaps = vec![gap(5, 9, 5, ""), gap(12, 12, 300, "DETECTIONS 7 to 306")];
        let ended = Chain { current: false, replaces: "00".repeat(16), batches: 1, ..receipt("deltas", gaps) };
        let lines = lines(&[receipt("alerts", vec![]), ended]);
        assert_eq!(
            lines,
            [
                "site plant 1",
                "  alerts: nothing missing from 1 to 812 (chain 3f3f3f3f…, 40 batches, receipt abababab…, taken 1970-01-01T00:00:00Z)",
                "  deltas: 305 missing from 1 to 812 (chain 3f3f3f3f…, 1 batch, receipt abababab…, taken 1970-01-01T00:00:00Z, \
                 replaces chain 00000000…, ended: another chain goes on)",
                "    numbers 5 to 9: 5 will never come, by budget",
                "    number 12: 300 will never come, by budget: DETECTIONS 7 to 306",
            ]
        );
    }
}
