//! What the keys do.

use ratatui::{buffer::Buffer, layout::Rect};

use super::pen::Pen;
use crate::top::{look::Look, table, words};

const KEYS: [(&str, &str); 14] = [
    ("1 2 3, Tab", "overview, alerts, stages"),
    ("↑ ↓, j k", "the alert before or after; PgUp PgDn, g G"),
    ("← →", "a newer or older alert of the same device and cause"),
    ("Enter", "all of the chosen alert; once more: back"),
    ("/", "only what has this in device, cause, label or severity"),
    ("s", "alerts that are hidden: of devices under maintenance, or just after a bundle's change"),
    ("o", "only open ones"),
    ("a", "acknowledge: you look after it"),
    ("l", "label: normal, or a fault's name"),
    ("m", "maintenance of the device: 2h, 30m, on, off"),
    ("Esc", "back; clears a filter or what went wrong"),
    ("Ctrl-L", "draw everything anew"),
    ("q, Ctrl-C", "end"),
    ("", "‼ critical, ! major, · minor. age: from a reading's arrival to what came of it; of detect: to the alert"),
];

/// Columns of the keys' names.
const KEY_COLUMNS: usize = 11;

/// Draws it.
pub fn draw(look: Look, area: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::new(buffer, area);
    for (key, what) in KEYS {
        // As wide as the widest key, where there is room beside it.
        let is_wide = pen.columns() >= 60;
        let (keys, text) = match is_wide || key.is_empty() {
            true => (if is_wide { KEY_COLUMNS } else { 0 }, what.to_owned()),
            false => (0, format!("{key}: {what}")),
        };
        for (n, line) in words::wrap(&text, pen.columns().saturating_sub(keys + 1)).into_iter().enumerate() {
            pen.line(table::pair(if n == 0 { key } else { "" }, keys, line, look.strong()));
        }
    }
}
