//! A loopback hub that remembers what happened.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use twinward::lab::{Happening, Lab, LabOptions, Observed, Telemetry, default_desired};

use super::{LIMIT, OBJECT, hits, keys};
use crate::schema;

/// Keys that a bad value leaves as they are, whatever it is; a change to any of them is one event and nothing else.
const IDLE: [&str; 12] = [
    "eventPriorityProcessTerminate",
    "eventPriorityConnectionCreate",
    "eventPriorityLogin",
    "eventPriorityLocalUsers",
    "eventPriorityFirewallConfiguration",
    "eventPriorityConnectedHardware",
    "aggregationEnabledProcessCreate",
    "eventPriorityDiagnostic",
    "aggregationIntervalConnectionCreate",
    "aggregationIntervalProcessTerminate",
    "aggregationEnabledConnectionCreate",
    "aggregationEnabledProcessTerminate",
];
/// How many events [`Hub::provoke`] makes.
pub const PROVOKED: usize = IDLE.len();

/// A hub, and everything that happened there. Dropping it judges every body that came.
pub struct Hub {
    lab: Lab,
    watcher: mpsc::Receiver<Observed>,
    seen: Vec<Happening>,
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// `$.mid`.
    pub mid: String,
    /// Its events.
    pub events: Vec<Value>,
}

impl Deref for Hub {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Hub {
    /// With short frequencies, and without the collectors whose finds depend on the machine.
    pub async fn start() -> Self {
        Self::with(json!({})).await
    }

    /// The same with other values of some keys.
    pub async fn with(more: Value) -> Self {
        Self::from(LabOptions::default(), more).await
    }

    /// The same with options; their desired section does not count.
    pub async fn from(options: LabOptions, more: Value) -> Self {
        let mut desired = default_desired();
        let object = desired[OBJECT].as_object_mut().unwrap();
        for (key, value) in [
            ("highPriorityMessageFrequency", "PT1S"),
            ("lowPriorityMessageFrequency", "PT1S"),
            ("eventPriorityProcessCreate", "Off"),
            ("eventPriorityProcessTerminate", "Off"),
            ("eventPriorityConnectionCreate", "Off"),
            ("eventPriorityListeningPorts", "Off"),
            ("eventPriorityOSBaseline", "Off"),
        ] {
            object.insert(key.to_owned(), json!({ "value": value }));
        }
        object.insert("maxMessageSizeInBytes".to_owned(), json!({ "value": 8192 }));
        for (key, value) in more.as_object().unwrap() {
            object.insert(key.clone(), json!({ "value": value }));
        }
        let lab = Lab::start(LabOptions { desired, ..options }).await.unwrap();
        let watcher = lab.observe();
        Self { lab, watcher, seen: Vec::new() }
    }

    /// Waits until what happened so far has an answer.
    pub async fn until<T>(&mut self, what: &str, find: impl Fn(&[Happening]) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(found) = find(&self.seen) {
                return found;
            }
            let Ok(next) = timeout_at(end, self.watcher.recv()).await else {
                let last: Vec<_> = self.seen.iter().rev().take(8).collect();
                panic!("never happened: {what}; the last were {last:#?}");
            };
            self.seen.push(next.unwrap().what);
        }
    }

    /// Everything that happened, now.
    pub fn seen(&mut self) -> &[Happening] {
        while let Ok(observed) = self.watcher.try_recv() {
            self.seen.push(observed.what);
        }
        &self.seen
    }

    /// How many things happened, as a mark for [`Self::until_after`].
    pub fn mark(&mut self) -> usize {
        self.seen().len()
    }

    /// Waits for a happening after the mark.
    pub async fn until_after<T>(&mut self, mark: usize, what: &str, find: impl Fn(&Happening) -> Option<T>) -> T {
        self.until(what, |seen| seen.iter().skip(mark).find_map(&find)).await
    }

    /// Waits for a sign-in after the mark.
    pub async fn connected(&mut self, mark: usize) {
        self.until_after(mark, "a sign-in", |what| matches!(what, Happening::Connected { .. }).then_some(())).await;
    }

    /// Waits until the reported section, whole, has an answer.
    pub async fn reported<T>(&mut self, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
        let mut from = 0;
        loop {
            if let Some(found) = find(&self.lab.reported()) {
                return found;
            }
            let is_next = |seen: &[Happening]| {
                let more = seen.iter().skip(from).position(|what| matches!(what, Happening::Reported { .. }));
                more.map(|at| from + at + 1)
            };
            from = self.until(what, is_next).await;
        }
    }

