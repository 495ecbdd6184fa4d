//! Waiting for a descriptor with a way to be called back early.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Calls somebody back who waits on a [`WakeFlag`]. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Ends the wait that is going on, or the next one. Several calls before a wait count as one.
    pub fn wake(&self) {
        // It can only fail when the counter is full, and then the waiter is already called.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// What a waiter looks at besides its own descriptor.
#[derive(Debug)]
pub struct WakeFlag(Arc<OwnedFd>);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The descriptor has something to read, or an error to tell.
    Ready,
    /// Somebody called.
    Called,
    /// Time is up.
    Elapsed,
}

/// What a wait on two descriptors found; nothing if time is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stirred {
    /// Somebody called.
    pub called: bool,
    /// The first descriptor has something to read, or an error to tell.
    pub readable: bool,
    /// The second one has an exceptional condition to tell, which it does once.
    pub urgent: bool,
}

impl WakeFlag {
    /// A flag that nobody has raised yet.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Hands out a way to raise it.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.0))
    }

    /// Waits until `fd` is readable, somebody calls, or `wait` has passed. A call is used up by the wait it ends.
    ///
    /// # Errors
    /// Those of `poll`.
    pub fn wait(&self, fd: Option<BorrowedFd<'_>>, wait: Duration) -> io::Result<Woken> {
        let timeout = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 86_400, tv_nsec: 0 });
        let other = fd.unwrap_or(self.0.as_fd());
        let mut fds =
            [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(Woken::Elapsed),
            // A signal: let the caller look at its clock and come again.
            Err(rustix::io::Errno::INTR) => return Ok(Woken::Called),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let [flag, _] = &fds;
        if flag.revents().is_empty() {
            return Ok(Woken::Ready);
        }
        self.lower();
        Ok(Woken::Called)
    }

    /// As [`WakeFlag::wait`], also until `urgent` has an exceptional condition (`POLLPRI`).
    ///
    /// # Errors
    /// Those of `poll`.
    pub fn wait_both(&self, readable: BorrowedFd<'_>, urgent: BorrowedFd<'_>, wait: Duration) -> io::Result<Stirred> {
        let timeout = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 86_400, tv_nsec: 0 });
        let mut fds = [
            PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(readable, PollFlags::IN),
            PollFd::from_borrowed_fd(urgent, PollFlags::PRI),
        ];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Stirred { called: true, ..Stirred::default() }),
            Err(error) => return Err(error.into()),
        }
        let [called, readable, urgent] = fds.map(|fd| !fd.revents().is_empty());
        if called {
            self.lower();
        }
        Ok(Stirred { called, readable, urgent })
    }

    /// Takes the count back to zero; nothing to read means that another wait took it.
    fn lower(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0_u8; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_one_wait_even_if_it_came_before() {
        let flag = WakeFlag::new().unwrap();
        let waker = flag.waker();
        waker.wake();
        waker.wake();
        assert_eq!(flag.wait(None, Duration::from_secs(60)).unwrap(), Woken::Called);
        assert_eq!(flag.wait(None, Duration::ZERO).unwrap(), Woken::Elapsed);
    }

    #[test]
    fn a_descriptor_ends_the_wait() {
        let flag = WakeFlag::new().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"x").unwrap();
        assert_eq!(flag.wait(Some(reader.as_fd()), Duration::from_secs(60)).unwrap(), Woken::Ready);
        let (quiet, _kept) = io::pipe().unwrap();
        let both = |first: BorrowedFd<'_>, wait| flag.wait_both(first, quiet.as_fd(), wait).unwrap();
        let minute = Duration::from_secs(60);
        assert_eq!(both(reader.as_fd(), minute), Stirred { readable: true, ..Stirred::default() });
        assert_eq!(both(quiet.as_fd(), Duration::ZERO), Stirred::default());
        flag.waker().wake();
        assert_eq!(both(quiet.as_fd(), minute), Stirred { called: true, ..Stirred::default() });
    }
}
