//! The one table at the end.

use super::figures::Row;

/// All rows, for people.
pub(super) fn text(rows: &[Row]) -> String {
    let head = ["figure", "target", "measured", "beside it", ""].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(line)).collect();
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let [what, target, measured, beside] = [0, 1, 2, 3].map(width);
    let shown = lines.iter().map(|[a, b, c, d, e]| {
        let line = format!("{a:what$}  {b:>target$}  {c:>measured$}  {d:beside$}  {e}");
        line.trim_end().to_owned() + "\n"
    });
    shown.collect()
}

fn line(row: &Row) -> [String; 5] {
    let sign = if row.is_at_least { ">=" } else { "<=" };
    let with_unit = |value: f64| format!("{} {}", plain(value), row.unit).trim_end().to_owned();
    let verdict = match (row.is_met, row.measured) {
        (Some(true), _) => "met",
        (Some(false), _) => "open",
        (None, None) => "not measured",
        (None, Some(_)) => "",
    };
    [
        row.what.clone(),
        row.target.map_or_else(String::new, |target| format!("{sign} {}", plain(target))),
        row.measured.map_or_else(|| "-".to_owned(), with_unit),
        row.beside.map_or_else(String::new, |beside| format!("{} ({})", plain(beside), row.beside_what)),
        verdict.to_owned(),
    ]
}

/// Thousands apart, and decimals only where they say something.
pub(super) fn plain(value: f64) -> String {
    if value.abs() < 100.0 {
        let text = format!("{value:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let grouped: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        // Pieces of ASCII digits are text.
        .filter_map(|piece| std::str::from_utf8(piece).ok())
        .collect();
    grouped.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases =
            [(0.951, "0.951"), (2.0, "2"), (99.25, "99.25"), (1_234_567.8, "1,234,568"), (100.4, "100"), (0.0, "0")];
        for (value, text) in cases {
            assert_eq!(plain(value), text);
        }
    }

    #[test]
    fn rows_are_columns() {
        let row = |what: &str, measured, is_met| Row {
            what: what.into(),
            unit: "ms",
            target: Some(50.0),
            is_at_least: false,
            measured,
            beside: measured.map(|_| 12.5),
            beside_what: "the floor",
            is_met,
        };
        let expected = "figure  target  measured  beside it\n\
                        a        <= 50     41 ms  12.5 (the floor)  met\n\
                        bb       <= 50         -                    not measured\n";
        assert_eq!(text(&[row("a", Some(41.0), Some(true)), row("bb", None, None)]), expected);
    }
}
