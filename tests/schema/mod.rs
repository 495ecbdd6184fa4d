//! Microsoft's published schemas as validators: draft 7, all files known under one base, formats checked.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use jsonschema::{Draft, Registry, Resource, Validator};
use serde_json::{Value, json};

const BASE: &str = "json-schema:///";

/// A validator for the root of a message.
pub fn validator() -> Validator {
    of("security_message/schemas", "messageRoot.json")
}

/// A validator for one of the schemas of a folder.
pub fn of(folder: &str, root: &str) -> Validator {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/azure-iot-security").join(folder);
    let files = fs::read_dir(directory).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let schema: Value = serde_json::from_str(&fs::read_to_string(entry.path()).unwrap()).unwrap();
        let address = format!("{BASE}{}", entry.file_name().to_str().unwrap());
        (address, Resource::from_contents(with_base(schema)))
    });
    let registry = Registry::new().draft(Draft::Draft7).extend(files).unwrap().prepare().unwrap();
    jsonschema::options()
        .with_draft(Draft::Draft7)
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .offline()
        .with_registry(&registry)
        .build(&json!({ "$ref": format!("{BASE}{root}") }))
        .unwrap()
}

/// The files name themselves relative to each other: gives them their full address.
fn with_base(mut schema: Value) -> Value {
    if let Some(Value::String(id)) = schema.get_mut("$id") {
        *id = format!("{BASE}{id}");
    }
    schema
}
