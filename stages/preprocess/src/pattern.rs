//! Patterns of series names: `*` stands for any characters, `/` included; everything else for itself.
//!
//! Fifteen lines instead of a glob crate: those give `?`, `[` and `\` a meaning, which names of devices may contain.

/// Whether `text` is what `pattern` describes. At most `pattern.len() * text.len()` steps.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // Where to go on if the last `*` takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    while seen < text.len() {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at + 1, seen));
            at += 1;
        } else if pattern.get(at) == Some(&text[seen]) {
            at += 1;
            seen += 1;
        } else if let Some((after_star, taken)) = retry {
            retry = Some((after_star, taken + 1));
            (at, seen) = (after_star, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_takes_any_characters_and_nothing_else_is_special() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a/b", true),
            ("", "", true),
            ("", "a", false),
            ("a/t", "a/t", true),
            ("a/t", "a/tt", false),
            ("*/t", "pump 1/t", true),
            ("*/t", "pump 1/t2", false),
            ("pump*/*t", "pump-7/inlet t", true),
            ("a*b*c", "axxbxbxc", true),
            ("a*b*c", "axxbxbx", false),
            ("**a", "bba", true),
            ("a?[b]", "a?[b]", true),
            ("a?", "ab", false),
            ("*ü*", "grüße/x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} on {text:?}");
        }
    }
}
