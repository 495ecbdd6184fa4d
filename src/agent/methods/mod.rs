//! Direct methods: calls of the hub are judged and answered by a task of their own, so that no call holds up telemetry or
//! twin. They are served one after the other; only whoever waits for snapshots does so beside the others. They read or
//! hurry; none changes a configuration, an identity or a file.

mod judge;
mod refusals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flume::Sender;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::hub::traffic::{MethodAnswer, MethodCall, ToHub};
use crate::model::event::EventName;
use crate::model::event_set::EventSet;
use crate::sys::clock::Clock;

use super::core::ToCore;
use super::snapshots::{CollectNow, Outcome, PERIODIC};
use super::start::Handle;
use judge::{Answer, Asked, Judge};
use refusals::Refusals;

/// How long the core may take.
const CORE_LIMIT: Duration = Duration::from_secs(5);
/// How long a caller waits for snapshots; the hub itself waits 30 s unless it is told otherwise.
const COLLECT_LIMIT: Duration = Duration::from_secs(20);
/// Most callers that wait for snapshots at once: one whose snapshots are being taken, and the next.
const COLLECTING: usize = 2;

/// What the task needs.
pub(super) struct MethodParts {
    pub(super) calls: mpsc::Receiver<MethodCall>,
    pub(super) to_hub: mpsc::Sender<ToHub>,
    pub(super) handle: Handle,
    pub(super) core: Sender<ToCore>,
    pub(super) collect: mpsc::Sender<CollectNow>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A call that is answered.
struct Answered {
    connection: u64,
    name: String,
    rid: String,
    answer: Answer,
}

/// Answers calls until it is cancelled.
pub(super) async fn run(mut parts: MethodParts, stop: CancellationToken) {
    let mut judge = Judge::new();
    let mut refusals = Refusals::default();
    let mut collecting = JoinSet::new();
    loop {
        let call = tokio::select! {
            () = stop.cancelled() => return,
            Some(Ok(answered)) = collecting.join_next() => {
                give(&parts, answered, &mut refusals).await;
                continue;
            }
            call = parts.calls.recv() => call,
        };
        let Some(MethodCall { connection, name, rid, payload }) = call else { return };
        let answer = match judge.judge(&name, &payload, parts.clock.now().mono) {
            Err(refusal) => refusal,
            Ok(Asked::Collect(names)) => match order(&parts, names, collecting.len()) {
                Ok(waiting) => {
                    collecting.spawn(async move {
                        Answered { connection, name, rid, answer: waiting.answer(COLLECT_LIMIT).await }
                    });
                    continue;
                }
                Err(busy) => busy,
            },
            Ok(asked) => tokio::select! {
                () = stop.cancelled() => return,
                answer = answer(&parts, asked) => answer,
            },
        };
        give(&parts, Answered { connection, name, rid, answer }, &mut refusals).await;
    }
}

/// Hands an answer to the link, and writes the call to the log.
async fn give(parts: &MethodParts, answered: Answered, refusals: &mut Refusals) {
    let Answered { connection, name, rid, answer: (status, body) } = answered;
    if let Some(unsaid) = refusals.line(status, parts.clock.now().mono) {
        tracing::info!(method = name, status, refused_before = (unsaid > 0).then_some(unsaid), "direct method");
    }
    // A link that is gone has no caller.
    let _ = parts.to_hub.send(ToHub::Answer(MethodAnswer { connection, rid, status, body: body.to_string() })).await;
}

async fn answer(parts: &MethodParts, asked: Asked) -> Answer {
    let done = match asked {
        Asked::Ping => Some(ping(parts)),
        Asked::Status => timeout(CORE_LIMIT, status(parts)).await.ok().flatten(),
        Asked::Flush => timeout(CORE_LIMIT, flush(parts)).await.ok().flatten(),
        Asked::Collect(_) => None,
    };
    done.map_or_else(|| (503, json!({ "error": "the agent is busy; try again" })), |body| (200, body))
}

fn ping(parts: &MethodParts) -> Value {
    let now = parts.clock.now();
    json!({
        "version": crate::model::VERSION,
        "agentId": parts.handle.agent_id().to_string(),
        "uptimeSeconds": parts.handle.uptime(now).as_secs(),
        "timeUtc": now.wall.utc_text(),
    })
}

async fn status(parts: &MethodParts) -> Option<Value> {
    serde_json::to_value(parts.handle.status().await.ok()?).ok()
}

/// What waited when it was called.
async fn flush(parts: &MethodParts) -> Option<Value> {
    let before = parts.handle.status().await.ok()?.core.balance;
    parts.core.send_async(ToCore::Flush).await.ok()?;
    Some(json!({ "pendingEvents": { "high": before.high.pending, "low": before.low.pending } }))
}

/// Snapshots that were ordered.
struct Waiting {
    names: Vec<EventName>,
    told: mpsc::Receiver<(EventName, Outcome)>,
}

/// Orders these snapshots, or all that there are. `waiting` callers wait already.
fn order(parts: &MethodParts, names: Vec<EventName>, waiting: usize) -> Result<Waiting, Answer> {
    let names: Vec<EventName> = if names.is_empty() { PERIODIC.iter().collect() } else { names };
    let (teller, told) = mpsc::channel(names.len());
    let order = CollectNow { names: EventSet::of(&names), told: teller };
    if waiting >= COLLECTING || parts.collect.try_send(order).is_err() {
        return Err((503, json!({ "error": "snapshots are being taken; try again" })));
    }
    Ok(Waiting { names, told })
}

impl Waiting {
    /// What became of each. 202 and `started` if some are still under way after `limit`.
    async fn answer(mut self, limit: Duration) -> Answer {
        let mut known = BTreeMap::new();
        let all = async {
            while let Some((name, outcome)) = self.told.recv().await {
                known.insert(name, outcome);
            }
        };
        let ended = timeout(limit, all).await.is_ok();
        let of = |outcome: Option<Outcome>| -> Vec<EventName> {
            self.names.iter().copied().filter(|name| known.get(name).copied() == outcome).collect()
        };
        let collected = of(Some(Outcome::Collected));
        let (off, unavailable) = (of(Some(Outcome::Off)), of(Some(Outcome::Unavailable)));
        let under_way = of(None);
        if under_way.is_empty() {
            return (200, json!({ "collected": collected, "off": off, "unavailable": unavailable }));
        }
        if ended {
            return (503, json!({ "error": "the agent is about to stop" }));
        }
        (202, json!({ "collected": collected, "off": off, "unavailable": unavailable, "started": under_way }))
    }
}

#[cfg(test)]
mod tests;
