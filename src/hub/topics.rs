//! Names on the wire: client id, user name, topics and their property bags.
//!
//! A bag is `key=value` joined by `&`; keys and values have everything but unreserved characters escaped as `%XX`
//! (never `+`, a wildcard in MQTT). Host, device and module ids are *not* escaped, neither in topics nor in the user
//! name: the hub decodes queries and bags only.

use percent_encoding::percent_decode_str;

use super::sas::encode;
use super::traffic::METHOD_PAYLOAD;
use crate::model::message::Message;
use crate::settings::MessageMode;
use crate::settings::defaults::{TWIN_ANSWER_LIMIT, TWIN_SECTION_LIMIT};

/// The newest API version in general use; without one the hub's behaviour is undefined.
const API_VERSION: &str = "2021-04-12";
/// Marks a security message: handed to Microsoft's pipeline, hidden from the customer's routes.
const INTERFACE_ID: &str = "urn:azureiot:Security:SecurityAgent:1";

/// Filter for answers to twin requests.
pub const TWIN_ANSWERS: &str = "$iothub/twin/res/#";
/// Filter for notices of changed desired properties.
pub const DESIRED_NOTICES: &str = "$iothub/twin/PATCH/properties/desired/#";

/// Filter for calls of direct methods.
pub const METHOD_CALLS: &str = "$iothub/methods/POST/#";

/// Longest name of a method that the hub lets through.
const METHOD_NAME: usize = 100;
/// Longest `$rid` of a method call; the hub's own are short hexadecimal numbers, but that is not promised.
const METHOD_RID: usize = 64;
/// Longest topic that is looked at.
const MAX_TOPIC: usize = 1024;
/// Most pairs of a bag that are looked at.
const MAX_PAIRS: usize = 32;

/// The MQTT client id of a module.
#[must_use]
pub fn client_id(device: &str, module: &str) -> String {
    format!("{device}/{module}")
}

/// The MQTT user name of a module; `product` names the client in the hub's logs.
#[must_use]
pub fn user_name(host: &str, device: &str, module: &str, product: &str) -> String {
    format!("{host}/{device}/{module}/?api-version={API_VERSION}&DeviceClientType={}", encode(product))
}

/// The topic of a message with its properties: content type and encoding so that routes can look into the body (open),
/// or the mark that hands it to Microsoft's pipeline (defender).
#[must_use]
pub fn telemetry_topic(device: &str, module: &str, message: &Message, mode: MessageMode) -> String {
    let id = message.id.to_string();
    let priority = message.queue.as_str();
    let properties: &[(&str, &str)] = match mode {
        MessageMode::Open => &[
            ("$.ct", "application/json;charset=utf-8"),
            ("$.ce", "utf-8"),
            ("$.mid", &id),
            ("schema", "1.0"),
            ("priority", priority),
        ],
        MessageMode::Defender => &[("$.ifid", INTERFACE_ID), ("$.mid", &id), ("MessagePriority", priority)],
    };
    let resource = [("HubResourceId", message.hub_resource_id.as_str())];
    let resource = resource.iter().filter(|(_, id)| !id.is_empty());
    let bag: Vec<_> =
        properties.iter().chain(resource).map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    format!("devices/{device}/modules/{module}/messages/events/{}", bag.join("&"))
}

/// Asks for the twin.
#[must_use]
pub fn twin_get(rid: u32) -> String {
    format!("$iothub/twin/GET/?$rid={rid}")
}

/// Sends a patch of the reported properties.
#[must_use]
pub fn twin_report(rid: u32) -> String {
    format!("$iothub/twin/PATCH/properties/reported/?$rid={rid}")
}

/// What a topic of the hub says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// An answer to a twin request.
    TwinAnswer {
        /// As in HTTP.
        status: u16,
        /// The request it answers.
        rid: u32,
    },
    /// Desired properties changed.
    Desired {
        /// Their new version, if the topic holds it.
        version: Option<u64>,
    },
    /// A direct method is called.
    Method {
        /// Letters, digits, `_`, `-` and `.`; at most 100.
        name: String,
        /// What the answer must bear; opaque.
        rid: String,
    },
}

impl Incoming {
    /// Most bytes of a payload on this topic; what is longer is refused by whoever reads it.
    #[must_use]
    pub fn payload_limit(&self) -> usize {
        match self {
            Self::TwinAnswer { .. } => TWIN_ANSWER_LIMIT,
            Self::Desired { .. } => TWIN_SECTION_LIMIT,
            Self::Method { .. } => METHOD_PAYLOAD,
        }
    }
}

/// Reads a topic of the hub; `None` for one that is not ours, or whose `$rid` is not.
#[must_use]
pub fn parse(topic: &str) -> Option<Incoming> {
    if topic.len() > MAX_TOPIC {
        return None;
    }
    if let Some(call) = topic.strip_prefix("$iothub/methods/POST/") {
        return parse_call(call);
    }
    let topic = topic.strip_prefix("$iothub/twin/")?;
    if let Some(rest) = topic.strip_prefix("res/") {
        let (status, bag) = rest.split_once('/')?;
        let status = status.parse().ok().filter(|s| (100..=599).contains(s))?;
        let rid = bag_value(bag, "$rid")?.parse().ok()?;
        return Some(Incoming::TwinAnswer { status, rid });
    }
    let bag = topic.strip_prefix("PATCH/properties/desired/")?;
    Some(Incoming::Desired { version: bag_value(bag, "$version").and_then(|v| v.parse().ok()) })
}

