//! A capture thread: reads the source of one lane and hands batches to the core. A kernel source must not fall behind,
//! so it has a thread of its own; when it fails it is opened again with backoff (`lanes.rs`), and the time without it
//! is a gap.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use flume::Sender;
use tokio::sync::mpsc;

use crate::collect::lane::{self, Lane, SourceContext};
use crate::collect::{BATCH, Loss, Source, SourceChoice, SourceError};
use crate::model::event_set::EventSet;
use crate::model::time::Timestamp;
use crate::sys::crash;
use crate::sys::wake::Waker;

use super::core::ToCore;
use super::crash_book::CrashBook;

/// Longest wait for something to happen, so that a watchdog sees that the thread lives. A stop wakes it earlier.
const WAIT: Duration = Duration::from_secs(10);

/// The wait that fits to a watchdog of this length: it looks three times in it.
pub(super) fn wait_below(watchdog: Option<Duration>) -> Duration {
    watchdog.map_or(WAIT, |length| WAIT.min(length / 6))
}

/// Most batches that are read after a stop: a machine that starts programs without pause must not hold it up.
const LAST_BATCHES: usize = 64;

/// What a thread tells the agent.
#[derive(Debug)]
pub(super) struct CaptureNews {
    /// Whose thread it is.
    pub(super) lane: Lane,
    /// What happened.
    pub(super) what: CaptureChange,
}

/// What happened to a source.
#[derive(Debug)]
pub(super) enum CaptureChange {
    /// It is open.
    Opened { choice: SourceChoice, waker: Waker },
    /// It sees more or less than before.
    Changed(SourceChoice),
    /// The thread ended; with a reason unless it was told to stop.
    Ended {
        failure: Option<Failure>,
        /// Whether the source was open and gave anything.
        worked: bool,
        /// Since when nothing is watched: the start that was given, until the source is open.
        unwatched_since: Option<Timestamp>,
    },
}

/// Why a thread ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: String,
    /// Whether another try may help.
    pub(super) retryable: bool,
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self { why: error.to_string(), retryable: error.is_retryable() }
    }
}

/// What a thread needs.
#[derive(Clone)]
pub(super) struct CaptureParts {
    pub(super) context: SourceContext,
    pub(super) core: Sender<ToCore>,
    pub(super) crashes: Arc<CrashBook>,
    pub(super) news: mpsc::Sender<CaptureNews>,
    /// Longest wait for something to happen.
    pub(super) wait: Duration,
}

/// What a thread is to watch.
#[derive(Clone, Copy, Debug)]
struct Order {
    events: EventSet,
    /// When it was given: from then on the events are wanted.
    at: Timestamp,
}

/// What the agent and a thread share.
#[derive(Debug)]
struct Desk {
    stop: AtomicBool,
    order: Mutex<Order>,
}

impl Desk {
    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running capture thread.
#[derive(Debug)]
pub(super) struct Capture {
    desk: Arc<Desk>,
    /// Known once the source is open; until then the thread looks at the desk by itself within a second.
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
    /// Starts the thread for these events; `gap_from` is the moment since when nothing was watched, if that is a gap.
    pub(super) fn start(
        lane: Lane,
        parts: CaptureParts,
        pulse: Arc<Pulse>,
        events: EventSet,
        gap_from: Option<Timestamp>,
    ) -> std::io::Result<Self> {
        let order = Mutex::new(Order { events, at: parts.context.clock.now().wall });
        let desk = Arc::new(Desk { stop: AtomicBool::new(false), order });
        let theirs = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name(lane.as_str().into()).spawn(move || {
            crash::if_asked();
            let mut course = Course { lane, pulse, worked: false, unwatched_since: gap_from };
            course.pulse.running.store(true, Ordering::Relaxed);
            let failure = capture(&parts, &theirs, &mut course).err();
            course.pulse.running.store(false, Ordering::Relaxed);
            let Course { worked, unwatched_since, .. } = course;
            let what = CaptureChange::Ended { failure, worked, unwatched_since };
            // The agent may be gone already.
            let _ = parts.news.try_send(CaptureNews { lane, what });
        })?;
        Ok(Self { desk, waker: None, thread })
    }

    /// The source is open: it can be called back from its wait.
    pub(super) fn opened(&mut self, waker: Waker) {
        // Whatever was ordered meanwhile is looked at.
        waker.wake();
        self.waker = Some(waker);
    }

