//! The disk is full, and has room again.

use std::{
    fs::{self, File, OpenOptions},
    io::{Error, Write},
};

use eddy_drill::lost_write::Options;
use nix::errno::Errno;

use super::support::Bench;

fn is_full(result: Result<impl Sized, Error>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(Errno::ENOSPC as i32))
}

#[test]
fn writes_and_creates_fail_on_a_full_disk_and_go_on_after() {
    let Some(mut bench) = Bench::mount(Options { limit_bytes: Some(100_000), ..Options::default() }) else { return };
    let mut file = File::create(bench.path("a")).unwrap();
    file.write_all(&[1; 90_000]).unwrap();
    assert!(is_full(file.write_all(&[2; 20_000])));
    assert_eq!(fs::metadata(bench.path("a")).unwrap().len(), 100_000, "what fits is written, as on a disk");
    assert!(is_full(File::create(bench.path("b"))));
    assert!(is_full(fs::create_dir(bench.path("c"))));
    assert!(is_full(file.set_len(100_001)));
    file.sync_all().unwrap();
    assert_eq!(fs::read(bench.path("a")).unwrap().len(), 100_000);
    // What is there can be written over, renamed and unlinked.
    OpenOptions::new().write(true).open(bench.path("a")).unwrap().write_all(&[3; 50_000]).unwrap();
    fs::rename(bench.path("a"), bench.path("d")).unwrap();
    file.set_len(50_000).unwrap();
    fs::write(bench.path("b"), [4; 40_000]).unwrap();
    assert_eq!(bench.disk().used_bytes(), 90_000);
    fs::remove_file(bench.path("b")).unwrap();
    assert_eq!(bench.disk().used_bytes(), 50_000);
    drop(file);
    bench.unmount().unwrap();
    assert_eq!(bench.left("d").unwrap(), [3; 50_000]);
}

#[test]
fn an_unlinked_file_takes_room_until_it_is_closed() {
    let Some(bench) = Bench::mount(Options { limit_bytes: Some(50_000), ..Options::default() }) else { return };
    let mut file = File::create(bench.path("a")).unwrap();
    file.write_all(&[1; 50_000]).unwrap();
    fs::remove_file(bench.path("a")).unwrap();
    assert!(is_full(File::create(bench.path("b"))));
    drop(file);
    super::support::until("room", || (bench.disk().used_bytes() == 0).then_some(()));
    fs::write(bench.path("b"), [2; 50_000]).unwrap();
}

#[test]
fn the_limit_moves_and_the_mount_tells_what_is_free() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    fs::write(bench.path("a"), [1; 40_960]).unwrap();
    bench.disk().set_limit(Some(bench.disk().used_bytes()));
    assert!(is_full(fs::write(bench.path("b"), [1; 10])));
    let free = || nix::sys::statvfs::statvfs(&bench.at()).unwrap().blocks_available();
    assert_eq!(free(), 0);
    bench.disk().set_limit(Some(81_920));
    assert_eq!(free(), 10);
    bench.disk().set_limit(None);
    fs::write(bench.path("b"), [1; 100_000]).unwrap();
    // What was there before counts after a mount.
    bench.unmount().unwrap();
    bench.remount(Options { limit_bytes: Some(140_960 + 5_000), ..Options::default() });
    assert!(is_full(fs::write(bench.path("c"), [1; 5_001])));
}
