//! Defaults, file and environment become one table; what fits nowhere becomes a problem.
//!
//! The defaults are the schema by example. A table of theirs that is empty takes any keys, and what stands in a list of
//! tables is not looked at here: both are checked when the config gets its type.

use std::{collections::BTreeMap, path::Path};

use serde::de::DeserializeOwned;
use toml::{Table, Value, de::DeTable};

use super::{ConfigError, DEFAULTS};

/// Tables of other stages and tools: a file or an environment shared by all may set their keys too.
const STAGES: [&str; 13] = [
    "capture",
    "preprocess",
    "embed",
    "detect",
    "index",
    "sync",
    "hub",
    "export",
    "notify",
    "gateway",
    "region",
    "cli",
    "test",
];
/// Environment variables that are not config keys.
const NOT_KEYS: [&str; 8] = [
    "EDDY_CONFIG",
    "EDDY_NATS_SERVER",
    "EDDY_SITE",
    "EDDY_DIR",
    "EDDY_CREDENTIALS",
    "EDDY_MODEL_PASSWORD",
    "EDDY_RECORDING",
    crate::clock::DRILL_FILE,
];
/// Keys of earlier releases, with what to use instead.
const REMOVED: [(&str, &str); 0] = [];

/// A key that file or environment set.
#[derive(Debug)]
pub(super) struct Change {
    /// Its path.
    path: Vec<String>,
    /// What it is now.
    pub(super) value: Value,
    /// `FILE:LINE`, or the variable.
    pub(super) source: String,
}

impl Change {
    /// Its path as it is written.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }
}

/// Defaults, and what file and environment make of them.
#[derive(Debug)]
pub(super) struct Merged {
    defaults: Table,
    /// In this order, the later over the earlier; each a known key with a value of its default's type.
    pub(super) changes: Vec<Change>,
    /// What is wrong with file and environment.
    pub(super) problems: Vec<String>,
}

impl Merged {
    pub(super) fn new(
        stage: &str,
        stage_defaults: &str,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut defaults: Table = DEFAULTS.parse().map_err(|error| broken("shared defaults", &error))?;
        let own: Table = stage_defaults.parse().map_err(|error| broken("stage defaults", &error))?;
        defaults.extend(own);
        let mut merged = Self { defaults, changes: Vec::new(), problems: Vec::new() };
        if let Some(path) = file {
            merged.take_file(path)?;
        }
        let mut variables: Vec<_> = environment.into_iter().filter(|(name, _)| name.starts_with("EDDY_")).collect();
        variables.sort();
        merged.take_environment(stage, &variables);
        Ok(merged)
    }

    fn take_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| broken(&name, &error))?;
        let given: Table = text.parse().map_err(|error| broken(&name, &error))?;
        let mut walk = Walk { file: &name, lines: lines(&text), changes: Vec::new(), problems: Vec::new() };
        walk.overlay(&self.defaults, given, &mut Vec::new());
        self.changes.extend(walk.changes);
        self.problems.extend(walk.problems);
        Ok(())
    }

    fn take_environment(&mut self, stage: &str, variables: &[(String, String)]) {
        let mut keys = Vec::new();
        leaves(&self.defaults, &mut Vec::new(), &mut keys);
        let known: BTreeMap<String, (Vec<String>, &Value)> =
            keys.into_iter().map(|(path, default)| (variable(&path), (path, default))).collect();
        for (name, text) in variables {
            let Some((path, default)) = known.get(name) else {
                let table = name.trim_start_matches("EDDY_").to_lowercase();
                let of = |other: &&str| table.starts_with(&format!("{other}_")) && *other != stage;
                if !NOT_KEYS.contains(&name.as_str()) && !STAGES.iter().any(of) {
                    let hint = did_you_mean(name, known.keys());
                    self.problems.push(format!("environment variable {name} matches no config key{hint}"));
                }
                continue;
            };
            let value = match default {
                Value::String(_) => Some(Value::String(text.clone())),
                _ => format!("value = {text}").parse().ok().and_then(|mut table: Table| table.remove("value")),
            };
            match value.map(|value| fit(default, value)) {
                Some(Ok(value)) => {
                    self.changes.push(Change { path: path.clone(), value, source: name.clone() });
                }
                _ => self.problems.push(format!("{name}={text}: {}", taken(default))),
            }
        }
    }

    /// The effective table.
    pub(super) fn table(&self) -> Table {
        let mut table = self.defaults.clone();
        for change in &self.changes {
            set(&mut table, &change.path, change.value.clone());
        }
        table
    }

    /// Gives a part of the effective table its type. A key whose value does not fit is named with its source, and left at
    /// its default, so that all others are checked too.
    pub(super) fn typed<T: DeserializeOwned>(&self, part: impl Fn(Table) -> Value) -> (Option<T>, Vec<String>) {
        let combined = match T::deserialize(part(self.table())) {
            Ok(typed) => return (Some(typed), Vec::new()),
            Err(error) => error,
        };
        let (mut table, mut problems) = (self.defaults.clone(), Vec::new());
        for change in &self.changes {
            let before = table.clone();
            set(&mut table, &change.path, change.value.clone());
            if let Err(error) = T::deserialize(part(table.clone())) {
                let (source, key, value) = (&change.source, change.key(), shortened(&change.value));
                problems.push(format!("{source}: {key} = {value}: {}", one_line(&error)));
                table = before;
            }
        }
        match T::deserialize(part(table)) {
            Ok(typed) if !problems.is_empty() => (Some(typed), problems),
            _ => (None, vec![format!("config: {}", combined.to_string().trim_end())]),
        }
    }
}

