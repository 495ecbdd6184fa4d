//! Reading `/proc`, `/sys` and `/etc` below a root that tests, and checks of an image, replace. Every read has an upper
//! bound, and below such a root no symbolic link leads out of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::in_root;

/// The kernel's word for the processor, for example `aarch64` (`uname(2)`). Kernels from 6.1 on have it in
/// `/proc/sys/kernel/arch` too.
#[must_use]
pub fn machine() -> Option<String> {
    rustix::system::uname().machine().to_str().ok().map(str::to_owned)
}

/// What a name in the file tree stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, where it was not followed.
    Link,
    /// A character or block device.
    Device,
    /// Anything else: a pipe, a socket.
    Other,
}

/// What `stat(2)` says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, with set-user-id, set-group-id and sticky: `0o7777` at most.
    pub mode: u32,
    /// User id of its owner.
    pub uid: u32,
    /// Group id of its owner.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// When its content last changed, in seconds since 1970.
    pub modified: i64,
}

/// Owner and mode of a file of a captured machine, which the file system that holds the capture cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// User id of its owner.
    pub uid: u32,
    /// Group id of its owner.
    pub gid: u32,
}

/// Why [`Host::regular`] does not open what a link leads to.
#[derive(Debug, thiserror::Error)]
#[error("a link to a file of the kernel")]
struct OfKernel;

/// Whether [`Host::regular`] met a link to one of the kernel's files.
#[must_use]
pub fn is_of_kernel(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(why) if why.is::<OfKernel>())
}

/// The types of proc, sysfs, tracefs, debugfs, securityfs (`statfs(2)`, `linux/magic.h`).
const KERNEL_FILES: [u64; 5] = [0x9fa0, 0x6265_6572, 0x7472_6163, 0x6462_6720, 0x7363_6673];

/// The machine's files.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    /// By path as on the machine.
    recorded: Option<Arc<BTreeMap<PathBuf, Attributes>>>,
}

impl Host {
    /// The real machine.
    #[must_use]
    pub fn system() -> Self {
        Self::rooted("/")
    }

