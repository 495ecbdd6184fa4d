//! Processes in `/proc` (`proc(5)`). A process may vanish between any two reads, so everything is optional and no
//! parse error is fatal.

use std::ffi::OsStr;
use std::io;

use super::host::Host;

/// More processes than a board has; the rest is not looked at.
pub const PROCESS_LIMIT: usize = 65_536;
/// More open files than a process of a board has; the rest is not looked at.
const DESCRIPTOR_LIMIT: usize = 16_384;

const FORKED_NOT_EXECED: u32 = 0x40;
const KERNEL_THREAD: u32 = 0x0020_0000;

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Process id (field 1).
    pub pid: u32,
    /// The kernel's short name, at most 15 bytes (field 2).
    pub name: String,
    /// `R`, `S`, `Z` … (field 3).
    pub state: char,
    /// Process id of the parent (field 4).
    pub parent: u32,
    /// `PF_…` (field 9).
    pub flags: u32,
    /// Clock ticks from boot to start (field 22). With the process id it names a process for ever.
    pub start: u64,
    /// Bytes of all arguments with their ends (fields 48 and 49); `None` if the kernel hides it from us.
    pub arguments: Option<u64>,
    /// Where they are in the memory of the process; `None` if the kernel hides it from us.
    pub arguments_at: Option<u64>,
}

impl Stat {
    /// Reads one line. The name may hold blanks and parentheses: it ends at the last `)`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().take(60).collect();
        // The first of them is field 3.
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let number = |field_number| field(field_number)?.parse::<u64>().ok();
        let arguments = number(48).zip(number(49)).and_then(|(from, to)| to.checked_sub(from)).filter(|n| *n > 0);
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            state: field(3)?.chars().next().filter(char::is_ascii_alphabetic)?,
            parent: field(4)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            start: number(22)?,
            arguments,
            arguments_at: number(48).filter(|at| *at > 0),
        })
    }

    /// Whether it is a thread of the kernel, not a program.
    #[must_use]
    pub const fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// Whether it has started a program since it was forked.
    #[must_use]
    pub const fn has_execed(&self) -> bool {
        self.flags & FORKED_NOT_EXECED == 0
    }

    /// Whether it has ended and only waits for its parent to notice.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The program of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Its absolute path, as the process sees it.
    pub path: String,
    /// Whether the file has been removed since.
    pub deleted: bool,
}

/// The ids of all processes, at most [`PROCESS_LIMIT`], ascending; and whether there were more.
///
/// # Errors
/// `/proc` cannot be opened.
pub fn processes(host: &Host) -> io::Result<(Vec<u32>, bool)> {
    // Besides processes there are about a hundred other names.
    let mut pids: Vec<u32> = host.list("/proc", PROCESS_LIMIT + 1024)?.iter().filter_map(|n| process_id(n)).collect();
    pids.sort_unstable();
    let more = pids.len() > PROCESS_LIMIT;
    pids.truncate(PROCESS_LIMIT);
    Ok((pids, more))
}

fn process_id(name: &OsStr) -> Option<u32> {
    let text = name.to_str()?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Reads `/proc/PID/stat`.
#[must_use]
pub fn stat(host: &Host, pid: u32) -> Option<Stat> {
    Stat::parse(&host.read_text(format!("/proc/{pid}/stat"), 4096).ok()?)
}

/// Reads at most `limit` bytes of `/proc/PID/cmdline`: arguments that end with NUL; empty for a process that has ended
/// but still stands there; `None` if it is gone.
#[must_use]
pub fn arguments(host: &Host, pid: u32, limit: usize) -> Option<Vec<u8>> {
    host.read(format!("/proc/{pid}/cmdline"), limit).ok()
}

/// Reads `/proc/PID/cgroup`: a line for each hierarchy, with the path of the cgroup at its end; `None` if it is gone.
#[must_use]
pub fn cgroup(host: &Host, pid: u32) -> Option<Vec<u8>> {
    host.read(format!("/proc/{pid}/cgroup"), 4096).ok()
}

/// Reads the link `/proc/PID/exe`.
///
/// # Errors
/// `NotFound`: the process is gone, or never had a program. `PermissionDenied`: it belongs to somebody else, and we
/// lack CAP_SYS_PTRACE.
pub fn executable(host: &Host, pid: u32) -> io::Result<Executable> {
    let path = host.read_link(format!("/proc/{pid}/exe"))?.to_string_lossy().into_owned();
    Ok(named(host, path))
}

/// A program by the name that the kernel has for it, which says if the file was removed.
#[must_use]
pub fn named(host: &Host, path: String) -> Executable {
    const MARK: &str = " (deleted)";
    // A file may bear that name itself.
    match path.strip_suffix(MARK) {
        Some(before) if std::fs::symlink_metadata(host.path(&path)).is_err() => {
            Executable { path: before.to_owned(), deleted: true }
        }
        _ => Executable { path, deleted: false },
    }
}

/// The real user id of a process, from `/proc/PID/status`.
#[must_use]
pub fn user(host: &Host, pid: u32) -> Option<u32> {
    parse_user(&host.read_text(format!("/proc/{pid}/status"), 4096).ok()?)
}

/// The real user id in the text of a `status` file.
#[must_use]
pub fn parse_user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether `/proc` is mounted so that other users' processes cannot be seen without CAP_SYS_PTRACE (`hidepid`).
#[must_use]
pub fn hides_others(host: &Host) -> bool {
    hides(&host.read_text("/proc/self/mounts", 1 << 20).unwrap_or_default())
}

/// The same, by the text of `/proc/self/mounts`.
#[must_use]
pub fn hides(mounts: &str) -> bool {
    let mut options = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next()? == "/proc" && fields.next()? == "proc").then(|| fields.next()).flatten()
    });
    // The last mount lies on top.
    options.next_back().is_some_and(|text| {
        text.split(',').filter_map(|option| option.strip_prefix("hidepid=")).any(|value| !matches!(value, "0" | "off"))
    })
}

