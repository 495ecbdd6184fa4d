//! What a call of a direct method asks for, and whether it may: pure.
//!
//! | method | payload | does |
//! |---|---|---|
//! | `ping` | none | says who answers |
//! | `getStatus` | none | says what `twinward status --json` says |
//! | `collectNow` | none, or `{"events": ["ListeningPorts", …]}` | takes these snapshots, else all that are on |
//! | `flush` | none | closes the aggregates and sends everything that waits |
//!
//! No payload, `null` and `{}` are the same. Refused are with 400 whatever is no such payload, with 404 an unknown method,
//! with 429 what comes too often: each method has so many calls at once and one more after each pause, and so have all
//! unknown ones together.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::model::event::{Category, EventName};
use crate::model::time::Mono;

/// Deepest nesting of a payload that is looked at; the arguments have two levels.
const MAX_DEPTH: usize = 8;

/// Each method: its name, the calls it takes at once, and the pause after which it takes one more. What costs the device
/// more is rarer.
const METHODS: [(&str, u32, Duration); 4] = [
    ("ping", 10, Duration::from_secs(2)),
    ("getStatus", 5, Duration::from_secs(5)),
    ("collectNow", 3, Duration::from_secs(60)),
    ("flush", 3, Duration::from_secs(30)),
];

/// The same for all names that are no method.
const UNKNOWN: (u32, Duration) = (5, Duration::from_secs(10));

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Ping,
    Status,
    /// These events; all if there are none.
    Collect(Vec<EventName>),
    Flush,
}

/// An answer: status as in HTTP, and its JSON.
pub(super) type Answer = (u16, Value);

/// Calls that may still come.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Since when it has been filling; full after as many pauses as it takes calls.
    since: Mono,
}

/// Judges calls.
#[derive(Debug)]
pub(super) struct Judge {
    buckets: [Option<Bucket>; METHODS.len()],
    unknown: Option<Bucket>,
}

impl Judge {
    pub(super) fn new() -> Self {
        Self { buckets: [None; METHODS.len()], unknown: None }
    }

    /// What the call asks for.
    ///
    /// # Errors
    /// The answer for a call that is refused.
    pub(super) fn judge(&mut self, name: &str, payload: &[u8], now: Mono) -> Result<Asked, Answer> {
        let mut known = METHODS.iter().zip(&mut self.buckets).filter(|((known, ..), _)| *known == name);
        let Some(((_, calls, pause), bucket)) = known.next() else {
            take(&mut self.unknown, UNKNOWN.0, UNKNOWN.1, now).map_err(too_often)?;
            let known: Vec<&str> = METHODS.iter().map(|(known, ..)| *known).collect();
            return Err((404, json!({ "error": "there is no such method", "methods": known })));
        };
        take(bucket, *calls, *pause, now).map_err(too_often)?;
        let arguments = arguments(payload)?;
        match name {
            "ping" => none(&arguments).map(|()| Asked::Ping),
            "getStatus" => none(&arguments).map(|()| Asked::Status),
            "flush" => none(&arguments).map(|()| Asked::Flush),
            _ => events(&arguments).map(Asked::Collect),
        }
    }
}

/// Takes one call out of a bucket.
fn take(bucket: &mut Option<Bucket>, calls: u32, pause: Duration, now: Mono) -> Result<(), Duration> {
    let full = pause * calls;
    let filled = bucket.map_or(full, |bucket| now.since(bucket.since).min(full));
    let left = filled.checked_sub(pause).ok_or_else(|| pause.saturating_sub(filled))?;
    // As if it had been filling since then, with this call taken out. Early after boot there is no such moment: then it
    // counts as less full than it is.
    *bucket = Some(Bucket { since: Mono::from_boot(now.since_boot().saturating_sub(left)) });
    Ok(())
}

fn too_often(wait: Duration) -> Answer {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    (429, json!({ "error": "called too often", "retryAfterSeconds": seconds }))
}

fn bad(why: impl Into<String>) -> Answer {
    (400, json!({ "error": why.into() }))
}

fn arguments(payload: &[u8]) -> Result<Map<String, Value>, Answer> {
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    // Strings may hold brackets too; nothing that is meant for us has so many.
    if payload.iter().filter(|b| matches!(b, b'[' | b'{')).count() > MAX_DEPTH {
        return Err(bad("the payload is nested too deep"));
    }
    match serde_json::from_slice(payload) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(bad("the payload must be a JSON object")),
        Err(_) => Err(bad("the payload is not JSON")),
    }
}

fn none(arguments: &Map<String, Value>) -> Result<(), Answer> {
    if arguments.is_empty() { Ok(()) } else { Err(bad("this method takes no arguments")) }
}

