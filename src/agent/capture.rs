//! The capture thread: reads the process source and hands batches to the core. A kernel source must not fall behind,
//! so it has a thread of its own; when it fails or panics it is opened again with backoff, and the time without it is
//! a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use flume::Sender;
use tokio::sync::mpsc;

use crate::collect::{SourceChoice, open_process_source};
use crate::model::event::EventName;
use crate::model::loss::Gap;
use crate::model::time::Timestamp;
use crate::settings::ProcessSource;
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::wake::Waker;

use super::core::ToCore;

/// Longest wait for something to happen, so that the watchdog sees that the thread lives. A stop wakes it earlier.
const WAIT: Duration = Duration::from_secs(10);

/// What the thread tells the agent.
#[derive(Debug)]
pub(super) enum CaptureNews {
    /// The source is open.
    Opened { choice: SourceChoice, waker: Waker },
    /// The thread ended; with a reason unless it was told to stop.
    Ended { failure: Option<String>, last_good: Option<Timestamp> },
}

/// What the thread needs.
#[derive(Clone)]
pub(super) struct CaptureParts {
    pub(super) wanted: ProcessSource,
    pub(super) host: Host,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) core: Sender<ToCore>,
    pub(super) news: mpsc::Sender<CaptureNews>,
    pub(super) pulse: Arc<Pulse>,
}

/// A running capture thread.
#[derive(Debug)]
pub(super) struct Capture {
    stop: Arc<AtomicBool>,
    /// Known once the source is open; until then the thread looks at `stop` by itself within a second.
    waker: Option<Waker>,
    thread: JoinHandle<()>,
}

/// Whether the thread goes round, for the watchdog.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    running: AtomicBool,
    turns: AtomicU64,
    seen: AtomicU64,
}

impl Pulse {
    /// Whether the thread went round since the last call, or none is meant to run.
    pub(super) fn moved(&self) -> bool {
        let turns = self.turns.load(Ordering::Relaxed);
        self.seen.swap(turns, Ordering::Relaxed) != turns || !self.running.load(Ordering::Relaxed)
    }
}

impl Capture {
    /// Starts the thread; `gap_from` is the moment since when nothing was watched, if that is a gap.
    pub(super) fn start(parts: CaptureParts, gap_from: Option<Timestamp>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("capture".into()).spawn(move || {
            let mut ending = Ending {
                news: parts.news.clone(),
                pulse: Arc::clone(&parts.pulse),
                failure: Some("the collector crashed".into()),
                last_good: None,
            };
            parts.pulse.running.store(true, Ordering::Relaxed);
            ending.failure = capture(&parts, gap_from, &asked, &mut ending.last_good).err();
        })?;
        Ok(Self { stop, waker: None, thread })
    }

    /// The source is open: it can be called back from its wait.
    pub(super) fn opened(&mut self, waker: Waker) {
        if self.stop.load(Ordering::Relaxed) {
            waker.wake();
        }
        self.waker = Some(waker);
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    /// Waits for the end of a thread that was told to stop.
    pub(super) fn join(self) {
        self.stop();
        // A panic was already reported by `Ending`.
        let _ = self.thread.join();
    }
}

/// Tells the agent that the thread ended, a panic included.
struct Ending {
    news: mpsc::Sender<CaptureNews>,
    pulse: Arc<Pulse>,
    failure: Option<String>,
    last_good: Option<Timestamp>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.pulse.running.store(false, Ordering::Relaxed);
        let news = CaptureNews::Ended { failure: self.failure.take(), last_good: self.last_good };
        // The agent may be gone already.
        let _ = self.news.try_send(news);
    }
}

fn capture(
    parts: &CaptureParts,
    gap_from: Option<Timestamp>,
    stop: &AtomicBool,
    last_good: &mut Option<Timestamp>,
) -> Result<(), String> {
    let mut source =
        open_process_source(parts.wanted, parts.host.clone(), Arc::clone(&parts.clock)).map_err(|e| e.to_string())?;
    let news = CaptureNews::Opened { choice: source.choice().clone(), waker: source.waker() };
    if let Some(start) = gap_from {
        let end = parts.clock.now().wall;
        let gap = Gap {
            source: EventName::ProcessCreate.as_str().to_owned(),
            start: start.min(end),
            end,
            reason: "the source was not open".to_owned(),
            missed_at_most: None,
        };
        parts.core.send(ToCore::Gap(gap)).map_err(|_| "the agent is ending".to_owned())?;
    }
    // The agent may be gone already; the next send to the core notices.
    let _ = parts.news.blocking_send(news);
    let mut batch = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let drained = source.drain(WAIT, &mut batch).map_err(|e| e.to_string())?;
        for loss in drained.losses {
            parts
                .core
                .send(ToCore::Gap(loss.into_gap(EventName::ProcessCreate)))
                .map_err(|_| "the agent is ending".to_owned())?;
        }
        if !batch.is_empty() {
            parts
                .core
                .send(ToCore::Observed(std::mem::take(&mut batch)))
                .map_err(|_| "the agent is ending".to_owned())?;
        }
        *last_good = Some(parts.clock.now().wall);
        parts.pulse.turns.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
