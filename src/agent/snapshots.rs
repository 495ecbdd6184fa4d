//! The snapshot task: takes each enabled snapshot at every `snapshotFrequency`, one after the other, then asks the core
//! for the statistics events. A collector that fails or hangs is reported and does not hinder the others;
//! one that made an earlier run crash is held back.

mod collectors;
mod hotplug;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flume::Sender;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::collect::SNAPSHOTS;
use crate::collect::snapshot::{self, SnapshotContext, Taken};
use crate::model::event::EventName;
use crate::model::event_set::EventSet;
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::time::Mono;
use crate::model::units::Priority;
use crate::settings::agent_config::AgentConfig;
use crate::settings::defaults::SNAPSHOT_FREQUENCY_LEAST;
use crate::sys::clock::Clock;

use super::core::ToCore;
use super::crash_book::CrashBook;
use super::crashes::{Held, Part};
use collectors::Collectors;
use hotplug::HotPlug;

/// Periodic events that the core has, not a collector.
const STATISTICS: EventSet = EventSet::of(&[EventName::DroppedEventsStatistics, EventName::MessageStatistics]);
/// Everything periodic that this version takes.
pub(super) const PERIODIC: EventSet = EventSet::of(SNAPSHOTS).with(STATISTICS);
/// The least time between two snapshots of a type, whatever the twin does.
const LEAST: Duration = Duration::from_secs(SNAPSHOT_FREQUENCY_LEAST);

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken.
    Collected,
    /// The twin does not want it.
    Off,
    /// It could not be taken; its health says why.
    Unavailable,
}

/// Snapshots out of turn, on order; that they come seldom is up to whoever orders.
#[derive(Debug)]
pub(super) struct CollectNow {
    pub(super) names: EventSet,
    /// Told what became of each as soon as it is known; has room for all. Closed when all are told.
    pub(super) told: mpsc::Sender<(EventName, Outcome)>,
}

/// What the task needs.
pub(super) struct SnapshotParts {
    pub(super) context: SnapshotContext,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: watch::Receiver<Arc<AgentConfig>>,
    pub(super) crashes: Arc<CrashBook>,
    pub(super) core: Sender<ToCore>,
    pub(super) health: mpsc::Sender<CollectorHealth>,
    pub(super) out_of_turn: mpsc::Receiver<CollectNow>,
}

impl SnapshotParts {
    fn held(&self, name: EventName) -> Option<Held> {
        self.crashes.held(&Part::Snapshot(name), self.clock.now().mono)
    }
}

/// When what is taken: pure. A type that was taken less than [`LEAST`] ago waits until that time is over, in a round as
/// well as when it is switched on: switches and frequencies of the twin together cannot make the device busy.
#[derive(Debug)]
struct Rounds {
    /// When the last round was.
    last: Option<Mono>,
    /// When the next one is.
    due: Mono,
    frequency: Duration,
    off: EventSet,
    /// To be looked at as soon as it may be, round or not.
    waiting: EventSet,
    /// When each was last taken.
    taken: BTreeMap<EventName, Mono>,
    /// Until when each is held back, if it is.
    held: BTreeMap<EventName, Mono>,
}