    /// The reported section, whole, as it is now.
    pub fn reported_now(&self) -> Value {
        self.lab.reported()
    }

    /// The reported section after each report that came.
    pub fn reported_by_and_by(&mut self) -> Vec<Value> {
        let mut section = json!({});
        let reports = self.seen().iter().filter_map(|what| match what {
            Happening::Reported { patch, .. } => Some(patch),
            _ => None,
        });
        reports
            .map(|patch| {
                merge(&mut section, &Value::Object(patch.clone()));
                section.clone()
            })
            .collect()
    }

    /// Waits until this version of desired is reported as taken.
    pub async fn taken(&mut self, version: u64) {
        self.reported(&format!("desired version {version} reported"), |reported| {
            (reported["twinward"]["desiredVersion"] == version).then_some(())
        })
        .await;
    }

    /// Makes the agent collect [`PROVOKED`] events that bear this mark: bad values in keys that do nothing.
    pub fn provoke(&self, mark: &str) -> u64 {
        let given = format!("{mark} {}", "x".repeat(150));
        self.lab.patch_desired(keys(IDLE.map(|key| (key, json!(given))))).unwrap()
    }

    /// Each message that has come, in order; what came again is there again.
    pub fn messages(&mut self) -> Vec<Received> {
        messages(self.seen())
    }

    /// Waits until all events with this mark have come at least once; gives the messages that hold any of them.
    pub async fn provoked(&mut self, mark: &str) -> Vec<Received> {
        self.until(&format!("the events marked {mark}"), |seen| {
            let messages: Vec<Received> =
                messages(seen).into_iter().filter(|m| m.events.iter().any(|e| bears(e, mark))).collect();
            let ids: std::collections::BTreeSet<String> = messages
                .iter()
                .flat_map(|m| &m.events)
                .filter(|e| bears(e, mark))
                .map(|e| e["Id"].to_string())
                .collect();
            (ids.len() >= PROVOKED).then_some(messages)
        })
        .await
    }

    /// Provokes, and waits for what came of it.
    pub async fn provoked_now(&mut self, mark: &str) -> Vec<Received> {
        self.provoke(mark);
        self.provoked(mark).await
    }

    /// The different events that have come, by id; an event that came again must be the same.
    pub fn events(&mut self) -> BTreeMap<String, Value> {
        let mut events = BTreeMap::new();
        for event in self.messages().into_iter().flat_map(|m| m.events) {
            let before = events.insert(event["Id"].as_str().unwrap().to_owned(), event.clone());
            assert!(before.is_none_or(|before| before == event), "one id, two events: {event:#}");
        }
        events
    }

    /// The hits of all different events.
    pub fn hits(&mut self) -> u64 {
        self.events().values().map(hits).sum()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for body in self.seen().iter().filter_map(telemetry).map(body) {
            if let Err(error) = validator().validate(&body) {
                panic!("a body is not valid: {error} at {}\n{body:#}", error.instance_path());
            }
        }
        // What is reported has the form of what is desired.
        let reported = self.lab.reported();
        if let Some(object) = reported.get(OBJECT) {
            let twin = json!({ "desired": { OBJECT: object } });
            if let Err(error) = schema::of("security_module_twin", "azureiotsecurity_schema.json").validate(&twin) {
                panic!("what is reported is not valid: {error} at {}\n{object:#}", error.instance_path());
            }
        }
    }
}

fn validator() -> &'static Validator {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| {
        let validator = schema::validator();
        assert!(!validator.is_valid(&json!({"Events": []})), "it refuses nothing");
        validator
    })
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn telemetry(what: &Happening) -> Option<&Telemetry> {
    match what {
        Happening::Telemetry(telemetry) => Some(telemetry),
        _ => None,
    }
}

fn body(telemetry: &Telemetry) -> Value {
    serde_json::from_slice(&telemetry.body).unwrap()
}

fn messages(seen: &[Happening]) -> Vec<Received> {
    seen.iter()
        .filter_map(telemetry)
        .map(|t| Received { mid: t.properties["$.mid"].clone(), events: body(t)["Events"].as_array().unwrap().clone() })
        .collect()
}

fn bears(event: &Value, mark: &str) -> bool {
    let start = format!("given {{\"value\":\"{mark} ");
    event["Payload"][0]["Message"].as_str().is_some_and(|text| text.starts_with(&start))
}
