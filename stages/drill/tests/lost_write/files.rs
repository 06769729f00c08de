//! Contents and lengths after a cut.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
};

use eddy_drill::lost_write::{Options, Survive};
use nix::fcntl::OFlag;

use super::support::{Bench, is_mounted};

#[test]
fn what_was_not_synced_is_gone_and_what_was_is_there() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    let mut file = File::create(bench.path("a")).unwrap();
    file.write_all(b"synced").unwrap();
    file.sync_all().unwrap();
    file.write_all(b" and not").unwrap();
    fs::write(bench.path("b"), b"never").unwrap();
    assert_eq!(fs::read(bench.path("a")).unwrap(), b"synced and not");
    drop(file);
    let cut = bench.cut();
    // What was appended, and the block that it went into.
    assert_eq!((cut.files, cut.bytes), (2, 8 + 6 + 5));
    assert_eq!(bench.left("a").unwrap(), b"synced");
    assert_eq!(bench.left("b").unwrap(), b"", "the name is durable, the contents are not");
}

#[test]
fn fdatasync_and_a_sync_by_another_handle_count() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    fs::write(bench.path("a"), b"one").unwrap();
    File::open(bench.path("a")).unwrap().sync_data().unwrap();
    bench.cut();
    assert_eq!(bench.left("a").unwrap(), b"one");
}

#[test]
fn writes_with_o_sync_and_o_dsync_are_durable_at_once() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    for (name, flag) in [("a", OFlag::O_SYNC), ("b", OFlag::O_DSYNC)] {
        let path = bench.path(name);
        let mut file = OpenOptions::new().write(true).create(true).custom_flags(flag.bits()).open(path).unwrap();
        file.write_all(&[7; 10_000]).unwrap();
    }
    assert_eq!(bench.cut().bytes, 0);
    assert_eq!(bench.left("a").unwrap(), [7; 10_000]);
    assert_eq!(bench.left("b").unwrap(), [7; 10_000]);
}

#[test]
fn blocks_written_over_and_appended_go_back() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    let file = File::create(bench.path("a")).unwrap();
    file.write_all_at(&[1; 20_000], 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(&[2; 5_000], 3_000).unwrap();
    file.write_all_at(&[3; 9_000], 19_000).unwrap();
    let cut = bench.cut();
    assert_eq!(bench.left("a").unwrap(), [1; 20_000]);
    assert_eq!(cut.bytes, 2 * 4096 + (20_000 - 16_384) + 8_000);
}

#[test]
fn a_truncation_goes_back_too() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    for name in ["cut", "emptied", "grown"] {
        fs::write(bench.path(name), [5; 10_000]).unwrap();
        File::open(bench.path(name)).unwrap().sync_all().unwrap();
    }
    let open = |name| OpenOptions::new().write(true).open(bench.path(name)).unwrap();
    open("cut").set_len(5_000).unwrap();
    fs::write(bench.path("emptied"), b"short").unwrap();
    open("grown").set_len(30_000).unwrap();
    assert_eq!(fs::metadata(bench.path("cut")).unwrap().len(), 5_000);
    assert_eq!(fs::read(bench.path("emptied")).unwrap(), b"short");
    assert_eq!(fs::read(bench.path("grown")).unwrap()[10_000..], [0; 20_000]);
    bench.cut();
    for name in ["cut", "emptied", "grown"] {
        assert_eq!(bench.left(name).unwrap(), [5; 10_000], "{name}");
    }
}

#[test]
fn torn_blocks_come_from_the_seed() {
    let torn = |seed| {
        let mut bench = Bench::mount(Options { survive: Survive::Random(seed), ..Options::default() })?;
        let file = File::create(bench.path("a")).unwrap();
        file.write_all_at(&[1; 20 * 4096], 0).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(&[2; 20 * 4096], 0).unwrap();
        bench.cut();
        Some(bench.left("a").unwrap())
    };
    let Some(first) = torn(1) else { return };
    assert_eq!(first.len(), 20 * 4096);
    assert!(first.contains(&1) && first.contains(&2), "some blocks are old and some new");
    assert!(first.chunks(4096).all(|block| block.iter().all(|byte| *byte == block[0])));
    assert_eq!(Some(&first), torn(1).as_ref());
    assert_ne!(Some(&first), torn(2).as_ref());
}

#[test]
fn an_orderly_end_keeps_everything() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    fs::write(bench.path("a"), b"never synced").unwrap();
    bench.unmount().unwrap();
    assert!(!is_mounted(&bench.at()));
    assert_eq!(bench.left("a").unwrap(), b"never synced");
}

#[test]
fn an_end_in_use_says_so_and_detaches() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    let file = File::create(bench.path("a")).unwrap();
    let error = bench.unmount().unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    assert!(!is_mounted(&bench.at()));
    let error = file.sync_all().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
}

#[test]
fn who_lives_on_after_a_cut_gets_errors_and_changes_nothing() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    let mut file = File::create(bench.path("a")).unwrap();
    file.write_all(b"kept").unwrap();
    file.sync_all().unwrap();
    bench.cut();
    assert!(file.write_all(b"late").is_err());
    assert!(file.sync_all().is_err());
    drop(file);
    assert_eq!(bench.left("a").unwrap(), b"kept");
    bench.remount(Options::default());
    assert_eq!(fs::read(bench.path("a")).unwrap(), b"kept");
}

#[test]
fn a_panic_leaves_no_mount() {
    let Some(bench) = Bench::mount(Options::default()) else { return };
    let at = bench.at();
    assert!(is_mounted(&at));
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _bench = bench;
        panic!("as a failing test does");
    }));
    assert!(unwound.is_err());
    assert!(!is_mounted(&at));
}

#[test]
fn unsynced_contents_are_written_back_past_their_bound() {
    let Some(mut bench) = Bench::mount(Options { unsynced_bytes_max: 8192, ..Options::default() }) else { return };
    let mut file = File::create(bench.path("a")).unwrap();
    file.write_all(&[1; 16_384]).unwrap();
    file.sync_all().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[2; 16_384]).unwrap();
    let cut = bench.cut();
    assert_eq!(cut.written_back, 1);
    assert_eq!(bench.left("a").unwrap(), [2; 16_384]);
}

#[test]
fn folders_one_in_the_other_are_refused() {
    let Some(bench) = Bench::mount(Options::default()) else { return };
    let within = bench.backing().join("within");
    fs::create_dir(&within).unwrap();
    let error = eddy_drill::lost_write::LostWrites::mount(&bench.backing(), &within, None).unwrap_err();
    assert!(error.to_string().contains("beside each other"), "{error}");
}
