//! Feeding systemd's watchdog, only while every vital part answers: the runtime (by running this), the core (by
//! answering) and the capture thread (by going round).

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
pub(super) async fn run(handle: Handle, pulse: Arc<Pulse>, stop: CancellationToken) {
    let Some(interval) = notify::watchdog_interval() else { return };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(interval / 3) => {}
        }
        let core_answers = matches!(timeout(ANSWER_LIMIT, handle.status()).await, Ok(Ok(_)));
        let capture_moves = pulse.moved();
        if core_answers && capture_moves {
            notify::watchdog();
        } else {
            tracing::error!(core_answers, capture_moves, "a vital part does not answer; not feeding the watchdog");
        }
    }
}
