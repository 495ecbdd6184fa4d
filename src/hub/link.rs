//! Drives the session over real connections.
//!
//! * Each attempt gets its own TCP and TLS connection and its own MQTT client (`connection.rs`). The old socket is closed
//!   before the next is dialled.
//! * Clean session: the spool is the truth and sends again what was not acknowledged, under the same `$.mid`; a module
//!   gets no messages that the hub could keep; so a session at the hub would only hold packet ids of the past.
//! * Nothing here waits on the owner: news stay in a list until they are taken.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::connection::{Connection, Heard, Stream};
use super::dial::dial;
use super::error::LinkError;
use super::options::LinkOptions;
use super::session::{Action, Input, Session};
use super::topics;
use super::traffic::{FromHub, MethodAnswer, ToHub};
use crate::model::message::Message;

/// The hub's limit for a message: body and properties. A larger one makes it close the connection.
const MAX_MESSAGE: usize = 256 * 1024;
/// With this much news not taken, the link takes in nothing new.
const MAX_NEWS: usize = 64;
/// How long the last news may take to be taken.
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

type Dialling = Pin<Box<dyn Future<Output = Result<Stream, LinkError>> + Send>>;

struct Link {
    options: LinkOptions,
    session: Session,
    dialling: Option<Dialling>,
    connection: Option<Connection>,
    news: VecDeque<FromHub>,
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
    match connection {
        Some(connection) => connection.heard().await,
        None => pending().await,
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
            Action::Answer(MethodAnswer { rid, status, body, .. }) => {
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

    fn with(&mut self, request: impl FnOnce(&mut Connection) -> Result<(), LinkError>) -> Option<Input<'static>> {
        request(self.connection.as_mut()?).err().map(Input::Lost)
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
            Heard::Connected => self.give(Input::Connected).await,
            Heard::Subscribed => self.give(Input::Subscribed).await,
            Heard::NoMethods => {
                warn!("the hub grants no direct methods (its tier may have none); everything else goes on");
            }
            Heard::Publish { topic, payload } => self.give(Input::Publish { topic, payload: &payload }).await,
            Heard::Acknowledged(id) => self.give(Input::Acknowledged(id)).await,
            Heard::Other => self.give(Input::Heard).await,
            Heard::End(error) => {
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
}
