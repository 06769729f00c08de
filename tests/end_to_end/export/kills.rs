//! SIGKILL at random moments: the files are those of an undisturbed run.

use std::{process::Stdio, time::Duration};

use super::filled::{ALL, Filled, summary, tree};
use crate::faults::{Dice, seed};

/// How often it is killed, at most; then it may end.
const KILLS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_the_files_are_those_of_an_undisturbed_run() {
    let filled = Filled::with(60).await;
    let (undisturbed, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cut = ("EDDY_EXPORT_CUT_ROWS", "2000");
    let export = |folder: &tempfile::TempDir| {
        let mut command = filled.export(folder.path().to_str().unwrap());
        command.args(ALL).env(cut.0, cut.1);
        command
    };
    let started = std::time::Instant::now();
    let expected = summary(&mut export(&undisturbed));
    let whole_ms = started.elapsed().as_millis() as u64;
    let mut dice = Dice(seed());
    let mut kills = 0;
    loop {
        let mut child = export(&killed).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if kills == KILLS {
            assert!(child.wait().unwrap().success());
            break;
        }
        // Mostly before it could end, so that it dies in every part of its work.
        std::thread::sleep(Duration::from_millis(dice.below(whole_ms / 4 + 10)));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    println!("killed {kills} times");
    assert!(kills > 0);
    let done = summary(&mut export(&killed));
    assert_eq!((&done["files_written"], &done["manifest"]), (&0.into(), &expected["manifest"]));
    let unfinished = |path: &String| path.contains("/.eddy-");
    let mut found = tree(killed.path());
    let left: Vec<_> = found.keys().filter(|path| unfinished(path)).cloned().collect();
    assert_eq!(left, Vec::<String>::new(), "what was half written was written again under its own name");
    found.retain(|path, _| !unfinished(path));
    assert_eq!(found, tree(undisturbed.path()));
    summary(&mut filled.receipts(killed.path().to_str().unwrap()));
}
