//! What each `eventPriority…` of the twin does to its event.

use serde_json::{Map, json};

use super::*;
use crate::settings::desired;
use crate::settings::twin_keys::{OBJECT, TwinKey};

/// What an agent makes of a twin that says this and nothing else.
fn twin(members: &Value) -> AgentConfig {
    let section = Map::from_iter([(OBJECT.to_owned(), members.clone())]);
    let applied = desired::apply(&section, OBJECT, &AgentConfig::default());
    assert_eq!(applied.problems, []);
    applied.config
}

/// Gives the pipeline one event of this name, seen and flushed; what is stored of it then.
fn stored(config: &AgentConfig, name: EventName) -> (Vec<StoredEvent>, u64) {
    let (mut pipeline, mut books) = (pipeline(config), Books::default());
    let (what, at) = (golden::full(name), time(0));
    match name.category() {
        Category::Triggered => books.apply(&pipeline.observe(vec![Observation { at, serial: 0, what }], now(0))),
        Category::Periodic => {
            books.apply(&pipeline.snapshot(Snapshot { name, at, items: vec![what] }, now(0)));
        }
    }
    books.apply(&pipeline.flush(now(1)));
    assert_eq!(books.open.len(), 0, "{name}");
    assert_eq!(books.collected() + pipeline.ignored(), 1, "{name} is one hit");
    (books.events, pipeline.ignored())
}

#[test]
fn each_event_enters_the_queue_of_its_priority_or_none() {
    for name in EventName::ALL {
        let key = TwinKey::EventPriority(name).name();
        for (value, queue) in [("High", Some(Queue::High)), ("Low", Some(Queue::Low)), ("Off", None)] {
            for aggregated in [true, false] {
                let mut members = json!({ &key: { "value": value } });
                if TwinKey::all().any(|key| key == TwinKey::AggregationEnabled(name)) {
                    members[TwinKey::AggregationEnabled(name).name()] = json!({ "value": aggregated });
                }
                let (events, ignored) = stored(&twin(&members), name);
                let queues: Vec<Queue> = events.iter().map(|event| event.queue).collect();
                assert_eq!((queues, ignored), (Vec::from_iter(queue), u64::from(queue.is_none())), "{key} = {value}");
                for event in &events {
                    assert_valid(&[&event.body]);
                    assert!(event.body.contains(&format!("\"Name\":\"{name}\"")), "{key}: {}", event.body);
                }
            }
        }
    }
}

#[test]
fn no_priority_moves_the_event_of_another_key() {
    for name in EventName::ALL {
        for value in ["High", "Low", "Off"] {
            let config = twin(&json!({ TwinKey::EventPriority(name).name(): { "value": value } }));
            for other in EventName::ALL.into_iter().filter(|other| *other != name) {
                let before = stored(&AgentConfig::default(), other).0;
                let after = stored(&config, other).0;
                assert_eq!(after.len(), 1, "{name} = {value}: {other}");
                assert_eq!(after[0].queue, before[0].queue, "{name} = {value}: {other}");
            }
        }
    }
}

#[test]
fn operational_off_keeps_the_three_out_of_every_queue() {
    for own in ["High", "Low", "Off"] {
        for name in EventName::ALL {
            let own_key = TwinKey::EventPriority(name).name();
            let config = twin(&json!({ own_key: { "value": own }, "eventPriorityOperational": { "value": "Off" } }));
            let operational = ["ConfigurationError", "DroppedEventsStatistics", "MessageStatistics"];
            let nothing = operational.contains(&name.as_str()) || own == "Off";
            assert_eq!(stored(&config, name).0.is_empty(), nothing, "{name} = {own}");
        }
    }
}
