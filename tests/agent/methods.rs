//! Direct methods, called through the hub as an operator calls them.

use std::time::Duration;

use serde_json::{Value, json};
use twinward::lab::{Happening, MethodError};

use crate::harness::{Agent, Hub, LIMIT, Place, eventually, keys};

async fn call(hub: &Hub, name: &str, payload: &Value) -> (i64, Value) {
    let reply = hub.invoke_method(name, payload, LIMIT).await.unwrap();
    (reply.status, reply.payload)
}

/// A hub at which nothing leaves by itself for an hour, and an agent.
async fn quiet() -> (Hub, Agent) {
    let slow = json!({"highPriorityMessageFrequency": "PT1H", "lowPriorityMessageFrequency": "PT1H"});
    let mut hub = Hub::with(slow).await;
    let agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    (hub, agent)
}

fn named(hub: &mut Hub, name: &str) -> usize {
    hub.events().values().filter(|event| event["Name"] == name).count()
}

#[tokio::test]
async fn ping_and_status_tell_who_answers() {
    let (hub, agent) = quiet().await;
    let (status, answer) = call(&hub, "ping", &Value::Null).await;
    assert_eq!((status, &answer["version"]), (200, &json!(env!("CARGO_PKG_VERSION"))));
    let local = agent.status("the status", |status| Some(status.clone())).await;
    assert_eq!(answer["agentId"], local["agentId"]);
    let (status, answer) = call(&hub, "getStatus", &json!({})).await;
    assert_eq!((status, &answer["agentId"], &answer["link"]["state"]), (200, &local["agentId"], &json!("ready")));
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&answer), members(&local), "the same as on the device");
}

#[tokio::test]
async fn collect_now_takes_what_is_named_and_flush_sends_it() {
    let (mut hub, agent) = quiet().await;
    let (status, answer) =
        call(&hub, "collectNow", &json!({"events": ["SystemInformation", "ListeningPorts", "MessageStatistics"]}))
            .await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({"collected": ["SystemInformation", "MessageStatistics"], "off": ["ListeningPorts"], "unavailable": []})
    );
    let taken =
        agent.status("two snapshots", |s| (s["balance"]["low"]["collected"].as_u64()? >= 2).then(|| s.clone())).await;
    assert_eq!(named(&mut hub, "SystemInformation"), 0, "nothing leaves before its time");
    let (status, answer) = call(&hub, "flush", &Value::Null).await;
    assert_eq!(status, 200);
    assert!(answer["pendingEvents"]["low"].as_u64() >= taken["balance"]["low"]["pending"].as_u64(), "{answer}");
    // One of the start, one that was asked for.
    hub.until("both snapshots", |seen| {
        let text: String = seen
            .iter()
            .filter_map(|what| match what {
                Happening::Telemetry(message) => Some(String::from_utf8_lossy(&message.body).into_owned()),
                _ => None,
            })
            .collect();
        (text.matches("\"Name\":\"SystemInformation\"").count() >= 2).then_some(())
    })
    .await;
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn collect_now_says_what_it_did_and_does_no_more() {
    let (mut hub, agent) = quiet().await;
    let (status, answer) =
        call(&hub, "collectNow", &json!({"events": ["MessageStatistics", "FirewallConfiguration"]})).await;
    let body = json!({"collected": ["MessageStatistics"], "off": [], "unavailable": ["FirewallConfiguration"]});
    assert_eq!((status, answer), (200, body));
    let (status, answer) = call(&hub, "collectNow", &Value::Null).await;
    assert_eq!(
        (status, &answer["off"], &answer["unavailable"]),
        (200, &json!(["ListeningPorts", "OSBaseline"]), &json!([]))
    );
    agent.books_agree(&mut hub).await;
    // One of the start, and those that were told.
    let collected: Vec<&str> =
        answer["collected"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for (name, times) in [("SystemInformation", 2), ("DroppedEventsStatistics", 2), ("MessageStatistics", 3)] {
        assert_eq!((named(&mut hub, name), collected.contains(&name)), (times, true), "{name}");
    }
    assert_eq!(collected.len(), 3, "{collected:?}");
}

#[tokio::test]
async fn a_flood_of_refused_calls_does_not_fill_the_log() {
    let (mut hub, agent) = quiet().await;
    let mut given = std::collections::BTreeMap::new();
    for n in 0..60 {
        let (status, _) = call(&hub, &format!("method{n}"), &Value::Null).await;
        *given.entry(status).or_insert(0) += 1;
    }
    assert!(given.keys().all(|status| [404, 429].contains(status)) && given[&404] >= 5, "{given:?}");
    let (status, _) = call(&hub, "ping", &Value::Null).await;
    assert_eq!(status, 200);
    // Slow as the machine may be: a line a minute.
    let lines = agent.lines("direct method method=");
    assert!((2..=10).contains(&lines.len()), "{lines:#?}");
    assert!(lines[0].contains("method=method0 status=404") && lines.iter().any(|l| l.contains("refused_before=")));
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn a_bad_call_is_refused_and_a_flood_is_slowed_down() {
    let (mut hub, agent) = quiet().await;
    for (name, payload, status) in [
        ("ping", json!({"a": 1}), 400),
        ("collectNow", json!({"events": ["Login"]}), 400),
        ("collectNow", json!({"events": "all"}), 400),
        ("reboot", json!({"delay": "; reboot"}), 404),
    ] {
        let (given, answer) = call(&hub, name, &payload).await;
        assert_eq!(given, status, "{name} {payload}: {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    let mut refused = 0;
    for _ in 0..40 {
        let (status, answer) = call(&hub, "flush", &Value::Null).await;
        if status == 429 {
            assert!((1..=30).contains(&answer["retryAfterSeconds"].as_u64().unwrap()), "{answer}");
            refused += 1;
        }
    }
    assert!(refused >= 36, "{refused}");
    // Telemetry and twin are as alive as before.
    let version = hub.patch_desired(keys([("snapshotFrequency", json!("PT2H"))])).unwrap();
    hub.taken(version).await;
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn methods_can_be_switched_off_on_the_device() {
    let mut hub = Hub::start().await;
    let place = Place::new(&hub);
    place.edit("[hub]\n", "[hub]\ndirect_methods = false\n");
    let agent = place.start();
    agent.linked().await;
    hub.taken(1).await;
    let answer = hub.invoke_method("ping", &Value::Null, LIMIT).await;
    assert_eq!(answer, Err(MethodError::NotOnline));
}

#[tokio::test]
async fn a_call_that_loses_its_connection_harms_nothing() {
    let (mut hub, agent) = quiet().await;
    let mark = hub.mark();
    let lost = hub.invoke_method("collectNow", &Value::Null, Duration::from_millis(1));
    hub.kick();
    assert!(matches!(lost.await, Err(MethodError::TimedOut | MethodError::NotOnline) | Ok(_)));
    hub.connected(mark).await;
    let answered = eventually("an answer after the reconnect", || async {
        hub.invoke_method("ping", &Value::Null, LIMIT).await.ok()
    });
    assert_eq!(answered.await.status, 200);
    agent.books_agree(&mut hub).await;
}