    /// A machine whose files stand below `root`.
    pub fn rooted(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), recorded: None }
    }

    /// A captured machine: owners and modes are those of `recorded` (by path as on the machine), for all else root and
    /// 0644, 0755 for directories and programs.
    #[must_use]
    pub fn captured(root: impl Into<PathBuf>, recorded: BTreeMap<PathBuf, Attributes>) -> Self {
        Self { root: root.into(), recorded: Some(Arc::new(recorded)) }
    }

    /// Whether this is the machine that we run on, so that the kernel may be asked too.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where `path` (absolute, as on the machine) really stands.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
    }

    /// Reads at most `limit` bytes; what lies beyond is left.
    ///
    /// # Errors
    /// Those of opening and reading.
    pub fn read(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader(path, limit)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Opens a file to be read piece by piece, at most `limit` bytes of it.
    ///
    /// # Errors
    /// Those of opening.
    pub fn reader(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<io::Take<File>> {
        Ok(File::from(self.open(path.as_ref(), OFlags::RDONLY)?).take(limit as u64))
    }

    /// As [`Host::read`], as text; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// As [`Host::read`].
    pub fn read_text(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<String> {
        Ok(match String::from_utf8(self.read(path, limit)?) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })
    }

    /// Opens a regular file for reading. Pipes, sockets and devices are refused: opening them may block or do something.
    /// So are the kernel's files, such as those of `/proc`, where a link leads to one: whoever made the link may not be
    /// allowed to read what it shows.
    ///
    /// # Errors
    /// Those of opening; `InvalidInput` if it is anything else than a regular file, with [`is_of_kernel`] for the kernel's.
    pub fn regular(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        // What this names cannot be exchanged between the look and the reading.
        let named = self.open(path, OFlags::PATH)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&named)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let plain = path.strip_prefix("/proc/1/root").unwrap_or(path);
        let of_kernel = ["/proc", "/sys"].iter().any(|place| plain.starts_with(place));
        if !of_kernel && KERNEL_FILES.contains(&u64::try_from(rustix::fs::fstatfs(&named)?.f_type).unwrap_or(0)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, OfKernel));
        }
        let again = format!("/proc/self/fd/{}", named.as_raw_fd());
        Ok(File::from(rustix::fs::open(again, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?))
    }

    /// The target of a symbolic link, as it stands there.
    ///
    /// # Errors
    /// Those of `readlink`.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        if self.is_live() {
            return std::fs::read_link(path);
        }
        let link = self.open(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(link, c"", Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// The names in a directory, at most `limit`, in no order.
    ///
    /// # Errors
    /// Those of opening; entries that cannot be read are left out.
    pub fn list(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<Vec<OsString>> {
        if self.is_live() {
            return Ok(std::fs::read_dir(path)?.flatten().take(limit).map(|entry| entry.file_name()).collect());
        }
        let directory = self.open(path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let names = rustix::fs::Dir::new(directory)?.flatten().map(|entry| entry.file_name().to_bytes().to_vec());
        Ok(names.filter(|name| name != b"." && name != b"..").take(limit).map(OsString::from_vec).collect())
    }

    /// What `path` is, symbolic links followed.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    pub fn facts(&self, path: impl AsRef<Path>) -> io::Result<FileFacts> {
        self.stat(path.as_ref(), OFlags::PATH)
    }

    /// What `path` itself is, even if it is a symbolic link.
    ///
    /// # Errors
    /// Those of `lstat(2)`.
    pub fn link_facts(&self, path: impl AsRef<Path>) -> io::Result<FileFacts> {
        self.stat(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)
    }

    fn stat(&self, path: &Path, flags: OFlags) -> io::Result<FileFacts> {
        let stat = if self.is_live() {
            let flags = if flags.contains(OFlags::NOFOLLOW) { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
            rustix::fs::statat(rustix::fs::CWD, path, flags)?
        } else {
            rustix::fs::fstat(self.open(path, flags)?)?
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Link,
            FileType::CharacterDevice | FileType::BlockDevice => FileKind::Device,
            _ => FileKind::Other,
        };
        let mut facts = FileFacts {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: stat.st_mtime,
        };
        if let Some(recorded) = &self.recorded {
            let runs = kind == FileKind::Directory || facts.mode & 0o111 != 0;
            let plain = Attributes { mode: if runs { 0o755 } else { 0o644 }, uid: 0, gid: 0 };
            let Attributes { mode, uid, gid } = recorded.get(path).copied().unwrap_or(plain);
            (facts.mode, facts.uid, facts.gid) = (mode, uid, gid);
        }
        Ok(facts)
    }

    /// Below a root that is not the machine's own, absolute links and `..` start and end at that root.
    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        // A pipe without a writer must not hold up a collector; `O_PATH` opens nothing and takes no such flag.
        let patience = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
        let flags = flags | OFlags::CLOEXEC | patience;
        if self.is_live() {
            return Ok(rustix::fs::open(path, flags, Mode::empty())?);
        }
        in_root::open(&self.root, path, flags)
    }
}

/// The kernel's id of the calling thread.
#[must_use]
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::files::write_atomic;

    fn write(path: impl AsRef<Path>, text: &str) -> io::Result<()> {
        write_atomic(path.as_ref(), text.as_bytes(), 0o644)
    }

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        create_dir(root.path().join("etc")).unwrap();
        symlink("/etc/target", root.path().join("etc/absolute")).unwrap();
        symlink("../../../../etc/passwd", root.path().join("etc/up")).unwrap();
        for path in ["/etc/absolute", "/etc/up", "/../etc/passwd"] {
            assert_eq!(host.read(path, 10).unwrap_err().kind(), io::ErrorKind::NotFound, "{path}");
        }
        write(root.path().join("etc/target"), "inside").unwrap();
        assert_eq!(host.read_text("/etc/absolute", 3).unwrap(), "ins");
        assert_eq!(host.link_facts("/etc/absolute").unwrap().kind, FileKind::Link);
        let facts = host.facts("/etc/absolute").unwrap();
        assert_eq!((facts.kind, facts.size), (FileKind::File, 6));
        assert_eq!(host.facts("/").unwrap().kind, FileKind::Directory);
        assert_eq!(host.list("/", 10).unwrap(), ["etc"]);
        assert_eq!(host.list("/etc", 2).unwrap().len(), 2);
    }

    #[test]
    fn a_captured_machine_has_its_own_owners() {
        let root = tempfile::tempdir().unwrap();
        write(root.path().join("a"), "").unwrap();
        write(root.path().join("b"), "").unwrap();
        let recorded = Attributes { mode: 0o4640, uid: 0, gid: 42 };
        let host = Host::captured(root.path(), BTreeMap::from([("/a".into(), recorded)]));
        let of = |path| host.facts(path).map(|f| (f.mode, f.uid, f.gid)).unwrap();
        assert_eq!((of("/a"), of("/b"), of("/")), ((0o4640, 0, 42), (0o644, 0, 0), (0o755, 0, 0)));
    }

    #[test]
    fn the_real_machine_is_read_as_it_is() {
        let host = Host::system();
        assert!(host.is_live());
        assert_eq!(host.facts("/proc/self/exe").unwrap().kind, FileKind::File);
        assert_eq!(host.link_facts("/proc/self/exe").unwrap().kind, FileKind::Link);
        assert_eq!(host.facts("/dev/null").unwrap().kind, FileKind::Device);
    }
}
