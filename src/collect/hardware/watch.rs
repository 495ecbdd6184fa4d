//! Listens to the kernel's notices about devices and feeds the recorder.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::recorder::Writer;
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::uevent::{Next, UeventSocket};
use crate::sys::wake::{WakeFlag, Waker};

/// Nothing is due at any time; only to have an end.
const WAIT: Duration = Duration::from_secs(86_400);

/// A subscription that nobody reads yet.
#[derive(Debug)]
pub struct Watch {
    socket: UeventSocket,
    flag: WakeFlag,
    stopped: Arc<AtomicBool>,
}

/// Ends [`Watch::follow`].
#[derive(Clone, Debug)]
pub struct WatchStop {
    stopped: Arc<AtomicBool>,
    waker: Waker,
}

impl WatchStop {
    /// The watch ends soon; nobody waits for it.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Watch {
    /// Subscribes: from here on nothing is missed.
    ///
    /// # Errors
    /// The kernel has no such notices, or does not give them to us.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: UeventSocket::open()?, flag: WakeFlag::new()?, stopped: Arc::default() })
    }

    /// A way to end it.
    #[must_use]
    pub fn stop(&self) -> WatchStop {
        WatchStop { stopped: Arc::clone(&self.stopped), waker: self.flag.waker() }
    }

    /// Tells `writer` what the kernel tells, until it is stopped. Sleeps as long as nothing happens.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn follow(&mut self, host: &Host, clock: &dyn Clock, writer: &Writer) -> io::Result<()> {
        while !self.stopped.load(Ordering::Acquire) {
            match self.socket.read()? {
                Next::Told(told) => writer.notice(host, &told, clock.now()),
                Next::Strange => {}
                Next::Lost => writer.lost(),
                Next::Empty => {
                    self.flag.wait(Some(self.socket.as_fd()), WAIT)?;
                }
            }
        }
        Ok(())
    }
}
