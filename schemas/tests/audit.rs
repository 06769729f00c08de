//! The audit log, damaged: whatever is done to it is found.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;

use eddy_schemas::audit::{Entry, FILE, Head, Verified, rotated, verify};
use proptest::prelude::*;

/// The lines of a sound log, and its head.
fn lines(texts: &[String]) -> (Vec<String>, Head) {
    let mut head = Head::START;
    let mut lines = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let (line, next) = Entry::new(&head, number as i64, [text, "Label", "ok", text]).line();
        head = next;
        lines.push(line);
    }
    (lines, head)
}

/// What is told of a log of these bytes; it lies in a folder of its own.
fn told(log: &[u8]) -> Result<Verified, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, log).unwrap();
    verify(&path).map_err(|problem| problem.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sound_log_is_sound(texts in prop::collection::vec(".{0,40}", 0..12)) {
        let (lines, head) = lines(&texts);
        let verified = told(lines.concat().as_bytes()).unwrap();
        prop_assert_eq!((verified.head, verified.first), (head, u64::from(!lines.is_empty())));
    }

    #[test]
    fn a_byte_that_is_changed_added_or_missing_is_found(
        texts in prop::collection::vec(".{0,20}", 1..6),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (lines, _) = lines(&texts);
        let log = lines.concat().into_bytes();
        let at = at.index(log.len());
        let line = log[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let named = |log: &[u8]| {
            let problem = told(log).unwrap_err();
            // A line feed more or less makes two lines of one, or one of two.
            let lines = [line, line + 1].map(|line| format!("line {line}:"));
            assert!(lines.iter().any(|line| problem.contains(line)), "{problem}, not {lines:?}");
        };
        if log[at] != byte {
            let mut changed = log.clone();
            changed[at] = byte;
            named(&changed);
        }
        let mut shorter = log.clone();
        shorter.remove(at);
        named(&shorter);
        let mut longer = log.clone();
        longer.insert(at, byte);
        // A line feed before the first line feed of a line is an empty line; before another byte it cuts one.
        named(&longer);
    }

    #[test]
    fn lines_that_are_missing_moved_or_doubled_are_found(
        texts in prop::collection::vec("[a-c]{0,3}", 2..8),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let (lines, head) = lines(&texts);
        let (from, to) = (from.index(lines.len()), to.index(lines.len()));
        let mut missing = lines.clone();
        missing.remove(from);
        match told(missing.concat().as_bytes()) {
            Err(problem) => { prop_assert!(problem.contains(&format!("line {}:", from + 1)), "{}", problem); }
            // The first lines may be elsewhere, and the last ones not written yet: the ends are told.
            Ok(verified) => {
                prop_assert!(from == 0 || from + 1 == lines.len());
                prop_assert!(verified.first != 1 || verified.head != head);
            }
        }
        if from != to {
            let mut moved = lines.clone();
            moved.swap(from, to);
            prop_assert!(told(moved.concat().as_bytes()).is_err());
        }
        let mut doubled = lines.clone();
        doubled.insert(to, lines[from].clone());
        let problem = told(doubled.concat().as_bytes()).unwrap_err();
        let named = [to + 1, to + 2].iter().any(|line| problem.contains(&format!("line {line}:")));
        prop_assert!(named, "{}", problem);
    }

    #[test]
    fn rubbish_is_refused_and_no_more(log in prop::collection::vec(any::<u8>(), 1..400)) {
        prop_assert!(told(&log).unwrap_err().contains("line 1:"));
    }
}

#[test]
fn a_folder_is_one_chain_over_its_files() {
    let texts: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    let (lines, head) = lines(&texts);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, lines: &[String]| std::fs::write(folder.path().join(name), lines.concat()).unwrap();
    assert!(verify(folder.path()).unwrap_err().to_string().contains("no audit.jsonl"));
    write(&rotated(1), &lines[..4]);
    write(&rotated(5), &lines[4..6]);
    write(FILE, &lines[6..]);
    std::fs::write(folder.path().join("audit-1.jsonl"), "somebody's own").unwrap();
    let whole = verify(folder.path()).unwrap();
    assert_eq!(whole, Verified { first: 1, head, files: 3 });
    // A file of its own tells where it begins, and is called so.
    assert_eq!(verify(&folder.path().join(rotated(5))).unwrap().first, 5);
    write(&rotated(5), &lines[5..6]);
    let problem = verify(&folder.path().join(rotated(5))).unwrap_err().to_string();
    assert!(problem.contains("entry 6, where the file's name says 5"), "{problem}");
    assert!(verify(folder.path()).unwrap_err().to_string().contains("line 1: entry 6 follows entry 4"));
    // A file between two is gone.
    std::fs::remove_file(folder.path().join(rotated(5))).unwrap();
    let problem = verify(folder.path()).unwrap_err().to_string();
    assert!(problem.contains("audit.jsonl, line 1: entry 7 follows entry 4"), "{problem}");
    // The oldest may be elsewhere: that is told.
    write(&rotated(5), &lines[4..6]);
    std::fs::remove_file(folder.path().join(rotated(1))).unwrap();
    assert_eq!(verify(folder.path()).unwrap().first, 5);
    let mut text = String::new();
    write!(text, "{}", &lines[6][..30]).unwrap();
    std::fs::write(folder.path().join(FILE), text).unwrap();
    assert!(verify(folder.path()).unwrap_err().to_string().contains("it does not end"));
}
