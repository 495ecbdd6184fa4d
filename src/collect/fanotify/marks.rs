//! Which file systems are watched, and which cannot be.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::sys::fanotify::{FanotifyError, Watch};
use crate::sys::mounts::{Mount, Programs};

/// So many file systems that are not watched are named; of the rest only the number is told.
const NAMED: usize = 8;

/// A file system that is not watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unwatched {
    /// Its kind and where it is.
    pub(super) what: String,
    /// Why not.
    pub(super) why: String,
}

/// Watches each file system that can hold programs, once, wherever it can be reached; gives the others.
///
/// # Errors
/// None of them can be watched.
pub(super) fn mark(watch: &Watch, mounts: &[Mount]) -> Result<Vec<Unwatched>, FanotifyError> {
    mark_with(mounts, |mount| watch.mark(mount))
}

fn mark_with<E: ToString>(mounts: &[Mount], mark: impl Fn(&Mount) -> Result<(), E>) -> Result<Vec<Unwatched>, E> {
    let mut devices: BTreeMap<(u32, u32), Option<Unwatched>> = BTreeMap::new();
    let (mut marked, mut failure) = (false, None);
    for mount in mounts {
        let programs = mount.programs();
        let entry = devices.entry(mount.device);
        let done = matches!(&entry, Entry::Occupied(found) if found.get().is_none());
        if done || programs == Programs::None {
            continue;
        }
        let why = if programs == Programs::Served {
            Some("to open a file there may take for ever".to_owned())
        } else {
            mark(mount).err().map(|error| {
                let text = error.to_string();
                failure.get_or_insert(error);
                text
            })
        };
        marked |= why.is_none();
        let what = || format!("{} at {}", mount.kind, mount.point.display());
        let unwatched = why.map(|why| Unwatched { what: what(), why });
        match (entry, unwatched) {
            // The first place where it was tried is told.
            (Entry::Occupied(_), Some(_)) => {}
            (Entry::Occupied(mut found), None) => *found.get_mut() = None,
            (Entry::Vacant(free), unwatched) => {
                free.insert(unwatched);
            }
        }
    }
    match failure {
        Some(failure) if !marked => Err(failure),
        _ => Ok(devices.into_values().flatten().collect()),
    }
}

/// As a part of what the source cannot see; empty if nothing.
pub(super) fn told(unwatched: &[Unwatched]) -> String {
    let mut parts: Vec<_> =
        unwatched.iter().take(NAMED).map(|one| format!("programs on {} ({})", one.what, one.why)).collect();
    if let Some(more) = unwatched.len().checked_sub(NAMED).filter(|more| *more > 0) {
        parts.push(format!("programs on {more} more file systems"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(minor: u32, point: &str, kind: &str) -> Mount {
        Mount { id: 1, device: (0, minor), point: point.into(), kind: kind.to_owned() }
    }

    #[test]
    fn each_file_system_is_watched_once_wherever_it_is() {
        let mounts = [
            mount(1, "/hidden", "ext4"),
            mount(2, "/proc", "proc"),
            mount(1, "/", "ext4"),
            mount(1, "/again", "ext4"),
            mount(3, "/mnt/far", "nfs4"),
            mount(4, "/odd", "odd"),
        ];
        let tried = std::cell::RefCell::new(Vec::new());
        let unwatched = mark_with(&mounts, |mount| {
            tried.borrow_mut().push(mount.point.clone());
            if mount.point == std::path::Path::new("/") { Ok(()) } else { Err("no") }
        })
        .unwrap();
        assert_eq!(tried.into_inner(), [std::path::Path::new("/hidden"), "/".as_ref(), "/odd".as_ref()]);
        assert_eq!(
            told(&unwatched),
            "programs on nfs4 at /mnt/far (to open a file there may take for ever), programs on odd at /odd (no)"
        );
        assert_eq!(mark_with(&mounts[..2], |_| Err("not permitted")), Err("not permitted"));
    }

    #[test]
    fn not_more_are_named_than_a_person_reads() {
        let many: Vec<_> = (0..100).map(|minor| mount(minor, "/x", "ceph")).collect();
        let told = told(&mark_with(&many, |_| Err("no")).unwrap());
        assert!(told.ends_with(", programs on 92 more file systems"), "{told}");
    }
}
