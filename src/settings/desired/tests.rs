mod any;
mod objects;

use serde_json::json;

use super::super::reported::reported;
use super::*;
use crate::model::event::EventName;
use crate::model::units::Priority;
use crate::settings::twin_keys::OBJECT;

fn apply(desired: &Map<String, Value>, in_force: &AgentConfig) -> Applied {
    super::apply(desired, OBJECT, in_force)
}

fn section(members: &Value) -> Map<String, Value> {
    Map::from_iter([(OBJECT.to_owned(), members.clone()), ("$version".to_owned(), json!(3))])
}

fn applied(members: &Value) -> Applied {
    apply(&section(members), &AgentConfig::default())
}

fn one(key: TwinKey, member: &Value, in_force: &AgentConfig) -> Applied {
    apply(&section(&json!({ key.name(): member })), in_force)
}

/// A configuration in which no key has its default.
fn unusual() -> AgentConfig {
    let mut members = Map::new();
    for key in TwinKey::all() {
        let value = match key {
            TwinKey::SnapshotFrequency => json!("P2D"),
            TwinKey::HighPriorityMessageFrequency => json!("PT30S"),
            TwinKey::LowPriorityMessageFrequency => json!("PT1.5H"),
            TwinKey::MaxLocalCacheSize => json!(1_048_576),
            TwinKey::MaxMessageSize => json!(65_536),
            TwinKey::EventPriority(e) if defaults::OPERATIONAL_EVENTS.contains(&e) => json!("High"),
            TwinKey::EventPriority(_) => json!("Off"),
            TwinKey::EventPriorityOperational => json!("Low"),
            TwinKey::AggregationEnabled(_) => json!(false),
            TwinKey::AggregationInterval(_) => json!("PT5M"),
            TwinKey::CustomChecksEnabled => json!(true),
            TwinKey::CustomChecksFilePath => json!("/etc/checks"),
            TwinKey::CustomChecksFileHash => json!("abc"),
            TwinKey::HubResourceId => json!("/subscriptions/x"),
        };
        members.insert(key.name(), json!({ "value": value }));
    }
    let applied = applied(&Value::Object(members));
    assert_eq!(applied.problems, []);
    let default = AgentConfig::default();
    for key in TwinKey::all() {
        assert_ne!(key.text(&applied.config), key.text(&default), "{}", key.name());
    }
    applied.config
}

#[test]
fn the_published_default_twin_is_our_default() {
    let text = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/azure-iot-security/security_module_twin/azureiotsecurity_default.json"
    ));
    let document = super::super::twin_text::read(text, 65_536).unwrap();
    let desired = document["properties"]["desired"].as_object().unwrap();
    let applied = apply(desired, &unusual());
    assert_eq!(applied, Applied { config: AgentConfig::default(), problems: vec![], object_found: true });
}

#[test]
fn every_published_key_is_known_with_its_published_default() {
    let schema: Value = serde_json::from_slice(include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/azure-iot-security/security_module_twin/azureiotsecurity_schema.json"
    )))
    .unwrap();
    let published = schema["properties"]["desired"]["properties"][OBJECT]["properties"].as_object().unwrap();
    assert!(published.len() > 20);
    for (name, property) in published {
        let key = TwinKey::all().find(|key| key.name() == *name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(key.value(&AgentConfig::default()).as_ref(), property.get("default"), "{name}");
    }
}

#[test]
fn an_empty_value_is_the_default_whatever_was_in_force() {
    for key in TwinKey::all() {
        for member in [json!(null), json!({}), json!({ "value": null })] {
            let applied = one(key, &member, &unusual());
            assert_eq!((applied.config, applied.problems), (AgentConfig::default(), vec![]), "{}", key.name());
        }
    }
}

