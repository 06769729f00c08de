//! Numbers, times and words from outside, as they stand on the screen.

use eddy_schemas::Timestamp;
use ratatui::{style::Style, text::Span};

use crate::output::printable;

/// Columns of a name in a sentence.
const NAME_COLUMNS_MAX: usize = 48;

/// As many columns of a terminal as a text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// A text in at most so many columns; where it has more its end is `…`.
pub fn clip(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut clipped = String::new();
    let mut taken = 1;
    for grapheme in Span::raw(text).styled_graphemes(Style::new()) {
        taken += width(grapheme.symbol);
        if taken > columns {
            break;
        }
        clipped.push_str(grapheme.symbol);
    }
    if columns > 0 {
        clipped.push('…');
    }
    clipped
}

/// A name from outside, fit for a terminal and for a sentence.
pub fn name(name: &str) -> String {
    clip(&printable(name), NAME_COLUMNS_MAX)
}

/// A text in lines of at most so many columns, broken between words, or within those that are longer.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut taken = 0;
    for word in text.split_whitespace() {
        let space = usize::from(taken > 0);
        if taken > 0 && taken + space + width(word) > columns {
            lines.push(String::new());
            taken = 0;
        } else if taken > 0 {
            taken += push(&mut lines, " ");
        }
        for grapheme in Span::raw(word).styled_graphemes(Style::new()) {
            if taken > 0 && taken + width(grapheme.symbol) > columns {
                lines.push(String::new());
                taken = 0;
            }
            taken += push(&mut lines, grapheme.symbol);
        }
    }
    lines
}

/// Onto the last line; how wide it is.
fn push(lines: &mut [String], text: &str) -> usize {
    lines.last_mut().into_iter().for_each(|line| line.push_str(text));
    width(text)
}

/// `1 alert`, `2 alerts`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{} {noun}s", number(n as u64)) }
}

/// A whole number, its thousands apart.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate: whole from ten on.
pub fn rate(n: f64) -> String {
    if n > 0.0 && n < 9.95 { format!("{n:.1}") } else { number(n.max(0.0).round() as u64) }
}

/// Milliseconds without their unit, longer ones with theirs.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1}"),
        ms if ms < 9_999.5 => format!("{ms:.0}"),
        ms => span(ms / 1e3),
    }
}

/// Seconds as people say them.
pub fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0}s"),
        s if s < 7_200.0 => format!("{:.0}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.0}h", s / 3_600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

/// A moment to the second, in UTC.
pub fn moment(time: Timestamp) -> String {
    let text = eddy_schemas::rfc3339(time.div_euclid(1_000_000_000) * 1_000_000_000);
    text.replace('T', " ")
}

/// A moment as its time of day.
pub fn clock(time: Timestamp) -> String {
    let text = moment(time);
    text.split_once(' ').map_or(text.clone(), |(_, clock)| clock.to_owned())
}

/// An RFC 3339 time, as month, day, hour and minute.
pub fn short_moment(time: &str) -> String {
    let text: Option<String> = time.get(5..16).map(|text| text.replace('T', " "));
    text.unwrap_or_else(|| printable(time))
}

/// A measured value.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size != 0.0 && !(1e-2..1e6).contains(&size) => format!("{value:.2e}"),
        _ => format!("{value:.2}"),
    }
}

/// A probability.
pub fn unlikely(p: f64) -> String {
    format!("{p:.1e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_where_they_are_wider_not_where_they_have_more_letters() {
        assert_eq!((clip("abcdef", 6), clip("abcdef", 5)), ("abcdef".into(), "abcd…".into()));
        // Each of these is two columns wide.
        assert_eq!(
            (clip("泵泵泵", 6), clip("泵泵泵", 5), clip("泵泵泵", 4)),
            ("泵泵泵".into(), "泵泵…".into(), "泵…".into())
        );
        assert_eq!((clip("abc", 1), clip("abc", 0)), ("…".into(), String::new()));
        assert_eq!(wrap("one two  three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("a incomprehens b", 5), ["a", "incom", "prehe", "ns b"]);
        assert_eq!((wrap("", 5), wrap("ab", 0)), (vec![String::new()], vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.25, 9.94, 9.96, 12_000.4].map(rate), ["0", "0.2", "9.9", "10", "12,000"]);
        assert_eq!([0.3, 12.4, 4_000.0, 60_000.0, 7.2e6].map(milliseconds), ["0.3", "12", "4000", "60s", "2h"]);
        assert_eq!([5.0, 600.0, 8_000.0, 864_000.0].map(span), ["5s", "10m", "2h", "10d"]);
        assert_eq!([0.0, 21.456, -3e7, 1e-9].map(figure), ["0.00", "21.46", "-3.00e7", "1.00e-9"]);
        assert_eq!((count(1, "alert"), count(2_000, "alert")), ("1 alert".into(), "2,000 alerts".into()));
    }

    #[test]
    fn times_read_well() {
        assert_eq!(moment(1_500_000_000), "1970-01-01 00:00:01Z");
        assert_eq!(clock(3_661_000_000_000), "01:01:01Z");
        assert_eq!(short_moment("2026-01-20T22:35:00Z"), "01-20 22:35");
        assert_eq!(short_moment("soon"), "soon");
    }
}
