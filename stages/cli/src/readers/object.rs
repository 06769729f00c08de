//! JSON without a tree: an object's fields in order of appearance, each value still as its own text, so that numbers keep
//! every digit and nested values cost nothing.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The fields of one object.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

/// A string or a key, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    String(Cow<'a, str>),
    Array,
    Object,
}

/// What the text of a value says that it is.
pub(super) fn value(raw: &RawValue) -> Value<'_> {
    match raw.get().as_bytes().first() {
        Some(b'{') => Value::Object,
        Some(b'[') => Value::Array,
        Some(b'"') => Value::String(serde_json::from_str::<Text<'_>>(raw.get()).map(|text| text.0).unwrap_or_default()),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(raw.get()),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for Object<'a> {
            type Value = Fields<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'a>, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((key.0, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_their_repeats_and_every_digit() {
        let text = r#"{"b": 0.10000000000000000001, "a\n": {"x": [1]}, "b": "\u00e9", "c": [], "d": true, "e": null}"#;
        let fields: Fields<'_> = serde_json::from_str(text).unwrap();
        let read: Vec<_> = fields.0.iter().map(|(key, raw)| (&**key, value(raw))).collect();
        assert_eq!(
            read,
            [
                ("b", Value::Number("0.10000000000000000001")),
                ("a\n", Value::Object),
                ("b", Value::String("é".into())),
                ("c", Value::Array),
                ("d", Value::Bool(true)),
                ("e", Value::Null),
            ]
        );
        for wrong in ["[]", "1", "{", "{\"a\":}", "{} x"] {
            assert!(serde_json::from_str::<Fields<'_>>(wrong).is_err(), "{wrong}");
        }
    }
}
