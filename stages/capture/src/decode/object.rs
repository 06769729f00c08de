//! JSON without a tree: an object's fields in order of appearance, each value still as its own text. Depth costs nothing
//! (nested values are skipped without recursion), numbers keep every digit, and refused parts their own bytes.

use std::{borrow::Cow, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A field's key and the text of its value.
pub(super) type Field<'a> = (Cow<'a, str>, &'a RawValue);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number,
    String,
    Array,
    Object,
}

/// What the text of a value says that it is.
pub(super) fn kind(value: &RawValue) -> Kind {
    match value.get().as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't') => Kind::Bool(true),
        Some(b'f') => Kind::Bool(false),
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    }
}

/// The string behind a value that is one.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Key<'_>>(value.get()).ok().map(|key| key.0)
}

/// Where the text of `value` stands in `text`, from which it was read.
pub(super) fn range(text: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr() as usize - text.as_ptr() as usize;
    start..start + value.get().len()
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads the fields of one object into `fields`.
pub(super) fn fields<'a>(text: &'a str, fields: &mut Vec<Field<'a>>) -> Result<(), serde_json::Error> {
    fields.clear();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Fields(fields).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Reads the elements of one array.
pub(super) fn elements(text: &str) -> Result<Vec<&RawValue>, serde_json::Error> {
    let mut elements = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Elements(&mut elements).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(elements)
}

struct Fields<'v, 'a>(&'v mut Vec<Field<'a>>);

impl<'a> DeserializeSeed<'a> for Fields<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Fields<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<Key<'a>, &'a RawValue>()? {
            self.0.push((key.0, value));
        }
        Ok(())
    }
}

struct Elements<'v, 'a>(&'v mut Vec<&'a RawValue>);

impl<'a> DeserializeSeed<'a> for Elements<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Elements<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<&'a RawValue>()? {
            self.0.push(value);
        }
        Ok(())
    }
}
