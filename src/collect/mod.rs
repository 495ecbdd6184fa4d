//! Collectors: what the machine tells, as observations and snapshots of `model` types.
//!
//! Snapshots are taken with [`snapshot::take`]. Process starts stream from a [`ProcessSource`], chosen by
//! [`open_process_source`]; each source does no more than say which process did what, and `process` turns that into
//! observations, so that a new source needs no new path.

mod listening_ports;
mod process;
pub mod snapshot;
mod system_information;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::model::event::{EventName, Observation};
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::loss::Gap;
use crate::model::time::Timestamp;
use crate::settings::ProcessSource as Wanted;
use crate::sys::capabilities::{Capability, Privileges};
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::proc_connector::{ConnectorError, ProcConnector};
use crate::sys::procfs;
use crate::sys::wake::Waker;

/// The events about the device that this version collects.
pub const COLLECTORS: &[EventName] =
    &[EventName::ProcessCreate, EventName::ListeningPorts, EventName::SystemInformation];

/// Those of [`COLLECTORS`] that are snapshots.
pub const SNAPSHOTS: &[EventName] = &[EventName::ListeningPorts, EventName::SystemInformation];

/// Which source was chosen, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceChoice {
    /// Its name: `process connector`, `polling /proc`.
    pub name: &'static str,
    /// Why this one; says why a better one was not taken.
    pub reason: String,
    /// What it cannot see; empty if nothing.
    pub cannot_see: String,
    /// Whether each start is seen or counted as lost.
    pub complete: bool,
}

impl SourceChoice {
    /// As `status`, `doctor` and the reported twin show it.
    #[must_use]
    pub fn health(&self) -> CollectorHealth {
        let detail = if self.cannot_see.is_empty() {
            self.reason.clone()
        } else {
            format!("{}; cannot see {}", self.reason, self.cannot_see)
        };
        CollectorHealth {
            event: EventName::ProcessCreate,
            state: if self.complete { HealthState::Ok } else { HealthState::Degraded },
            source: self.name.to_owned(),
            detail,
        }
    }
}

/// Observations that a source knows to have missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The last moment up to which nothing was missed.
    pub start: Timestamp,
    /// The moment from which nothing is missed again.
    pub end: Timestamp,
    /// Upper bound of what was missed; `None` if the source cannot tell.
    pub at_most: Option<u64>,
    /// Why, in words.
    pub reason: String,
}

impl Loss {
    /// As a gap in the watch over `event`.
    #[must_use]
    pub fn into_gap(self, event: EventName) -> Gap {
        Gap {
            source: event.as_str().to_owned(),
            start: self.start,
            end: self.end,
            reason: self.reason,
            missed_at_most: self.at_most,
        }
    }
}

/// What a drain gave besides observations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// What was missed, in order.
    pub losses: Vec<Loss>,
}

/// Why a source gives nothing.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The one that the configuration asks for cannot be had.
    #[error(
        "collect.process_source = \"{wanted}\" cannot be used: {reason}; set it to \"auto\" to take the best that works"
    )]
    Unavailable {
        /// What was asked for.
        wanted: &'static str,
        /// Why not.
        reason: String,
    },
    /// It worked and then broke; opening it again may help.
    #[error("{name} broke: {source}; it is opened again")]
    Broken {
        /// Name of the source.
        name: &'static str,
        /// What happened.
        source: io::Error,
    },
}

impl SourceError {
    /// Whether opening the source again may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Broken { .. })
    }
}

/// A stream of process starts.
pub trait ProcessSource: Send {
    /// Which source this is, and why.
    fn choice(&self) -> &SourceChoice;

    /// A way to end the drain that is going on, or the next one, from another thread.
    fn waker(&self) -> Waker;

    /// Waits at most `wait` for the first observation, then gathers for at most [`GATHER`] and [`BATCH`], and appends
    /// them to `out`. Blocks: it is meant for a thread of its own. Returns early, maybe with nothing, when woken.
    /// Call it again at once: a kernel source has a bounded buffer.
    ///
    /// # Errors
    /// [`SourceError::Broken`]; what was appended before is good.
    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError>;
}

/// How long a drain gathers after its first observation.
pub const GATHER: Duration = Duration::from_millis(100);
/// How many observations a drain gathers.
pub const BATCH: usize = 256;

/// Opens the source that is wanted, or for `Auto` the best one that works here. May take one second, while the kernel
/// is asked for the process connector.
///
/// # Errors
/// [`SourceError::Unavailable`] if the wanted one cannot be had; `Auto` fails only without `/proc`.
pub fn open_process_source(
    wanted: Wanted,
    host: Host,
    clock: Arc<dyn Clock>,
) -> Result<Box<dyn ProcessSource>, SourceError> {
    let why = match wanted {
        Wanted::Poll => "chosen by collect.process_source".to_owned(),
        Wanted::Auto | Wanted::Connector => match ProcConnector::open(clock.as_ref()) {
            Ok(connector) => {
                let choice = SourceChoice {
                    name: process::connector::NAME,
                    reason: "the kernel acknowledged the subscription".to_owned(),
                    cannot_see: join(
                        &["command lines of programs that end before they are read"],
                        hidden_from_us(&host).as_deref(),
                    ),
                    complete: true,
                };
                let source = process::connector::ConnectorSource::new(connector, host, clock, choice);
                return source.map(|s| Box::new(s) as _).map_err(|e| unavailable("connector", &e));
            }
            Err(error) if wanted == Wanted::Connector => {
                return Err(unavailable("connector", &explained(&error, &host)));
            }
            Err(error) => explained(&error, &host),
        },
    };
    let choice = SourceChoice {
        name: process::poll::NAME,
        reason: why,
        cannot_see: join(&["programs that end within a second"], hidden_from_us(&host).as_deref()),
        complete: false,
    };
    let source = process::poll::PollSource::open(host, clock, choice);
    source.map(|s| Box::new(s) as _).map_err(|e| unavailable("poll", &e))
}

fn unavailable(wanted: &'static str, reason: &impl ToString) -> SourceError {
    SourceError::Unavailable { wanted, reason: reason.to_string() }
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

/// What of other users' processes is hidden from us, and what would change that; `None` if nothing.
fn hidden_from_us(host: &Host) -> Option<String> {
    if Privileges::read(host).ok()?.has(Capability::SysPtrace) {
        return None;
    }
    let what = if procfs::hides_others(host) { "anything" } else { "the executable" };
    Some(format!("{what} of other users' programs (needs CAP_SYS_PTRACE)"))
}

fn join(parts: &[&str], more: Option<&str>) -> String {
    parts.iter().copied().chain(more).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_becomes_a_health_line() {
        let choice = SourceChoice { name: "x", reason: "why".into(), cannot_see: "this".into(), complete: false };
        let health = choice.health();
        assert_eq!((health.state, health.detail.as_str()), (HealthState::Degraded, "why; cannot see this"));
    }

    #[test]
    fn snapshots_are_collectors() {
        assert!(SNAPSHOTS.iter().all(|name| COLLECTORS.contains(name)));
    }
}
