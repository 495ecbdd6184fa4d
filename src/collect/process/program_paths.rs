//! Which path a program has, for sources that learn of a process's end only: the kernel then names the file by its
//! number, and the process can no longer be asked.
//!
//! Nothing is looked up while no such source is open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::file_id::FileId;
use crate::sys::host::Host;
use crate::sys::procfs;

/// Programs are remembered up to this many; then all are forgotten, and learned anew when they are started.
const MOST: usize = 2048;

#[derive(Debug, Default)]
struct Learned {
    listeners: usize,
    paths: HashMap<FileId, Arc<str>>,
}

impl Learned {
    fn put(&mut self, id: FileId, path: &str) {
        if self.paths.len() >= MOST && !self.paths.contains_key(&id) {
            self.paths.clear();
        }
        if self.paths.get(&id).is_none_or(|known| **known != *path) {
            self.paths.insert(id, path.into());
        }
    }
}

/// What all sources of an agent have learned of programs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ProgramPaths(Arc<Mutex<Learned>>);

/// Somebody wants to know.
#[derive(Debug)]
pub(super) struct Listening(ProgramPaths);

impl ProgramPaths {
    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process runs the program at `path`.
    pub(in crate::collect) fn started(&self, host: &Host, path: &str) {
        if self.learned().listeners > 0
            && let Ok(id) = FileId::at(&host.path(path))
        {
            self.learned().put(id, path);
        }
    }

    /// Learns from now on, from the processes of now too.
    pub(super) fn listen(&self, host: &Host) -> Listening {
        self.learned().listeners += 1;
        for pid in procfs::processes(host).map(|(pids, _)| pids).unwrap_or_default() {
            if let (Ok(id), Ok(program)) =
                (FileId::at(&host.path(format!("/proc/{pid}/exe"))), procfs::executable(host, pid))
            {
                self.learned().put(id, &program.path);
            }
        }
        Listening(self.clone())
    }
}

impl Listening {
    /// The path of a program, if it was ever seen.
    pub(super) fn path(&self, id: FileId) -> Option<Arc<str>> {
        self.0.learned().paths.get(&id).cloned()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut learned = self.0.learned();
        learned.listeners = learned.listeners.saturating_sub(1);
        if learned.listeners == 0 {
            learned.paths = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_program_is_known_by_its_number_while_somebody_listens() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        let id = FileId::of(File::create(root.path().join("tool")).unwrap()).unwrap();
        let paths = ProgramPaths::default();
        paths.started(&host, "/tool");
        let listening = paths.listen(&host);
        assert_eq!(listening.path(id), None);
        paths.started(&host, "/tool");
        paths.started(&host, "/none");
        assert_eq!(listening.path(id).as_deref(), Some("/tool"));
        std::fs::rename(root.path().join("tool"), root.path().join("renamed")).unwrap();
        paths.started(&host, "/renamed");
        assert_eq!(listening.path(id).as_deref(), Some("/renamed"));
        drop(listening);
        assert_eq!(paths.listen(&host).path(id), None);
    }

    #[test]
    fn what_runs_already_is_learned() {
        let listening = ProgramPaths::default().listen(&Host::system());
        let own = FileId::at("/proc/self/exe".as_ref()).unwrap();
        let path = std::env::current_exe().unwrap();
        assert_eq!(listening.path(own).as_deref(), path.to_str());
    }

    #[test]
    fn it_is_bounded() {
        let mut learned = Learned::default();
        for inode in 0..10_000 {
            learned.put(FileId { device: (8, 1), inode }, "/x");
        }
        assert!(learned.paths.len() <= MOST && learned.paths.len() > 1);
    }
}
