//! What an entry of a batch means for a store. An entry that is none of what its class holds is put aside with its reason; the batch
//! that it came in is taken all the same, or a chain would end with it.

use bytes::Bytes;
use eddy_schemas::{
    SeriesName,
    alert::CloudEvent,
    context::Context,
    health::Health,
    names,
    sync::{
        Class,
        wire::{Action, Codebook, Entries, Entry, Label as Said, Readings, Summary, VectorDelta, entry::What},
    },
};
use eddy_vectors::index::{Facts, Label, Model, Window};
use prost::Message as _;

use super::codes::{self, Book};
use crate::{chain::hex, filed, kept, words::NAME_BYTES_MAX};

/// The head whose vectors are synced; a bundle has one that may leave the gateway.
const HEAD: &str = "learned";
/// Bytes of a bundle's digest.
const DIGEST_BYTES_MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// A note that is kept as long as there is room.
    Keep {
        /// The device that it is about.
        device: String,
        /// Its key.
        key: String,
        /// What is kept.
        value: Bytes,
    },
    /// Somebody said what an alert was.
    Say {
        /// The device.
        device: String,
        /// The alert.
        alert: String,
        /// What they said; its origin has the site before it.
        word: Label,
    },
    /// A window.
    Add {
        /// The device.
        device: String,
        /// Whose vector it has.
        model: Model,
        /// The window, filed under site and device.
        window: Window,
        /// The alert that it opened, updated or closed.
        alert: Option<String>,
        /// Whether it opened it.
        opens: bool,
    },
    /// A device is as if it had never been seen.
    Forget {
        /// The device.
        device: String,
    },
    /// What vectors that follow are read by; every shard needs it.
    Book {
        /// The bundle.
        bundle: String,
        /// As it came.
        record: Vec<u8>,
        /// Read.
        book: Book,
    },
}

impl Meaning {
    /// The device that it is about; `None`: all.
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Keep { device, .. }
            | Self::Say { device, .. }
            | Self::Add { device, .. }
            | Self::Forget { device } => Some(device),
            Self::Book { .. } => None,
        }
    }
}

/// What an entry is read with.
pub struct Reader<'a> {
    /// The site.
    pub site: &'a str,
    /// Its token.
    pub token: &'a str,
    /// The class of its batch.
    pub class: Class,
    /// The batch's entries, for what they point into.
    pub entries: &'a Entries,
    /// Periods of summaries that are kept.
    pub summaries: u32,
}

fn name(what: &str, value: &str) -> Result<String, String> {
    let token = names::encode(value);
    if (1..=kept::PART_BYTES_MAX).contains(&token.len()) {
        return Ok(token);
    }
    let value: String = value.chars().take(40).collect();
    Err(format!("{what} {value:?}: 1 to {} bytes (percent-encoded) are taken", kept::PART_BYTES_MAX))
}

fn text(what: &str, value: &str) -> Result<(), String> {
    if (1..=NAME_BYTES_MAX).contains(&value.len()) {
        return Ok(());
    }
    Err(format!("{what} of {} bytes: 1 to {NAME_BYTES_MAX} are taken", value.len()))
}

/// An operator's word or a gateway's label.
///
/// # Errors
/// What is no name.
pub fn word(device: &str, alert: &str, label: Label) -> Result<Meaning, String> {
    name("device", device)?;
    name("alert", alert)?;
    text("a label", &label.name)?;
    text("an origin", &label.origin)?;
    Ok(Meaning::Say { device: device.to_owned(), alert: alert.to_owned(), word: label })
}

