//! What happens at the hub, for those who watch.
//!
//! A watcher has a bounded queue and the hub waits for it: a message is in the queue of every watcher before its PUBACK
//! leaves, so nothing that a client was told is stored is missing here. A watcher that stops reading stops the hub; one
//! that is dropped is forgotten.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use base64::Engine;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many happenings wait for a watcher before the hub does.
const QUEUE: usize = 1024;

/// One happening. As JSON: one flat object, `event` names it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observed {
    /// When, by the hub's clock.
    pub at: jiff::Timestamp,
    /// `device/module`, or what the client called itself; empty if it did not come so far.
    pub client: String,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// The hub takes connections, or has stopped to because it was cut.
    Listening {
        /// Whether it does now.
        on: bool,
    },
    /// A module has signed in.
    Connected {
        /// The client asked for a clean session.
        clean_session: bool,
        /// The hub had one for it.
        session_present: bool,
        /// Keep-alive asked for, in seconds.
        keep_alive: u16,
        /// The user name that was sent.
        user_name: String,
    },
    /// A connection did not get as far as that.
    Refused {
        /// The CONNACK code, if there was one.
        code: Option<u8>,
        /// Why.
        reason: String,
    },
    /// A module's connection is over.
    Disconnected(Why),
    /// A filter was subscribed to.
    Subscribed {
        /// The filter.
        filter: String,
        /// The QoS granted.
        qos: u8,
    },
    /// A filter was given up.
    Unsubscribed {
        /// The filter.
        filter: String,
    },
    /// The twin was asked for.
    TwinRead {
        /// The status answered; `None` if the request was lost on purpose or the client does not listen to answers.
        status: Option<u16>,
        /// `$version` of desired.
        version: u64,
    },
    /// A report was merged.
    Reported {
        /// The patch.
        patch: Map<String, Value>,
        /// The new `$version` of reported.
        version: u64,
    },
    /// A report was not merged.
    ReportRefused {
        /// The status answered; `None` if the request was lost on purpose.
        status: Option<u16>,
        /// Why.
        reason: String,
    },
    /// A notice of a desired change was sent.
    DesiredSent {
        /// Its `$version`.
        version: u64,
    },
    /// A message arrived.
    Telemetry(Telemetry),
    /// A direct method was sent to the client.
    MethodSent {
        /// Its name.
        name: String,
        /// The request's id.
        rid: String,
    },
    /// The client answered a direct method.
    MethodAnswer {
        /// The request's id.
        rid: String,
        /// The status it gave.
        status: i64,
        /// Whether somebody still waited for it.
        awaited: bool,
    },
}

/// A message as the hub got it.
#[derive(Clone, PartialEq, Serialize)]
pub struct Telemetry {
    /// Decoded properties: `$.ct`, `$.mid` and so on, and the client's own.
    pub properties: BTreeMap<String, String>,
    /// As it came. In JSON: the value it holds, else the text, else `{"base64": …}`.
    #[serde(serialize_with = "body")]
    pub body: Vec<u8>,
    /// The client marked it as sent before.
    pub dup: bool,
    /// For QoS 1.
    pub packet_id: Option<u16>,
    /// Bytes as the hub counts them: the body and the properties.
    pub size: usize,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("properties", &self.properties)
            .field("body", &String::from_utf8_lossy(&self.body))
            .field("dup", &self.dup)
            .field("packet_id", &self.packet_id)
            .finish_non_exhaustive()
    }
}

fn body<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        return value.serialize(serializer);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return serializer.serialize_str(text);
    }
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry("base64", &base64::engine::general_purpose::STANDARD.encode(bytes))?;
    map.end()
}

