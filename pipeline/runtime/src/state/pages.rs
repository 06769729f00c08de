//! Pages of a state's file that are mapped.
//!
//! They count as the process's memory, though the kernel keeps of the file what it has room for anyway: after a commit nobody reads
//! them until the next one.

use std::path::Path;

/// Where the kernel tells what is mapped.
const MAPS: &str = "/proc/self/maps";

/// Gives the pages of `file` back to the kernel, where this process has mapped it. Where that cannot be told they stay.
///
/// # Safety
/// While it runs nobody in this process closes or resizes the file's environment: another mapping could lie there then.
pub(super) unsafe fn let_go(file: &Path) {
    let (Ok(file), Ok(maps)) = (file.canonicalize(), std::fs::read_to_string(MAPS)) else { return };
    for (start, end) in maps.lines().filter_map(|line| range(line, &file)) {
        // SAFETY: the range is a shared mapping of a file, which LMDB makes read-only (there is no WRITE_MAP here): its pages are
        // dropped from this process's tables, and whoever reads one again is given the same bytes of the file. The range is
        // still that mapping: the caller holds the environment, and nobody else closes or resizes it meanwhile.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// The addresses of a line of [`MAPS`], if it is a shared, read-only mapping of `file`: `start-end perms offset device inode path`.
fn range(line: &str, file: &Path) -> Option<(usize, usize)> {
    let mut fields = line.splitn(6, ' ');
    let (range, access, path) = (fields.next()?, fields.next()?, fields.nth(3)?);
    if access != "r--s" || Path::new(path.trim_start()) != file {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        position::{Place, Position},
        state::{Records, StateStore, StoreError},
    };

    /// Bytes of `file` that are mapped and present.
    fn present(file: &Path) -> usize {
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = text.lines();
        let mut bytes = 0;
        while let Some(line) = lines.next() {
            if range(line, file).is_some() {
                let resident = lines.by_ref().find_map(|line| line.strip_prefix("Rss:")).unwrap();
                bytes += resident.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
            }
        }
        bytes
    }

    #[test]
    fn after_a_commit_nothing_of_the_file_counts_and_all_of_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        let file = dir.path().canonicalize().unwrap().join("data.mdb");
        let at = |sequence| Position([("S".to_owned(), Place::whole(1, sequence))].into());
        let records =
            |turn: u8| -> Records { (0..2_000_u32).map(|n| (n.to_be_bytes(), Some(vec![turn; 9_000]))).collect() };
        store.commit(None, &at(1), &records(1)).unwrap();
        for turn in 2..5 {
            store.commit(Some(&at(u64::from(turn) - 1)), &at(turn.into()), &records(turn)).unwrap();
            assert!(present(&file) < 1 << 20, "{} bytes", present(&file));
        }
        let mut read = 0;
        let position = store.load::<StoreError>("test", |_, value| {
            read += usize::from(value == [4; 9_000]);
            Ok(())
        });
        assert_eq!((position.unwrap().map(|coverage| coverage.all), read), (Some(at(4)), 2_000));
        assert!(present(&file) < 1 << 20, "{} bytes after it was read", present(&file));
    }

    #[test]
    fn only_a_shared_mapping_of_this_file_is_one() {
        let file = Path::new("/var/lib/eddy state/data.mdb");
        let line =
            "7f0000001000-7f0000003000 r--s 00000000 fe:00 1234                       /var/lib/eddy state/data.mdb";
        assert_eq!(range(line, file), Some((0x7f00_0000_1000, 0x7f00_0000_3000)));
        for other in [
            line.replace("r--s", "r--p"),
            line.replace("r--s", "rw-s"),
            line.replace("data.mdb", "lock.mdb"),
            format!("{line} (deleted)"),
            "7f0000001000-7f0000003000 rw-p 00000000 00:00 0".to_owned(),
            String::new(),
        ] {
            assert_eq!(range(&other, file), None, "{other}");
        }
    }
}
