//! What storage refused and memory keeps for the next try: bounded, and its losses booked.

use std::collections::BTreeMap;

use crate::model::change::{Change, OpenAggregate};
use crate::model::loss::{DropReason, Queue};

/// Keeps at most `limit` changes: superseded aggregates go first, then events, which are booked as lost.
pub(super) fn limit_unstored(changes: &mut Vec<Change>, limit: usize) {
    if changes.len() <= limit {
        return;
    }
    let mut newest: BTreeMap<String, OpenAggregate> = BTreeMap::new();
    let mut lost: BTreeMap<Queue, u64> = BTreeMap::new();
    let mut kept = Vec::new();
    let surplus = changes.len() - limit / 2;
    for (i, change) in changes.drain(..).enumerate() {
        match change {
            Change::Aggregate(aggregate) => {
                newest.insert(aggregate.key.clone(), aggregate);
            }
            Change::Event(event) if i < surplus => *lost.entry(event.queue).or_default() += event.hits,
            Change::Drop { queue, hits, reason: DropReason::StorageFailed } => *lost.entry(queue).or_default() += hits,
            Change::Close { key, event } => {
                // The close must follow its aggregate, or its hits are never booked.
                if let Some(aggregate) = newest.remove(&key) {
                    kept.push(Change::Aggregate(aggregate));
                }
                kept.push(Change::Close { key, event });
            }
            other => kept.push(other),
        }
    }
    changes.extend(lost.into_iter().map(|(queue, hits)| Change::Drop {
        queue,
        hits,
        reason: DropReason::StorageFailed,
    }));
    changes.extend(kept);
    changes.extend(newest.into_values().map(Change::Aggregate));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::StoredEvent;

    fn event(hits: u64) -> Change {
        Change::Event(StoredEvent { queue: Queue::Low, hits, body: "{}".into() })
    }

    #[test]
    fn what_storage_refuses_is_bounded_and_booked() {
        let mut changes: Vec<Change> = (0..10).map(|_| event(2)).collect();
        changes.push(Change::Aggregate(OpenAggregate {
            key: "k".into(),
            queue: Queue::High,
            hits: 1,
            state: String::new(),
        }));
        changes.push(Change::Aggregate(OpenAggregate {
            key: "k".into(),
            queue: Queue::High,
            hits: 5,
            state: String::new(),
        }));
        limit_unstored(&mut changes, 8);
        let (mut events, mut lost, mut aggregate) = (0, 0, 0);
        for change in &changes {
            match change {
                Change::Event(e) => events += e.hits,
                Change::Drop { hits, reason: DropReason::StorageFailed, .. } => lost += hits,
                Change::Aggregate(a) => aggregate = a.hits,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((events + lost, aggregate), (20, 5));
        assert!(changes.len() <= 8, "{}", changes.len());
    }
}
