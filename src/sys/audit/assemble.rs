//! From records to what happened: the records of one system call share a serial number, and those of different calls
//! come mixed.
//!
//! The kernel writes them in this order: `SYSCALL` (1300) first; of an exec one or more `EXECVE` (1309); of a connect or
//! accept `SOCKADDR` (1306), unless the program did not ask for the address; other records; `PROCTITLE` (1327); `EOE`
//! (1320) at the end. Each of them may be excluded by a rule, so an event is whole as soon as everything that is used
//! of it is there, and what is not whole is given after a while as it is.
//!
//! `EXECVE` has `argc` and then the arguments, `a0="…"`. One that does not fit is announced with the length of its text
//! in the record and goes on in the next: `a1_len=40000 a1[0]=… `, then ` a1[1]=…`.

use super::arch::{self, Abi, Call};
use super::record::{self, Pairs, Peer, Stamp, Value};
use crate::model::time::Mono;
use std::net::SocketAddr;
use std::time::Duration;

/// Type of the record about the call itself.
pub const SYSCALL: u16 = 1300;
/// Type of the record with the arguments of a program.
pub const EXECVE: u16 = 1309;
/// Type of the record with a socket address.
pub const SOCKADDR: u16 = 1306;
/// Type of the record with the command line of who called, at most 128 bytes of it.
pub const PROCTITLE: u16 = 1327;
/// Type of the record that ends an event.
pub const EOE: u16 = 1320;

/// More calls than that are not written at the same time by any processor of a board.
const OPEN: usize = 128;
/// What is not whole by then never will be.
const PATIENCE: Duration = Duration::from_secs(1);
/// What the kernel cuts the text of `PROCTITLE` to, in bytes.
pub const TITLE: usize = 128;
/// `EINPROGRESS`: the connection is being made, and the program does not wait for it.
const IN_PROGRESS: i64 = -115;

/// Who made a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// When, and which event.
    pub stamp: Stamp,
    /// How it calls the kernel.
    pub abi: &'static Abi,
    /// Process id.
    pub pid: u32,
    /// Process id of the parent.
    pub parent: u32,
    /// Real user id.
    pub uid: Option<u32>,
    /// The user who signed in, whoever it became since; `None` for what was not started by a person.
    pub login_uid: Option<u32>,
    /// Number of that sign-in.
    pub session: Option<u32>,
    /// Its program; after an exec the new one. Empty if unknown.
    pub executable: String,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A program was started.
    Exec {
        /// Who did it, after it did.
        caller: Caller,
        /// Its arguments with a NUL between them, as many bytes as are kept.
        arguments: Vec<u8>,
        /// Bytes of all arguments with what is between them; `None` if records are missing.
        length: Option<u64>,
    },
    /// A socket was connected, or a connection taken.
    Connection(Connection),
}

/// A socket that was connected, or a connection that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Who did it.
    pub caller: Caller,
    /// Whether it was taken.
    pub accepted: bool,
    /// The descriptor of the connection, if known.
    pub descriptor: Option<u32>,
    /// The other side; `None` if the program did not ask for it.
    pub peer: Option<SocketAddr>,
    /// The first bytes of its arguments with a NUL between them, at most [`TITLE`]; empty if unknown.
    pub title: Vec<u8>,
    /// Whether the program does not wait for the outcome, which only streams do.
    pub in_progress: bool,
}

/// The arguments so far.
#[derive(Debug, Default)]
struct Arguments {
    count: Option<u64>,
    /// The one that comes, or goes on.
    next: u64,
    /// What is still to come of one in several parts, in characters of the record.
    left: u64,
    /// With a NUL between them, as many as are kept.
    bytes: Vec<u8>,
    length: u64,
    torn: bool,
}

impl Arguments {
    fn take(&mut self, pairs: Pairs<'_>, keep: usize) {
        for (key, value) in pairs {
            if key == b"argc" {
                self.count = value.number();
            } else if let Some((index, part)) = argument(key) {
                self.argument(index, part, value, keep);
            }
        }
    }

