//! Snapshots: what is there now, taken on demand.

use std::sync::Arc;

use thiserror::Error;

use super::hardware::{self, Recorder};
use super::{baseline, firewall, listening_ports, local_users, system_information};
use crate::model::event::{EventName, Snapshot};
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::payload::Payload;
use crate::settings::agent_config::BaselineCustomChecks;
use crate::sys::clock::Clock;
use crate::sys::host::Host;

/// What a snapshot is taken of, and when.
#[derive(Clone)]
pub struct SnapshotContext {
    /// The machine.
    pub host: Host,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Whether LocalUsers asks the name service too.
    pub name_service: bool,
    /// What devices came and went, if somebody listens.
    pub hotplug: Option<Arc<Recorder>>,
    /// Which checks of one's own OSBaseline makes.
    pub custom_checks: BaselineCustomChecks,
}

impl SnapshotContext {
    /// This machine, as it is configured by default.
    #[must_use]
    pub fn plain(host: Host, clock: Arc<dyn Clock>) -> Self {
        Self { host, clock, name_service: false, hotplug: None, custom_checks: BaselineCustomChecks::default() }
    }

    /// A snapshot has been taken over: what only it had to tell is not told again.
    pub fn taken_over(&self, name: EventName) {
        if let (EventName::ConnectedHardware, Some(recorder)) = (name, &self.hotplug) {
            recorder.told();
        }
    }
}

/// A snapshot, and how good it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What was found.
    pub snapshot: Snapshot,
    /// What could not be seen.
    pub health: CollectorHealth,
}

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum CollectError {
    /// This version has no snapshot for the event.
    #[error("no snapshot collector for {0} in this version")]
    NoCollector(EventName),
}

/// What a collector found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The items of the event; none is an answer too.
    pub items: Vec<Payload>,
    /// Where it was read, for people.
    pub source: String,
    /// What could not be seen, each a part of a sentence; empty if nothing.
    pub missing: Vec<String>,
    /// What is worth saying although all was seen: that there is nothing, for example.
    pub note: Option<String>,
    /// Why there is nothing to be seen on this machine at all. The event is then empty and honest about it.
    pub unavailable: Option<String>,
}

impl Found {
    /// An empty event: this machine has nothing of the kind, or does not tell, and `why` says so.
    pub(super) fn unavailable(source: &str, why: impl Into<String>) -> Self {
        Self { source: source.to_owned(), unavailable: Some(why.into()), ..Self::default() }
    }
}

/// Takes a snapshot. Blocks for as long as the files of `/proc` take to read: some milliseconds on a small board.
///
/// # Errors
/// [`CollectError::NoCollector`] for names outside [`super::SNAPSHOTS`]. What could not be read is told by `health`.
pub fn take(name: EventName, context: &SnapshotContext) -> Result<Taken, CollectError> {
    let found = match name {
        EventName::LocalUsers => local_users::collect(&context.host, context.clock.as_ref(), context.name_service),
        EventName::FirewallConfiguration => firewall::collect(&context.host, context.clock.as_ref()),
        EventName::ListeningPorts => listening_ports::collect(&context.host),
        EventName::SystemInformation => system_information::collect(&context.host),
        EventName::ConnectedHardware => {
            hardware::collect(&context.host, context.hotplug.as_deref(), context.clock.now())
        }
        EventName::OSBaseline => baseline::collect(&context.host, &context.custom_checks),
        _ => return Err(CollectError::NoCollector(name)),
    };
    let state = match (&found.unavailable, &found.missing[..]) {
        (Some(_), _) => HealthState::Unavailable,
        (None, []) => HealthState::Ok,
        (None, _) => HealthState::Degraded,
    };
    let detail = found.unavailable.into_iter().chain(found.note).chain(found.missing).collect::<Vec<_>>().join("; ");
    let health = CollectorHealth { event: name, state, source: found.source, detail };
    Ok(Taken { snapshot: Snapshot { name, at: context.clock.now().wall, items: found.items }, health })
}
