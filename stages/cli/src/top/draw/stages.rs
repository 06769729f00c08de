//! The stages' pane: stages, streams, the region's classes, bundles, dead letters and devices, as one list to scroll through.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    facts::{self, facts},
    overview,
    pen::Pen,
};
use crate::{
    output::printable,
    status::show::bytes,
    top::{
        look::{Level, Look},
        state::State,
        table::{Cell, Column, lines, names, numbers, text},
        words::{milliseconds, name, number, rate},
    },
    watch::view::{StageView, View},
};

const STAGES: [Column; 7] = [
    names("stage", 10, 0),
    text("state", 10, 0),
    numbers("rows/s", 8, 1),
    numbers("lag", 7, 0),
    numbers("batch p50/99 ms", 15, 3),
    numbers("age p50/99 ms", 13, 2),
    numbers("memory", 8, 4),
];

const STREAMS: [Column; 6] = [
    names("stream", 10, 0),
    numbers("full", 6, 0),
    numbers("bytes", 9, 1),
    numbers("bound", 9, 2),
    numbers("messages", 12, 3),
    numbers("msg/s", 7, 0),
];

/// Draws as much of it as fits below what was scrolled past.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::new(buffer, area);
    let all = all(&state.view, look, pen.columns());
    let room = pen.left().saturating_sub(1);
    // One line more than there is room for needs no line that says so.
    let room = if all.len() <= room + 1 { room + 1 } else { room };
    let first = state.scroll.min(all.len().saturating_sub(room));
    let below = all.len().saturating_sub(first + room);
    all.into_iter().skip(first).take(room).for_each(|line| pen.line(line));
    match below {
        0 if first > 0 => pen.line(Span::styled("the end; up: k", look.quiet())),
        0 => {}
        below => pen.line(Span::styled(format!("{below} more lines: j"), look.quiet())),
    }
}

/// So far it can be scrolled on a screen of so many columns and rows.
pub fn end(view: &View, (columns, rows): (u16, u16)) -> usize {
    let room = usize::from(rows.saturating_sub(super::HEAD + 2));
    all(view, Look { colour: false }, usize::from(columns)).len().saturating_sub(room)
}

/// All lines.
fn all(view: &View, look: Look, columns: usize) -> Vec<Line<'static>> {
    let mut all = table(view, look, columns);
    for stage in &view.stages {
        let why = stage.problem.iter().map(|why| (Level::Broken, format!("{}: {}", name(&stage.name), printable(why))));
        all.extend(why.map(|(level, why)| Line::styled(format!("{} {why}", level.sign()), look.level(level))));
    }
    all.push(Line::default());
    all.extend(streams(view, look, columns));
    all.push(Line::default());
    let told =
        facts(view).into_iter().filter(|fact| !["stages", "streams", "devices", "at work"].contains(&fact.about));
    all.extend(told.map(|fact| overview::fact(&fact, look)));
    for aside in view.aside.iter().flat_map(|(stage, aside)| {
        let refused =
            aside.refused.iter().map(|(why, n)| format!("{} refused at {}: {}", number(*n), name(stage), name(why)));
        refused
            .chain(aside.last_refusal.iter().map(|last| format!("  the last: {}", printable(last))))
            .collect::<Vec<_>>()
    }) {
        all.push(Line::raw(format!("  {aside}")));
    }
    all.extend(classes(view));
    all.push(Line::default());
    all.extend(devices(view, look));
    all
}

/// The table of the stages.
pub fn table(view: &View, look: Look, columns: usize) -> Vec<Line<'static>> {
    let rows: Vec<Vec<Cell>> = view.stages.iter().map(|stage| row(stage, look)).collect();
    lines(&STAGES, &rows, columns)
}

fn row(stage: &StageView, look: Look) -> Vec<Cell> {
    let level = facts::level(stage.state);
    let style = look.level(level);
    let rows = match stage.rows_per_s {
        Some(rows) => rate(rows),
        // Of a stage whose metrics cannot be asked for.
        None if stage.messages_per_s > 0 => format!("{} msg", number(stage.messages_per_s)),
        None => "-".to_owned(),
    };
    let both = |ms: Option<(f64, f64)>| {
        ms.map_or_else(|| "-".to_owned(), |(p50, p99)| format!("{}/{}", milliseconds(p50), milliseconds(p99)))
    };
    let plain = |text: String| (text, Style::new());
    vec![
        (printable(&stage.name), style),
        (format!("{} {}", level.sign().trim(), facts::state(stage.state)).trim().to_owned(), style),
        plain(rows),
        plain(number(stage.lag_messages)),
        plain(both(stage.batch_ms)),
        plain(both(stage.age_ms)),
        plain(stage.memory_bytes.map_or_else(|| "-".to_owned(), bytes)),
    ]
}

fn streams(view: &View, look: Look, columns: usize) -> Vec<Line<'static>> {
    let row = |stream: &crate::status::StreamUse| {
        let percent = facts::percent(stream);
        let level = percent.map_or(Level::Fine, facts::fullness);
        let full = percent.map_or_else(|| "-".to_owned(), |percent| format!("{}{percent}%", level.sign().trim()));
        let plain = |text: String| (text, Style::new());
        vec![
            plain(stream.name.clone()),
            (full, look.level(level)),
            plain(bytes(stream.bytes)),
            plain(stream.bytes_max.map_or_else(|| "-".to_owned(), bytes)),
            plain(number(stream.messages)),
            plain(number(stream.messages_per_s)),
        ]
    };
    lines(&STREAMS, &view.streams.iter().map(row).collect::<Vec<_>>(), columns)
}

/// What waits for the region, class by class.
fn classes(view: &View) -> Vec<Line<'static>> {
    let classes = view.link.iter().flat_map(|link| &link.classes);
    classes
        .map(|class| Line::raw(format!("  for the region: {}, {} lost", facts::class(class), number(class.lost))))
        .collect()
}

/// Conditions of devices, and who is under maintenance.
fn devices(view: &View, look: Look) -> Vec<Line<'static>> {
    let mut lines: Vec<Line> = Vec::new();
    for health in &view.conditions {
        let since = crate::top::words::moment(health.since);
        let text = format!("{} {} since {since} ({})", Level::Warning.sign(), facts::condition(health), health.value);
        lines.push(Line::styled(text, look.level(Level::Warning)));
    }
    let maintained = view.maintenance.iter().map(|(device, until)| facts::maintenance(device, *until));
    lines.extend(maintained.map(|text| Line::raw(format!("  maintenance: {text}"))));
    if lines.is_empty() {
        lines.push(Line::raw("  devices: nothing to report"));
    }
    lines
}
