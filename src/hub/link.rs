//! Drives the session over a real connection. The only file that names the MQTT crate.
//!
//! * Each attempt gets its own TCP and TLS connection and its own MQTT client. The crate never reconnects: its connector
//!   hands out the one connection, once. The old socket is closed before the next is dialled.
//! * Clean session: the spool is the truth and sends again what was not acknowledged, under the same `$.mid`; a module
//!   gets no messages that the hub could keep; so a session at the hub would only hold packet ids of the past.
//! * The crate runs in a task of its own, so that a fault in it ends a connection and not the agent.
//! * Nothing here waits on the owner: news stay in a list until they are taken.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ClientError, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions,
    Packet, PublishOptions, QoS, StateError, SubscribeFilterInput, SubscribeNoticeError,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;
use tracing::warn;

use super::dial::{dial, one_line};
use super::error::{ConnackCode, LinkError, Wait};
use super::options::LinkOptions;
use super::session::{Action, Input, KEEP_ALIVE, Session};
use super::traffic::{FromHub, MethodAnswer, ToHub};
use super::{sas, topics};
use crate::model::ids::MessageId;
use crate::model::message::Message;

/// The hub's limit for a message: body and properties. A larger one makes it close the connection.
const MAX_MESSAGE: usize = 256 * 1024;
/// Largest packet sent: a message with its topic.
const MAX_SENT: usize = 288 * 1024;
/// Largest packet taken in. A larger one ends the connection, and a twin would do so again after each sign-in; so this
/// is far above what the hub's two sections can take as text, and what is too large for us is refused when it is read.
const MAX_TAKEN: usize = 1024 * 1024;
/// The crate's own limits are wider than [`super::WINDOW`], so that a late PUBACK never collides with a new packet id.
const CRATE_WINDOW: u16 = 64;
/// The crate's time-out for CONNACK and for writing; the session's own ones come first.
const CRATE_TIMEOUT: u64 = 60;
/// Packets between the crate's task and the link.
const PACKETS: usize = 16;
/// With this much news not taken, the link takes in nothing new.
const MAX_NEWS: usize = 64;
/// How long DISCONNECT may take to leave, and the last news to be taken.
const FAREWELL: Duration = Duration::from_secs(1);
/// The session's clock counts suspended time and the runtime's does not: look at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Keeps the link to the hub until [`ToHub::Stop`] comes or one of the channels is closed by the owner; then waits at
/// most 2 s for acknowledgements, disconnects and returns. Must run inside a tokio runtime.
pub async fn run(options: LinkOptions, mut commands: mpsc::Receiver<ToHub>, events: mpsc::Sender<FromHub>) {
    let session = Session::new(options.clock.now().mono, options.sas_life, fastrand::u64(..));
    let mut link = Link { options, session, dialling: None, connection: None, news: VecDeque::new() };
    link.give(Input::Tick).await;
    while !link.session.stopped() {
        let open = link.news.len() < MAX_NEWS;
        let pause = link.pause();
        tokio::select! {
            permit = events.reserve(), if !link.news.is_empty() => match permit {
                Ok(permit) => if let Some(news) = link.news.pop_front() { permit.send(news) },
                Err(_) => link.give(Input::Order(ToHub::Stop)).await,
            },
            order = commands.recv(), if open && link.session.takes_orders() => {
                link.give(Input::Order(order.unwrap_or(ToHub::Stop))).await;
            }
            dialled = dialled(&mut link.dialling) => link.dialled(dialled).await,
            heard = heard(&mut link.connection), if open => link.heard(heard).await,
            () = sleep(pause) => link.give(Input::Tick).await,
        }
    }
    let last_words = async {
        for news in link.news.drain(..) {
            if events.send(news).await.is_err() {
                break;
            }
        }
    };
    // An owner that does not listen any more has nobody to be told.
    let _ = timeout(FAREWELL, last_words).await;
}

type Stream = TlsStream<TcpStream>;
type Dialling = Pin<Box<dyn Future<Output = Result<Stream, LinkError>> + Send>>;

struct Link {
    options: LinkOptions,
    session: Session,
    dialling: Option<Dialling>,
    connection: Option<Connection>,
    news: VecDeque<FromHub>,
}

