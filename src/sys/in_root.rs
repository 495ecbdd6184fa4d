//! Opens a file below a root as if that root were `/`: absolute links and `..` start and end there, whatever the tree
//! holds. `openat2(2)` could do it, but the sandbox of the service refuses it (`RestrictSUIDSGID=` cannot look into its
//! arguments), and Linux before 5.6 does not have it. So the path is walked here, one name at a time, from one open
//! directory to the next: nobody can exchange what was passed already. No name is ever left to the kernel to follow; what
//! becomes a link between the look and the opening is an error.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstat, fstatfs, openat, readlinkat};
use rustix::io::Errno;

/// As the kernel: more links than this are a circle.
const LINKS: usize = 40;
/// More directories than a path of a device passes. Each is open until the end, and the service may open 1024 files: whoever
/// makes a deep tree and a link into it must not take them all.
const DIRECTORIES: usize = 256;
/// `f_type` of proc, and the number of its first directory (`linux/magic.h`, `linux/proc_ns.h`).
const PROC: u64 = 0x9fa0;
const PROC_ROOT: u64 = 1;
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Opens `path` below `root`. With [`OFlags::NOFOLLOW`] a link at its end is not followed, as in `open(2)`.
///
/// # Errors
/// Those of `open(2)`; `ELOOP` for too many links, `EXDEV` (as `openat2(2)`) for those of processes in proc, whose
/// text is no path, `ENAMETOOLONG` for too many directories.
pub(super) fn open(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // The directories on the way, for `..`; the root is below them.
    let mut way: Vec<OwnedFd> = Vec::new();
    let (mut links, mut directories) = (0, 0);
    // What is still to be walked, the next one last.
    let mut rest: Vec<OsString> = names(path.as_os_str()).collect();
    while let Some(name) = rest.pop() {
        // An empty name stands at the end after a slash: like `.` it makes the one before it a directory.
        if name.is_empty() || name == "." {
            continue;
        }
        if name == ".." {
            way.pop();
            continue;
        }
        let here = way.last().unwrap_or(&root).as_fd();
        let last = rest.is_empty();
        if !(last && flags.contains(OFlags::NOFOLLOW))
            && let Some(target) = link(here, &name)?
        {
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP.into());
            }
            if target.as_bytes().starts_with(b"/") {
                way.clear();
            }
            rest.extend(names(&target));
            continue;
        }
        if last {
            let opened = openat(here, &name, flags | OFlags::NOFOLLOW, Mode::empty())?;
            // Only these flags open a link itself, which then came just now.
            let links_too = flags.contains(OFlags::PATH) && !flags.contains(OFlags::NOFOLLOW);
            if links_too && readlinkat(&opened, c"", Vec::new()).is_ok() {
                return Err(Errno::LOOP.into());
            }
            return Ok(opened);
        }
        directories += 1;
        if directories > DIRECTORIES {
            return Err(Errno::NAMETOOLONG.into());
        }
        way.push(openat(here, &name, DIRECTORY, Mode::empty())?);
    }
    // The path ended at a directory that was passed, or at the root.
    Ok(openat(way.last().unwrap_or(&root), ".", flags | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Where a link leads; `None` if it is none.
fn link(here: BorrowedFd<'_>, name: &OsStr) -> Result<Option<OsString>, Errno> {
    let target = match readlinkat(here, name, Vec::new()) {
        Ok(target) => OsString::from_vec(target.into_bytes()),
        Err(Errno::INVAL) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Below the numbers of processes links (`exe`, `cwd`, `root`, `fd/0`) lead to open files, perhaps of another tree;
    // their text names a place as that process or this one sees it. Those beside the numbers (`self`, `mounts`) are plain.
    let of_process =
        u64::try_from(fstatfs(here)?.f_type).is_ok_and(|kind| kind == PROC) && fstat(here)?.st_ino != PROC_ROOT;
    if of_process { Err(Errno::XDEV) } else { Ok(Some(target)) }
}

/// The names of a path, the first one last.
fn names(path: &OsStr) -> impl Iterator<Item = OsString> {
    path.as_bytes().rsplit(|byte| *byte == b'/').map(|name| OsStr::from_bytes(name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, hard_link, read_link};
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;
    use rustix::fs::{CWD, FileType, RenameFlags, ResolveFlags, openat2, renameat_with};

    use super::*;
    use crate::sys::files::write_atomic;

    fn with_openat2(root: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// What is open there.
    fn place(file: &OwnedFd) -> PathBuf {
        use std::os::fd::AsRawFd;
        read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("c"), Just("file"), Just(".."), Just("."), Just("")]
    }

    /// With slashes in a row and at the end, too.
    fn path() -> impl Strategy<Value = String> {
        (prop::collection::vec(name(), 0..6), any::<bool>())
            .prop_map(|(names, absolute)| format!("{}{}", if absolute { "/" } else { "" }, names.join("/")))
            .prop_filter("a link must lead somewhere", |path| !path.is_empty())
    }

    #[test]
    fn links_of_processes_are_not_taken_for_paths() {
        for path in
            ["/proc/self/exe", "/proc/self/root/etc", "/proc/self/fd/0", "/proc/thread-self/cwd", "/proc/self/ns/mnt"]
        {
            let ours = open(Path::new("/"), Path::new(path), OFlags::PATH).unwrap_err();
            let theirs = with_openat2(Path::new("/"), Path::new(path), OFlags::PATH).unwrap_err();
            assert_eq!((ours.raw_os_error(), theirs), (Some(Errno::XDEV.raw_os_error()), Errno::XDEV), "{path}");
        }
        for path in ["/proc/self/status", "/proc/mounts", "/proc/self", "/proc/net/dev", "/proc/thread-self/comm"] {
            open(Path::new("/"), Path::new(path), OFlags::PATH).unwrap();
        }
        // The link itself can be looked at.
        open(Path::new("/"), Path::new("/proc/self/exe"), OFlags::PATH | OFlags::NOFOLLOW).unwrap();
    }

    #[test]
    fn a_deep_tree_does_not_take_all_open_files() {
        let root = tempfile::tempdir().unwrap();
        let deep = |depth| "d/".repeat(depth);
        create_dir_all(root.path().join(deep(DIRECTORIES + 1))).unwrap();
        symlink(deep(DIRECTORIES + 1), root.path().join("link")).unwrap();
        assert!(open(root.path(), Path::new(&deep(DIRECTORIES)), OFlags::PATH).is_ok());
        // A walk that comes back is as long.
        for path in [deep(DIRECTORIES + 1), "link".to_owned(), "d/../".repeat(DIRECTORIES + 1)] {
            let error = open(root.path(), Path::new(&path), OFlags::PATH).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()), "{path}");
        }
    }

    /// Somebody exchanges a file or directory for a link out of the root, all the time.
    #[test]
    fn what_becomes_a_link_meanwhile_leads_nowhere() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for place in [root.path().join("place"), outside.path().to_owned()] {
            create_dir_all(&place).unwrap();
            write_atomic(&place.join("file"), b"", 0o644).unwrap();
        }
        hard_link(root.path().join("place/file"), root.path().join("file")).unwrap();
        symlink(outside.path(), root.path().join("place.other")).unwrap();
        symlink(outside.path().join("file"), root.path().join("file.other")).unwrap();
        let within = root.path().canonicalize().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for name in ["place", "file"] {
                        let (one, other) = (within.join(name), within.join(format!("{name}.other")));
                        let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
                    }
                }
            });
            let mut wrong = None;
            for _ in 0..2000 {
                for (path, flags) in [("place/file", OFlags::PATH), ("file", OFlags::PATH), ("file", OFlags::RDONLY)] {
                    let Ok(opened) = open(&within, Path::new(path), flags) else { continue };
                    let kind = FileType::from_raw_mode(fstat(&opened).unwrap().st_mode);
                    if kind != FileType::RegularFile || !place(&opened).starts_with(&within) {
                        wrong = Some((path, kind, place(&opened)));
                    }
                }
            }
            // The other thread must end, whatever was found.
            done.store(true, Ordering::Relaxed);
            assert_eq!(wrong, None);
        });
    }

    proptest! {
        #[test]
        fn it_leads_where_the_kernel_leads(
            links in prop::collection::vec((prop::collection::vec(name(), 1..4), path()), 0..6),
            path in path(),
            follow: bool,
        ) {
            let root = tempfile::tempdir().unwrap();
            create_dir_all(root.path().join("a/b/c")).unwrap();
            create_dir_all(root.path().join("b/a")).unwrap();
            write_atomic(&root.path().join("b/file"), b"", 0o644).unwrap();
            for (at, target) in links {
                // Where something is already, or nothing it could be in, none is made.
                let at: PathBuf = at.into_iter().filter(|name| !name.starts_with('.') && !name.is_empty()).collect();
                let _ = symlink(target, root.path().join(at));
            }
            let flags = OFlags::PATH | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
            let ours = open(root.path(), Path::new(&path), flags);
            match (ours, with_openat2(root.path(), Path::new(&path), flags)) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(place(&ours), place(&theirs)),
                (Err(ours), Err(theirs)) => prop_assert_eq!(ours.raw_os_error(), Some(theirs.raw_os_error())),
                (ours, theirs) => prop_assert!(false, "{path}: {ours:?}, the kernel {theirs:?}"),
            }
        }
    }
}
