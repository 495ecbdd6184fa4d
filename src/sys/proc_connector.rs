//! The kernel's process connector (`CONFIG_PROC_EVENTS`): a datagram for each fork, exec and exit.
//!
//! Each netlink message carries a `cn_msg` (`linux/connector.h`) and in it a `proc_event` (`linux/cn_proc.h`), in the
//! machine's byte order, not padded in between:
//!
//! ```text
//! cn_msg      0  u32  idx, 1 for this connector       4  u32  val, 1
//!             8  u32  seq: counts the events of one CPU from boot on; in an answer, that of the question
//!             12 u32  ack: 0; in an answer, that of the question plus one
//!             16 u16  length of what follows          18 u16  flags
//! proc_event  20 u32  what: 0 answer, 1 fork, 2 exec, 0x8000_0000 exit, others not wanted here
//!             24 u32  CPU                             28 u64  time since boot in ns
//!             36 …    answer: u32 errno
//!                     fork: u32 parent thread, parent process, child thread, child process
//!                     exec: u32 thread, process
//!                     exit: u32 thread, process, exit code, exit signal
//! question    20 u32  1 listen, 2 ignore
//! ```
//!
//! The kernel counts per CPU whether or not a datagram found room, so a hole in `seq` is the exact number of lost
//! events of all kinds. Processes outside the initial PID or user namespace get no answer; without CAP_NET_ADMIN
//! kernels before 6.6 refuse to let us join the group, or answer `EPERM`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::netlink::CONNECTOR;
use thiserror::Error;

use super::clock::Clock;
use super::netlink::{self, Received, Socket, u16_at, u32_at};
use super::wake::{WakeFlag, Woken};

const GROUP: u32 = 1;
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;
/// Room for about 10,000 events: several seconds of a busy machine.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How long the kernel may take to say yes; it does so within a millisecond, or never.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// One thing that happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcEvent {
    /// A process (not a mere thread) was made.
    Fork {
        /// Who made it.
        parent: u32,
        /// Its id.
        child: u32,
    },
    /// A process started a program.
    Exec {
        /// Its id.
        pid: u32,
    },
    /// A process (not a mere thread) ended.
    Exit {
        /// Its id.
        pid: u32,
    },
}

/// A decoded connector message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An answer to a question with the sequence number `to`; `errno` is 0 for yes.
    Answer {
        /// The question's sequence number.
        to: u32,
        /// What was wrong.
        errno: u32,
    },
    /// An event; `None` if it is of a kind that is not wanted here.
    Event {
        /// The CPU that counted it.
        cpu: u32,
        /// Its number on that CPU.
        sequence: u32,
        /// What happened.
        event: Option<ProcEvent>,
    },
}

/// Decodes the body of one netlink message; `None` if it is not from this connector or is cut short.
#[must_use]
pub fn decode(body: &[u8]) -> Option<Decoded> {
    if (u32_at(body, 0)?, u32_at(body, 4)?) != (1, 1) {
        return None;
    }
    let sequence = u32_at(body, 8)?;
    let event = body.get(20..20 + usize::from(u16_at(body, 16)?))?;
    let (what, cpu, data) = (u32_at(event, 0)?, u32_at(event, 4)?, event.get(16..)?);
    let field = |i: usize| u32_at(data, i * 4);
    let event = match what {
        0 => return Some(Decoded::Answer { to: sequence, errno: field(0)? }),
        1 => {
            let (parent, thread, child) = (field(1)?, field(2)?, field(3)?);
            (thread == child).then_some(ProcEvent::Fork { parent, child })
        }
        2 => Some(ProcEvent::Exec { pid: field(1)? }),
        0x8000_0000 => {
            let (thread, pid) = (field(0)?, field(1)?);
            (thread == pid).then_some(ProcEvent::Exit { pid })
        }
        _ => None,
    };
    Some(Decoded::Event { cpu, sequence, event })
}

/// Finds holes in the counters of the CPUs.
#[derive(Debug, Default)]
pub struct Sequences(BTreeMap<u32, u32>);

impl Sequences {
    /// More CPUs than any board has; a number beyond it is not a CPU.
    const CPUS: usize = 8192;

