//! Whether a batch follows what the ledger has. Pure: a message's bytes and what is known go in, a verdict comes out.
//!
//! A batch follows if it is of the site and class that its subject says, its chain is the current one, its number is the next, it names
//! the receipt of the batch before it, and its entries begin where that one's ended. The first batch of another chain follows if
//! it says which chain it replaces. Where batches were removed from the stream before this copy read them, what is between is missing, and
//! the chain goes on behind it; where the stream itself was lost, the chain may begin again, and what is held already is not taken twice.

use eddy_schemas::sync::{CHAIN_BYTES, Class, RECEIPT_BYTES, receipt, wire};

/// A chain's name.
pub type Chain = [u8; CHAIN_BYTES];
/// A batch's receipt.
pub type Receipt = [u8; RECEIPT_BYTES];

/// Bytes of a message: what a hub's server takes (`max_payload`).
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What the ledger has of a site's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The current chain.
    pub chain: Chain,
    /// Its last batch.
    pub number: u64,
    /// That batch's last entry.
    pub last: u64,
    /// The last entry accounted for: a later one than `last` while a chain that began again has not come there.
    pub held: u64,
    /// That batch's receipt.
    pub receipt: Receipt,
}

/// Where a message was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The site that its stream and subject say.
    pub site: &'a str,
    /// The class that its subject says.
    pub class: Class,
    /// Messages before it on its subject were removed from the stream before this copy read them.
    pub lost: bool,
    /// The stream was lost, or its end, since the last batch that was taken: the gateway cannot know how far the chain had come.
    pub anew: bool,
}

/// A batch that follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The batch.
    pub batch: wire::Batch,
    /// What is in it.
    pub entries: wire::Entries,
    /// Its chain.
    pub chain: Chain,
    /// Its receipt: what the next one must name.
    pub receipt: Receipt,
    /// It is its chain's first one here.
    pub begins: bool,
    /// Entries of its chain before it that this copy never saw.
    pub missing: Option<(u64, u64)>,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is taken.
    Next(Box<Link>),
    /// It, or one in its place, was taken before.
    Replayed(String),
    /// It is not taken, and nothing that does not follow the ledger's last one.
    Refused(String),
}

/// Judges a message. `known` is the current chain's, `past` are the chains before it.
pub fn judge(known: Option<&Known>, past: &[Chain], found: &Found<'_>, message: &[u8]) -> Verdict {
    let (batch, entries, chain) = match read(found, message) {
        Ok(read) => read,
        Err(problem) => return Verdict::Refused(problem),
    };
    let receipt = receipt(&batch.previous, message);
    let (begins, from) = match place(known, past, found, &batch, (&chain, &receipt)) {
        Place::Begins(from) => (true, from),
        Place::GoesOn(from) => (false, from),
        Place::Replayed(problem) => return Verdict::Replayed(problem),
        Place::Refused(problem) => return Verdict::Refused(problem),
    };
    let missing = (from < batch.first).then(|| (from, batch.first - 1));
    Verdict::Next(Box::new(Link { batch, entries, chain, receipt, begins, missing }))
}

fn read(found: &Found<'_>, message: &[u8]) -> Result<(wire::Batch, wire::Entries, Chain), String> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(format!("a message of {} bytes: at most {MESSAGE_BYTES_MAX} are taken", message.len()));
    }
    let (batch, entries) = wire::Batch::read(message)?;
    if batch.site != found.site {
        let site: String = batch.site.chars().take(80).collect();
        return Err(format!("a batch of site {site:?} on a subject of {:?}", found.site));
    }
    if batch.class != i32::from(found.class) {
        let class = batch.class().token();
        return Err(format!("a batch of class {class} ({}) on a subject of {}", batch.class, found.class.token()));
    }
    if batch.number == 0 {
        return Err("batch 0: numbers begin at 1".into());
    }
    if batch.number == 1 && !batch.previous.is_empty() {
        return Err("batch 1 of a chain names a batch before it".into());
    }
    if batch.number > 1 && (batch.previous.is_empty() || !batch.replaces.is_empty()) {
        return Err(format!("batch {} of a chain is written as if it were the first", batch.number));
    }
    if !matches!(batch.replaces.len(), 0 | CHAIN_BYTES) {
        return Err(format!("it replaces a chain with a name of {} bytes, not {CHAIN_BYTES}", batch.replaces.len()));
    }
    let chain = batch.chain.as_ref().try_into();
    let chain = chain.map_err(|_| format!("a chain's name of {} bytes", batch.chain.len()))?;
    Ok((batch, entries, chain))
}

/// How a batch lies to what is known; with the entry that is due.
enum Place {
    Begins(u64),
    GoesOn(u64),
    Replayed(String),
    Refused(String),
}

fn place(
    known: Option<&Known>,
    past: &[Chain],
    found: &Found<'_>,
    batch: &wire::Batch,
    (chain, receipt): (&Chain, &Receipt),
) -> Place {
    let (number, lost) = (batch.number, found.lost || found.anew);
    if past.contains(chain) {
        return Place::Replayed(format!("batch {number} of chain {}, which was replaced", hex(chain)));
    }
    match known {
        Some(known) if known.chain == *chain && found.anew => Place::GoesOn(known.held + 1),
        Some(known) if known.chain == *chain => go_on(known, lost, batch, receipt),
        // Where a chain begins its first entry may have any number.
        _ if number == 1 && (lost || known.is_none_or(|known| batch.replaces == known.chain.as_slice())) => {
            Place::Begins(batch.first)
        }
        _ if lost => Place::Begins(1),
        None => Place::Refused(format!("batch {number} of chain {} is the first one here", hex(chain))),
        Some(known) if number == 1 => Place::Refused(format!(
            "chain {} does not say that it replaces chain {}: another gateway writes as this site",
            hex(chain),
            hex(&known.chain)
        )),
        Some(known) => Place::Refused(format!(
            "batch {number} of chain {}, where chain {} is at batch {}",
            hex(chain),
            hex(&known.chain),
            known.number
        )),
    }
}

/// Within the current chain.
fn go_on(known: &Known, lost: bool, batch: &wire::Batch, receipt: &Receipt) -> Place {
    let number = batch.number;
    if number == known.number && *receipt != known.receipt {
        return Place::Refused(format!("batch {number} differs from the batch {number} that was taken"));
    }
    if number <= known.number {
        return Place::Replayed(format!("batch {number}; the chain is at batch {}", known.number));
    }
    let is_next = number == known.number + 1;
    if is_next && batch.previous != known.receipt.as_slice() {
        return Place::Refused(format!(
            "batch {number} follows a batch with receipt {}, not the one that was taken, {}",
            hex(&batch.previous),
            hex(&known.receipt)
        ));
    }
    if !is_next && !lost {
        return Place::Refused(format!("batch {number} follows batch {}: those between are not there", known.number));
    }
    if batch.first <= known.last || (is_next && batch.first != known.last + 1) {
        return Place::Refused(format!(
            "batch {number} begins with entry {}, where entry {} was the last one",
            batch.first, known.last
        ));
    }
    Place::GoesOn(known.last + 1)
}

/// For people and keys.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
