//! Bursts among readings: many values sampled fast, under one time. Their values stand beside the columns of
//! [`super::Decoded`], which a message without any leaves empty.
//!
//! In JSON a burst is an object in a value's place: `{"time": …, "vibration": {"rate_hz": 25600, "values": [0.1, …]}}`; the keys
//! are `burst_rate_key` and `burst_values_key`. In eddy's own Arrow layout it is a column. SenML has no arrays (RFC 8428) and line
//! protocol none either. Whatever the source says, the reading's value is the burst's RMS about its mean.

use std::fmt;

use eddy_schemas::{bursts, bursts::Burst};
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Rules,
    collect::excerpt,
    object::{self, Field, Kind},
};

/// The bursts of a message, in order of its readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bursts {
    of: Vec<Place>,
    values: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    reading: usize,
    rate_hz: f64,
    end: usize,
}

impl Bursts {
    /// The burst of a reading, if it has one.
    pub fn get(&self, reading: usize) -> Option<Burst<'_>> {
        let at = self.of.binary_search_by_key(&reading, |place| place.reading).ok()?;
        let start = at.checked_sub(1).map_or(0, |before| self.of[before].end);
        let Place { rate_hz, end, .. } = self.of[at];
        Some(Burst { rate_hz, values: &self.values[start..end] })
    }

    /// Adds that of a reading, which is past all that have one.
    pub(super) fn push(&mut self, reading: usize, burst: Burst<'_>) {
        self.values.extend_from_slice(burst.values);
        self.of.push(Place { reading, rate_hz: burst.rate_hz, end: self.values.len() });
    }
}

/// What is wrong with a burst by these rules, if something is.
pub(super) fn problem(burst: &Burst<'_>, rules: &Rules) -> Option<String> {
    let (count, most) = (burst.values.len(), rules.burst_values_max);
    match burst.problem() {
        None if count > most => Some(format!("a burst of {count} values: at most {most} are taken (burst_values_max)")),
        problem => problem,
    }
}

/// Whether an object of these fields is meant as a burst: it has one of its keys.
pub(super) fn is_meant(fields: &[Field<'_>], rules: &Rules) -> bool {
    fields.iter().any(|(key, _)| *key == rules.burst_values_key || *key == rules.burst_rate_key)
}

/// Reads the fields of a JSON object as a burst: its values go into `values`, its rate is returned.
///
/// # Errors
/// What is wrong, to be read after "is".
pub(super) fn read(fields: &[Field<'_>], rules: &Rules, values: &mut Vec<f32>) -> Result<f64, String> {
    let rate = rate_hz(one(fields, &rules.burst_rate_key)?)?;
    let array = one(fields, &rules.burst_values_key)?;
    if object::kind(array) != Kind::Array {
        return Err(format!("a burst whose {} is no array: {}", rules.burst_values_key, excerpt(array.get())));
    }
    values.clear();
    let most = rules.burst_values_max;
    let mut deserializer = serde_json::Deserializer::from_str(array.get());
    Values { values, most }.deserialize(&mut deserializer).map_err(|error| {
        // Line and column would be those within the array.
        let text = error.to_string();
        format!("a burst of {}", text.split(" at line ").next().unwrap_or(&text))
    })?;
    problem(&Burst { rate_hz: rate, values }, rules).map_or(Ok(rate), Err)
}

fn one<'a>(fields: &[Field<'a>], key: &str) -> Result<&'a RawValue, String> {
    let mut found = fields.iter().filter(|(name, _)| name == key).map(|(_, value)| *value);
    match (found.next(), found.next()) {
        (Some(value), None) => Ok(value),
        (None, _) => Err(format!("a burst without {}", excerpt(key))),
        (Some(_), Some(_)) => Err(format!("a burst in which {} stands twice", excerpt(key))),
    }
}

fn rate_hz(value: &RawValue) -> Result<f64, String> {
    let parsed = (object::kind(value) == Kind::Number).then(|| value.get().parse::<f64>().ok()).flatten();
    let rate = parsed.ok_or_else(|| format!("a burst whose rate is {}, not a number", excerpt(value.get())))?;
    bursts::rate_problem(rate).map_or(Ok(rate), Err)
}

/// Reads an array of numbers, and no more of them than are taken.
struct Values<'v> {
    values: &'v mut Vec<f32>,
    most: usize,
}

impl<'a> DeserializeSeed<'a> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<(), A::Error> {
        let (values, most) = (self.values, self.most);
        loop {
            let at = values.len();
            match array.next_element::<f64>() {
                Ok(None) => return Ok(()),
                Ok(Some(_)) if at >= most => {
                    return Err(A::Error::custom(format!("more than {most} values (burst_values_max)")));
                }
                // What a 32-bit float does not hold becomes infinite, and is told as such.
                Ok(Some(value)) => values.push(value as f32),
                Err(error) => {
                    return Err(A::Error::custom(format!("values of which the one at {at} is none: {error}")));
                }
            }
        }
    }
}
