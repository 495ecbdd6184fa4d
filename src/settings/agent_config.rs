//! The effective configuration that the twin controls (protocol reference, table 1.2).

use std::collections::BTreeMap;

use crate::model::event::EventName;
use crate::model::units::{ByteSize, IsoDuration, Priority};

/// Everything the twin can change. Absent keys hold their published default (see [`super::defaults`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// How often high-priority events leave.
    pub high_priority_message_frequency: IsoDuration,
    /// How often low-priority events leave.
    pub low_priority_message_frequency: IsoDuration,
    /// How often snapshots are taken.
    pub snapshot_frequency: IsoDuration,
    /// Upper bound of everything stored and not yet delivered.
    pub max_local_cache_size: ByteSize,
    /// Upper bound of one message's body.
    pub max_message_size: ByteSize,
    /// The priority of each event type; `eventPriorityOperational` = `Off` is already folded in.
    pub priorities: BTreeMap<EventName, Priority>,
    /// `eventPriorityOperational`, if given: `Off` silences the three operational events.
    pub operational: Option<Priority>,
    /// Aggregation of ProcessCreate, ConnectionCreate and ProcessTerminate.
    pub aggregation: BTreeMap<EventName, Aggregation>,
    /// `baselineCustomChecks*`.
    pub baseline_custom_checks: BaselineCustomChecks,
    /// `hubResourceId`: copied into a message property.
    pub hub_resource_id: String,
}

/// Whether and how long identical events are gathered into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregation {
    /// Whether at all.
    pub enabled: bool,
    /// For how long.
    pub interval: IsoDuration,
}

/// Checks of one's own; never executed as a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaselineCustomChecks {
    /// Whether at all.
    pub enabled: bool,
    /// Where they are.
    pub file_path: Option<String>,
    /// What they must hash to.
    pub file_hash: Option<String>,
}

impl AgentConfig {
    /// The priority of an event type.
    #[must_use]
    pub fn priority(&self, event: EventName) -> Priority {
        self.priorities.get(&event).copied().unwrap_or(Priority::Low)
    }

    /// The aggregation of an event type, if it is on.
    #[must_use]
    pub fn aggregation_interval(&self, event: EventName) -> Option<&IsoDuration> {
        self.aggregation.get(&event).filter(|a| a.enabled).map(|a| &a.interval)
    }
}
