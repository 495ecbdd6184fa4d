//! One MQTT connection, from CONNECT to its end. The only file that names the MQTT crate.
//!
//! * The crate never connects by itself: its connector hands out the one stream, once.
//! * It runs in a task of its own, so that reading and writing go on whatever the link is at.
//! * What the hub sends waits here in a few packets of bounded size, whatever it sends: the crate reads some packets of
//!   at most [`MAX_TAKEN`] each at a time, and what waits for the link is cut to what its topic may have.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ClientError, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions,
    Packet, Publish, PublishOptions, QoS, StateError, SubscribeFilterInput, SubscribeNoticeError,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::dial::one_line;
use super::error::{ConnackCode, LinkError, Wait};
use super::options::LinkOptions;
use super::sas;
use super::session::KEEP_ALIVE;
use super::topics::{self, Incoming};
use crate::model::ids::MessageId;
use crate::model::message::Message;
use crate::sys::clock::Clock;
use crate::sys::crash;

/// Largest packet sent: a message with its topic.
const MAX_SENT: usize = 288 * 1024;
/// Largest packet taken in. A larger one ends the connection, and a twin would do so again after each sign-in; so this
/// is far above what the hub's two sections can take as text, and what is too large for us is refused when it is read.
const MAX_TAKEN: usize = 1024 * 1024;
/// Packets that the crate reads in one go; all of them are in memory until they are looked at.
const READ_AT_ONCE: usize = 4;
/// Packets between the crate's task and the link.
const PACKETS: usize = 4;
/// The crate's own limits are wider than [`super::WINDOW`], so that a late PUBACK never collides with a new packet id.
const CRATE_WINDOW: u16 = 64;
/// The crate's time-out for CONNACK and for writing; the session's own ones come first.
const CRATE_TIMEOUT: u64 = 60;
/// How long DISCONNECT may take to leave, and a notice to be decided.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a connection is made of.
pub(super) type Stream = TlsStream<TcpStream>;

/// What came.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// CONNACK 0.
    Connected,
    /// Both filters of the twin were granted.
    Subscribed,
    /// The hub grants no direct methods.
    NoMethods,
    /// A PUBLISH on a topic of ours. If its payload is longer than the topic may have, it is cut to one byte more than
    /// that.
    Publish { topic: Incoming, payload: Vec<u8> },
    /// The PUBACK of this message.
    Acknowledged(MessageId),
    /// Any other packet.
    Other,
    /// Nothing more will come.
    End(LinkError),
}

/// See the top of this file. Dropping it closes the socket.
pub(super) struct Connection {
    client: AsyncClient,
    /// Holds the one task that runs the crate.
    task: JoinSet<()>,
    packets: mpsc::Receiver<Heard>,
    acks: JoinSet<Ack>,
}

enum Ack {
    Methods(Result<(), SubscribeNoticeError>),
    Subscribed(Result<(), SubscribeNoticeError>),
    Message(MessageId, bool),
}

