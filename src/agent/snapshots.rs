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

/// Runs until it is cancelled.
pub(super) async fn run(mut parts: SnapshotParts, stop: CancellationToken) {
    let mut last: Option<Mono> = None;
    loop {
        let frequency = parts.config.borrow_and_update().snapshot_frequency.length();
        let now = parts.clock.now().mono;
        let due = last.map_or(now, |last| last.after(frequency));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = parts.config.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(CollectNow { names, told }) = parts.out_of_turn.recv() => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    outcome = now_and_then(&parts, &names) => {
                        // Whoever asked may have given up.
                        let _ = told.send(outcome);
                    }
                }
            }
            () = sleep(due.since(now)) => {
                last = Some(parts.clock.now().mono);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = pass(&parts) => {}
                }
            }
        }
    }
}

async fn pass(parts: &SnapshotParts) {
    let config = Arc::clone(&parts.config.borrow());
    for &name in SNAPSHOTS {
        let health = if config.priority(name) == Priority::Off {
            CollectorHealth { event: name, state: HealthState::Off, source: String::new(), detail: String::new() }
        } else {
            collect_one(parts, name).await
        };
        if parts.health.send(health).await.is_err() {
            return;
        }
    }
    // The core is gone only when the agent ends.
    let _ = parts.core.send_async(ToCore::Statistics).await;
}

/// The clock of the regular snapshots is left as it is.
async fn now_and_then(parts: &SnapshotParts, names: &[EventName]) -> Vec<(EventName, &'static str)> {
    let config = Arc::clone(&parts.config.borrow());
    let statistics = [EventName::DroppedEventsStatistics, EventName::MessageStatistics];
    let all = SNAPSHOTS.iter().copied().chain(statistics);
    let names: Vec<EventName> = if names.is_empty() { all.collect() } else { names.to_vec() };
    let mut outcome = Vec::new();
    for &name in &names {
        outcome.push((
            name,
            if config.priority(name) == Priority::Off {
                "off"
            } else if statistics.contains(&name) {
                "collected"
            } else if !SNAPSHOTS.contains(&name) {
                "unavailable"
            } else {
                let health = collect_one(parts, name).await;
                let state = if health.state == HealthState::Unavailable { "unavailable" } else { "collected" };
                // The owner is gone only when the agent ends.
                let _ = parts.health.send(health).await;
                state
            },
        ));
    }
    if outcome.iter().any(|(name, state)| statistics.contains(name) && *state == "collected") {
        // As above.
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
