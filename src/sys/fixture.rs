//! Captured machines for tests: `tests/fixtures/host/NAME`, copied, with the symbolic links that its file `links`
//! names, one `PATH -> TARGET` a line. They point to nothing, so they cannot lie in the repository as they are.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::host::Host;

/// A captured machine; removed when dropped.
pub struct Fixture {
    /// Its files.
    pub host: Host,
    _directory: TempDir,
}

/// Sets up the captured machine with this name.
pub fn machine(name: &str) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host").join(name);
    copy(&from, directory.path());
    for line in fs::read_to_string(from.join("links")).unwrap_or_default().lines() {
        let (path, target) = line.split_once(" -> ").unwrap();
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
    Fixture { host: Host::rooted(directory.path()), _directory: directory }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
