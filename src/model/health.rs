//! How each collector is doing, as `status`, `doctor` and the reported twin show it.

use serde::Serialize;

use super::event::EventName;

/// The state of one collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Collects everything its event promises.
    Ok,
    /// Collects, but cannot see everything; `detail` says what is missing.
    Degraded,
    /// Collects nothing; `detail` says why.
    Unavailable,
    /// Switched off by the twin.
    Off,
}

/// The health of one collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CollectorHealth {
    /// The event it collects.
    pub event: EventName,
    /// Its state.
    pub state: HealthState,
    /// Where it reads from, for example `process connector`; empty if there is no choice.
    pub source: String,
    /// Why this source, and what it cannot see; empty if there is nothing to say.
    pub detail: String,
}
