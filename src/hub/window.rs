//! The messages of one connection: which are sent and not yet acknowledged, and which wait for their place among them.

use std::collections::VecDeque;

use super::traffic::WINDOW;
use crate::model::ids::MessageId;
use crate::model::message::Message;
use crate::model::time::Mono;

/// See the top of this file. A message is in it once.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The oldest first, with the time of sending.
    in_flight: VecDeque<(MessageId, Mono)>,
    waiting: VecDeque<Message>,
}

impl Window {
    /// Takes a message, unless it is under way already.
    pub(super) fn take(&mut self, message: Message) {
        let known = self.in_flight.iter().any(|(id, _)| *id == message.id)
            || self.waiting.iter().any(|waiting| waiting.id == message.id);
        if !known {
            self.waiting.push_back(message);
        }
    }

    /// Whether as many wait as should.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WINDOW
    }

    /// The next message to send now, if one waits and there is a place.
    pub(super) fn next(&mut self, now: Mono) -> Option<Message> {
        if self.in_flight.len() >= WINDOW {
            return None;
        }
        let message = self.waiting.pop_front()?;
        self.in_flight.push_back((message.id, now));
        Some(message)
    }

    /// This message needs nothing more; `false` if it was not sent, or not on this connection.
    pub(super) fn settle(&mut self, id: MessageId) -> bool {
        let position = self.in_flight.iter().position(|(known, _)| *known == id);
        position.and_then(|at| self.in_flight.remove(at)).is_some()
    }

    /// When the oldest message that is not acknowledged was sent.
    pub(super) fn oldest(&self) -> Option<Mono> {
        self.in_flight.front().map(|(_, sent)| *sent)
    }

    /// Nothing is unacknowledged.
    pub(super) fn quiet(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Nothing is unacknowledged, and nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty()
    }

    /// The connection is gone.
    pub(super) fn clear(&mut self) {
        self.in_flight.clear();
        self.waiting.clear();
    }
}