    /// Watches these events from now on.
    pub(super) fn want(&self, events: EventSet, at: Timestamp) {
        *self.desk.order() = Order { events, at };
        self.call();
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        self.desk.stop.store(true, Ordering::Relaxed);
        self.call();
    }

    /// Waits for the end of a thread that was told to stop.
    pub(super) fn join(self) {
        self.stop();
        // It gives nothing back: what there was to say was sent.
        let _ = self.thread.join();
    }

    fn call(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }
}

/// How far a thread has come.
struct Course {
    lane: Lane,
    pulse: Arc<Pulse>,
    worked: bool,
    unwatched_since: Option<Timestamp>,
}

fn capture(parts: &CaptureParts, desk: &Desk, course: &mut Course) -> Result<(), Failure> {
    let clock = &parts.context.clock;
    let mut watched = desk.order().events;
    let mut source = lane::open(course.lane, &parts.context, watched)?;
    let mut told = source.choice().clone();
    let what = CaptureChange::Opened { choice: told.clone(), waker: source.waker() };
    let opened = clock.now().wall;
    if let Some(start) = course.unwatched_since.replace(opened) {
        let missed = source.choice().events().and(watched).without(source.resumed());
        unwatched(parts, missed, start, opened)?;
    }
    // The agent may be gone already; the next send to the core notices.
    let _ = parts.news.blocking_send(CaptureNews { lane: course.lane, what });
    while !desk.stop.load(Ordering::Relaxed) {
        let order = *desk.order();
        obey(parts, source.as_mut(), order, &mut watched)?;
        hand_on(parts, source.as_mut(), watched, parts.wait)?;
        tell_choice(parts, course.lane, source.choice(), &mut told);
        course.worked = true;
        course.unwatched_since = Some(clock.now().wall);
        course.pulse.turns.fetch_add(1, Ordering::Relaxed);
    }
    // What the kernel holds was seen before the stop.
    for _ in 0..LAST_BATCHES {
        if hand_on(parts, source.as_mut(), watched, Duration::ZERO)? < BATCH {
            break;
        }
    }
    let order = *desk.order();
    if order.events.is_empty() {
        obey(parts, source.as_mut(), order, &mut watched)?;
    }
    Ok(())
}

/// Tells the agent how the source sees now, if that is not what it was told last; later, if it is busy.
fn tell_choice(parts: &CaptureParts, lane: Lane, choice: &SourceChoice, told: &mut SourceChoice) {
    let what = || CaptureChange::Changed(choice.clone());
    if choice != told && parts.news.try_send(CaptureNews { lane, what: what() }).is_ok() {
        told.clone_from(choice);
    }
}

/// Watches what is ordered; what was not watched before is a gap from the order on until it is.
fn obey(parts: &CaptureParts, source: &mut dyn Source, order: Order, watched: &mut EventSet) -> Result<(), Failure> {
    let before = std::mem::replace(watched, order.events);
    if before == order.events {
        return Ok(());
    }
    source.want(order.events)?;
    let added = source.choice().events().and(order.events.without(before));
    unwatched(parts, added, order.at, parts.context.clock.now().wall)
}

/// Books a time in which these events were wanted and no source was there for them.
fn unwatched(parts: &CaptureParts, events: EventSet, start: Timestamp, end: Timestamp) -> Result<(), Failure> {
    let reason = "the source was not open".to_owned();
    let loss = Loss { events, start: start.min(end), end, at_most: None, reason };
    loss.gaps(events).try_for_each(|gap| tell(parts, ToCore::Gap(gap)))
}

/// One drain, and what it gave, to the core, also if the source then broke. Gives the number of observations.
fn hand_on(parts: &CaptureParts, source: &mut dyn Source, watched: EventSet, wait: Duration) -> Result<usize, Failure> {
    let mut batch = Vec::new();
    let drained = source.drain(wait, &mut batch);
    let count = batch.len();
    if !batch.is_empty() {
        tell(parts, ToCore::Observed(batch))?;
    }
    for loss in drained?.losses {
        loss.gaps(watched).try_for_each(|gap| tell(parts, ToCore::Gap(gap)))?;
    }
    Ok(count)
}

fn tell(parts: &CaptureParts, what: ToCore) -> Result<(), Failure> {
    parts.core.send(what).map_err(|_| Failure { why: "the agent is ending".to_owned(), retryable: true })
}

#[cfg(test)]
mod tests;
