//! All of one alert: what it was, who said what of it, and its curves.

use eddy_schemas::alert::{Phase, Share};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::pen::Pen;
use crate::{
    bars,
    output::printable,
    rollout::short,
    top::{
        look::{self, Look},
        state::State,
        table,
        words::{figure, moment, name, short_moment, unlikely, width, wrap},
    },
    watch::{
        plots::{Curve, Plots},
        view::{AlertView, Incident},
    },
};

/// Columns of what a line is about.
const ABOUT: usize = 9;
/// Lines of a verdict.
const VERDICT_MAX: usize = 4;
/// Columns of a curve.
const CURVE_MAX: usize = 64;
/// Lines from which curves are two and three lines high.
const HIGH: (usize, usize) = (18, 26);
/// Shares below this are not told.
const SHARE_MIN: f64 = 0.05;

/// Draws the chosen alert.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::new(buffer, area);
    let Some(((_, incident), (at, alert))) = state.chosen().zip(state.alert()) else {
        return pen.line(Span::styled("no alert is chosen", look.quiet()));
    };
    let rows = pen.left();
    let head = format!("── {}, {} ", name(&incident.device), name(&incident.cause));
    let place = if incident.alerts.len() > 1 {
        format!(" {} of {}: ← → ──", at + 1, incident.alerts.len())
    } else {
        "──".into()
    };
    let line = "─".repeat(pen.columns().saturating_sub(width(&head) + width(&place)));
    pen.line(Span::styled(head + &line + &place, look.strong()));
    let about = |about: &str, text: String| table::pair(about, ABOUT, text, look.quiet());
    pen.line(judged(incident, alert, look));
    pen.line(about("seen", seen(alert)));
    if let Some(label) = &alert.label {
        pen.line(about("label", format!("{} (by {}, {})", name(&label.what), name(&label.by), moment(label.time))));
    }
    pen.line(about("channels", shares(&alert.channels)));
    if let Some(known) = &alert.known {
        let room = pen.columns().saturating_sub(ABOUT + 1);
        for (n, line) in wrap(&printable(&known.text), room).into_iter().take(VERDICT_MAX).enumerate() {
            pen.line(about(if n == 0 { "index" } else { "" }, line));
        }
    } else {
        pen.line(about("index", "says nothing of it (yet)".to_owned()));
    }
    match state.curves.of(alert) {
        None => pen.line(about("curves", "being read …".to_owned())),
        Some(Err(why)) => pen.line(about("curves", format!("cannot be read: {}", printable(why)))),
        Some(Ok(plots)) => curves(plots, rows, look, &mut pen),
    }
    pen.line(about("heads", format!("{}; score {}", shares(&alert.heads), figure(alert.score))));
    pen.line(about(
        "id",
        format!("{}, judged by bundle {}", printable(&alert.alert), short(&printable(&alert.bundle))),
    ));
}

/// How bad it was.
fn judged(incident: &Incident, alert: &AlertView, look: Look) -> Line<'static> {
    let phase = match alert.phase {
        Phase::Closed => format!("closed {}", short_moment(&alert.told)),
        Phase::Opened | Phase::Updated => "open".to_owned(),
    };
    let hidden = incident.suppressed.map_or_else(String::new, |why| format!(", hidden: {}", why.as_str()));
    let p = format!("p {} of {}", unlikely(alert.tail_min), unlikely(alert.threshold));
    let text = format!(" since {}, {phase}{hidden}, {p}", short_moment(&alert.opened));
    Line::from(vec![Span::styled(look::severity(alert.severity), look.severity(alert.severity)), Span::raw(text)])
}

/// Who looks after it.
fn seen(alert: &AlertView) -> String {
    alert.acknowledged.as_ref().map_or_else(
        || "acknowledged by nobody".to_owned(),
        |said| format!("acknowledged by {}, {}", name(&said.by), moment(said.time)),
    )
}

fn shares(shares: &[Share]) -> String {
    let told = shares.iter().filter(|share| share.share >= SHARE_MIN);
    let told: Vec<String> = told.map(|share| format!("{} {:.0}%", name(&share.name), share.share * 100.0)).collect();
    if told.is_empty() { "-".to_owned() } else { told.join(", ") }
}

/// The window, those nearest to it, and how unlikely it was.
fn curves(plots: &Plots, rows: usize, look: Look, pen: &mut Pen) {
    let high = 1 + usize::from(rows >= HIGH.0) + usize::from(rows >= HIGH.1);
    curve("window", &plots.window, (high, bars::mean), &range(&plots.window), look, pen);
    for neighbour in &plots.neighbours {
        let about = neighbour.distance.map_or_else(|| "near".to_owned(), |distance| format!("d {distance:.3}"));
        let label = neighbour.label.as_ref().map(|label| format!(", {}", name(label)));
        let alert = neighbour.alert.as_ref().map(|alert| format!(", alert {}", name(alert)));
        let whose = format!("{}/{}", name(&neighbour.device), name(&neighbour.channel));
        let note = whose + &label.unwrap_or_default() + &alert.unwrap_or_default();
        curve(&about, neighbour, (high, bars::mean), &note, look, pen);
    }
    let most = plots.score.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most.is_finite() {
        let note =
            format!("p down to {}, opens at {}", unlikely(10f64.powf(-most)), unlikely(10f64.powf(-plots.threshold)));
        curve("unlikely", &plots.score, (high, bars::greatest), &note, look, pen);
    }
}

fn curve(about: &str, curve: &Curve, (high, of): (usize, fn(&[f64]) -> f64), note: &str, look: Look, pen: &mut Pen) {
    let columns = (pen.columns() * 2 / 5).clamp(8, CURVE_MAX);
    let drawn = bars::draw(&curve.values, columns, high, of);
    let gone = if curve.partial { " (in part)" } else { "" };
    if curve.values.is_empty() {
        return pen.line(table::pair(about, ABOUT, format!("no samples any more  {note}"), look.quiet()));
    }
    for (n, row) in drawn.into_iter().enumerate() {
        let mut line =
            table::pair(if n == 0 { about } else { "" }, ABOUT, Span::styled(row, look.curve()), look.quiet());
        if n == 0 {
            line.push_span(Span::raw(format!("  {note}{gone}")));
        }
        pen.line(line);
    }
}

/// Between which values a window lies.
fn range(curve: &Curve) -> String {
    let (least, most) =
        curve.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
    let between = if least <= most { format!(", {} to {}", figure(least), figure(most)) } else { String::new() };
    format!("{}{between}", name(&curve.channel))
}
