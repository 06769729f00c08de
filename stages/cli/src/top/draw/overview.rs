//! The overview: stages, a line for everything else, and the first incidents.

use ratatui::{buffer::Buffer, layout::Rect, text::Span};

use super::{
    alerts,
    facts::{self, Fact},
    pen::Pen,
    stages,
};
use crate::top::{
    look::{Level, Look},
    state::State,
    table, words,
};

/// Lines below which stages are told in one.
const ROOMY: u16 = 18;
/// Lines that incidents have at least.
const INCIDENTS: usize = 4;
/// Columns of what a fact is about; its sign stands before it.
const ABOUT: usize = 9;

/// Draws it.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let is_roomy = area.height >= ROOMY;
    let facts = facts::facts(&state.view);
    let mut pen = Pen::new(buffer, area);
    if is_roomy {
        let table = stages::table(&state.view, look, pen.columns());
        // There may be a stage for every shard: those that are well go last.
        let more = table.len().saturating_sub(pen.left() / 2);
        table.into_iter().take(pen.left() / 2).for_each(|line| pen.line(line));
        if more > 0 {
            pen.line(Span::styled(format!("{} more: 3", words::count(more, "stage")), look.quiet()));
        }
    }
    let is_shown = |fact: &Fact| match is_roomy {
        true => fact.about != "stages",
        false => fact.level > Level::Fine || fact.about == "stages",
    };
    let mut facts: Vec<Fact> = facts.into_iter().filter(is_shown).collect();
    while facts.len() > pen.left().saturating_sub(INCIDENTS) {
        // What is as it should be goes first.
        let last = facts.iter().rposition(|fact| fact.level == Level::Fine).or(facts.len().checked_sub(1));
        let Some(last) = last else { break };
        facts.remove(last);
    }
    facts.iter().for_each(|fact| pen.line(self::fact(fact, look)));
    let (buffer, rest) = pen.rest();
    alerts::list(state, look, rest, buffer);
}

/// A fact as a line.
pub fn fact(fact: &Fact, look: Look) -> ratatui::text::Line<'static> {
    let style = look.level(fact.level);
    let about = format!("{} {}", fact.level.sign(), fact.about);
    table::pair(&about, ABOUT, Span::styled(fact.text.clone(), style), look.strong().patch(style))
}
