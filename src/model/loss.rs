//! Loss accounting: reasons for a drop, the balance, and gaps.
//!
//! Everything is counted in **hits**: one observation is one hit, one snapshot is one hit, and an aggregated event
//! weighs as many hits as it stands for. So `collected = delivered + dropped + pending` can hold at every moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// The two queues of the published contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Queue {
    /// Sent each `highPriorityMessageFrequency`.
    High,
    /// Sent each `lowPriorityMessageFrequency`; the first to be dropped when the cache is full.
    Low,
}

impl Queue {
    /// Both queues, the more important first.
    pub const ALL: [Self; 2] = [Self::High, Self::Low];

    /// The published name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "High",
            Self::Low => "Low",
        }
    }
}

/// Why something that was collected will never be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DropReason {
    /// The spool reached `maxLocalCacheSizeInBytes` or the disk its minimum of free space; the oldest went, or what was
    /// too large for the whole of it.
    CacheFull,
    /// The event alone is larger than a message or a quarter of the cache, and could not be split or cut.
    Oversize,
    /// The stored record could not be read back.
    Corrupt,
    /// The storage refused the write.
    StorageFailed,
    /// The hub closed the connection on this message more than once.
    Refused,
    /// More of its kind came than is taken in that time.
    RateLimited,
}

impl DropReason {
    /// The name used in JSON and in `ExtraDetails`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CacheFull => "cacheFull",
            Self::Oversize => "oversize",
            Self::Corrupt => "corrupt",
            Self::StorageFailed => "storageFailed",
            Self::Refused => "refused",
            Self::RateLimited => "rateLimited",
        }
    }
}

/// The account of one queue, in hits since the agent was installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Entered the queue.
    pub collected: u64,
    /// Acknowledged by the hub.
    pub delivered: u64,
    /// Lost, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Still here: aggregating, waiting, or sent and not yet acknowledged.
    pub pending: u64,
}

impl Account {
    /// All drops together.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// The promise: collected = delivered + dropped + pending.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.collected == self.delivered + self.dropped_total() + self.pending
    }
}

/// The accounts of both queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// The high queue.
    pub high: Account,
    /// The low queue.
    pub low: Account,
}

impl Balance {
    /// The account of `queue`.
    #[must_use]
    pub fn of(&self, queue: Queue) -> &Account {
        match queue {
            Queue::High => &self.high,
            Queue::Low => &self.low,
        }
    }

    /// The account of `queue`, to book on.
    pub fn of_mut(&mut self, queue: Queue) -> &mut Account {
        match queue {
            Queue::High => &mut self.high,
            Queue::Low => &mut self.low,
        }
    }

    /// Whether the promise holds for both queues.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.high.holds() && self.low.holds()
    }
}

/// A time in which something could not be collected; what happened then is unknown, and said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What was not watched: `agent` for everything, else the name of the event.
    pub source: String,
    /// The last moment from which everything is known to be stored.
    pub start: Timestamp,
    /// The moment from which it is watched again.
    pub end: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// Upper bound of what was missed, if the source can tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub missed_at_most: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_holds_only_if_both_accounts_do() {
        let mut balance = Balance::default();
        assert!(balance.holds());
        balance.high = Account { collected: 10, delivered: 4, dropped: [(DropReason::Oversize, 1)].into(), pending: 5 };
        assert!(balance.holds());
        balance.low.collected = 1;
        assert!(!balance.holds());
    }
}