/// Why a connection ended. As JSON: `why`, and `detail` where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[serde(tag = "why", content = "detail", rename_all = "snake_case")]
pub enum Why {
    /// DISCONNECT.
    #[error("the client said good-bye")]
    ClientLeft,
    /// The socket closed or broke without one.
    #[error("the client went without a word")]
    ClientGone,
    /// Another connection of the same module.
    #[error("a second connection of this module took over")]
    Replaced,
    /// On request.
    #[error("kicked")]
    Kicked,
    /// The hub was cut off, on request.
    #[error("the hub was cut off")]
    Cut,
    /// The lab ends.
    #[error("the hub ends")]
    ShutDown,
    /// The module was disabled or deleted.
    #[error("the identity was disabled or deleted")]
    Disabled,
    /// PUBLISH with QoS 2.
    #[error("a message with QoS 2")]
    QosTwo,
    /// PUBLISH to a topic that is not the module's.
    #[error("unknown topic {0}")]
    UnknownTopic(String),
    /// A property bag that is not as it must be.
    #[error("wrong property bag: {0}")]
    BadProperties(String),
    /// SUBSCRIBE to a filter that the hub does not have.
    #[error("unknown filter {0}")]
    UnknownFilter(String),
    /// A sixth subscription.
    #[error("more than 5 subscriptions")]
    TooManySubscriptions,
    /// A message, counted with its properties, or a packet over the limit.
    #[error("{0} bytes are too large")]
    TooLarge(usize),
    /// Bytes that are not MQTT, or a packet out of place.
    #[error("{0}")]
    Malformed(String),
    /// Quiet for more than 1.5 times the keep-alive.
    #[error("nothing heard within the keep-alive")]
    KeepAlive,
    /// The token's life, and the time the hub leaves after it, is over.
    #[error("the token has expired")]
    TokenExpired,
    /// The client does not take what the hub sends.
    #[error("the client does not read")]
    NotReading,
    /// `close_at_byte`, with the byte.
    #[error("closed at byte {0} on request")]
    ClosedAtByte(u64),
}

/// Those who watch.
pub(super) struct Watchers {
    queues: Mutex<Vec<mpsc::Sender<Observed>>>,
    /// When the lab ends, nobody is waited for.
    ending: CancellationToken,
}

impl Watchers {
    pub(super) fn new(ending: CancellationToken) -> Self {
        Self { queues: Mutex::default(), ending }
    }

    /// A queue of all that happens from now on.
    pub(super) fn watch(&self) -> mpsc::Receiver<Observed> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.with(|queues| queues.push(sender));
        receiver
    }

    /// Hands a happening to all; waits for those who are behind.
    pub(super) async fn tell(&self, observed: Observed) {
        let queues = self.with(|queues| {
            queues.retain(|queue| !queue.is_closed());
            queues.clone()
        });
        for queue in queues {
            if let Err(mpsc::error::TrySendError::Full(observed)) = queue.try_send(observed.clone()) {
                tokio::select! {
                    biased;
                    () = self.ending.cancelled() => {}
                    // A watcher that went in the meantime needs nothing.
                    _ = queue.send(observed) => {}
                }
            }
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<mpsc::Sender<Observed>>) -> T) -> T {
        f(&mut self.queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(what: Happening) -> Value {
        serde_json::to_value(Observed { at: jiff::Timestamp::UNIX_EPOCH, client: "d/m".into(), what }).unwrap()
    }

    #[test]
    fn a_line_is_flat() {
        let telemetry = |body: &[u8]| {
            line(Happening::Telemetry(Telemetry {
                properties: BTreeMap::from([("$.ct".into(), "x".into())]),
                body: body.to_vec(),
                dup: true,
                packet_id: Some(7),
                size: 9,
            }))
        };
        assert_eq!(
            telemetry(br#"{"a":1}"#),
            json!({"at": "1970-01-01T00:00:00Z", "client": "d/m", "event": "telemetry", "properties": {"$.ct": "x"},
                "body": {"a": 1}, "dup": true, "packet_id": 7, "size": 9})
        );
        assert_eq!(telemetry(b"hello")["body"], "hello");
        assert_eq!(telemetry(b"\xff")["body"], json!({"base64": "/w=="}));
        let gone = line(Happening::Disconnected(Why::UnknownTopic("t".into())));
        assert_eq!(
            (&gone["event"], &gone["why"], &gone["detail"]),
            (&json!("disconnected"), &json!("unknown_topic"), &json!("t"))
        );
        assert_eq!(line(Happening::Disconnected(Why::Kicked))["why"], "kicked");
    }
}
