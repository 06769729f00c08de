//! SenML JSON (RFC 8428): an array of records whose base fields hold for all that follow.
//!
//! - Time is `bt + t` seconds; below 2^28 it counts from the arrival, which is then part of it: such readings are flagged as
//!   stamped on arrival. Value is `bv + v`; `vb` is 1 or 0; `vs` and `vd` are refused; `s` (an integral) is refused where it stands
//!   alone and ignored beside a value; units, `ut` and `bs` are ignored.
//! - Base fields that are wrong, a `bver` above 10 or a field that must be understood (`…_`) refuse the whole pack, as
//!   the RFC asks: what follows would mean something else.

use std::borrow::Cow;

use eddy_schemas::{Timestamp, side::Reason};
use serde_json::value::RawValue;

use super::{
    Refused, SenmlChannel,
    collect::{Collector, Original, Stamp, excerpt},
    object::{self, Field, Kind},
    time,
};

/// Times below count from now (RFC 8428, 4.5.3).
const ABSOLUTE_FROM: i128 = (1 << 28) * 1_000_000_000;
/// The version of RFC 8428.
const VERSION: f64 = 10.0;

/// Whether an array is a pack: its first record has a base name or version, or a name with a value.
pub(super) fn looks_like(text: &str) -> bool {
    let Ok(elements) = object::elements(text) else { return false };
    let mut fields = Vec::new();
    if elements.first().is_none_or(|first| object::fields(first.get(), &mut fields).is_err()) {
        return false;
    }
    let has = |keys: &[&str], kind: fn(Kind) -> bool| {
        fields.iter().any(|(key, value)| keys.contains(&key.as_ref()) && kind(object::kind(value)))
    };
    let string = |kind| kind == Kind::String;
    has(&["bn"], string) || has(&["bver"], |_| true) || (has(&["n"], string) && has(&["v", "vb", "vs", "vd"], |_| true))
}

/// The base fields so far.
#[derive(Default)]
struct Base<'a> {
    name: Cow<'a, str>,
    time: i128,
    value: f64,
}

/// The fields of one record.
#[derive(Default)]
struct Record<'a> {
    name: Option<&'a RawValue>,
    time: Option<&'a RawValue>,
    values: Vec<(&'static str, &'a RawValue)>,
    sum: Option<&'a RawValue>,
    repeated: Option<&'static str>,
}

pub(super) fn decode(text: &str, out: &mut Collector<'_>) -> Result<(), Refused> {
    let malformed = |error: serde_json::Error| (Reason::Malformed, format!("not JSON: {error}"));
    let records = match text.trim_ascii_start().starts_with('[') {
        true => object::elements(text).map_err(malformed)?,
        false => vec![serde_json::from_str(text).map_err(malformed)?],
    };
    let (mut base, mut fields) = (Base::default(), Vec::new());
    for (number, element) in records.into_iter().enumerate() {
        out.begin("record", number);
        if object::kind(element) != Kind::Object {
            out.problem(Reason::Malformed, 1, || format!("expected an object, found {}", excerpt(element.get())));
        } else {
            object::fields(element.get(), &mut fields).map_err(malformed)?;
            let record = read(&fields, &mut base)
                .map_err(|(reason, problem)| (reason, format!("record {number}: {problem}")))?;
            resolve(&record, &base, out);
        }
        out.end(|| Original::Bytes(object::range(text, element)))?;
    }
    Ok(())
}

/// Sorts the fields of a record, and takes over its base fields.
fn read<'a>(fields: &[Field<'a>], base: &mut Base<'a>) -> Result<Record<'a>, Refused> {
    let invalid = |key: &str, value: &RawValue, expected: &str| {
        (Reason::InvalidField, format!("{key} is {}, not {expected}", excerpt(value.get())))
    };
    let mut record = Record::default();
    for (key, value) in fields {
        let value = *value;
        let number = || finite(value).ok_or_else(|| invalid(key, value, "a number"));
        let once = |slot: &mut Option<&'a RawValue>, name, repeated: &mut Option<&'static str>| {
            if slot.replace(value).is_some() {
                *repeated = Some(name);
            }
        };
        match key.as_ref() {
            "bn" => base.name = object::string(value).ok_or_else(|| invalid(key, value, "a string"))?,
            "bt" => base.time = nanoseconds(value).ok_or_else(|| invalid(key, value, "a number of seconds"))?,
            "bv" => base.value = number()?,
            "bver" if number()? > VERSION => {
                let problem = format!("bver is {}: version 10 (RFC 8428) and older are read", excerpt(value.get()));
                return Err((Reason::UnknownVersion, problem));
            }
            "n" => once(&mut record.name, "n", &mut record.repeated),
            "t" => once(&mut record.time, "t", &mut record.repeated),
            "s" => once(&mut record.sum, "s", &mut record.repeated),
            "v" => record.values.push(("v", value)),
            "vb" => record.values.push(("vb", value)),
            "vs" => record.values.push(("vs", value)),
            "vd" => record.values.push(("vd", value)),
            other if other.ends_with('_') => {
                let problem = format!("{} must be understood, says its name, and is not", excerpt(other));
                return Err((Reason::UnknownVersion, problem));
            }
            _ => {}
        }
    }
    Ok(record)
}

