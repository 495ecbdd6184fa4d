//! The contract as `docs/wire-contract.md` numbers it: tables of what is given and what comes of it, and a check that
//! each row of the document has its test.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod document;
mod properties;
mod published;
#[path = "../schema/mod.rs"]
mod schema;
mod values;

use serde_json::{Map, Value, json};
use twinward::settings::agent_config::AgentConfig;
use twinward::settings::desired::{self, Applied};
use twinward::settings::twin_keys::OBJECT;

/// What an agent with this configuration makes of one member of the configuration object.
fn judge(key: &str, member: &Value, in_force: &AgentConfig) -> Applied {
    let section = Map::from_iter([(OBJECT.to_owned(), json!({ key: member }))]);
    desired::apply(&section, OBJECT, in_force)
}

/// The reported member of this key.
fn reported(applied: &Applied, key: &str) -> Option<Value> {
    twinward::settings::reported::reported(&applied.config).get(key).cloned()
}

/// Panics if what is reported of this configuration is not what the published schema wants of a desired one.
fn assert_reported_is_valid(config: &AgentConfig) {
    let twin = json!({ "desired": { OBJECT: twinward::settings::reported::reported(config) } });
    if let Err(error) = twin_validator().validate(&twin) {
        panic!("{error} at {}\n{twin:#}", error.instance_path());
    }
}

/// Judges `{"desired": {…}}` by the published twin schema.
fn twin_validator() -> jsonschema::Validator {
    schema::of("security_module_twin", "azureiotsecurity_schema.json")
}
