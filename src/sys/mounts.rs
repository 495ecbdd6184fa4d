//! What is mounted where, from `/proc/self/mountinfo` (`proc(5)`), and being told when it changes.
//!
//! ```text
//! 36 35 98:0 /root /mnt\040point rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! number, parent's number, device, root in the file system, where, options, optional fields, "-", kind, source, options
//! ```
//!
//! Blanks, tabs, line ends and backslashes in paths are `\` and three octal digits.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::host::Host;

/// The table of this process.
pub const PATH: &str = "/proc/self/mountinfo";
/// More of the table than a board has; the rest is not looked at.
const LIMIT: u64 = 4 << 20;
/// More mounts than a board has; the rest is not looked at.
pub const MOUNT_LIMIT: usize = 8192;

/// Kinds of file systems in which the kernel keeps its own things: no program is run from there.
const WITHOUT_PROGRAMS: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];
/// Kinds that another machine or a process serves: whoever opens a file there may wait for it for ever.
const SERVED: &[&str] =
    &["9p", "afs", "ceph", "cifs", "fuse", "fuseblk", "gfs2", "nfs", "nfs4", "ocfs2", "smb3", "virtiofs"];

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, until it is unmounted.
    pub id: u64,
    /// The file system.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub point: PathBuf,
    /// Kind of the file system, as `ext4`.
    pub kind: String,
}

/// Whether programs are run from a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// They may be.
    Possible,
    /// It holds no files of anybody.
    None,
    /// They may be, but to open one may take for ever.
    Served,
}

impl Mount {
    /// Reads one line.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = text(fields.next()?)?.parse().ok()?;
        let (major, minor) = text(fields.nth(1)?)?.split_once(':')?;
        let point = PathBuf::from(OsString::from_vec(plain(fields.nth(1)?)));
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        Some(Self { id, device, point, kind: String::from_utf8_lossy(kind).into_owned() })
    }

    /// Whether programs are run from it.
    #[must_use]
    pub fn programs(&self) -> Programs {
        // `fuse.sshfs` is a kind of fuse.
        let kind = self.kind.split('.').next().unwrap_or_default();
        if WITHOUT_PROGRAMS.contains(&kind) {
            Programs::None
        } else if SERVED.contains(&kind) {
            Programs::Served
        } else {
            Programs::Possible
        }
    }
}

/// How something is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub point: PathBuf,
    /// Kind of the file system, as `ext4`.
    pub kind: String,
    /// Options of the mount and of the file system.
    pub options: Vec<String>,
}

/// What is mounted on `point` last, as the text of the table has it.
#[must_use]
pub fn mounted_at(table: &[u8], point: &Path) -> Option<Mounted> {
    let line = |line: &[u8]| {
        let mount = Mount::parse(line).filter(|mount| mount.point == point)?;
        let mut fields = line.split(|byte| *byte == b' ').skip(5);
        let own = fields.next()?;
        let of_system = fields.skip_while(|field| *field != b"-").nth(3).unwrap_or_default();
        let options = [own, of_system].into_iter().flat_map(|list| list.split(|byte| *byte == b','));
        let options = options.map(|option| String::from_utf8_lossy(option).into_owned()).collect();
        Some(Mounted { point: mount.point, kind: mount.kind, options })
    };
    table.split(|byte| *byte == b'\n').filter_map(line).next_back()
}

/// What `fstab(5)` mounts on `point` at the start: `device point kind options …`, apart by blanks, with the same octal
/// numbers.
#[must_use]
pub fn planned_at(fstab: &[u8], point: &Path) -> Option<Mounted> {
    let line = |line: &[u8]| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        fields.next().filter(|device| !device.starts_with(b"#"))?;
        let at = PathBuf::from(OsString::from_vec(plain(fields.next()?)));
        let (kind, options) = (fields.next()?, fields.next().unwrap_or_default());
        let texts = |list: &[u8]| String::from_utf8_lossy(list).split(',').map(str::to_owned).collect();
        (at == point).then(|| Mounted {
            point: at,
            kind: String::from_utf8_lossy(kind).into_owned(),
            options: texts(options),
        })
    };
    fstab.split(|byte| *byte == b'\n').filter_map(line).next_back()
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// A path without the octal numbers in it.
fn plain(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(text);
        let byte = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    bytes
}