/// The inodes of the sockets that a process holds.
///
/// # Errors
/// `PermissionDenied`: they belong to somebody else; `NotFound`: the process is gone.
pub fn socket_inodes(host: &Host, pid: u32) -> io::Result<Vec<u64>> {
    let directory = format!("/proc/{pid}/fd");
    let mut inodes = Vec::new();
    for name in host.list(&directory, DESCRIPTOR_LIMIT)? {
        let Some(name) = name.to_str() else { continue };
        match host.read_link(format!("{directory}/{name}")) {
            Ok(target) => inodes.extend(target.to_str().and_then(socket_inode)),
            // The directory may be open to us and the links in it not.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // Closed meanwhile.
            Err(_) => {}
        }
    }
    Ok(inodes)
}

/// The inode of the socket that a process has under a descriptor; `None` if it is gone, none, or hidden from us.
#[must_use]
pub fn socket_inode_of(host: &Host, pid: u32, descriptor: u32) -> Option<u64> {
    socket_inode(host.read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?.to_str()?)
}

/// The inode in what a link in `/proc/PID/fd` says; `None` if it is no socket.
#[must_use]
pub fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::fixture;

    const LINE: &str = "4711 (a) (b c) S 42 4711 4711 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 98765 2000000 300 \
                        18446744073709551615 1 2 3 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 4 5 6 140000 140050 7 8 0\n";

    #[test]
    fn a_name_may_hold_blanks_and_parentheses() {
        let stat = Stat::parse(LINE).unwrap();
        assert_eq!((stat.pid, stat.name.as_str(), stat.state, stat.parent), (4711, "a) (b c", 'S', 42));
        assert_eq!((stat.start, stat.arguments), (98765, Some(50)));
        assert!(stat.has_execed() && !stat.is_kernel_thread() && !stat.is_dead());
        assert!(!Stat::parse(&LINE.replace("4194304", "64")).unwrap().has_execed());
        assert!(Stat::parse(&LINE.replace("4194304", "2097216")).unwrap().is_kernel_thread());
        assert!(Stat::parse(&LINE.replace(" S ", " Z ")).unwrap().is_dead());
        assert_eq!(Stat::parse(&LINE.replace("140000 140050", "0 0")).unwrap().arguments, None);
    }

    #[test]
    fn a_tree_is_read_below_its_root() {
        let machine = fixture::machine("board");
        let host = machine.host;
        assert_eq!(processes(&host).unwrap(), (vec![1, 2, 300, 301, 302, 303], false));
        assert_eq!(stat(&host, 300).unwrap().name, "sensor) (d");
        assert_eq!(arguments(&host, 300, 4096).unwrap(), b"/opt/sensor/sensord\0--bus\x001\0");
        assert_eq!(arguments(&host, 300, 4).unwrap(), b"/opt");
        let program = executable(&host, 300).unwrap();
        assert_eq!(program, Executable { path: "/opt/sensor/sensord".to_owned(), deleted: false });
        let removed = executable(&host, 301).unwrap();
        assert_eq!(removed, Executable { path: "/opt/old/updater".to_owned(), deleted: true });
        assert_eq!(user(&host, 300), Some(1000));
        assert_eq!(socket_inodes(&host, 300).unwrap(), vec![5001]);
        assert_eq!(arguments(&host, 9999, 4096), None);
        assert_eq!(executable(&host, 9999).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_hiding_mount_is_noticed() {
        assert!(!hides("proc /proc proc rw,nosuid 0 0\n"));
        assert!(hides("proc /proc proc rw,nosuid,gid=5,hidepid=invisible 0 0\n"));
        assert!(!hides("proc /proc proc rw,hidepid=2 0 0\nproc /proc proc rw,hidepid=0 0 0\n"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,200}") {
            let _ = Stat::parse(&text);
            let _ = Stat::parse(&format!("1 ({text}) S {text}"));
            let _ = parse_user(&text);
        }

        #[test]
        fn any_name_is_found(name in "[ -~]{0,15}") {
            let line = LINE.replace("a) (b c", &name);
            prop_assert_eq!(Stat::parse(&line).unwrap().name, name);
        }
    }
}
