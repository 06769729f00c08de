//! The defaults, comments and all, with the effective values in their places.

use std::ops::Range;

use toml::{Table, Value, de::DeTable};

use super::{DEFAULTS, merge::Merged};

/// What `print-config` prints: read back, it is the effective config.
pub(super) fn commented(stage_defaults: &str, merged: &Merged) -> String {
    let mut text = format!("{DEFAULTS}\n{stage_defaults}");
    for (index, change) in merged.changes.iter().enumerate() {
        if merged.changes[index + 1..].iter().any(|later| later.key() == change.key()) {
            continue;
        }
        if let Some(place) = find(&text, &change.key()) {
            replace(&mut text, place, &change.value, &change.source);
        }
    }
    let effective = merged.table();
    match text.parse::<Table>() {
        Ok(printed) if printed == effective => text,
        // Defaults that cannot be edited in place, a list written as `[[tables]]` for example: the values alone.
        _ => effective.to_string(),
    }
}

/// Where the value of a key stands.
fn find(text: &str, key: &str) -> Option<Range<usize>> {
    fn walk(table: &DeTable<'_>, prefix: &str, key: &str) -> Option<Range<usize>> {
        table.iter().find_map(|(name, value)| {
            let path = format!("{prefix}{}", name.get_ref());
            if path == key {
                return Some(value.span());
            }
            walk(value.get_ref().as_table()?, &format!("{path}."), key)
        })
    }
    walk(DeTable::parse(text).ok()?.get_ref(), "", key)
}

fn replace(text: &mut String, place: Range<usize>, value: &Value, source: &str) {
    let line_start = text[..place.start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[place.end..].find('\n').map_or(text.len(), |newline| place.end + newline);
    if text[line_start..place.start].contains('=') {
        let default = &text[place.clone()];
        let rest = &text[place.end..line_end];
        let note = match rest.trim().is_empty() && !default.contains('\n') && !default.contains('#') {
            true => format!("  # {source}; default {default}"),
            false => rest.to_owned(),
        };
        text.replace_range(place.start..line_end, &format!("{value}{note}"));
    } else if let Value::Table(keys) = value {
        // A table that is empty by default: its keys go below its header.
        let keys: String = keys.iter().map(|(key, value)| format!("\n{} = {value}", quoted(key))).collect();
        text.insert_str(line_end, &format!("{keys}  # {source}"));
    }
}

/// A key as TOML takes it whatever is in it.
fn quoted(key: &str) -> String {
    Value::String(key.to_owned()).to_string()
}
