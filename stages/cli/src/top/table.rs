//! Tables that fit: where there is no room for a column the least important one goes.

use ratatui::{
    style::{Modifier, Style},
    text::{Line, Span},
};

use super::words::{clip, width};

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Above it.
    pub title: &'static str,
    /// So wide; where it [grows](Self::grows) at least.
    pub width: usize,
    /// Numbers stand at the right.
    pub right: bool,
    /// It takes what is left.
    pub grows: bool,
    /// The greatest goes first; 0: stays.
    pub rank: u8,
}

/// A column of words.
pub const fn text(title: &'static str, width: usize, rank: u8) -> Column {
    Column { title, width, right: false, grows: false, rank }
}

/// A column of names, as wide as there is room.
pub const fn names(title: &'static str, width: usize, rank: u8) -> Column {
    Column { title, width, right: false, grows: true, rank }
}

/// A column of numbers.
pub const fn numbers(title: &'static str, width: usize, rank: u8) -> Column {
    Column { title, width, right: true, grows: false, rank }
}

/// What stands in a table at a place.
pub type Cell = (String, Style);

/// A table's head and rows in so many columns of a terminal; each row has a cell for each column.
pub fn lines(columns: &[Column], rows: &[Vec<Cell>], room: usize) -> Vec<Line<'static>> {
    let widths = fit(columns, room);
    let line = |cells: &mut dyn Iterator<Item = (&str, Style)>| {
        let mut spans = Vec::new();
        for ((cell, style), (column, width)) in cells.zip(columns.iter().zip(&widths)) {
            let Some(width) = *width else { continue };
            if !spans.is_empty() {
                spans.push(Span::raw(" "));
            }
            spans.push(Span::styled(pad(cell, width, column.right), style));
        }
        Line::from(spans)
    };
    let head = Style::new().add_modifier(Modifier::UNDERLINED);
    let mut lines = vec![line(&mut columns.iter().map(|column| (column.title, head)))];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(|(cell, style)| (cell.as_str(), *style)))));
    lines
}

/// What something is about, in so many columns, and the thing itself.
pub fn pair(about: &str, columns: usize, text: impl Into<Span<'static>>, style: Style) -> Line<'static> {
    Line::from(vec![Span::styled(pad(about, columns, false), style), Span::raw(" "), text.into()])
}

/// How wide each column is, or that it is left out.
fn fit(columns: &[Column], room: usize) -> Vec<Option<usize>> {
    let taken = |rank: u8| columns.iter().filter(|column| column.rank <= rank).map(|column| column.width + 1).sum();
    let ranks = columns.iter().map(|column| column.rank);
    let rank = ranks.filter(|rank| taken(*rank) <= room + 1).max().unwrap_or(0);
    let growing = columns.iter().filter(|column| column.grows && column.rank <= rank).count();
    let left = (room + 1).saturating_sub(taken(rank));
    let more = left.checked_div(growing).unwrap_or(0);
    let width = |column: &Column| (column.rank <= rank).then_some(column.width + if column.grows { more } else { 0 });
    columns.iter().map(width).collect()
}

fn pad(text: &str, columns: usize, right: bool) -> String {
    let text = clip(text, columns);
    let space = " ".repeat(columns.saturating_sub(width(&text)));
    if right { space + &text } else { text + &space }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] =
        [text("state", 6, 0), names("device", 5, 0), numbers("rows", 4, 1), text("more", 9, 2)];

    fn drawn(room: usize) -> Vec<String> {
        let row = ["open", "pump 1", "12", "of it"].map(|cell| (cell.to_owned(), Style::new()));
        lines(&COLUMNS, &[row.to_vec()], room).iter().map(|line| line.to_string()).collect()
    }

    #[test]
    fn the_least_important_columns_go_first_and_names_take_what_is_left() {
        assert_eq!(drawn(30), ["state  device   rows more     ", "open   pump 1     12 of it    "]);
        assert_eq!(drawn(20), ["state  device   rows", "open   pump 1     12"]);
        assert_eq!(drawn(12), ["state  devi…", "open   pump…"]);
        assert_eq!(drawn(3), drawn(12), "what is left is cut where it is drawn");
    }

    #[test]
    fn wide_letters_leave_columns_where_they_are() {
        let row = vec![("泵泵泵".to_owned(), Style::new()), ("x".to_owned(), Style::new())];
        let columns = [text("a", 5, 0), text("b", 1, 0)];
        assert_eq!(lines(&columns, &[row], 7)[1].to_string(), "泵泵… x");
    }
}
