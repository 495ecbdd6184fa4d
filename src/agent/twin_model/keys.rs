//! What the published contract says of each key, once more and by itself; and what an agent that keeps it has in force.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::settings::twin_keys::OBJECT;

/// Values of one kind, as JSON text: what is taken as what, and what is refused.
#[derive(Debug)]
pub(super) struct Kind {
    taken: [(&'static str, &'static str); 2],
    refused: [&'static str; 2],
}

const DURATION: Kind =
    Kind { taken: [(r#""PT1H""#, r#""PT1H""#), (r#""P1DT0.5S""#, r#""P1DT0.5S""#)], refused: ["7", r#""P1M""#] };
const SIZE: Kind = Kind { taken: [("98304", "98304"), ("262144.0", "262144")], refused: ["8191", "true"] };
const PRIORITY: Kind =
    Kind { taken: [(r#""low""#, r#""Low""#), (r#""OFF""#, r#""Off""#)], refused: [r#""Operational""#, "0"] };
const SWITCH: Kind = Kind { taken: [("false", "false"), ("true", "true")], refused: [r#""yes""#, "1"] };
const TEXT: Kind = Kind { taken: [(r#""/a b""#, r#""/a b""#), (r#""""#, r#""""#)], refused: ["{}", r#""\n""#] };

/// A key with its default, if it has one. Left out is `eventPriorityOperational`, which speaks for three others.
pub(super) type Key = (&'static str, &'static Kind, Option<&'static str>);

pub(super) const KEYS: [Key; 29] = [
    ("highPriorityMessageFrequency", &DURATION, Some(r#""PT7M""#)),
    ("lowPriorityMessageFrequency", &DURATION, Some(r#""PT5H""#)),
    ("snapshotFrequency", &DURATION, Some(r#""PT13H""#)),
    ("maxLocalCacheSizeInBytes", &SIZE, Some("2560000")),
    ("maxMessageSizeInBytes", &SIZE, Some("204800")),
    ("eventPriorityProcessCreate", &PRIORITY, Some(r#""Low""#)),
    ("eventPriorityProcessTerminate", &PRIORITY, Some(r#""Low""#)),
    ("eventPriorityConnectionCreate", &PRIORITY, Some(r#""Low""#)),
    ("eventPriorityLogin", &PRIORITY, Some(r#""High""#)),
    ("eventPriorityLocalUsers", &PRIORITY, Some(r#""High""#)),
    ("eventPriorityListeningPorts", &PRIORITY, Some(r#""High""#)),
    ("eventPriorityFirewallConfiguration", &PRIORITY, Some(r#""Low""#)),
    ("eventPrioritySystemInformation", &PRIORITY, Some(r#""Low""#)),
    ("eventPriorityConnectedHardware", &PRIORITY, Some(r#""Low""#)),
    ("eventPriorityOSBaseline", &PRIORITY, Some(r#""Low""#)),
    ("eventPriorityDiagnostic", &PRIORITY, Some(r#""Low""#)),
    ("eventPriorityConfigurationError", &PRIORITY, Some(r#""Low""#)),
    ("eventPriorityDroppedEventsStatistics", &PRIORITY, Some(r#""Low""#)),
    ("eventPriorityMessageStatistics", &PRIORITY, Some(r#""Low""#)),
    ("aggregationEnabledProcessCreate", &SWITCH, Some("true")),
    ("aggregationIntervalProcessCreate", &DURATION, Some(r#""PT1H""#)),
    ("aggregationEnabledConnectionCreate", &SWITCH, Some("true")),
    ("aggregationIntervalConnectionCreate", &DURATION, Some(r#""PT1H""#)),
    ("aggregationEnabledProcessTerminate", &SWITCH, Some("true")),
    ("aggregationIntervalProcessTerminate", &DURATION, Some(r#""PT1H""#)),
    ("baselineCustomChecksEnabled", &SWITCH, Some("false")),
    ("baselineCustomChecksFilePath", &TEXT, None),
    ("baselineCustomChecksFileHash", &TEXT, None),
    ("hubResourceId", &TEXT, Some(r#""""#)),
];

/// What the back end writes to a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Write {
    Good(usize),
    Bad(usize),
    /// `{"value": null}`
    Empty,
    /// `null`: the key is removed.
    Remove,
}

pub(super) type Writes = Vec<(usize, Write)>;

pub(super) fn writes() -> impl Strategy<Value = Writes> {
    let write = prop_oneof![
        3 => (0_usize..2).prop_map(Write::Good),
        2 => (0_usize..2).prop_map(Write::Bad),
        1 => Just(Write::Empty),
        1 => Just(Write::Remove),
    ];
    // Some keys are written again and again.
    let key = prop_oneof![1 => 0..KEYS.len(), 1 => 2..5_usize];
    prop::collection::vec((key, write), 0..5)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The patch of desired.
pub(super) fn patch(writes: &Writes) -> Value {
    let member = |(key, write): &(usize, Write)| {
        let (name, kind, _) = KEYS[*key];
        let written = match write {
            Write::Good(n) => json!({ "value": parsed(kind.taken[*n].0) }),
            Write::Bad(n) => json!({ "value": parsed(kind.refused[*n]) }),
            Write::Empty => json!({ "value": null }),
            Write::Remove => Value::Null,
        };
        (name.to_owned(), written)
    };
    json!({ OBJECT: writes.iter().map(member).collect::<Map<_, _>>() })
}

/// RFC 7396, once more and by itself.
pub(super) fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut out = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            out.remove(key);
        } else {
            let before = out.get(key).cloned().unwrap_or(Value::Null);
            out.insert(key.clone(), merged(&before, value));
        }
    }
    Value::Object(out)
}

/// What an agent must have in force, key by key, and which keys it must have refused.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) in_force: BTreeMap<&'static str, Value>,
    pub(super) refused: BTreeSet<String>,
}

impl Model {
    /// It sees this desired section.
    pub(super) fn see(&mut self, desired: &Value) {
        self.refused.clear();
        for (name, kind, default) in KEYS {
            let given = desired[OBJECT][name]["value"].clone();
            if let Some((_, taken)) = kind.taken.iter().find(|(text, _)| parsed(text) == given) {
                self.in_force.insert(name, parsed(taken));
            } else if kind.refused.iter().any(|text| parsed(text) == given) {
                self.refused.insert(name.to_owned());
            } else if let Some(default) = default {
                self.in_force.insert(name, parsed(default));
            } else {
                self.in_force.remove(name);
            }
        }
    }
}
