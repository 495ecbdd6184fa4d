//! The kernel's process connector: a subscription to what [`super::proc_event`] decodes.
//!
//! Processes outside the initial PID or user namespace get no answer to their subscription; without CAP_NET_ADMIN
//! kernels before 6.6 refuse to let us join the group, or answer `EPERM`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::netlink::CONNECTOR;
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

use super::clock::Clock;
use super::netlink::{self, Received, Socket};
use super::proc_event::{Decoded, Hole, ProcEvent, Sequences, decode};
use super::wake::{WakeFlag, Woken};

const GROUP: u32 = 1;
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;
/// Room for about 10,000 events: several seconds of a busy machine.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How long the kernel may take to say yes; it does so within a millisecond, or never.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Why there is no process connector here.
#[derive(Debug, Error)]
pub enum ConnectorError {
    /// The kernel was built without it.
    #[error("this kernel has no process connector (CONFIG_PROC_EVENTS)")]
    Absent,
    /// The kernel does not let us listen.
    #[error("the kernel refuses the process connector: it needs CAP_NET_ADMIN on kernels before 6.6")]
    NotPermitted,
    /// No answer came.
    #[error(
        "the process connector did not acknowledge within 1 s: the kernel lacks CONFIG_PROC_EVENTS, or this is not the \
         initial PID and user namespace"
    )]
    NoAnswer,
    /// Something else.
    #[error("process connector: {0}")]
    Io(#[from] io::Error),
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event.
    Event(ProcEvent),
    /// Messages were lost before the next one.
    Lost(Hole),
    /// The receive buffer overflowed; the number comes with the next message of each CPU.
    Overflow,
    /// Nothing waits.
    Empty,
}

/// An acknowledged subscription.
#[derive(Debug)]
pub struct ProcConnector {
    socket: Socket,
    sequences: Sequences,
    ready: VecDeque<Next>,
    buffer: Vec<u8>,
}

impl ProcConnector {
    /// Subscribes and waits for the kernel's yes.
    ///
    /// # Errors
    /// Says why this machine, or this user, has none.
    pub fn open(clock: &dyn Clock) -> Result<Self, ConnectorError> {
        let socket = Socket::open(CONNECTOR, GROUP).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ConnectorError::NotPermitted,
            _ if error.raw_os_error() == Some(rustix::io::Errno::PROTONOSUPPORT.raw_os_error()) => {
                ConnectorError::Absent
            }
            _ => ConnectorError::Io(error),
        })?;
        socket.raise_buffer(RECEIVE_BUFFER);
        let mut connector =
            Self { socket, sequences: Sequences::default(), ready: VecDeque::new(), buffer: vec![0; 8192] };
        // Answers go to every listener of the machine: ours must be told from theirs.
        let question = fastrand::u32(1..u32::MAX);
        connector.ask(LISTEN, question)?;
        connector.await_answer(question, clock)?;
        Ok(connector)
    }

    fn ask(&self, operation: u32, question: u32) -> io::Result<()> {
        let mut body = Vec::with_capacity(24);
        for number in [1_u32, 1, question, question] {
            body.extend_from_slice(&number.to_ne_bytes());
        }
        body.extend_from_slice(&4_u16.to_ne_bytes());
        body.extend_from_slice(&0_u16.to_ne_bytes());
        body.extend_from_slice(&operation.to_ne_bytes());
        self.socket.send(&netlink::request(netlink::TYPE_DONE, 0, question, &body))
    }

    fn await_answer(&mut self, question: u32, clock: &dyn Clock) -> Result<(), ConnectorError> {
        let flag = WakeFlag::new()?;
        let until = clock.now().mono.after(ANSWER_WAIT);
        loop {
            while let Received::Datagram(length) = self.socket.receive(&mut self.buffer)? {
                match self.take(length, Some(question)) {
                    Some(0) => return Ok(()),
                    Some(1 | 13) => return Err(ConnectorError::NotPermitted),
                    Some(errno) => {
                        return Err(io::Error::from_raw_os_error(i32::try_from(errno).unwrap_or(0)).into());
                    }
                    None => {}
                }
            }
            let left = until.since(clock.now().mono);
            // Time is up by the clock, or by the wait itself if the clock stands still.
            if left.is_zero() || flag.wait(Some(self.socket.as_fd()), left)? == Woken::Elapsed {
                return Err(ConnectorError::NoAnswer);
            }
        }
    }

    /// Decodes the first `length` bytes of the buffer into `ready`; gives the answer to `question` if it is there.
    fn take(&mut self, length: usize, question: Option<u32>) -> Option<u32> {
        let mut answer = None;
        for message in netlink::messages(self.buffer.get(..length).unwrap_or_default()) {
            let (counted, event) = match decode(message.body) {
                Some(Decoded::Answer { to, counted, errno }) => {
                    if Some(to) == question {
                        answer = Some(errno);
                    }
                    (counted, None)
                }
                Some(Decoded::Event { counted, event }) => (Some(counted), event),
                None => (None, None),
            };
            let hole = counted.and_then(|counted| self.sequences.hole_before(counted));
            self.ready.extend(hole.map(Next::Lost));
            self.ready.extend(event.map(Next::Event));
        }
        answer
    }

    /// The next thing, without waiting.
    ///
    /// # Errors
    /// The socket is broken; subscribe anew.
    pub fn read(&mut self) -> io::Result<Next> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Ok(next);
            }
            match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(length) => {
                    self.take(length, None);
                }
                Received::Overflow => return Ok(Next::Overflow),
                Received::Empty => return Ok(Next::Empty),
            }
        }
    }
}

/// How long ago a moment of a [`Hole`] was.
#[must_use]
pub fn age(nanoseconds: u64) -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default().saturating_sub(Duration::from_nanos(nanoseconds))
}

impl AsFd for ProcConnector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for ProcConnector {
    fn drop(&mut self) {
        // The kernel stops making events when the last listener has gone; older ones do not notice a closed socket.
        let _ = self.ask(IGNORE, 0);
    }
}
