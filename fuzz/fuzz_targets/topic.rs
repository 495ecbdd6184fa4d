//! Topics and property bags of the hub, and what we make of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinward::hub::topics::{self, Incoming};
use twinward::model::ids::MessageId;
use twinward::model::loss::Queue;
use twinward::model::message::Message;
use twinward::settings::MessageMode;

fuzz_target!(|text: &str| {
    if let Some(incoming) = topics::parse(text) {
        match incoming {
            Incoming::TwinAnswer { status, rid } => {
                assert!((100..600).contains(&status));
                let again = format!("$iothub/twin/res/{status}/?$rid={rid}");
                assert_eq!(topics::parse(&again), Some(Incoming::TwinAnswer { status, rid }));
            }
            Incoming::Desired { version } => {
                let version = version.map_or_else(String::new, |version| format!("?$version={version}"));
                let again = format!("$iothub/twin/PATCH/properties/desired/{version}");
                assert!(matches!(topics::parse(&again), Some(Incoming::Desired { .. })));
            }
            Incoming::Method { name, rid } => {
                assert!((1..=100).contains(&name.len()) && (1..=64).contains(&rid.len()));
                let answer = topics::method_answer(200, &rid);
                assert!(!answer.contains(['+', '#', '\0']), "{answer}");
                let (_, bag) = answer.split_once('?').expect("a bag");
                let again = format!("$iothub/methods/POST/{name}/?{bag}");
                assert_eq!(topics::parse(&again), Some(Incoming::Method { name, rid }), "the id comes back as it was");
            }
        }
    }
    let id = MessageId::random();
    let message = Message { id, queue: Queue::Low, body: String::new(), hub_resource_id: text.to_owned() };
    for mode in [MessageMode::Open, MessageMode::Defender] {
        let topic = topics::telemetry_topic("d", "m", &message, mode);
        let (_, bag) = topic.split_once("/events/").expect("a bag");
        assert!(bag.bytes().all(|b| b.is_ascii_graphic() && !b"+#/".contains(&b)), "{topic}");
    }
});
