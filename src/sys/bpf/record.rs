//! The records that the kernel's programs (`bpf/twinward.bpf.c`) write into the ring.
//!
//! Numbers are in the machine's byte order. A number that this kernel does not tell is `0xffffffff`, which is also what
//! the kernel itself says for a process that nobody signed in to.
//!
//! ```text
//! every    0  u32  kind: 1 a program was started, 2 a process ended; 3 and 4, about connections: `record/sockets.rs`
//! record   4  u32  process id (of the whole process, as the first PID namespace counts)
//!          8  u64  nanoseconds since boot, suspended time included
//!
//! kinds   16  u32  process id of the parent
//! 1 and 2 20  u32  real user id
//!
//! kind 1  24  u32  effective user id               kind 2  24  u32  status, as wait(2) gives it
//!         28  u32  user id of the sign-in                  28  u32  flags of the task
//!         32  u32  session of the sign-in                  32  u64  when it was started, as at 8
//!         36  u32  its PID namespace; 0: the first one     40  16 B the kernel's short name, ends with NUL
//!         40  u32  process id there
//!         44  u32  bytes of all arguments
//!         48  u64  id of the cgroup (version 2)
//!         56  u32  bytes of the arguments in the record
//!         60  u32  bytes of the program's path
//!         64  u32  bytes of the cgroup's name
//!         68  u32  0
//!         72       the arguments, the path, the name: each with its closing NUL, unless it was cut
//! ```

mod sockets;

pub use sockets::{Closed, Socket, What};

/// What the kernel says for a number that it does not tell.
const UNKNOWN: u32 = u32::MAX;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A program was started.
    Exec(Exec<'a>),
    /// A process ended.
    Exit(Exit<'a>),
    /// Something happened to a socket.
    Socket(Socket),
    /// A connection ended.
    Closed(Closed),
}

/// A program was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exec<'a> {
    /// Process id.
    pub pid: u32,
    /// Nanoseconds since boot, suspended time included.
    pub when: u64,
    /// Process id of the parent.
    pub parent: Option<u32>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Effective user id.
    pub euid: Option<u32>,
    /// User id of the sign-in that this comes from.
    pub login_uid: Option<u32>,
    /// Session of that sign-in.
    pub session: Option<u32>,
    /// PID namespace, and the process id there, if it is not the first one.
    pub inner: Option<(u32, u32)>,
    /// Id of the cgroup (version 2).
    pub cgroup: u64,
    /// Name of the cgroup: the last part of its path.
    pub cgroup_name: &'a [u8],
    /// Bytes of all arguments, each with its NUL.
    pub argument_size: u64,
    /// The arguments as far as they were kept; `None` if they could not be read.
    pub arguments: Option<&'a [u8]>,
    /// The program, as it was called.
    pub program: &'a [u8],
}

/// A process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit<'a> {
    /// Process id.
    pub pid: u32,
    /// Nanoseconds since boot, suspended time included.
    pub when: u64,
    /// Process id of the parent.
    pub parent: Option<u32>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Status, as `wait(2)` gives it.
    pub status: u32,
    /// When it was started, as [`Exit::when`]; 0 if unknown.
    pub started: u64,
    /// The kernel's short name.
    pub name: &'a [u8],
}

const EXEC_FIXED: usize = 72;
const EXIT_FIXED: usize = 56;

/// Reads one record; `None` if it is none that is described here.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    match number(bytes, 0)? {
        1 => exec(bytes).map(Record::Exec),
        2 => exit(bytes).map(Record::Exit),
        3 => sockets::socket(bytes).map(Record::Socket),
        4 => sockets::closed(bytes).map(Record::Closed),
        _ => None,
    }
}

