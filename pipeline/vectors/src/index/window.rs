//! A window as it is stored: what is known of it beside its vector.

use half::f16;

use crate::codec::{CodecError, Get, Put};

/// Number of a window in a store, in the order in which they came; never given out twice.
pub type WindowId = u64;
/// Number of a series in a store.
pub type SeriesId = u32;

/// A window to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Canonical text of its series, `<device>/<channel>`, each percent-encoded.
    pub series: String,
    /// What is known of it.
    pub facts: Facts,
    /// Its vector.
    pub vector: Vec<f32>,
}

/// What is known of a window beside its series and its vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Event time of its first sample: nanoseconds since the Unix epoch. Its end where the period is not known.
    pub start: i64,
    /// Event time of its last sample.
    pub end: i64,
    /// Sequence of the message that brought it, in the stream that the store reads.
    pub sequence: u64,
    /// How many of its samples are real.
    pub filled: u16,
    /// What it was: the score batch's flags.
    pub flags: u16,
    /// Its anomaly score.
    pub score: f32,
}

/// Whether a vector can be stored: each component as a finite f16.
pub fn storable(vector: &[f32]) -> bool {
    vector.iter().all(|x| f16::from_f32(*x).is_finite())
}

/// A window as the catalog holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) series: SeriesId,
    pub(super) facts: Facts,
    pub(super) vector: Vec<f16>,
}

impl Facts {
    /// Bytes of a record.
    pub(super) const BYTES: usize = 32;

    pub(super) fn put(&self, record: &mut Vec<u8>) {
        record.put_i64(self.start);
        record.put_i64(self.end);
        record.put_u64(self.sequence);
        record.put_u16(self.filled);
        record.put_u16(self.flags);
        record.put_f32(self.score);
    }

    pub(super) fn get(record: &mut Get<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            start: record.i64()?,
            end: record.i64()?,
            sequence: record.u64()?,
            filled: record.u16()?,
            flags: record.u16()?,
            score: record.f32()?,
        })
    }
}

impl Row {
    /// Bytes of a record.
    pub(super) fn bytes(dimensions: usize) -> u64 {
        (4 + Facts::BYTES + 2 * dimensions) as u64
    }

    pub(super) fn record(series: SeriesId, facts: &Facts, vector: &[f32]) -> Vec<u8> {
        let mut record = Vec::with_capacity(4 + Facts::BYTES + 2 * vector.len());
        record.put_u32(series);
        facts.put(&mut record);
        vector.iter().for_each(|x| record.put_u16(f16::from_f32(*x).to_bits()));
        record
    }

    pub(super) fn read(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (series, facts) = (get.u32()?, Facts::get(&mut get)?);
        let mut vector = Vec::with_capacity(get.left() / 2);
        while get.left() > 0 {
            vector.push(f16::from_bits(get.u16()?));
        }
        Ok(Self { series, facts, vector })
    }
}

/// Somebody's word about a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// `normal`, or the name of a fault.
    pub name: String,
    /// Who said it.
    pub origin: String,
    /// When, by their clock: nanoseconds since the Unix epoch.
    pub time: i64,
}

impl Label {
    /// The label of what is not a fault.
    pub const NORMAL: &'static str = "normal";

    pub(super) fn record(&self) -> Vec<u8> {
        let mut record = Vec::new();
        record.put_text(&self.name);
        record.put_text(&self.origin);
        record.put_i64(self.time);
        record
    }

    pub(super) fn read(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let label = Self { name: get.text()?, origin: get.text()?, time: get.i64()? };
        get.end()?;
        Ok(label)
    }

    /// Who gives labels that follow from others': they never replace what somebody said.
    pub const DERIVED: &'static str = "index";

    /// Whether it follows from others', here or at another site (`<site>/index`), and nobody said it.
    pub fn is_derived(&self) -> bool {
        self.origin.rsplit('/').next() == Some(Self::DERIVED)
    }

    /// Whether it replaces `other`: the later one by their senders' clocks, ties by the sender's name.
    pub fn replaces(&self, other: &Self) -> bool {
        if self.is_derived() != other.is_derived() {
            return other.is_derived();
        }
        (self.time, &self.origin) >= (other.time, &other.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_cut_ones_are_refused() {
        let facts = Facts { start: -5, end: 7, sequence: 9, filled: 3, flags: 8, score: 0.5 };
        let record = Row::record(4, &facts, &[1.0, -2.5]);
        let row = Row::read(&record).unwrap();
        assert_eq!((row.series, row.facts), (4, facts));
        assert_eq!(row.vector, [f16::from_f32(1.0), f16::from_f32(-2.5)]);
        assert!(Row::read(&record[..record.len() - 1]).is_err() && Row::read(&record[..20]).is_err());
        let label = Label { name: "normal".into(), origin: "cli".into(), time: 3 };
        assert_eq!(Label::read(&label.record()), Ok(label.clone()));
        assert!(Label::read(&label.record()[1..]).is_err());
        assert!(storable(&[65_504.0, -65_519.0]) && !storable(&[1.0, 65_520.0]) && !storable(&[f32::NAN]));
        let later = Label { time: 4, ..label.clone() };
        assert!(later.replaces(&label) && !label.replaces(&later));
        let derived = Label { origin: Label::DERIVED.into(), ..later };
        assert!(label.replaces(&derived) && !derived.replaces(&label));
        let elsewhere = Label { origin: "region/plant 2/index".into(), time: 9, ..label.clone() };
        let said = Label { origin: "region/plant 2/cli".into(), time: 1, ..label.clone() };
        assert!(!elsewhere.replaces(&said) && said.replaces(&elsewhere) && !said.is_derived());
    }
}
