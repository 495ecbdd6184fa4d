//! Each event is delivered, and counted once, whatever becomes of acknowledgements and connections.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::task::JoinSet;
use twinward::control::Request;
use twinward::lab::{Happening, PubAckFault, TwinFault, Why};

use crate::harness::{Agent, Hub, PROVOKED, Place, Received, eventually, keys};

async fn pair() -> (Hub, Agent) {
    let mut hub = Hub::start().await;
    let agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    (hub, agent)
}

fn mids(messages: &[Received]) -> BTreeSet<String> {
    messages.iter().map(|message| message.mid.clone()).collect()
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_as_it_was() {
    let (mut hub, agent) = pair().await;
    agent.books_agree(&mut hub).await;
    hub.faults(|faults| faults.pub_ack = PubAckFault::Withhold);
    hub.provoke("held");
    let first = hub.provoked("held").await;
    let status = agent.status("it is on the wire", |s| (s["inFlight"].as_u64() > Some(0)).then(|| s.clone())).await;
    let pending = status["balance"]["low"]["pending"].as_u64().unwrap();
    assert!(pending >= PROVOKED as u64, "{status}");
    let mark = hub.mark();
    hub.faults(|faults| faults.pub_ack = PubAckFault::None);
    hub.kick();
    hub.connected(mark).await;
    agent.books_agree(&mut hub).await;
    for message in &first {
        let same: Vec<_> = hub.messages().into_iter().filter(|m| m.mid == message.mid).collect();
        assert!(same.len() == 2 && same.iter().all(|m| m == message), "{same:#?}");
    }
}

#[tokio::test]
async fn late_doubled_and_swapped_acknowledgements_are_each_counted_once() {
    let (mut hub, agent) = pair().await;
    for (mark, fault) in
        [("late", PubAckFault::LateMs(300)), ("swapped", PubAckFault::OutOfOrder), ("doubled", PubAckFault::Duplicate)]
    {
        hub.faults(|faults| faults.pub_ack = fault);
        // More than fits into one message.
        let before = hub.messages().len();
        for part in ["a", "b"] {
            let version = hub.provoke(&format!("{mark}-{part}"));
            // Changes that come together would be taken as one.
            hub.taken(version).await;
        }
        for part in ["a", "b"] {
            hub.provoked(&format!("{mark}-{part}")).await;
        }
        agent.books_agree(&mut hub).await;
        let messages = hub.messages().split_off(before);
        let connects = hub.seen().iter().filter(|what| matches!(what, Happening::Connected { .. })).count();
        // The second acknowledgement is one of nothing, which breaks the protocol: it costs the connection, and then
        // the rest comes again. It never costs or doubles an event.
        if fault != PubAckFault::Duplicate {
            assert_eq!(connects, 1, "{mark}");
            let came: Vec<_> = messages.iter().map(|m| (&m.mid, m.events.len())).collect();
            assert!(came.len() > 1 && mids(&messages).len() == came.len(), "{mark}: {came:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_closes_at_any_byte_loses_nothing() {
    let mut all = JoinSet::new();
    // Within CONNECT; after it; within the subscriptions; within messages.
    for byte in [12, 350, 420, 450, 480, 520, 1200, 3000, 5000, 9000, 12_000] {
        all.spawn(async move {
            let mut hub = Hub::start().await;
            hub.faults(|faults| faults.close_at_byte = Some(byte));
            let agent = Place::new(&hub).start();
            if byte > 2000 {
                // More than the agent says by itself.
                agent.linked().await;
                hub.provoke("more");
                hub.provoke("still more");
            }
            hub.until(&format!("the end at byte {byte}"), |seen| {
                let ended = |what: &Happening| match what {
                    Happening::Disconnected(why) => *why == Why::ClosedAtByte(byte),
                    Happening::Refused { reason, .. } => reason.contains(&format!("byte {byte}")),
                    _ => false,
                };
                seen.iter().any(ended).then_some(())
            })
            .await;
            agent.linked().await;
            hub.provoke("after");
            hub.provoked("after").await;
            agent.books_agree(&mut hub).await;
            let told = agent.lines("link down");
            assert_eq!(told.len(), 1, "byte {byte}: {told:?}");
            assert!(told[0].contains("the connection was closed by the other side"), "byte {byte}: {told:?}");
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn five_kicks_lose_nothing_and_each_is_told_on_one_line() {
    let (mut hub, agent) = pair().await;
    for n in 1..=5 {
        let mark = hub.mark();
        let version = hub.provoke(&format!("kick-{n}"));
        hub.taken(version).await;
        hub.kick();
        hub.connected(mark).await;
    }
    agent.linked().await;
    for n in 1..=5 {
        hub.provoked(&format!("kick-{n}")).await;
    }
    agent.books_agree(&mut hub).await;
    let told = agent.lines("link down: the connection was closed by the other side");
    assert_eq!(told.len(), 5, "{}", agent.log());
}

#[tokio::test]
async fn a_hub_that_reads_nothing_is_waited_for() {
    let (mut hub, agent) = pair().await;
    hub.faults(|faults| faults.stall = true);
    hub.provoke("stalled");
    let waits = |status: &serde_json::Value| {
        let low = &status["balance"]["low"]["pending"];
        (low.as_u64() >= Some(PROVOKED as u64) && status["inFlight"].as_u64() > Some(0)).then_some(())
    };
    agent.status("it is on the wire", waits).await;
    assert!(!hub.messages().iter().any(|m| m.events.iter().any(|e| e["Name"] == "ConfigurationError")));
    hub.faults(|faults| faults.stall = false);
    hub.provoked("stalled").await;
    agent.books_agree(&mut hub).await;
    let connects = hub.seen().iter().filter(|what| matches!(what, Happening::Connected { .. })).count();
    assert_eq!(connects, 1, "the same connection goes on");
}

/// Judges that messages go while the twin cannot be had, and that the twin is taken when it can.
async fn goes_without_the_twin(fault: TwinFault) {
    let mut hub = Hub::start().await;
    hub.faults(|faults| faults.twin_get = Some(fault));
    let mut agent = Place::new(&hub).start();
    agent.linked().await;
    agent.status("something waits", |status| (status["low"]["records"].as_u64() > Some(0)).then_some(())).await;
    assert_eq!(agent.ask(Request::Flush).await.unwrap(), json!({"flushing": true}));
    hub.until("a message", |seen| {
        assert!(!seen.iter().any(|what| matches!(what, Happening::Reported { .. })), "against what was it compared?");
        seen.iter().any(|what| matches!(what, Happening::Telemetry(_))).then_some(())
    })
    .await;
    agent.status("acknowledged", |status| (status["inFlight"] == 0).then_some(())).await;
    hub.faults(|faults| faults.twin_get = None);
    if fault != TwinFault::Silence {
        agent.says("twin GET: status").await;
        hub.taken(1).await;
        agent.books_agree(&mut hub).await;
    }
}

#[tokio::test]
async fn messages_do_not_wait_for_a_twin_that_is_refused() {
    tokio::join!(goes_without_the_twin(TwinFault::Status(429)), goes_without_the_twin(TwinFault::Status(500)));
}

#[tokio::test]
async fn messages_do_not_wait_long_for_a_twin_that_never_comes() {
    goes_without_the_twin(TwinFault::Silence).await;
}

#[tokio::test]
async fn a_report_that_the_hub_put_off_is_sent_again() {
    let mut hub = Hub::start().await;
    hub.faults(|faults| faults.twin_report = Some(TwinFault::Status(429)));
    let mut agent = Place::new(&hub).start();
    let refused = |seen: &[Happening]| {
        seen.iter().any(|what| matches!(what, Happening::ReportRefused { status: Some(429), .. })).then_some(())
    };
    hub.until("a report that is put off", refused).await;
    agent.says("the hub refused the reported properties").await;
    hub.faults(|faults| faults.twin_report = None);
    hub.taken(1).await;
    // Only what the agent itself thinks is compared: the hub has the whole of it.
    hub.provoke("after");
    hub.provoked("after").await;
    agent.books_agree(&mut hub).await;
    let version = hub.patch_desired(keys([("hubResourceId", json!("again"))])).unwrap();
    hub.taken(version).await;
}

#[tokio::test]
async fn what_the_cache_cannot_hold_is_dropped_counted_and_told() {
    let (mut hub, agent) = pair().await;
    agent.books_agree(&mut hub).await;
    let version = hub.patch_desired(keys([("maxLocalCacheSizeInBytes", json!(16_384))])).unwrap();
    hub.taken(version).await;
    hub.faults(|faults| faults.stall = true);
    let mut collected = 0;
    for n in 1..=5 {
        hub.provoke(&format!("flood-{n}"));
        collected = agent
            .status("it is collected", |status| {
                let now = status["balance"]["low"]["collected"].as_u64().unwrap();
                (now >= collected + PROVOKED as u64).then_some(now)
            })
            .await;
    }
    hub.faults(|faults| faults.stall = false);
    let version = hub.patch_desired(keys([("snapshotFrequency", json!("PT5S"))])).unwrap();
    hub.taken(version).await;
    let told = eventually("the loss is told", || {
        let told =
            hub.events().into_values().filter(|event| event["Name"] == "DroppedEventsStatistics").find_map(|event| {
                let low =
                    event["Payload"].as_array().unwrap().iter().find(|item| item["Queue"] == "Low").unwrap().clone();
                (low["DroppedEvents"].as_u64() > Some(0)).then_some(low)
            });
        std::future::ready(told)
    })
    .await;
    let dropped = told["DroppedEvents"].as_u64().unwrap();
    assert_eq!(told["ExtraDetails"]["Dropped.cacheFull"], dropped.to_string(), "{told}");
    // No more snapshots, so that both sides can be compared.
    let version = hub.patch_desired(keys([("snapshotFrequency", json!("PT13H"))])).unwrap();
    hub.taken(version).await;
    let status = agent.delivered().await;
    let low = &status["balance"]["low"];
    let of = |name: &str| low[name].as_u64().unwrap();
    assert_eq!(low["dropped"], json!({ "cacheFull": dropped }));
    assert_eq!(of("collected"), of("delivered") + dropped + of("pending"), "{low}");
    let delivered = of("delivered") + status["balance"]["high"]["delivered"].as_u64().unwrap();
    assert_eq!(hub.hits(), delivered, "what came is what is counted as delivered");
}

#[tokio::test]
async fn an_event_that_was_stored_under_a_larger_limit_goes_alone() {
    let slow = json!({"maxMessageSizeInBytes": 262_144, "highPriorityMessageFrequency": "PT1H",
        "lowPriorityMessageFrequency": "PT1H", "eventPriorityListeningPorts": "High"});
    let mut hub = Hub::with(slow).await;
    // A hundred sockets make an event that no small message holds.
    let sockets: Vec<_> = (0..100).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let agent = Place::new(&hub).start();
    agent.linked().await;
    agent.status("the sockets", |s| (s["balance"]["high"]["collected"].as_u64() > Some(0)).then_some(())).await;
    drop(sockets);
    let version = hub.patch_desired(keys([("maxMessageSizeInBytes", json!(8192))])).unwrap();
    hub.taken(version).await;
    // Together they are more than one message.
    for mark in ["before", "beside"] {
        let version = hub.provoke(mark);
        hub.taken(version).await;
    }
    assert_eq!(agent.ask(Request::Flush).await.unwrap(), json!({"flushing": true}));
    let large = hub
        .until("the large event", |seen| {
            seen.iter().find_map(|what| match what {
                Happening::Telemetry(message) if message.body.len() > 8192 => Some(message.body.clone()),
                _ => None,
            })
        })
        .await;
    let message: serde_json::Value = serde_json::from_slice(&large).unwrap();
    assert_eq!(
        (message["Events"].as_array().unwrap().len(), &message["Events"][0]["Name"]),
        (1, &json!("ListeningPorts"))
    );
    agent.books_agree(&mut hub).await;
    let bodies = hub.seen().iter().filter_map(|what| match what {
        Happening::Telemetry(message) => Some(message.body.len()),
        _ => None,
    });
    let (above, within): (Vec<usize>, Vec<usize>) = bodies.partition(|size| *size > 8192);
    assert!(above.len() == 1 && within.len() > 1, "{above:?} {within:?}");
}

#[tokio::test]
async fn low_events_ride_with_high_ones_only_as_far_as_it_costs_nothing() {
    let mut hub = Hub::with(json!({"lowPriorityMessageFrequency": "PT1H", "maxMessageSizeInBytes": 204_800})).await;
    let agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    // Three rounds of low events, more than a billing step; then a high one.
    for round in ["a", "b", "c"] {
        let version = hub.provoke(round);
        hub.taken(version).await;
    }
    let low = agent.status("low events", |s| s["low"]["bytes"].as_u64().filter(|bytes| *bytes > 10_000)).await;
    let mark = hub.mark();
    let high = keys([("eventPriorityConfigurationError", json!("High")), ("snapshotFrequency", json!("never"))]);
    let version = hub.patch_desired(high).unwrap();
    hub.taken(version).await;
    let body = hub
        .until_after(mark, "the message of the high event", |what| match what {
            Happening::Telemetry(message) => Some(message.body.clone()),
            _ => None,
        })
        .await;
    let events = serde_json::from_slice::<serde_json::Value>(&body).unwrap()["Events"].as_array().unwrap().clone();
    assert!(events.len() > 1, "it has riders: {events:#?}");
    assert!(body.len() <= 4096 && body.len() > 3000, "one step, and it is used: {} of {low}", body.len());
    assert!(agent.status("what stays", |s| s["low"]["bytes"].as_u64()).await > 6000);
    agent.ask(Request::Flush).await.unwrap();
    agent.books_agree(&mut hub).await;
}
