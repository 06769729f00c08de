//! Messages of a site's stream into one transaction of a shard's store.

use std::collections::{BTreeMap, HashMap};

use eddy_runtime::{bus::Delivery, position::Position, trace::Tracer};
use eddy_schemas::{
    names,
    region::{Word, said_subject},
    sync::{
        self, Class,
        wire::{Codebook, Codes, Entries, entry::What},
    },
};
use eddy_vectors::index::{Batch, Filter, IndexError, Label, WindowId};
use prost::Message as _;

use super::{
    codes::Book,
    entries::{self, Meaning, Reader},
    traced::Judged,
};
use crate::{
    about,
    chain::{self, Found, Link, Verdict},
    filed,
    kept::{self, Keeper},
    ledger::{Account, Missing, cause},
    news::{self, News},
    shards::Led,
};

/// Codebooks of a site. A bundle has one, and a site changes its bundle rarely.
const BOOKS_MAX: usize = 64;

/// A site, by all its names.
#[derive(Clone, Debug)]
pub struct Site {
    /// As its people call it.
    pub name: String,
    /// In subjects and keys.
    pub token: String,
    /// Its stream.
    pub stream: String,
}

impl Site {
    /// Of this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), token: names::encode(name), stream: sync::stream_of(name) }
    }
}

/// What a store keeps.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Bounds of all notes that age.
    pub notes: kept::Bounds,
    /// Periods of summaries of a device.
    pub summaries: u32,
}

/// What came of messages.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Entries of this shard's devices.
    pub merged: u64,
    /// Entries that are none.
    pub malformed: u64,
    /// Batches that do not follow.
    pub refused: u64,
    /// Batches that came before.
    pub replayed: u64,
    /// Something is to go out.
    pub news: bool,
    /// What, how it ended: why the first of them did, and how many more did.
    pub audit: BTreeMap<(String, &'static str), (Vec<String>, u64)>,
    /// Batches that are part of sampled traces.
    pub judged: Vec<Judged>,
}

/// So many alike of one transaction are told one by one.
const ALIKE_MAX: usize = 16;

impl Outcome {
    /// Of many alike in one transaction the first are told, and how many more there were: rubbish must not fill the log.
    fn audit(&mut self, what: String, outcome: &'static str, detail: impl Into<String>) {
        let (told, more) = self.audit.entry((what, outcome)).or_default();
        if told.len() < ALIKE_MAX { told.push(detail.into()) } else { *more += 1 }
    }
}

/// The message that is merged.
#[derive(Clone, Copy)]
struct At {
    incarnation: i64,
    sequence: u64,
    stored: i64,
    /// News of it so far.
    news: u32,
}

/// A transaction in the making.
pub struct Merge<'s> {
    copy: &'s Led,
    site: &'s Site,
    rules: Rules,
    batch: Batch<'s>,
    keeper: Keeper,
    accounts: BTreeMap<Class, Account>,
    books: HashMap<String, Book>,
    added: HashMap<String, Vec<WindowId>>,
    at: At,
    outcome: Outcome,
    tracer: Option<Tracer>,
}

impl<'s> Merge<'s> {
    /// Begins; the caller holds the copy's lock.
    pub fn new(copy: &'s Led, site: &'s Site, rules: Rules, incarnation: i64) -> Result<Self, IndexError> {
        let batch = copy.store.batch()?;
        let keeper = Keeper::load(&batch, rules.notes)?;
        Ok(Self {
            copy,
            site,
            rules,
            batch,
            keeper,
            accounts: BTreeMap::new(),
            books: HashMap::new(),
            added: HashMap::new(),
            at: At { incarnation, sequence: 0, stored: 0, news: 0 },
            outcome: Outcome::default(),
            tracer: None,
        })
    }

    /// Times what is part of sampled traces.
    pub fn trace_by(&mut self, tracer: Option<Tracer>) {
        self.tracer = tracer;
    }

    /// Messages were removed from the stream before they were read.
    pub fn missed(&mut self, from: u64, to: u64) -> Result<(), IndexError> {
        self.outcome.audit("stream".into(), "gap", format!("messages {from} to {to} were gone before they were read"));
        self.batch.missed(to + 1 - from)
    }

    /// The next message.
    pub fn message(&mut self, delivery: &Delivery) -> Result<(), IndexError> {
        self.at = At { sequence: delivery.sequence, stored: delivery.stored_at, news: 0, ..self.at };
        let subject = delivery.subject.as_str();
        let class = subject.strip_prefix("sync.").and_then(|rest| rest.strip_prefix(&self.site.token));
        match class.and_then(|rest| rest.strip_prefix('.')).and_then(Class::of_token) {
            Some(class) => self.batch(class, delivery),
            None if subject == said_subject(&self.site.name) => self.word(&delivery.payload),
            None => {
                let subject: String = subject.chars().take(100).collect();
                let detail = format!("message {} on {subject}, which is no class's", delivery.sequence);
                self.outcome.refused += 1;
                self.outcome.audit("message".into(), "refused", detail);
                Ok(())
            }
        }
    }

