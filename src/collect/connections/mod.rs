//! Connections from the kernel's socket diagnostics: a look at all connected sockets once a second, and the kernel's
//! notices about sockets that were destroyed, so that a connection which comes and goes between two looks is seen too.
//!
//! A connection is told when it is first seen. Its process is found through the inode of its socket, so it is unknown
//! for a connection that was gone by the next look. `ExtraDetails` of such a one: `BytesSent` and `BytesReceived`, as
//! TCP counts them, which is one more for each of SYN and FIN.
//!
//! Not told: attempts that never got an answer; UDP sockets without a peer, and those that are gone before a look (name
//! resolution makes such sockets without sending anything).

mod ledger;

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::lane::{self, SourceContext};
use super::owners;
use super::process::command_line::CommandLine;
use super::redact::Redactor;
use super::{BATCH, Coverage, Drained, GATHER, Loss, Source, SourceChoice, SourceError};
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::payload::{ConnectionCreate, ExtraDetails, Payload, Port};
use crate::model::time::{Mono, Timestamp};
use crate::sys::clock::Clock;
use crate::sys::connections::{Connections, Notice};
use crate::sys::host::Host;
use crate::sys::procfs;
use crate::sys::wake::{WakeFlag, Waker, Woken};

use ledger::{Ledger, Told};

/// The name in `SourceChoice`.
const NAME: &str = "socket diagnostics";
/// What it gives.
pub(super) const EVENTS: EventSet = EventSet::of(&[EventName::ConnectionCreate]);
/// How often everything is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Processes that held the newest connections: looked at first when an owner is searched for.
const RECENT_OWNERS: usize = 16;

/// Opens the source; all it needs is a kernel with socket diagnostics.
pub(super) fn open(context: &SourceContext, _: EventSet, _: &str) -> Result<Box<dyn Source>, String> {
    let connections = Connections::open().map_err(|error| format!("socket diagnostics: {error}"))?;
    let coverage = Coverage {
        event: EventName::ConnectionCreate,
        cannot_see: "the process of connections that end within a second, UDP without a connected socket".to_owned(),
        complete: false,
    };
    let choice = lane::choice(NAME, "the source of processes sees no connections", vec![coverage]);
    let source = SocketSource::new(connections, context, choice);
    Ok(Box::new(source.map_err(|error| format!("socket diagnostics: {error}"))?))
}

/// See [`NAME`].
struct SocketSource {
    connections: Connections,
    host: Host,
    clock: Arc<dyn Clock>,
    redactor: Arc<Redactor>,
    command_line: usize,
    choice: SourceChoice,
    flag: WakeFlag,
    ledger: Ledger,
    next_look: Mono,
    recent: Vec<u32>,
    serial: u64,
    /// Everything up to here was read.
    whole_until: Timestamp,
}

impl SocketSource {
    /// Takes the first look; what is there already is not new.
    fn new(connections: Connections, context: &SourceContext, choice: SourceChoice) -> io::Result<Self> {
        let mut ledger = Ledger::new(context.loopback_connections);
        ledger.look(&connections.look()?);
        let now = context.clock.now();
        Ok(Self {
            connections,
            host: context.host.clone(),
            clock: Arc::clone(&context.clock),
            redactor: Arc::clone(&context.redactor),
            command_line: context.command_line,
            choice,
            flag: WakeFlag::new()?,
            ledger,
            next_look: now.mono.after(EVERY),
            recent: Vec::new(),
            serial: 0,
            whole_until: now.wall,
        })
    }

    /// Looks if it is time, reads notices up to a batch; gives what was lost.
    fn read(&mut self, out: &mut Vec<Observation>) -> io::Result<Option<Loss>> {
        let now = self.clock.now();
        if now.mono >= self.next_look {
            self.next_look = now.mono.after(EVERY);
            let look = self.connections.look()?;
            let fresh = self.ledger.look(&look);
            self.tell(&fresh, now.wall, out);
        }
        let mut gone = Vec::new();
        let mut overflow = false;
        while gone.len() < BATCH {
            match self.connections.read()? {
                Notice::Destroyed(connected) => gone.extend(self.ledger.destroyed(&connected)),
                Notice::Overflow => overflow = true,
                Notice::Empty => break,
            }
        }
        self.tell(&gone, now.wall, out);
        let start = std::mem::replace(&mut self.whole_until, now.wall);
        let reason = "the kernel's buffer for notices about sockets overflowed".to_owned();
        Ok(overflow.then_some(Loss { events: EVENTS, start, end: now.wall, at_most: None, reason }))
    }

    fn tell(&mut self, fresh: &[Told], at: Timestamp, out: &mut Vec<Observation>) {
        let wanted: HashSet<u64> = fresh.iter().map(|told| told.socket.inode).filter(|inode| *inode != 0).collect();
        let owners = owners::find(&self.host, wanted, &self.recent);
        for told in fresh {
            let socket = &told.socket;
            let owner = owners.of(socket.inode);
            let mut details = ExtraDetails::new();
            if let Some((sent, received)) = socket.bytes {
                details.insert("BytesSent".to_owned(), sent.to_string());
                details.insert("BytesReceived".to_owned(), received.to_string());
            }
            let line = owner.and_then(|owner| {
                let bytes = procfs::arguments(&self.host, owner.pid, self.command_line + 1)?;
                Some(CommandLine::read(&bytes, self.command_line, &self.redactor))
            });
            if let Some(line) = &line {
                line.describe(None, &mut details);
            }
            let what = ConnectionCreate {
                remote_address: socket.remote.into(),
                remote_port: Port(socket.remote_port),
                local_address: Some(socket.local.into()),
                local_port: Some(Port(socket.local_port)),
                direction: told.direction,
                protocol: if socket.tcp { "tcp" } else { "udp" }.to_owned(),
                process_id: owner.map_or(0, |owner| owner.pid),
                // A notice about a destroyed socket has no user.
                user_id: (socket.inode != 0).then(|| socket.uid.to_string()),
                executable: owner.and_then(|owner| owner.executable.clone()).unwrap_or_default(),
                command_line: line.map(|line| line.text),
                extra_details: details,
            };
            if let Some(owner) = owner.filter(|owner| !self.recent.contains(&owner.pid)) {
                self.recent.insert(0, owner.pid);
                self.recent.truncate(RECENT_OWNERS);
            }
            out.push(Observation { at, serial: self.serial, what: Payload::ConnectionCreate(what) });
            self.serial += 1;
        }
    }
}

impl Source for SocketSource {
    fn choice(&self) -> &SourceChoice {
        &self.choice
    }

    fn waker(&self) -> Waker {
        self.flag.waker()
    }

    fn want(&mut self, _: EventSet) -> Result<(), SourceError> {
        Ok(())
    }

    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
        let broken = |source| SourceError::Broken { name: NAME, source };
        let until = self.clock.now().mono.after(wait);
        let mut losses = Vec::new();
        loop {
            let from = out.len();
            losses.extend(self.read(out).map_err(broken)?);
            let now = self.clock.now().mono;
            if out.len() > from || !losses.is_empty() || now >= until {
                return Ok(Drained { losses });
            }
            let left = until.since(now).min(self.next_look.since(now));
            match self.flag.wait(Some(self.connections.as_fd()), left).map_err(broken)? {
                Woken::Called => return Ok(Drained { losses }),
                Woken::Elapsed => {}
                // One wake for many notices: they come in rows.
                Woken::Ready => {
                    if self.flag.wait(None, GATHER.min(left)).map_err(broken)? == Woken::Called {
                        return Ok(Drained { losses });
                    }
                }
            }
        }
    }
}
