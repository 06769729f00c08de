//! Lines, one below the other, as long as there is room.

use ratatui::{buffer::Buffer, layout::Rect, style::Style, text::Line};

/// Writes into a part of a buffer.
pub struct Pen<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    row: u16,
}

impl<'a> Pen<'a> {
    /// From the top of `area` on.
    pub fn new(buffer: &'a mut Buffer, area: Rect) -> Self {
        let area = area.intersection(buffer.area);
        Self { buffer, area, row: 0 }
    }

    /// How wide.
    pub fn columns(&self) -> usize {
        usize::from(self.area.width)
    }

    /// Lines that there is still room for.
    pub fn left(&self) -> usize {
        usize::from(self.area.height - self.row)
    }

    /// What is left, for others.
    pub fn rest(self) -> (&'a mut Buffer, Rect) {
        let area = Rect { y: self.area.y + self.row, height: self.area.height - self.row, ..self.area };
        (self.buffer, area)
    }

    /// A line; where it is too long `…` is its end.
    pub fn line(&mut self, line: impl Into<Line<'static>>) {
        let (line, width) = (line.into(), self.area.width);
        if self.left() == 0 || width == 0 {
            return;
        }
        let y = self.area.y + self.row;
        self.row += 1;
        if line.width() <= self.columns() {
            self.buffer.set_line(self.area.x, y, &line, width);
            return;
        }
        let (end, _) = self.buffer.set_line(self.area.x, y, &line, width - 1);
        let style = line.spans.last().map_or(Style::new(), |span| line.style.patch(span.style));
        self.buffer.set_string(end, y, "…", style);
    }

    /// A line over the whole width in a style.
    pub fn row(&mut self, line: Line<'static>, style: Style) {
        let row = Rect { y: self.area.y + self.row, height: 1, ..self.area };
        if self.left() > 0 {
            self.line(line);
            self.buffer.set_style(row, style);
        }
    }

    /// Something at the left, and at the right as far as there is room.
    pub fn between(&mut self, left: Line<'static>, right: Line<'static>) {
        let (wide, y) = (right.width(), self.area.y + self.row);
        let room = self.columns().saturating_sub(left.width());
        let has_room = self.left() > 0 && wide < room;
        self.line(left);
        if has_room {
            self.buffer.set_line(self.area.right() - wide as u16, y, &right, wide as u16);
        }
    }
}
