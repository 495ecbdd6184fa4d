//! Microsoft's published samples and schemas.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use twinward::settings::agent_config::AgentConfig;
use twinward::settings::desired;

use super::schema::validator;
use super::{OBJECT, twin_validator};

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/azure-iot-security").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Four of the thirteen valid samples write a time with a blank, which RFC 3339 refuses (protocol reference 8.3).
const DEVIATIONS: [usize; 4] = [9, 10, 11, 12];

#[test]
fn the_samples_are_judged_as_published_but_for_four() {
    let samples = read("security_message/tests/samples.json");
    let validator = validator();
    let refused = |list: &str| -> Vec<usize> {
        let samples = samples[list].as_array().unwrap().iter().enumerate();
        samples.filter(|(_, sample)| !validator.is_valid(sample)).map(|(n, _)| n).collect()
    };
    assert_eq!(samples["valid"].as_array().unwrap().len(), 13);
    assert_eq!(refused("valid"), DEVIATIONS);
    assert_eq!(refused("invalid"), [0, 1, 2, 3, 4, 5]);
    for n in DEVIATIONS {
        // With the T that RFC 3339 wants, and nothing else changed, they are valid.
        let text = samples["valid"][n].to_string();
        let blank = |day: &str| text.contains(day);
        assert!(blank("2018-10-09 "), "{text}");
        let mended: Value = serde_json::from_str(&text.replace("2018-10-09 ", "2018-10-09T")).unwrap();
        assert!(validator.is_valid(&mended), "{n}");
    }
}

#[test]
fn the_default_twin_is_valid_and_changes_nothing() {
    let document = read("security_module_twin/azureiotsecurity_default.json");
    assert!(!twin_validator().is_valid(&document), "the file as a whole is not what the schema describes");
    let properties = &document["properties"];
    assert!(twin_validator().is_valid(properties));
    let section = properties["desired"].as_object().unwrap();
    let applied = desired::apply(section, OBJECT, &AgentConfig::default());
    assert_eq!((applied.config, applied.problems.len()), (AgentConfig::default(), 0));
}

#[test]
fn what_is_reported_is_valid_as_desired() {
    super::assert_reported_is_valid(&AgentConfig::default());
    // The judge sees a value that is not as published.
    let mut reported = twinward::settings::reported::reported(&AgentConfig::default());
    reported["snapshotFrequency"] = json!({ "value": "PT1,5H" });
    assert!(!twin_validator().is_valid(&json!({ "desired": { OBJECT: reported } })));
}