    fn argument(&mut self, index: u64, part: Part, value: Value<'_>, keep: usize) {
        self.torn |= index != self.next;
        let begins = match part {
            Part::Length => {
                self.left = value.number().unwrap_or(0);
                self.torn |= self.left == 0;
                true
            }
            Part::Whole => true,
            Part::Piece => false,
        };
        if begins && index > 0 {
            self.push(Value::Quoted(b"\0"), keep);
        }
        match part {
            Part::Length => return,
            Part::Whole => self.left = 0,
            Part::Piece => self.left = self.left.saturating_sub(value.raw().len() as u64),
        }
        self.push(value, keep);
        if self.left == 0 {
            self.next = index.saturating_add(1);
        }
    }

    fn push(&mut self, value: Value<'_>, keep: usize) {
        let room = keep.saturating_sub(self.bytes.len());
        self.length += value.append(&mut self.bytes, room) as u64;
    }

    fn is_whole(&self) -> bool {
        self.count.is_some_and(|count| self.next >= count)
    }

    /// Bytes of all of them; `None` if some are missing.
    fn whole_length(&self) -> Option<u64> {
        (self.is_whole() && !self.torn).then_some(self.length)
    }
}

/// What a pair of an `EXECVE` record says about an argument.
#[derive(Clone, Copy)]
enum Part {
    Length,
    Whole,
    Piece,
}

/// Reads `a7`, `a7_len` and `a7[2]`.
fn argument(key: &[u8]) -> Option<(u64, Part)> {
    let rest = key.strip_prefix(b"a")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (index, rest) = rest.split_at_checked(digits)?;
    let part = match rest {
        b"" => Part::Whole,
        b"_len" => Part::Length,
        [b'[', .., b']'] => Part::Piece,
        _ => return None,
    };
    Some((std::str::from_utf8(index).ok()?.parse().ok()?, part))
}

/// An event of which something is still to come.
#[derive(Debug)]
struct Open {
    since: Mono,
    caller: Caller,
    call: Call,
    arguments: Arguments,
    descriptor: Option<u32>,
    in_progress: bool,
    peer: Option<Peer>,
    title: Vec<u8>,
}

impl Open {
    /// Reads a `SYSCALL` record; `None` if the call is not one that is used here.
    fn begin(stamp: Stamp, pairs: Pairs<'_>, now: Mono) -> Option<Self> {
        let mut abi = None;
        let (mut number, mut first, mut exit) = (None, 0, None);
        let (mut pid, mut parent, mut uid, mut login_uid, mut session) = (None, None, None, None, None);
        let mut executable = String::new();
        for (key, value) in pairs {
            match key {
                b"arch" => {
                    abi = value.hexadecimal().and_then(|arch| u32::try_from(arch).ok()).and_then(arch::of_record);
                }
                b"syscall" => number = value.id(),
                b"exit" => exit = value.signed(),
                b"a0" => first = value.hexadecimal().unwrap_or(0),
                b"ppid" => parent = value.id(),
                b"pid" => pid = value.id(),
                b"auid" => login_uid = value.id(),
                b"uid" => uid = value.id(),
                b"ses" => session = value.id(),
                b"exe" => executable = value.text().map_or_else(String::new, |t| String::from_utf8_lossy(&t).into()),
                _ => {}
            }
            // Not one that is used: the rest need not be read. `a0` stands behind the call's number.
            if key == b"a0" && abi.zip(number).is_none_or(|(abi, number)| abi.call(number, first).is_none()) {
                return None;
            }
        }
        let abi = abi?;
        let call = abi.call(number?, first)?;
        let by_descriptor = abi.socketcall != number;
        let in_progress = call == Call::Connect && exit? == IN_PROGRESS;
        if exit? < 0 && !in_progress {
            return None;
        }
        let descriptor = match call {
            Call::Accept => u32::try_from(exit?).ok(),
            Call::Connect if by_descriptor => u32::try_from(first).ok(),
            _ => None,
        };
        let parent = parent.unwrap_or(0);
        let caller = Caller { stamp, abi, pid: pid?, parent, uid, login_uid, session, executable };
        Some(Self {
            since: now,
            caller,
            call,
            arguments: Arguments::default(),
            descriptor,
            in_progress,
            peer: None,
            title: Vec::new(),
        })
    }

