//! The two statistics events: the figures that the spool has counted since each was last made.

use crate::model::change::Change;
use crate::model::event::{EventName, Snapshot};
use crate::model::event_set::EventSet;
use crate::model::payload::MessageStatistics;
use crate::model::time::Now;
use crate::pipeline::statistics::{QueueCounts, dropped_events, message_statistics};
use crate::spool::QueueStatistics;

use super::Core;

impl Core {
    /// Makes those of `names` that are statistics; each begins to count anew. `false` while storage fails: what is held
    /// in memory is not in the figures, and the next report has both.
    pub(super) fn report_statistics(&mut self, names: EventSet, now: Now) -> bool {
        if !self.storage.works() {
            return false;
        }
        let since = self.storage.spool().statistics();
        let mut changes = Vec::new();
        let mut report = |snapshot: Snapshot, reported| {
            let made = self.pipeline.snapshot(snapshot, now);
            // One that was switched off in the meantime goes on counting.
            if !made.is_empty() {
                changes.push(reported);
                changes.extend(made);
            }
        };
        if names.contains(EventName::DroppedEventsStatistics) {
            let gaps = self.storage.spool().gaps_since_report();
            let snapshot = dropped_events(&counts(&since.high), &counts(&since.low), &gaps, now.wall);
            report(snapshot, Change::DroppedEventsReported);
        }
        if names.contains(EventName::MessageStatistics) {
            let figures = MessageStatistics {
                messages_sent: since.messages_sent,
                messages_under_4_kib: since.messages_under_4_kib,
                total_failed: since.messages_failed,
                ..MessageStatistics::default()
            };
            report(message_statistics(figures, now.wall), Change::MessagesReported);
        }
        self.storage.store(changes, now);
        true
    }
}

fn counts(queue: &QueueStatistics) -> QueueCounts {
    QueueCounts { collected: queue.collected, dropped: queue.dropped.clone() }
}