/// Turns a record into a reading.
fn resolve(record: &Record<'_>, base: &Base<'_>, out: &mut Collector<'_>) {
    let (reading, rest) = match record.values.split_first() {
        None if record.sum.is_none() && record.name.is_none() => return, // Base fields alone.
        None => return out.problem(Reason::InvalidField, 1, || "no value: v or vb is taken".into()),
        Some((first, rest)) => (first, rest),
    };
    if let Some(twice) = rest.first().map(|(key, _)| *key).or(record.repeated) {
        return out.problem(Reason::InvalidField, 1, || format!("{twice:?} stands beside another value or itself"));
    }
    let value = match (*reading, object::kind(reading.1)) {
        (("v", _), Kind::Null) => return out.missing(),
        (("v", value), Kind::Number) => finite(value).map(|number| base.value + number),
        (("vb", _), Kind::Bool(set)) => Some(f64::from(u8::from(set))),
        _ => None,
    };
    let Some(value) = value else {
        let (key, value) = *reading;
        return out.problem(Reason::InvalidField, 1, || format!("{key} is {}, not a number", excerpt(value.get())));
    };
    let own = record.name.map_or(Some(Cow::Borrowed("")), object::string);
    let full = own.as_ref().map(|own| format!("{}{own}", base.name));
    if let (true, Some(full)) = (out.names_devices(), &full) {
        let device = device_of(full);
        if let Err((reason, detail)) =
            out.enter(device, || "a name like urn:dev:<kind>:<device>:<channel> tells it, or the request".into())
        {
            return out.problem(reason, 1, || detail);
        }
    }
    match (own.zip(full).map(|(own, full)| channel(&own, &full, out)), stamp(record, base, out)) {
        (Some(name), Ok(stamp)) => out.reading(&name, stamp, value),
        (None, _) => out.problem(Reason::InvalidField, 1, || "n is not a string".into()),
        (_, Err((reason, detail))) => out.problem(reason, 1, || detail),
    }
}

fn stamp(record: &Record<'_>, base: &Base<'_>, out: &mut Collector<'_>) -> Result<Stamp, Refused> {
    let invalid =
        |value: &RawValue| (Reason::InvalidField, format!("t is {}, not a number of seconds", excerpt(value.get())));
    let own = record.time.map_or(Ok(0), |value| nanoseconds(value).ok_or_else(|| invalid(value)))?;
    let outside = || (Reason::InvalidField, "bt + t is outside the years 1677 to 2262".to_owned());
    let time = base.time.checked_add(own).ok_or_else(outside)?;
    if time >= ABSOLUTE_FROM {
        return out.stamp(Some(Timestamp::try_from(time).map_err(|_| outside())?));
    }
    let time = time.checked_add(out.source.arrival.into()).and_then(|time| Timestamp::try_from(time).ok());
    let time = time.ok_or_else(outside)?;
    out.check_future(time)?;
    out.stamp(None).map(|arrival| Stamp { time, ..arrival })
}

/// The channel: of `own`, the record's name, or of `full`, with the base name in front.
fn channel(own: &str, full: &str, out: &Collector<'_>) -> String {
    let channel = match out.rules.senml_channel {
        SenmlChannel::Name => own,
        SenmlChannel::Full => without_device(full, out.source.device.or(device_of(full)).unwrap_or_default()),
    };
    if channel.is_empty() { out.rules.value_key.clone() } else { channel.to_owned() }
}

/// The device in `urn:dev:<kind>:<device>[:<channel>]` (RFC 9039), or what stands before the first `:` or `/` of
/// another name.
fn device_of(full: &str) -> Option<&str> {
    let device = match full.strip_prefix("urn:dev:") {
        Some(urn) => urn.split_once(':')?.1.split([':', '/']).next()?,
        None => full.split_once([':', '/'])?.0,
    };
    (!device.is_empty()).then_some(device)
}

/// `urn:dev:ow:10e2:temp` of device `10e2` is `temp`.
fn without_device<'a>(name: &'a str, device: &str) -> &'a str {
    let urn = name.strip_prefix("urn:dev:").and_then(|rest| rest.split_once(':')).map(|(_, rest)| rest);
    for candidate in [Some(name), urn].into_iter().flatten() {
        if let Some(rest) = candidate.strip_prefix(device) {
            let bare = rest.trim_start_matches([':', '/', '.', '-', '_']);
            if rest.is_empty() || bare.len() < rest.len() {
                return bare;
            }
        }
    }
    name
}

fn finite(value: &RawValue) -> Option<f64> {
    if object::kind(value) != Kind::Number {
        return None;
    }
    value.get().parse::<f64>().ok().filter(|number| number.is_finite())
}

fn nanoseconds(value: &RawValue) -> Option<i128> {
    if object::kind(value) == Kind::Number { time::seconds(value.get()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_own_name_is_not_part_of_its_channels() {
        for (name, device, channel) in [
            ("urn:dev:ow:10e2:temp", "10e2", "temp"),
            ("urn:dev:ow:10e2", "10e2", ""),
            ("10e2/temp", "10e2", "temp"),
            ("10e2b/temp", "10e2", "10e2b/temp"),
            ("temp", "10e2", "temp"),
            ("urn:dev:ow:other:temp", "10e2", "urn:dev:ow:other:temp"),
        ] {
            assert_eq!(without_device(name, device), channel, "{name}");
        }
    }
}