    /// Takes a later record of it; `true` if it is whole now.
    fn take(&mut self, kind: u16, mut pairs: Pairs<'_>, keep: usize) -> bool {
        match kind {
            EXECVE => {
                self.arguments.take(pairs, keep);
                self.arguments.is_whole()
            }
            SOCKADDR => {
                let value = pairs.find(|(key, _)| *key == b"saddr").map(|(_, value)| value);
                self.peer = value.and_then(record::peer);
                // Nothing else is of use.
                matches!(self.peer, Some(Peer::Other(_)))
            }
            PROCTITLE => {
                if let Some((_, value)) = pairs.find(|(key, _)| *key == b"proctitle") {
                    value.append(&mut self.title, TITLE);
                }
                true
            }
            _ => true,
        }
    }

    /// What it was; `None` if it was no event for us.
    fn finish(self) -> Option<Happened> {
        if self.call == Call::Exec {
            let length = self.arguments.whole_length();
            return Some(Happened::Exec { caller: self.caller, arguments: self.arguments.bytes, length });
        }
        let accepted = self.call == Call::Accept;
        let peer = match self.peer {
            Some(Peer::Internet(peer)) => Some(peer),
            None if accepted => None,
            Some(Peer::Other(_)) | None => return None,
        };
        Some(Happened::Connection(Connection {
            caller: self.caller,
            accepted,
            descriptor: self.descriptor,
            peer,
            title: self.title,
            in_progress: self.in_progress,
        }))
    }
}

/// Puts the records of each event together.
#[derive(Debug)]
pub struct Assembler {
    /// The oldest first.
    open: Vec<Open>,
    /// How many bytes of the arguments of a program are kept.
    keep: usize,
}

impl Assembler {
    /// Keeps so many bytes of the arguments of a program.
    #[must_use]
    pub const fn new(keep: usize) -> Self {
        Self { open: Vec::new(), keep }
    }

    /// Takes a record that came at `now`; gives what it completed.
    pub fn take(&mut self, kind: u16, body: &[u8], now: Mono) -> Option<Happened> {
        if !matches!(kind, SYSCALL | EXECVE | SOCKADDR | PROCTITLE | EOE) {
            return None;
        }
        let (stamp, pairs) = record::parse(body)?;
        if kind == SYSCALL {
            let event = Open::begin(stamp, pairs, now)?;
            // Full: the oldest is given as it is, to make room.
            let oldest = (self.open.len() >= OPEN).then(|| self.open.remove(0));
            self.open.push(event);
            return oldest.and_then(Open::finish);
        }
        // The newest is the likeliest.
        let place = self.open.iter().rposition(|event| event.caller.stamp == stamp)?;
        if !self.open.get_mut(place)?.take(kind, pairs, self.keep) {
            return None;
        }
        self.open.remove(place).finish()
    }

    /// Gives one event whose rest did not come in time, as it is.
    pub fn expired(&mut self, now: Mono) -> Option<Happened> {
        loop {
            let due = self.open.first().is_some_and(|event| now.since(event.since) >= PATIENCE);
            if !due {
                return None;
            }
            if let Some(happened) = self.open.remove(0).finish() {
                return Some(happened);
            }
        }
    }

    /// How long to wait at most for the rest of what is not whole; `None` if everything is.
    #[must_use]
    pub fn patience(&self, now: Mono) -> Option<Duration> {
        self.open.first().map(|event| PATIENCE.saturating_sub(now.since(event.since)))
    }
}

#[cfg(test)]
mod tests;
