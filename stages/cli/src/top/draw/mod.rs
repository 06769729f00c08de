//! The screen: two lines at the top, a pane, and at the bottom what keys do, what is asked, or how something ended.
//!
//! All of it is drawn into a buffer, of a terminal or of `--once`; nothing is drawn past its edges, however small it is.

mod alerts;
mod detail;
mod facts;
mod help;
mod overview;
mod pen;
mod stages;

#[cfg(test)]
mod tests;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use self::pen::Pen;
pub use self::stages::end as stages_end;
use super::{
    look::{Level, Look},
    state::{Mode, Outcome, Pane, State},
    words,
};
use crate::output::printable;

/// Lines above a pane.
const HEAD: u16 = 2;
/// Where something is written.
const CURSOR: &str = "▏";

/// Draws all of it.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let foot = foot(state, look, area);
    let foot_rows = (foot.len() as u16).min(area.height.saturating_sub(HEAD).max(1));
    let body_rows = area.height.saturating_sub(HEAD + foot_rows);
    let mut head = Pen::new(buffer, Rect { height: area.height.min(HEAD), ..area });
    head.between(title(state, look), clock(state, look));
    head.between(tabs(state, look), Line::from(Span::styled(printable(&state.view.url), look.quiet())));
    let body = Rect { y: area.y + HEAD.min(area.height), height: body_rows, ..area };
    if state.mode == Mode::Help {
        help::draw(look, body, buffer);
    } else {
        match state.pane {
            Pane::Overview => overview::draw(state, look, body, buffer),
            Pane::Alerts => alerts::draw(state, look, body, buffer),
            Pane::Stages => stages::draw(state, look, body, buffer),
        }
    }
    let y = (body.y + body_rows).min(area.bottom());
    let mut pen = Pen::new(buffer, Rect { y, height: area.bottom() - y, ..area });
    foot.into_iter().for_each(|line| pen.line(line));
}

/// The site, and how many alerts there are.
fn title(state: &State, look: Look) -> Line<'static> {
    let alerts = &state.view.alerts;
    let mut spans = vec![Span::styled(format!("eddy {}", words::name(&state.view.site)), look.strong())];
    let unseen = if alerts.unseen > 0 { Level::Broken } else { Level::Fine };
    let counted = match (alerts.open, alerts.unseen) {
        (0, _) => "  no open alert".to_owned(),
        (open, 0) => format!("  {open} open, all seen"),
        (open, unseen) => format!("  {open} open, {unseen} unseen"),
    };
    spans.push(Span::styled(counted, look.level(unseen)));
    let hidden: usize = alerts.suppressed.values().sum();
    if hidden > 0 {
        let by: Vec<String> =
            alerts.suppressed.iter().map(|(reason, count)| format!("{count} {}", reason.as_str())).collect();
        let shown = if state.hidden_shown { "shown" } else { "hidden" };
        spans.push(Span::raw(format!("  {hidden} {shown}: {}", by.join(", "))));
    }
    Line::from(spans)
}

fn clock(state: &State, look: Look) -> Line<'static> {
    let view = &state.view;
    let at = if view.at == 0 { "asking …".to_owned() } else { words::clock(view.at) };
    match view.trouble {
        None => Line::raw(at),
        Some(_) => Line::styled(format!("{} trouble  {at}", Level::Broken.sign()), look.level(Level::Broken)),
    }
}

fn tabs(state: &State, look: Look) -> Line<'static> {
    let one = |(n, pane): (usize, Pane)| {
        let title = pane.title();
        match pane == state.pane {
            true => Span::styled(format!("[{} {title}]", n + 1), look.chosen()),
            false => Span::raw(format!(" {} {title} ", n + 1)),
        }
    };
    Line::from_iter(Pane::ALL.into_iter().enumerate().map(one))
}

/// The lines at the bottom.
fn foot(state: &State, look: Look, area: Rect) -> Vec<Line<'static>> {
    let columns = usize::from(area.width);
    let (text, style) = match (&state.mode, &state.outcome) {
        (Mode::Filter, _) => {
            let text = format!("filter: {}{CURSOR}  Enter keeps it, Esc clears it", printable(&state.filter));
            (text, look.strong())
        }
        (Mode::Prompt(prompt), _) => {
            let written = prompt.text().map(|text| format!(" {}{CURSOR}", printable(text)));
            (format!("{}{}", prompt.question(), written.unwrap_or_default()), look.strong())
        }
        (Mode::Help, _) => ("any key: back".to_owned(), look.quiet()),
        (Mode::Look, Some(Outcome::Busy(what))) => (what.clone(), look.strong()),
        (Mode::Look, Some(Outcome::Done(what))) => (format!("done: {what}"), look.strong()),
        (Mode::Look, Some(Outcome::Failed(why))) => {
            (format!("{} failed: {} (Esc)", Level::Broken.sign(), printable(why)), look.level(Level::Broken))
        }
        (Mode::Look, None) => return vec![Line::styled(hints(state, columns), look.quiet())],
    };
    let mut lines = words::wrap(&text, columns);
    // What is written, and whether, stands last.
    lines.drain(..lines.len().saturating_sub(usize::from(area.height / 2).max(1)));
    lines.into_iter().map(|line| Line::styled(line, style)).collect()
}

/// As many keys as there is room for, the first ones first.
fn hints(state: &State, columns: usize) -> String {
    let mut text = if state.filter.is_empty() {
        String::new()
    } else {
        format!("filter {}  ", words::clip(&printable(&state.filter), 20))
    };
    for hint in ["? help", "q quit", "/ filter", "a acknowledge", "l label", "m maintenance", "s hidden", "o open"] {
        if words::width(&text) + hint.len() <= columns {
            text.push_str(hint);
            text.push_str("  ");
        }
    }
    text
}
