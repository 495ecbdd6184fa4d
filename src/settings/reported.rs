//! The effective configuration as the reported twin shows it: the same object, the same `{"value": …}` members, with
//! canonical priorities and the operator's own duration texts, so that a text comparison of desired and reported
//! succeeds for each key that is in force (protocol reference 1.6).

use serde_json::{Map, Value, json};

use super::agent_config::AgentConfig;
use super::twin_keys::TwinKey;

/// The members of the object [`super::twin_keys::OBJECT`]. Left out: the two texts of the custom checks and
/// `eventPriorityOperational` while they have no value.
#[must_use]
pub fn reported(config: &AgentConfig) -> Map<String, Value> {
    TwinKey::all().filter_map(|key| Some((key.name(), json!({ "value": key.value(config)? })))).collect()
}