impl Rounds {
    /// The first round is due at once.
    fn new(config: &AgentConfig, now: Mono) -> Self {
        let frequency = config.snapshot_frequency.length();
        let (off, waiting) = (off(config), EventSet::NONE);
        Self { last: None, due: now, frequency, off, waiting, taken: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// This one may not be taken before.
    fn hold(&mut self, name: EventName, until: Mono) {
        self.held.insert(name, until);
    }

    /// What may not be taken yet.
    fn held(&self, now: Mono) -> EventSet {
        let held: Vec<EventName> = self.held.iter().filter(|(_, until)| now < **until).map(|(name, _)| *name).collect();
        EventSet::of(&held)
    }

    /// Takes a changed configuration. Types that were switched on or off do not wait for the next round. A changed
    /// frequency counts from the last round, but what was promised for earlier is taken then.
    fn configure(&mut self, config: &AgentConfig) {
        let before = std::mem::replace(&mut self.off, off(config));
        let (on, off) = (before.without(self.off), self.off.without(before));
        self.waiting = self.waiting.with(on).with(off);
        let frequency = config.snapshot_frequency.length();
        if frequency != self.frequency {
            self.frequency = frequency;
            if let Some(last) = self.last {
                self.due = self.due.min(last.after(frequency));
            }
        }
    }

    /// When [`Rounds::take`] has something to do.
    fn next(&self) -> Mono {
        self.waiting.iter().map(|name| self.may(name)).fold(self.due, Mono::min)
    }

    /// From when on a type may be looked at. One that is off is only said to be so.
    fn may(&self, name: EventName) -> Mono {
        if self.off.contains(name) {
            return Mono::default();
        }
        let again = self.taken.get(&name).map(|at| at.after(LEAST));
        again.max(self.held.get(&name).copied()).unwrap_or_default()
    }

    /// What is to be looked at now.
    fn take(&mut self, now: Mono) -> EventSet {
        if self.due <= now {
            self.last = Some(now);
            self.due = now.after(self.frequency);
            self.waiting = PERIODIC;
        }
        let ready: Vec<EventName> = self.waiting.iter().filter(|name| self.may(*name) <= now).collect();
        let ready = EventSet::of(&ready);
        self.note(ready, now);
        ready
    }

    /// These are taken now, in turn or not; the rounds keep their clock.
    fn note(&mut self, names: EventSet, now: Mono) {
        self.waiting = self.waiting.without(names);
        self.taken.extend(names.without(self.off).iter().map(|name| (name, now)));
    }
}

fn off(config: &AgentConfig) -> EventSet {
    let off: Vec<EventName> = PERIODIC.iter().filter(|name| config.priority(*name) == Priority::Off).collect();
    EventSet::of(&off)
}

/// Runs until it is cancelled.
pub(super) async fn run(mut parts: SnapshotParts, stop: CancellationToken) {
    let mut rounds = Rounds::new(&parts.config.borrow_and_update(), parts.clock.now().mono);
    let mut hotplug = HotPlug::new(parts.context.host.clone(), Arc::clone(&parts.clock), Arc::clone(&parts.crashes));
    parts.context.hotplug = Some(hotplug.recorder());
    let (context, config, crashes) = (parts.context.clone(), parts.config.clone(), Arc::clone(&parts.crashes));
    let mut collectors = Collectors::new(move |name| {
        let custom_checks = config.borrow().baseline_custom_checks.clone();
        let taken = snapshot::take(name, &SnapshotContext { custom_checks, ..context.clone() })?;
        crashes.worked(&Part::Snapshot(name));
        Ok(taken)
    });
    for name in SNAPSHOTS {
        if let Some(held) = parts.held(*name) {
            rounds.hold(*name, held.until);
        }
    }
    // Why those are not taken is said before the first round, which takes its time.
    pass(&parts, &mut collectors, rounds.held(parts.clock.now().mono), |_, _| {}).await;
    loop {
        let next = hotplug.again().map_or(rounds.next(), |again| again.min(rounds.next()));
        let wait = next.since(parts.clock.now().mono);
        let (names, told) = tokio::select! {
            () = stop.cancelled() => return,
            changed = parts.config.changed() => {
                if changed.is_err() {
                    return;
                }
                rounds.configure(&parts.config.borrow_and_update());
                // What is held back is so, or off, by this configuration.
                (rounds.held(parts.clock.now().mono), None)
            }
            Some(CollectNow { names, told }) = parts.out_of_turn.recv() => {
                let now = parts.clock.now().mono;
                rounds.note(names.without(rounds.held(now)), now);
                (names, Some(told))
            }
            () = sleep(wait) => (rounds.take(parts.clock.now().mono), None),
        };
        let listen = hotplug.again().is_some_and(|again| again <= parts.clock.now().mono);
        if listen || names.contains(EventName::ConnectedHardware) {
            let off = off(&parts.config.borrow());
            let held = parts.held(EventName::ConnectedHardware).is_some();
            hotplug.want(!held && !off.contains(EventName::ConnectedHardware));
        }
        let tell = |name, outcome| {
            if let Some(told) = &told {
                // Whoever asked may have given up.
                let _ = told.try_send((name, outcome));
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = pass(&parts, &mut collectors, names, tell) => {}
        }
    }
}

/// Takes these snapshots; tells what became of each.
async fn pass(parts: &SnapshotParts, collectors: &mut Collectors, names: EventSet, tell: impl Fn(EventName, Outcome)) {
    let off = off(&parts.config.borrow());
    for name in names.without(STATISTICS).iter() {
        if !PERIODIC.contains(name) {
            tell(name, Outcome::Unavailable);
            continue;
        }
        let (health, outcome) = if off.contains(name) {
            (bare(name, HealthState::Off, String::new()), Outcome::Off)
        } else if let Some(held) = parts.held(name) {
            (bare(name, HealthState::Unavailable, held.why), Outcome::Unavailable)
        } else {
            match collectors.run(name).await {
                Ok(Taken { snapshot, health }) => {
                    // The core is gone only when the agent ends.
                    let _ = parts.core.send_async(ToCore::Snapshot(snapshot)).await;
                    parts.context.taken_over(name);
                    (health, Outcome::Collected)
                }
                Err(detail) => {
                    tracing::warn!(collector = %name, detail, "snapshot failed");
                    (bare(name, HealthState::Unavailable, detail), Outcome::Unavailable)
                }
            }
        };
        // The owner is gone only when the agent ends.
        let _ = parts.health.send(health).await;
        tell(name, outcome);
    }
    let statistics = names.and(STATISTICS);
    let wanted = statistics.without(off);
    let mut outcome = Outcome::Unavailable;
    if !wanted.is_empty() {
        let (done, made) = oneshot::channel();
        // The core is gone only when the agent ends.
        let _ = parts.core.send_async(ToCore::Statistics { names: wanted, done }).await;
        if made.await == Ok(true) {
            outcome = Outcome::Collected;
        }
    }
    for name in statistics.iter() {
        tell(name, if off.contains(name) { Outcome::Off } else { outcome });
    }
}

fn bare(event: EventName, state: HealthState, detail: String) -> CollectorHealth {
    CollectorHealth { event, state, source: String::new(), detail }
}

#[cfg(test)]
mod hardware_tests;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::units::IsoDuration;
    use EventName::{DroppedEventsStatistics, ListeningPorts, MessageStatistics, SystemInformation};

    fn at(second: u64) -> Mono {
        Mono::from_boot(Duration::from_secs(second))
    }

    fn every(seconds: u64) -> AgentConfig {
        AgentConfig { snapshot_frequency: IsoDuration::from_secs(seconds), ..AgentConfig::default() }
    }

    fn only(names: &[EventName]) -> EventSet {
        EventSet::of(names)
    }

    #[test]
    fn the_first_round_is_at_once_and_a_change_never_moves_one_back() {
        let mut rounds = Rounds::new(&every(100), at(50));
        assert_eq!(rounds.next(), at(50));
        rounds.configure(&every(100));
        assert_eq!(rounds.take(at(51)), PERIODIC);
        assert_eq!(rounds.next(), at(151));
        rounds.configure(&every(60));
        assert_eq!(rounds.next(), at(111), "counted from the last round");
        rounds.configure(&every(1000));
        assert_eq!(rounds.next(), at(111), "what was promised is kept");
        assert_eq!(rounds.take(at(111)), PERIODIC);
        assert_eq!(rounds.next(), at(1111));
        rounds.configure(&every(5));
        assert!(rounds.next() < at(200), "overdue: at once");
    }

    #[test]
    fn what_is_switched_on_does_not_wait_for_its_round() {
        let mut config = every(100);
        config.priorities.insert(ListeningPorts, Priority::Off);
        config.priorities.insert(MessageStatistics, Priority::Off);
        let mut rounds = Rounds::new(&config, at(0));
        assert_eq!(rounds.take(at(0)), PERIODIC, "those that are off are said to be");
        config.priorities.insert(ListeningPorts, Priority::High);
        rounds.configure(&config);
        assert_eq!(rounds.next(), at(0), "at once, though the round was just now: it was off then");
        assert_eq!(rounds.take(at(1)), only(&[ListeningPorts]));
        config.priorities.insert(ListeningPorts, Priority::Low);
        rounds.configure(&config);
        assert_eq!(rounds.next(), at(100), "on before and after");
        rounds.configure(&every(100));
        assert_eq!(rounds.take(at(20)), only(&[MessageStatistics]));
        config.priorities.insert(ListeningPorts, Priority::Off);
        config.priorities.insert(MessageStatistics, Priority::Low);
        rounds.configure(&config);
        assert_eq!(rounds.take(at(21)), only(&[ListeningPorts]), "that it is off is said at once");
        assert_eq!(rounds.take(at(100)), PERIODIC, "and the round comes as ever");
    }

    #[test]
    fn what_is_switched_on_when_the_round_is_due_is_taken_once() {
        let mut config = every(100);
        config.priorities.insert(ListeningPorts, Priority::Off);
        let mut rounds = Rounds::new(&config, at(0));
        rounds.take(at(0));
        rounds.configure(&every(60));
        assert_eq!(rounds.take(at(70)), PERIODIC);
        assert_eq!(rounds.next(), at(130));
    }

    #[test]
    fn a_type_that_is_switched_to_and_fro_is_taken_each_five_seconds() {
        let (on, mut off) = (every(1000), every(1000));
        off.priorities.insert(ListeningPorts, Priority::Off);
        let mut rounds = Rounds::new(&on, at(0));
        rounds.take(at(0));
        let mut taken = Vec::new();
        for half in 2..60 {
            let now = Mono::from_boot(Duration::from_millis(500 * half));
            rounds.configure(if half % 2 == 0 { &off } else { &on });
            if rounds.next() <= now && rounds.take(now).contains(ListeningPorts) && half % 2 == 1 {
                taken.push(half);
            }
        }
        assert_eq!(taken, [11, 21, 31, 41, 51]);
        // What was put off comes when its time comes.
        assert_eq!(rounds.next(), Mono::from_boot(Duration::from_millis(30_500)));
    }

    #[test]
    fn what_is_held_back_is_taken_when_its_time_comes_and_not_in_a_round_before() {
        let mut config = every(100);
        let mut rounds = Rounds::new(&config, at(0));
        rounds.hold(ListeningPorts, at(130));
        assert_eq!(rounds.take(at(0)), PERIODIC.without(only(&[ListeningPorts])));
        assert_eq!((rounds.next(), rounds.held(at(129))), (at(100), only(&[ListeningPorts])));
        config.priorities.insert(ListeningPorts, Priority::Off);
        rounds.configure(&config);
        assert_eq!(rounds.take(at(50)), only(&[ListeningPorts]), "that it is off is said at once");
        rounds.configure(&every(100));
        assert_eq!(rounds.take(at(100)), PERIODIC.without(only(&[ListeningPorts])));
        assert_eq!((rounds.next(), rounds.held(at(130))), (at(130), EventSet::NONE));
        assert_eq!(rounds.take(at(130)), only(&[ListeningPorts]));
        assert_eq!(rounds.next(), at(200));
    }

    #[test]
    fn what_is_taken_on_order_leaves_the_rounds_their_clock() {
        let mut rounds = Rounds::new(&every(100), at(0));
        rounds.take(at(0));
        rounds.note(only(&[SystemInformation]), at(40));
        assert_eq!(rounds.next(), at(100));
        rounds.note(PERIODIC, at(98));
        assert_eq!(rounds.take(at(100)), EventSet::NONE, "all were taken two seconds ago");
        assert_eq!((rounds.next(), rounds.due), (at(103), at(200)));
        assert_eq!(rounds.take(at(103)), PERIODIC);
        assert_eq!(rounds.next(), at(200), "the round after is where it was");
    }

    fn config() -> impl Strategy<Value = AgentConfig> {
        (5_u64..40, any::<[bool; 4]>()).prop_map(|(seconds, on)| {
            let mut config = every(seconds);
            let names = [SystemInformation, ListeningPorts, DroppedEventsStatistics, MessageStatistics];
            let priority = |on| if on { Priority::Low } else { Priority::Off };
            config.priorities.extend(names.into_iter().zip(on.map(priority)));
            config
        })
    }

    proptest! {
        /// Whatever the twin does: nothing that is on is taken twice in five seconds, or not for longer than the longest
        /// of its frequencies and those five seconds; and there is always a next time.
        #[test]
        fn no_twin_takes_a_snapshot_too_often_or_too_seldom(
            changes in prop::collection::vec((0_u64..12_000, config()), 1..60),
        ) {
            let (mut now, mut config) = (100_000, every(40));
            let ms = |ms| Mono::from_boot(Duration::from_millis(ms));
            let mut rounds = Rounds::new(&config, ms(now));
            let mut taken: BTreeMap<EventName, u64> = BTreeMap::new();
            let mut wanted_since: BTreeMap<EventName, u64> = PERIODIC.iter().map(|name| (name, now)).collect();
            for (wait, next) in changes {
                let end = now + wait;
                while rounds.next() <= ms(end) {
                    now = now.max(u64::try_from(rounds.next().since_boot().as_millis()).unwrap());
                    for name in rounds.take(ms(now)).without(off(&config)).iter() {
                        let before = taken.insert(name, now);
                        prop_assert!(before.is_none_or(|before| now - before >= 5000), "{} at {}", name, now);
                        wanted_since.insert(name, now);
                    }
                    prop_assert!(rounds.next() > ms(now), "it spins");
                }
                now = end;
                for name in PERIODIC.without(off(&config)).iter() {
                    prop_assert!(now - wanted_since[&name] <= 45_000, "{} waits since {}", name, wanted_since[&name]);
                }
                for name in PERIODIC.iter().filter(|name| off(&config).contains(*name)) {
                    wanted_since.insert(name, now);
                }
                rounds.configure(&next);
                config = next;
            }
        }
    }
}