/// One MQTT connection; dropping it closes the socket.
struct Connection {
    client: AsyncClient,
    /// Holds the one task that runs the crate.
    task: JoinSet<()>,
    packets: mpsc::Receiver<Result<Packet, ConnectionError>>,
    acks: JoinSet<Ack>,
}

enum Ack {
    Methods(Result<(), SubscribeNoticeError>),
    Subscribed(Result<(), SubscribeNoticeError>),
    Message(MessageId, bool),
}

enum Heard {
    Packet(Packet),
    Ack(Ack),
    End(Option<ConnectionError>),
}

/// Waits for ever if nothing is being dialled. The future stays in place until it ends.
async fn dialled(dialling: &mut Option<Dialling>) -> Result<Stream, LinkError> {
    match dialling {
        Some(future) => {
            let result = future.await;
            *dialling = None;
            result
        }
        None => pending().await,
    }
}

/// Waits for ever if there is no connection. Loses nothing when it is dropped.
async fn heard(connection: &mut Option<Connection>) -> Heard {
    let Some(connection) = connection else { return pending().await };
    tokio::select! {
        biased;
        Some(Ok(ack)) = connection.acks.join_next(), if !connection.acks.is_empty() => Heard::Ack(ack),
        packet = connection.packets.recv() => match packet {
            Some(Ok(packet)) => Heard::Packet(packet),
            Some(Err(error)) => Heard::End(Some(error)),
            None => Heard::End(None),
        },
    }
}

impl Link {
    fn pause(&self) -> Duration {
        let now = self.options.clock.now().mono;
        self.session.deadline().map_or(LONGEST_SLEEP, |at| at.since(now)).min(LONGEST_SLEEP)
    }

    async fn give(&mut self, input: Input<'_>) {
        let mut actions = VecDeque::from(self.session.handle(self.options.clock.now().mono, input));
        while let Some(action) = actions.pop_front() {
            if let Some(input) = self.act(action).await {
                actions.extend(self.session.handle(self.options.clock.now().mono, input));
            }
        }
    }

