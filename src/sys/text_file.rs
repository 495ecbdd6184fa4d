//! Text files that people write, read with an upper bound and told apart from absent ones. Only regular files are read.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::host::Host;

/// More than a configuration file has.
pub const TEXT_LIMIT: usize = 512 * 1024;
/// More files than a directory of drop-ins has.
const FILES: usize = 256;
/// Longer lines are cut.
const LINE_LIMIT: usize = 16 * 1024;

/// A file or directory that is there and cannot be read.
#[derive(Debug, Error)]
#[error("{} {}", path.display(), reason(source))]
pub struct Unreadable {
    /// Which one.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "cannot be read; run as root".to_owned(),
        io::ErrorKind::FileTooLarge => "is too large to be read".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

impl Unreadable {
    /// Names the file.
    pub fn new(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { path: path.into(), source }
    }
}

/// `None` if it is not there.
///
/// # Errors
/// It is there, and an error says why it cannot be read.
pub fn present<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, Unreadable> {
    match result {
        Ok(value) => Ok(Some(value)),
        // A link to itself leads nowhere, for everybody.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Unreadable::new(path, error)),
    }
}

/// The whole text; `None` if there is no such file. Bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// It cannot be read, is no regular file, or has more than `limit` bytes.
pub fn read(host: &Host, path: impl AsRef<Path>, limit: usize) -> Result<Option<String>, Unreadable> {
    let path = path.as_ref();
    let read = || {
        let mut bytes = Vec::new();
        host.regular(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    };
    present(path, read())
}

/// Gives the lines one after the other, without keeping the file, until `each` breaks. `false` if there is no such file.
///
/// # Errors
/// As [`read`].
pub fn each_line(
    host: &Host,
    path: impl AsRef<Path>,
    limit: usize,
    mut each: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<bool, Unreadable> {
    let path = path.as_ref();
    let mut walk = || {
        let mut reader = BufReader::new(host.regular(path)?.take(limit as u64 + 1));
        let (mut line, mut total) = (Vec::new(), 0);
        loop {
            let buffer = reader.fill_buf()?;
            if buffer.is_empty() {
                if !line.is_empty() {
                    let _ = each(&String::from_utf8_lossy(&line));
                }
                return if total > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) };
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            let room = LINE_LIMIT.saturating_sub(line.len()).min(part.len());
            line.extend_from_slice(part.get(..room).unwrap_or_default());
            let used = part.len() + usize::from(end.is_some());
            reader.consume(used);
            total += used;
            if end.is_some() {
                if each(&String::from_utf8_lossy(&line)).is_break() {
                    return Ok(());
                }
                line.clear();
            }
        }
    };
    Ok(present(path, walk())?.is_some())
}

/// The names in a directory, sorted; none if it is not there.
///
/// # Errors
/// It cannot be read.
pub fn names(host: &Host, path: impl AsRef<Path>, limit: usize) -> Result<Vec<String>, Unreadable> {
    let path = path.as_ref();
    let names = present(path, host.list(path, limit))?.unwrap_or_default();
    let mut names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Files of several directories with this end of their names, by name; a name in an earlier directory hides the same
/// name in a later one.
///
/// # Errors
/// A directory cannot be read.
pub fn drop_ins(host: &Host, directories: &[&str], end: &str) -> Result<Vec<String>, Unreadable> {
    let mut files = BTreeMap::new();
    for directory in directories {
        for name in names(host, directory, FILES)? {
            if name.ends_with(end) {
                files.entry(name).or_insert(*directory);
            }
        }
    }
    Ok(files.into_iter().map(|(name, directory)| format!("{directory}/{name}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::files::write_atomic;

    #[test]
    fn absent_large_and_other_files_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        write_atomic(&root.path().join("a"), b"one\n\ntwo", 0o644).unwrap();
        assert_eq!(read(&host, "/b", 10).unwrap(), None);
        assert_eq!(read(&host, "/a/b", 10).unwrap(), None);
        assert_eq!(read(&host, "/a", 8).unwrap().as_deref(), Some("one\n\ntwo"));
        assert_eq!(read(&host, "/a", 7).unwrap_err().to_string(), "/a is too large to be read");
        assert_eq!(read(&host, "/", 7).unwrap_err().to_string(), "/ cannot be read: not a regular file");
        let mut lines = Vec::new();
        let mut keep = |line: &str| {
            lines.push(line.to_owned());
            if lines.len() < 9 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        assert!(each_line(&host, "/a", 8, &mut keep).unwrap());
        assert!(!each_line(&host, "/b", 8, &mut keep).unwrap());
        assert!(each_line(&host, "/a", 7, &mut keep).is_err());
        assert_eq!(lines[..3], ["one", "", "two"]);
        assert_eq!(names(&host, "/", 5).unwrap(), ["a"]);
        assert_eq!(names(&host, "/none", 5).unwrap(), [""; 0]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        write_atomic(&root.path().join("a"), "x".repeat(100_000).as_bytes(), 0o644).unwrap();
        let mut length = 0;
        each_line(&host, "/a", 1 << 20, |line| {
            length = line.len();
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(length, LINE_LIMIT);
    }
}
