//! When a message leaves (protocol reference 4.1 and 4.3, without its two faults: there only one message left at each
//! firing, and a queue could block the other).
//!
//! - The high clock fires with something in High: all of High leaves, and Low fills the last billing step.
//! - The low clock fires with something in Low: everything leaves.
//! - More is ready than one message holds, or than half of the cache: messages leave at once, whatever the clocks say.
//! - A clock that fires with nothing to send is restarted, and nothing else happens.
//!
//! A clock restarts when its queue has been emptied, so a firing that is interrupted (link lost, window of
//! unacknowledged messages full) stays due and goes on when the caller asks again.

use std::time::Duration;

use crate::model::loss::Queue;
use crate::model::time::Mono;
use crate::settings::agent_config::AgentConfig;

use super::fit;

/// The shortest time between two firings of a clock: a twin cannot make the agent spin.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is ready to be sent: neither in flight nor still aggregating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlogs {
    /// Records and bytes of the high queue.
    pub high: (u64, u64),
    /// Records and bytes of the low queue.
    pub low: (u64, u64),
}

impl Backlogs {
    fn has(&self, queue: Queue) -> bool {
        match queue {
            Queue::High => self.high.0 > 0,
            Queue::Low => self.low.0 > 0,
        }
    }

    /// The more important queue with anything in it.
    fn first(&self) -> Option<Queue> {
        Queue::ALL.into_iter().find(|queue| self.has(*queue))
    }

    fn bytes(&self) -> u64 {
        self.high.1.saturating_add(self.low.1)
    }
}

/// One message is to be assembled and sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// The queue whose records come first.
    pub lead: Queue,
    /// Whether everything may ride along that fits; else only what costs nothing (see [`Riders::Step`]).
    ///
    /// [`Riders::Step`]: crate::model::message::Riders::Step
    pub all: bool,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    every: Duration,
    due: Mono,
}

impl Beat {
    fn new(every: Duration, now: Mono) -> Self {
        let every = every.max(SHORTEST);
        Self { every, due: now.after(every) }
    }

    fn is_due(&self, now: Mono) -> bool {
        self.due <= now
    }

    fn restart(&mut self, now: Mono) {
        self.due = now.after(self.every);
    }

    /// A changed frequency counts from now, but what was promised for earlier leaves then.
    fn change(&mut self, every: Duration, now: Mono) {
        let every = every.max(SHORTEST);
        if every != self.every {
            self.every = every;
            self.due = self.due.min(now.after(every));
        }
    }
}

/// Decides when messages leave, and which queue leads them.
#[derive(Clone, Debug)]
pub struct Schedule {
    high: Beat,
    low: Beat,
    /// The low clock fired with something in Low, and not everything has left yet.
    low_fired: bool,
    /// Everything is to leave now.
    flushing: bool,
    /// Who leads if both clocks fired; they take turns, so neither waits for the other to be empty.
    turn: Queue,
    full: u64,
}

impl Schedule {
    /// Both clocks start at `now`.
    #[must_use]
    pub fn new(config: &AgentConfig, now: Mono) -> Self {
        Self {
            high: Beat::new(config.high_priority_message_frequency.length(), now),
            low: Beat::new(config.low_priority_message_frequency.length(), now),
            low_fired: false,
            flushing: false,
            turn: Queue::High,
            full: fit::full(config),
        }
    }

    /// Takes a changed configuration. A clock whose frequency changed restarts from `now`, but is never due later than
    /// it was.
    pub fn configure(&mut self, config: &AgentConfig, now: Mono) {
        self.high.change(config.high_priority_message_frequency.length(), now);
        self.low.change(config.low_priority_message_frequency.length(), now);
        self.full = fit::full(config);
    }

    /// The next message to send, if there is one. Called again with the new backlog after each message, until `None`;
    /// not called while the link is down.
    pub fn next_send(&mut self, now: Mono, backlog: &Backlogs) -> Option<Send> {
        let lead = self.lead(now, backlog)?;
        // What rides early in a billing step that is paid for anyway is free; more of it would only leave in smaller
        // pieces than it does in time.
        let high_alone = lead == Queue::High && !self.low_fired && !self.flushing && backlog.bytes() < self.full;
        Some(Send { lead, all: !high_alone })
    }

    /// Everything is to leave now, and the clocks do not matter; ends when the backlog is empty. For the local `flush`
    /// and the stop of the agent.
    pub fn flush_now(&mut self) {
        self.flushing = true;
    }

