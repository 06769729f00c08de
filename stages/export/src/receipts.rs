//! `eddy export receipts`: what lies in a store against its own records, and these against the streams.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use eddy_cli::{gateway::GatewayArgs, hub, output};
use eddy_runtime::client::{Client, ReadFrom};
use futures_util::StreamExt as _;
use serde::Serialize;

use crate::{
    class::Class,
    manifest::{self, Record},
    policy::Heads,
    range::Range,
    rows::Taking,
    source::{Reader, Source},
    store::Store,
};

/// Receipts' part of the command line.
#[derive(Args, Clone, Debug)]
pub struct ReceiptsArgs {
    /// A folder, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    pub to: String,
    /// Check the files alone: neither gateway nor hub is asked
    #[arg(long)]
    pub offline: bool,
    /// Remove files that no record names: what a writer that was killed left, and no later one needed
    #[arg(long)]
    pub prune: bool,
    /// All of it as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Compare with the streams of a region's hub: the folder that `eddy hub up` was started with, or its bus's URL
    #[arg(long, value_name = "DIR|URL", conflicts_with = "offline")]
    pub hub: Option<String>,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Whose streams the records are compared with.
struct Streams {
    client: Client,
    /// Of a gateway, which has no other's.
    site: Option<String>,
}

impl Streams {
    async fn connect(args: &ReceiptsArgs) -> anyhow::Result<Option<Self>> {
        if let Some(place) = &args.hub {
            return Ok(Some(Self { client: hub::connect(place).await?, site: None }));
        }
        if args.offline {
            return Ok(None);
        }
        let gateway = args.gateway.connect().await?;
        Ok(Some(Self { client: gateway.client, site: Some(gateway.site) }))
    }

