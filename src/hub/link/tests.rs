//! What can be tested without a connection; the rest is in `tests/hub_link`.

use super::*;

#[test]
fn a_request_to_a_connection_that_has_ended_leaves_the_reason_to_the_end() {
    let mut mqtt = MqttOptions::new("id", ("hub.invalid", 1));
    mqtt.set_request_channel_capacity(1);
    let (client, events) = AsyncClient::builder(mqtt).build();
    let tell = || refused(client.try_publish("topic", "text", PublishOptions::at_most_once()));
    assert_eq!(tell(), None);
    let LinkError::Protocol(why) = tell().unwrap() else { panic!("another error") };
    assert_eq!(why, "the MQTT library takes no request: Request channel is full");
    drop(events);
    assert_eq!(tell(), None);
}
