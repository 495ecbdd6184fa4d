//! The snapshot task: runs each enabled snapshot collector at every `snapshotFrequency`, one after the other on the
//! blocking pool, then asks the core for the statistics events. A collector that fails or panics is reported and does
//! not hinder the others.

use std::sync::Arc;
use std::time::Duration;

use flume::Sender;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::collect::SNAPSHOTS;
use crate::collect::snapshot::{self, SnapshotContext, Taken};
use crate::model::event::EventName;
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::time::Mono;
use crate::model::units::Priority;
use crate::settings::agent_config::AgentConfig;
use crate::sys::clock::Clock;

use super::core::ToCore;

/// A collector that takes longer is reported; its late result is thrown away.
const COLLECTOR_LIMIT: Duration = Duration::from_secs(60);

/// Periodic events that the core has, not a collector. One question brings both.
const STATISTICS: [EventName; 2] = [EventName::DroppedEventsStatistics, EventName::MessageStatistics];

/// Snapshots out of turn: these events, or all if there are none. Told is each name with `collected`, `off` or
/// `unavailable`.
pub(super) struct CollectNow {
    pub(super) names: Vec<EventName>,
    pub(super) told: oneshot::Sender<Vec<(EventName, &'static str)>>,
}

/// What the task needs.
pub(super) struct SnapshotParts {
    pub(super) context: SnapshotContext,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: watch::Receiver<Arc<AgentConfig>>,
    pub(super) core: Sender<ToCore>,
    pub(super) health: mpsc::Sender<CollectorHealth>,
    pub(super) out_of_turn: mpsc::Receiver<CollectNow>,
}

/// When the rounds are due: pure.
#[derive(Debug)]
struct Rounds {
    last: Option<Mono>,
    due: Mono,
    frequency: Duration,
    off: Vec<EventName>,
}

impl Rounds {
    /// The first round is due at once.
    fn new(config: &AgentConfig, now: Mono) -> Self {
        Self { last: None, due: now, frequency: config.snapshot_frequency.length(), off: off(config) }
    }

    /// Takes a changed configuration; gives the types that were switched on or off, which do not wait for the next
    /// round. A changed frequency counts from the last round, but what was promised for earlier is taken then.
    fn configure(&mut self, config: &AgentConfig) -> Vec<EventName> {
        let before = std::mem::replace(&mut self.off, off(config));
        let frequency = config.snapshot_frequency.length();
        let Some(last) = self.last else { return Vec::new() };
        if frequency != self.frequency {
            self.frequency = frequency;
            self.due = self.due.min(last.after(frequency));
        }
        all().filter(|name| before.contains(name) != self.off.contains(name)).collect()
    }

