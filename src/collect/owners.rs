//! Which process holds a socket: the sockets' inodes are searched for among the open files of all processes.

use std::collections::{HashMap, HashSet};
use std::io;

use crate::sys::host::Host;
use crate::sys::procfs;

/// Who holds a socket.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) pid: u32,
    pub(super) executable: Option<String>,
}

/// The owners that were found.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_inode: HashMap<u64, Owner>,
    /// How many processes did not let us look.
    pub(super) closed: usize,
}

impl Owners {
    /// The owner of the socket with this inode.
    pub(super) fn of(&self, inode: u64) -> Option<&Owner> {
        self.by_inode.get(&inode)
    }
}

/// Looks through the open files of processes, those in `first` before all others and these by rising id, until each
/// wanted socket has an owner.
pub(super) fn find(host: &Host, mut wanted: HashSet<u64>, first: &[u32]) -> Owners {
    let mut owners = Owners::default();
    for pid in first {
        owners.look(host, *pid, &mut wanted);
    }
    if wanted.is_empty() {
        return owners;
    }
    // Without a list of processes nothing can be said about any.
    let Ok((pids, _)) = procfs::processes(host) else {
        owners.closed = 1;
        return owners;
    };
    for pid in pids.into_iter().filter(|pid| !first.contains(pid)) {
        if wanted.is_empty() {
            break;
        }
        owners.look(host, pid, &mut wanted);
    }
    owners
}

impl Owners {
    fn look(&mut self, host: &Host, pid: u32, wanted: &mut HashSet<u64>) {
        match procfs::socket_inodes(host, pid) {
            Ok(inodes) => {
                let mut executable = None;
                for inode in inodes.into_iter().filter(|inode| wanted.remove(inode)) {
                    let path: &mut Option<String> =
                        executable.get_or_insert_with(|| procfs::executable(host, pid).ok().map(|e| e.path));
                    self.by_inode.insert(inode, Owner { pid, executable: path.clone() });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.closed += 1,
            // It ended meanwhile.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fixture;

    #[test]
    fn the_lowest_process_owns_unless_another_is_asked_first() {
        let machine = fixture::machine("board");
        let owner = |first: &[u32]| find(&machine.host, HashSet::from([5001]), first).of(5001).unwrap().clone();
        assert_eq!((owner(&[]).pid, owner(&[]).executable.as_deref()), (300, Some("/opt/sensor/sensord")));
        assert_eq!(owner(&[9999, 301]).pid, 301);
        assert!(find(&machine.host, HashSet::from([1]), &[]).of(1).is_none());
    }
}
