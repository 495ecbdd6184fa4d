//! Feeding systemd's watchdog, only while every vital part answers: the runtime (by running this), the core (by
//! answering) and the capture threads (by going round).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::sys::notify;

use super::capture::Pulse;
use super::start::Handle;

/// How long the core may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Runs until it is cancelled; does nothing unless systemd watches.
pub(super) async fn run(handle: Handle, pulses: Vec<Arc<Pulse>>, stop: CancellationToken) {
    let Some(interval) = notify::watchdog_interval() else { return };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(interval / 3) => {}
        }
        let core_answers = matches!(timeout(ANSWER_LIMIT, handle.status()).await, Ok(Ok(_)));
        // Each one is asked: its next answer counts from here.
        let moves: Vec<bool> = pulses.iter().map(|pulse| pulse.moved()).collect();
        let capture_moves = !moves.contains(&false);
        if core_answers && capture_moves {
            notify::watchdog();
        } else {
            tracing::error!(core_answers, capture_moves, "a vital part does not answer; not feeding the watchdog");
        }
    }
}