    fn taken(&mut self, now: Mono, config: &AgentConfig) {
        self.frequency = config.snapshot_frequency.length();
        self.last = Some(now);
        self.due = now.after(self.frequency);
    }
}

/// Everything periodic.
fn all() -> impl Iterator<Item = EventName> {
    SNAPSHOTS.iter().copied().chain(STATISTICS)
}

fn off(config: &AgentConfig) -> Vec<EventName> {
    all().filter(|name| config.priority(*name) == Priority::Off).collect()
}

/// Runs until it is cancelled.
pub(super) async fn run(mut parts: SnapshotParts, stop: CancellationToken) {
    let config = Arc::clone(&parts.config.borrow_and_update());
    let mut rounds = Rounds::new(&config, parts.clock.now().mono);
    loop {
        let now = parts.clock.now().mono;
        let work = tokio::select! {
            () = stop.cancelled() => return,
            changed = parts.config.changed() => {
                if changed.is_err() {
                    return;
                }
                let config = Arc::clone(&parts.config.borrow_and_update());
                let names = rounds.configure(&config);
                if names.is_empty() {
                    continue;
                }
                (names, None)
            }
            Some(CollectNow { names, told }) = parts.out_of_turn.recv() => (names, Some(told)),
            () = sleep(rounds.due.since(now)) => {
                rounds.taken(parts.clock.now().mono, &Arc::clone(&parts.config.borrow()));
                (Vec::new(), None)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = pass(&parts, &work.0) => {
                if let Some(told) = work.1 {
                    // Whoever asked may have given up.
                    let _ = told.send(outcome);
                }
            }
        }
    }
}

/// Takes these snapshots, or all that there are; says what became of each.
async fn pass(parts: &SnapshotParts, names: &[EventName]) -> Vec<(EventName, &'static str)> {
    let config = Arc::clone(&parts.config.borrow());
    let names: Vec<EventName> = if names.is_empty() { all().collect() } else { names.to_vec() };
    let mut outcome = Vec::new();
    for &name in &names {
        let state = if STATISTICS.contains(&name) {
            if config.priority(name) == Priority::Off { "off" } else { "collected" }
        } else if SNAPSHOTS.contains(&name) {
            let health = if config.priority(name) == Priority::Off {
                CollectorHealth { event: name, state: HealthState::Off, source: String::new(), detail: String::new() }
            } else {
                collect_one(parts, name).await
            };
            let state = match health.state {
                HealthState::Off => "off",
                HealthState::Unavailable => "unavailable",
                HealthState::Ok | HealthState::Degraded => "collected",
            };
            // The owner is gone only when the agent ends.
            let _ = parts.health.send(health).await;
            state
        } else {
            "unavailable"
        };
        outcome.push((name, state));
    }
    if outcome.iter().any(|(name, state)| STATISTICS.contains(name) && *state == "collected") {
        // The core is gone only when the agent ends.
        let _ = parts.core.send_async(ToCore::Statistics).await;
    }
    outcome
}

async fn collect_one(parts: &SnapshotParts, name: EventName) -> CollectorHealth {
    let unavailable = |detail: String| {
        tracing::warn!(collector = %name, detail, "snapshot failed");
        CollectorHealth { event: name, state: HealthState::Unavailable, source: String::new(), detail }
    };
    let context = parts.context.clone();
    let work = tokio::task::spawn_blocking(move || snapshot::take(name, &context));
    match timeout(COLLECTOR_LIMIT, work).await {
        Ok(Ok(Ok(Taken { snapshot, health }))) => {
            // The core is gone only when the agent ends.
            let _ = parts.core.send_async(ToCore::Snapshot(snapshot)).await;
            health
        }
        Ok(Ok(Err(error))) => unavailable(error.to_string()),
        Ok(Err(_)) => unavailable("the collector crashed".to_owned()),
        Err(_) => unavailable(format!("no result within {} s", COLLECTOR_LIMIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::IsoDuration;

    fn at(second: u64) -> Mono {
        Mono::from_boot(Duration::from_secs(second))
    }

    fn every(seconds: u64) -> AgentConfig {
        AgentConfig { snapshot_frequency: IsoDuration::from_secs(seconds), ..AgentConfig::default() }
    }

    #[test]
    fn the_first_round_is_at_once_and_a_change_never_moves_one_back() {
        let mut rounds = Rounds::new(&every(100), at(50));
        assert_eq!(rounds.due, at(50));
        assert!(rounds.configure(&every(100)).is_empty());
        rounds.taken(at(51), &every(100));
        assert_eq!(rounds.due, at(151));
        rounds.configure(&every(60));
        assert_eq!(rounds.due, at(111), "counted from the last round");
        rounds.configure(&every(1000));
        assert_eq!(rounds.due, at(111), "what was promised is kept");
        rounds.taken(at(111), &every(1000));
        assert_eq!(rounds.due, at(1111));
        rounds.configure(&every(5));
        assert!(rounds.due < at(200), "overdue: at once");
    }

    #[test]
    fn what_is_switched_on_does_not_wait_for_its_round() {
        let mut config = every(100);
        config.priorities.insert(EventName::ListeningPorts, Priority::Off);
        config.priorities.insert(EventName::MessageStatistics, Priority::Off);
        let mut rounds = Rounds::new(&config, at(0));
        rounds.taken(at(0), &config);
        config.priorities.insert(EventName::ListeningPorts, Priority::High);
        assert_eq!(rounds.configure(&config), [EventName::ListeningPorts]);
        assert!(rounds.configure(&config).is_empty());
        config.priorities.insert(EventName::ListeningPorts, Priority::Low);
        assert!(rounds.configure(&config).is_empty(), "on before and after");
        assert_eq!(rounds.configure(&every(100)), [EventName::MessageStatistics]);
        config.priorities.insert(EventName::ListeningPorts, Priority::Off);
        config.priorities.insert(EventName::MessageStatistics, Priority::Low);
        assert_eq!(rounds.configure(&config), [EventName::ListeningPorts], "its health is told at once");
    }
}