#[test]
fn what_cannot_be_used_keeps_the_value_in_force() {
    let durations = ["", "7", "PT0S", "PT0.5S", "-PT5M", "pt7m", "P1M", "P1Y", "P366D", "P99999999D", "00:07:00"];
    let mut refused: Vec<(TwinKey, Value)> = Vec::new();
    for key in TwinKey::all() {
        refused.extend([json!([1]), json!({ "a": 1 }), json!(1.5)].map(|value| (key, value)));
        match key {
            TwinKey::HighPriorityMessageFrequency
            | TwinKey::LowPriorityMessageFrequency
            | TwinKey::SnapshotFrequency
            | TwinKey::AggregationInterval(_) => refused.extend(durations.map(|d| (key, json!(d)))),
            TwinKey::MaxLocalCacheSize => refused.push((key, json!(1_073_741_825))),
            TwinKey::MaxMessageSize => refused.push((key, json!(262_145))),
            TwinKey::EventPriority(_) | TwinKey::EventPriorityOperational => {
                refused.extend([json!("Operational"), json!(1), json!(""), json!(true)].map(|v| (key, v)));
            }
            TwinKey::AggregationEnabled(_) | TwinKey::CustomChecksEnabled => {
                refused.extend([json!("true"), json!(1)].map(|v| (key, v)));
            }
            TwinKey::CustomChecksFilePath | TwinKey::CustomChecksFileHash | TwinKey::HubResourceId => {
                refused
                    .extend([json!("x".repeat(key.text_length() + 1)), json!("a\nb"), json!(true)].map(|v| (key, v)));
                if key == TwinKey::HubResourceId {
                    refused.push((key, json!("/subscriptions/ü")));
                }
            }
        }
    }
    for text in ["10000.5", "-8192", "8191", "\"8192\"", "99999999999999999999"] {
        let value: Value = serde_json::from_str(text).unwrap();
        refused.extend([TwinKey::MaxLocalCacheSize, TwinKey::MaxMessageSize].map(|key| (key, value.clone())));
    }
    refused.push((TwinKey::SnapshotFrequency, json!("PT4S")));
    refused.push((TwinKey::AggregationInterval(EventName::ProcessCreate), json!("P8D")));
    let before = unusual();
    for (key, value) in refused {
        let given = json!({ "value": value });
        let applied = one(key, &given, &before);
        assert_eq!(applied.problems.len(), 1, "{} {given}", key.name());
        let problem = &applied.problems[0];
        assert!(problem.is_refusal() && problem.key == key.name() && !problem.expected.is_empty(), "{problem:?}");
        assert_eq!(problem.given, clipped(&given.to_string(), 200));
        assert_eq!(problem.in_force, key.text(&before));
        assert_eq!(key.value(&applied.config), key.value(&before), "{} {given}", key.name());
    }
}

#[test]
fn a_value_without_its_wrapper_is_refused() {
    let applied = one(TwinKey::SnapshotFrequency, &json!("PT1H"), &unusual());
    assert_eq!(
        applied.problems,
        [Problem {
            key: "snapshotFrequency".to_owned(),
            kind: ProblemKind::TypeMismatch,
            given: "\"PT1H\"".to_owned(),
            expected: "an object {\"value\": …} with an ISO-8601 duration such as PT7M, from PT5S to P365D".to_owned(),
            in_force: "P2D".to_owned(),
        }]
    );
    assert!(one(TwinKey::SnapshotFrequency, &json!({ "valeu": "PT1H" }), &unusual()).problems[0].is_refusal());
}

#[test]
fn the_edges_of_the_bounds_are_inside() {
    for (key, least, most) in [
        ("highPriorityMessageFrequency", json!("PT1S"), json!("P365D")),
        ("snapshotFrequency", json!("PT5S"), json!("P365D")),
        ("aggregationIntervalProcessCreate", json!("PT1S"), json!("P7D")),
        ("maxLocalCacheSizeInBytes", json!(8192), json!(1_073_741_824)),
        ("maxMessageSizeInBytes", json!(8192), json!(262_144)),
        ("hubResourceId", json!(""), json!("/".repeat(512))),
    ] {
        for value in [least, most] {
            let applied = applied(&json!({ key: { "value": value } }));
            assert!(!applied.problems.iter().any(Problem::is_refusal), "{key} {value}: {:?}", applied.problems);
            assert_eq!(reported(&applied.config)[key]["value"], value);
        }
    }
}

#[test]
fn priorities_are_read_in_any_case_and_written_in_one() {
    let applied = applied(&json!({ "eventPriorityProcessCreate": { "value": "oFF" } }));
    assert_eq!(applied.problems, []);
    assert_eq!(reported(&applied.config)["eventPriorityProcessCreate"], json!({ "value": "Off" }));
}