    /// Takes the next number of a CPU and gives how many are missing before it. The first one sets the mark. A number
    /// that is more than half a round ahead was counted anew: it sets the mark too.
    pub fn missing_before(&mut self, cpu: u32, sequence: u32) -> u32 {
        let missing = self.0.get(&cpu).map_or(0, |last| sequence.wrapping_sub(last.wrapping_add(1)));
        if self.0.len() < Self::CPUS || self.0.contains_key(&cpu) {
            self.0.insert(cpu, sequence);
        }
        if missing > u32::MAX / 2 { 0 } else { missing }
    }
}

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
    /// This many events of all kinds were lost before the next one.
    Lost(u32),
    /// The receive buffer overflowed; the number comes later, with the next event of each CPU.
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
        for number in [1_u32, 1, question, 0] {
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
            match decode(message.body) {
                Some(Decoded::Answer { to, errno }) if Some(to) == question => answer = Some(errno),
                Some(Decoded::Event { cpu, sequence, event }) => {
                    let missing = self.sequences.missing_before(cpu, sequence);
                    if missing > 0 {
                        self.ready.push_back(Next::Lost(missing));
                    }
                    self.ready.extend(event.map(Next::Event));
                }
                _ => {}
            }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(sequence: u32, what: u32, cpu: u32, fields: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [1_u32, 1, sequence, 0] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(&40_u16.to_ne_bytes());
        bytes.extend_from_slice(&0_u16.to_ne_bytes());
        for number in [what, cpu] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(&123_456_789_u64.to_ne_bytes());
        for i in 0..6 {
            bytes.extend_from_slice(&fields.get(i).copied().unwrap_or(0).to_ne_bytes());
        }
        bytes
    }

    fn event(what: u32, fields: &[u32]) -> Option<ProcEvent> {
        match decode(&body(9, what, 1, fields)).unwrap() {
            Decoded::Event { cpu: 1, sequence: 9, event } => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_three_wanted_events_are_read() {
        assert_eq!(event(1, &[10, 11, 20, 20]), Some(ProcEvent::Fork { parent: 11, child: 20 }));
        assert_eq!(event(2, &[20, 21]), Some(ProcEvent::Exec { pid: 21 }));
        assert_eq!(event(0x8000_0000, &[20, 20, 256, 17]), Some(ProcEvent::Exit { pid: 20 }));
        // New and ended threads are not processes; a change of uid is not wanted.
        assert_eq!(event(1, &[10, 11, 21, 20]), None);
        assert_eq!(event(0x8000_0000, &[21, 20]), None);
        assert_eq!(event(4, &[20, 20, 1000, 1000]), None);
    }

    #[test]
    fn an_answer_carries_its_errno() {
        assert_eq!(decode(&body(77, 0, u32::MAX, &[1])), Some(Decoded::Answer { to: 77, errno: 1 }));
    }

    #[test]
    fn what_is_foreign_or_cut_is_left() {
        let whole = body(1, 2, 0, &[5, 5]);
        assert!(decode(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(decode(&whole[..end]), None, "{end}");
        }
        let mut foreign = whole.clone();
        foreign[0..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert_eq!(decode(&foreign), None);
        let mut short = whole;
        short[16..18].copy_from_slice(&8_u16.to_ne_bytes());
        assert_eq!(decode(&short), None);
    }

    #[test]
    fn holes_are_counted_per_cpu_and_over_the_turn() {
        let mut sequences = Sequences::default();
        for (cpu, sequence, missing) in [
            (0, u32::MAX - 1, 0),
            (1, 5, 0),
            (0, u32::MAX, 0),
            (0, 0, 0),
            (1, 9, 3),
            (0, 3, 2),
            (1, 10, 0),
            // Counted anew.
            (1, 0, 0),
            (1, 1, 0),
        ] {
            assert_eq!(sequences.missing_before(cpu, sequence), missing, "cpu {cpu} number {sequence}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn any_fields_are_survived(sequence: u32, what: u32, cpu: u32, fields in prop::collection::vec(any::<u32>(), 6)) {
            prop_assert!(decode(&body(sequence, what, cpu, &fields)).is_some());
        }

        /// However events are lost, the holes add up to what was lost between the first and the last that arrived.
        #[test]
        fn holes_add_up(start: u32, kept in prop::collection::vec(any::<bool>(), 1..200)) {
            let mut sequences = Sequences::default();
            let numbers: Vec<u32> = kept
                .iter()
                .enumerate()
                .filter(|(_, kept)| **kept)
                .map(|(i, _)| start.wrapping_add(u32::try_from(i).unwrap()))
                .collect();
            let missing: u32 = numbers.iter().map(|n| sequences.missing_before(3, *n)).sum();
            if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
                let span = last.wrapping_sub(*first) + 1;
                prop_assert_eq!(missing, span - u32::try_from(numbers.len()).unwrap());
            }
        }
    }
}
