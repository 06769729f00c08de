//! Figures for people: what is one value stands in a line, what repeats stands in a table.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The text of a measurement's object.
pub(super) fn text(figures: &Value) -> String {
    let Some(object) = figures.as_object() else { return figures.to_string() };
    let mut out = String::new();
    let wide = object.keys().map(String::len).max().unwrap_or(0);
    for (key, value) in object.iter().filter(|(_, value)| is_plain(value)) {
        out += &format!("{key:wide$}  {}\n", plain(value));
    }
    for (key, value) in object.iter().filter(|(_, value)| !is_plain(value)) {
        section(key, value, &mut out);
    }
    out
}

fn section(title: &str, value: &Value, out: &mut String) {
    let rows: Vec<(String, &Map<String, Value>)> = match value {
        Value::Array(items) => {
            items.iter().enumerate().filter_map(|(at, item)| Some(((at + 1).to_string(), item.as_object()?))).collect()
        }
        Value::Object(object) if object.values().all(is_plain) => vec![(String::new(), object)],
        Value::Object(object) => {
            object.iter().filter_map(|(key, item)| Some((key.clone(), item.as_object()?))).collect()
        }
        _ => Vec::new(),
    };
    // A table of tables: one after the other.
    if let (Value::Object(object), true) =
        (value, rows.iter().any(|(_, row)| !row.is_empty() && !row.values().any(is_plain)))
    {
        object.iter().for_each(|(key, item)| section(&format!("{title}: {key}"), item, out));
        return;
    }
    let columns: BTreeSet<&String> =
        rows.iter().flat_map(|(_, row)| row.iter().filter(|(_, v)| is_plain(v)).map(|(key, _)| key)).collect();
    let head = std::iter::once(title.to_owned()).chain(columns.iter().map(|column| (*column).clone())).collect();
    let mut lines: Vec<Vec<String>> = vec![head];
    for (name, row) in &rows {
        let cell = |column: &&String| row.get(*column).map_or_else(String::new, plain);
        lines.push(std::iter::once(name.clone()).chain(columns.iter().map(cell)).collect());
    }
    let widths: Vec<usize> =
        (0..lines[0].len()).map(|at| lines.iter().map(|line| line[at].len()).max().unwrap_or(0)).collect();
    out.push('\n');
    for line in &lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let (width, space) = (*width, if at == 0 { "" } else { "  " });
            *out += &if at == 0 { format!("{cell:width$}") } else { format!("{space}{cell:>width$}") };
        }
        out.push('\n');
    }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| !item.is_object()),
        Value::Object(_) => false,
        _ => true,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_lines_and_what_repeats_is_a_table() {
        let figures = serde_json::json!({
            "p50_ms": 1.5, "peer": null, "hops": {"embed": {"p50": 1, "p99": 22}, "detect": {"p50": 3}},
            "processes": {"capture": {"eddy": {"cpu_s": 4}}}, "scored": {"p50": 7},
        });
        let expected = "p50_ms     1.5\npeer       -\n\nhops    p50  p99\ndetect    3     \nembed     1   22\n\n\
                        processes: capture  cpu_s\neddy                    4\n\nscored  p50\n          7\n";
        assert_eq!(text(&figures), expected);
    }
}
