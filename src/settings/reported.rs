//! The effective configuration as the reported twin shows it: the same object, the same `{"value": …}` members, each
//! with the value that was taken for it, so that a key which differs between desired and reported was refused (protocol
//! reference 1.6). They are equal up to the canonical form: priorities as `High`, `Low`, `Off`, and 8192 for 8192.0;
//! durations keep the operator's text. The three event types that `eventPriorityOperational` = `Off` silences show their
//! own priority.

use serde_json::{Map, Value, json};

use super::agent_config::AgentConfig;
use super::twin_keys::TwinKey;

/// The members of the object [`super::twin_keys::OBJECT`]. Left out: the two texts of the custom checks and
/// `eventPriorityOperational` while they have no value.
#[must_use]
pub fn reported(config: &AgentConfig) -> Map<String, Value> {
    TwinKey::all().filter_map(|key| Some((key.name(), json!({ "value": key.value(config)? })))).collect()
}
