//! How soon the twin may be asked for again.
//!
//! Whoever changes a twin, or sends notices without one, decides how often there is a reason to ask. So requests have a
//! least distance, a number that may come close together, and a slow pace after that; and one that failed is repeated
//! after growing pauses, whatever notices come meanwhile.

use std::time::Duration;

use super::backoff::RequestBackoff;
use crate::model::time::Mono;

/// Least time between two requests.
const LEAST: Duration = Duration::from_millis(500);
/// So many may follow each other at that distance: a person or a script that makes some changes in a row.
const AT_ONCE: u32 = 10;
/// After that one each, which is also the time in which one more may come close.
const STEADY: Duration = Duration::from_secs(5);

/// See the top of this file.
#[derive(Debug)]
pub(super) struct Pace {
    last: Option<Mono>,
    /// When [`AT_ONCE`] may come again.
    rested: Mono,
    failed_until: Option<Mono>,
    backoff: RequestBackoff,
}

impl Pace {
    /// The seed makes pauses repeatable.
    pub(super) fn new(seed: u64) -> Self {
        Self { last: None, rested: Mono::default(), failed_until: None, backoff: RequestBackoff::new(seed) }
    }

    /// The earliest moment for the next request, not before `now`.
    pub(super) fn next(&self, now: Mono) -> Mono {
        let tired = self.rested.since(now).saturating_sub(STEADY * (AT_ONCE - 1));
        let distance = self.last.map(|last| last.after(LEAST));
        [Some(now.after(tired)), distance, self.failed_until].into_iter().flatten().max().unwrap_or(now)
    }

    /// A request was sent; the first one of a connection waits for nothing.
    pub(super) fn sent(&mut self, now: Mono) {
        self.last = Some(now);
        self.rested = self.rested.max(now).after(STEADY).min(now.after(STEADY * AT_ONCE));
    }

    /// It was answered.
    pub(super) fn worked(&mut self) {
        self.failed_until = None;
        self.backoff.worked();
    }

    /// It was not, or with a refusal; gives the moment for the next one.
    pub(super) fn failed(&mut self, now: Mono) -> Mono {
        self.failed_until = Some(now.after(self.backoff.failed()));
        self.next(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::from_boot(Duration::from_millis(ms))
    }

    #[test]
    fn some_may_come_close_and_then_they_are_slow() {
        let mut pace = Pace::new(1);
        let mut sent = Vec::new();
        let mut now = at(100_000);
        for _ in 0..13 {
            now = pace.next(now);
            pace.sent(now);
            sent.push(now.since(at(100_000)).as_millis());
        }
        assert_eq!(sent[..10], [0, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500]);
        assert_eq!(sent[10..], [5000, 10_000, 15_000]);
        assert_eq!(pace.next(at(200_000)), at(200_000), "rested");
    }

    #[test]
    fn many_sign_ins_delay_what_follows_by_one_pause_only() {
        let mut pace = Pace::new(1);
        for n in 0..100 {
            pace.sent(at(n * 1000));
        }
        assert_eq!(pace.next(at(99_000)), at(104_000));
    }

    #[test]
    fn a_failure_is_repeated_after_growing_pauses() {
        let mut pace = Pace::new(1);
        let mut now = at(0);
        for (least, most) in [(2, 4), (4, 8), (8, 16), (16, 32), (30, 60), (30, 60)] {
            pace.sent(now);
            let next = pace.failed(now);
            let pause = next.since(now).as_millis();
            assert!((least * 1000..=most * 1000).contains(&pause), "{pause}");
            assert_eq!(pace.next(now), next, "whatever the reason to ask");
            now = next;
        }
        pace.worked();
        assert_eq!(pace.next(now), now);
    }

    proptest! {
        #[test]
        fn in_no_stretch_of_time_there_are_more_than_allowed(waits in prop::collection::vec(0_u64..9000, 1..200)) {
            let (mut pace, mut now, mut sent) = (Pace::new(1), at(0), Vec::new());
            for wait in waits {
                now = pace.next(now.after(Duration::from_millis(wait)));
                pace.sent(now);
                sent.push(now);
            }
            for (first, from) in sent.iter().enumerate() {
                for (last, to) in sent.iter().enumerate().skip(first + 1) {
                    let time = to.since(*from);
                    prop_assert!(time >= LEAST);
                    let most = u128::from(AT_ONCE) + time.as_millis() / STEADY.as_millis();
                    let number = (last - first) as u128 + 1;
                    prop_assert!(number <= most, "{} in {:?}", number, time);
                }
            }
        }
    }
}
