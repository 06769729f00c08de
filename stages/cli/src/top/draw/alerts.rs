//! The alerts' pane: incidents, and all of the chosen one.

use eddy_schemas::alert::Phase;
use ratatui::{buffer::Buffer, layout::Rect, style::Style, text::Span};

use super::{detail, pen::Pen};
use crate::{
    output::printable,
    top::{
        look::{self, Look},
        state::State,
        table::{Cell, Column, lines, names, text},
        words,
    },
    watch::view::{Incident, Suppression},
};

const INCIDENTS: [Column; 7] = [
    text("", 1, 0),
    text("severity", 10, 0),
    names("device", 9, 0),
    names("cause", 7, 0),
    text("state", 8, 1),
    text("seen by", 10, 2),
    text("opened", 11, 3),
];

/// Lines below which list and detail have no room beside each other.
const ROOMY: u16 = 14;
/// Columns from which they stand side by side.
const WIDE: u16 = 130;
/// Lines of a detail.
const DETAIL: u16 = 13;

/// Draws it.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    if state.whole {
        return detail::draw(state, look, area, buffer);
    }
    if area.height < ROOMY {
        return list(state, look, area, buffer);
    }
    if area.width >= WIDE {
        let width = area.width / 2;
        list(state, look, Rect { width: width - 1, ..area }, buffer);
        let right = Rect { x: area.x + width, width: area.width - width, ..area };
        return detail::draw(state, look, right, buffer);
    }
    let wanted = state.incidents().len() as u16 + 1;
    let most = area.height.saturating_sub(DETAIL).max(area.height / 3);
    let height = wanted.clamp(2, most.max(2));
    list(state, look, Rect { height, ..area }, buffer);
    detail::draw(state, look, Rect { y: area.y + height, height: area.height - height, ..area }, buffer);
}

/// Draws the incidents, the chosen one among them.
pub fn list(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::new(buffer, area);
    let incidents = state.incidents();
    let Some((chosen, _)) = state.chosen() else {
        return pen.line(Span::styled(nothing(state), look.quiet()));
    };
    let room = pen.left().saturating_sub(1).max(1);
    let first = chosen.saturating_sub(room / 2).min(incidents.len().saturating_sub(room));
    let shown = incidents.iter().enumerate().skip(first).take(room);
    let rows: Vec<Vec<Cell>> = shown.map(|(at, incident)| row(incident, at == chosen, look)).collect();
    for (n, line) in lines(&INCIDENTS, &rows, pen.columns()).into_iter().enumerate() {
        if n == chosen - first + 1 {
            pen.row(line, look.chosen());
        } else {
            pen.line(line);
        }
    }
}

fn nothing(state: &State) -> String {
    let alerts = &state.view.alerts;
    let hidden: usize = alerts.suppressed.values().sum();
    let is_hidden = hidden > 0 && !state.hidden_shown;
    match (alerts.held, state.filter.is_empty(), is_hidden) {
        (0, ..) => "no alert yet".to_owned(),
        (_, false, _) => format!("no alert has {} in it: Esc clears the filter", words::name(&state.filter)),
        (_, true, true) => format!("{}: s shows them", words::count(hidden, "hidden alert")),
        (_, true, false) => "no open alert: o shows those that are over".to_owned(),
    }
}

fn row(incident: &Incident, is_chosen: bool, look: Look) -> Vec<Cell> {
    let (open, hidden) = (incident.open, incident.suppressed);
    let state = match hidden {
        Some(Suppression::Maintenance) => "maint.".to_owned(),
        Some(Suppression::Rollout) => "rollout".to_owned(),
        None if open > 0 => format!("open {open}"),
        None => "closed".to_owned(),
    };
    let style = if open > 0 && hidden.is_none() { look.severity(incident.severity) } else { look.quiet() };
    let opened = incident.alerts.first().map_or_else(String::new, |alert| words::short_moment(&alert.opened));
    vec![
        (if is_chosen { "▸" } else { "" }.to_owned(), Style::new()),
        (look::severity(incident.severity).to_owned(), style),
        (printable(&incident.device), Style::new()),
        (printable(&incident.cause), Style::new()),
        (state, if open > 0 { look.strong() } else { look.quiet() }),
        (seen(incident), Style::new()),
        (opened, Style::new()),
    ]
}

/// Who looks after it: the last one who said so, else the one who called it something.
fn seen(incident: &Incident) -> String {
    if incident.unseen > 0 {
        let several = if incident.unseen > 1 { format!(" {}", incident.unseen) } else { String::new() };
        return format!("‼ nobody{several}");
    }
    let alerts = || incident.alerts.iter().filter(|alert| incident.open == 0 || alert.phase != Phase::Closed);
    let acknowledged = alerts().filter_map(|alert| alert.acknowledged.as_ref()).max_by_key(|said| said.time);
    let said = acknowledged.or_else(|| alerts().filter_map(|alert| alert.label.as_ref()).max_by_key(|said| said.time));
    said.map_or_else(|| "-".to_owned(), |said| printable(&said.by))
}