fn broken(what: &str, error: &dyn std::fmt::Display) -> ConfigError {
    ConfigError { problems: vec![format!("{what}: {}", error.to_string().trim_end())] }
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().trim_end().replace('\n', ", ")
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 { text } else { text.chars().take(77).chain("...".chars()).collect() }
}

/// Which line of a file a key stands in.
fn lines(text: &str) -> BTreeMap<String, usize> {
    fn walk(text: &str, table: &DeTable<'_>, prefix: &str, lines: &mut BTreeMap<String, usize>) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            lines.insert(path.clone(), 1 + text[..key.span().start].matches('\n').count());
            if let Some(inner) = value.get_ref().as_table() {
                walk(text, inner, &format!("{path}."), lines);
            }
        }
    }
    let mut lines = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        walk(text, table.get_ref(), "", &mut lines);
    }
    lines
}

/// A walk along a file's table and the defaults.
struct Walk<'a> {
    file: &'a str,
    lines: BTreeMap<String, usize>,
    changes: Vec<Change>,
    problems: Vec<String>,
}

impl Walk<'_> {
    fn overlay(&mut self, defaults: &Table, given: Table, path: &mut Vec<String>) {
        for (key, value) in given {
            path.push(key.clone());
            let name = path.join(".");
            let source = match self.lines.get(&name) {
                Some(line) => format!("{}:{line}", self.file),
                None => self.file.to_owned(),
            };
            match (defaults.get(&key), value) {
                // One file may serve all stages of a gateway.
                (None, Value::Table(_)) if path.len() == 1 && STAGES.contains(&key.as_str()) => {}
                (None, _) => self.problems.push(unknown(&source, &name, &key, defaults)),
                (Some(Value::Table(inner)), Value::Table(value)) if !inner.is_empty() => {
                    self.overlay(inner, value, path);
                }
                (Some(default), value) => match fit(default, value) {
                    Ok(value) => self.changes.push(Change { path: path.clone(), value, source }),
                    Err(value) => {
                        let value = shortened(&value);
                        self.problems.push(format!("{source}: {name} = {value}: {}", taken(default)));
                    }
                },
            }
            path.pop();
        }
    }
}

fn unknown(source: &str, path: &str, key: &str, siblings: &Table) -> String {
    if let Some((_, successor)) = REMOVED.iter().find(|(removed, _)| *removed == path) {
        return format!("{source}: {path} is no longer a key: {successor}");
    }
    format!("{source}: unknown key {path}{}", did_you_mean(key, siblings.keys()))
}

fn did_you_mean<'a>(given: &str, known: impl Iterator<Item = &'a String>) -> String {
    match known.map(|known| (distance(known, given), known)).min() {
        Some((distance, known)) if distance <= 1 + given.len() / 3 => format!(": did you mean {known}?"),
        _ => ": print-config prints all keys".to_owned(),
    }
}

/// What a key takes, by its default.
fn taken(default: &Value) -> String {
    let kind = match default {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    format!("{kind} is taken, like the default {}", shortened(default))
}

/// The value if it is of the default's type; an integer serves as a float.
fn fit(default: &Value, value: Value) -> Result<Value, Value> {
    match (default, value) {
        (Value::Float(_), Value::Integer(n)) => Ok(Value::Float(n as f64)),
        (default, value) if default.same_type(&value) => Ok(value),
        (_, value) => Err(value),
    }
}

/// Every key that has a value; an empty table is one.
fn leaves<'a>(table: &'a Table, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, &'a Value)>) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            Value::Table(inner) if !inner.is_empty() => leaves(inner, path, found),
            value => found.push((path.clone(), value)),
        }
        path.pop();
    }
}

/// The environment variable of a key.
fn variable(path: &[String]) -> String {
    format!("EDDY_{}", path.join("_").to_uppercase())
}

/// Sets a key that stands in the defaults.
fn set(table: &mut Table, path: &[String], value: Value) {
    match path {
        [key] => drop(table.insert(key.clone(), value)),
        [key, rest @ ..] => {
            if let Some(Value::Table(inner)) = table.get_mut(key) {
                set(inner, rest, value);
            }
        }
        [] => {}
    }
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
