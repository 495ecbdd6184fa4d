//! Snapshots: what is there now, taken on demand.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::{listening_ports, system_information};
use crate::model::event::{EventName, Snapshot};
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::payload::Payload;
use crate::sys::clock::Clock;
use crate::sys::host::Host;

/// What a snapshot is taken of, and when.
#[derive(Clone)]
pub struct SnapshotContext {
    /// The machine.
    pub host: Host,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
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
    /// The machine does not tell.
    #[error("{event}: {what}: {source}")]
    Unreadable {
        /// The event.
        event: EventName,
        /// What could not be read.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// What a collector found: items, its source, and what it could not see (empty if nothing).
pub(super) struct Found {
    pub items: Vec<Payload>,
    pub source: &'static str,
    pub missing: Vec<String>,
}

/// Takes a snapshot. Blocks for as long as the files of `/proc` take to read: some milliseconds on a small board.
///
/// # Errors
/// [`CollectError::NoCollector`] for names outside [`super::SNAPSHOTS`], else what could not be read at all; a part
/// that is missing is told by `health`.
pub fn take(name: EventName, context: &SnapshotContext) -> Result<Taken, CollectError> {
    let found = match name {
        EventName::ListeningPorts => listening_ports::collect(&context.host)?,
        EventName::SystemInformation => system_information::collect(&context.host),
        _ => return Err(CollectError::NoCollector(name)),
    };
    let health = CollectorHealth {
        event: name,
        state: if found.missing.is_empty() { HealthState::Ok } else { HealthState::Degraded },
        source: found.source.to_owned(),
        detail: found.missing.join("; "),
    };
    Ok(Taken { snapshot: Snapshot { name, at: context.clock.now().wall, items: found.items }, health })
}