    /// What came of the messages so far.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Writes everything and where the store stands then.
    pub fn commit(mut self, before: Option<&str>, position: &Position) -> Result<Outcome, IndexError> {
        for account in self.accounts.values() {
            account.save(&mut self.batch)?;
        }
        self.keeper.finish(&mut self.batch)?;
        self.batch.commit(before, &position.to_string())?;
        Ok(self.outcome)
    }

    fn batch(&mut self, class: Class, delivery: &Delivery) -> Result<(), IndexError> {
        let mut account = match self.accounts.remove(&class) {
            Some(account) => account,
            None => Account::load(&self.batch, &self.site.token, class)?,
        };
        let lost = account.sees(self.at.incarnation, delivery.sequence, delivery.predecessor);
        let found = Found { site: &self.site.name, class, lost, anew: account.head.anew };
        let what = || format!("batch of {}", class.token());
        let why = |reason: String| format!("message {}: {reason}", delivery.sequence);
        let tracer = self.tracer.as_ref().filter(|_| !delivery.provenance.contexts.is_empty());
        let start = tracer.map(Tracer::now);
        let verdict = chain::judge(account.known().as_ref(), account.past(), &found, &delivery.payload);
        if let (Some(tracer), Some(start)) = (tracer, start) {
            self.outcome.judged.push(Judged::new(delivery, class, &verdict, (start, tracer.now())));
        }
        match verdict {
            Verdict::Next(link) => {
                self.told_of(&account, &link, class);
                let malformed = self.entries(&link, class, account.held(&link))?;
                account.take(&mut self.batch, &link, malformed, self.at.stored)?;
            }
            Verdict::Replayed(reason) => {
                self.outcome.replayed += 1;
                self.outcome.audit(what(), "replayed", why(reason));
            }
            Verdict::Refused(reason) => {
                self.outcome.refused += 1;
                self.outcome.audit(what(), "refused", why(reason));
            }
        }
        self.accounts.insert(class, account);
        Ok(())
    }

    /// What people should know of a batch that is taken.
    fn told_of(&mut self, account: &Account, link: &Link, class: Class) {
        let what = format!("chain of {}", class.token());
        let name = chain::hex(&link.chain);
        if let Some(known) = account.known().filter(|_| link.begins) {
            let old = chain::hex(&known.chain);
            self.outcome.audit(what.clone(), "replaced", format!("chain {name} goes on for chain {old}"));
        }
        if let Some((first, last)) = link.missing {
            self.outcome.audit(
                what,
                "gap",
                format!("chain {name}: entries {first} to {last} were gone before they were read"),
            );
        }
    }

    /// Merges a batch's entries past `held`; returns those that are none.
    fn entries(&mut self, link: &Link, class: Class, held: u64) -> Result<Vec<Missing>, IndexError> {
        self.find_books(&link.entries)?;
        let mut malformed = Vec::new();
        let (site, rules) = (self.site, self.rules);
        let reader =
            Reader { site: &site.name, token: &site.token, class, entries: &link.entries, summaries: rules.summaries };
        for entry in link.entries.entries.iter().filter(|entry| entry.id > held) {
            let read = reader.read(entry, |bundle| self.books.get(bundle));
            let problem = match read {
                Ok(meaning) => self.apply(meaning)?,
                Err(problem) => Some(problem),
            };
            if let Some(problem) = problem {
                self.outcome.malformed += 1;
                let detail: String = problem.chars().take(100).collect();
                self.outcome.audit(
                    format!("entry of {}", class.token()),
                    "malformed",
                    format!("entry {}: {detail}", entry.id),
                );
                let (first, last) = (entry.id, entry.id);
                malformed.push(Missing { first, last, count: 1, cause: cause::MALFORMED.to_owned(), detail });
            }
        }
        Ok(malformed)
    }

    /// What the batch's product-quantized vectors are read by.
    fn find_books(&mut self, entries: &Entries) -> Result<(), IndexError> {
        let is_pq = |what: &Option<What>| matches!(what, Some(What::Delta(delta)) if delta.codes() == Codes::Pq);
        if !entries.entries.iter().any(|entry| is_pq(&entry.what)) {
            return Ok(());
        }
        for bundle in entries.bundles.iter().map(|digest| chain::hex(digest)) {
            if self.books.contains_key(&bundle) {
                continue;
            }
            let note = self.batch.noted(&self.book_key(&bundle))?;
            let book = note.and_then(|note| Codebook::decode(note.as_slice()).ok());
            if let Some(book) = book.and_then(|book| Book::read(&book).ok()) {
                self.books.insert(bundle, book);
            }
        }
        Ok(())
    }