impl Connection {
    /// Gives the stream to a new MQTT client, which sends CONNECT with a fresh token.
    pub(super) fn start(options: &LinkOptions, sas_life: Duration, stream: Stream) -> Self {
        let identity = &options.identity;
        let (host, device, module) = (&identity.host_name, &identity.device_id, &identity.module_id);
        let life = i64::try_from(sas_life.as_secs()).unwrap_or(i64::MAX);
        let expiry = options.clock.now().wall.unix_seconds().saturating_add(life);
        let token = sas::token(&[host, "devices", device, "modules", module], &identity.key, expiry);

        let mut mqtt = MqttOptions::new(topics::client_id(device, module), (identity.dial_name(), options.port));
        mqtt.set_credentials(topics::user_name(host, device, module, &options.product), token.expose().to_vec())
            .set_keep_alive(u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX))
            .set_max_packet_size(MAX_TAKEN, MAX_SENT)
            .set_read_batch_size(READ_AT_ONCE)
            .set_request_channel_capacity(usize::from(CRATE_WINDOW))
            .set_inflight(CRATE_WINDOW);
        let slot = Mutex::new(Some(stream));
        mqtt.set_socket_connector(move |_, _| {
            let stream = slot.lock().ok().and_then(|mut slot| slot.take());
            async move { stream.ok_or_else(|| io::Error::other("a connection is used once")) }
        });
        let (client, mut events) = AsyncClient::builder(mqtt).build();
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CRATE_TIMEOUT);
        events.set_network_options(network);
        let (sender, packets) = mpsc::channel(PACKETS);
        let mut task = JoinSet::new();
        task.spawn(crash::task(crash::LINK, pump(events, sender, Arc::clone(&options.clock))));
        Self { client, task, packets, acks: JoinSet::new() }
    }

    /// Loses nothing when it is dropped.
    pub(super) async fn heard(&mut self) -> Heard {
        loop {
            let ack = tokio::select! {
                biased;
                Some(Ok(ack)) = self.acks.join_next(), if !self.acks.is_empty() => ack,
                heard = self.packets.recv() => {
                    return heard.unwrap_or_else(|| Heard::End(LinkError::Protocol("the MQTT library failed".to_owned())));
                }
            };
            match ack {
                Ack::Message(id, true) => return Heard::Acknowledged(id),
                Ack::Subscribed(Ok(())) => return Heard::Subscribed,
                Ack::Subscribed(Err(SubscribeNoticeError::V4SubAckFailure(why))) => {
                    return Heard::End(LinkError::Protocol(one_line(&format!("subscribing failed: {why:?}"))));
                }
                Ack::Methods(Err(SubscribeNoticeError::V4SubAckFailure(_))) => return Heard::NoMethods,
                // Granted methods are no news. Else the connection is ending, which has its own.
                Ack::Message(_, false) | Ack::Subscribed(Err(_)) | Ack::Methods(_) => {}
            }
        }
    }

    /// In two packets: a hub without methods refuses the second one, and the twin is granted all the same.
    pub(super) fn subscribe(&mut self, methods: bool) -> Result<(), LinkError> {
        let filter = |filter: &str| SubscribeFilterInput::new(filter, QoS::AtMostOnce);
        let twin = [topics::TWIN_ANSWERS, topics::DESIRED_NOTICES].map(filter);
        if let Some(notice) = taken(self.client.try_subscribe_many_tracked(twin))? {
            self.acks.spawn(async move { Ack::Subscribed(notice.wait_completion_async().await) });
        }
        if methods && let Some(notice) = taken(self.client.try_subscribe_many_tracked([filter(topics::METHOD_CALLS)]))?
        {
            self.acks.spawn(async move { Ack::Methods(notice.wait_completion_async().await) });
        }
        Ok(())
    }

    /// A request whose answer comes as a message, or does not; QoS 0.
    pub(super) fn tell(&mut self, topic: String, payload: String) -> Result<(), LinkError> {
        taken(self.client.try_publish(topic, payload, PublishOptions::at_most_once())).map(|_| ())
    }

    /// A message; QoS 1.
    pub(super) fn publish(&mut self, message: Message, topic: String) -> Result<(), LinkError> {
        let Message { id, body, .. } = message;
        if let Some(notice) = taken(self.client.try_publish_tracked(topic, body, PublishOptions::at_least_once()))? {
            self.acks.spawn(async move { Ack::Message(id, notice.wait_completion_async().await.is_ok()) });
        }
        Ok(())
    }

    /// Closes, and gives the messages whose PUBACK came and was not looked at.
    pub(super) async fn last_acknowledged(mut self) -> Vec<MessageId> {
        // Without crate and client, each notice is decided.
        self.task.shutdown().await;
        drop(self.client);
        let mut ids = Vec::new();
        let decided = async {
            while let Some(ack) = self.acks.join_next().await {
                if let Ok(Ack::Message(id, true)) = ack {
                    ids.push(id);
                }
            }
        };
        // Should one be undecided nevertheless, it is not acknowledged.
        let _ = timeout(FAREWELL, decided).await;
        ids
    }

    /// Says good-bye and closes.
    pub(super) async fn disconnect(mut self) {
        if self.client.try_disconnect_now().is_ok() {
            let left = async { while self.packets.recv().await.is_some() {} };
            // If it does not leave, closing says the same.
            let _ = timeout(FAREWELL, left).await;
        }
        self.close().await;
    }

    /// Returns when the socket is closed.
    pub(super) async fn close(mut self) {
        self.task.shutdown().await;
    }
}

/// Runs the crate until its connection ends; never a second one.
async fn pump(mut events: EventLoop, packets: mpsc::Sender<Heard>, clock: Arc<dyn Clock>) {
    loop {
        let event = events.poll().await;
        let end = event.is_err();
        // What was read in one go with the end is not given by `poll` any more.
        let last = if end { std::mem::take(&mut events.state.events) } else { VecDeque::new() };
        for event in last.into_iter().map(Ok).chain([event]) {
            let heard = match event {
                Ok(Event::Incoming(packet)) => packet_heard(packet),
                Ok(Event::Outgoing(_)) => continue,
                Err(error) => Heard::End(link_error(error, &*clock)),
            };
            if packets.send(heard).await.is_err() {
                return;
            }
        }
        if end {
            return;
        }
    }
}

