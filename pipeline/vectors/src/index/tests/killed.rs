//! A writer in another process, which is killed; a reader beside it.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::*;

const FOLDER: &str = "EDDY_TEST_INDEX";

/// Not a test of its own: the process that the tests below start and kill. Writes, builds and deletes for ever, and prints
/// each commit.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = open(Path::new(&folder));
    let mut n: u64 = store.position().unwrap().map_or(0, |position| position.parse().unwrap());
    loop {
        add(&store, n..n + 10);
        n += 10;
        println!("committed {n}");
        if n.is_multiple_of(30) {
            build_all(&store);
        }
    }
}

/// The process, and the file to which it prints.
struct Writer(Child, tempfile::NamedTempFile);

impl Writer {
    fn start(folder: &Path) -> Self {
        let printed = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "index::tests::killed::writer", "--nocapture"])
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
            let numbers =
                printed.lines().filter_map(|line| line.rsplit_once("committed ")?.1.trim().parse::<u64>().ok());
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

fn check(searcher: &Searcher, committed: u64) -> u64 {
    let there = searcher.matching(&Filter::default()).unwrap();
    let count = there.len() as u64;
    assert!(count >= committed && there.last().is_none_or(|last| *last == count - 1), "{count} of {committed}");
    for n in (0..count).step_by(7) {
        let found = searcher.search(&query(&window(n).vector, 5)).unwrap();
        assert_eq!(ids(&found), nearest(0..count, &window(n).vector, 5));
    }
    count
}

#[test]
fn a_killed_writer_loses_nothing_committed_and_no_answer_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let mut committed = 0;
    for round in 0..25u64 {
        let mut writer = Writer::start(folder.path());
        let reached = writer.wait(committed + 10 + 10 * (round * 7 % 5));
        // Somewhere in the commits and builds that follow.
        std::thread::sleep(Duration::from_micros(round * 1_733 % 20_000));
        writer.kill();
        let store = open(folder.path());
        committed = check(&store.searcher().unwrap(), reached);
        assert_eq!(store.position().unwrap(), Some(committed.to_string()));
    }
}

#[test]
fn a_reader_in_another_process_sees_whole_commits_while_segments_are_built_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(folder.path());
    let reached = writer.wait(50);
    let searcher = Searcher::open(folder.path(), limits().map_bytes).unwrap();
    let (mut seen, mut kinds) = (0, std::collections::HashSet::new());
    let began = std::time::Instant::now();
    while (seen < 800 || kinds.len() < 3) && began.elapsed() < Duration::from_secs(60) {
        searcher.refresh().unwrap();
        let count = check(&searcher, seen.max(reached));
        assert_eq!(count % 10, 0, "whole commits");
        seen = count;
        // In memory, built, and merged from several; flat ones are there for an instant only.
        let segments = searcher.segments().into_iter().filter(|segment| segment.kind != Kind::Flat);
        kinds.extend(segments.map(|segment| (segment.kind, segment.count > limits().segment_windows)));
    }
    writer.kill();
    assert!(seen >= 800 && kinds.len() == 3, "{seen} windows, {kinds:?}");
}
