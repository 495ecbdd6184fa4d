//! The capture thread: reads the process source and hands batches to the core. A kernel source must not fall behind,
//! so it has a thread of its own; when it fails or panics it is opened again with backoff, and the time without it is
//! a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use flume::Sender;
use tokio::sync::mpsc;

use crate::collect::{BATCH, ProcessSource as Source, SourceChoice, open_process_source};
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

/// Most batches that are read after a stop: a machine that starts programs without pause must not hold it up.
const LAST_BATCHES: usize = 64;

/// What the thread tells the agent.
#[derive(Debug)]
pub(super) enum CaptureNews {
    /// The source is open.
    Opened { choice: SourceChoice, waker: Waker },
    /// The thread ended; with a reason unless it was told to stop.
    Ended {
        failure: Option<String>,
        /// Whether the source was open and gave anything.
        worked: bool,
        /// Since when nothing is watched: the start that was given, until the source is open.
        unwatched_since: Option<Timestamp>,
    },
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
                worked: false,
                unwatched_since: gap_from,
            };
            parts.pulse.running.store(true, Ordering::Relaxed);
            ending.failure = capture(&parts, &asked, &mut ending).err();
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
    worked: bool,
    unwatched_since: Option<Timestamp>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.pulse.running.store(false, Ordering::Relaxed);
        let news = CaptureNews::Ended {
            failure: self.failure.take(),
            worked: self.worked,
            unwatched_since: self.unwatched_since,
        };
        // The agent may be gone already.
        let _ = self.news.try_send(news);
    }
}

fn capture(parts: &CaptureParts, stop: &AtomicBool, ending: &mut Ending) -> Result<(), String> {
    let mut source =
        open_process_source(parts.wanted, parts.host.clone(), Arc::clone(&parts.clock)).map_err(|e| e.to_string())?;
    let news = CaptureNews::Opened { choice: source.choice().clone(), waker: source.waker() };
    let opened = parts.clock.now().wall;
    if let Some(start) = ending.unwatched_since.replace(opened) {
        let gap = Gap {
            source: EventName::ProcessCreate.as_str().to_owned(),
            start: start.min(opened),
            end: opened,
            reason: "the source was not open".to_owned(),
            missed_at_most: None,
        };
        tell(parts, ToCore::Gap(gap))?;
    }
    // The agent may be gone already; the next send to the core notices.
    let _ = parts.news.blocking_send(news);
    while !stop.load(Ordering::Relaxed) {
        hand_on(parts, source.as_mut(), WAIT)?;
        ending.worked = true;
        ending.unwatched_since = Some(parts.clock.now().wall);
        parts.pulse.turns.fetch_add(1, Ordering::Relaxed);
    }
    // What the kernel holds was seen before the stop.
    for _ in 0..LAST_BATCHES {
        if hand_on(parts, source.as_mut(), Duration::ZERO)? < BATCH {
            break;
        }
    }
    Ok(())
}

/// One drain, and what it gave, to the core, also if the source then broke. Gives the number of observations.
fn hand_on(parts: &CaptureParts, source: &mut dyn Source, wait: Duration) -> Result<usize, String> {
    let mut batch = Vec::new();
    let drained = source.drain(wait, &mut batch);
    let count = batch.len();
    if !batch.is_empty() {
        tell(parts, ToCore::Observed(batch))?;
    }
    for loss in drained.map_err(|e| e.to_string())?.losses {
        tell(parts, ToCore::Gap(loss.into_gap(EventName::ProcessCreate)))?;
    }
    Ok(count)
}

fn tell(parts: &CaptureParts, what: ToCore) -> Result<(), String> {
    parts.core.send(what).map_err(|_| "the agent is ending".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::collect::{Drained, SourceError};
    use crate::model::event::Observation;
    use crate::model::payload::{Payload, ProcessCreate};
    use crate::sys::clock::ManualClock;
    use crate::sys::wake::WakeFlag;

    fn parts(root: &std::path::Path) -> (CaptureParts, flume::Receiver<ToCore>, mpsc::Receiver<CaptureNews>) {
        let (core, from_core) = flume::bounded(16);
        let (news, from_news) = mpsc::channel(16);
        let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
        let host = Host::rooted(root);
        (
            CaptureParts { wanted: ProcessSource::Poll, host, clock, core, news, pulse: Arc::default() },
            from_core,
            from_news,
        )
    }

    #[test]
    fn a_source_that_cannot_be_opened_keeps_the_start_of_its_gap() {
        let root = tempfile::tempdir().unwrap();
        let (parts, from_core, mut news) = parts(root.path());
        let since = Timestamp::trusted("2026-11-22T09:00:00Z".parse().unwrap());
        // Without `/proc` there is nothing to open.
        let capture = Capture::start(parts.clone(), Some(since)).unwrap();
        capture.thread.join().unwrap();
        let Some(CaptureNews::Ended { failure: Some(_), worked: false, unwatched_since }) = news.blocking_recv() else {
            panic!("it did not fail")
        };
        assert_eq!(unwatched_since, Some(since));

        crate::sys::files::private_directory(&root.path().join("proc")).unwrap();
        let mut capture = Capture::start(parts, unwatched_since).unwrap();
        let Ok(ToCore::Gap(gap)) = from_core.recv() else { panic!("no gap") };
        assert_eq!(gap.start, since);
        let Some(CaptureNews::Opened { waker, .. }) = news.blocking_recv() else { panic!("not open") };
        capture.opened(waker);
        capture.join();
    }

    /// Gives one observation and breaks.
    struct Breaking(WakeFlag, SourceChoice);

    impl Source for Breaking {
        fn choice(&self) -> &SourceChoice {
            &self.1
        }
        fn waker(&self) -> Waker {
            self.0.waker()
        }
        fn drain(&mut self, _: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
            let at = Timestamp::trusted("2026-11-22T09:30:00Z".parse().unwrap());
            out.push(Observation { at, serial: 0, what: Payload::ProcessCreate(ProcessCreate::default()) });
            Err(SourceError::Broken { name: "test", source: io::Error::other("broken") })
        }
    }

    #[test]
    fn what_a_source_saw_before_it_broke_is_handed_on() {
        let root = tempfile::tempdir().unwrap();
        let (parts, from_core, _news) = parts(root.path());
        let choice = SourceChoice { name: "test", reason: String::new(), cannot_see: String::new(), complete: true };
        let mut source = Breaking(WakeFlag::new().unwrap(), choice);
        assert!(hand_on(&parts, &mut source, Duration::ZERO).is_err());
        assert!(matches!(from_core.try_recv(), Ok(ToCore::Observed(batch)) if batch.len() == 1));
    }
}
