//! When the ring is looked at. Being woken for each record would cost more than all the rest, and a timer that always
//! runs would keep the processor from its sleep. So the kernel's programs wake us with the first record after a quiet
//! time only; from then on we look by ourselves at every turn of a timer, until a turn finds nothing.

use std::time::Duration;

use crate::collect::GATHER;
use crate::model::time::Mono;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nothing happens: the next record wakes us.
    Quiet,
    /// Something happens: the next look is at this turn, or when the ring is half full.
    Busy(Mono),
    /// A turn found nothing, and the programs were told to wake us with the next record. One that was already on its way
    /// into the ring may not have noticed, so there is a last look at this turn.
    Settling(Mono),
}

/// What a look at the ring gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Empty,
    /// All that was in it.
    Emptied,
    /// As much as is taken at once.
    Part,
}

impl Pace {
    /// How long to wait before the next look, if the caller's time ends at `until`.
    pub(super) fn patience(self, now: Mono, until: Mono) -> Duration {
        let left = until.since(now);
        match self {
            Self::Quiet => left,
            Self::Busy(turn) | Self::Settling(turn) => turn.since(now).min(left),
        }
    }

    /// Whether being woken now means that a busy time begins, and its records are to be gathered first.
    pub(super) const fn is_awaiting(self) -> bool {
        matches!(self, Self::Quiet | Self::Settling(_))
    }

    /// A busy time begins.
    pub(super) fn busy(now: Mono) -> Self {
        Self::Busy(now.after(GATHER))
    }

    /// After a look.
    pub(super) fn after(self, look: Look, now: Mono) -> Self {
        match (look, self) {
            // The rest is looked at without delay.
            (Look::Part, _) => Self::Busy(now),
            (Look::Emptied, _) => Self::busy(now),
            (Look::Empty, Self::Busy(turn)) if now >= turn => Self::Settling(now.after(GATHER)),
            (Look::Empty, Self::Settling(turn)) if now >= turn => Self::Quiet,
            // A look before its turn, because the caller's time ended, proves nothing.
            (Look::Empty, pace) => pace,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Mono {
        Mono::from_boot(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_burst_is_looked_at_by_turns_and_then_it_is_quiet() {
        let pace = Pace::busy(at(0));
        assert_eq!(pace.patience(at(40), at(5000)), Duration::from_millis(60));
        let pace = pace.after(Look::Part, at(100));
        assert_eq!(pace.patience(at(100), at(5000)), Duration::ZERO);
        let pace = pace.after(Look::Emptied, at(101)).after(Look::Empty, at(201));
        assert_eq!(pace, Pace::Settling(at(301)));
        assert!(pace.is_awaiting());
        // A look before its turn does not end it.
        assert_eq!(pace.after(Look::Empty, at(250)), pace);
        assert_eq!(pace.after(Look::Empty, at(301)), Pace::Quiet);
        // The straggler.
        assert_eq!(pace.after(Look::Emptied, at(301)), Pace::Busy(at(401)));
        assert_eq!(Pace::Quiet.patience(at(500), at(9500)), Duration::from_secs(9));
    }

    /// A reader and the kernel's side as `bpf/twinward.bpf.c` has it, in one model. A record looks at the flag, and is in
    /// the ring a while later.
    #[derive(Debug, Default)]
    struct Ring {
        awake: bool,
        records: u32,
        underway: Vec<Mono>,
        called: bool,
    }

    impl Ring {
        fn record(&mut self, now: Mono, lag: u64) {
            self.called |= !self.awake;
            self.awake = true;
            self.underway.push(now.after(Duration::from_millis(lag)));
        }

        fn arrive(&mut self, now: Mono) {
            let before = self.underway.len();
            self.underway.retain(|at| *at > now);
            self.records += u32::try_from(before - self.underway.len()).unwrap();
        }
    }

    proptest! {
        /// Whatever comes when: nothing stays in the ring for more than two turns, and after the last record there are
        /// two looks and no more.
        #[test]
        fn nothing_stays_behind_and_quiet_is_quiet(
            records in prop::collection::btree_map(1_u64..2000, 0_u64..90, 0..40),
        ) {
            let mut ring = Ring::default();
            let (mut pace, mut looks, mut oldest) = (Pace::Quiet, 0, None);
            for millisecond in 0..4000 {
                let now = at(millisecond);
                if let Some(lag) = records.get(&millisecond) {
                    ring.record(now, *lag);
                }
                ring.arrive(now);
                if std::mem::take(&mut ring.called) && pace.is_awaiting() {
                    pace = Pace::busy(now);
                }
                if ring.records > 0 {
                    oldest.get_or_insert(now);
                }
                prop_assert!(oldest.is_none_or(|oldest| now.since(oldest) <= GATHER * 2), "{:?} {:?}", pace, ring);
                if pace != Pace::Quiet && pace.patience(now, at(5000)).is_zero() {
                    looks += u32::from(millisecond > 2100);
                    let look = if ring.records > 0 { Look::Emptied } else { Look::Empty };
                    (ring.records, oldest) = (0, None);
                    let next = pace.after(look, now);
                    match (look, pace, next) {
                        (Look::Empty, Pace::Busy(_), Pace::Settling(_)) => ring.awake = false,
                        (Look::Empty, ..) => {}
                        _ => ring.awake = true,
                    }
                    pace = next;
                }
            }
            prop_assert_eq!((pace, ring.records, ring.underway.len()), (Pace::Quiet, 0, 0));
            prop_assert!(looks <= 4, "{} looks with nothing to see", looks);
        }
    }
}
