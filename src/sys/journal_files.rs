//! Where journal files are: `/run/log/journal/MACHINE` and `/var/log/journal/MACHINE`.
//!
//! `system.journal` and `user-UID.journal` are written to; what processes of a user say stands in the file of that user.
//! When one is full it becomes an archive, `system@….journal`, and a new one takes its name; one that was found damaged
//! ends in `.journal~`.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::host::Host;
use super::journal::{Journal, JournalError, Query};

/// The directories in which each machine has one.
pub const ROOTS: [&str; 2] = ["/run/log/journal", "/var/log/journal"];
/// Machines, and files of each, that are looked at.
const MACHINES: usize = 16;
const FILES: usize = 512;

/// A file that is written to or was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Where it really stands.
    pub path: PathBuf,
    /// Whether entries are still added.
    pub active: bool,
}

/// The directories with journal files, as they really stand.
#[must_use]
pub fn directories(host: &Host) -> Vec<PathBuf> {
    ROOTS
        .iter()
        .flat_map(|root| {
            let machines = host.list(root, MACHINES).unwrap_or_default();
            machines.into_iter().map(move |machine| host.path(root).join(machine)).filter(|path| path.is_dir())
        })
        .collect()
}

/// All files of the system and of users.
///
/// # Errors
/// A directory may not be read.
pub fn find(host: &Host) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for directory in directories(host) {
        for entry in std::fs::read_dir(&directory)?.flatten().take(FILES) {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with("system") || name.starts_with("user-"))
            else {
                continue;
            };
            let archive = name.contains('@') || name.ends_with(".journal~");
            if name.ends_with(".journal") || archive {
                found.push(Found { path: entry.path(), active: !archive });
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Opens a file.
///
/// # Errors
/// It may not be read, or is no journal.
pub fn open(path: &Path, query: Query) -> Result<Journal<File>, JournalError> {
    Journal::open(File::open(path)?, query)
}

/// Whether the path still names this file.
#[must_use]
pub fn is_at(journal: &Journal<File>, path: &Path) -> bool {
    let ours = journal.bytes().metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    ours.is_some() && std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok() == ours
}