fn exec(bytes: &[u8]) -> Option<Exec<'_>> {
    let known = |at| number(bytes, at).filter(|number| *number != UNKNOWN);
    let length = |at| usize::try_from(number(bytes, at)?).ok();
    let text = bytes.get(EXEC_FIXED..)?;
    let (arguments, text) = text.split_at_checked(length(56)?)?;
    let (program, text) = text.split_at_checked(length(60)?)?;
    let cgroup_name = text.get(..length(64)?)?;
    let argument_size = number(bytes, 44)?.into();
    Some(Exec {
        pid: number(bytes, 4)?,
        when: wide(bytes, 8)?,
        parent: known(16),
        uid: known(20),
        euid: known(24),
        login_uid: known(28),
        session: known(32),
        inner: known(36).filter(|namespace| *namespace != 0).zip(known(40)),
        argument_size,
        cgroup: wide(bytes, 48)?,
        cgroup_name: until_nul(cgroup_name),
        arguments: (!arguments.is_empty() || argument_size == 0).then_some(arguments),
        program: until_nul(program),
    })
}

fn exit(bytes: &[u8]) -> Option<Exit<'_>> {
    let known = |at| number(bytes, at).filter(|number| *number != UNKNOWN);
    Some(Exit {
        pid: number(bytes, 4)?,
        when: wide(bytes, 8)?,
        parent: known(16),
        uid: known(20),
        status: number(bytes, 24)?,
        started: wide(bytes, 32)?,
        name: until_nul(bytes.get(40..EXIT_FIXED)?),
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

fn wide(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_ne_bytes(*chunk))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(numbers: &[u32], text: &[u8]) -> Vec<u8> {
        let mut all: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        all.extend_from_slice(text);
        all
    }

    #[test]
    fn a_start_is_read_whole() {
        let fixed = [1, 7, 5, 1, 3, 1000, 0, UNKNOWN, 2, 99, 4, 300, 12, 0, 5, 9, 4, 0];
        let record = bytes(&fixed, b"ls\0-l/bin/ls\0\0app\0");
        let expected = Exec {
            pid: 7,
            when: (1 << 32) + 5,
            parent: Some(3),
            uid: Some(1000),
            euid: Some(0),
            login_uid: None,
            session: Some(2),
            inner: Some((99, 4)),
            cgroup: 12,
            cgroup_name: b"app",
            argument_size: 300,
            arguments: Some(b"ls\0-l"),
            program: b"/bin/ls",
        };
        assert_eq!(decode(&record), Some(Record::Exec(expected)));
        for end in 0..record.len() {
            assert_eq!(decode(&record[..end]), None, "{end}");
        }
    }

    #[test]
    fn arguments_that_were_not_read_are_not_taken_for_none() {
        let mut fixed = [1, 7, 0, 0, 3, 0, 0, 0, 0, 0, 0, 300, 0, 0, 0, 0, 0, 0];
        let arguments = |fixed: &[u32]| match decode(&bytes(fixed, b"")) {
            Some(Record::Exec(exec)) => exec.arguments.map(<[u8]>::len),
            other => panic!("{other:?}"),
        };
        assert_eq!(arguments(&fixed), None);
        fixed[11] = 0;
        assert_eq!(arguments(&fixed), Some(0));
    }

    #[test]
    fn an_end_is_read_whole() {
        let record = bytes(&[2, 7, 9, 0, 3, 1000, 0x0100, 0, 4, 0], b"sleep\0\0\0\0\0\0\0\0\0\0\0");
        let expected =
            Exit { pid: 7, when: 9, parent: Some(3), uid: Some(1000), status: 0x0100, started: 4, name: b"sleep" };
        assert_eq!(decode(&record), Some(Record::Exit(expected)));
        for end in 0..record.len() {
            assert_eq!(decode(&record[..end]), None, "{end}");
        }
        assert_eq!(decode(&bytes(&[5, 7], &[0; 200])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(kind in 0_u32..6, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(Record::Exec(exec)) = decode(&bytes(&[kind], &rest)) {
                prop_assert!(exec.program.len() + exec.cgroup_name.len() + exec.arguments.map_or(0, <[u8]>::len) <= rest.len());
            }
        }
    }
}