/// All mounts in the text of a table, at most [`MOUNT_LIMIT`].
#[must_use]
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(Mount::parse).take(MOUNT_LIMIT).collect()
}

/// The table of this process's mount namespace. Its descriptor tells of an exceptional condition (`POLLPRI`) once after
/// each change.
#[derive(Debug)]
pub struct Table(File);

impl Table {
    /// Opens it.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn open(host: &Host) -> io::Result<Self> {
        File::open(host.path(PATH)).map(Self)
    }

    /// What is mounted now.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(&mut self) -> io::Result<Vec<Mount>> {
        self.0.rewind()?;
        let mut bytes = Vec::new();
        (&self.0).take(LIMIT).read_to_end(&mut bytes)?;
        Ok(parse(&bytes))
    }
}

impl AsFd for Table {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_read_whatever_its_optional_fields() {
        let table = b"36 35 98:0 /root /mnt\\040point\\134x rw,noatime master:1 shared:2 - ext3 /dev/root rw\n\
            37 36 0:22 / /proc rw - proc proc rw\n\
            38 36 0:44 / /mnt/far rw - fuse.sshfs pi@far: rw\n\
            39 36 0:45 / \n\n";
        let mounts = parse(table);
        assert_eq!(mounts.len(), 3);
        let point = PathBuf::from("/mnt point\\x");
        assert_eq!(mounts[0], Mount { id: 36, device: (98, 0), point, kind: "ext3".to_owned() });
        let programs: Vec<_> = mounts.iter().map(Mount::programs).collect();
        assert_eq!(programs, [Programs::Possible, Programs::None, Programs::Served]);
    }

    #[test]
    fn the_last_mount_of_a_place_counts() {
        let table = b"1 0 0:1 / /tmp rw - tmpfs tmpfs rw,size=1k\n\
            2 1 8:1 / /tmp rw,nodev,nosuid shared:1 - ext4 /dev/sda1 ro,discard\n3 0 8:2 / /tmpx rw - ext4 a rw\n";
        let found = mounted_at(table, Path::new("/tmp")).unwrap();
        assert_eq!(
            (found.kind.as_str(), found.options),
            ("ext4", ["rw", "nodev", "nosuid", "ro", "discard"].map(str::to_owned).to_vec())
        );
        assert_eq!(mounted_at(table, Path::new("/var")), None);
        let fstab = b"# /dev/x /tmp ext4 a\nUUID=1\t/tmp  tmpfs\tnoexec,nodev 0 0\n/dev/b /my\\040disk vfat\n";
        let planned = planned_at(fstab, Path::new("/tmp")).unwrap();
        assert_eq!((planned.kind.as_str(), planned.options), ("tmpfs", vec!["noexec".to_owned(), "nodev".to_owned()]));
        assert_eq!(planned_at(fstab, Path::new("/my disk")).unwrap().kind, "vfat");
        assert_eq!(planned_at(fstab, Path::new("/dev/x")), None);
    }

    #[test]
    fn this_machine_has_a_root() {
        let mut table = Table::open(&Host::system()).unwrap();
        for _ in 0..2 {
            assert!(table.read().unwrap().iter().any(|mount| mount.point == Path::new("/")));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (mounted_at(&bytes, Path::new("/")), planned_at(&bytes, Path::new("/")));
            for mount in parse(&bytes) {
                prop_assert!(mount.point.as_os_str().len() <= bytes.len());
            }
        }

        #[test]
        fn any_path_is_found(path in prop::collection::vec(any::<u8>(), 1..40)) {
            let written = path.iter().fold(String::new(), |text, byte| text + &format!("\\{byte:03o}"));
            let line = format!("1 0 8:1 / {written} rw - ext4 /dev/sda1 rw");
            prop_assert_eq!(Mount::parse(line.as_bytes()).unwrap().point.into_os_string().into_vec(), path);
        }
    }
}
