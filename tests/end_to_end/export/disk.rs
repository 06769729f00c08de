//! A folder on a disk that is full.

use super::filled::{ALL, Filled, failure, summary, tree};
use crate::full_disk::Tmpfs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_with_room_it_goes_on() {
    let Some(disk) = Tmpfs::new(4) else {
        eprintln!("SKIPPED a_full_disk_is_told_and_with_room_it_goes_on: mounting a tmpfs needs root");
        return;
    };
    let filled = Filled::with(60).await;
    let to = disk.path().join("out");
    let export = |to: &std::path::Path| {
        let mut command = filled.export(to.to_str().unwrap());
        command.args(ALL).env("EDDY_EXPORT_CUT_ROWS", "2000");
        command
    };
    let folder = tempfile::tempdir().unwrap();
    let expected = summary(&mut export(folder.path()));
    // Some of it finds room.
    std::fs::write(disk.path().join("half"), vec![1; 3_500_000]).unwrap();
    let said = failure(&mut export(&to), 1);
    assert!(said.contains("No space left") && said.contains("make room"), "{said}");
    disk.fill();
    failure(&mut export(&to), 1);
    disk.make_room();
    std::fs::remove_file(disk.path().join("half")).unwrap();
    assert_eq!(summary(&mut export(&to))["manifest"], expected["manifest"]);
    assert_eq!(tree(&to), tree(folder.path()));
}
