//! The sockets of network namespaces that other processes are in, as those of containers.
//!
//! The link `/proc/PID/ns/net` reads `net:[INODE]`, one inode a namespace; it is shown to those who may look into the
//! process (CAP_SYS_PTRACE). `/proc/PID/net` has the tables of the namespace of that process, for everybody who sees it,
//! so that no namespace is entered. A process may end between any two reads: what was read counts only if it is in the
//! same namespace afterwards.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::host::Host;
use super::sockets::{BoundSocket, SOCKET_LIMIT, Transport};
use super::{procfs, procnet};

/// So many namespaces are asked for their sockets.
const NAMESPACES: usize = 64;
/// So many processes of one namespace are asked, each if the one before it ended meanwhile.
const ASKED: usize = 4;
/// So much of one table is read: some six thousand sockets.
const TABLE: usize = 1 << 20;

/// A namespace that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name in the kernel.
    pub inode: u64,
    /// The process through which it was read.
    pub pid: u32,
    /// What waits in it, sorted, each once. The interfaces are not known.
    pub sockets: Vec<BoundSocket>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// By rising number of the process that was asked first.
    pub namespaces: Vec<Namespace>,
    /// How many processes did not let us see where they are.
    pub closed: usize,
    /// How many namespaces were not asked, being too many.
    pub left_out: usize,
    /// How many could not be read.
    pub unreadable: usize,
    /// Whether there were more sockets than are taken.
    pub cut: bool,
}

/// Lists them; nothing on a kernel without network namespaces.
#[must_use]
pub fn others(host: &Host) -> Others {
    let mut others = Others::default();
    let (Ok(own), Ok((pids, _))) = (inode(host, "self"), procfs::processes(host)) else { return others };
    let mut members: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    let mut left_out = HashSet::new();
    for pid in pids {
        match inode(host, &pid.to_string()) {
            Ok(inode) if inode == own => {}
            Ok(inode) => {
                let full = members.len() == NAMESPACES;
                match members.get_mut(&inode) {
                    Some(members) if members.len() == ASKED => {}
                    Some(members) => members.push(pid),
                    None if full => drop(left_out.insert(inode)),
                    None => drop(members.insert(inode, vec![pid])),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => others.closed += 1,
            // It ended meanwhile.
            Err(_) => {}
        }
    }
    others.left_out = left_out.len();
    let mut room = SOCKET_LIMIT;
    for (inode, pids) in members {
        match pids.into_iter().find_map(|pid| read(host, inode, pid)) {
            Some((mut namespace, cut)) => {
                others.cut |= cut || namespace.sockets.len() > room;
                namespace.sockets.truncate(room);
                room -= namespace.sockets.len();
                others.namespaces.push(namespace);
            }
            None => others.unreadable += 1,
        }
    }
    others.namespaces.sort_unstable_by_key(|namespace| namespace.pid);
    others
}

/// The network namespace of a process.
fn inode(host: &Host, process: &str) -> io::Result<u64> {
    let link = host.read_link(format!("/proc/{process}/ns/net"))?;
    parse(link.to_str().unwrap_or_default()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The inode in what the link of a network namespace says.
#[must_use]
pub fn parse(link: &str) -> Option<u64> {
    link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// What waits in a namespace by the tables of a process in it; and whether there was more.
fn read(host: &Host, namespace: u64, pid: u32) -> Option<(Namespace, bool)> {
    let directory = format!("/proc/{pid}/net");
    let (mut sockets, mut cut) = (Vec::new(), false);
    for transport in Transport::ALL {
        let (found, more) = procnet::waiting_below(host, &directory, transport, TABLE).ok()?;
        sockets.extend(found);
        cut |= more;
    }
    sockets.sort_unstable();
    sockets.dedup();
    let stayed = inode(host, &pid.to_string()).is_ok_and(|inode| inode == namespace);
    stayed.then_some((Namespace { inode: namespace, pid, sockets }, cut))
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::sys::files::write_atomic;
    use crate::sys::fixture;

    fn put(root: &Path, process: &str, namespace: u64) {
        let directory = root.join("proc").join(process).join("ns");
        create_dir_all(&directory).unwrap();
        symlink(format!("net:[{namespace}]"), directory.join("net")).unwrap();
    }

    // The captured tables are those of a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn each_other_namespace_is_read_through_one_process_of_it() {
        let machine = fixture::machine("board");
        let others = others(&machine.host);
        let [namespace] = &others.namespaces[..] else { panic!("{others:?}") };
        assert_eq!((namespace.inode, namespace.pid), (4_026_532_500, 303));
        let sockets: Vec<_> = namespace
            .sockets
            .iter()
            .map(|s| format!("{} {} {}", s.transport.as_str(), s.local, s.local_port))
            .collect();
        assert_eq!(sockets, ["tcp 0.0.0.0 5432"]);
        assert_eq!((others.closed, others.left_out, others.unreadable, others.cut), (0, 0, 0, false));
    }

    #[test]
    fn too_many_are_counted() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "self", 1);
        put(root.path(), "1", 1);
        for pid in 2..80 {
            put(root.path(), &pid.to_string(), 1000 + pid);
        }
        let others = others(&Host::rooted(root.path()));
        assert_eq!((others.namespaces.len(), others.left_out), (NAMESPACES, 14));
    }

    #[test]
    fn a_table_that_is_too_long_is_cut() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "self", 1);
        put(root.path(), "7", 2);
        create_dir_all(root.path().join("proc/7/net")).unwrap();
        let line = "0: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 9 1\n";
        let table = format!("heading\n{}", line.repeat(TABLE / line.len() + 1));
        write_atomic(&root.path().join("proc/7/net/tcp"), table.as_bytes(), 0o644).unwrap();
        let others = others(&Host::rooted(root.path()));
        assert_eq!((others.namespaces[0].sockets.len(), others.cut), (1, true));
    }

    #[test]
    fn a_machine_without_namespaces_has_none() {
        assert_eq!(others(&Host::rooted(tempfile::tempdir().unwrap().path())), Others::default());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,40}", inode: u64) {
            let _ = parse(&text);
            prop_assert_eq!(parse(&format!("net:[{inode}]")), Some(inode));
        }
    }
}
