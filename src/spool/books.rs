//! What is kept in memory of the stored state, and the documents it is stored as.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::error::SpoolError;
use super::ledger::{Ledger, PerQueue};
use super::record::cost;
use super::store::Level;
use crate::model::change::OpenAggregate;
use crate::model::ids::MessageId;
use crate::model::loss::Queue;

/// The documents of a level, by their number in the table `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Document {
    /// [`Ledger`].
    Ledger = 1,
    /// A list of [`Flight`].
    Flights = 2,
    /// [`super::gaps::GapLog`].
    Gaps = 3,
}

/// Events that wait to be put into a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many.
    pub records: u64,
    /// The bytes of their JSON together.
    pub bytes: u64,
}

/// What records weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) records: u64,
    pub(super) hits: u64,
    pub(super) bytes: u64,
    pub(super) cost: u64,
}

impl Load {
    pub(super) fn add(&mut self, hits: u64, len: u64) {
        self.records += 1;
        self.hits = self.hits.saturating_add(hits);
        self.bytes = self.bytes.saturating_add(len);
        self.cost = self.cost.saturating_add(cost(len));
    }
}

/// A message that was handed out and is not acknowledged. Its records are all those of its ranges: what is assembled
/// is always the head of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flight {
    pub(super) id: MessageId,
    pub(super) lead: Queue,
    pub(super) ranges: PerQueue<Option<(u64, u64)>>,
    #[serde(skip)]
    pub(super) load: PerQueue<Load>,
}

impl Flight {
    /// The ranges in the order of the body.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Queue, RangeInclusive<u64>)> {
        let ranges = self.ranges.clone();
        [self.lead, other(self.lead)].into_iter().filter_map(move |q| ranges.of(q).map(|(lo, hi)| (q, lo..=hi)))
    }
}

pub(super) const fn other(queue: Queue) -> Queue {
    match queue {
        Queue::High => Queue::Low,
        Queue::Low => Queue::High,
    }
}

/// Where a queue stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shelf {
    /// Records up to here are in flight or gone; all later ones are ready.
    pub(super) cursor: u64,
    /// Records up to here are read from the cold level, later ones from the hot one.
    pub(super) cold_last: u64,
    pub(super) ready: Load,
}

/// What is kept in memory of the stored state, besides the aggregates. Small: it is copied for each transaction.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub(super) ledger: Ledger,
    pub(super) flights: Vec<Flight>,
    pub(super) shelves: PerQueue<Shelf>,
    /// Records up to here may be in the cold level: their end must be noted for it.
    pub(super) cold_may_have: u64,
    /// The cost of everything.
    pub(super) held: u64,
}

/// What is known of an open aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) queue: Queue,
    pub(super) hits: u64,
    pub(super) cost: u64,
}

impl Known {
    pub(super) fn of(a: &OpenAggregate) -> Self {
        Self { queue: a.queue, hits: a.hits, cost: cost((a.key.len() + a.state.len()) as u64) }
    }
}

/// A document as text.
pub(super) fn json<T: Serialize>(level: &Level, value: &T) -> Result<String, SpoolError> {
    serde_json::to_string(value).map_err(|e| level.corrupt(&e.to_string()))
}
