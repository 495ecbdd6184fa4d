//! Which source reads what. Sources are read side by side in lanes, one source a lane at a time.
//!
//! The first lane is the kernel's: the best of its sources that works here gives process starts, and whatever else it
//! covers. Another lane is there for what that source does not see.

use std::path::PathBuf;
use std::sync::Arc;

use super::process::program_paths::ProgramPaths;
use super::process::{command_line, connector, poll, taskstats};
use super::redact::Redactor;
use super::source::{Coverage, Source, SourceChoice, SourceError};
use super::{audit, connections, ebpf, fanotify, logins, resync};
use crate::model::event::EventName;
use crate::model::event_set::EventSet;
use crate::model::health::CollectorHealth;
use crate::settings::{Collect, ProcessSource as Wanted};
use crate::sys::capabilities::{Capability, Privileges};
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::procfs;

/// A place for one source at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The kernel's own stream of what processes do.
    Kernel,
    /// Connections, if the source of the first lane sees none.
    Connections,
    /// Ends of processes, if the source of the first lane sees none: audit, for which a record of each end is too dear,
    /// fanotify and polling.
    Ends,
    /// Sign-ins, if the source of the first lane sees none.
    Logins,
}

impl Lane {
    /// All lanes, the first one first.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::Connections, Self::Ends, Self::Logins];

    /// The name of its thread.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "capture",
            Self::Connections => "connections",
            Self::Ends => "ends",
            Self::Logins => "logins",
        }
    }

    /// The events that may come from it.
    #[must_use]
    pub const fn events(self) -> EventSet {
        match self {
            Self::Kernel => STREAMS,
            Self::Connections => EventSet::of(&[EventName::ConnectionCreate]),
            Self::Ends => EventSet::of(&[EventName::ProcessTerminate]),
            Self::Logins => logins::EVENTS,
        }
    }

    /// Forgets what a source of this lane keeps for its next start: nothing of it is wanted now.
    pub fn forget(self, context: &SourceContext) {
        match (self, &context.state) {
            (Self::Logins, Some(directory)) => logins::forget(directory),
            (Self::Logins | Self::Kernel | Self::Connections | Self::Ends, _) => {}
        }
    }
}

/// Everything that is streamed rather than looked at now and then.
pub const STREAMS: EventSet = EventSet::of(&[
    EventName::ProcessCreate,
    EventName::ProcessTerminate,
    EventName::ConnectionCreate,
    EventName::Login,
]);

/// What a source is opened with.
#[derive(Clone)]
pub struct SourceContext {
    /// `collect.process_source`.
    pub wanted: Wanted,
    /// The machine.
    pub host: Host,
    /// Its clocks.
    pub clock: Arc<dyn Clock>,
    /// What masks secrets in command lines.
    pub redactor: Arc<Redactor>,
    /// Whether connections of the machine with itself are told.
    pub loopback_connections: bool,
    /// `collect.command_line_bytes`: longest command line that is kept.
    pub command_line: usize,
    /// The directory in which sources keep what outlives a restart, if they may.
    pub state: Option<PathBuf>,
    /// What the sources of this agent have learned of programs.
    pub program_paths: ProgramPaths,
}

impl SourceContext {
    /// As the local configuration wants it.
    #[must_use]
    pub fn new(settings: &Collect, host: Host, clock: Arc<dyn Clock>) -> Self {
        let redactor = if settings.redact_secrets {
            Redactor::new(settings.secret_names.iter().map(String::as_str))
        } else {
            Redactor::off()
        };
        let command_line = usize::try_from(settings.command_line.as_u64()).unwrap_or(usize::MAX);
        Self {
            wanted: settings.process_source,
            host,
            clock,
            redactor: Arc::new(redactor),
            command_line,
            loopback_connections: settings.loopback_connections,
            state: None,
            program_paths: ProgramPaths::default(),
        }
    }

    /// The best source of this machine, with the built-in redaction.
    pub fn plain(host: Host, clock: Arc<dyn Clock>) -> Self {
        let redactor = Arc::new(Redactor::new([]));
        let command_line = command_line::LIMIT;
        Self {
            wanted: Wanted::Auto,
            host,
            clock,
            redactor,
            command_line,
            loopback_connections: false,
            state: None,
            program_paths: ProgramPaths::default(),
        }
    }
}

/// Opens a source. The text says why no better one was taken; the error, why this one cannot be.
type Open = fn(&SourceContext, EventSet, &str) -> Result<Box<dyn Source>, String>;

/// One way to read a lane.
struct Candidate {
    /// The names in the configuration with which it may be taken, besides `Auto`; none if with all.
    settings: &'static [Wanted],
    /// What it can give.
    events: EventSet,
    open: Open,
}

