//! The books: every hit that ever entered is delivered, dropped with a reason, or pending.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::ids::MessageId;
use crate::model::loss::{Balance, DropReason, Queue};
use crate::model::time::Timestamp;

/// One value for each queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PerQueue<T> {
    high: T,
    low: T,
}

impl<T> PerQueue<T> {
    pub(super) const fn of(&self, queue: Queue) -> &T {
        match queue {
            Queue::High => &self.high,
            Queue::Low => &self.low,
        }
    }

    pub(super) const fn of_mut(&mut self, queue: Queue) -> &mut T {
        match queue {
            Queue::High => &mut self.high,
            Queue::Low => &mut self.low,
        }
    }
}

/// What happened since the statistics were last put into an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// The high queue.
    pub high: QueueStatistics,
    /// The low queue.
    pub low: QueueStatistics,
    /// Messages that the hub acknowledged.
    pub messages_sent: u64,
    /// Those of them with a body below 4096 bytes.
    pub messages_under_4_kib: u64,
    /// Messages that had to be sent again or were given up.
    pub messages_failed: u64,
}

impl Statistics {
    /// The figures of `queue`.
    #[must_use]
    pub const fn of(&self, queue: Queue) -> &QueueStatistics {
        match queue {
            Queue::High => &self.high,
            Queue::Low => &self.low,
        }
    }

    const fn of_mut(&mut self, queue: Queue) -> &mut QueueStatistics {
        match queue {
            Queue::High => &mut self.high,
            Queue::Low => &mut self.low,
        }
    }
}

/// One queue since the last report, in hits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatistics {
    /// Entered the queue.
    pub collected: u64,
    /// Lost, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

/// Stored as the document `ledger`, in the same transaction as the records it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Random; tells whether a hot and a cold file belong together.
    pub(super) store: MessageId,
    /// Number of the commit on which this state stands.
    pub(super) commit: u64,
    /// The last record number given out; never given again.
    pub(super) seq: u64,
    /// Whether the agent was stopped after everything was committed.
    pub(super) clean: bool,
    /// The last moment from which everything collected is known to be stored.
    pub(super) at: Timestamp,
    /// The same moment in milliseconds since boot; tells a restart of the machine from one of the process.
    pub(super) boot_ms: u64,
    /// The account of both queues since the installation.
    pub(super) balance: Balance,
    /// Since the last report.
    pub(super) since: Statistics,
}

impl Ledger {
    pub(super) fn collect(&mut self, queue: Queue, hits: u64) {
        let account = self.balance.of_mut(queue);
        add(&mut account.collected, hits);
        add(&mut account.pending, hits);
        add(&mut self.since.of_mut(queue).collected, hits);
    }

    pub(super) fn drop_hits(&mut self, queue: Queue, reason: DropReason, hits: u64) {
        if hits == 0 {
            return;
        }
        let account = self.balance.of_mut(queue);
        take(&mut account.pending, hits);
        add(account.dropped.entry(reason).or_default(), hits);
        add(self.since.of_mut(queue).dropped.entry(reason).or_default(), hits);
    }

    pub(super) fn deliver(&mut self, queue: Queue, hits: u64) {
        let account = self.balance.of_mut(queue);
        take(&mut account.pending, hits);
        add(&mut account.delivered, hits);
    }

    /// An aggregate's event got another priority while it grew: its hits were collected for the other queue.
    pub(super) fn requeue(&mut self, from: Queue, to: Queue, hits: u64) {
        if from == to {
            return;
        }
        take(&mut self.balance.of_mut(from).collected, hits);
        take(&mut self.balance.of_mut(from).pending, hits);
        take(&mut self.since.of_mut(from).collected, hits);
        self.collect(to, hits);
    }

    /// Makes `pending` what was really found in the files. What is missing was lost to damage; what is too much was
    /// booked as delivered in a state that is lost, and will be delivered again.
    pub(super) fn reconcile(&mut self, queue: Queue, found: u64) {
        let account = self.balance.of_mut(queue);
        if account.pending > found {
            let lost = account.pending - found;
            self.drop_hits(queue, DropReason::Corrupt, lost);
        } else if found > account.pending {
            let again = found - account.pending;
            let delivered = again.min(account.delivered);
            account.delivered -= delivered;
            add(&mut account.pending, again);
            add(&mut account.collected, again - delivered);
        }
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

fn take(sum: &mut u64, less: u64) {
    *sum = sum.saturating_sub(less);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger {
            store: MessageId::random(),
            commit: 0,
            seq: 0,
            clean: false,
            at: Timestamp::trusted(jiff::Timestamp::UNIX_EPOCH),
            boot_ms: 0,
            balance: Balance::default(),
            since: Statistics::default(),
        }
    }

    #[test]
    fn every_booking_keeps_the_balance() {
        let mut l = ledger();
        l.collect(Queue::High, 10);
        l.deliver(Queue::High, 3);
        l.drop_hits(Queue::High, DropReason::Refused, 2);
        l.requeue(Queue::High, Queue::Low, 4);
        assert!(l.balance.holds());
        assert_eq!((l.balance.high.pending, l.balance.low.pending), (1, 4));
        for found in [4, 1, 3, 9, 0] {
            l.reconcile(Queue::Low, found);
            assert!(l.balance.holds());
            assert_eq!(l.balance.low.pending, found);
        }
        assert_eq!(l.since.high.dropped[&DropReason::Refused], 2);
    }

    #[test]
    fn the_document_is_read_back() {
        let mut l = ledger();
        l.collect(Queue::Low, 7);
        l.drop_hits(Queue::Low, DropReason::CacheFull, 2);
        let text = serde_json::to_string(&l).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), l);
    }
}
