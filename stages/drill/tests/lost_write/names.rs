//! Names after a cut, in both modes.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use eddy_drill::lost_write::{Names, Options};

use super::support::Bench;

fn strict() -> Options {
    Options { names: Names::Strict, ..Options::default() }
}

fn write_synced(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}

fn sync_folder(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

#[test]
fn a_synced_file_renamed_over_another_is_whole() {
    for options in [Options::default(), strict()] {
        let Some(mut bench) = Bench::mount(options) else { return };
        write_synced(&bench.path("a"), b"old");
        write_synced(&bench.path("a.tmp"), b"new");
        fs::rename(bench.path("a.tmp"), bench.path("a")).unwrap();
        sync_folder(&bench.at());
        assert_eq!(fs::read(bench.path("a")).unwrap(), b"new");
        assert_eq!(bench.cut().names, 0);
        assert_eq!(bench.left("a").unwrap(), b"new");
        assert_eq!(bench.left("a.tmp"), None);
    }
}

#[test]
fn a_file_renamed_without_a_sync_is_empty() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    write_synced(&bench.path("a"), b"old");
    fs::write(bench.path("a.tmp"), b"new").unwrap();
    fs::rename(bench.path("a.tmp"), bench.path("a")).unwrap();
    bench.cut();
    assert_eq!((bench.left("a").unwrap(), bench.left("a.tmp")), (vec![], None));
}

#[test]
fn a_strict_rename_without_a_sync_of_the_folder_goes_back() {
    let Some(mut bench) = Bench::mount(strict()) else { return };
    write_synced(&bench.path("a"), b"old");
    write_synced(&bench.path("a.tmp"), b"new");
    fs::rename(bench.path("a.tmp"), bench.path("a")).unwrap();
    assert_eq!(bench.cut().names, 2);
    assert_eq!(bench.left("a").unwrap(), b"old");
    assert_eq!(bench.left("a.tmp").unwrap(), b"new");
}

#[test]
fn strict_creates_vanish_and_unlinks_come_back() {
    let Some(mut bench) = Bench::mount(strict()) else { return };
    write_synced(&bench.path("kept"), b"1");
    write_synced(&bench.path("unlinked"), b"2");
    fs::remove_file(bench.path("unlinked")).unwrap();
    fs::write(bench.path("new"), b"3").unwrap();
    let listed: Vec<_> = fs::read_dir(bench.at()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(listed.len(), 2, "{listed:?}");
    bench.cut();
    assert_eq!(bench.left("kept").unwrap(), b"1");
    assert_eq!(bench.left("unlinked").unwrap(), b"2");
    assert_eq!(bench.left("new"), None);
    assert_eq!(fs::read_dir(bench.backing()).unwrap().count(), 2, "nothing of the layer's own is left");
}

#[test]
fn a_strict_sync_makes_the_folders_above_durable() {
    let Some(mut bench) = Bench::mount(strict()) else { return };
    fs::create_dir_all(bench.path("a/b/c")).unwrap();
    fs::create_dir_all(bench.path("a/d")).unwrap();
    write_synced(&bench.path("a/b/c/file"), b"deep");
    bench.cut();
    assert_eq!(bench.left("a/b/c/file").unwrap(), b"deep");
    assert!(!bench.backing().join("a/d").exists());
}

#[test]
fn a_strict_folder_removed_for_good_takes_its_files() {
    let Some(mut bench) = Bench::mount(strict()) else { return };
    fs::create_dir(bench.path("a")).unwrap();
    write_synced(&bench.path("a/file"), b"1");
    fs::remove_dir_all(bench.path("a")).unwrap();
    sync_folder(&bench.at());
    bench.cut();
    assert_eq!(fs::read_dir(bench.backing()).unwrap().count(), 0);
}

#[test]
fn an_unlink_is_durable_at_once_and_an_open_file_lives_on() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    write_synced(&bench.path("a"), b"1");
    let open = File::open(bench.path("a")).unwrap();
    fs::remove_file(bench.path("a")).unwrap();
    assert_eq!(std::io::read_to_string(&open).unwrap(), "1");
    // The name is another file's now.
    write_synced(&bench.path("a"), b"2");
    assert_eq!(std::io::read_to_string(File::open(bench.path("a")).unwrap()).unwrap(), "2");
    assert_eq!(open.metadata().unwrap().len(), 1);
    fs::remove_file(bench.path("a")).unwrap();
    drop(open);
    bench.cut();
    assert_eq!(bench.left("a"), None);
}

#[test]
fn a_rename_that_replaces_nothing_refuses_what_is_there() {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let Some(bench) = Bench::mount(Options::default()) else { return };
    write_synced(&bench.path("a"), b"1");
    write_synced(&bench.path("b"), b"2");
    let rename =
        |to: &str| renameat2(AT_FDCWD, &bench.path("a"), AT_FDCWD, &bench.path(to), RenameFlags::RENAME_NOREPLACE);
    assert_eq!(rename("b"), Err(nix::errno::Errno::EEXIST));
    rename("c").unwrap();
    assert_eq!(fs::read(bench.path("c")).unwrap(), b"1");
    assert_eq!(fs::read(bench.path("b")).unwrap(), b"2");
}

#[test]
fn a_folder_is_read_whole_while_its_files_go() {
    let Some(bench) = Bench::mount(Options::default()) else { return };
    fs::create_dir(bench.path("many")).unwrap();
    for n in 0..2000 {
        fs::write(bench.path(&format!("many/a-rather-long-name-of-file-{n}")), b"").unwrap();
    }
    let mut seen = 0;
    for entry in fs::read_dir(bench.path("many")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 2000);
    fs::remove_dir(bench.path("many")).unwrap();
}
