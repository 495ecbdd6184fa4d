//! Direct methods on a connection.

use twinward::hub::traffic::{MethodAnswer, MethodCall};
use twinward::hub::{FromHub, ToHub};

use crate::scripted::{CONNACK, Peer, SUBACK, Server};
use crate::{HOUR, Link, message, twin};

/// What the hub says to the second subscription.
const GRANTED: [u8; 5] = [0x90, 3, 0, 2, 0];
const REFUSED: [u8; 5] = [0x90, 3, 0, 2, 0x80];

/// A link that wants methods, at the point where the hub has both subscriptions and has answered neither.
async fn subscribing(server: &Server) -> (Link, Peer) {
    let link = Link::with(server.port(), Some(server.ca.path()), HOUR, true);
    let mut peer = server.accept().await;
    peer.packet().await;
    peer.send(&CONNACK).await;
    for filter in ["$iothub/twin/res/#", "$iothub/methods/POST/#"] {
        let (_, body) = peer.packet().await;
        assert!(String::from_utf8_lossy(&body).contains(filter));
    }
    (link, peer)
}

async fn answer_get(peer: &mut Peer) {
    let (_, rid) = peer.twin_request().await;
    peer.publish(&format!("$iothub/twin/res/200/?$rid={rid}"), &twin().to_string()).await;
}

async fn called(link: &mut Link) -> MethodCall {
    loop {
        match link.next().await {
            FromHub::Called(call) => return call,
            FromHub::State(_) | FromHub::Desired { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn call(rid: &str) -> MethodCall {
    MethodCall { connection: 0, name: "ping".into(), rid: rid.into(), payload: b"{}".to_vec() }
}

fn answer(rid: &str, status: u16) -> ToHub {
    ToHub::Answer(MethodAnswer { connection: 0, rid: rid.into(), status, body: "{}".into() })
}

#[tokio::test]
async fn a_hub_without_direct_methods_serves_everything_else() {
    let server = Server::new(|_| {}).await;
    let (mut link, mut peer) = subscribing(&server).await;
    peer.send(&SUBACK).await;
    peer.send(&REFUSED).await;
    answer_get(&mut peer).await;
    link.ready().await;
}

#[tokio::test]
async fn a_call_that_follows_its_subscription_at_once_is_answered() {
    let server = Server::new(|_| {}).await;
    // Whichever of the two subscriptions a hub grants first.
    for grants in [[SUBACK.as_slice(), &GRANTED], [GRANTED.as_slice(), &SUBACK]] {
        let (mut link, mut peer) = subscribing(&server).await;
        let [first, second] = grants;
        peer.send(first).await;
        if first == GRANTED {
            peer.publish("$iothub/methods/POST/ping/?$rid=0", "{}").await;
            assert_eq!(called(&mut link).await, call("0"), "before the twin is subscribed to");
            link.order(answer("0", 200)).await;
            assert_eq!(peer.twin_request().await, ("$iothub/methods/res/200/".to_owned(), "0".to_owned()));
        }
        peer.send(second).await;
        peer.publish("$iothub/methods/POST/ping/?$rid=1", "{}").await;
        assert_eq!(called(&mut link).await, call("1"));
        answer_get(&mut peer).await;
        link.order(answer("1", 200)).await;
        assert_eq!(peer.twin_request().await, ("$iothub/methods/res/200/".to_owned(), "1".to_owned()));
    }
}

#[tokio::test]
async fn calls_are_handed_on_and_answered_once() {
    let server = Server::new(|_| {}).await;
    let (mut link, mut peer) = subscribing(&server).await;
    peer.send(&SUBACK).await;
    peer.send(&GRANTED).await;
    answer_get(&mut peer).await;
    link.ready().await;
    peer.publish("$iothub/methods/POST/ping/?$rid=a1", "{}").await;
    peer.publish("$iothub/methods/POST/no name/?$rid=a2", "{}").await;
    assert_eq!(called(&mut link).await, call("a1"));
    for status in [200, 500] {
        link.order(answer("a1", status)).await;
    }
    link.order(answer("unknown", 200)).await;
    let other = MethodAnswer { connection: 1, rid: "a1".into(), status: 200, body: "{}".into() };
    link.order(ToHub::Answer(other)).await;
    link.order(ToHub::Send(message("{}"))).await;
    let (topic, _, body) = peer.twin_request_with_body().await;
    assert_eq!((topic.as_str(), body.as_str()), ("$iothub/methods/res/200/", "{}"));
    let (topic, _, _) = peer.message().await;
    assert!(topic.starts_with("devices/"), "one answer only: {topic}");
}