    /// Does it, and gives what came of it at once, if anything did.
    async fn act(&mut self, action: Action) -> Option<Input<'static>> {
        match action {
            Action::Dial => {
                let (host, port) = (self.dial_host().to_owned(), self.options.port);
                let name = self.options.identity.dial_name().to_owned();
                let tls = Arc::clone(&self.options.tls);
                self.dialling = Some(Box::pin(async move { dial(&host, port, &name, &tls).await }));
                None
            }
            Action::Subscribe => {
                let methods = self.options.direct_methods;
                self.with(|c| c.subscribe(methods))
            }
            Action::Answer(MethodAnswer { rid, status, body }) => {
                self.with(|c| c.tell(topics::method_answer(status, &rid), body))
            }
            Action::GetTwin { rid } => self.with(|c| c.tell(topics::twin_get(rid), String::new())),
            Action::Report { rid, patch } => self.with(|c| c.tell(topics::twin_report(rid), patch)),
            Action::Publish(message) => self.publish(message),
            Action::Disconnect | Action::Close => {
                self.dialling = None;
                match self.connection.take() {
                    Some(connection) if action == Action::Disconnect => connection.disconnect().await,
                    Some(connection) => connection.close().await,
                    None => {}
                }
                None
            }
            Action::Event(event) => {
                event.log(&self.options.identity.host_name);
                self.news.push_back(event);
                None
            }
        }
    }

    fn with(&mut self, request: impl FnOnce(&mut Connection) -> Result<(), ClientError>) -> Option<Input<'static>> {
        refused(request(self.connection.as_mut()?)).map(Input::Lost)
    }

    fn publish(&mut self, message: Message) -> Option<Input<'static>> {
        let identity = &self.options.identity;
        let topic = topics::telemetry_topic(&identity.device_id, &identity.module_id, &message, self.options.messages);
        let size = message.body.len() + topic.len();
        if size > MAX_MESSAGE {
            let why = format!("it has {size} bytes with its properties, the hub takes {MAX_MESSAGE}");
            return Some(Input::Unsendable(message.id, why));
        }
        self.with(|c| c.publish(message, topic))
    }

    fn dial_host(&self) -> &str {
        self.options.dial_host.as_deref().unwrap_or(self.options.identity.dial_name())
    }

    async fn dialled(&mut self, result: Result<Stream, LinkError>) {
        match result {
            Ok(stream) => {
                self.connection = Some(Connection::start(&self.options, self.session.sas_life(), stream));
                self.give(Input::Dialled).await;
            }
            Err(error) => self.give(Input::Lost(error)).await,
        }
    }

    async fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Packet(Packet::ConnAck(_)) => self.give(Input::Connected).await,
            Heard::Packet(Packet::Publish(publish)) => {
                let topic = std::str::from_utf8(&publish.topic).ok().and_then(topics::parse);
                match topic {
                    Some(topic) => self.give(Input::Publish { topic, payload: &publish.payload }).await,
                    None => self.give(Input::Heard).await,
                }
            }
            Heard::Packet(_) => self.give(Input::Heard).await,
            Heard::Ack(Ack::Subscribed(Ok(()))) => self.give(Input::Subscribed).await,
            Heard::Ack(Ack::Subscribed(Err(SubscribeNoticeError::V4SubAckFailure(why)))) => {
                self.give(Input::Lost(LinkError::Protocol(one_line(&format!("subscribing failed: {why:?}"))))).await;
            }
            Heard::Ack(Ack::Methods(Err(SubscribeNoticeError::V4SubAckFailure(_)))) => {
                warn!("the hub grants no direct methods (its tier may have none); everything else goes on");
            }
            Heard::Ack(Ack::Message(id, true)) => self.give(Input::Acknowledged(id)).await,
            // The connection is ending, which has its own news.
            Heard::Ack(Ack::Message(_, false) | Ack::Subscribed(Err(_)) | Ack::Methods(_)) => {}
            Heard::End(error) => {
                let error = self.link_error(error);
                if let Some(connection) = self.connection.take() {
                    // A PUBACK may have come just before the end.
                    for id in connection.last_acknowledged().await {
                        self.give(Input::Acknowledged(id)).await;
                    }
                }
                self.give(Input::Lost(error)).await;
            }
        }
    }

    fn link_error(&self, error: Option<ConnectionError>) -> LinkError {
        let closed = |why: &dyn fmt::Display| LinkError::ClosedByHub { why: one_line(&why.to_string()) };
        match error {
            None => LinkError::Protocol("the MQTT library failed".to_owned()),
            Some(ConnectionError::ConnectionRefused(code)) => {
                let code = match code {
                    ConnectReturnCode::Success => {
                        return LinkError::Protocol("a refusal that is a success".to_owned());
                    }
                    ConnectReturnCode::RefusedProtocolVersion => ConnackCode::ProtocolVersion,
                    ConnectReturnCode::BadClientId => ConnackCode::ClientId,
                    ConnectReturnCode::ServiceUnavailable => ConnackCode::Unavailable,
                    ConnectReturnCode::BadUserNamePassword => ConnackCode::UserName,
                    ConnectReturnCode::NotAuthorized => ConnackCode::NotAuthorized,
                };
                LinkError::Refused { code, at: self.options.clock.now().wall }
            }
            Some(ConnectionError::NetworkTimeout) => LinkError::Timeout { what: Wait::ConnAck, seconds: CRATE_TIMEOUT },
            Some(ConnectionError::MqttState(StateError::AwaitPingResp)) => {
                LinkError::Timeout { what: Wait::AnyPacket, seconds: KEEP_ALIVE.as_secs() }
            }
            Some(ConnectionError::MqttState(StateError::ConnectionAborted)) => closed(&"end of the stream"),
            Some(
                ConnectionError::Io(e)
                | ConnectionError::MqttState(StateError::Io(e) | StateError::Deserialization(rumqttc::Error::Io(e))),
            ) => closed(&e),
            Some(e @ (ConnectionError::FlushTimeout | ConnectionError::RequestsDone)) => closed(&e),
            Some(e) => LinkError::Protocol(one_line(&e.to_string())),
        }
    }
}

