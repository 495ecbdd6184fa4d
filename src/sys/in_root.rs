//! Opens a file below a root as if that root were `/`: absolute links and `..` start and end there, whatever the tree
//! holds. `openat2(2)` could do it, but the sandbox of the service refuses it (`RestrictSUIDSGID=` cannot look into its
//! arguments), and Linux before 5.6 does not have it. So the path is walked here, one name at a time, from one open
//! directory to the next: nobody can exchange what was passed already.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

/// As the kernel: more links than this are a circle.
const LINKS: usize = 40;
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Opens `path` below `root`. With [`OFlags::NOFOLLOW`] a link at its end is not followed, as in `open(2)`.
///
/// # Errors
/// Those of `open(2)`; `ELOOP` for too many links.
pub(super) fn open(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // The directories on the way, for `..`; the root is below them.
    let mut way: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    // What is still to be walked, the next one last.
    let mut rest = names(path);
    while let Some(name) = rest.pop() {
        if name == ".." {
            way.pop();
            continue;
        }
        let here = way.last().unwrap_or(&root).as_fd();
        let last = rest.is_empty();
        if !(last && flags.contains(OFlags::NOFOLLOW)) {
            match readlinkat(here, &name, Vec::new()) {
                Ok(target) => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        way.clear();
                    }
                    rest.extend(names(&target));
                    continue;
                }
                // No link.
                Err(Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if last {
            return Ok(openat(here, &name, flags | OFlags::NOFOLLOW, Mode::empty())?);
        }
        way.push(openat(here, &name, DIRECTORY, Mode::empty())?);
    }
    // The path ended at a directory that was passed, by `..`, or at the root.
    Ok(openat(way.last().unwrap_or(&root), ".", flags | OFlags::NOFOLLOW, Mode::empty())?)
}

/// The names of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, read_link};
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use rustix::fs::{ResolveFlags, openat2};

    use super::*;

    fn with_openat2(root: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// What is open there.
    fn place(file: &OwnedFd) -> PathBuf {
        use std::os::fd::AsRawFd;
        read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("c"), Just("..")]
    }

    fn path() -> impl Strategy<Value = String> {
        (prop::collection::vec(name(), 0..5), any::<bool>())
            .prop_map(|(names, absolute)| format!("{}{}", if absolute { "/" } else { "" }, names.join("/")))
            .prop_filter("a link must lead somewhere", |path| !path.is_empty())
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
            for (at, target) in links {
                // Where something is already, or nothing it could be in, none is made.
                let at: PathBuf = at.into_iter().filter(|name| !name.starts_with('.')).collect();
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
