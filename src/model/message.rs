//! The message root (schema `messageRoot.json`): `{"AgentVersion":…,"AgentId":…,"MessageSchemaVersion":"1.0",
//! "Events":[…]}`. Events are stored as JSON text and joined here; nothing is parsed or written twice.

use super::ids::{AgentId, MessageId};
use super::loss::Queue;

/// A message on its way to the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `$.mid`, the same over every repetition.
    pub id: MessageId,
    /// The queue that led it; application property `priority`.
    pub queue: Queue,
    /// The JSON body.
    pub body: String,
    /// The twin's `hubResourceId` at the time of sending; application property `HubResourceId` unless it is empty.
    pub hub_resource_id: String,
}

/// The largest body that IoT Hub takes: 256 KiB less what is kept free for the properties of a message.
pub const LARGEST_BODY: usize = 262_144 - 2048;

/// The step in which the hub bills messages, body and properties together.
pub const BILLING_STEP: usize = 4096;

/// What may be put into one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Largest body in bytes.
    pub body: usize,
    /// Largest body of a message with a single event that does not fit `body`: it was stored under a larger limit.
    pub alone: usize,
    /// What comes along from the other queue.
    pub riders: Riders,
}

/// Events of the queue that does not lead a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Riders {
    /// None.
    None,
    /// As many as cost nothing: they fill the last billing step of a message with so many bytes of properties.
    Step {
        /// Bytes of the properties, names and values.
        properties: usize,
    },
    /// As many as fit.
    All,
}

impl Room {
    /// Bodies of at most so many bytes, without exception.
    #[must_use]
    pub const fn of(body: usize, riders: Riders) -> Self {
        Self { body, alone: body, riders }
    }

    /// Largest body once the leading queue's events fill `led` bytes of it.
    #[must_use]
    pub fn with_riders(&self, led: usize) -> usize {
        match self.riders {
            Riders::None => led,
            Riders::Step { properties } => {
                let step = (led + properties).next_multiple_of(BILLING_STEP).saturating_sub(properties);
                step.min(self.body).max(led)
            }
            Riders::All => self.body.max(led),
        }
    }
}

/// Builds bodies, and knows their size before they are built.
#[derive(Clone, Debug)]
pub struct MessageRoot {
    head: String,
}

const TAIL: &str = "]}";

impl MessageRoot {
    /// The root of all messages of one agent. `agent_version` is plain ASCII without quotes.
    #[must_use]
    pub fn new(agent_version: &str, agent_id: AgentId) -> Self {
        Self {
            head: format!(
                "{{\"AgentVersion\":\"{agent_version}\",\"AgentId\":\"{agent_id}\",\"MessageSchemaVersion\":\"1.0\",\"Events\":["
            ),
        }
    }

    /// The bytes that a body has besides its events and the commas between them.
    #[must_use]
    pub fn overhead(&self) -> usize {
        self.head.len() + TAIL.len()
    }

    /// The size in bytes of a body with `count` events of `bytes` bytes together.
    #[must_use]
    pub fn body_len(&self, count: usize, bytes: usize) -> usize {
        self.overhead() + bytes + count.saturating_sub(1)
    }

    /// The body with these events, each a JSON object as text.
    #[must_use]
    pub fn body<S: AsRef<str>>(&self, events: &[S]) -> String {
        let bytes = events.iter().map(|e| e.as_ref().len()).sum();
        let mut body = String::with_capacity(self.body_len(events.len(), bytes));
        body.push_str(&self.head);
        for (i, event) in events.iter().enumerate() {
            if i > 0 {
                body.push(',');
            }
            body.push_str(event.as_ref());
        }
        body.push_str(TAIL);
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn riders_never_cost_a_step_and_never_break_the_limit() {
        let room = |body, properties| Room::of(body, Riders::Step { properties });
        assert_eq!(room(204_800, 100).with_riders(1000), 3996);
        assert_eq!(room(204_800, 100).with_riders(3996), 3996);
        assert_eq!(room(204_800, 100).with_riders(3997), 8092);
        assert_eq!(room(8192, 100).with_riders(8150), 8192, "at most the limit");
        assert_eq!(room(8192, 100).with_riders(9000), 9000, "a single large event has no riders");
        assert_eq!(Room::of(8192, Riders::All).with_riders(10), 8192);
        assert_eq!(Room::of(8192, Riders::None).with_riders(10), 10);
    }

    #[test]
    fn the_root_has_the_four_published_members_and_no_other() {
        let agent = AgentId::random();
        let body = MessageRoot::new("0.1.0", agent).body(&["{\"a\":1}"]);
        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "AgentVersion": "0.1.0",
                "AgentId": agent.to_string(),
                "MessageSchemaVersion": "1.0",
                "Events": [{"a": 1}],
            })
        );
    }

    #[test]
    fn the_size_is_known_before_the_body_is_built() {
        let root = MessageRoot::new("0.1.0", AgentId::random());
        for events in [vec![], vec!["{}"], vec!["{\"a\":1}", "{}", "{\"b\":\"ö\"}"]] {
            let bytes = events.iter().map(|e| e.len()).sum();
            let body = root.body(&events);
            assert_eq!(body.len(), root.body_len(events.len(), bytes));
            let read: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(read["Events"].as_array().unwrap().len(), events.len());
        }
    }
}