impl Connection {
    /// Gives the connection to a new MQTT client, which sends CONNECT with a fresh token.
    fn start(options: &LinkOptions, sas_life: Duration, stream: Stream) -> Self {
        let identity = &options.identity;
        let (host, device, module) = (&identity.host_name, &identity.device_id, &identity.module_id);
        let life = i64::try_from(sas_life.as_secs()).unwrap_or(i64::MAX);
        let expiry = options.clock.now().wall.unix_seconds().saturating_add(life);
        let token = sas::token(&[host, "devices", device, "modules", module], &identity.key, expiry);

        let mut mqtt = MqttOptions::new(topics::client_id(device, module), (identity.dial_name(), options.port));
        mqtt.set_credentials(topics::user_name(host, device, module, &options.product), token.expose().to_vec())
            .set_keep_alive(u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX))
            .set_max_packet_size(MAX_TAKEN, MAX_SENT)
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
        task.spawn(pump(events, sender));
        Self { client, task, packets, acks: JoinSet::new() }
    }

    /// In two packets: a hub without methods refuses the second one, and the twin is granted all the same.
    fn subscribe(&mut self, methods: bool) -> Result<(), ClientError> {
        let filter = |filter: &str| SubscribeFilterInput::new(filter, QoS::AtMostOnce);
        if methods {
            let notice = self.client.try_subscribe_many_tracked([filter(topics::METHOD_CALLS)])?;
            self.acks.spawn(async move { Ack::Methods(notice.wait_completion_async().await) });
        }
        let filters = [topics::TWIN_ANSWERS, topics::DESIRED_NOTICES].map(filter);
        let notice = self.client.try_subscribe_many_tracked(filters)?;
        self.acks.spawn(async move { Ack::Subscribed(notice.wait_completion_async().await) });
        Ok(())
    }

    /// A request whose answer comes as a message, or does not; QoS 0.
    fn tell(&mut self, topic: String, payload: String) -> Result<(), ClientError> {
        self.client.try_publish(topic, payload, PublishOptions::at_most_once())
    }

    fn publish(&mut self, message: Message, topic: String) -> Result<(), ClientError> {
        let Message { id, body, .. } = message;
        let notice = self.client.try_publish_tracked(topic, body, PublishOptions::at_least_once())?;
        self.acks.spawn(async move { Ack::Message(id, notice.wait_completion_async().await.is_ok()) });
        Ok(())
    }

    /// Closes, and gives the messages whose PUBACK came and was not looked at.
    async fn last_acknowledged(mut self) -> Vec<MessageId> {
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
    async fn disconnect(mut self) {
        if self.client.try_disconnect_now().is_ok() {
            let left = async { while self.packets.recv().await.is_some() {} };
            // If it does not leave, closing says the same.
            let _ = timeout(FAREWELL, left).await;
        }
        self.close().await;
    }

    /// Returns when the socket is closed.
    async fn close(mut self) {
        self.task.shutdown().await;
    }
}

/// Runs the crate until its connection ends; never a second one.
async fn pump(mut events: EventLoop, packets: mpsc::Sender<Result<Packet, ConnectionError>>) {
    loop {
        let event = events.poll().await;
        let end = event.is_err();
        // What was read in one go with the end is not given by `poll` any more.
        let last = if end { std::mem::take(&mut events.state.events) } else { VecDeque::new() };
        for event in last.into_iter().map(Ok).chain([event]) {
            let packet = match event {
                Ok(Event::Incoming(packet)) => Ok(packet),
                Ok(Event::Outgoing(_)) => continue,
                Err(error) => Err(error),
            };
            if packets.send(packet).await.is_err() {
                return;
            }
        }
        if end {
            return;
        }
    }
}

/// A refused request: if its queue, wider than anything under way, is full, something is stuck; if it is gone, the
/// connection has ended, and [`pump`] has left the reason, which is heard next.
fn refused(outcome: Result<(), ClientError>) -> Option<LinkError> {
    match outcome {
        Ok(()) | Err(ClientError::RequestChannelDisconnected(_)) => None,
        Err(error) => Some(LinkError::Protocol(one_line(&format!("the MQTT library takes no request: {error}")))),
    }
}

#[cfg(test)]
mod tests;