fn packet_heard(packet: Packet) -> Heard {
    match packet {
        Packet::ConnAck(_) => Heard::Connected,
        Packet::Publish(publish) => published(&publish),
        _ => Heard::Other,
    }
}

/// The payload is copied, because the crate's one may be a small part of a large piece of memory.
fn published(publish: &Publish) -> Heard {
    let Some(topic) = std::str::from_utf8(&publish.topic).ok().and_then(topics::parse) else { return Heard::Other };
    let shows_too_much = topic.payload_limit() + 1;
    let payload = publish.payload.get(..shows_too_much).unwrap_or(&publish.payload).to_vec();
    Heard::Publish { topic, payload }
}

/// `None` if the connection has ended: [`pump`] has left the reason, which is heard next.
///
/// # Errors
/// The queue of requests, which is wider than anything under way, is full: something is stuck.
fn taken<T>(outcome: Result<T, ClientError>) -> Result<Option<T>, LinkError> {
    match outcome {
        Ok(notice) => Ok(Some(notice)),
        Err(ClientError::RequestChannelDisconnected(_)) => Ok(None),
        Err(error) => Err(LinkError::Protocol(one_line(&format!("the MQTT library takes no request: {error}")))),
    }
}

fn link_error(error: ConnectionError, clock: &dyn Clock) -> LinkError {
    let closed = |why: &dyn fmt::Display| LinkError::ClosedByHub { why: one_line(&why.to_string()) };
    match error {
        ConnectionError::ConnectionRefused(code) => {
            let code = match code {
                ConnectReturnCode::Success => return LinkError::Protocol("a refusal that is a success".to_owned()),
                ConnectReturnCode::RefusedProtocolVersion => ConnackCode::ProtocolVersion,
                ConnectReturnCode::BadClientId => ConnackCode::ClientId,
                ConnectReturnCode::ServiceUnavailable => ConnackCode::Unavailable,
                ConnectReturnCode::BadUserNamePassword => ConnackCode::UserName,
                ConnectReturnCode::NotAuthorized => ConnackCode::NotAuthorized,
            };
            LinkError::Refused { code, at: clock.now().wall }
        }
        ConnectionError::NetworkTimeout => LinkError::Timeout { what: Wait::ConnAck, seconds: CRATE_TIMEOUT },
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            LinkError::Timeout { what: Wait::AnyPacket, seconds: KEEP_ALIVE.as_secs() }
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => closed(&"end of the stream"),
        ConnectionError::Io(e)
        | ConnectionError::MqttState(StateError::Io(e) | StateError::Deserialization(rumqttc::Error::Io(e))) => {
            closed(&e)
        }
        e @ (ConnectionError::FlushTimeout | ConnectionError::RequestsDone) => closed(&e),
        e => LinkError::Protocol(one_line(&e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    //! What can be tested without a connection; the rest is in `tests/hub_link`.

    use super::*;

    #[test]
    fn a_request_to_a_connection_that_has_ended_leaves_the_reason_to_the_end() {
        let mut mqtt = MqttOptions::new("id", ("hub.invalid", 1));
        mqtt.set_request_channel_capacity(1);
        let (client, events) = AsyncClient::builder(mqtt).build();
        let tell = || taken(client.try_publish("topic", "text", PublishOptions::at_most_once()));
        assert_eq!(tell(), Ok(Some(())));
        let LinkError::Protocol(why) = tell().unwrap_err() else { panic!("another error") };
        assert_eq!(why, "the MQTT library takes no request: Request channel is full");
        drop(events);
        assert_eq!(tell(), Ok(None));
    }

    #[test]
    fn a_payload_waits_with_no_more_than_its_topic_may_have() {
        for (topic, limit) in [
            ("$iothub/twin/res/200/?$rid=1", 512 * 1024),
            ("$iothub/twin/PATCH/properties/desired/?$version=1", 64 * 1024),
            ("$iothub/methods/POST/ping/?$rid=1", 128 * 1024),
        ] {
            for (sent, kept) in [(0, 0), (limit, limit), (limit + 1, limit + 1), (MAX_TAKEN, limit + 1)] {
                let publish = Publish::new(topic, QoS::AtMostOnce, vec![b' '; sent]);
                let Heard::Publish { payload, .. } = published(&publish) else { panic!("{topic}") };
                assert!(payload.len() == kept && payload.capacity() == kept, "{topic}: {sent} gave {}", payload.len());
            }
        }
        let foreign = Publish::new("foreign/topic", QoS::AtMostOnce, vec![b' '; MAX_TAKEN]);
        assert_eq!(published(&foreign), Heard::Other);
    }
}
