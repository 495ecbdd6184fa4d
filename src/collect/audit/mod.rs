//! Process starts, connections and sign-ins from the kernel's audit records: each of them, or counted as lost.
//!
//! One wake-up serves whatever happens within [`GATHER`]: after the first record the source sleeps so long, and then
//! reads all that waits. An idle machine wakes nobody.

mod connections;
mod elders;
mod logins;
mod observe;
mod older;
mod said;
mod session;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::lane::{self, SourceContext};
use super::process::{Reader, Started};
use super::source::{BATCH, Coverage, Drained, GATHER, Loss, Source, SourceChoice, SourceError};
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::time::{Mono, Timestamp};
use crate::sys::audit::Next;
use crate::sys::audit::assemble::{Assembler, Connection, Happened};
use crate::sys::host::Host;
use crate::sys::wake::{WakeFlag, Waker, Woken};
use connections::Resolver;
use elders::{Elders, OnSince};
use logins::Logins;
use observe::Observer;
use older::Older;
use said::Said;
use session::{Found, Session};

/// The name in `SourceChoice`.
const NAME: &str = "audit";
/// What it gives.
pub(super) const EVENTS: EventSet =
    EventSet::of(&[EventName::ProcessCreate, EventName::ConnectionCreate, EventName::Login]);
/// Records that are read in one drain at most; then the caller gets a turn.
const PATIENCE: usize = 16_384;
/// The state is asked for at most so often: the kernel starts a thread for each answer.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Opens the source, if the audit system is there and we may use it.
pub(super) fn open(context: &SourceContext, events: EventSet, why: &str) -> Result<Box<dyn Source>, String> {
    let (mut session, found) = Session::open(&context.host)?;
    let clock = Arc::clone(&context.clock);
    // Before the rules: what starts in between is seen twice by nobody.
    let elders = Elders::find(&context.host, on_since(&context.host, found), clock.now().mono);
    session.watch(events)?;
    let lost = session.status().map_err(|error| error.to_string())?.lost;
    let now = clock.now();
    let mut older = Older::new(context);
    older.want(events.contains(EventName::ConnectionCreate), &elders, now.mono);
    Ok(Box::new(AuditSource {
        choice: lane::choice(NAME, &reason(found, why), covers(found, elders.count())),
        session,
        reader: Reader::new(context),
        observer: Observer::default(),
        assembler: Assembler::new(context.command_line.saturating_add(1)),
        resolver: Resolver::new(context.loopback_connections),
        connections: Vec::new(),
        logins: Logins::default(),
        ready: VecDeque::new(),
        elders,
        older,
        flag: WakeFlag::new().map_err(|error| error.to_string())?,
        more: false,
        lost,
        asked: now.mono,
        whole_until: now.wall,
        wanted: events,
    }))
}

fn reason(found: Found, why: &str) -> String {
    let mut reason = match found.reader {
        None => "it is the only reader of the audit records".to_owned(),
        Some(pid) => format!("it listens beside process {pid}, which reads the audit records"),
    };
    if !why.is_empty() {
        reason.push_str("; ");
        reason.push_str(why);
    }
    reason
}

/// Records name the program, whoever it belongs to, so nothing is hidden from us. `elders` processes are older than
/// audit.
fn covers(found: Found, elders: usize) -> Vec<Coverage> {
    let exceptions = if found.exceptions { "what audit rules of others leave out" } else { "" };
    let (mut replaced, mut older) = (String::new(), String::new());
    if elders > 0 {
        let older_ones = format!("the {elders} processes that are older than audit");
        let way_out = "(audit=1 on the kernel's command line leaves none)";
        replaced = format!("programs that end within 10 s, if one of {older_ones} starts them in its place {way_out}");
        older = format!("connections under a second of {older_ones} {way_out}");
    }
    let coverage = |event, parts: &[&str], complete| {
        let cannot_see = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(", ");
        Coverage { event, cannot_see, complete }
    };
    let by_nature =
        "the agent's own, UDP without connect(), what ends at once if the program that took it did not ask from whom";
    vec![
        coverage(EventName::ProcessCreate, &[exceptions, &replaced], !found.exceptions),
        coverage(EventName::ConnectionCreate, &[exceptions, &older, by_nature], false),
        coverage(EventName::Login, &["sign-ins by programs without PAM that do not report to audit"], true),
    ]
}

/// Since when processes have been given what audit needs.
fn on_since(host: &Host, found: Found) -> OnSince {
    let line = host.read_text("/proc/cmdline", 8192).unwrap_or_default();
    if line.split_ascii_whitespace().any(|word| matches!(word, "audit=1" | "audit=on")) {
        return OnSince::Boot;
    }
    found.reader.filter(|_| found.was_on).map_or(OnSince::Now, OnSince::Process)
}

/// See [`NAME`].
struct AuditSource {
    session: Session,
    reader: Reader,
    observer: Observer,
    assembler: Assembler,
    resolver: Resolver,
    /// Of this drain, to be completed.
    connections: Vec<Connection>,
    logins: Logins,
    /// Put together, but not yet given.
    ready: VecDeque<Happened>,
    elders: Elders,
    older: Older,
    choice: SourceChoice,
    flag: WakeFlag,
    /// Whether the last drain left something to read.
    more: bool,
    /// The kernel's count of lost records when it was last asked.
    lost: u32,
    asked: Mono,
    /// Everything up to here was read.
    whole_until: Timestamp,
    wanted: EventSet,
}

/// What one reading gave besides observations.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    records: usize,
    overflow: bool,
}

