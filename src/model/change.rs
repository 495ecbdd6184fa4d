//! What the pipeline asks the spool to store: the one type both rooms share.

use super::loss::{DropReason, Queue};

/// One change of what is stored. A batch of changes is applied whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A finished event enters its queue: `hits` are booked as collected, and wait.
    Event(StoredEvent),
    /// An aggregate was opened or grew. Its `hits` are its total so far; the difference to what is stored under the
    /// same key is booked as collected.
    Aggregate(OpenAggregate),
    /// The aggregate with this key became this event: its hits move, nothing is booked.
    Close {
        /// Key of the aggregate.
        key: String,
        /// The event it became.
        event: StoredEvent,
    },
    /// The aggregate with this key cannot become an event any more: what is pending under the key moves to dropped,
    /// in the queue it was stored with; nothing is booked as collected.
    Discard {
        /// Key of the aggregate.
        key: String,
        /// Why.
        reason: DropReason,
    },
    /// Collected, but impossible to store or send: booked as collected and as dropped.
    Drop {
        /// Queue it would have entered.
        queue: Queue,
        /// How many hits.
        hits: u64,
        /// Why.
        reason: DropReason,
    },
    /// What DroppedEventsStatistics tells was put into an event: the next one counts from here.
    DroppedEventsReported,
    /// What MessageStatistics tells was put into an event: the next one counts from here.
    MessagesReported,
}

/// A finished event as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// The queue it belongs to.
    pub queue: Queue,
    /// How many hits it stands for. 0 in all parts but the first of a snapshot that was split, which follow the first
    /// one in the same batch: together they are one hit.
    pub hits: u64,
    /// The event's JSON object.
    pub body: String,
}

/// An aggregate that is still growing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAggregate {
    /// Unique over all event types.
    pub key: String,
    /// The queue its event will enter.
    pub queue: Queue,
    /// Its total of hits.
    pub hits: u64,
    /// Whatever the pipeline needs to go on after a restart; the spool does not look into it.
    pub state: String,
}
