use std::process::Command;

use super::*;

#[test]
fn rubbish_and_other_versions_are_told_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Searcher::open(folder.path(), 1 << 20).unwrap_err().to_string().contains("no index here"));
    let store = open(folder.path());
    add(&store, 0..50);
    build_all(&store);
    drop(store);
    let segment = std::fs::read_dir(folder.path().join("segments")).unwrap().next().unwrap().unwrap().path();
    let file = segment.join("data.mdb");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, b"rubbish").unwrap();
    let problem = open(folder.path()).searcher().unwrap_err().to_string();
    assert!(problem.contains("eddy-index recover"), "{problem}");
    std::fs::write(&file, whole).unwrap();
    assert_eq!(open(folder.path()).searcher().unwrap().matching(&Filter::default()).unwrap().len(), 50);
    {
        let store = open(folder.path());
        let catalog = &store.shared.catalog;
        let mut txn = catalog.write().unwrap();
        catalog.set(&mut txn, "version", 99).unwrap();
        catalog.commit(txn).unwrap();
    }
    let problem = Store::open(folder.path(), limits()).unwrap_err().to_string();
    assert!(
        problem.contains("version 99, this release reads 1") && problem.contains("eddy-index recover"),
        "{problem}"
    );
    std::fs::write(folder.path().join("data.mdb"), b"rubbish").unwrap();
    let problem = Store::open(folder.path(), limits()).unwrap_err().to_string();
    assert!(problem.contains("eddy-index recover"), "{problem}");
}

#[test]
fn a_map_that_is_full_is_told_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Limits { map_bytes: 1 << 20, ..limits() }).unwrap();
    let mut n = 0;
    let problem = loop {
        let before = store.position().unwrap();
        let mut batch = store.batch().unwrap();
        let added = (n..n + 500).try_for_each(|n| batch.add(&model(), &window(n)).map(drop));
        match added.and_then(|()| batch.commit(before.as_deref(), &n.to_string())) {
            Ok(()) => n += 500,
            Err(error) => break error,
        }
    };
    assert!(matches!(problem, IndexError::MapFull { .. }) && problem.to_string().contains("index.map_mb"));
    assert_eq!(store.stats().unwrap().windows, n);
    assert!(n > 1_000);
}

/// A small file system of its own, if this process may make one.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "eddy-test"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_what_did_not_fit_fits_later() {
    let Some(disk) = Tmpfs::new(8) else {
        eprintln!("SKIPPED a_full_disk_is_told_and_what_did_not_fit_fits_later: mounting a tmpfs needs root");
        return;
    };
    let folder = disk.0.path().join("index");
    std::fs::create_dir(&folder).unwrap();
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 6 << 20]).unwrap();
    let store = open(&folder);
    let mut n = 0;
    let attempt = |n: u64| {
        let before = store.position()?;
        let mut batch = store.batch()?;
        (n..n + 500).try_for_each(|n| batch.add(&model(), &window(n)).map(drop))?;
        batch.commit(before.as_deref(), &(n + 500).to_string())
    };
    let problem = loop {
        match attempt(n) {
            Ok(()) => n += 500,
            Err(error) => break error,
        }
    };
    assert!(problem.is_full_disk(), "{problem}");
    assert_eq!(store.position().unwrap(), (n > 0).then(|| n.to_string()));
    let failed = store.next_build().map(|build| build.map(|build| build.run(&AtomicBool::new(false))));
    assert!(matches!(failed, Err(_) | Ok(None | Some(Err(_)))), "no room to build either");
    std::fs::remove_file(&ballast).unwrap();
    attempt(n).unwrap();
    n += 500;
    let searcher = store.searcher().unwrap();
    assert_eq!(searcher.matching(&Filter::default()).unwrap().len() as u64, n);
    assert_eq!(ids(&searcher.search(&query(&[0.5; DIMENSIONS], 3)).unwrap()), nearest(0..n, &[0.5; DIMENSIONS], 3));
}