fn events(arguments: &Map<String, Value>) -> Result<Vec<EventName>, Answer> {
    if arguments.keys().any(|key| key != "events") {
        return Err(bad("the only argument is \"events\""));
    }
    let list = match arguments.get("events") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(bad("\"events\" must be a list of event names")),
    };
    let mut names = Vec::new();
    for given in list {
        let name = given.as_str().and_then(EventName::parse).filter(|name| name.category() == Category::Periodic);
        let Some(name) = name else {
            let known: Vec<EventName> =
                EventName::ALL.into_iter().filter(|name| name.category() == Category::Periodic).collect();
            return Err((
                400,
                json!({ "error": "\"events\" holds something that is no periodic event", "events": known }),
            ));
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { Err(bad("\"events\" is empty")) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: u64) -> Mono {
        Mono::from_boot(Duration::from_secs(second))
    }

    fn judged(name: &str, payload: &str) -> Result<Asked, u16> {
        Judge::new().judge(name, payload.as_bytes(), at(10_000)).map_err(|(status, _)| status)
    }

    #[test]
    fn each_call_is_understood_or_refused() {
        use EventName::{ListeningPorts, MessageStatistics};
        for (name, payload, expected) in [
            ("ping", "", Ok(Asked::Ping)),
            ("ping", " null\n", Ok(Asked::Ping)),
            ("getStatus", "{}", Ok(Asked::Status)),
            ("flush", "{}", Ok(Asked::Flush)),
            ("collectNow", "null", Ok(Asked::Collect(vec![]))),
            ("collectNow", r#"{"events":null}"#, Ok(Asked::Collect(vec![]))),
            (
                "collectNow",
                r#"{"events":["ListeningPorts","MessageStatistics","ListeningPorts"]}"#,
                Ok(Asked::Collect(vec![ListeningPorts, MessageStatistics])),
            ),
            ("ping", "5", Err(400)),
            ("ping", r#"{"a":1}"#, Err(400)),
            ("ping", "{", Err(400)),
            ("ping", "\u{0}", Err(400)),
            ("getStatus", "[]", Err(400)),
            ("flush", "[[[[[[[[[[", Err(400)),
            ("collectNow", r#"{"events":"ListeningPorts"}"#, Err(400)),
            ("collectNow", r#"{"events":[]}"#, Err(400)),
            ("collectNow", r#"{"events":["Login"]}"#, Err(400)),
            ("collectNow", r#"{"events":["listeningports"]}"#, Err(400)),
            ("collectNow", r#"{"events":[5]}"#, Err(400)),
            ("collectNow", r#"{"events":["ListeningPorts"],"force":true}"#, Err(400)),
            ("Ping", "", Err(404)),
            ("reboot", "", Err(404)),
        ] {
            assert_eq!(judged(name, payload), expected, "{name} {payload}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let mut judge = Judge::new();
        let (_, body) = judge.judge("reboot", b"", at(0)).unwrap_err();
        assert_eq!(body["methods"], json!(["ping", "getStatus", "collectNow", "flush"]));
        let (_, body) = judge.judge("collectNow", br#"{"events":["Login"]}"#, at(0)).unwrap_err();
        assert_eq!(body["events"].as_array().unwrap().len(), 8);
        let calls: Vec<_> = (0..4).map(|_| judge.judge("flush", b"", at(1000))).collect();
        assert!(calls[..3].iter().all(Result::is_ok));
        assert_eq!(calls[3], Err((429, json!({ "error": "called too often", "retryAfterSeconds": 30 }))));
        assert_eq!(judge.judge("ping", b"", at(1000)), Ok(Asked::Ping), "each has its own measure");
        assert_eq!(judge.judge("flush", b"", at(1030)), Ok(Asked::Flush));
        assert!(judge.judge("flush", b"", at(1059)).is_err());
    }

    #[test]
    fn unknown_methods_have_one_measure_together() {
        let mut judge = Judge::new();
        let status = |judge: &mut Judge, n: u32, second| {
            judge.judge(&format!("method{n}"), b"", at(second)).map_err(|(status, _)| status).unwrap_err()
        };
        let answers: Vec<u16> = (0..7).map(|n| status(&mut judge, n, 1000)).collect();
        assert_eq!(answers, [404, 404, 404, 404, 404, 429, 429]);
        assert_eq!(judge.judge("ping", b"", at(1000)), Ok(Asked::Ping), "known ones do not suffer from it");
        assert_eq!((status(&mut judge, 7, 1010), status(&mut judge, 8, 1019)), (404, 429));
    }

    proptest! {
        /// However the calls come: in any stretch of time no more of them pass than the burst and one for each pause.
        #[test]
        fn no_method_passes_more_often_than_its_measure(which in 0..METHODS.len(), waits in prop::collection::vec(0_u64..40, 1..200)) {
            let (name, calls, pause) = METHODS[which];
            let (mut judge, mut now, mut passed) = (Judge::new(), 5000, Vec::new());
            for wait in waits {
                now += wait;
                if judge.judge(name, b"", at(now)).is_ok() {
                    passed.push(now);
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let most = u64::from(calls) + (to - from) / pause.as_secs();
                    prop_assert!((last - first + 1) as u64 <= most, "{} from {} to {}", name, from, to);
                }
            }
        }

        #[test]
        fn nothing_makes_it_panic(name in ".{0,20}", payload: Vec<u8>) {
            let mut judge = Judge::new();
            let _ = judge.judge(&name, &payload, at(0));
            let _ = judge.judge("collectNow", &payload, at(0));
        }
    }
}