fn parse_call(call: &str) -> Option<Incoming> {
    let (name, bag) = call.split_once('/')?;
    let of_alphabet = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    let named = (1..=METHOD_NAME).contains(&name.len()) && name.bytes().all(of_alphabet);
    let rid = bag_value(bag, "$rid")?;
    let sound = (1..=METHOD_RID).contains(&rid.len()) && rid.bytes().all(|b| b.is_ascii_graphic());
    (named && sound).then(|| Incoming::Method { name: name.to_owned(), rid })
}

/// Answers a direct method.
#[must_use]
pub fn method_answer(status: u16, rid: &str) -> String {
    format!("$iothub/methods/res/{status}/?$rid={}", encode(rid))
}

fn bag_value(bag: &str, wanted: &str) -> Option<String> {
    let bag = bag.strip_prefix('?').unwrap_or(bag);
    bag.split('&').take(MAX_PAIRS).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let key = percent_decode_str(key).decode_utf8().ok()?;
        if key != wanted {
            return None;
        }
        Some(percent_decode_str(value).decode_utf8().ok()?.into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::MessageId;
    use crate::model::loss::Queue;

    fn message() -> Message {
        let id = MessageId::parse("3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9a11").unwrap();
        Message { id, queue: Queue::High, body: "{}".into(), hub_resource_id: String::new() }
    }

    #[test]
    fn names_of_the_connect_packet() {
        assert_eq!(client_id("d#1", "m"), "d#1/m");
        assert_eq!(
            user_name("h.azure-devices.net", "d%", "m", "twinward/0.1.0 (linux)"),
            "h.azure-devices.net/d%/m/?api-version=2021-04-12&DeviceClientType=twinward%2F0.1.0%20%28linux%29"
        );
    }

    #[test]
    fn open_messages_can_be_routed_by_their_body() {
        assert_eq!(
            telemetry_topic("d", "m", &Message { hub_resource_id: "/a b&c/é".into(), ..message() }, MessageMode::Open),
            "devices/d/modules/m/messages/events/%24.ct=application%2Fjson%3Bcharset%3Dutf-8&%24.ce=utf-8\
             &%24.mid=3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9a11&schema=1.0&priority=High&HubResourceId=%2Fa%20b%26c%2F%C3%A9"
        );
    }

    #[test]
    fn defender_messages_carry_the_mark() {
        assert_eq!(
            telemetry_topic("d:1", "m", &message(), MessageMode::Defender),
            "devices/d:1/modules/m/messages/events/%24.ifid=urn%3Aazureiot%3ASecurity%3ASecurityAgent%3A1\
             &%24.mid=3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9a11&MessagePriority=High"
        );
    }

    #[test]
    fn topics_of_the_hub_are_read() {
        let answer = |status, rid| Some(Incoming::TwinAnswer { status, rid });
        assert_eq!(parse("$iothub/twin/res/200/?$rid=7"), answer(200, 7));
        assert_eq!(parse("$iothub/twin/res/204/?$version=5&$rid=12"), answer(204, 12));
        assert_eq!(parse("$iothub/twin/res/429/?%24rid=12"), answer(429, 12));
        assert_eq!(
            parse("$iothub/twin/PATCH/properties/desired/?$version=9"),
            Some(Incoming::Desired { version: Some(9) })
        );
        assert_eq!(parse("$iothub/twin/PATCH/properties/desired/"), Some(Incoming::Desired { version: None }));
        for foreign in [
            "",
            "$iothub/twin/res/200/",
            "$iothub/twin/res/200/?$rid=-1",
            "$iothub/twin/res/99/?$rid=1",
            "$iothub/twin/res/x/?$rid=1",
            "$iothub/twin/res/200",
            "$iothub/methods/POST/reboot",
            "$iothub/methods/POST/reboot/",
            "$iothub/methods/POST//?$rid=1",
            "$iothub/methods/POST/a b/?$rid=1",
            "$iothub/methods/POST/reboot/?$rid=",
            "$iothub/methods/POST/reboot/?$rid=1%0a2",
            "$iothub/methods/res/200/?$rid=1",
            "devices/d/messages/devicebound/",
        ] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn calls_are_read_and_their_answers_bear_the_same_id() {
        for (rid, echoed) in [("1", "1"), ("2f", "2f"), ("a%2Fb%20c", ""), ("a%2Fb", "a%2Fb")] {
            let call = parse(&format!("$iothub/methods/POST/get.Status_1-x/?$rid={rid}"));
            if echoed.is_empty() {
                assert_eq!(call, None, "a blank");
                continue;
            }
            let Some(Incoming::Method { name, rid }) = call else { panic!("{rid}") };
            assert_eq!(name, "get.Status_1-x");
            assert_eq!(method_answer(404, &rid), format!("$iothub/methods/res/404/?$rid={echoed}"));
        }
        let long = |name: usize, rid: usize| {
            parse(&format!("$iothub/methods/POST/{}/?$rid={}", "n".repeat(name), "r".repeat(rid))).is_some()
        };
        assert!(long(100, 64) && !long(101, 64) && !long(100, 65));
    }

    proptest::proptest! {
        #[test]
        fn requests_and_answers_match(rid: u32, status in 100_u16..600) {
            let end = format!("?$rid={rid}");
            proptest::prop_assert!(twin_get(rid).ends_with(&end) && twin_report(rid).ends_with(&end));
            let answer = format!("$iothub/twin/res/{status}/?$rid={rid}&$version=1");
            proptest::prop_assert_eq!(parse(&answer), Some(Incoming::TwinAnswer { status, rid }));
        }

        #[test]
        fn nothing_makes_it_panic(topic in "(\\$iothub/(methods/POST/|twin/(res/|PATCH/properties/desired/)))?\\PC{0,60}") {
            let _ = parse(&topic);
        }
    }
}