    fn may_hold(&self, record: &Record) -> bool {
        self.site.as_ref().is_none_or(|site| *site == record.site)
    }
}

/// What was found of a class of a site.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Found {
    /// Ranges.
    pub ranges: u64,
    /// Their rows.
    pub rows: u64,
    /// Their files.
    pub files: u64,
    /// Sequences that were gone when they were to be exported.
    pub missing: u64,
    /// Sequences between ranges that nobody exported.
    pub left_out: u64,
    /// Ranges of which the stream still holds every message that was exported, and as many rows.
    pub compared: u64,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// By site and class.
type All = BTreeMap<(String, Class), Found>;

/// The command.
///
/// # Errors
/// If something is wrong, or nothing is there.
pub async fn run(args: &ReceiptsArgs) -> anyhow::Result<()> {
    let store = Store::open(&args.to).await?;
    let records = manifest::all(&store).await?;
    anyhow::ensure!(!records.is_empty(), "{} holds no record of an export", args.to);
    let streams = Streams::connect(args).await?;
    let mut all = All::new();
    let mut named = BTreeSet::new();
    let mut before: Option<&Record> = None;
    for record in &records {
        let found = all.entry((record.site.clone(), record.class)).or_default();
        let is_next = |before: &&Record| {
            (&before.site, before.class, before.incarnation) == (&record.site, record.class, record.incarnation)
        };
        if let Some(before) = before.filter(is_next) {
            found.left_out += record.first.saturating_sub(before.last + 1);
            if before.last >= record.first {
                let (class, first) = (record.class.name(), record.first);
                found
                    .problems
                    .push(format!("{class} from {first}: the range from {} on has these messages too", before.first));
            }
        }
        before = Some(record);
        named.extend(record.files.iter().map(|file| file.path.clone()));
        check(&store, record, found).await?;
        if let Some(streams) = streams.as_ref().filter(|streams| streams.may_hold(record)) {
            compare(&streams.client, record, found).await?;
        }
    }
    let strays = strays(&store, &named, args.prune).await?;
    if args.json {
        let classes: Vec<_> = all
            .iter()
            .map(|((site, class), found)| serde_json::json!({ "site": site, "class": class, "found": found }))
            .collect();
        output::line(&serde_json::json!({ "classes": classes, "strays": strays, "pruned": args.prune }).to_string());
    } else {
        all.iter().for_each(|((site, class), found)| found.tell(site, *class));
        let word = if args.prune { "removed" } else { "no record names it (--prune removes it)" };
        strays.iter().for_each(|path| output::line(&format!("{path}: {word}")));
    }
    let problems: usize = all.values().map(|found| found.problems.len()).sum();
    anyhow::ensure!(problems == 0, "{problems} problems");
    anyhow::ensure!(args.prune || strays.is_empty(), "{} files that no record names", strays.len());
    Ok(())
}

/// Whether a range's files are there, whole.
async fn check(store: &Store, record: &Record, found: &mut Found) -> anyhow::Result<()> {
    found.ranges += 1;
    found.rows += record.rows;
    found.missing += record.gaps.iter().map(|gap| gap.last - gap.first + 1).sum::<u64>();
    for file in &record.files {
        found.files += 1;
        match store.get(&file.path).await? {
            None => found.problems.push(format!("{}: is not there", file.path)),
            Some(bytes) if blake3::hash(&bytes).to_hex().as_str() != file.blake3 => {
                found.problems.push(format!(
                    "{}: {} bytes, which are not those that were written",
                    file.path,
                    bytes.len()
                ));
            }
            Some(_) => {}
        }
    }
    if record.files.iter().map(|file| file.rows).sum::<u64>() != record.rows {
        found.problems.push(format!("{} from {}: its files' rows are not its own", record.class.name(), record.first));
    }
    Ok(())
}

/// Whether a range has as many rows as the stream, as far as that still holds its messages.
async fn compare(client: &Client, record: &Record, found: &mut Found) -> anyhow::Result<()> {
    let Some(info) = client.stream(&record.stream).await? else { return Ok(()) };
    if info.incarnation != record.incarnation || info.first_sequence > record.last {
        return Ok(());
    }
    let reader = Reader::new(Source::of_stream(&record.stream), record.class, &record.site);
    let filter = record.filter.clone().unwrap_or_default();
    let heads = Heads::all();
    let mut range = Range::new(record.class, record.first);
    let mut messages = client.read(&record.stream, &[], ReadFrom::Sequence(record.first)).await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        if message.sequence > record.last {
            break;
        }
        range.take(&message, &reader, Taking { filter: &filter, heads: &heads });
    }
    let there = range.counts();
    if there.messages == record.messages {
        found.compared += 1;
        if there.rows != record.rows {
            let (class, rows) = (record.class.name(), there.rows);
            let problem = format!("{class} from {}: {} rows, and {rows} in the stream", record.first, record.rows);
            found.problems.push(problem);
        }
    } else if there.messages > record.messages {
        let class = record.class.name();
        found
            .problems
            .push(format!("{class} from {}: the stream holds more messages than were exported", record.first));
    }
    Ok(())
}

async fn strays(store: &Store, named: &BTreeSet<String>, prune: bool) -> anyhow::Result<Vec<String>> {
    let mut strays = Vec::new();
    for class in Class::ALL {
        for (path, _) in store.list(&format!("class={}", class.name())).await? {
            if !named.contains(&path) {
                if prune {
                    store.delete(&path).await?;
                }
                strays.push(path);
            }
        }
    }
    Ok(strays)
}

impl Found {
    fn tell(&self, site: &str, class: Class) {
        let mut line = format!(
            "site {} {}: {} rows in {} files of {} ranges, {} of them compared with the stream",
            output::printable(site),
            class.name(),
            self.rows,
            self.files,
            self.ranges,
            self.compared
        );
        if self.missing > 0 {
            line += &format!("; {} sequences were gone before they were exported", self.missing);
        }
        if self.left_out > 0 {
            line += &format!("; {} sequences between ranges were not exported", self.left_out);
        }
        output::line(&line);
        self.problems.iter().for_each(|problem| output::line(&format!("  {problem}")));
    }
}
