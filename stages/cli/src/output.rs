//! Standard output.

use std::io::Write as _;

/// Writes one line. A reader that went away (`eddy alerts | head`) ends the process quietly, as it ends other tools.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A name from outside, fit for a terminal: control characters, and those that turn the direction of what follows, are written as
/// escapes.
pub fn printable(name: &str) -> String {
    let turns =
        |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let one = |c: char| if c.is_control() || turns(c) { c.escape_unicode().to_string() } else { c.to_string() };
    name.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_cannot_drive_the_terminal() {
        assert_eq!(super::printable("a\u{1b}[2Jé b"), "a\\u{1b}[2Jé b");
        assert_eq!(super::printable("a\u{202e}b"), "a\\u{202e}b");
    }
}
