use std::collections::BTreeMap;

use crate::model::change::{Change, OpenAggregate, StoredEvent};
use crate::model::loss::{Balance, DropReason, Queue};

/// A spool that keeps the books exactly as `model::change` says, and refuses what they do not allow.
#[derive(Default)]
pub(super) struct Books {
    pub(super) balance: Balance,
    pub(super) open: BTreeMap<String, OpenAggregate>,
    pub(super) events: Vec<StoredEvent>,
    pub(super) discarded: u64,
}

impl Books {
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Event(event) => {
                    self.collect(event.queue, event.hits);
                    self.events.push(event.clone());
                }
                Change::Aggregate(aggregate) => {
                    let before = self.open.insert(aggregate.key.clone(), aggregate.clone());
                    assert!(before.as_ref().is_none_or(|before| before.queue == aggregate.queue));
                    let grown = aggregate.hits.checked_sub(before.map_or(0, |before| before.hits)).unwrap();
                    assert!(grown > 0, "reported only if it grew");
                    self.collect(aggregate.queue, grown);
                }
                Change::Close { key, event } => {
                    let open = self.open.remove(key).expect("only what is open is closed");
                    assert_eq!((open.queue, open.hits), (event.queue, event.hits));
                    self.events.push(event.clone());
                }
                Change::Discard { key, reason } => {
                    let open = self.open.remove(key).expect("only what is open is discarded");
                    self.drop(open.queue, open.hits, *reason);
                    self.discarded += open.hits;
                }
                Change::Drop { queue, hits, reason } => {
                    self.collect(*queue, *hits);
                    self.drop(*queue, *hits, *reason);
                }
                Change::DroppedEventsReported | Change::MessagesReported => panic!("not the pipeline's to say"),
            }
        }
        assert!(self.balance.holds());
    }

    fn collect(&mut self, queue: Queue, hits: u64) {
        let account = self.balance.of_mut(queue);
        account.collected += hits;
        account.pending += hits;
    }

    fn drop(&mut self, queue: Queue, hits: u64, reason: DropReason) {
        let account = self.balance.of_mut(queue);
        account.pending -= hits;
        *account.dropped.entry(reason).or_default() += hits;
    }

    pub(super) fn collected(&self) -> u64 {
        self.balance.high.collected + self.balance.low.collected
    }
}
