//! Microsoft's published message schema as the judge of our bodies: draft 7, all formats asserted, nothing fetched.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use jsonschema::{Draft, Registry, Validator};
use serde_json::{Value, json};

use crate::model::event::EventName;
use crate::model::ids::AgentId;
use crate::model::message::MessageRoot;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/azure-iot-security/security_message")
}

fn read(path: &PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Every file under the base that its bare `$id` resolves against.
fn validator() -> &'static Validator {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| {
        let mut registry = Registry::new().draft(Draft::Draft7);
        let mut files = 0;
        for file in fs::read_dir(folder().join("schemas")).unwrap() {
            let path = file.unwrap().path();
            let uri = format!("json-schema:///{}", path.file_name().unwrap().to_str().unwrap());
            registry = registry.add(uri, read(&path)).unwrap();
            files += 1;
        }
        assert_eq!(files, 17);
        let registry = registry.prepare().unwrap();
        jsonschema::options()
            .with_draft(Draft::Draft7)
            .should_validate_formats(true)
            .with_registry(&registry)
            .build(&read(&folder().join("schemas/messageRoot.json")))
            .unwrap()
    })
}

/// Panics with the first violation if a message of these events is not valid.
pub(super) fn assert_valid<S: AsRef<str>>(events: &[S]) {
    assert_valid_message(&MessageRoot::new("0.1.0", AgentId::random()).body(events));
}

/// Panics with the first violation if this is no valid message.
pub(crate) fn assert_valid_message(body: &str) {
    let message: Value = serde_json::from_str(body).unwrap();
    if let Err(error) = validator().validate(&message) {
        panic!("{error}\nat {}\nin {message:#}", error.instance_path());
    }
}

/// The names of all fields that the published schema of this event has for an item, in order.
pub(super) fn payload_fields(name: EventName) -> Vec<String> {
    let mut fields = Vec::new();
    for file in fs::read_dir(folder().join("schemas")).unwrap() {
        let schema = read(&file.unwrap().path());
        if schema["properties"]["Name"]["enum"][0] == name.as_str() {
            fields.extend(schema["properties"]["Payload"]["items"]["properties"].as_object().unwrap().keys().cloned());
        }
    }
    fields.sort_unstable();
    fields
}

/// Protocol reference 8.3: the published samples #9 to #12 write a time with a blank, which RFC 3339 refuses.
#[test]
fn the_published_samples_are_judged_as_known() {
    let samples = read(&folder().join("tests/samples.json"));
    let invalid_at = |list: &str| -> Vec<usize> {
        let list = samples[list].as_array().unwrap().iter();
        list.enumerate().filter(|(_, sample)| !validator().is_valid(sample)).map(|(n, _)| n).collect()
    };
    assert_eq!(invalid_at("valid"), [9, 10, 11, 12]);
    assert_eq!(invalid_at("invalid"), [0, 1, 2, 3, 4, 5]);
    assert_eq!(samples["valid"].as_array().unwrap().len(), 13);
}

#[test]
fn a_violation_of_the_envelope_or_of_a_payload_is_seen() {
    let event = json!({
        "Id": "9c647395-b913-4997-a732-a7fe7303b649", "TimestampUTC": "2026-11-22T09:30:00.000Z",
        "TimestampLocal": "2026-11-22T10:30:00.000+01:00", "Category": "Triggered", "Name": "ProcessCreate",
        "EventType": "Security", "IsEmpty": false, "PayloadSchemaVersion": "1.0",
        "Payload": [{"Executable": "", "ProcessId": 0, "ParentProcessId": 0, "UserId": "", "CommandLine": ""}],
    });
    let root = MessageRoot::new("0.1.0", AgentId::random());
    let valid = |event: &Value| validator().is_valid(&serde_json::from_str(&root.body(&[event.to_string()])).unwrap());
    assert!(valid(&event));
    for (pointer, value) in [
        ("/TimestampUTC", json!("2026-11-22 09:30:00Z")),
        ("/Category", json!("Aggregated")),
        ("/IsEmpty", json!(true)),
        ("/Payload", json!([])),
        ("/Payload/0/ProcessId", json!("1")),
        ("/Payload/0/UserId", json!(0)),
    ] {
        let mut bad = event.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!valid(&bad), "{pointer}");
    }
    for member in event.as_object().unwrap().keys() {
        let mut bad = event.clone();
        bad.as_object_mut().unwrap().remove(member);
        assert!(!valid(&bad), "without {member}");
    }
    for more in ["IsOperational", "ExtraDetails"] {
        let mut bad = event.clone();
        bad[more] = json!({});
        assert!(!valid(&bad), "with {more}");
    }
    let message: Value = serde_json::from_str(&root.body(&[event.to_string()])).unwrap();
    for member in message.as_object().unwrap().keys() {
        let mut bad = message.clone();
        bad.as_object_mut().unwrap().remove(member);
        assert!(!validator().is_valid(&bad), "without {member}");
    }
    let mut bad = message;
    bad["Sequence"] = json!(1);
    assert!(!validator().is_valid(&bad), "with another member");
}
