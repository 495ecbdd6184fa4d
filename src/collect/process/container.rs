//! Which container a process is in, by the name of its cgroup.

use crate::sys::host::Host;
use crate::sys::procfs;

/// The id of a container in the name or the path of a cgroup: 64 hexadecimal digits, as Docker, containerd, CRI-O and
/// Podman have it.
pub(in crate::collect) fn id_in(cgroup: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(cgroup).ok()?;
    name.split(|c: char| !c.is_ascii_hexdigit()).find(|part| part.len() == 64)
}

/// The id of the container of a process; if it is gone, of its parent's.
pub(in crate::collect) fn of(host: &Host, pid: u32, parent: Option<u32>) -> Option<String> {
    let own = procfs::cgroup(host, pid).or_else(|| procfs::cgroup(host, parent?))?;
    id_in(&own).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::files::{private_directory, write_atomic};

    #[test]
    fn a_container_is_known_by_its_cgroup() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(id_in(b"session-1.scope"), None);
        assert_eq!(id_in(id.as_bytes()), Some(id.as_str()));
        assert_eq!(id_in(format!("{id}0").as_bytes()), None);
        assert_eq!(id_in(format!("0::/system.slice/docker-{id}.scope\n").as_bytes()), Some(id.as_str()));
        assert_eq!(id_in(b"\xff"), None);
    }

    #[test]
    fn who_is_gone_was_where_its_parent_is() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        let id = "ab".repeat(32);
        for (pid, cgroup) in [(7, format!("0::/docker/{id}\n")), (8, "0::/init.scope\n".to_owned())] {
            let directory = root.path().join(format!("proc/{pid}"));
            private_directory(&directory).unwrap();
            write_atomic(&directory.join("cgroup"), cgroup.as_bytes(), 0o644).unwrap();
        }
        assert_eq!(of(&host, 7, None).as_deref(), Some(id.as_str()));
        assert_eq!(of(&host, 9, Some(7)).as_deref(), Some(id.as_str()));
        assert_eq!(of(&host, 8, Some(7)), None, "a runtime outside starts what is inside, and the other way round");
        assert_eq!(of(&host, 9, Some(10)), None);
    }
}
