//! The topics a module may publish to and the filters it may subscribe to; everything else makes the hub close.
//!
//! | topic | what |
//! |---|---|
//! | `devices/{d}/modules/{m}/messages/events/{bag}` | telemetry; `bag` is `key=value` joined by `&`, percent-encoded |
//! | `$iothub/twin/GET/?$rid={r}` | asks for the twin |
//! | `$iothub/twin/PATCH/properties/reported/?$rid={r}[&$version={n}]` | reports, on condition of a version |
//! | `$iothub/methods/res/{status}/?$rid={r}` | answers a direct method |

use std::collections::BTreeMap;

use super::identity::ModuleId;
use super::percent;

/// Answers to twin requests.
pub(super) const TWIN_ANSWERS: &str = "$iothub/twin/res/#";
/// Notices of desired changes.
pub(super) const DESIRED_NOTICES: &str = "$iothub/twin/PATCH/properties/desired/#";
const METHODS: &str = "$iothub/methods/POST/";

/// System properties a client may send in its property bag.
const SYSTEM: [&str; 13] = [
    "$.mid",
    "$.cid",
    "$.uid",
    "$.ct",
    "$.ce",
    "$.ctime",
    "$.ifid",
    "$.sub",
    "$.on",
    "$.exp",
    "$.to",
    "$.diagid",
    "$.diagctx",
];

/// Properties of a message, decoded; system properties begin with `$.`.
pub(super) type Properties = BTreeMap<String, String>;

/// Where a client published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Telemetry(Properties),
    TwinGet { rid: String },
    Report { rid: String, if_version: Option<String> },
    MethodAnswer { rid: String, status: i64 },
}

/// Why the hub does not know what to do with a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopicError {
    Unknown,
    Properties(String),
}

/// Reads a topic that `id` published to. Ids are compared as they are, never decoded.
///
/// # Errors
/// The topic is unknown, another module's, or its property bag is wrong.
pub(super) fn parse(topic: &str, id: &ModuleId) -> Result<Topic, TopicError> {
    if let Some(bag) = topic.strip_prefix(&format!("{}/messages/events/", id.path())) {
        return properties(bag).map(Topic::Telemetry);
    }
    let (path, query) = topic.split_once("/?").ok_or(TopicError::Unknown)?;
    let (rid, if_version) = query_fields(query).ok_or(TopicError::Unknown)?;
    match path {
        "$iothub/twin/GET" if if_version.is_none() => Ok(Topic::TwinGet { rid }),
        "$iothub/twin/PATCH/properties/reported" => Ok(Topic::Report { rid, if_version }),
        _ => path
            .strip_prefix("$iothub/methods/res/")
            .filter(|_| if_version.is_none())
            .and_then(|status| status.parse().ok())
            .map(|status| Topic::MethodAnswer { rid, status })
            .ok_or(TopicError::Unknown),
    }
}

/// Whether `id` may subscribe to `filter`.
pub(super) fn may_subscribe(filter: &str, id: &ModuleId) -> bool {
    let own = id.path();
    filter == TWIN_ANSWERS
        || filter == DESIRED_NOTICES
        || filter.strip_prefix(METHODS).is_some_and(|rest| rest == "#" || rest.strip_suffix("/#").is_some_and(plain))
        || filter.strip_prefix(&own).is_some_and(|rest| rest == "/#" || rest == "/inputs/#")
}

/// Whether `filter` covers calls of the method `name`.
pub(super) fn covers_method(filter: &str, name: &str) -> bool {
    filter.strip_prefix(METHODS).is_some_and(|rest| rest == "#" || rest.strip_suffix("/#") == Some(name))
}

/// The topic a method is called on.
pub(super) fn method_call(name: &str, rid: &str) -> String {
    format!("{METHODS}{name}/?$rid={rid}")
}

fn plain(level: &str) -> bool {
    !level.is_empty() && !level.contains(['/', '+', '#'])
}

/// `$rid` (not empty) and `$version`, each at most once, nothing else. Keys may be encoded; values stay as sent.
fn query_fields(query: &str) -> Option<(String, Option<String>)> {
    let (mut rid, mut version) = (None, None);
    for field in query.split('&') {
        let (key, value) = field.split_once('=')?;
        let slot = match percent::decode(key)?.as_str() {
            "$rid" => &mut rid,
            "$version" => &mut version,
            _ => return None,
        };
        if value.is_empty() || slot.replace(value.to_owned()).is_some() {
            return None;
        }
    }
    Some((rid?, version))
}

fn properties(bag: &str) -> Result<Properties, TopicError> {
    let wrong = |why: String| Err(TopicError::Properties(why));
    let mut properties = Properties::new();
    if bag.contains('/') {
        return Err(TopicError::Unknown);
    }
    for field in bag.split('&').filter(|_| !bag.is_empty()) {
        let Some((key, value)) = field.split_once('=') else {
            return wrong(format!("`{field}` is not key=value"));
        };
        if key.is_empty() || value.contains(['=', ' ']) || key.contains(' ') {
            return wrong(format!("`{field}` holds a character that must be percent-encoded, or has no key"));
        }
        let (Some(key), Some(value)) = (percent::decode(key), percent::decode(value)) else {
            return wrong(format!("`{field}` is not percent-encoded"));
        };
        if !key.is_ascii() || !value.is_ascii() {
            return wrong(format!("`{key}` holds more than ASCII"));
        }
        if key.starts_with("$.") && !SYSTEM.contains(&key.as_str()) {
            return wrong(format!("`{key}` is no system property that a client may send"));
        }
        if key == "$.mid" && !message_id(&value) {
            return wrong(format!("message id `{value}`"));
        }
        if properties.insert(key.clone(), value).is_some() {
            return wrong(format!("`{key}` is there more than once"));
        }
    }
    Ok(properties)
}

