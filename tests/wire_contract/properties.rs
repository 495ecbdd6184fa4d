//! Group W1: each property of the twin, its default, and another value that takes effect.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use twinward::settings::agent_config::AgentConfig;
use twinward::settings::desired;

use super::{OBJECT, assert_reported_is_valid, judge, reported};

/// Row, property, default, another value. A default of null is "not reported".
const PROPERTIES: [(&str, &str, &str, &str); 30] = [
    ("W1-01", "highPriorityMessageFrequency", r#""PT7M""#, r#""PT1M""#),
    ("W1-02", "lowPriorityMessageFrequency", r#""PT5H""#, r#""P1D""#),
    ("W1-03", "snapshotFrequency", r#""PT13H""#, r#""P1W""#),
    ("W1-04", "maxLocalCacheSizeInBytes", "2560000", "262144"),
    ("W1-05", "maxMessageSizeInBytes", "204800", "8192"),
    ("W1-06", "eventPriorityProcessCreate", r#""Low""#, r#""Off""#),
    ("W1-07", "eventPriorityProcessTerminate", r#""Low""#, r#""High""#),
    ("W1-08", "eventPriorityConnectionCreate", r#""Low""#, r#""High""#),
    ("W1-09", "eventPriorityLogin", r#""High""#, r#""Low""#),
    ("W1-10", "eventPriorityLocalUsers", r#""High""#, r#""Off""#),
    ("W1-11", "eventPriorityListeningPorts", r#""High""#, r#""Low""#),
    ("W1-12", "eventPriorityFirewallConfiguration", r#""Low""#, r#""High""#),
    ("W1-13", "eventPrioritySystemInformation", r#""Low""#, r#""Off""#),
    ("W1-14", "eventPriorityConnectedHardware", r#""Low""#, r#""High""#),
    ("W1-15", "eventPriorityOSBaseline", r#""Low""#, r#""High""#),
    ("W1-16", "eventPriorityDiagnostic", r#""Low""#, r#""Off""#),
    ("W1-17", "eventPriorityConfigurationError", r#""Low""#, r#""High""#),
    ("W1-18", "eventPriorityDroppedEventsStatistics", r#""Low""#, r#""Off""#),
    ("W1-19", "eventPriorityMessageStatistics", r#""Low""#, r#""High""#),
    ("W1-20", "eventPriorityOperational", "null", r#""Off""#),
    ("W1-21", "aggregationEnabledProcessCreate", "true", "false"),
    ("W1-22", "aggregationIntervalProcessCreate", r#""PT1H""#, r#""PT5M""#),
    ("W1-23", "aggregationEnabledConnectionCreate", "true", "false"),
    ("W1-24", "aggregationIntervalConnectionCreate", r#""PT1H""#, r#""PT5M""#),
    ("W1-25", "aggregationEnabledProcessTerminate", "true", "false"),
    ("W1-26", "aggregationIntervalProcessTerminate", r#""PT1H""#, r#""PT5M""#),
    ("W1-27", "baselineCustomChecksEnabled", "false", "true"),
    ("W1-28", "baselineCustomChecksFilePath", "null", r#""/etc/checks.json""#),
    ("W1-29", "baselineCustomChecksFileHash", "null", r#""00ff""#),
    ("W1-30", "hubResourceId", r#""""#, r#""/subscriptions/x""#),
];

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn each_property_has_its_default_and_takes_another_value() {
    for (row, key, default, other) in PROPERTIES {
        let absent = judge("unused", &Value::Null, &AgentConfig::default());
        let shown = reported(&absent, key).map_or(Value::Null, |member| member["value"].clone());
        assert_eq!(shown, value(default), "{row} {key}");
        let given = json!({ "value": value(other) });
        let applied = judge(key, &given, &AgentConfig::default());
        assert_eq!(reported(&applied, key), Some(given), "{row} {key}");
        assert!(
            !applied.problems.iter().any(twinward::model::problem::Problem::is_refusal),
            "{row} {:?}",
            applied.problems
        );
        assert_ne!(applied.config, AgentConfig::default(), "{row} {key}");
        assert_reported_is_valid(&applied.config);
    }
}

#[test]
fn the_properties_are_all_that_are_reported() {
    let members = |config: &AgentConfig| twinward::settings::reported::reported(config);
    let names = |properties: &[(&str, &str, &str, &str)]| -> BTreeSet<String> {
        properties.iter().map(|(_, key, ..)| (*key).to_owned()).collect()
    };
    let with_default: Vec<_> = PROPERTIES.into_iter().filter(|(_, _, default, _)| *default != "null").collect();
    assert_eq!(
        members(&AgentConfig::default()).into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(),
        names(&with_default)
    );

    // With another value of each, and with keys that nobody knows.
    let all = PROPERTIES.iter().map(|(_, key, _, other)| (*key, *other)).chain([("colour", r#""red""#)]);
    let given: Map<String, Value> =
        all.map(|(key, other)| (key.to_owned(), json!({ "value": value(other) }))).collect();
    let section = Map::from_iter([(OBJECT.to_owned(), Value::Object(given.clone()))]);
    let applied = desired::apply(&section, OBJECT, &AgentConfig::default());
    let shown = members(&applied.config);
    assert_eq!(shown.keys().cloned().collect::<BTreeSet<_>>(), names(&PROPERTIES));
    for (name, member) in shown {
        assert_eq!(member, given[&name], "{name}");
    }
    assert_reported_is_valid(&applied.config);
}
