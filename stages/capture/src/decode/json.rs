//! JSON: an object, or an array of objects. Which key is what stands in `default.toml`.

use std::borrow::Cow;

use eddy_schemas::{Timestamp, bursts::Burst, side::Reason};
use serde_json::value::RawValue;

use super::{
    Refused, Rules, burst,
    collect::{Collector, Original, Stamp, excerpt},
    object::{self, Field, Kind},
    time,
};

pub(super) fn decode(text: &str, out: &mut Collector<'_>) -> Result<(), Refused> {
    let malformed = |error: serde_json::Error| (Reason::Malformed, format!("not JSON: {error}"));
    if text.trim_ascii_start().starts_with('[') {
        let mut scratch = Vec::new();
        for (number, element) in object::elements(text).map_err(malformed)?.into_iter().enumerate() {
            out.begin("element", number);
            element_of(element, &mut scratch, out);
            out.end(|| Original::Bytes(object::range(text, element)))?;
        }
        return Ok(());
    }
    let document: &RawValue = serde_json::from_str(text).map_err(malformed)?;
    if object::kind(document) != Kind::Object {
        let found = excerpt(document.get());
        return Err((Reason::Malformed, format!("expected a JSON object or an array of objects, found {found}")));
    }
    out.begin("element", 0);
    element_of(document, &mut Vec::new(), out);
    out.end(|| Original::Bytes(object::range(text, document)))
}

fn element_of<'a>(element: &'a RawValue, fields: &mut Vec<Field<'a>>, out: &mut Collector<'_>) {
    if object::kind(element) != Kind::Object {
        return out.problem(Reason::Malformed, 1, || format!("expected an object, found {}", excerpt(element.get())));
    }
    if let Err(error) = object::fields(element.get(), fields) {
        return out.problem(Reason::Malformed, 1, || format!("not a JSON object: {error}"));
    }
    let values = values(fields, out.rules);
    let entered = if out.names_devices() { enter(fields, out) } else { Ok(()) };
    let stamp = entered.and_then(|()| time_of(fields, out.rules)).and_then(|time| out.stamp(time));
    match stamp {
        Ok(stamp) => values.iter().for_each(|(channel, value)| reading(channel, value, stamp, out)),
        Err((reason, detail)) => {
            let lost = values.iter().filter(|(_, value)| object::kind(value) != Kind::Null).count();
            out.problem(reason, lost.max(1) as u64, || detail);
        }
    }
}

/// The device that the object names, by the first of the device keys that it has; a number is taken as it is written.
fn enter(fields: &[Field<'_>], out: &mut Collector<'_>) -> Result<(), Refused> {
    let keys = &out.rules.device_keys;
    let named = keys.iter().find_map(|key| fields.iter().find(|(name, _)| name == key)).map(|(_, value)| *value);
    let name = named.and_then(|value| match object::kind(value) {
        Kind::String => object::string(value),
        Kind::Number => Some(Cow::Borrowed(value.get())),
        _ => None,
    });
    out.enter(name.as_deref(), || format!("one of the keys {keys:?} names it (device_keys), or the request"))
}

/// A channel's value: a number, or a burst of them.
fn reading(channel: &str, value: &RawValue, stamp: Stamp, out: &mut Collector<'_>) {
    let problem = match (object::kind(value), number(value)) {
        (_, Ok(Some(number))) => return out.reading(channel, stamp, number),
        (_, Ok(None)) => return out.missing(),
        (Kind::Object, Err(problem)) => {
            let (mut fields, mut values) = (Vec::new(), Vec::new());
            let is_burst = object::fields(value.get(), &mut fields).is_ok() && burst::is_meant(&fields, out.rules);
            match is_burst.then(|| burst::read(&fields, out.rules, &mut values)) {
                Some(Ok(rate_hz)) => return out.burst_reading(channel, stamp, Burst { rate_hz, values: &values }),
                Some(Err(problem)) => problem,
                None => problem,
            }
        }
        (_, Err(problem)) => problem,
    };
    out.problem(Reason::InvalidField, 1, || format!("{} is {problem}", excerpt(channel)));
}

/// The object's time, by the first of the time keys that it has.
fn time_of(fields: &[Field<'_>], rules: &Rules) -> Result<Option<Timestamp>, Refused> {
    let Some(key) = time_key(fields, rules) else { return Ok(None) };
    let mut found = fields.iter().filter(|(name, _)| name == key);
    let value = found.next().map(|(_, value)| *value);
    if found.next().is_some() {
        return Err((Reason::InvalidField, format!("{} stands there twice", excerpt(key))));
    }
    value.map_or(Ok(None), |value| time(value, rules)).map_err(|problem| (Reason::InvalidField, problem))
}

fn time_key<'r>(fields: &[Field<'_>], rules: &'r Rules) -> Option<&'r String> {
    rules.time_keys.iter().find(|key| fields.iter().any(|(name, _)| name == *key))
}

fn time(value: &RawValue, rules: &Rules) -> Result<Option<Timestamp>, String> {
    match object::kind(value) {
        Kind::Null => Ok(None),
        Kind::Number => rules.time_unit.decimal(value.get()).map(Some),
        Kind::String => time::rfc3339(&object::string(value).unwrap_or_default()).map(Some),
        _ => Err(format!("time {} is neither a number nor a string", excerpt(value.get()))),
    }
}

/// The fields that hold readings, as channel and value, in order of appearance.
fn values<'a>(fields: &[Field<'a>], rules: &Rules) -> Vec<(Cow<'a, str>, &'a RawValue)> {
    let time = time_key(fields, rules);
    let has = |key: &str| fields.iter().find(|(name, _)| name == key).map(|(_, value)| *value);
    let long = has(&rules.channel_key).filter(|_| has(&rules.value_key).is_some());
    let mut values = Vec::with_capacity(fields.len());
    for (key, value) in fields {
        if Some(key.as_ref()) == time.map(String::as_str) || rules.ignored_keys.iter().any(|ignored| ignored == key) {
            continue;
        }
        match long {
            Some(_) if *key == rules.channel_key => continue,
            Some(channel) if *key == rules.value_key => {
                // A channel that is no string is called as it is written.
                let name = object::string(channel).unwrap_or(Cow::Borrowed(channel.get()));
                values.push((name, *value));
                continue;
            }
            _ => {}
        }
        let mut nested = Vec::new();
        let opens = rules.values_keys.iter().any(|known| known == key) && object::kind(value) == Kind::Object;
        if opens && object::fields(value.get(), &mut nested).is_ok() {
            values.append(&mut nested);
        } else {
            values.push((key.clone(), *value));
        }
    }
    values
}

/// A value as a number; `None` for null.
///
/// # Errors
/// What it is instead.
fn number(value: &RawValue) -> Result<Option<f64>, String> {
    match object::kind(value) {
        Kind::Null => Ok(None),
        Kind::Bool(set) => Ok(Some(f64::from(u8::from(set)))),
        Kind::Number => match value.get().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(format!("{}, more than a 64-bit float holds", excerpt(value.get()))),
        },
        Kind::String => {
            let text = object::string(value).unwrap_or_default();
            Err(format!("the string {}, not a number (see ignored_keys)", excerpt(&text)))
        }
        Kind::Array => Err(format!("an array, not a number (a burst has its rate beside): {}", excerpt(value.get()))),
        Kind::Object => Err(format!("an object, not a number (see values_keys): {}", excerpt(value.get()))),
    }
}