impl Reader<'_> {
    /// What the entry means; `book` finds what a bundle's vectors are read by.
    ///
    /// # Errors
    /// Why it means nothing.
    pub fn read<'b>(&self, entry: &Entry, book: impl FnOnce(&str) -> Option<&'b Book>) -> Result<Meaning, String> {
        match (self.class, &entry.what) {
            (Class::Alerts, Some(What::Alert(json))) => self.alert(json),
            (Class::Alerts, Some(What::Label(said))) => self.label(said),
            (Class::Contexts, Some(What::Context(json))) => self.context(json),
            (Class::Health, Some(What::Health(json))) => self.health(json),
            (Class::Deltas, Some(What::Delta(delta))) => self.delta(delta, book),
            (Class::Deltas, Some(What::Codebook(codebook))) => self.codebook(codebook),
            (Class::Summaries, Some(What::Summary(summary))) => self.summary(summary),
            (Class::Snippets | Class::Readings, Some(What::Readings(readings))) => self.readings(readings),
            (class, None) => Err(format!("an entry in {} of a kind that this release does not know", class.token())),
            (class, Some(_)) => Err(format!("an entry that does not belong into {}", class.token())),
        }
    }

    fn alert(&self, json: &Bytes) -> Result<Meaning, String> {
        let event: CloudEvent = serde_json::from_slice(json).map_err(|error| format!("not an alert: {error}"))?;
        let alert = event.data;
        if alert.site != self.site {
            return Err(format!("an alert of site {:?}", alert.site.chars().take(40).collect::<String>()));
        }
        name("device", &alert.device)?;
        name("alert", &alert.alert)?;
        let key = format!("{}{}", kept::alert_prefix(self.token, &alert.alert), name("event", &event.id)?);
        Ok(Meaning::Keep { device: alert.device, key, value: json.clone() })
    }

    fn label(&self, said: &Said) -> Result<Meaning, String> {
        let origin = format!("{}/{}", self.site, said.origin);
        word(&said.device, &said.alert, Label { name: said.label.clone(), origin, time: said.time })
    }

    fn context(&self, json: &Bytes) -> Result<Meaning, String> {
        let context: Context = serde_json::from_slice(json).map_err(|error| format!("not a context: {error}"))?;
        if context.site != self.site {
            return Err(format!("a context of site {:?}", context.site.chars().take(40).collect::<String>()));
        }
        name("device", &context.device)?;
        let key = format!("context/{}/{}", self.token, name("alert", &context.alert)?);
        Ok(Meaning::Keep { device: context.device, key, value: json.clone() })
    }

    /// The last word about each condition.
    fn health(&self, json: &Bytes) -> Result<Meaning, String> {
        let health: Health = serde_json::from_slice(json).map_err(|error| format!("not a condition: {error}"))?;
        let channel = health.channel.as_deref().map(|channel| name("channel", channel)).transpose()?;
        let condition = serde_json::to_value(health.condition).map_err(|error| error.to_string())?;
        let condition = condition.as_str().unwrap_or_default();
        let device = name("device", &health.device)?;
        let key = format!("health/{}/{device}/{condition}/{}", self.token, channel.unwrap_or_default());
        Ok(Meaning::Keep { device: health.device, key, value: json.clone() })
    }

    fn pointed<'t, T>(what: &str, list: &'t [T], at: u32) -> Result<&'t T, String> {
        let found = at.checked_sub(1).and_then(|at| list.get(at as usize));
        found.ok_or_else(|| format!("{what} {at} of {}", list.len()))
    }

    fn bundle(&self, at: u32) -> Result<String, String> {
        let digest = Self::pointed("bundle", &self.entries.bundles, at)?;
        if !(1..=DIGEST_BYTES_MAX).contains(&digest.len()) {
            return Err(format!("a bundle's digest of {} bytes", digest.len()));
        }
        Ok(hex(digest))
    }

    fn delta<'b>(&self, delta: &VectorDelta, book: impl FnOnce(&str) -> Option<&'b Book>) -> Result<Meaning, String> {
        let text = Self::pointed("series", &self.entries.series, delta.series)?;
        if delta.action() == Action::ForgetDevice {
            let device = names::decode(SeriesName::device_token(text));
            name("device", &device)?;
            return Ok(Meaning::Forget { device });
        }
        if delta.action() != Action::Insert {
            return Err(format!("action {}, which this release does not know", delta.action));
        }
        let series =
            SeriesName::parse(text).ok_or_else(|| format!("series {:?}", text.chars().take(40).collect::<String>()))?;
        let bundle = self.bundle(delta.bundle)?;
        let vector = codes::vector(delta, || book(&bundle))?;
        let facts = facts(delta)?;
        if !delta.alert.is_empty() {
            name("alert", &delta.alert)?;
        }
        let model = Model { digest: bundle, head: HEAD.to_owned(), dimensions: vector.len() };
        let filed = filed::series(self.site, &series.device, &series.channel);
        Ok(Meaning::Add {
            device: series.device,
            model,
            window: Window { series: filed, facts, vector },
            alert: (!delta.alert.is_empty()).then(|| delta.alert.clone()),
            opens: delta.opens && !delta.alert.is_empty(),
        })
    }

    fn codebook(&self, codebook: &Codebook) -> Result<Meaning, String> {
        let book = Book::read(codebook)?;
        Ok(Meaning::Book { bundle: self.bundle(codebook.bundle)?, record: codebook.encode_to_vec(), book })
    }

    /// The last periods of each device: a period's place is taken by one that ends so many later.
    fn summary(&self, summary: &Summary) -> Result<Meaning, String> {
        if summary.period_s == 0 || summary.quantiles.len() > DIGEST_BYTES_MAX {
            let (period, quantiles) = (summary.period_s, summary.quantiles.len());
            return Err(format!("a summary of {period} s with {quantiles} quantiles"));
        }
        let device = names::decode(&summary.device);
        let period = summary.end_s.div_euclid(i64::from(summary.period_s));
        let place = period.rem_euclid(i64::from(self.summaries));
        let key = format!("summary/{}/{}/{place:06}", self.token, name("device", &device)?);
        Ok(Meaning::Keep { device, key, value: summary.encode_to_vec().into() })
    }

    fn readings(&self, readings: &Readings) -> Result<Meaning, String> {
        let text = Self::pointed("series", &self.entries.series, readings.series)?;
        let series =
            SeriesName::parse(text).ok_or_else(|| format!("series {:?}", text.chars().take(40).collect::<String>()))?;
        if readings.times.len() != readings.values.len() || readings.times.is_empty() {
            return Err(format!("{} times and {} values", readings.times.len(), readings.values.len()));
        }
        let named = SeriesName::encode(&series.device, &series.channel);
        let key = format!("{}/{}/{named}/{:016x}", self.class.token(), self.token, readings.times[0]);
        // The key says the series; the number means nothing outside its batch.
        let value = Readings { series: 0, ..readings.clone() }.encode_to_vec();
        Ok(Meaning::Keep { device: series.device, key, value: value.into() })
    }
}

fn facts(delta: &VectorDelta) -> Result<Facts, String> {
    let wrong = |what: &str, value: &dyn std::fmt::Display| format!("a window with {what} {value}");
    if !delta.score.is_finite() {
        return Err(wrong("score", &delta.score));
    }
    let start = delta.end.checked_sub(delta.span).filter(|_| delta.span >= 0);
    Ok(Facts {
        start: start.ok_or_else(|| wrong("span", &delta.span))?,
        end: delta.end,
        sequence: delta.sequence,
        filled: u16::try_from(delta.filled).map_err(|_| wrong("samples", &delta.filled))?,
        flags: u16::try_from(delta.flags).map_err(|_| wrong("flags", &delta.flags))?,
        score: delta.score,
    })
}

#[cfg(test)]
mod tests;
