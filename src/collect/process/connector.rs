//! Process starts and ends from the kernel's process connector: each one, at once, or counted as lost.
//!
//! The kernel could leave out what is not wanted (from Linux 6.6 on), but its numbers count what it leaves out: then no
//! loss could be told from it. So everything is read, and what is not wanted is thrown away here.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::family::Family;
use super::{Reader, Started};
use crate::collect::lane::{self, SourceContext};
use crate::collect::{BATCH, Coverage, Drained, GATHER, Loss, Source, SourceChoice, SourceError};
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::payload::Payload;
use crate::model::time::Timestamp;
use crate::sys::capabilities::Privileges;
use crate::sys::host::Host;
use crate::sys::proc_connector::{ConnectorError, Next, ProcConnector, age};
use crate::sys::proc_event::ProcEvent;
use crate::sys::procfs;
use crate::sys::wake::{WakeFlag, Waker, Woken};

/// The name in `SourceChoice`.
const NAME: &str = "process connector";
/// What it gives.
pub(in crate::collect) const EVENTS: EventSet = EventSet::of(&[EventName::ProcessCreate, EventName::ProcessTerminate]);
/// Events that may be read in one drain without an observation among them; then the caller gets a turn.
const PATIENCE: usize = 16_384;

/// Gathers what was lost until it can be told as one loss.
#[derive(Debug, Default)]
struct Losing {
    /// First and last moment, and the count.
    counted: Option<(Timestamp, Timestamp, u64)>,
    /// An overflow whose count has not come yet; the moment up to which everything was read.
    overflow: Option<Timestamp>,
}

impl Losing {
    /// The count has come.
    fn count(&mut self, start: Timestamp, end: Timestamp, count: u32) {
        let (first, last, before) = self.counted.unwrap_or((start, end, 0));
        self.counted = Some((first.min(start), last.max(end), before.saturating_add(count.into())));
        self.overflow = None;
    }

    /// What can be told at the end of a drain. An overflow waits for its count as long as there is something to read.
    fn tell(&mut self, emptied: bool, now: Timestamp) -> Option<Loss> {
        if let Some((start, end, count)) = self.counted.take() {
            let reason = "the kernel dropped process events of all kinds: its buffer was full".to_owned();
            return Some(Loss { events: EVENTS, start, end, at_most: Some(count), reason });
        }
        let start = if emptied { self.overflow.take()? } else { return None };
        let reason = "the kernel's buffer for process events overflowed; the count follows".to_owned();
        Some(Loss { events: EVENTS, start, end: now, at_most: None, reason })
    }
}

/// The wall clock at a moment of the kernel, seen from now.
fn wall(now: Timestamp, nanoseconds: u64) -> Timestamp {
    Timestamp { utc: now.utc.checked_sub(age(nanoseconds)).unwrap_or(now.utc), ..now }
}

/// Opens the source, if the kernel acknowledges the subscription.
pub(in crate::collect) fn open(
    context: &SourceContext,
    events: EventSet,
    why: &str,
) -> Result<Box<dyn Source>, String> {
    let host = context.host.clone();
    let connector = ProcConnector::open(context.clock.as_ref()).map_err(|error| explained(&error, &host))?;
    let starts = lane::starts(&host, "command lines of programs that end before they are read", true);
    let ends = Coverage {
        event: EventName::ProcessTerminate,
        cannot_see: "the program of a process that ends before it is read".to_owned(),
        complete: true,
    };
    let mut reason = "the kernel acknowledged the subscription".to_owned();
    if !why.is_empty() {
        reason = format!("{reason}; {why}");
    }
    let choice = lane::choice(NAME, &reason, vec![starts, ends]);
    let source = ConnectorSource::new(connector, context, choice, events);
    Ok(Box::new(source.map_err(|error| error.to_string())?))
}

/// The error, and what of this process's own state explains it.
fn explained(error: &ConnectorError, host: &Host) -> String {
    let mut text = error.to_string();
    if let (ConnectorError::NoAnswer, Ok(privileges)) = (error, Privileges::read(host)) {
        let foreign = [("PID", privileges.initial_pid_namespace), ("user", privileges.initial_user_namespace)];
        for (kind, _) in foreign.iter().filter(|(_, initial)| *initial == Some(false)) {
            text.push_str(&format!("; this is not the initial {kind} namespace"));
        }
    }
    text
}

/// See [`NAME`].
struct ConnectorSource {
    connector: ProcConnector,
    reader: Reader,
    choice: SourceChoice,
    flag: WakeFlag,
    wanted: EventSet,
    family: Family,
    /// What lives is to be read anew.
    forgotten: bool,
    losing: Losing,
    /// Everything up to here was read.
    whole_until: Timestamp,
}

