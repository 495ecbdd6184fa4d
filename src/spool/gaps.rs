//! The times in which nothing could be collected: a short list for the next report and one for `status`.

use serde::{Deserialize, Serialize};

use crate::model::loss::Gap;

/// More gaps than this are merged, the oldest first: a flapping source must not fill the store.
const LIMIT: usize = 32;

/// Source of a merged gap that had several.
const SEVERAL: &str = "several";

/// Stored as the document `gaps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GapLog {
    /// Since the last report.
    pub(super) unreported: Vec<Gap>,
    /// The latest ones, reported or not.
    pub(super) recent: Vec<Gap>,
}

impl GapLog {
    /// Adds a gap; one that ends before it starts (the clock was set back) is cut to its end.
    pub(super) fn record(&mut self, mut gap: Gap) {
        if gap.start.utc > gap.end.utc {
            gap.start.utc = gap.end.utc;
            gap.start.trusted = false;
        }
        self.recent.push(gap.clone());
        if self.recent.len() > LIMIT {
            self.recent.remove(0);
        }
        self.unreported.push(gap);
        while self.unreported.len() > LIMIT {
            let oldest = self.unreported.remove(0);
            if let Some(second) = self.unreported.first_mut() {
                merge(second, &oldest);
            }
        }
    }

    /// The gaps up to now are in a report.
    pub(super) fn reported(&mut self) {
        self.unreported.clear();
    }
}

fn merge(into: &mut Gap, older: &Gap) {
    into.start = into.start.min(older.start);
    into.end = into.end.max(older.end);
    if into.source != older.source {
        SEVERAL.clone_into(&mut into.source);
    }
    into.missed_at_most = into.missed_at_most.zip(older.missed_at_most).map(|(a, b)| a.saturating_add(b));
    "several gaps, merged: not all of this time was missed".clone_into(&mut into.reason);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp::trusted(jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn many_gaps_become_a_summary_that_covers_them() {
        let mut log = GapLog::default();
        for i in 0..100 {
            let source = if i % 2 == 0 { "a" } else { "b" };
            let (start, end) = (at(i * 10), at(i * 10 + 5));
            log.record(Gap { source: source.into(), start, end, reason: "test".into(), missed_at_most: Some(1) });
        }
        assert_eq!(log.unreported.len(), LIMIT);
        assert_eq!(log.recent.len(), LIMIT);
        let summary = &log.unreported[0];
        assert_eq!((summary.start, summary.end), (at(0), at(685)));
        assert_eq!(summary.source, SEVERAL);
        assert_eq!(summary.missed_at_most, Some(69));
        log.reported();
        assert!(log.unreported.is_empty());
        assert_eq!(log.recent.len(), LIMIT);
    }

    #[test]
    fn a_gap_never_starts_after_its_end() {
        let mut log = GapLog::default();
        log.record(Gap {
            source: "agent".into(),
            start: at(50),
            end: at(20),
            reason: "test".into(),
            missed_at_most: None,
        });
        assert_eq!(log.unreported[0].start.utc, at(20).utc);
        assert!(!log.unreported[0].start.trusted);
    }
}
