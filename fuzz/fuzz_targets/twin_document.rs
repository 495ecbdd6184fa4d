//! A twin as the hub could send it: the first line answers a GET, each further line is a notice. Whatever it says, the
//! configuration that comes out is the one that is reported, and the older form is as harmless as the current one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use twinward::hub::twin::TwinDocument;
use twinward::settings::agent_config::AgentConfig;
use twinward::settings::twin_keys::{OBJECT, OLDER_OBJECT};
use twinward::settings::{desired, reported};

fuzz_target!(|data: &[u8]| {
    let mut twin = TwinDocument::default();
    let mut in_force = AgentConfig::default();
    for (n, line) in data.split(|byte| *byte == b'\n').take(16).enumerate() {
        let taken = if n == 0 { twin.answer(line).desired } else { twin.notice(line, None) };
        if taken.is_err() {
            continue;
        }
        in_force = judge(twin.desired(), in_force);
        if let Ok(Value::Object(members)) = serde_json::from_slice(line) {
            for object in [OBJECT, OLDER_OBJECT] {
                let section = Map::from_iter([(object.to_owned(), Value::Object(members.clone()))]);
                in_force = judge(&section, in_force);
            }
        }
    }
});

fn judge(section: &Map<String, Value>, before: AgentConfig) -> AgentConfig {
    let applied = desired::apply(section, OBJECT, &before);
    for problem in &applied.problems {
        assert!(problem.given.chars().count() <= 201 && problem.in_force.chars().count() <= 201, "{problem:?}");
        assert!(problem.key.chars().count() <= 201, "{problem:?}");
    }
    let shown = reported::reported(&applied.config);
    let again = Map::from_iter([(OBJECT.to_owned(), Value::Object(shown))]);
    let again = desired::apply(&again, OBJECT, &AgentConfig::default());
    assert_eq!(again.config, applied.config, "what is reported is what is in force");
    assert!(again.problems.iter().all(|problem| !problem.is_refusal()), "{:?}", again.problems);
    applied.config
}