    /// When to ask again, if nothing arrives before. In the past while a firing waits for the link.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.high.due.min(self.low.due)
    }

    fn lead(&mut self, now: Mono, backlog: &Backlogs) -> Option<Queue> {
        let high = self.high.is_due(now) && {
            let wanted = backlog.has(Queue::High);
            if !wanted {
                self.high.restart(now);
            }
            wanted
        };
        let low = self.low.is_due(now) && {
            self.low_fired |= backlog.has(Queue::Low);
            let wanted = self.low_fired && backlog.first().is_some();
            if !wanted {
                self.low.restart(now);
                self.low_fired = false;
            }
            wanted
        };
        let low_lead = if backlog.has(Queue::Low) { Queue::Low } else { Queue::High };
        match (high, low) {
            (true, true) => {
                let lead = if self.turn == Queue::High { Queue::High } else { low_lead };
                self.turn = if lead == Queue::High { Queue::Low } else { Queue::High };
                Some(lead)
            }
            (true, false) => Some(Queue::High),
            (false, true) => Some(low_lead),
            (false, false) => self.unclocked(backlog),
        }
    }

    fn unclocked(&mut self, backlog: &Backlogs) -> Option<Queue> {
        let first = backlog.first();
        if first.is_none() {
            self.flushing = false;
        }
        first.filter(|_| self.flushing || backlog.bytes() >= self.full)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::units::{ByteSize, IsoDuration};

    fn config(high: u64, low: u64) -> AgentConfig {
        AgentConfig {
            high_priority_message_frequency: IsoDuration::from_secs(high),
            low_priority_message_frequency: IsoDuration::from_secs(low),
            ..AgentConfig::default()
        }
    }

    fn at(second: u64) -> Mono {
        Mono::from_boot(Duration::from_secs(second))
    }

    const FULL: u64 = 204_800;

    #[test]
    fn each_rule_of_the_table() {
        use Queue::{High, Low};
        // seconds since start with 10 s and 100 s, high, low → who leads
        for (second, high, low, lead) in [
            (9, (5, 500), (5, 500), None),
            (10, (5, 500), (5, 500), Some(High)),
            (10, (0, 0), (5, 500), None),
            (99, (0, 0), (5, 500), None),
            (100, (0, 0), (5, 500), Some(Low)),
            (100, (0, 0), (0, 0), None),
            (100, (5, 500), (5, 500), Some(High)),
            (1, (3, FULL), (0, 0), Some(High)),
            (1, (0, 0), (3, FULL), Some(Low)),
            (1, (1, FULL / 2), (1, FULL / 2), Some(High)),
            (1, (1, FULL / 2), (1, FULL / 2 - 1), None),
        ] {
            let mut schedule = Schedule::new(&config(10, 100), at(0));
            let send = schedule.next_send(at(second), &Backlogs { high, low });
            assert_eq!(send.map(|send| send.lead), lead, "{second} {high:?} {low:?}");
            let only_high = second == 10 && lead == Some(High);
            assert_eq!(send.is_none_or(|send| send.all), !only_high || send.is_none(), "{second} {high:?} {low:?}");
        }
    }

    #[test]
    fn a_cache_that_holds_no_full_message_is_emptied_when_it_is_half_full() {
        let config = AgentConfig { max_local_cache_size: ByteSize::bytes(FULL), ..config(10, 100) };
        let mut schedule = Schedule::new(&config, at(0));
        for (bytes, leaves) in [(FULL / 2 - 1, false), (FULL / 2, true)] {
            let send = schedule.next_send(at(1), &Backlogs { high: (0, 0), low: (9, bytes) });
            assert_eq!(send.is_some(), leaves, "{bytes}");
        }
    }

    #[test]
    fn a_firing_drains_its_queue_and_then_restarts() {
        let mut schedule = Schedule::new(&config(10, 100), at(0));
        for left in (1..=5).rev() {
            assert!(schedule.next_send(at(12), &Backlogs { high: (left, 10), low: (9, 10) }).is_some());
            assert_eq!(schedule.next_deadline(), at(10), "still due");
        }
        assert_eq!(schedule.next_send(at(12), &Backlogs { high: (0, 0), low: (9, 10) }), None);
        assert_eq!(schedule.next_deadline(), at(22));
        assert_eq!(schedule.next_send(at(13), &Backlogs { high: (1, 1), low: (9, 10) }), None);
    }

    #[test]
    fn the_low_clock_takes_everything_but_only_if_low_has_something() {
        let mut schedule = Schedule::new(&config(1000, 100), at(0));
        assert_eq!(schedule.next_send(at(100), &Backlogs { high: (4, 4), low: (0, 0) }), None);
        assert_eq!(schedule.next_deadline(), at(200));
        let lead =
            |schedule: &mut Schedule, high, low| schedule.next_send(at(200), &Backlogs { high, low }).map(|s| s.lead);
        assert_eq!(lead(&mut schedule, (4, 4), (2, 2)), Some(Queue::Low));
        assert_eq!(lead(&mut schedule, (4, 4), (0, 0)), Some(Queue::High));
        assert_eq!(lead(&mut schedule, (0, 0), (0, 0)), None);
        assert_eq!(lead(&mut schedule, (4, 4), (0, 0)), None);
        assert_eq!(schedule.next_deadline(), at(300));
        assert_eq!(schedule.next_send(at(300), &Backlogs { high: (4, 4), low: (0, 0) }), None, "a new firing");
    }

    #[test]
    fn neither_queue_starves_the_other_while_both_are_due() {
        let mut schedule = Schedule::new(&config(10, 10), at(0));
        let busy = Backlogs { high: (1000, 10), low: (1000, 10) };
        let leads: Vec<_> = (0..4).filter_map(|_| schedule.next_send(at(10), &busy)).map(|s| s.lead).collect();
        assert_eq!(leads, [Queue::High, Queue::Low, Queue::High, Queue::Low]);
    }

    #[test]
    fn a_flush_ignores_the_clocks_and_ends() {
        let mut schedule = Schedule::new(&config(10, 100), at(0));
        schedule.flush_now();
        assert_eq!(schedule.next_send(at(1), &Backlogs { high: (0, 0), low: (1, 1) }).unwrap().lead, Queue::Low);
        assert_eq!(schedule.next_send(at(1), &Backlogs::default()), None);
        assert_eq!(schedule.next_send(at(1), &Backlogs { high: (1, 1), low: (0, 0) }), None);
    }

    #[test]
    fn a_changed_frequency_counts_from_now_but_never_later_than_before() {
        let mut schedule = Schedule::new(&config(100, 1000), at(0));
        schedule.configure(&config(100, 1000), at(50));
        assert_eq!(schedule.next_deadline(), at(100), "unchanged");
        schedule.configure(&config(20, 1000), at(50));
        assert_eq!(schedule.next_deadline(), at(70));
        schedule.configure(&config(500, 1000), at(60));
        assert_eq!(schedule.next_deadline(), at(70));
        assert_eq!(schedule.next_send(at(70), &Backlogs::default()), None);
        assert_eq!(schedule.next_deadline(), at(570));
    }

    #[test]
    fn the_shortest_frequency_does_not_spin() {
        let mut schedule = Schedule::new(&config(0, 0), at(5));
        assert_eq!(schedule.next_deadline(), at(6));
        assert_eq!(schedule.next_send(at(6), &Backlogs::default()), None);
        assert_eq!(schedule.next_deadline(), at(7));
    }

    proptest! {
        /// Records arrive at any time, messages hold few records, frequencies change: whoever asks at each deadline
        /// and each arrival sees every record leave within its frequency at the time it arrived.
        #[test]
        fn nothing_waits_longer_than_its_frequency(
            high in 1_u64..60, low in 1_u64..60, room in 1_usize..5,
            steps in prop::collection::vec((0_u64..20, any::<bool>(), prop::option::weighted(0.1, (1_u64..60, 1_u64..60))), 1..120),
        ) {
            let mut frequencies = (high, low);
            let mut schedule = Schedule::new(&config(high, low), at(0));
            let (mut now, mut waiting): (u64, [Vec<u64>; 2]) = (0, [vec![], vec![]]);
            for (wait, is_high, change) in steps {
                let then = now + wait;
                loop {
                    let due = schedule.next_deadline().since_boot().as_secs().max(now);
                    now = due.min(then);
                    drain(&mut schedule, now, room, &mut waiting);
                    for queue in &waiting {
                        prop_assert!(queue.iter().all(|deadline| *deadline > now), "{:?} at {}", queue, now);
                    }
                    if due > then || (due == then && schedule.next_deadline() > at(then)) { break; }
                }
                now = then;
                if let Some(change) = change {
                    frequencies = change;
                    schedule.configure(&config(change.0, change.1), at(now));
                }
                prop_assert!(schedule.next_deadline() > at(now), "nothing is left due");
                let (queue, every) = if is_high { (0, frequencies.0) } else { (1, frequencies.1) };
                waiting[queue].push(now + every);
            }
        }
    }

    /// Sends until there is nothing to send; a message holds `room` records.
    fn drain(schedule: &mut Schedule, now: u64, room: usize, waiting: &mut [Vec<u64>; 2]) {
        loop {
            let count = |queue: usize| (waiting[queue].len() as u64, waiting[queue].len() as u64);
            let Some(send) = schedule.next_send(at(now), &Backlogs { high: count(0), low: count(1) }) else { return };
            let order = if send.lead == Queue::High { [0, 1] } else { [1, 0] };
            assert!(!waiting[order[0]].is_empty(), "the leading queue has something");
            let mut left = room;
            for queue in order {
                let take = left.min(waiting[queue].len());
                waiting[queue].drain(..take);
                left -= take;
            }
        }
    }
}
