//! What goes into the link and what comes out of it.

use std::time::Duration;

use serde_json::{Map, Value};
use tracing::{debug, info, warn};

use crate::model::ids::MessageId;
use crate::model::message::Message;

/// Most messages that are sent and not yet acknowledged.
pub const WINDOW: usize = 8;

/// Most calls of direct methods that wait for their answer; a further one is refused with 429.
pub const CALLS: usize = 4;

/// The hub's limit for the payload of a call and of its answer, in bytes.
pub const METHOD_PAYLOAD: usize = 128 * 1024;

/// A call of a direct method. Its name and payload are whatever the caller wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodCall {
    /// On which connection it came, counted from the start of the link; the answer must bear it.
    pub connection: u64,
    /// Which method.
    pub name: String,
    /// What the answer must bear.
    pub rid: String,
    /// JSON, or nothing; at most [`METHOD_PAYLOAD`].
    pub payload: Vec<u8>,
}

/// The answer to a call; of no effect if the connection that brought the call is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodAnswer {
    /// Of the call.
    pub connection: u64,
    /// Of the call.
    pub rid: String,
    /// As in HTTP.
    pub status: u16,
    /// JSON text; at most [`METHOD_PAYLOAD`].
    pub body: String,
}

/// Orders to the link.
#[derive(Clone, Debug)]
pub enum ToHub {
    /// Send this message. Taken only while the link is [`LinkState::Ready`], otherwise ignored; beyond [`WINDOW`]
    /// messages it waits. A message that is already under way is not sent twice.
    Send(Message),
    /// This is what the reported properties shall be: our two objects, whole; one that is null shall be gone. Only the
    /// latest one counts; what differs from the hub is sent when the link is ready, and compared again after each
    /// sign-in.
    Report(Map<String, Value>),
    /// Answer a direct method.
    Answer(MethodAnswer),
    /// Wait for acknowledgements, at most 2 s, disconnect and end.
    Stop,
}

/// News from the link.
#[derive(Clone, Debug, PartialEq)]
pub enum FromHub {
    /// The link changed its state.
    State(LinkState),
    /// The desired properties: the whole section without `$version` and `$metadata`. Comes after each sign-in and after
    /// each change.
    Desired {
        /// The section.
        section: Map<String, Value>,
        /// Its `$version`.
        version: u64,
    },
    /// The hub stored this message (its PUBACK came).
    Delivered(MessageId),
    /// This message can never be sent, so it was not; the link stays up.
    Undeliverable {
        /// The message.
        id: MessageId,
        /// Why.
        why: String,
    },
    /// The hub answered a report, or did not.
    Reported {
        /// Whether it was taken. If not, and the status is 400 or 413, it is dropped; otherwise it is tried again.
        ok: bool,
        /// As in HTTP; 0 if no answer came.
        status: u16,
        /// The hub's words, shortened; empty if all is well.
        detail: String,
    },
    /// A direct method is called; each call wants one [`ToHub::Answer`].
    Called(MethodCall),
    /// A twin that came cannot be read. The document in force stays, and the twin is asked for again.
    TwinUnreadable(String),
    /// The twin did not come, or the hub refused to give it. It is asked for again.
    TwinUnavailable(String),
}

impl FromHub {
    /// Writes it to the log: one line for each change of state. What the owner has to judge, and tells, is `debug` here.
    pub(super) fn log(&self, hub: &str) {
        match self {
            Self::State(LinkState::Connecting) => info!(hub, "connecting"),
            Self::State(LinkState::Ready) => info!(hub, "link ready"),
            Self::State(LinkState::Down { error, retry_in, .. }) if retry_in.is_zero() => info!(hub, "{error}"),
            Self::State(LinkState::Down { error, retry_in, .. }) => {
                warn!(hub, retry_in_ms = retry_in.as_millis(), "link down: {error}");
            }
            Self::State(LinkState::Stopped) => info!(hub, "link stopped"),
            Self::Desired { version, .. } => debug!(version, "desired properties"),
            Self::Delivered(id) => debug!(%id, "delivered"),
            Self::Undeliverable { id, why } => debug!(%id, "a message cannot be sent: {why}"),
            Self::Reported { ok: true, .. } => debug!("reported properties taken"),
            Self::Reported { status, detail, .. } => debug!(status, "reported properties not taken: {detail}"),
            Self::Called(call) => debug!(method = call.name, "direct method called"),
            Self::TwinUnreadable(problem) => debug!("{problem}"),
            Self::TwinUnavailable(problem) => warn!("{problem}"),
        }
    }
}

/// The states of the link that matter outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// An attempt is under way.
    Connecting,
    /// Signed in and subscribed; the twin was asked for. Messages are taken.
    Ready,
    /// No link. Every message without [`FromHub::Delivered`] is forgotten here and must be sent again after the next
    /// [`LinkState::Ready`].
    Down {
        /// Why, and what to do, on one line.
        error: String,
        /// When the next attempt comes.
        retry_in: Duration,
        /// It will hardly pass without somebody's hands.
        permanent_hint: bool,
    },
    /// The link has ended, on order.
    Stopped,
}
