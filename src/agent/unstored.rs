//! What storage refused and memory keeps for the next try: bounded, and its losses booked.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::change::{Change, OpenAggregate};
use crate::model::loss::{DropReason, Queue};

/// Keeps about `limit` changes: superseded aggregates go first, then events and closed aggregates, which are booked as
/// lost; losses become one change for each queue and reason. `stored` says whether the spool has an aggregate under a
/// key: its end must reach the spool, so there may be two changes more for each of these.
pub(super) fn limit_unstored(changes: &mut Vec<Change>, limit: usize, stored: impl Fn(&str) -> bool) {
    if changes.len() <= limit {
        return;
    }
    let mut newest: BTreeMap<String, OpenAggregate> = BTreeMap::new();
    let mut lost: BTreeMap<(Queue, DropReason), u64> = BTreeMap::new();
    let failed = |queue| (queue, DropReason::StorageFailed);
    let mut kept = Vec::new();
    let mut ended = BTreeSet::new();
    let surplus = changes.len() - limit / 2;
    for (i, change) in changes.drain(..).enumerate() {
        match change {
            Change::Aggregate(aggregate) => {
                newest.insert(aggregate.key.clone(), aggregate);
            }
            Change::Event(event) if i < surplus => *lost.entry(failed(event.queue)).or_default() += event.hits,
            Change::Drop { queue, hits, reason } => *lost.entry((queue, reason)).or_default() += hits,
            // The spool has nothing under this key, or is told of its end by an earlier change.
            Change::Close { key, event } if i < surplus && (ended.contains(&key) || !stored(&key)) => {
                newest.remove(&key);
                *lost.entry(failed(event.queue)).or_default() += event.hits;
            }
            Change::Close { key, event } if i < surplus => {
                newest.remove(&key);
                ended.insert(key.clone());
                let (queue, hits, state) = (event.queue, event.hits, String::new());
                kept.push(Change::Aggregate(OpenAggregate { key: key.clone(), queue, hits, state }));
                kept.push(Change::Discard { key, reason: DropReason::StorageFailed });
            }
            Change::Discard { key, reason } => {
                // As for a close.
                kept.extend(newest.remove(&key).map(Change::Aggregate));
                ended.insert(key.clone());
                kept.push(Change::Discard { key, reason });
            }
            Change::Close { key, event } => {
                ended.insert(key.clone());
                // The close must follow its aggregate, or its hits are never booked.
                if let Some(aggregate) = newest.remove(&key) {
                    kept.push(Change::Aggregate(aggregate));
                }
                kept.push(Change::Close { key, event });
            }
            other => kept.push(other),
        }
    }
    changes.extend(kept);
    changes.extend(newest.into_values().map(Change::Aggregate));
    // After what was reported: a report that waits here does not have them in its figures.
    changes.extend(lost.into_iter().map(|((queue, reason), hits)| Change::Drop { queue, hits, reason }));
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
        limit_unstored(&mut changes, 8, |_| false);
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

    #[test]
    fn losses_for_any_reason_do_not_pile_up() {
        let mut changes = vec![Change::DroppedEventsReported];
        for n in 0..1000_u64 {
            let reason = if n % 2 == 0 { DropReason::RateLimited } else { DropReason::Oversize };
            changes.push(Change::Drop { queue: Queue::Low, hits: n, reason });
            changes.push(Change::Drop { queue: Queue::High, hits: 1, reason: DropReason::RateLimited });
            limit_unstored(&mut changes, 64, |_| false);
            assert!(changes.len() <= 64, "{}", changes.len());
        }
        limit_unstored(&mut changes, 3, |_| false);
        let lost = |queue, hits, reason| Change::Drop { queue, hits, reason };
        assert_eq!(
            changes,
            [
                Change::DroppedEventsReported,
                lost(Queue::High, 1000, DropReason::RateLimited),
                lost(Queue::Low, 500 * 500, DropReason::Oversize),
                lost(Queue::Low, 499 * 500, DropReason::RateLimited),
            ],
            "a report that waits goes before the losses that it does not tell"
        );
    }

    #[test]
    fn closes_are_bounded_too() {
        let mut changes = Vec::new();
        for n in 0..10_000 {
            let aggregate = OpenAggregate { key: format!("k{n}"), queue: Queue::Low, hits: 1, state: String::new() };
            changes.push(Change::Aggregate(aggregate));
            let event = StoredEvent { queue: Queue::Low, hits: 1, body: "{}".into() };
            changes.push(Change::Close { key: format!("k{n}"), event });
            limit_unstored(&mut changes, 64, |key| key == "k7");
        }
        assert!(changes.len() <= 66, "{}", changes.len());
        let (mut lost, mut closed) = (0, 0);
        for change in &changes {
            match change {
                Change::Drop { hits, .. } => lost += hits,
                Change::Close { .. } => closed += 1,
                _ => {}
            }
        }
        // The one that the spool has is dropped there.
        assert_eq!(lost + closed + 1, 10_000);
        let discarded: Vec<_> = changes.iter().filter(|c| matches!(c, Change::Discard { .. })).collect();
        assert_eq!(discarded, [&Change::Discard { key: "k7".into(), reason: DropReason::StorageFailed }]);
    }
}
