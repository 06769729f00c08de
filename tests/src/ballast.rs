//! What takes all the room of a file system.

use std::path::Path;

/// In that folder.
const NAME: &str = "ballast";

/// Takes all the room that is left where `folder` lies.
pub fn fill(folder: &Path) {
    let file = std::fs::File::create(folder.join(NAME)).unwrap();
    let problem = std::io::copy(&mut std::io::repeat(1), &mut &file).unwrap_err();
    assert_eq!(problem.kind(), std::io::ErrorKind::StorageFull, "{problem}");
}

/// Gives it back.
pub fn make_room(folder: &Path) {
    std::fs::remove_file(folder.join(NAME)).unwrap();
}