/// The sources of the kernel lane, the best first.
const KERNEL: &[Candidate] = &[
    Candidate { settings: &[Wanted::Ebpf], events: ebpf::EVENTS, open: ebpf::open },
    Candidate { settings: &[Wanted::Audit], events: audit::EVENTS, open: audit::open },
    Candidate { settings: &[Wanted::Connector], events: connector::EVENTS, open: connector::open },
    Candidate { settings: &[Wanted::Fanotify], events: fanotify::EVENTS, open: fanotify::open },
    Candidate { settings: &[Wanted::Poll], events: poll::EVENTS, open: poll::open },
];

/// The sources of the lane for connections.
const CONNECTIONS: &[Candidate] = &[Candidate { settings: &[], events: connections::EVENTS, open: connections::open }];

/// The sources of the lane for ends, the best first. Who asks for polling has no rights, or wants to spend nothing.
const ENDS: &[Candidate] = &[
    Candidate { settings: &[Wanted::Audit], events: connector::EVENTS, open: connector::open },
    Candidate { settings: &[Wanted::Audit, Wanted::Fanotify], events: taskstats::EVENTS, open: taskstats::open },
];

/// The sources of the lane for sign-ins.
const LOGINS: &[Candidate] = &[Candidate { settings: &[], events: logins::EVENTS, open: logins::open }];

/// The capabilities that no source has a use for with this `collect.process_source`.
#[must_use]
pub fn unneeded(wanted: Wanted) -> Vec<Capability> {
    let of_one = [
        (Wanted::Ebpf, [Capability::Bpf, Capability::Perfmon].as_slice()),
        (Wanted::Audit, &[Capability::AuditControl, Capability::AuditRead]),
        (Wanted::Fanotify, &[Capability::SysAdmin]),
    ];
    let others = of_one.into_iter().filter(|(source, _)| wanted != Wanted::Auto && *source != wanted);
    others.flat_map(|(_, capabilities)| capabilities).copied().collect()
}

/// Opens the source of a lane for these events. May take one second, while the kernel is asked for the process
/// connector.
///
/// # Errors
/// [`SourceError::Unavailable`] if the configuration asks for one that cannot be had; [`SourceError::NoSource`] if
/// none works here that sees any of the events; [`SourceError::Unseen`] if there is none.
pub fn open(lane: Lane, context: &SourceContext, events: EventSet) -> Result<Box<dyn Source>, SourceError> {
    let candidates = match lane {
        Lane::Kernel => KERNEL,
        Lane::Connections => CONNECTIONS,
        Lane::Ends => ENDS,
        Lane::Logins => LOGINS,
    };
    let mut tried = Vec::new();
    for candidate in candidates {
        let free = candidate.settings.is_empty() || context.wanted == Wanted::Auto;
        let chosen = !free && candidate.settings.contains(&context.wanted);
        if candidate.events.and(events).is_empty() || !(chosen || free) {
            continue;
        }
        let why =
            if chosen && tried.is_empty() { "chosen by collect.process_source".to_owned() } else { tried.join("; ") };
        match (candidate.open)(context, events, &why) {
            // What polling misses was never there to be counted.
            Ok(source) if lane == Lane::Kernel && !candidate.settings.contains(&Wanted::Poll) => {
                return Ok(resync::after_loss(source, context, events));
            }
            Ok(source) => return Ok(source),
            Err(reason) if chosen && lane == Lane::Kernel => {
                return Err(SourceError::Unavailable { wanted: context.wanted.as_str(), reason });
            }
            Err(reason) => tried.push(reason),
        }
    }
    let events = events.iter().map(EventName::as_str).collect::<Vec<_>>().join(", ");
    if tried.is_empty() {
        let wanted = context.wanted.as_str();
        let because = match context.wanted {
            Wanted::Auto => String::new(),
            _ => format!(" with collect.process_source = \"{wanted}\""),
        };
        return Err(SourceError::Unseen { events, because });
    }
    Err(SourceError::NoSource { events, reason: tried.join("; ") })
}

/// Opens the source that would give `event` alone: of the first lane that has one. With how well it sees it.
///
/// # Errors
/// As [`open`], of the last lane that was tried.
pub fn open_for(context: &SourceContext, event: EventName) -> Result<(Box<dyn Source>, CollectorHealth), SourceError> {
    let mut refused = None;
    for lane in Lane::ALL.into_iter().filter(|lane| lane.events().contains(event)) {
        match open(lane, context, EventSet::of(&[event])) {
            Ok(source) => {
                if let Some(health) = source.choice().health(event) {
                    return Ok((source, health));
                }
            }
            Err(error) => refused = Some(error),
        }
    }
    let none = || SourceError::Unseen { events: event.as_str().to_owned(), because: String::new() };
    Err(refused.unwrap_or_else(none))
}

/// How an event would be collected, or why it would not.
pub type Planned = (EventName, Result<CollectorHealth, Arc<SourceError>>);

