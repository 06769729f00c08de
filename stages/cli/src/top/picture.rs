//! A drawn screen as text, for scripts, and as a picture (SVG), for documents.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

use super::words::width;

/// Pixels of a cell.
const CELL: (f64, f64) = (8.4, 18.0);
/// Pixels around.
const MARGIN: f64 = 10.0;
/// Of the ground, and of letters.
const GROUND: &str = "#16181d";
const LETTERS: &str = "#d8dbe2";

/// The lines, without the spaces at their ends.
pub fn text(buffer: &Buffer) -> Vec<String> {
    let rows = (0..buffer.area.height).map(|y| cells(buffer, y).map(|(_, cell)| cell.symbol()).collect::<String>());
    rows.map(|row| row.trim_end().to_owned()).collect()
}

/// The cells of a row that are drawn, and where: a wide letter hides the one behind it.
fn cells(buffer: &Buffer, y: u16) -> impl Iterator<Item = (u16, &Cell)> {
    let mut next = 0;
    (0..buffer.area.width).filter_map(move |x| {
        let cell = buffer.cell((x, y)).filter(|_| x >= next)?;
        next = x + width(cell.symbol()).max(1) as u16;
        Some((x, cell))
    })
}

/// How a cell looks: letters, ground, whether bold.
type Look = (&'static str, Option<&'static str>, bool, bool);

/// The picture.
pub fn svg(buffer: &Buffer) -> String {
    let wide = f64::from(buffer.area.width) * CELL.0 + 2.0 * MARGIN;
    let high = f64::from(buffer.area.height) * CELL.1 + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high:.0}\" width=\"{wide:.0}\" height=\"{high:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{GROUND}\"/>\n"
    );
    for y in 0..buffer.area.height {
        let mut run: Option<(u16, u16, Look, String)> = None;
        for (x, cell) in cells(buffer, y) {
            let (look, wide) = (look(cell), width(cell.symbol()).max(1) as u16);
            match &mut run {
                Some((_, end, held, text)) if *held == look => {
                    text.push_str(cell.symbol());
                    *end = x + wide;
                }
                _ => {
                    run.replace((x, x + wide, look, cell.symbol().to_owned()))
                        .into_iter()
                        .for_each(|run| draw(&mut svg, y, run));
                }
            }
        }
        run.into_iter().for_each(|run| draw(&mut svg, y, run));
    }
    svg + "</svg>\n"
}

/// Cells that look alike.
fn draw(svg: &mut String, y: u16, (start, end, (letters, ground, bold, dim), text): (u16, u16, Look, String)) {
    let (x, wide) = (MARGIN + f64::from(start) * CELL.0, f64::from(end - start) * CELL.0);
    let top = MARGIN + f64::from(y) * CELL.1;
    if let Some(ground) = ground {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{}\" fill=\"{ground}\"/>",
            CELL.1
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let style = [(bold, " font-weight=\"bold\""), (dim, " opacity=\"0.65\"")];
    let style: String = style.into_iter().filter(|(is, _)| *is).map(|(_, style)| style).collect();
    // Whatever font there is: each run is as wide as its cells.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{wide:.1}\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" \
         fill=\"{letters}\"{style}>{}</text>",
        top + 13.5,
        escape(&text)
    );
}

fn look(cell: &Cell) -> Look {
    let letters = match cell.fg {
        Color::Red => "#ff6b6b",
        Color::Yellow => "#f2c94c",
        Color::Green => "#6fcf97",
        Color::Cyan => "#56ccf2",
        _ => LETTERS,
    };
    let (bold, dim) = (cell.modifier.contains(Modifier::BOLD), cell.modifier.contains(Modifier::DIM));
    match cell.modifier.contains(Modifier::REVERSED) {
        true => (GROUND, Some(letters), bold, false),
        false => (letters, None, bold, dim),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn a_picture_holds_every_letter_and_no_markup_of_others() {
        let mut buffer = Buffer::with_lines(["泵 <b> & ok  ", "            "]);
        buffer.set_string(3, 1, "down", Style::new().fg(Color::Red).add_modifier(Modifier::REVERSED));
        assert_eq!(text(&buffer), ["泵 <b> & ok", "   down"]);
        let svg = svg(&buffer);
        assert!(svg.contains(">泵 &lt;b&gt; &amp; ok"), "{svg}");
        assert!(svg.contains("fill=\"#ff6b6b\"/>") && svg.contains(">down</text>"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