    fn book_key(&self, bundle: &str) -> String {
        format!("codebook/{}/{bundle}", self.site.token)
    }

    /// Whether a device is of this shard.
    fn is_ours(&self, device: &str) -> bool {
        names::shard_of(device, self.copy.shards) == self.copy.shard
    }

    /// Merges what an entry means; or says why it cannot be.
    fn apply(&mut self, meaning: Meaning) -> Result<Option<String>, IndexError> {
        if meaning.device().is_some_and(|device| !self.is_ours(device)) {
            return Ok(None);
        }
        self.outcome.merged += 1;
        match meaning {
            Meaning::Keep { key, value, .. } => {
                self.keeper.keep(&mut self.batch, &key, &value, self.at.stored)?;
            }
            Meaning::Say { alert, word, .. } => self.say(&alert, &word)?,
            Meaning::Add { model, window, alert, opens, .. } => {
                let id = self.batch.add(&model, &window)?;
                let device = eddy_schemas::SeriesName::device_token(&window.series).to_owned();
                self.added.entry(device).or_default().push(id);
                if let Some(alert) = alert {
                    self.batch.tag(&filed::tag(&self.site.name, &alert), id)?;
                    if opens {
                        self.open(&alert, id)?;
                    }
                }
            }
            Meaning::Forget { device } => self.forget(&filed::device(&self.site.name, &device))?,
            Meaning::Book { bundle, record, book } => {
                let key = self.book_key(&bundle);
                let prefix = format!("codebook/{}/", self.site.token);
                if self.batch.noted(&key)?.is_none() && self.batch.notes(&prefix, BOOKS_MAX)?.len() >= BOOKS_MAX {
                    return Ok(Some(format!("a codebook of one bundle too many: {BOOKS_MAX} of a site are kept")));
                }
                self.batch.note(&key, &record)?;
                self.books.insert(bundle, book);
            }
        }
        Ok(None)
    }

    fn word(&mut self, payload: &[u8]) -> Result<(), IndexError> {
        let read = serde_json::from_slice::<Word>(payload).map_err(|error| error.to_string());
        let meaning = read.and_then(|word| {
            let Word { device, alert, label, origin, time } = word;
            entries::word(&device, &alert, Label { name: label, origin, time })
        });
        match meaning {
            Ok(meaning) => self.apply(meaning).map(drop),
            Err(problem) => {
                self.outcome.malformed += 1;
                self.outcome.audit("word".into(), "malformed", format!("message {}: {problem}", self.at.sequence));
                Ok(())
            }
        }
    }

    fn say(&mut self, alert: &str, word: &Label) -> Result<(), IndexError> {
        let about = (self.site.token.as_str(), alert);
        let holds = about::say(&mut self.batch, &mut self.keeper, about, word, self.at.stored)?;
        match holds {
            Some((window, word)) => self.label(alert, window, &word),
            None => Ok(()),
        }
    }

    fn open(&mut self, alert: &str, window: WindowId) -> Result<(), IndexError> {
        let about = (self.site.token.as_str(), alert);
        match about::open(&mut self.batch, &mut self.keeper, about, window, self.at.stored)? {
            Some(word) => self.label(alert, window, &word),
            None => Ok(()),
        }
    }

    /// A window gets its label, and other sites hear of it.
    fn label(&mut self, alert: &str, window: WindowId, word: &Label) -> Result<(), IndexError> {
        // A window that aged out has none.
        if !self.batch.label(window, word)? || word.is_derived() {
            return Ok(());
        }
        let news = News {
            site: self.site.name.clone(),
            incarnation: self.at.incarnation,
            sequence: self.at.sequence,
            nth: self.at.news,
            window,
            alert: alert.to_owned(),
            label: word.clone(),
        };
        self.at.news += 1;
        self.outcome.news = true;
        news::note(&mut self.batch, &news)
    }

    /// The searcher has seen all that is committed; what this transaction added it has not.
    fn forget(&mut self, device: &str) -> Result<(), IndexError> {
        let known = self.copy.searcher.matching(&Filter { device: Some(device.to_owned()), ..Filter::default() })?;
        for window in known.into_iter().chain(self.added.remove(device).unwrap_or_default()) {
            self.batch.delete(window)?;
        }
        Ok(())
    }
}
