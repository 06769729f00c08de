//! Defaults, file and environment become one table; what fits nowhere becomes a problem.

use std::path::Path;

use toml::{Table, Value};

use super::{ConfigError, DEFAULTS};

/// Tables of other stages: an environment shared by all stages may set their keys too.
const STAGES: [&str; 11] =
    ["capture", "preprocess", "embed", "detect", "index", "sync", "hub", "export", "notify", "gateway", "cli"];
/// Environment variables that are not config keys.
const NOT_KEYS: [&str; 2] = ["EDDY_CONFIG", "EDDY_NATS_SERVER"];
/// Keys of earlier releases, with what to use instead.
const REMOVED: [(&str, &str); 0] = [];

/// The merged table and what is wrong with file and environment.
pub(super) fn effective(
    stage: &str,
    stage_defaults: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Table, Vec<String>), ConfigError> {
    let broken = |what: &str, error: String| ConfigError { problems: vec![format!("{what}: {}", error.trim_end())] };
    let mut table: Table = DEFAULTS.parse().map_err(|e: toml::de::Error| broken("shared defaults", e.to_string()))?;
    let own: Table = stage_defaults.parse().map_err(|e: toml::de::Error| broken("stage defaults", e.to_string()))?;
    table.extend(own);
    let mut problems = Vec::new();
    if let Some(path) = file {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| broken(&name, error.to_string()))?;
        let given: Table = text.parse().map_err(|error: toml::de::Error| broken(&name, error.to_string()))?;
        overlay(&mut table, given, "", &name, &mut problems);
    }
    let mut variables: Vec<_> = environment.into_iter().filter(|(name, _)| name.starts_with("EDDY_")).collect();
    variables.sort();
    for (name, text) in variables {
        if let Err(problem) = from_environment(&mut table, stage, &name, &text) {
            problems.push(problem);
        }
    }
    Ok((table, problems))
}

/// Lays `given` over `base`, key by key.
fn overlay(base: &mut Table, given: Table, prefix: &str, source: &str, problems: &mut Vec<String>) {
    for (key, value) in given {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (base.get_mut(&key), value) {
            // One file may serve all stages of a gateway.
            (None, Value::Table(_)) if prefix.is_empty() && STAGES.contains(&key.as_str()) => {}
            (None, _) => problems.push(unknown(base, &path, &key, source)),
            (Some(Value::Table(inner)), Value::Table(value)) => overlay(inner, value, &path, source, problems),
            (Some(slot), value) => match fit(slot, value) {
                Ok(value) => *slot = value,
                Err(value) => problems.push(format!(
                    "{source}: {path} = {value}: a {} is taken, like the default {slot}",
                    slot.type_str()
                )),
            },
        }
    }
}

fn unknown(base: &Table, path: &str, key: &str, source: &str) -> String {
    if let Some((_, successor)) = REMOVED.iter().find(|(removed, _)| *removed == path) {
        return format!("{source}: {path} is no longer a key: {successor}");
    }
    let nearest = base.keys().map(|known| (distance(known, key), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + key.len() / 3 => {
            format!("{source}: unknown key {path}: did you mean {known}?")
        }
        _ => format!("{source}: unknown key {path}: see print-config for all keys"),
    }
}

/// The value if it is of the default's type; an integer serves as a float.
fn fit(default: &Value, value: Value) -> Result<Value, Value> {
    match (default, value) {
        (Value::Float(_), Value::Integer(n)) => Ok(Value::Float(n as f64)),
        (default, value) if default.same_type(&value) => Ok(value),
        (_, value) => Err(value),
    }
}

fn from_environment(table: &mut Table, stage: &str, name: &str, text: &str) -> Result<(), String> {
    if NOT_KEYS.contains(&name) {
        return Ok(());
    }
    for (section, keys) in table.iter_mut() {
        let Value::Table(keys) = keys else { continue };
        for (key, slot) in keys.iter_mut() {
            if format!("EDDY_{}_{}", section.to_uppercase(), key.to_uppercase()) != name {
                continue;
            }
            let value = match slot {
                Value::String(_) => Value::String(text.to_owned()),
                _ => parse(text).ok_or_else(|| wrong_type(name, text, slot))?,
            };
            *slot = fit(slot, value).map_err(|_| wrong_type(name, text, slot))?;
            return Ok(());
        }
    }
    let rest = name.trim_start_matches("EDDY_").to_lowercase();
    let of_another = STAGES.iter().any(|other| *other != stage && rest.starts_with(&format!("{other}_")));
    if of_another { Ok(()) } else { Err(format!("environment variable {name} matches no config key")) }
}

fn wrong_type(name: &str, text: &str, default: &Value) -> String {
    format!("{name}={text}: a {} is taken, like the default {default}", default.type_str())
}

/// A TOML value by itself.
fn parse(text: &str) -> Option<Value> {
    let table: Table = format!("value = {text}").parse().ok()?;
    table.get("value").cloned()
}

/// Levenshtein's distance, for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The commented defaults with the effective values in their places.
pub(super) fn commented(stage_defaults: &str, table: &Table) -> String {
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in DEFAULTS.lines().chain([""]).chain(stage_defaults.lines()) {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.trim_matches(['[', ']']).clone_into(&mut section);
        }
        let key = trimmed.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.starts_with('#'));
        let value = key.and_then(|key| table.get(&section)?.as_table()?.get(key));
        match (key, value) {
            (Some(key), Some(value)) if is_plain(value) => lines.push(format!("{key} = {value}")),
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

/// Whether a value stands on one line of the defaults.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Table(_) => false,
        Value::Array(items) => items.iter().all(|item| !matches!(item, Value::Table(_))),
        _ => true,
    }
}
