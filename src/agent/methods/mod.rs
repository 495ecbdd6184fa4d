//! Direct methods: calls of the hub are judged and answered by a task of their own, one after the other, so that no call
//! holds up telemetry or twin. They read or hurry; none changes a configuration, an identity or a file.

mod judge;

use std::sync::Arc;
use std::time::Duration;

use flume::Sender;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::hub::traffic::{MethodAnswer, MethodCall, ToHub};
use crate::model::event::EventName;
use crate::sys::clock::Clock;

use super::core::ToCore;
use super::snapshots::CollectNow;
use super::start::Handle;
use judge::{Answer, Asked, Judge};

/// How long the core may take.
const CORE_LIMIT: Duration = Duration::from_secs(5);
/// How long a caller waits for snapshots; the hub itself waits 30 s unless it is told otherwise.
const COLLECT_LIMIT: Duration = Duration::from_secs(20);

/// What the task needs.
pub(super) struct MethodParts {
    pub(super) calls: mpsc::Receiver<MethodCall>,
    pub(super) to_hub: mpsc::Sender<ToHub>,
    pub(super) handle: Handle,
    pub(super) core: Sender<ToCore>,
    pub(super) collect: mpsc::Sender<CollectNow>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Answers calls until it is cancelled.
pub(super) async fn run(mut parts: MethodParts, stop: CancellationToken) {
    let mut judge = Judge::new();
    loop {
        let call = tokio::select! {
            () = stop.cancelled() => return,
            call = parts.calls.recv() => call,
        };
        let Some(MethodCall { connection, name, rid, payload }) = call else { return };
        let asked = judge.judge(&name, &payload, parts.clock.now().mono);
        let (status, body) = tokio::select! {
            () = stop.cancelled() => return,
            answer = answer(&parts, asked) => answer,
        };
        tracing::info!(method = name, status, "direct method");
        let answer = MethodAnswer { connection, rid, status, body: body.to_string() };
        // A link that is gone has no caller.
        let _ = parts.to_hub.send(ToHub::Answer(answer)).await;
    }
}

async fn answer(parts: &MethodParts, asked: Result<Asked, Answer>) -> Answer {
    let done = match asked {
        Err(refusal) => return refusal,
        Ok(Asked::Ping) => Some(ping(parts)),
        Ok(Asked::Status) => timeout(CORE_LIMIT, status(parts)).await.ok().flatten(),
        Ok(Asked::Flush) => timeout(CORE_LIMIT, flush(parts)).await.ok().flatten(),
        Ok(Asked::Collect(names)) => return collect(parts, names).await,
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

async fn collect(parts: &MethodParts, names: Vec<EventName>) -> Answer {
    let (told, taken) = oneshot::channel();
    if parts.collect.try_send(CollectNow { names: names.clone(), told }).is_err() {
        return (503, json!({ "error": "snapshots are being taken; try again" }));
    }
    match timeout(COLLECT_LIMIT, taken).await {
        Ok(Ok(outcome)) => {
            let by =
                |state: &str| outcome.iter().filter(|(_, s)| *s == state).map(|(name, _)| *name).collect::<Vec<_>>();
            let (collected, off, unavailable) = (by("collected"), by("off"), by("unavailable"));
            (200, json!({ "collected": collected, "off": off, "unavailable": unavailable }))
        }
        Ok(Err(_)) => (503, json!({ "error": "the agent is about to stop" })),
        Err(_) => (202, json!({ "started": names })),
    }
}
