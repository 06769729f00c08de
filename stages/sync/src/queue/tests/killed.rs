//! A writer in another process, which is killed; and a second one beside it.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::*;

const FOLDER: &str = "EDDY_TEST_QUEUE";
const KEPT_MAX: u64 = 40;

fn bounded(folder: &Path) -> Queue {
    Queue::open(folder, &Bounds { entries_max: KEPT_MAX, ..BOUNDS }).unwrap()
}

/// Not a test of its own: the process that the tests below start and kill. Adds three entries and a gap a commit, for ever;
/// takes some away now and then; prints each commit.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let queue = bounded(Path::new(&folder));
    let place = |position: Position| position.place("S").unwrap().sequence;
    let mut n = queue.position("r").unwrap().map_or(0, place);
    loop {
        n += 1;
        commit(&queue, |write| {
            (0..3).for_each(|_| _ = write.push(Class::Alerts, alert(&n.to_string())).unwrap());
            write.gap(Class::Alerts, source_gap(n)).unwrap();
        });
        println!("committed {n}");
        if n.is_multiple_of(7) {
            queue.done(Class::Alerts, (4 * n).saturating_sub(30 - n % 11)).unwrap();
        }
    }
}

/// The process, and the file to which it prints.
struct Writer(Child, tempfile::NamedTempFile);

impl Writer {
    fn start(folder: &Path) -> Self {
        let printed = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "queue::tests::killed::writer", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(printed.reopen().unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child, printed)
    }

    /// Waits until `enough` is committed; returns how much was.
    fn wait(&mut self, enough: u64) -> u64 {
        loop {
            let printed = std::fs::read_to_string(self.1.path()).unwrap();
            let numbers = printed.lines().filter_map(|line| line.rsplit_once("committed ")?.1.trim().parse().ok());
            match numbers.max() {
                Some(n) if n >= enough => return n,
                _ => assert!(self.0.try_wait().unwrap().is_none(), "the writer ended: {printed}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the writer had ended");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Commit `n` gave out the numbers `4n - 3` to `4n`, of which the last is a gap.
fn check(queue: &Queue, committed: u64) -> u64 {
    let depth = queue.depth(Class::Alerts).unwrap();
    let commits = (depth.next - 1) / 4;
    assert!(commits >= committed && depth.next == 4 * commits + 1, "{depth:?} after {committed}");
    assert_eq!(queue.position("r").unwrap(), Some(at(commits)));
    let slice = all(queue, Class::Alerts, depth.oldest - 1);
    assert_eq!((slice.first, slice.last), (depth.oldest, depth.next - 1));
    assert_eq!((slice.entries.len() as u64, slice.gaps.len() as u64), (depth.entries, depth.gaps));
    assert!(depth.entries <= KEPT_MAX);
    for (number, text) in texts(&slice) {
        assert!(!number.is_multiple_of(4) && text == number.div_ceil(4).to_string(), "{number}: {text}");
    }
    for gap in slice.gaps.iter().filter(|gap| gap.cause() == wire::Cause::Source) {
        assert!(gap.first == gap.last && gap.first == 4 * gap.count, "{gap:?}");
    }
    commits
}

#[test]
fn a_killed_writer_loses_nothing_committed_and_every_number_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut committed = 0;
    for round in 0..20u64 {
        let mut writer = Writer::start(folder.path());
        let reached = writer.wait(committed + 10 + 10 * (round * 7 % 5));
        // Somewhere in the commits that follow.
        std::thread::sleep(Duration::from_micros(round * 1_733 % 9_000));
        writer.kill();
        committed = check(&bounded(folder.path()), reached);
    }
}

#[test]
fn a_second_process_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(folder.path());
    let reached = writer.wait(3);
    let error = Queue::open(folder.path(), &BOUNDS).unwrap_err();
    assert!(matches!(error, QueueError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another eddy-sync"), "{error}");
    writer.kill();
    check(&bounded(folder.path()), reached);
    // Also within one process.
    let queue = open(folder.path());
    assert!(matches!(Queue::open(folder.path(), &BOUNDS), Err(QueueError::InUse { .. })));
    drop(queue);
}
