//! Group W2: what a value may look like, beside the verdict of the published schema.

use serde_json::{Value, json};
use twinward::model::problem::ProblemKind;
use twinward::settings::agent_config::AgentConfig;

use super::{OBJECT, assert_reported_is_valid, judge, reported, twin_validator};

/// What an agent does with a member.
enum Verdict {
    /// Takes it, and reports this value.
    Takes(&'static str),
    /// Takes the default, as if it were absent.
    Default,
    /// Keeps what was in force.
    Refuses,
}
use Verdict::{Default as Absent, Refuses, Takes};

const HIGH: &str = "highPriorityMessageFrequency";
const CACHE: &str = "maxLocalCacheSizeInBytes";
const SIZE: &str = "maxMessageSizeInBytes";
const LOGIN: &str = "eventPriorityLogin";
const SWITCH: &str = "aggregationEnabledProcessCreate";

/// Row, property, member as JSON, our verdict, and whether the published schema accepts it.
const VALUES: [(&str, &str, &str, Verdict, bool); 53] = [
    ("W2-01", HIGH, r#"{"value":"PT8M"}"#, Takes(r#""PT8M""#), true),
    ("W2-01", HIGH, r#"{"value":"PT1.5H"}"#, Takes(r#""PT1.5H""#), true),
    ("W2-01", HIGH, r#"{"value":"P1W"}"#, Takes(r#""P1W""#), true),
    ("W2-01", HIGH, r#"{"value":"P1W2D"}"#, Takes(r#""P1W2D""#), true),
    ("W2-01", HIGH, r#"{"value":"P1DT1H"}"#, Takes(r#""P1DT1H""#), true),
    ("W2-01", HIGH, r#"{"value":"PT60M"}"#, Takes(r#""PT60M""#), true),
    ("W2-02", HIGH, r#"{"value":"P1Y"}"#, Refuses, true),
    ("W2-02", HIGH, r#"{"value":"P1M"}"#, Refuses, true),
    ("W2-02", HIGH, r#"{"value":"P1Y2M"}"#, Refuses, true),
    ("W2-03", HIGH, r#"{"value":"PT0S"}"#, Refuses, true),
    ("W2-03", HIGH, r#"{"value":"PT0.5S"}"#, Refuses, true),
    ("W2-03", HIGH, r#"{"value":"P366D"}"#, Refuses, true),
    ("W2-04", HIGH, r#"{"value":""}"#, Refuses, false),
    ("W2-04", HIGH, r#"{"value":"P"}"#, Refuses, false),
    ("W2-04", HIGH, r#"{"value":"PT"}"#, Refuses, false),
    ("W2-04", HIGH, r#"{"value":"00:07:00"}"#, Refuses, false),
    ("W2-04", HIGH, r#"{"value":"-PT5M"}"#, Refuses, false),
    ("W2-04", HIGH, r#"{"value":"pt7m"}"#, Refuses, false),
    ("W2-04", HIGH, r#"{"value":"PT1H30"}"#, Refuses, false),
    ("W2-04", HIGH, r#"{"value":"PT1,5H"}"#, Refuses, false),
    ("W2-04", HIGH, r#"{"value":7}"#, Refuses, false),
    ("W2-05", CACHE, r#"{"value":8192}"#, Takes("8192"), true),
    ("W2-05", CACHE, r#"{"value":8192.0}"#, Takes("8192"), true),
    ("W2-05", CACHE, r#"{"value":8191}"#, Refuses, true),
    ("W2-05", CACHE, r#"{"value":1073741824}"#, Takes("1073741824"), true),
    ("W2-05", CACHE, r#"{"value":1073741825}"#, Refuses, true),
    ("W2-06", SIZE, r#"{"value":8192}"#, Takes("8192"), true),
    ("W2-06", SIZE, r#"{"value":262144}"#, Takes("262144"), true),
    ("W2-06", SIZE, r#"{"value":8191}"#, Refuses, true),
    ("W2-06", SIZE, r#"{"value":262145}"#, Refuses, true),
    ("W2-06", SIZE, r#"{"value":-8192}"#, Refuses, true),
    ("W2-07", SIZE, r#"{"value":8192.5}"#, Refuses, false),
    ("W2-07", SIZE, r#"{"value":"8192"}"#, Refuses, false),
    ("W2-07", SIZE, r#"{"value":true}"#, Refuses, false),
    ("W2-08", LOGIN, r#"{"value":"Low"}"#, Takes(r#""Low""#), true),
    ("W2-08", LOGIN, r#"{"value":"low"}"#, Takes(r#""Low""#), false),
    ("W2-08", LOGIN, r#"{"value":"OFF"}"#, Takes(r#""Off""#), false),
    ("W2-09", LOGIN, r#"{"value":"Operational"}"#, Refuses, false),
    ("W2-09", LOGIN, r#"{"value":"Medium"}"#, Refuses, false),
    ("W2-09", LOGIN, r#"{"value":1}"#, Refuses, false),
    ("W2-10", SWITCH, r#"{"value":false}"#, Takes("false"), true),
    ("W2-10", SWITCH, r#"{"value":"false"}"#, Refuses, false),
    ("W2-10", SWITCH, r#"{"value":0}"#, Refuses, false),
    ("W2-11", HIGH, "null", Absent, false),
    ("W2-11", HIGH, "{}", Absent, true),
    ("W2-11", HIGH, r#"{"value":null}"#, Absent, false),
    ("W2-11", LOGIN, "{}", Absent, true),
    ("W2-12", HIGH, r#""PT8M""#, Refuses, false),
    ("W2-12", SIZE, "8192", Refuses, false),
    ("W2-12", HIGH, r#"["PT8M"]"#, Refuses, false),
    ("W2-13", HIGH, r#"{"value":"PT8M","note":1}"#, Takes(r#""PT8M""#), true),
    ("W2-13", HIGH, r#"{"valeu":"PT8M"}"#, Refuses, true),
    ("W2-13", HIGH, r#"{"value":{"value":"PT8M"}}"#, Refuses, false),
];

#[test]
fn each_value_is_taken_refused_or_the_default() {
    // A configuration in which nothing that is tested has its default.
    let mut in_force = AgentConfig::default();
    for (key, member) in [
        (HIGH, json!({"value": "PT9M"})),
        (CACHE, json!({"value": 300_000})),
        (SIZE, json!({"value": 16_384})),
        (LOGIN, json!({"value": "Off"})),
        (SWITCH, json!({"value": true})),
    ] {
        let before = twinward::settings::reported::reported(&in_force);
        let mut section = before;
        section.insert(key.to_owned(), member);
        let section = serde_json::Map::from_iter([(OBJECT.to_owned(), Value::Object(section))]);
        in_force = twinward::settings::desired::apply(&section, OBJECT, &in_force).config;
    }
    let default = judge("unused", &Value::Null, &in_force);
    let before = |key: &str| twinward::settings::reported::reported(&in_force)[key].clone();
    for (row, key, member, verdict, _) in VALUES {
        let member: Value = serde_json::from_str(member).unwrap();
        let applied = judge(key, &member, &in_force);
        let about: Vec<_> = applied.problems.iter().filter(|p| p.key == key && p.is_refusal()).collect();
        let shown = reported(&applied, key).unwrap();
        assert_reported_is_valid(&applied.config);
        match verdict {
            Takes(value) => {
                assert_eq!(shown["value"], serde_json::from_str::<Value>(value).unwrap(), "{row} {member}");
                assert!(about.is_empty(), "{row} {member}");
            }
            Absent => {
                assert_eq!(Some(shown), reported(&default, key), "{row} {member}");
                assert!(about.is_empty(), "{row} {member}");
            }
            Refuses => {
                assert_eq!(shown, before(key), "{row} {member}: what was in force stays");
                assert_eq!(about.len(), 1, "{row} {member}: {:?}", applied.problems);
                assert!(about[0].expected.len() > 5 && !about[0].given.is_empty(), "{row} {:?}", about[0]);
            }
        }
    }
}

/// Where we are stricter or more lenient than the published schema, the table says so; elsewhere they agree.
#[test]
fn the_published_schema_judges_as_the_table_says() {
    let validator = twin_validator();
    let mut differences = Vec::new();
    for (row, key, member, verdict, published) in VALUES {
        let member: Value = serde_json::from_str(member).unwrap();
        let twin = json!({ "desired": { OBJECT: { key: member } } });
        assert_eq!(validator.is_valid(&twin), published, "{row} {key} {member}");
        if published == matches!(verdict, Refuses) {
            differences.push(row);
        }
    }
    differences.dedup();
    assert_eq!(differences, ["W2-02", "W2-03", "W2-05", "W2-06", "W2-08", "W2-11", "W2-13"]);
}

#[test]
fn unknown_and_misspelt_keys_are_reported_with_the_nearest_name() {
    for (row, key, nearest) in [
        ("W2-14", "snapshotFrequenzy", Some("snapshotFrequency")),
        ("W2-14", "EventPriorityLogin", Some("eventPriorityLogin")),
        ("W2-14", "colour", None),
    ] {
        let applied = judge(key, &json!({"value": "Low"}), &AgentConfig::default());
        let [problem] = &applied.problems[..] else { panic!("{row} {:?}", applied.problems) };
        assert_eq!((problem.kind, problem.key.as_str()), (ProblemKind::Unknown, key), "{row}");
        assert_eq!(nearest.is_some_and(|name| problem.expected.contains(name)), nearest.is_some(), "{row} {problem:?}");
        assert_eq!(applied.config, AgentConfig::default(), "{row}");
    }
}

#[test]
fn doubtful_values_are_in_force_and_told_as_published() {
    for (row, key, value, kind, used) in [
        ("W2-15", CACHE, json!(8192), ProblemKind::Conflict, "8192"),
        ("W2-16", SIZE, json!(10_000), ProblemKind::NotOptimal, "10000"),
        ("W2-17", HIGH, json!("PT6H"), ProblemKind::Conflict, "PT6H"),
    ] {
        let applied = judge(key, &json!({ "value": value }), &AgentConfig::default());
        let [problem] = &applied.problems[..] else { panic!("{row} {:?}", applied.problems) };
        assert_eq!((problem.key.as_str(), problem.kind, problem.in_force.as_str()), (key, kind, used), "{row}");
        assert_eq!(reported(&applied, key).unwrap()["value"], value, "{row}: in force all the same");
    }
}
