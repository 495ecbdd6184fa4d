//! Being told by the kernel of each thread that ends: what [`super::exit_record`] decodes.
//!
//! A listener is registered with command 1 and attribute 3, the processors whose ends it wants (`0-3`). The kernel
//! accepts it in the initial user and PID namespace only, with CAP_NET_ADMIN.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::netlink::GENERIC;
use thiserror::Error;

use super::exit_record::{self, Ended, FIRST_VERSION, Layout};
use super::generic_netlink::{self, ask};
use super::host::Host;
use super::netlink::{self, Received, Socket};

const FAMILY: &str = "TASKSTATS";
const GET: u8 = 1;
const ATTRIBUTE_PID: u16 = 1;
const ATTRIBUTE_LISTEN: u16 = 3;
/// Room for about 2,000 ends: several times what happens on a busy machine in a tenth of a second.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A record is about 500 bytes, two of them are in a message at most.
const BUFFER: usize = 8192;

/// Why the kernel tells us of no ends.
#[derive(Debug, Error)]
pub enum TaskstatsError {
    /// The kernel was built without it.
    #[error("this kernel has no task statistics (CONFIG_TASKSTATS)")]
    Absent,
    /// The kernel does not let us ask.
    #[error("the kernel refuses task statistics: they need CAP_NET_ADMIN in the initial user namespace")]
    NotPermitted,
    /// The kernel does not let us listen.
    #[error("the kernel gives task statistics to the initial PID and user namespace only")]
    Namespace,
    /// Threads cannot be told from processes.
    #[error("task statistics of this kernel (version {0}) do not tell processes from threads: that needs Linux 5.19")]
    Old(u16),
    /// None of the layouts fits.
    #[error("task statistics of this kernel (version {0}) have an unknown layout")]
    Layout(u16),
    /// Something else.
    #[error("task statistics: {0}")]
    Io(#[from] io::Error),
}

/// What one read gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A thread ended.
    Ended(Ended),
    /// The receive buffer overflowed: records before this were lost.
    Overflow,
    /// Nothing waits.
    Empty,
}

/// A registered listener.
#[derive(Debug)]
pub struct Taskstats {
    socket: Socket,
    family: u16,
    layout: Layout,
    buffer: Vec<u8>,
}

impl Taskstats {
    /// Finds out how the records are laid out, and registers for all processors.
    ///
    /// # Errors
    /// Says why this machine, or this user, has none.
    pub fn open(host: &Host) -> Result<Self, TaskstatsError> {
        let socket = Socket::open(GENERIC, 0)?;
        let mut buffer = vec![0; BUFFER];
        let family = generic_netlink::family(&socket, FAMILY, &mut buffer)?.ok_or(TaskstatsError::Absent)?;
        let own = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        let question = generic_netlink::body(GET, ATTRIBUTE_PID, &own.to_ne_bytes());
        let about_us = ask(&socket, family, &question, &mut buffer, |body| Some(body.to_vec()))
            .map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => TaskstatsError::NotPermitted,
                _ => error.into(),
            })?
            .unwrap_or_default();
        let version = exit_record::version(&about_us).unwrap_or(0);
        if version < FIRST_VERSION {
            return Err(TaskstatsError::Old(version));
        }
        let layout = Layout::KNOWN.into_iter().find(|layout| layout.fits(&about_us, own));
        let layout = layout.ok_or(TaskstatsError::Layout(version))?;
        socket.raise_buffer(RECEIVE_BUFFER);
        let mut processors = host.read("/sys/devices/system/cpu/possible", 4096)?.trim_ascii().to_vec();
        processors.push(0);
        let listen = generic_netlink::body(GET, ATTRIBUTE_LISTEN, &processors);
        ask::<()>(&socket, family, &listen, &mut buffer, |_| None).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => TaskstatsError::Namespace,
            _ => error.into(),
        })?;
        Ok(Self { socket, family, layout, buffer })
    }

    /// The next thing, without waiting. The kernel forgets the listener when its socket is closed.
    ///
    /// # Errors
    /// The socket is broken; open it anew.
    pub fn read(&mut self) -> io::Result<Next> {
        loop {
            match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(length) => {
                    // The kernel sends one message at a time.
                    let mut messages = netlink::messages(self.buffer.get(..length).unwrap_or_default());
                    let message = messages.find(|message| message.kind == self.family);
                    if let Some(ended) = message.and_then(|m| exit_record::decode(m.body, self.layout)) {
                        return Ok(Next::Ended(ended));
                    }
                }
                Received::Overflow => return Ok(Next::Overflow),
                Received::Empty => return Ok(Next::Empty),
            }
        }
    }
}

impl AsFd for Taskstats {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
