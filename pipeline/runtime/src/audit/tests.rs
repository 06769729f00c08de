use std::{io::Read as _, thread};

use eddy_schemas::audit::{Verified, rotated, verify};

use super::*;
use crate::clock::ManualClock;

const ROOMY: Bounds = Bounds { file_bytes_max: 1 << 20, bytes_max: 1 << 24, key: "hub.audit.all_mb_max" };

fn open(folder: &Path, bounds: Bounds) -> Result<Audit, AuditError> {
    Audit::open(folder, bounds, Arc::new(ManualClock::new(1_700_000_000_000_000_000)))
}

fn text(path: &Path) -> String {
    let mut text = String::new();
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn what_is_noted_stands_there_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), ROOMY).unwrap();
    audit.log("console", "Search", "ok", "k=10").unwrap();
    let head = audit.decide("alice", "Label", "ok", "plant-1/a1: normal").unwrap();
    assert!(matches!(open(folder.path(), ROOMY), Err(AuditError::InUse { .. })));
    drop(audit);
    let audit = open(folder.path(), ROOMY).unwrap();
    assert_eq!(audit.head(), head);
    audit.log("mallory", "Label", "refused", "no role").unwrap();
    let verified = verify(folder.path()).unwrap();
    assert_eq!(verified, Verified { first: 1, head: audit.head(), files: 1 });
    let log = text(&folder.path().join(FILE));
    let second = log.lines().nth(1).unwrap();
    assert!(
        second.starts_with(r#"{"seq":2,"time":"2023-11-14T22:13:20Z","who":"alice","what":"Label","outcome":"ok""#),
        "{log}"
    );
}

#[test]
fn a_full_file_lies_beside_the_new_one_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = Bounds { file_bytes_max: 1_000, ..ROOMY };
    for run in 0..3 {
        let audit = open(folder.path(), bounds).unwrap();
        for call in 0..7 {
            audit.log("console", "Search", "ok", &format!("{run} {call}")).unwrap();
        }
    }
    let verified = verify(folder.path()).unwrap();
    assert_eq!((verified.first, verified.head.seq), (1, 21));
    assert!(verified.files > 5, "{verified:?}");
    let files = audit::files(folder.path()).unwrap();
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 1_000));
    // A crash between the two steps of that leaves no current file.
    fs::remove_file(folder.path().join(FILE)).unwrap();
    let audit = open(folder.path(), bounds).unwrap();
    audit.log("console", "Search", "ok", "").unwrap();
    assert!(verify(folder.path()).is_ok());
}

#[test]
fn a_file_of_that_name_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), Bounds { file_bytes_max: 300, ..ROOMY }).unwrap();
    fs::write(folder.path().join(rotated(1)), "somebody's own").unwrap();
    audit.log("console", "Search", "ok", "").unwrap();
    assert!(audit.log("console", "Search", "ok", "").unwrap_err().to_string().contains("is there already"));
    fs::remove_file(folder.path().join(rotated(1))).unwrap();
    audit.log("console", "Search", "ok", "").unwrap();
    assert_eq!(verify(folder.path()).unwrap().head.seq, 2);
}

#[test]
fn at_the_bound_calls_are_refused_first_then_decisions_until_files_are_moved() {
    let folder = tempfile::tempdir().unwrap();
    let audit =
        open(folder.path(), Bounds { file_bytes_max: 1_000, bytes_max: 10_000, key: "hub.audit.all_mb_max" }).unwrap();
    let calls = (0..100).take_while(|_| audit.log("console", "Search", "ok", "").is_ok()).count();
    assert!((20..60).contains(&calls), "{calls}");
    let error = audit.log("console", "Search", "ok", "").unwrap_err().to_string();
    assert!(error.contains("hub.audit.all_mb_max") && error.contains("10000 bytes"), "{error}");
    let decisions = (0..100).take_while(|_| audit.decide("alice", "Label", "ok", "").is_ok()).count();
    assert!((1..10).contains(&decisions), "{decisions}");
    let held: u64 = audit::files(folder.path()).unwrap().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(held <= 10_000, "{held}");
    assert_eq!(verify(folder.path()).unwrap().head.seq, (calls + decisions) as u64);
    fs::remove_file(folder.path().join(rotated(1))).unwrap();
    audit.log("console", "Search", "ok", "").unwrap();
    assert!(verify(folder.path()).unwrap().first > 1);
}

#[test]
fn a_half_written_last_line_is_dropped_and_that_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let audit = open(folder.path(), ROOMY).unwrap();
    audit.log("console", "Search", "ok", "one").unwrap();
    let sound = fs::metadata(&path).unwrap().len();
    audit.log("console", "Search", "ok", "two").unwrap();
    drop(audit);
    let whole = fs::read(&path).unwrap();
    // Wherever the crash was; and as a file system leaves it that had made room already.
    for cut in
        (sound as usize..whole.len())
            .map(|end| whole[..end].to_vec())
            .chain([[&whole[..sound as usize], &[0; 700]].concat()])
    {
        fs::write(&path, &cut).unwrap();
        let audit = open(folder.path(), ROOMY).unwrap();
        let torn = cut.len() as u64 > sound;
        assert_eq!(audit.head().seq, 1 + u64::from(torn));
        if torn {
            let bytes = cut.len() as u64 - sound;
            assert!(
                text(&path)
                    .contains(&format!("{bytes} bytes of a line that was not finished are dropped after entry 1"))
            );
        }
        audit.log("console", "Search", "ok", "three").unwrap();
        assert!(verify(folder.path()).is_ok());
    }
}

#[test]
fn a_log_that_was_changed_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let audit = open(folder.path(), Bounds { file_bytes_max: 500, ..ROOMY }).unwrap();
    for _ in 0..5 {
        audit.log("mallory", "Label", "refused", "").unwrap();
    }
    drop(audit);
    let sound = text(&path);
    fs::write(&path, sound.replacen("refused", "granted", 1)).unwrap();
    let error = open(folder.path(), ROOMY).err().unwrap().to_string();
    assert!(error.contains("audit.jsonl, line 1: its hash is not") && error.contains("move that file"), "{error}");
    // As it says.
    fs::remove_file(&path).unwrap();
    let audit = open(folder.path(), ROOMY).unwrap();
    audit.decide("alice", "Label", "ok", "").unwrap();
    assert!(verify(folder.path()).is_ok());
    drop(audit);
    let full = audit::files(folder.path()).unwrap().swap_remove(0);
    let cut = fs::metadata(&full).unwrap().len() - 1;
    File::options().write(true).open(&full).unwrap().set_len(cut).unwrap();
    let only = tempfile::tempdir().unwrap();
    fs::copy(&full, only.path().join(full.file_name().unwrap())).unwrap();
    assert!(open(only.path(), ROOMY).err().unwrap().to_string().contains("it was cut"));
}

#[test]
fn many_at_once_are_one_chain() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), Bounds { file_bytes_max: 5_000, ..ROOMY }).unwrap();
    thread::scope(|scope| {
        for who in ["a", "b", "c", "d"] {
            let audit = &audit;
            scope.spawn(move || {
                for call in 0..50 {
                    let written = if call % 10 == 0 {
                        audit.decide(who, "Label", "ok", "")
                    } else {
                        audit.log(who, "Search", "ok", "")
                    };
                    written.unwrap();
                }
            });
        }
    });
    assert_eq!(verify(folder.path()).unwrap().head.seq, 200);
}
