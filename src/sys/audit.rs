//! The kernel's audit system over netlink (family 9): its state, its rules, and its records.
//!
//! Requests and answers have the common framing of [`super::netlink`]. Types (`linux/audit.h`): 1000 GET, 1001 SET,
//! 1011 ADD_RULE, 1012 DEL_RULE, 1013 LIST_RULES, 1100 to 2999 records. `struct audit_status`, eleven `u32`:
//!
//! ```text
//!  0  which of the following are set: 1 enabled, 2 failure, 4 pid, 8 rate, 0x10 backlog limit, 0x20 wait time
//!  4  enabled: 0 off, 1 on, 2 on and locked until the next boot
//!  8  what the kernel does when it loses a record: 0 nothing, 1 log, 2 panic
//! 12  process that reads the records, 0 for none
//! 16  records per second, 0 for no limit
//! 20  records that may wait
//! 24  records lost since boot
//! 28  records that wait
//! 32  features: 8 exclude rules may have more conditions than the type
//! 36  how long a process is stopped when too many records wait, in jiffies
//! 40  how long that was so far
//! ```
//!
//! A record is a datagram of its own. Its header cannot be believed: for the one process that reads (by SET pid) the
//! kernel leaves the 16 bytes of the header out of the length, for listeners of the multicast group it does not. The
//! datagram's own length counts.
//!
//! The kernel wants CAP_AUDIT_CONTROL for state and rules, CAP_AUDIT_READ for the group, and the initial user and PID
//! namespaces.

pub mod arch;
pub mod assemble;
pub mod record;
pub mod rule;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::AUDIT;
use thiserror::Error;

use super::netlink::{self, HEADER, Received, Socket, u16_at, u32_at};
use super::wake::{WakeFlag, Woken};
use rule::Listed;

const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD_RULE: u16 = 1011;
const DELETE_RULE: u16 = 1012;
const LIST_RULES: u16 = 1013;
/// Flag: acknowledge.
const FLAG_ACKNOWLEDGE: u16 = 4;
/// The multicast group of readers.
const READERS: u32 = 1;
/// Room for a second of a busy machine: a record takes about 2 KiB there.
const RECEIVE_BUFFER: usize = 8 << 20;
/// The longest record of the kernel is below 9 KiB.
const DATAGRAM: usize = 16 << 10;
/// How long the kernel may take to answer; it does so within milliseconds.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// More answers to one question are not waited for.
const ANSWERS: usize = 4096;

/// Why the audit system cannot be used.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The kernel was built without it.
    #[error("this kernel has no audit system (CONFIG_AUDIT)")]
    Absent,
    /// Not for us.
    #[error("the kernel refuses the audit system: it needs {0}, and the initial user and PID namespaces")]
    NotPermitted(&'static str),
    /// No answer came.
    #[error("the audit system did not answer within 2 s")]
    NoAnswer,
    /// Something else.
    #[error("audit: {0}")]
    Io(#[from] io::Error),
}

impl AuditError {
    /// Whether the kernel answered with this error.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Io(error) if error.raw_os_error() == Some(errno.raw_os_error()))
    }
}

fn explained(error: io::Error, needs: &'static str) -> AuditError {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => AuditError::Absent,
        // Refused: what the kernel says outside of the initial user namespace.
        Some(Errno::PERM | Errno::ACCESS | Errno::CONNREFUSED) => AuditError::NotPermitted(needs),
        _ => AuditError::Io(error),
    }
}

/// The state of the audit system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// 0 off, 1 on, 2 on and locked.
    pub enabled: u32,
    /// 2 if the kernel panics when it loses a record.
    pub failure: u32,
    /// The process that reads the records, 0 for none.
    pub pid: u32,
    /// Records that may wait.
    pub backlog_limit: u32,
    /// Records lost since boot.
    pub lost: u32,
    /// Whether exclude rules may have conditions besides the type (Linux 4.8).
    pub rich_excludes: bool,
    /// How long a process may be stopped when too many records wait, in jiffies.
    pub backlog_wait_time: u32,
}

impl Status {
    fn decode(body: &[u8]) -> Option<Self> {
        Some(Self {
            enabled: u32_at(body, 4)?,
            failure: u32_at(body, 8)?,
            pid: u32_at(body, 12)?,
            backlog_limit: u32_at(body, 20)?,
            lost: u32_at(body, 24)?,
            rich_excludes: u32_at(body, 32)? & 8 != 0,
            backlog_wait_time: u32_at(body, 36).unwrap_or(0),
        })
    }
}

