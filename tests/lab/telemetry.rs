//! Messages, and what the hub does on misuse.

use twinward::lab::{Happening, Telemetry, Why};

use super::client::{Client, EVENTS, Got, disconnected, lab, packet, until};

fn message(what: &Happening) -> Option<Telemetry> {
    match what {
        Happening::Telemetry(telemetry) => Some(telemetry.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_message_arrives_whole_and_is_acknowledged() {
    let (lab, mut watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    let bag = "%24.ct=application%2Fjson%3Bcharset%3Dutf-8&$.ce=utf-8&$.mid=a-1&schema=1.0&my%20key=x%26y";
    client.publish(&format!("{EVENTS}{bag}"), 9, br#"{"a":1}"#).await;
    assert_eq!(client.read().await, Got::PubAck(9));
    let told = until(&mut watcher, message).await;
    let properties: Vec<_> = told.properties.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let expected = ["$.ce=utf-8", "$.ct=application/json;charset=utf-8", "$.mid=a-1", "my key=x&y", "schema=1.0"]
        .map(str::to_owned);
    assert_eq!(properties, expected);
    assert_eq!((told.body.as_slice(), told.dup, told.packet_id), (&br#"{"a":1}"#[..], false, Some(9)));

    client.publish_as(0x3b, EVENTS, 9, b"again").await;
    assert_eq!(client.read().await, Got::PubAck(9));
    let told = until(&mut watcher, message).await;
    assert!(told.dup);
    assert_eq!(told.properties["mqtt-retain"], "true");

    client.publish_as(0x30, EVENTS, 0, b"no answer").await;
    assert_eq!(client.ping().await, []);
    assert_eq!(until(&mut watcher, message).await.packet_id, None);
}

#[tokio::test]
async fn misuse_closes_and_the_reason_is_known_here_only() {
    let (lab, mut watcher) = lab().await;
    let large = vec![b'x'; 262_145];
    let topic = |name: &str| Why::UnknownTopic(name.to_owned());
    let cases: [(&str, u8, &[u8], Why); 5] = [
        (EVENTS, 0x34, b"", Why::QosTwo),
        ("devices/other/modules/m/messages/events/", 0x32, b"", topic("devices/other/modules/m/messages/events/")),
        ("hello", 0x30, b"", topic("hello")),
        (EVENTS, 0x32, &large, Why::TooLarge(262_145)),
        (
            &format!("{EVENTS}$.cdid=x"),
            0x32,
            b"",
            Why::BadProperties("`$.cdid` is no system property that a client may send".into()),
        ),
    ];
    for (topic, first, body, why) in cases {
        let mut client = Client::sign_in(&lab).await;
        client.publish_as(first, topic, 1, body).await;
        assert_eq!(client.read().await, Got::End);
        assert_eq!(disconnected(&mut watcher).await, why);
    }
    let mut client = Client::sign_in(&lab).await;
    client.publish(EVENTS, 1, &large[1..]).await;
    assert_eq!(client.read().await, Got::PubAck(1), "exactly 256 KiB are taken");
}

#[tokio::test]
async fn subscriptions_are_known_filters_and_at_most_five() {
    let (lab, mut watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    let own = "devices/try-device/modules/azureiotsecurity/#";
    let filters = [(own, 2), ("$iothub/twin/res/#", 0), ("$iothub/methods/POST/#", 1), ("$iothub/methods/POST/a/#", 0)];
    client.ask_subscribe(5, &filters).await;
    assert_eq!(client.read().await, Got::SubAck(5, vec![1, 0, 1, 0]));
    client.subscribe("$iothub/methods/POST/b/#").await;
    client.send(&packet(0xa2, &[&[0, 6][..], &super::client::text(own)].concat())).await;
    assert_eq!(client.read().await, Got::UnsubAck(6));
    client.subscribe("$iothub/methods/POST/c/#").await;
    client.ask_subscribe(7, &[("$iothub/methods/POST/d/#", 0)]).await;
    assert_eq!(client.read().await, Got::End);
    assert_eq!(disconnected(&mut watcher).await, Why::TooManySubscriptions);

    let mut client = Client::sign_in(&lab).await;
    client.ask_subscribe(8, &[("$iothub/#", 0)]).await;
    assert_eq!(client.read().await, Got::End);
    assert_eq!(disconnected(&mut watcher).await, Why::UnknownFilter("$iothub/#".into()));
}

#[tokio::test]
async fn a_watcher_that_is_behind_loses_nothing() {
    const MESSAGES: u16 = 1500;
    let (lab, mut watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    let (mut acknowledged, mut read) = (0, 0);
    let sender = async {
        for id in 1..=MESSAGES {
            client.publish(EVENTS, id, b"x").await;
        }
        for id in 1..=MESSAGES {
            assert_eq!(client.read().await, Got::PubAck(id));
            acknowledged += 1;
        }
    };
    let reader = async {
        while watcher.len() < watcher.max_capacity() {
            tokio::task::yield_now().await;
        }
        while read < MESSAGES {
            until(&mut watcher, message).await;
            read += 1;
        }
    };
    tokio::join!(sender, reader);
    assert_eq!((acknowledged, read), (MESSAGES, MESSAGES));
}
