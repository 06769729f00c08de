//! The region's audit log: JSON lines, each of which names the hash of the one before it.
//!
//! A line is an [`Entry`]'s object with one more member, its `hash`: BLAKE3 of all bytes before `,"hash":`. As `prev` stands among
//! them, a line that is changed, removed, added or moved breaks the chain there, and [`verify`] names it. Lines that are missing at
//! the end leave a shorter chain that is sound: who wants to know of that keeps a head (number and hash) elsewhere, and asks whether
//! the log still holds it ([`read`] shows each). Nor is the chain a signature: who can write all of the file can write another one.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The file that is written; full ones lie beside it under [`rotated`] names.
pub const FILE: &str = "audit.jsonl";
/// No line is longer.
pub const LINE_BYTES_MAX: usize = 32 * 1_024;
/// Bytes of `who`, `what` and `outcome`; what is longer is cut.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of `detail`.
const DETAIL_BYTES_MAX: usize = 4_096;
/// What stands between an entry's members and its hash.
const HASH: &str = ",\"hash\":\"";
/// Hexadecimal digits of a hash.
const DIGITS: usize = 64;

/// A hash of the chain.
pub type Hash = [u8; 32];

/// What the first entry follows.
pub const GENESIS: Hash = [0; 32];

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 1, without a gap.
    pub seq: u64,
    /// When, by the writer's clock: RFC 3339.
    pub time: String,
    /// The subject of a certificate, an address, or a process.
    pub who: String,
    /// The method, or the decision.
    pub what: String,
    /// `ok`, or how it ended.
    pub outcome: String,
    /// What it was about, and why.
    pub detail: String,
    /// Hex: the hash of the entry before it.
    pub prev: String,
}

impl Entry {
    /// An entry that follows the chain's `head`; texts that are too long are cut.
    pub fn new(head: &Head, time: Timestamp, [who, what, outcome, detail]: [&str; 4]) -> Self {
        Self {
            seq: head.seq + 1,
            time: crate::rfc3339(time),
            who: clipped(who, NAME_BYTES_MAX),
            what: clipped(what, NAME_BYTES_MAX),
            outcome: clipped(outcome, NAME_BYTES_MAX),
            detail: clipped(detail, DETAIL_BYTES_MAX),
            prev: hex(&head.hash),
        }
    }

    /// Its line, with the line feed, and the head that the chain has with it.
    pub fn line(&self) -> (String, Head) {
        let mut line = serde_json::to_string(self).expect("numbers and texts are JSON");
        let end = line.pop();
        debug_assert_eq!(end, Some('}'));
        let hash = *blake3::hash(line.as_bytes()).as_bytes();
        line.push_str(HASH);
        line.push_str(&hex(&hash));
        line.push_str("\"}\n");
        (line, Head { seq: self.seq, hash })
    }
}

fn hex(hash: &Hash) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

fn clipped(text: &str, bytes: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes - MARK.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{MARK}", &text[..end])
}

/// Where a chain stands: its last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0: there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// Of a chain without an entry.
    pub const START: Self = Self { seq: 0, hash: GENESIS };
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, hex(&self.hash))
    }
}

impl std::str::FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(seq, hash)| {
            Some(Self { seq: seq.parse().ok()?, hash: *blake3::Hash::from_hex(hash).ok()?.as_bytes() })
        });
        parts.ok_or_else(|| format!("{text:?}: NUMBER:HASH is taken, with {DIGITS} hexadecimal digits"))
    }
}

/// Reads a chain line by line.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The last entry; `None`: the next one may be any, as the first of a file whose predecessors are elsewhere.
    pub head: Option<Head>,
}

