//! The effective configuration that the twin controls (protocol reference, table 1.2).

use std::collections::BTreeMap;

use crate::model::event::EventName;
use crate::model::units::{ByteSize, IsoDuration, Priority};

use super::defaults::OPERATIONAL_EVENTS;

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
    /// What `eventPriority…` of each event type says; what it comes to is [`AgentConfig::priority`].
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
    /// The priority of an event type: its own, unless it is silenced.
    #[must_use]
    pub fn priority(&self, event: EventName) -> Priority {
        if self.silenced(event) { Priority::Off } else { self.own_priority(event) }
    }

    /// What the event type's own key says, silenced or not.
    #[must_use]
    pub fn own_priority(&self, event: EventName) -> Priority {
        self.priorities.get(&event).copied().unwrap_or(Priority::Low)
    }

    /// Whether `eventPriorityOperational` = `Off` switches this event type off, whatever its own key says.
    #[must_use]
    pub fn silenced(&self, event: EventName) -> bool {
        self.operational == Some(Priority::Off) && OPERATIONAL_EVENTS.contains(&event)
    }

    /// The aggregation of an event type, if it is on.
    #[must_use]
    pub fn aggregation_interval(&self, event: EventName) -> Option<&IsoDuration> {
        self.aggregation.get(&event).filter(|a| a.enabled).map(|a| &a.interval)
    }
}