fn message_id(id: &str) -> bool {
    id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-:.+%_#*?!(),=@;$'".contains(&b))
}

/// The size of a message as the hub counts it: body, values of system properties, names and values of the others.
pub(super) fn counted_size(properties: &Properties, body: &[u8]) -> usize {
    let named = |(key, value): (&String, &String)| value.len() + if key.starts_with("$.") { 0 } else { key.len() };
    body.len() + properties.iter().map(named).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> ModuleId {
        ModuleId::new("d#1?", "m%41")
    }

    fn telemetry(bag: &str) -> Result<Topic, TopicError> {
        parse(&format!("devices/d#1?/modules/m%41/messages/events/{bag}"), &id())
    }

    #[test]
    fn a_bag_is_decoded_and_both_spellings_of_a_system_property_are_one() {
        let expected: Properties =
            [("$.ct", "application/json;charset=utf-8"), ("$.mid", "a:1"), ("my key", ""), ("p", "a=b&c/")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        for dollar in ["$.", "%24."] {
            let bag =
                format!("{dollar}ct=application%2Fjson%3Bcharset%3Dutf-8&{dollar}mid=a%3A1&my%20key=&p=a%3Db%26c%2F");
            assert_eq!(telemetry(&bag), Ok(Topic::Telemetry(expected.clone())));
        }
        assert_eq!(telemetry(""), Ok(Topic::Telemetry(Properties::new())));
        assert_eq!(counted_size(&expected, b"12"), 2 + 30 + 3 + 6 + 1 + 6);
    }

    #[test]
    fn a_wrong_bag_is_refused() {
        for bag in [
            "a",
            "a=%",
            "a=%fZ",
            "a=b=c",
            "a=1&a=2",
            "=1",
            "a=b c",
            "a=%C3%BC",
            "$.cdid=x",
            "$.what=x",
            "&",
            "$.mid=%20",
        ] {
            assert!(matches!(telemetry(bag), Err(TopicError::Properties(_))), "{bag}");
        }
        assert_eq!(telemetry("a=b/c"), Err(TopicError::Unknown));
        assert!(telemetry(&format!("$.mid={}", "a".repeat(128))).is_ok());
        assert!(telemetry(&format!("$.mid={}", "a".repeat(129))).is_err());
    }

    #[test]
    fn only_the_modules_own_topics_are_known() {
        let known = |topic: &str| parse(topic, &id());
        assert_eq!(known("$iothub/twin/GET/?$rid=1"), Ok(Topic::TwinGet { rid: "1".into() }));
        assert_eq!(
            known("$iothub/twin/PATCH/properties/reported/?%24rid=a&$version=7"),
            Ok(Topic::Report { rid: "a".into(), if_version: Some("7".into()) })
        );
        assert_eq!(known("$iothub/methods/res/200/?$rid=9"), Ok(Topic::MethodAnswer { rid: "9".into(), status: 200 }));
        for topic in [
            "devices/d#1?/modules/other/messages/events/",
            "devices/d#1?/messages/events/",
            "devices/d#1?/modules/m%41/messages/events",
            "devices/d#1?/modules/mA/messages/events/",
            "$iothub/twin/GET/",
            "$iothub/twin/GET/?$rid=",
            "$iothub/twin/GET/?$rid=1&$rid=2",
            "$iothub/twin/PATCH/properties/desired/?$rid=1",
            "$iothub/methods/res/ok/?$rid=1",
            "hello",
        ] {
            assert_eq!(known(topic), Err(TopicError::Unknown), "{topic}");
        }
    }

    #[test]
    fn only_the_documented_filters_are_known() {
        for good in [TWIN_ANSWERS, DESIRED_NOTICES, "$iothub/methods/POST/#", "$iothub/methods/POST/reboot/#"] {
            assert!(may_subscribe(good, &id()), "{good}");
        }
        assert!(may_subscribe("devices/d#1?/modules/m%41/inputs/#", &id()));
        for bad in [
            "#",
            "$iothub/#",
            "$iothub/twin/#",
            "$iothub/methods/POST/+/#",
            "$iothub/methods/POST/a/b/#",
            "devices/x/modules/m/#",
        ] {
            assert!(!may_subscribe(bad, &id()), "{bad}");
        }
        assert!(covers_method("$iothub/methods/POST/#", "a") && covers_method("$iothub/methods/POST/a/#", "a"));
        assert!(!covers_method("$iothub/methods/POST/ab/#", "a"));
    }

    proptest! {
        #[test]
        fn no_topic_makes_it_panic(topic in ".*") {
            let _ = parse(&topic, &id());
            let _ = telemetry(&topic);
            let _ = may_subscribe(&topic, &id());
        }
    }
}