impl ConnectorSource {
    /// Reads from an acknowledged subscription.
    fn new(
        connector: ProcConnector,
        context: &SourceContext,
        choice: SourceChoice,
        wanted: EventSet,
    ) -> io::Result<Self> {
        let whole_until = context.clock.now().wall;
        let reader = Reader::new(context);
        Ok(Self {
            connector,
            reader,
            choice,
            flag: WakeFlag::new()?,
            wanted,
            // Whoever starts meanwhile tells of it.
            family: Family::read(&context.host),
            forgotten: false,
            losing: Losing::default(),
            whole_until,
        })
    }

    /// Reads what waits, up to a whole batch; `true` if the queue was emptied.
    fn read(&mut self, from: usize, out: &mut Vec<Observation>) -> io::Result<bool> {
        for _ in 0..PATIENCE {
            match self.connector.read()? {
                Next::Empty => return Ok(true),
                Next::Event(event) => {
                    out.extend(self.take(event));
                    if out.len() - from >= BATCH {
                        return Ok(false);
                    }
                }
                Next::Lost(hole) => {
                    let now = self.reader.clock().now().wall;
                    self.losing.count(wall(now, hole.after), wall(now, hole.before), hole.count);
                    // Ends may be among what was lost: what is remembered cannot be believed any more.
                    self.family = Family::default();
                    self.forgotten = true;
                }
                Next::Overflow => {
                    self.losing.overflow.get_or_insert(self.whole_until);
                }
            }
        }
        Ok(false)
    }

    /// Keeps up with an event; gives what is wanted of it.
    fn take(&mut self, event: ProcEvent) -> Option<Observation> {
        let wants = |event| self.wanted.contains(event);
        match event {
            ProcEvent::Fork { parent, child } => {
                self.family.forked(parent, child);
                None
            }
            ProcEvent::Exec { pid } if wants(EventName::ProcessCreate) => {
                let parent = self.family.parent(pid);
                let seen = self.reader.observe(Started { pid, parent, stat: None });
                if let Payload::ProcessCreate(start) = &seen.what {
                    self.family.execed(pid, Some(start.executable.as_str()).filter(|program| !program.is_empty()));
                }
                Some(seen)
            }
            ProcEvent::Exec { pid } => {
                let program = procfs::executable(self.reader.host(), pid).ok();
                self.family.execed(pid, program.as_ref().map(|program| program.path.as_str()));
                None
            }
            ProcEvent::Exit { pid, status } => {
                let program = self.family.ended(pid);
                wants(EventName::ProcessTerminate).then(|| self.reader.ended(pid, status, program.as_deref()))
            }
        }
    }

    /// Gathers a batch; `true` if nothing is left to read.
    fn gather(&mut self, wait: Duration, out: &mut Vec<Observation>) -> io::Result<bool> {
        let from = out.len();
        let mut until = self.reader.clock().now().mono.after(wait);
        let mut gathering = false;
        loop {
            let emptied = self.read(from, out)?;
            let now = self.reader.clock().now().mono;
            if !gathering && (out.len() > from || self.losing.counted.is_some() || self.losing.overflow.is_some()) {
                gathering = true;
                until = now.after(GATHER);
            }
            let left = until.since(now);
            if !emptied || left.is_zero() || self.flag.wait(Some(self.connector.as_fd()), left)? != Woken::Ready {
                return Ok(emptied);
            }
        }
    }
}

impl Source for ConnectorSource {
    fn choice(&self) -> &SourceChoice {
        &self.choice
    }

    fn waker(&self) -> Waker {
        self.flag.waker()
    }

    fn want(&mut self, events: EventSet) -> Result<(), SourceError> {
        self.wanted = events;
        Ok(())
    }

    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
        let emptied = self.gather(wait, out).map_err(|source| SourceError::Broken { name: NAME, source })?;
        let now = self.reader.clock().now().wall;
        if emptied {
            self.whole_until = now;
            if std::mem::take(&mut self.forgotten) {
                self.family = Family::read(self.reader.host());
            }
        }
        Ok(Drained { losses: self.losing.tell(emptied, now).into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::trusted(jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn holes_become_one_loss_with_its_span() {
        let mut losing = Losing::default();
        assert_eq!(losing.tell(true, at(9)), None);
        losing.overflow = Some(at(1));
        losing.count(at(3), at(5), 4);
        losing.count(at(2), at(4), 3);
        let told = losing.tell(true, at(9)).unwrap();
        assert_eq!((told.start, told.end, told.at_most), (at(2), at(5), Some(7)));
        assert_eq!(losing.tell(true, at(9)), None);
    }

    #[test]
    fn an_overflow_waits_for_its_count_while_there_is_something_to_read() {
        let mut losing = Losing { counted: None, overflow: Some(at(1)) };
        assert_eq!(losing.tell(false, at(8)), None);
        let told = losing.tell(true, at(9)).unwrap();
        assert_eq!((told.start, told.end, told.at_most), (at(1), at(9), None));
        assert_eq!(losing.tell(true, at(9)), None);
    }

    #[test]
    fn a_moment_of_the_kernel_is_seen_from_now() {
        // The future of the kernel's clock is now.
        assert_eq!(wall(at(9), u64::MAX), at(9));
        assert!(wall(at(9), 0) < at(9));
    }
}
