//! The machine, as the probes see it: what several of them need is read once, when the first one asks.

use std::cell::{Cell, OnceCell};
use std::path::Path;

use super::verdict::Verdict;
use crate::sys::account_files::{self, Account, Group, Shadow};
use crate::sys::file_id::FileId;
use crate::sys::host::Host;
use crate::sys::mounts;
use crate::sys::packages::{self, Installed};
use crate::sys::platform::Platform;
use crate::sys::sockets::{self, BoundSocket};
use crate::sys::sshd_config::Options;
use crate::sys::text_file::Unreadable;
use crate::sys::units::Units;

/// More of a table of mounts than a board has.
const MOUNTS: usize = 1 << 20;
/// So many passwords are tried in a run: each takes some milliseconds.
const TRIES: u32 = 12;

/// The machine as its first process sees it.
const FIRST: &str = "/proc/1/root";

fn unseen() -> Cannot {
    Cannot("what the first process sees there is not told to us: CAP_SYS_PTRACE, which root has, allows it".to_owned())
}

/// Why a probe has no answer, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cannot(pub String);

impl From<Unreadable> for Cannot {
    fn from(error: Unreadable) -> Self {
        Self(error.to_string())
    }
}

impl From<Result<Verdict, Cannot>> for Verdict {
    fn from(result: Result<Verdict, Cannot>) -> Self {
        result.unwrap_or_else(|Cannot(why)| Self::Unknown(why))
    }
}

type Once<T> = OnceCell<Result<T, Cannot>>;

/// The machine, and what was read of it.
pub struct Machine<'a> {
    /// Its files.
    pub host: &'a Host,
    /// Its files as the first process sees them.
    first: Host,
    platform: OnceCell<Platform>,
    accounts: Once<Vec<Account>>,
    groups: Once<Vec<Group>>,
    shadow: Once<Option<Vec<Shadow>>>,
    sshd: Once<Option<Options>>,
    units: Once<Units>,
    packages: Once<Installed>,
    waiting: Once<Option<Vec<BoundSocket>>>,
    mounts: OnceCell<Option<Vec<u8>>>,
    elsewhere: OnceCell<Option<bool>>,
    tries: Cell<u32>,
}

fn once<T>(cell: &Once<T>, read: impl FnOnce() -> Result<T, Unreadable>) -> Result<&T, Cannot> {
    cell.get_or_init(|| read().map_err(Cannot::from)).as_ref().map_err(Clone::clone)
}

impl<'a> Machine<'a> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(host: &'a Host) -> Self {
        Self {
            host,
            first: Host::rooted(FIRST),
            platform: OnceCell::new(),
            accounts: OnceCell::new(),
            groups: OnceCell::new(),
            shadow: OnceCell::new(),
            sshd: OnceCell::new(),
            units: OnceCell::new(),
            packages: OnceCell::new(),
            waiting: OnceCell::new(),
            mounts: OnceCell::new(),
            elsewhere: OnceCell::new(),
            tries: Cell::new(TRIES),
        }
    }

    pub(super) fn platform(&self) -> &Platform {
        self.platform.get_or_init(|| Platform::read(self.host))
    }

    pub(super) fn accounts(&self) -> Result<&[Account], Cannot> {
        once(&self.accounts, || account_files::accounts(self.host)).map(Vec::as_slice)
    }

    pub(super) fn groups(&self) -> Result<&[Group], Cannot> {
        once(&self.groups, || account_files::groups(self.host)).map(Vec::as_slice)
    }

    pub(super) fn shadow(&self) -> Result<Option<&[Shadow]>, Cannot> {
        once(&self.shadow, || account_files::shadow(self.host)).map(Option::as_deref)
    }

    /// `None` if there is no SSH server.
    pub(super) fn sshd(&self) -> Result<Option<&Options>, Cannot> {
        once(&self.sshd, || Options::read(self.host)).map(Option::as_ref)
    }

    pub(super) fn units(&self) -> Result<&Units, Cannot> {
        once(&self.units, || Units::read(self.host))
    }

    pub(super) fn packages(&self) -> Result<&Installed, Cannot> {
        once(&self.packages, || packages::installed(self.host))
    }

    /// Sockets that wait; `None` on an image, which has none.
    pub(super) fn waiting(&self) -> Result<Option<&[BoundSocket]>, Cannot> {
        let read = || {
            if !self.host.is_live() && self.host.facts("/proc/net").is_err() {
                return Ok(None);
            }
            let listing = sockets::waiting(self.host);
            if !listing.unreadable.is_empty() || listing.cut {
                return Err(Cannot(format!("the sockets cannot be listed: {}", listing.unreadable.join(", "))));
            }
            Ok(Some(listing.sockets))
        };
        self.waiting.get_or_init(read).as_ref().map(Option::as_deref).map_err(Clone::clone)
    }

    /// The table of what is mounted; `None` on an image. That of the first process is preferred: a service may have one
    /// of its own.
    pub(super) fn mounts(&self) -> Result<Option<&[u8]>, Cannot> {
        let read = |path| self.host.read(path, MOUNTS).ok().filter(|table| !table.is_empty());
        let own = || if self.elsewhere() == Some(false) { read(mounts::PATH) } else { None };
        let table = self.mounts.get_or_init(|| read("/proc/1/mountinfo").or_else(own)).as_deref();
        if table.is_none() && self.elsewhere() != Some(false) { Err(unseen()) } else { Ok(table) }
    }

    /// Whether systemd shows this process files of its own in `/dev`, `/tmp` and `/home`; `None` if that is not told to us.
    fn elsewhere(&self) -> Option<bool> {
        let host = self.host;
        *self.elsewhere.get_or_init(|| {
            if !host.is_live() {
                return Some(false);
            }
            let space = |process: &str| host.read_link(format!("/proc/{process}/ns/mnt")).ok();
            if space("1")? == space("self")? {
                return Some(false);
            }
            // In a container that sees the processes of its host, the first one is of another machine.
            let place = |path: &str| FileId::at(&host.path(path)).ok();
            Some(place("/etc")? == place(&format!("{FIRST}/etc"))?)
        })
    }

    /// The machine on which to look for a path: the first process sees the whole one, and its root is open to whoever may
    /// trace it. Links are followed there, not in what this process is shown.
    ///
    /// # Errors
    /// The path may be another one for this process than for the machine.
    pub(super) fn place(&self, path: &str) -> Result<&Host, Cannot> {
        const PRIVATE: [&str; 6] = ["/dev", "/tmp", "/var/tmp", "/home", "/root", "/run/user"];
        match self.elsewhere() {
            _ if !PRIVATE.iter().any(|place| Path::new(path).starts_with(place)) => Ok(self.host),
            Some(true) => Ok(&self.first),
            Some(false) => Ok(self.host),
            None => Err(unseen()),
        }
    }

    /// Whether one more password may be tried.
    pub(super) fn may_try(&self) -> bool {
        let left = self.tries.get();
        self.tries.set(left.saturating_sub(1));
        left > 0
    }
}
