//! Being told when files change: inotify(7), for files that grow and directories in which files appear.
//!
//! What changed is not told: the caller looks at its few files. So a lost notice (the kernel's queue was full) is no
//! different from another one.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};

/// Notices that are taken off at once.
const NOTICES: usize = 4096;

/// What was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Something was written, or more.
    pub any: bool,
    /// A name appeared in a directory.
    pub appeared: bool,
}

/// The files and directories that are watched. Readable when something changed.
#[derive(Debug)]
pub struct Watches {
    fd: OwnedFd,
    watched: HashMap<PathBuf, i32>,
}

impl Watches {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The user has too many of them, or the kernel has none.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?, watched: HashMap::new() })
    }

    /// Watches exactly these from now on: files for what is written to them, directories for what appears in them.
    /// Those that do not exist are left out. A path that names another file than before is watched anew.
    ///
    /// # Errors
    /// The user has too many watches.
    pub fn set<'a>(
        &mut self,
        files: impl IntoIterator<Item = &'a Path>,
        directories: impl IntoIterator<Item = &'a Path>,
    ) -> io::Result<()> {
        let files = files.into_iter().map(|path| (path, WatchFlags::MODIFY));
        let appear = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let mut now = HashMap::new();
        for (path, flags) in files.chain(directories.into_iter().map(|path| (path, appear))) {
            match add_watch(&self.fd, path, flags) {
                Ok(watch) => {
                    now.insert(path.to_owned(), watch);
                }
                Err(rustix::io::Errno::NOSPC | rustix::io::Errno::NOMEM) => {
                    return Err(io::Error::new(io::ErrorKind::StorageFull, "fs.inotify.max_user_watches is reached"));
                }
                Err(_) => {}
            }
        }
        for old in self.watched.values().filter(|old| !now.values().any(|watch| watch == *old)) {
            // It is gone already if its file was removed.
            let _ = remove_watch(&self.fd, *old);
        }
        self.watched = now;
        Ok(())
    }

    /// Takes off what has been told.
    ///
    /// # Errors
    /// Those of reading.
    pub fn take(&mut self) -> io::Result<Told> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        let mut told = Told::default();
        for _ in 0..NOTICES {
            match reader.next() {
                Ok(event) => {
                    let new = ReadFlags::CREATE | ReadFlags::MOVED_TO | ReadFlags::QUEUE_OVERFLOW;
                    told.appeared |= event.events().intersects(new);
                    told.any |= !event.events().contains(ReadFlags::IGNORED);
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(told)
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions, remove_file, rename};
    use std::io::Write;

    use super::*;

    #[test]
    fn what_grows_and_what_appears_is_told_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (log, other) = (directory.path().join("log"), directory.path().join("other"));
        File::create(&log).unwrap();
        let mut watches = Watches::new().unwrap();
        let missing = directory.path().join("missing");
        let set = |watches: &mut Watches| {
            watches.set([log.as_path(), missing.as_path()], [directory.path(), missing.as_path()]).unwrap();
        };
        set(&mut watches);
        let (nothing, grown, appeared) =
            (Told::default(), Told { any: true, appeared: false }, Told { any: true, appeared: true });
        assert_eq!(watches.take().unwrap(), nothing);
        OpenOptions::new().append(true).open(&log).unwrap().write_all(b"x").unwrap();
        assert_eq!(watches.take().unwrap(), grown);
        assert_eq!(watches.take().unwrap(), nothing);
        File::create(&other).unwrap();
        assert_eq!(watches.take().unwrap(), appeared);
        OpenOptions::new().append(true).open(&other).unwrap().write_all(b"x").unwrap();
        assert_eq!(watches.take().unwrap(), nothing);

        // Rotation: the name is told, and after another look the new file is what is watched.
        rename(&log, &missing).unwrap();
        let mut fresh = File::create(&log).unwrap();
        assert_eq!(watches.take().unwrap(), appeared);
        remove_file(&missing).unwrap();
        set(&mut watches);
        watches.take().unwrap();
        fresh.write_all(b"y").unwrap();
        assert_eq!(watches.take().unwrap(), grown);
        remove_file(&log).unwrap();
        set(&mut watches);
        watches.take().unwrap();
        fresh.write_all(b"z").unwrap();
        assert_eq!(watches.take().unwrap(), nothing);
    }
}