/// Which source would give each of these events if all of them were wanted: the lanes one after the other, as the agent
/// keeps them. Each source is opened for as long as it takes to ask it.
#[must_use]
pub fn plan(context: &SourceContext, events: EventSet) -> Vec<Planned> {
    let (mut planned, mut left) = (Vec::new(), events);
    let mut refused: Vec<(EventSet, Arc<SourceError>)> = Vec::new();
    for lane in Lane::ALL {
        let wanted = left.and(lane.events());
        if wanted.is_empty() {
            continue;
        }
        match open(lane, context, wanted) {
            Ok(source) => {
                let seen = wanted.iter().filter_map(|event| Some((event, Ok(source.choice().health(event)?))));
                planned.extend(seen);
                left = left.without(source.choice().events());
            }
            Err(error) => refused.push((wanted, Arc::new(error))),
        }
    }
    // The last lane is the one that had to take over.
    planned.extend(left.iter().map(|event| {
        let why = refused.iter().rev().find(|(events, _)| events.contains(event)).map(|(_, why)| Arc::clone(why));
        let none = || SourceError::Unseen { events: event.as_str().to_owned(), because: String::new() };
        (event, Err(why.unwrap_or_else(|| Arc::new(none()))))
    }));
    planned.sort_by_key(|(event, _)| *event);
    planned
}

/// The coverage of process starts: what the source misses by its nature, and what our rights hide.
pub(super) fn starts(host: &Host, misses: &str, complete: bool) -> Coverage {
    let parts: Vec<_> = std::iter::once(misses.to_owned()).filter(|m| !m.is_empty()).chain(hidden(host)).collect();
    Coverage { event: EventName::ProcessCreate, cannot_see: parts.join(", "), complete }
}

/// What of other users' processes is hidden from us, and what would change that; `None` if nothing.
fn hidden(host: &Host) -> Option<String> {
    if Privileges::read(host).ok()?.has(Capability::SysPtrace) {
        return None;
    }
    let what = if procfs::hides_others(host) { "anything" } else { "the executable" };
    Some(format!("{what} of other users' programs (needs CAP_SYS_PTRACE)"))
}

/// A choice with this name and reason.
pub(super) fn choice(name: &'static str, reason: &str, covers: Vec<Coverage>) -> SourceChoice {
    SourceChoice { name, reason: reason.to_owned(), covers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::ManualClock;

    fn context(wanted: Wanted, root: &std::path::Path) -> SourceContext {
        let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
        SourceContext { wanted, ..SourceContext::plain(Host::rooted(root), clock) }
    }

    #[test]
    fn who_chose_a_source_needs_the_capabilities_of_that_one_alone() {
        assert_eq!(unneeded(Wanted::Auto), []);
        assert_eq!(unneeded(Wanted::Ebpf), [Capability::AuditControl, Capability::AuditRead, Capability::SysAdmin]);
        assert_eq!(unneeded(Wanted::Audit), [Capability::Bpf, Capability::Perfmon, Capability::SysAdmin]);
        assert_eq!(unneeded(Wanted::Poll), unneeded(Wanted::Connector));
        assert_eq!(unneeded(Wanted::Poll).len(), 5);
    }

    #[test]
    fn what_nothing_sees_is_said_by_name() {
        let root = tempfile::tempdir().unwrap();
        let poll = context(Wanted::Poll, root.path());
        let error = open(Lane::Kernel, &poll, EventSet::of(&[EventName::Login])).err().unwrap().to_string();
        assert_eq!(error, "no source sees Login with collect.process_source = \"poll\"");
    }

    #[test]
    fn a_plan_has_each_event_once_and_says_what_takes_over() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("var/log")).unwrap();
        let plan = |context: &SourceContext| -> Vec<_> {
            let shown = |(event, outcome): Planned| match outcome {
                Ok(health) => format!("{event}: {}", health.source),
                Err(error) => format!("{event}: {error}"),
            };
            plan(context, STREAMS).into_iter().map(shown).collect()
        };
        let poll = context(Wanted::Poll, root.path());
        let without_proc = plan(&poll);
        assert!(without_proc[0].starts_with("ProcessCreate: collect.process_source"), "{without_proc:?}");
        std::fs::create_dir_all(root.path().join("proc")).unwrap();
        std::fs::File::create(root.path().join("var/log/auth.log")).unwrap();
        let unseen = "ProcessTerminate: no source sees ProcessTerminate with collect.process_source = \"poll\"";
        assert_eq!(
            plan(&poll),
            ["ProcessCreate: polling /proc", unseen, "ConnectionCreate: socket diagnostics", "Login: login logs",]
        );
    }

    #[test]
    fn a_chosen_source_that_cannot_be_had_is_told_with_the_way_out() {
        let root = tempfile::tempdir().unwrap();
        let error = open(Lane::Kernel, &context(Wanted::Poll, root.path()), STREAMS).err().unwrap().to_string();
        assert!(error.starts_with("collect.process_source = \"poll\" cannot be used: "), "{error}");
        assert!(error.ends_with("set it to \"auto\" to take the best that works"), "{error}");
    }
}
