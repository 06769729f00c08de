//! Figures for people: a line for each that stands alone, a table for what repeats, its columns in a stated order.

use serde_json::Value;

/// Tables: the key of their rows, and the columns, parts of a column's value behind a dot.
const TABLES: [(&str, &[&str]); 5] = [
    ("sets", &["n", "queries", "saturated", "copies", "copies_share"]),
    (
        "rows",
        &[
            "engine",
            "n",
            "recall_at_1",
            "recall_at_10",
            "p50_us",
            "p99_us",
            "build_per_s",
            "rss_mb",
            "disk_mb",
            "setting",
        ],
    ),
    (
        "serving",
        &[
            "engine",
            "n",
            "insert_per_s_while_serving",
            "findable_ms.p50",
            "findable_ms.p99",
            "not_found",
            "search_us.p50",
            "search_us.p99",
            "search_us.max",
            "insert_s",
            "all_built_s",
            "forests_s",
            "graphs_s",
            "rss_anon_mb",
            "restart_ms",
            "restarted_rss_mb",
        ],
    ),
    ("beside", &["engine", "n", "beside", "searches", "p50_us", "p99_us", "max_us"]),
    ("timeline", &["engine", "n", "from_s", "searches", "p50_us", "p99_us", "max_us", "inserting", "forest", "graph"]),
];

/// The text of all figures.
pub(super) fn text(figures: &Value) -> String {
    let mut out = String::new();
    let plain = figures.as_object().into_iter().flatten().filter(|(_, value)| !value.is_array());
    for (key, value) in plain {
        out += &format!("{key:20}{}\n", cell(Some(value)));
    }
    for (key, columns) in TABLES {
        let rows: &[Value] = figures[key].as_array().map_or(&[], Vec::as_slice);
        if !rows.is_empty() {
            out += &format!("\n{key}\n");
            table(rows, columns, &mut out);
        }
    }
    for problem in figures["skipped"].as_array().into_iter().flatten() {
        out += &format!("\nSKIPPED: {}\n", cell(Some(problem)));
    }
    out
}

fn table(rows: &[Value], columns: &[&str], out: &mut String) {
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|column| (*column).to_owned()).collect()];
    for row in rows {
        let value = |column: &&str| cell(row.pointer(&format!("/{}", column.replace('.', "/"))));
        lines.push(columns.iter().map(value).collect());
    }
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            0 => format!("{cell:width$}"),
            _ => format!("  {cell:>width$}"),
        });
        out.push_str(cells.collect::<String>().trim_end());
        out.push('\n');
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        // Three decimals are for what is small.
        Some(Value::Number(number)) => match number.as_f64() {
            Some(x) if number.is_f64() && x.abs() >= 100.0 => format!("{x:.0}"),
            _ => number.to_string(),
        },
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn what_stands_alone_is_a_line_and_what_repeats_a_table_in_its_order() {
        let figures = json!({
            "mode": "ann", "sets": [{"queries": 5, "n": 1000, "saturated": 2, "copies": 0, "copies_share": 0.0}], "rows": [],
            "skipped": ["hnswlib: no compiler"],
        });
        let expected = "mode                ann\n\nsets\nn     queries  saturated  copies  copies_share\n1000        5          2       0           0.0\n\n\
                        SKIPPED: hnswlib: no compiler\n";
        assert_eq!(super::text(&figures), expected);
    }
}