/// One change of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// 0 off, 1 on.
    Enabled(u32),
    /// Records that may wait.
    BacklogLimit(u32),
    /// How long a process may be stopped when too many records wait, in jiffies.
    BacklogWaitTime(u32),
}

fn state(mask: u32, place: usize, value: u32) -> Vec<u8> {
    let mut numbers = [0_u32; 11];
    if let Some(number) = numbers.first_mut() {
        *number = mask;
    }
    if let Some(number) = numbers.get_mut(place) {
        *number = value;
    }
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// A socket for questions and changes.
#[derive(Debug)]
pub struct Control {
    socket: Socket,
    flag: WakeFlag,
    sequence: u32,
}

impl Control {
    /// Opens it; the first question tells whether it may be used.
    ///
    /// # Errors
    /// [`AuditError::Absent`].
    pub fn open() -> Result<Self, AuditError> {
        let socket = Socket::open(AUDIT, 0).map_err(|error| explained(error, "CAP_AUDIT_CONTROL"))?;
        Ok(Self { socket, flag: WakeFlag::new()?, sequence: 0 })
    }

    /// The state.
    ///
    /// # Errors
    /// Any [`AuditError`].
    pub fn status(&mut self) -> Result<Status, AuditError> {
        let mut found = None;
        self.ask(GET, &[], |kind, body| {
            found = (kind == GET).then(|| Status::decode(body)).flatten();
            found.is_some()
        })?;
        found.ok_or(AuditError::NoAnswer)
    }

    /// Changes the state.
    ///
    /// # Errors
    /// Any [`AuditError`].
    pub fn set(&mut self, change: Change) -> Result<(), AuditError> {
        let body = match change {
            Change::Enabled(value) => state(1, 1, value),
            Change::BacklogLimit(value) => state(0x10, 5, value),
            Change::BacklogWaitTime(value) => state(0x20, 9, value),
        };
        self.order(SET, &body)
    }

    /// Adds a rule behind the others; `false` if there is an equal one.
    ///
    /// # Errors
    /// Any [`AuditError`]; `EPERM` also if the rules are locked.
    pub fn add(&mut self, rule: &[u8]) -> Result<bool, AuditError> {
        match self.order(ADD_RULE, rule) {
            Err(error) if error.is(Errno::EXIST) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Removes a rule; it is no error if it is gone already.
    ///
    /// # Errors
    /// Any [`AuditError`].
    pub fn delete(&mut self, rule: &[u8]) -> Result<(), AuditError> {
        match self.order(DELETE_RULE, rule) {
            Err(error) if error.is(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// All rules of everybody, at most some thousands.
    ///
    /// # Errors
    /// Any [`AuditError`].
    pub fn rules(&mut self) -> Result<Vec<Listed>, AuditError> {
        let mut found = Vec::new();
        self.ask(LIST_RULES, &[], |kind, body| {
            if kind == LIST_RULES {
                found.push(Listed { bytes: body.to_vec() });
            }
            kind == netlink::TYPE_DONE
        })?;
        Ok(found)
    }

    fn order(&mut self, kind: u16, body: &[u8]) -> Result<(), AuditError> {
        self.ask(kind, body, |kind, _| kind == netlink::TYPE_ERROR)
    }

    /// Sends a request and hands over each answer to it, until one is the last. An error ends it as well.
    fn ask(&mut self, kind: u16, body: &[u8], last: impl FnMut(u16, &[u8]) -> bool) -> Result<(), AuditError> {
        self.sequence = self.sequence.wrapping_add(1);
        ask(&self.socket, &self.flag, kind, self.sequence, body, last)
    }
}

fn ask(
    socket: &Socket,
    flag: &WakeFlag,
    kind: u16,
    sequence: u32,
    body: &[u8],
    mut last: impl FnMut(u16, &[u8]) -> bool,
) -> Result<(), AuditError> {
    socket.send(&netlink::request(kind, FLAG_ACKNOWLEDGE, sequence, body))?;
    let mut buffer = vec![0; DATAGRAM];
    for _ in 0..ANSWERS {
        match socket.receive(&mut buffer)? {
            Received::Datagram(length) => {
                for message in netlink::messages(buffer.get(..length).unwrap_or_default()) {
                    // Records that come in between are told from answers by their sequence number, which is 0.
                    if message.sequence != sequence {
                        continue;
                    }
                    if message.kind == netlink::TYPE_ERROR
                        && let Some(error) = netlink::error_of(&message)
                    {
                        return Err(explained(error, "CAP_AUDIT_CONTROL"));
                    }
                    if last(message.kind, message.body) {
                        return Ok(());
                    }
                }
            }
            Received::Overflow => return Err(io::Error::from(Errno::NOBUFS).into()),
            Received::Empty => {
                if flag.wait(Some(socket.as_fd()), ANSWER_WAIT)? == Woken::Elapsed {
                    return Err(AuditError::NoAnswer);
                }
            }
        }
    }
    Err(AuditError::NoAnswer)
}

/// What one read of the records gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A record.
    Record {
        /// Its type.
        kind: u16,
        /// Its text.
        body: &'a [u8],
    },
    /// The receive buffer overflowed: records were lost.
    Overflow,
    /// Nothing waits.
    Empty,
}

/// A stream of records.
#[derive(Debug)]
pub struct Records {
    socket: Socket,
    buffer: Vec<u8>,
    owner: bool,
}

impl Records {
    /// Becomes the one process that reads. Ends when this is dropped.
    ///
    /// # Errors
    /// `EEXIST`: another one is there.
    pub fn own() -> Result<Self, AuditError> {
        let mut records = Self::open(0)?;
        records.set_owner(std::process::id())?;
        records.owner = true;
        Ok(records)
    }

    /// Listens beside whoever reads.
    ///
    /// # Errors
    /// [`AuditError::NotPermitted`].
    pub fn listen() -> Result<Self, AuditError> {
        Self::open(READERS)
    }

    fn open(groups: u32) -> Result<Self, AuditError> {
        let socket = Socket::open(AUDIT, groups).map_err(|error| explained(error, "CAP_AUDIT_READ"))?;
        socket.raise_buffer(RECEIVE_BUFFER);
        Ok(Self { socket, buffer: vec![0; DATAGRAM], owner: false })
    }

    fn set_owner(&self, pid: u32) -> Result<(), AuditError> {
        // Records may already flow between the order and its answer; what they tell is from before the start.
        ask(&self.socket, &WakeFlag::new()?, SET, u32::MAX, &state(4, 3, pid), |kind, _| kind == netlink::TYPE_ERROR)
    }

    /// Whether we are the one process that reads.
    #[must_use]
    pub const fn is_owner(&self) -> bool {
        self.owner
    }

    /// The next record, without waiting.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn read(&mut self) -> io::Result<Next<'_>> {
        match self.socket.receive(&mut self.buffer)? {
            Received::Datagram(length) => {
                let datagram = self.buffer.get(..length).unwrap_or_default();
                let body = datagram.get(HEADER..).unwrap_or_default();
                Ok(Next::Record { kind: u16_at(datagram, 4).unwrap_or(0), body })
            }
            Received::Overflow => Ok(Next::Overflow),
            Received::Empty => Ok(Next::Empty),
        }
    }
}

impl AsFd for Records {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        if self.owner {
            // If it fails, the kernel finds out by itself with the next record that it cannot deliver.
            let _ = self.socket.send(&netlink::request(SET, 0, 0, &state(4, 3, 0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_the_layout_of_the_kernel() {
        let mut bytes: Vec<u8> = (0_u32..11).flat_map(u32::to_ne_bytes).collect();
        let status = Status::decode(&bytes).unwrap();
        assert_eq!((status.enabled, status.failure, status.pid), (1, 2, 3));
        assert_eq!((status.backlog_limit, status.lost, status.backlog_wait_time), (5, 6, 9));
        assert!(status.rich_excludes);
        // Kernels before 3.14 end before the wait time.
        bytes.truncate(36);
        assert_eq!(Status::decode(&bytes).unwrap().backlog_wait_time, 0);
        assert_eq!(Status::decode(&bytes[..8]), None);
        assert_eq!(u32_at(&state(0x20, 9, 7), 36), Some(7));
        assert_eq!(state(4, 3, 1).len(), 44);
    }

    #[test]
    fn errors_say_what_is_missing() {
        let error = |errno: Errno| explained(errno.into(), "CAP_X").to_string();
        assert!(error(Errno::PERM).contains("CAP_X"));
        assert!(error(Errno::CONNREFUSED).contains("initial user"));
        assert!(error(Errno::PROTONOSUPPORT).contains("CONFIG_AUDIT"));
        assert!(explained(Errno::EXIST.into(), "").is(Errno::EXIST));
    }
}