impl AuditSource {
    /// Reads what waits, up to a whole batch.
    fn read(&mut self, from: usize, out: &mut Vec<Observation>) -> io::Result<Read> {
        let mut read = Read::default();
        self.more = true;
        while read.records < PATIENCE && out.len() + self.connections.len() - from < BATCH {
            if let Some(happened) = self.ready.pop_front() {
                self.give(happened, out);
                continue;
            }
            let now = self.reader.clock().now().mono;
            match self.session.records.read()? {
                Next::Record { kind, body } => {
                    read.records += 1;
                    if said::is_about(kind) && self.wanted.contains(EventName::Login) {
                        let told = Said::read(body).map(|said| self.logins.take(kind, said, now)).into_iter().flatten();
                        out.extend(told.map(|(outcome, said)| Observer::login(&mut self.reader, outcome, said)));
                    } else {
                        self.ready.extend(self.assembler.take(kind, body, now));
                    }
                }
                Next::Overflow => read.overflow = true,
                Next::Empty => {
                    if let Some((outcome, said)) = self.logins.expired(now) {
                        out.push(Observer::login(&mut self.reader, outcome, said));
                        continue;
                    }
                    let Some(happened) = self.assembler.expired(now) else {
                        self.more = false;
                        break;
                    };
                    self.ready.push_back(happened);
                }
            }
        }
        let connections = std::mem::take(&mut self.connections);
        let clock = || self.reader.clock().now().mono;
        let resolved = self.resolver.resolve(self.reader.host(), connections, &clock);
        out.extend(resolved.into_iter().map(|resolved| self.observer.connection(&mut self.reader, resolved)));
        Ok(read)
    }

    /// What others watch for themselves, and we do not want, comes along, too.
    fn give(&mut self, happened: Happened, out: &mut Vec<Observation>) {
        match happened {
            Happened::Exec { caller, arguments, length } => {
                self.elders.remove(caller.pid);
                if self.wanted.contains(EventName::ProcessCreate) {
                    out.push(self.observer.start(&mut self.reader, &caller, &arguments, length));
                }
            }
            Happened::Connection(connection) => {
                self.elders.remove(connection.caller.pid);
                if self.wanted.contains(EventName::ConnectionCreate) && self.resolver.wants(&connection) {
                    self.connections.push(connection);
                }
            }
        }
    }

    /// Waits for the first record and for what comes with it; `false` if it was called back before there was any.
    fn wait(&mut self, wait: Duration) -> io::Result<bool> {
        if self.more {
            return Ok(true);
        }
        let now = self.reader.clock().now().mono;
        let older = self.older.patience(now, &self.elders);
        let patience = [self.assembler.patience(now), self.logins.patience(now), older];
        let wait = patience.into_iter().flatten().fold(wait, Duration::min);
        let fd = self.session.records.as_fd();
        match self.flag.wait(Some(fd), wait)? {
            Woken::Called => Ok(false),
            Woken::Ready if !wait.is_zero() => {
                // Called or not: what has come is read.
                self.flag.wait(None, GATHER)?;
                Ok(true)
            }
            Woken::Ready | Woken::Elapsed => Ok(true),
        }
    }

    /// Asks the kernel for its count of losses, and whether the system is still ours to read.
    fn ask(&mut self, now: Mono) -> io::Result<u32> {
        self.asked = now;
        let status = self.session.status().map_err(io::Error::other)?;
        let reader_is_there =
            if self.session.records.is_owner() { status.pid == std::process::id() } else { status.pid != 0 };
        if status.enabled == 0 || !reader_is_there {
            return Err(io::Error::other(match status.enabled {
                0 => "audit was switched off",
                _ => "another process became, or ceased to be, the reader of the audit records",
            }));
        }
        // Somebody may have set it back to 0.
        let lost = status.lost.checked_sub(self.lost).unwrap_or(status.lost);
        self.lost = status.lost;
        Ok(lost)
    }

    fn loss(&self, at_most: Option<u64>, reason: &str) -> Loss {
        let end = self.reader.clock().now().wall;
        Loss { events: EVENTS, start: self.whole_until.min(end), end, at_most, reason: reason.to_owned() }
    }

    fn gather(&mut self, wait: Duration, out: &mut Vec<Observation>, losses: &mut Vec<Loss>) -> io::Result<()> {
        let from = out.len();
        if !self.wait(wait)? {
            return Ok(());
        }
        let read = self.read(from, out)?;
        if read.overflow {
            losses.push(self.loss(None, "the buffer for audit records overflowed"));
        }
        let now = self.reader.clock().now();
        out.extend(self.older.look(now.mono, &self.elders));
        // After a quiet wait, too: the system may have been switched off.
        if now.mono.since(self.asked) >= ASK_EVERY {
            let lost = self.ask(now.mono)?;
            if lost > 0 {
                losses.push(self.loss(Some(lost.into()), "the kernel lost audit records"));
            }
            if !self.more {
                self.whole_until = now.wall;
            }
            if self.wanted.contains(EventName::ProcessCreate) {
                for stat in self.elders.look(self.reader.host(), now.mono) {
                    out.push(self.reader.observe(Started { pid: stat.pid, parent: None, stat: Some(stat) }));
                }
            }
        }
        Ok(())
    }
}

impl Source for AuditSource {
    fn choice(&self) -> &SourceChoice {
        &self.choice
    }

    fn waker(&self) -> Waker {
        self.flag.waker()
    }

    fn want(&mut self, events: EventSet) -> Result<(), SourceError> {
        self.wanted = events;
        let now = self.reader.clock().now().mono;
        self.older.want(events.contains(EventName::ConnectionCreate), &self.elders, now);
        self.session
            .watch(events)
            .map_err(|reason| SourceError::Broken { name: NAME, source: io::Error::other(reason) })
    }

    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
        let mut losses = Vec::new();
        self.gather(wait, out, &mut losses).map_err(|source| SourceError::Broken { name: NAME, source })?;
        Ok(Drained { losses })
    }
}