#[test]
fn operational_off_silences_the_three() {
    let members = json!({
        "eventPriorityOperational": { "value": "off" },
        "eventPriorityMessageStatistics": { "value": "High" },
    });
    let config = applied(&members).config;
    assert_eq!(config.operational, Some(Priority::Off));
    for event in EventName::ALL {
        let operational = defaults::OPERATIONAL_EVENTS.contains(&event);
        assert_eq!(config.priority(event) == Priority::Off, operational, "{event}");
        assert_eq!(config.silenced(event), operational, "{event}");
    }
    // Their own keys are no refusals, so they are reported as they are.
    let shown = reported(&config);
    assert_eq!(shown["eventPriorityMessageStatistics"], json!({ "value": "High" }));
    assert_eq!(shown["eventPriorityConfigurationError"], json!({ "value": "Low" }));
    let high = applied(&json!({ "eventPriorityOperational": { "value": "High" } })).config;
    assert_eq!(high.priority(EventName::MessageStatistics), Priority::Low);
}

#[test]
fn doubtful_values_are_used_and_told() {
    let applied = applied(&json!({
        "maxLocalCacheSizeInBytes": { "value": 8192 },
        "maxMessageSizeInBytes": { "value": 10_000 },
        "highPriorityMessageFrequency": { "value": "P1D" },
    }));
    let told: Vec<(&str, ProblemKind, &str)> =
        applied.problems.iter().map(|p| (p.key.as_str(), p.kind, p.in_force.as_str())).collect();
    assert_eq!(
        told,
        [
            ("maxLocalCacheSizeInBytes", ProblemKind::Conflict, "8192"),
            ("maxMessageSizeInBytes", ProblemKind::NotOptimal, "10000"),
            ("highPriorityMessageFrequency", ProblemKind::Conflict, "P1D"),
        ]
    );
    assert_eq!(applied.config.max_message_size.as_u64(), 10_000);
}

#[test]
fn unknown_keys_are_listed_up_to_a_bound() {
    let mut members: Map<String, Value> = (0..300).map(|n| (format!("x{n}"), json!(n))).collect();
    members.insert("y".repeat(5000), json!("z".repeat(5000)));
    members.insert("snapshotFrequncy".to_owned(), json!({ "value": "PT1H" }));
    let applied = applied(&Value::Object(members));
    assert_eq!(applied.config, AgentConfig::default());
    assert_eq!(applied.problems.len(), defaults::UNKNOWN_KEY_LIMIT + 1);
    assert!(applied.problems.iter().all(|p| p.kind == ProblemKind::Unknown));
    assert_eq!(applied.problems.last().unwrap().given, "46 more unknown keys");
    let typo = applied.problems.iter().find(|p| p.key == "snapshotFrequncy").unwrap();
    assert_eq!(typo.expected, "a published property, perhaps snapshotFrequency");
}

#[test]
fn reported_has_every_key_that_has_a_value() {
    assert_eq!(reported(&unusual()).len(), TwinKey::all().count());
    let plain = reported(&AgentConfig::default());
    let absent: Vec<String> = TwinKey::all().map(TwinKey::name).filter(|name| !plain.contains_key(name)).collect();
    assert_eq!(absent, ["eventPriorityOperational", "baselineCustomChecksFilePath", "baselineCustomChecksFileHash"]);
}

#[test]
fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
    for text in ["65536.0", "6.5536e4", "65536"] {
        let value: Value = serde_json::from_str(text).unwrap();
        let applied = one(TwinKey::MaxMessageSize, &json!({ "value": value }), &AgentConfig::default());
        assert_eq!(
            (reported(&applied.config)["maxMessageSizeInBytes"].clone(), applied.problems.len()),
            (json!({"value": 65_536}), 0)
        );
    }
    for text in ["65536.5", "-65536.0", "1e300", "18446744073709551616", "\"65536\""] {
        let value: Value = serde_json::from_str(text).unwrap();
        let applied = one(TwinKey::MaxMessageSize, &json!({ "value": value }), &AgentConfig::default());
        assert_eq!((applied.config, applied.problems.len()), (AgentConfig::default(), 1), "{text}");
    }
}