impl Chain {
    /// Takes the next line, without its line feed.
    ///
    /// # Errors
    /// Why it does not follow.
    pub fn take(&mut self, line: &[u8]) -> Result<(Entry, Head), String> {
        let cut = line.len().checked_sub(HASH.len() + DIGITS + 2);
        let parts = cut.map(|cut| line.split_at(cut)).filter(|(_, tail)| {
            tail.starts_with(HASH.as_bytes()) && tail.ends_with(b"\"}") // the digits are compared below
        });
        let (body, tail) = parts.ok_or("it does not end with a hash")?;
        let hash = *blake3::hash(body).as_bytes();
        if tail[HASH.len()..][..DIGITS] != *hex(&hash).as_bytes() {
            return Err("its hash is not that of its text: it was changed".into());
        }
        let entry: Entry =
            serde_json::from_slice(&[body, b"}"].concat()).map_err(|error| format!("not an entry: {error}"))?;
        let expected = match self.head {
            Some(head) => Some(head),
            // Only the first entry of all is known to follow nothing.
            None => (entry.seq <= 1).then_some(Head::START),
        };
        if let Some(Head { seq, hash }) = expected {
            if Some(entry.seq) != seq.checked_add(1) {
                return Err(format!("entry {} follows entry {seq}: some are missing, or were moved", entry.seq));
            }
            if entry.prev != hex(&hash) {
                return Err(format!("it follows another entry {seq} than the one before it"));
            }
        }
        let head = Head { seq: entry.seq, hash };
        self.head = Some(head);
        Ok((entry, head))
    }
}

/// What was found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Number of the first entry: above 1 where older files are elsewhere. 0: there is no entry.
    pub first: u64,
    /// The last one.
    pub head: Head,
    /// Files.
    pub files: usize,
}

/// Why a log is not sound.
#[derive(Debug, thiserror::Error)]
pub enum AuditProblem {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder without a log.
    #[error("{path}: no {FILE}, nor full ones beside it")]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// The first line that is wrong.
    #[error("{path}, line {line}: {problem}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// The name of a full file whose first entry has this number.
pub fn rotated(first: u64) -> String {
    format!("audit-{first:020}.jsonl")
}

/// The number in such a name.
fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    digits.parse().ok().filter(|first| rotated(*first) == name)
}

/// The files of the log in a folder, in the order of their entries.
///
/// # Errors
/// That it cannot be read.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).and_then(first_of).is_some() {
            files.push(path);
        }
    }
    files.sort();
    let current = folder.join(FILE);
    files.extend(current.is_file().then_some(current));
    Ok(files)
}

/// Whether a log (a file, or a folder with all of its files) is one chain, and each line what was written.
///
/// # Errors
/// The first line that is wrong.
pub fn verify(path: &Path) -> Result<Verified, AuditProblem> {
    read(path, |_, _| {})
}

/// As [`verify`], and shows each entry with the head that the chain has with it.
///
/// # Errors
/// The first line that is wrong.
pub fn read(path: &Path, mut each: impl FnMut(&Entry, &Head)) -> Result<Verified, AuditProblem> {
    let files = if path.is_dir() {
        let files = files(path).map_err(|source| AuditProblem::Unreadable { path: path.to_owned(), source })?;
        (!files.is_empty()).then_some(files).ok_or_else(|| AuditProblem::Missing { path: path.to_owned() })?
    } else {
        vec![path.to_owned()]
    };
    let (mut chain, mut first) = (Chain::default(), 0);
    for file in &files {
        let mut own_first = None;
        let ended = read_file(file, &mut chain, |entry, head| {
            own_first.get_or_insert(entry.seq);
            each(entry, head);
        })?;
        first = if first == 0 { own_first.unwrap_or(0) } else { first };
        let named = file.file_name().and_then(|name| name.to_str()).and_then(first_of);
        if let Some(named) = named.filter(|named| own_first.is_some_and(|own| own != *named)) {
            let problem = format!("it is entry {}, where the file's name says {named}", own_first.unwrap_or(0));
            return Err(AuditProblem::Wrong { path: file.clone(), line: 1, problem });
        }
        if let Some(torn) = ended.torn {
            let problem = "it does not end: it is being written, or was cut".into();
            return Err(AuditProblem::Wrong { path: file.clone(), line: torn.line, problem });
        }
    }
    Ok(Verified { first, head: chain.head.unwrap_or(Head::START), files: files.len() })
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Bytes of its sound lines.
    pub sound_bytes: u64,
    /// A last line without a line feed.
    pub torn: Option<Torn>,
}

/// A last line without a line feed, as a crash leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// From 1.
    pub line: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Reads one file on from where `chain` stands.
