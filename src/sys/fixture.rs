//! Captured machines for tests: `tests/fixtures/host/NAME`, copied. Two files there say what a repository cannot hold:
//! `links` has the symbolic links, one `PATH -> TARGET` a line; `attributes` has owners and modes,
//! `MODE UID GID PATH` a line, the mode octal, paths as on the machine. A path that ends in `/` is a directory, which is
//! made if it has no files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::files::write_atomic;
use super::host::{Attributes, Host};

/// A captured machine; removed when dropped.
pub struct Fixture {
    /// Its files.
    pub host: Host,
    directory: TempDir,
}

impl Fixture {
    /// Puts one more file there: its path from the root, without the slash in front.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_atomic(&path, content.as_ref(), 0o644).unwrap();
    }

    /// Puts a symbolic link there.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
}

/// Sets up the captured machine with this name.
pub fn machine(name: &str) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host").join(name);
    copy(&from, directory.path());
    let text = fs::read_to_string(from.join("attributes")).unwrap_or_default();
    for path in text.lines().filter_map(|line| line.split_once(" /")?.1.strip_suffix('/')) {
        fs::create_dir_all(directory.path().join(path)).unwrap();
    }
    let machine = Fixture { host: Host::captured(directory.path(), attributes(&text)), directory };
    for line in fs::read_to_string(from.join("links")).unwrap_or_default().lines() {
        let (path, target) = line.split_once(" -> ").unwrap();
        machine.link(path, target);
    }
    machine
}

/// Makes a machine of these files: paths from its root, without the slash in front, and contents.
pub fn made(files: &[(&str, &str)]) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let made = Fixture { host: Host::captured(directory.path(), BTreeMap::new()), directory };
    for (path, text) in files {
        made.put(path, text);
    }
    made
}

/// Reads the lines of a file `attributes`.
pub fn attributes(text: &str) -> BTreeMap<PathBuf, Attributes> {
    let line = |line: &str| -> Option<(PathBuf, Attributes)> {
        let mut fields = line.splitn(4, ' ');
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let path = fields.next().map(|path| if path == "/" { path } else { path.trim_end_matches('/') })?;
        Some((PathBuf::from(path), Attributes { mode, uid, gid }))
    };
    text.lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect()
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
