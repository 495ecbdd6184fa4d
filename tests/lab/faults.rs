//! Misbehaviour on request.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;
use twinward::lab::{Happening, PubAckFault, Refusal, TwinFault, Why};

use super::client::{Client, EVENTS, Got, Login, NOTICES, TWIN_ANSWERS, disconnected, lab, refused, until};

#[tokio::test]
async fn new_connections_are_refused() {
    let (lab, mut watcher) = lab().await;
    let mut standing = Client::sign_in(&lab).await;
    lab.faults(|faults| faults.refuse = Some(Refusal::Close));
    assert!(Client::dial(&lab).await.is_err());
    assert_eq!(refused(&mut watcher).await.0, None);
    lab.faults(|faults| faults.refuse = Some(Refusal::ConnAck(3)));
    let (_, answer) = Client::try_sign_in(&lab, &Login::new(&lab.connection_string())).await;
    assert_eq!(answer, Got::ConnAck { session_present: false, code: 3 });
    assert_eq!(refused(&mut watcher).await.0, Some(3));
    assert_eq!(standing.ping().await, [], "those that stand are left alone");
    lab.faults(|faults| faults.refuse = None);
    Client::sign_in(&lab).await;
}

#[tokio::test]
async fn a_kick_closes_and_the_next_try_works() {
    let (lab, mut watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    lab.kick();
    assert_eq!(client.read().await, Got::End);
    assert_eq!(disconnected(&mut watcher).await, Why::Kicked);
    Client::sign_in(&lab).await;
}

#[tokio::test]
async fn a_cut_closes_everything_and_nothing_listens_until_it_ends() {
    let (lab, mut watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    lab.faults(|faults| faults.cut = true);
    assert_eq!(client.read().await, Got::End);
    let listening = |what: &Happening| match what {
        Happening::Listening { on } => Some(*on),
        _ => None,
    };
    assert!(!until(&mut watcher, listening).await);
    let refused = TcpStream::connect(lab.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    lab.faults(|faults| faults.cut = false);
    assert!(until(&mut watcher, listening).await);
    Client::sign_in(&lab).await;
}

#[tokio::test]
async fn pub_acks_are_withheld_late_doubled_or_swapped() {
    let (lab, mut watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    lab.faults(|faults| faults.pub_ack = PubAckFault::Withhold);
    client.publish(EVENTS, 1, b"x").await;
    assert_eq!(client.ping().await, []);
    until(&mut watcher, |what| matches!(what, Happening::Telemetry(_)).then_some(())).await;

    lab.faults(|faults| faults.pub_ack = PubAckFault::LateMs(1000));
    let sent = now();
    client.publish(EVENTS, 2, b"x").await;
    assert_eq!(client.ping().await, [], "the pong overtakes");
    assert_eq!(client.read().await, Got::PubAck(2));
    assert!(now() - sent >= Duration::from_millis(1000));

    lab.faults(|faults| faults.pub_ack = PubAckFault::Duplicate);
    client.publish(EVENTS, 3, b"x").await;
    assert_eq!(client.ping().await, [Got::PubAck(3), Got::PubAck(3)]);

    lab.faults(|faults| faults.pub_ack = PubAckFault::OutOfOrder);
    for id in 4..=6 {
        client.publish(EVENTS, id, b"x").await;
    }
    for id in [5, 4, 6] {
        assert_eq!(client.read().await, Got::PubAck(id));
    }
    lab.faults(|faults| faults.pub_ack = PubAckFault::None);
    client.publish(EVENTS, 7, b"x").await;
    assert_eq!(client.read().await, Got::PubAck(7));
}

#[tokio::test]
async fn twin_requests_are_refused_lost_or_late() {
    let (lab, _watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    client.subscribe(TWIN_ANSWERS).await;
    let get = "$iothub/twin/GET/?$rid=1";
    let report = "$iothub/twin/PATCH/properties/reported/?$rid=2";
    let topics = |got: Vec<Got>| -> Vec<String> {
        got.into_iter()
            .map(|got| match got {
                Got::Publish { topic, .. } => topic,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    for status in [429, 500] {
        lab.faults(|faults| {
            faults.twin_get = Some(TwinFault::Status(status));
            faults.twin_report = Some(TwinFault::Status(status));
        });
        client.publish_as(0x30, get, 0, b"").await;
        client.publish_as(0x30, report, 0, b"{\"a\":1}").await;
        let expected = [1, 2].map(|rid| format!("$iothub/twin/res/{status}/?$rid={rid}"));
        assert_eq!(topics(client.ping().await), expected);
    }
    lab.faults(|faults| {
        faults.twin_get = Some(TwinFault::Silence);
        faults.twin_report = Some(TwinFault::Silence);
    });
    client.publish_as(0x30, get, 0, b"").await;
    client.publish_as(0x30, report, 0, b"{\"a\":1}").await;
    assert_eq!(client.ping().await, []);
    assert_eq!(lab.reported(), json!({"$version": 1}), "what is refused or lost has no effect");
    lab.faults(|faults| {
        faults.twin_get = Some(TwinFault::LateMs(1500));
        faults.twin_report = Some(TwinFault::LateMs(500));
    });
    client.publish_as(0x30, get, 0, b"").await;
    client.publish_as(0x30, report, 0, b"{\"a\":1}").await;
    assert_eq!(client.ping().await, []);
    let late = vec![client.read().await, client.read().await];
    assert_eq!(topics(late), ["$iothub/twin/res/204/?$rid=2&$version=2", "$iothub/twin/res/200/?$rid=1"]);
}

#[tokio::test]
async fn notices_are_missed_or_come_twice() {
    let (lab, _watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    client.subscribe(NOTICES).await;
    lab.faults(|faults| faults.miss_desired_notices = true);
    assert_eq!(lab.patch_desired(json!({"a": 1})), Ok(2));
    assert_eq!(client.ping().await, []);
    lab.faults(|faults| {
        faults.miss_desired_notices = false;
        faults.duplicate_desired_notices = true;
    });
    assert_eq!(lab.patch_desired(json!({"a": 2})), Ok(3));
    let body = "{\"$version\":3,\"a\":2}".to_owned();
    let notice = Got::Publish { topic: "$iothub/twin/PATCH/properties/desired/?$version=3".into(), body };
    assert_eq!([client.read().await, client.read().await], [notice.clone(), notice]);
}

#[tokio::test]
async fn a_stalled_hub_reads_nothing_until_it_is_well() {
    let (lab, _watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    lab.faults(|faults| faults.stall = true);
    client.publish(EVENTS, 1, b"x").await;
    assert!(client.silent().await);
    lab.faults(|faults| faults.stall = false);
    assert_eq!(client.read().await, Got::PubAck(1));
}

#[tokio::test]
async fn a_connection_is_closed_at_the_byte_that_was_named_and_only_once() {
    let (lab, mut watcher) = lab().await;
    lab.faults(|faults| faults.close_at_byte = Some(20));
    let (_, answer) = Client::try_sign_in(&lab, &Login::new(&lab.connection_string())).await;
    assert_eq!(answer, Got::End, "in the middle of CONNECT");
    assert!(refused(&mut watcher).await.1.contains("byte 20"));
    let mut client = Client::sign_in(&lab).await;
    assert_eq!(client.ping().await, []);
    lab.faults(|faults| faults.close_at_byte = Some(1));
    assert_eq!(client.read().await, Got::End, "a byte that has passed closes at once");
    assert_eq!(disconnected(&mut watcher).await, Why::ClosedAtByte(1));
    assert_eq!(lab.current_faults().close_at_byte, None);
}

#[expect(clippy::disallowed_methods, reason = "a test measures the time it waited")]
fn now() -> Instant {
    Instant::now()
}