///
/// # Errors
/// The first line that is wrong, other than a last one without its line feed.
pub fn read_file(path: &Path, chain: &mut Chain, mut each: impl FnMut(&Entry, &Head)) -> Result<Ended, AuditProblem> {
    let unreadable = |source| AuditProblem::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut reader = BufReader::new(file);
    let (mut sound_bytes, mut line) = (0, Vec::new());
    for number in 1.. {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).map_err(unreadable)?;
        let wrong = |problem: String| AuditProblem::Wrong { path: path.to_owned(), line: number, problem };
        match line.pop() {
            None => break,
            Some(b'\n') => {
                let (entry, head) = chain.take(&line).map_err(wrong)?;
                each(&entry, &head);
                sound_bytes += read as u64;
            }
            Some(_) if read == LINE_BYTES_MAX => {
                return Err(wrong(format!("it is longer than {LINE_BYTES_MAX} bytes")));
            }
            Some(_) => {
                let torn = Torn { line: number, bytes: length.saturating_sub(sound_bytes) };
                return Ok(Ended { sound_bytes, torn: Some(torn) });
            }
        }
    }
    Ok(Ended { sound_bytes, torn: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (String, String) {
        let (first, head) = Entry::new(&Head::START, 0, ["alice", "Label", "ok", "a \"b\"\n"]).line();
        let (second, _) = Entry::new(&head, 1, ["bob", "Search", "refused", "no role"]).line();
        (first, second)
    }

    fn checked(text: &str) -> Result<Verified, String> {
        // One file a call: tests run side by side, also as threads of one process.
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("eddy-audit-{}-{number}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let verified = verify(&path).map_err(|problem| problem.to_string());
        std::fs::remove_file(&path).unwrap();
        verified
    }

    #[test]
    fn a_log_is_sound_until_a_line_is_changed_moved_or_cut() {
        let (first, second) = two();
        let sound = checked(&format!("{first}{second}")).unwrap();
        assert_eq!((sound.first, sound.head.seq, sound.files), (1, 2, 1));
        assert_eq!(sound.head.to_string().parse(), Ok(sound.head));
        assert_eq!(checked("").unwrap().head, Head::START);
        // The file before it is elsewhere.
        assert_eq!(checked(&second).unwrap().first, 2);
        for (text, problem) in [
            (first.replace("alice", "alicf"), "line 1: its hash is not that of its text"),
            (format!("{second}{first}"), "line 2: entry 1 follows entry 2"),
            (format!("{first}{first}"), "line 2: entry 1 follows entry 1"),
            (format!("{first}\n{second}"), "line 2: it does not end with a hash"),
            (format!("{first}{}", &second[..second.len() - 1]), "line 2: it does not end"),
            (format!("{first}{}", "x".repeat(LINE_BYTES_MAX)), "line 2: it is longer"),
            (format!("{first}{{}}\n"), "line 2: it does not end with a hash"),
        ] {
            let error = checked(&text).unwrap_err();
            assert!(error.contains(problem), "{error} of {text}");
        }
        // Another first entry, made as well as the real one.
        let (other, _) = Entry::new(&Head::START, 0, ["mallory", "Label", "ok", ""]).line();
        assert!(checked(&format!("{other}{second}")).unwrap_err().contains("another entry 1"));
        let (forged, _) = Entry::new(&Head { seq: 0, hash: [1; 32] }, 0, ["", "", "", ""]).line();
        assert!(checked(&forged).unwrap_err().contains("another entry 0"));
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_fit_a_line() {
        let long = "\u{1}".repeat(100_000);
        let entry = Entry::new(&Head::START, 0, [&long, &long, &long, &long]);
        let (line, _) = entry.line();
        assert!(line.len() < LINE_BYTES_MAX && checked(&line).is_ok(), "{}", line.len());
        let cut = clipped(&"é".repeat(300), NAME_BYTES_MAX);
        assert!(cut.ends_with("é…") && cut.len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        for wrong in ["", "1", "x:00", "1:00", ":", &format!("1:{}", "g".repeat(64))] {
            assert!(wrong.parse::<Head>().unwrap_err().contains("NUMBER:HASH"), "{wrong}");
        }
    }
}
