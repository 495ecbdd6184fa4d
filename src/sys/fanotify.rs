//! Being told of each file that is opened to be run: fanotify(7) with marks on whole file systems.
//!
//! The kernel tells of an opening before the program runs, with the process id and a descriptor of the file. It waits for
//! no answer. It asks for no rights beyond CAP_SYS_ADMIN in the initial user namespace. Two notices of the same file by
//! the same process are one as long as neither has been read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::{CWD, Mode, OFlags, open};
use thiserror::Error;

use super::mounts::Mount;

/// Why there is no fanotify here.
#[derive(Debug, Error)]
pub enum FanotifyError {
    /// The kernel was built without it.
    #[error("this kernel has no fanotify (CONFIG_FANOTIFY)")]
    Absent,
    /// The kernel does not let us watch.
    #[error(
        "the kernel refuses fanotify on whole file systems: this is not the initial user namespace, or the system calls \
         fanotify_init and fanotify_mark are forbidden (SystemCallFilter= of the unit)"
    )]
    NotPermitted,
    /// The kernel knows no notices of programs.
    #[error("this kernel's fanotify does not tell of programs: that needs Linux 5.0")]
    Old,
    /// It is not what a look at its place finds.
    #[error("another file system is mounted over it")]
    Covered,
    /// Something else.
    #[error("fanotify: {0}")]
    Io(#[from] io::Error),
}

/// A file that was opened to be run. It is closed with this value.
#[derive(Debug)]
pub struct Opened(FanotifyEvent);

impl Opened {
    /// The process; `None` if it is not in our PID namespace.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.0.pid()).ok().filter(|pid| *pid != 0)
    }

    /// The file, to be read; `None` if the notice has none.
    #[must_use]
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.0.fd()
    }

    /// The name of the file, as the kernel has it.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn path(&self) -> io::Result<PathBuf> {
        let file = self.file().ok_or(io::ErrorKind::NotFound)?;
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }
}

/// What one read gave.
#[derive(Debug)]
pub enum Told {
    /// Files were opened; as many as fit in 4 KiB, about 170.
    Opened(Vec<Opened>),
    /// As `Opened`, and after these the kernel's queue was full: it dropped what came then.
    Overflow(Vec<Opened>),
    /// The kernel could not open the file of a notice for us, and dropped it.
    Lost(io::Error),
    /// Nothing waits.
    Empty,
}

/// Watched file systems.
#[derive(Debug)]
pub struct Watch(Fanotify);

impl Watch {
    /// Watches none yet.
    ///
    /// # Errors
    /// Says why this machine, or this user, cannot.
    pub fn new() -> Result<Self, FanotifyError> {
        let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let files = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE;
        match Fanotify::init(flags, files) {
            Ok(group) => Ok(Self(group)),
            Err(Errno::ENOSYS) => Err(FanotifyError::Absent),
            Err(Errno::EPERM) => Err(FanotifyError::NotPermitted),
            Err(error) => Err(FanotifyError::Io(error.into())),
        }
    }

    /// Watches the file system of a mount from now on, if it can be reached where it is mounted. To watch it again
    /// changes nothing.
    ///
    /// # Errors
    /// [`FanotifyError::Covered`]: another mount lies above this one. Else the kernel's reason.
    pub fn mark(&self, mount: &Mount) -> Result<(), FanotifyError> {
        let place = open(&mount.point, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from)?;
        if mount_id(&place)? != Some(mount.id) {
            return Err(FanotifyError::Covered);
        }
        // The mount point may be a file.
        let path = format!("/proc/self/fd/{}", place.as_raw_fd());
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        match self.0.mark(flags, MaskFlags::FAN_OPEN_EXEC, CWD, Some(path.as_str())) {
            Ok(()) => Ok(()),
            Err(Errno::EPERM) => Err(FanotifyError::NotPermitted),
            Err(Errno::EINVAL) => Err(FanotifyError::Old),
            Err(error) => Err(FanotifyError::Io(error.into())),
        }
    }

    /// The next notices, without waiting.
    ///
    /// # Errors
    /// The watch is broken; open it anew.
    pub fn read(&self) -> io::Result<Told> {
        let events = match self.0.read_events() {
            Ok(events) => events,
            Err(Errno::EAGAIN) => return Ok(Told::Empty),
            Err(Errno::EINTR) => Vec::new(),
            Err(error @ (Errno::EBADF | Errno::EINVAL | Errno::EFAULT)) => return Err(error.into()),
            Err(error) => return Ok(Told::Lost(error.into())),
        };
        if events.iter().any(|event| !event.check_version()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "notices of an unknown version"));
        }
        let full = events.iter().any(|event| event.mask().contains(MaskFlags::FAN_Q_OVERFLOW));
        let opened = events.into_iter().filter(|event| event.fd().is_some()).map(Opened).collect();
        Ok(if full { Told::Overflow(opened) } else { Told::Opened(opened) })
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The number of the mount that a descriptor is in (`fdinfo` in `proc(5)`).
fn mount_id(place: &OwnedFd) -> io::Result<Option<u64>> {
    let mut text = String::new();
    File::open(format!("/proc/self/fdinfo/{}", place.as_raw_fd()))?.take(4096).read_to_string(&mut text)?;
    Ok(text.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok()))
}
