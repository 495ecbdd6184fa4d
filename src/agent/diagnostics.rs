//! Diagnostic events: the lines of the agent's own log, from a local severity up (protocol reference 3.7).
//!
//! The log hands each line to a [`Sink`], which never waits: it puts the line into a bounded queue, or counts it as left
//! out. A task takes the lines out, at most 30 at once and then one in 10 s; what comes faster is left out too. What is
//! left out is booked as dropped with the reason `rateLimited`, and the next line that goes says how many there were:
//! `ExtraDetails` `LinesLeftOut`.
//!
//! **Never about themselves.** What the core logs while it makes a Diagnostic event becomes no further one (`silently`).
//! Storage says the start and the end of a trouble once, whatever it was to store. Lines about single messages are
//! `debug`, and `log.diagnostic_level` ends at `info`. So neither storing nor sending a Diagnostic event makes another
//! one, and the measure above bounds whatever else a fault may say about itself again and again.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flume::{Receiver, Sender, TrySendError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::model::event::Observation;
use crate::model::payload::{Diagnostic, DiagnosticSeverity, ExtraDetails, Payload};
use crate::model::time::{Mono, Timestamp};
use crate::sys::clock::Clock;

use super::core::ToCore;

/// Lines that wait for the task; as many as a bad start may say before the agent runs.
const QUEUE: usize = 64;
/// Lines that go at once.
const BURST: u32 = 30;
/// Then one for each such pause: 8,640 a day at most.
const PAUSE: Duration = Duration::from_secs(10);
/// How long what was left out waits to be booked, so that a storm is one booking.
const BOOKING: Duration = Duration::from_secs(10);
/// Longest message, in bytes.
const MESSAGE: usize = 1000;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Does something whose log lines become no Diagnostic events.
pub(super) fn silently<T>(work: impl FnOnce() -> T) -> T {
    let before = SILENT.replace(true);
    let result = work();
    SILENT.set(before);
    result
}

/// A line of the log.
#[derive(Debug)]
struct Line {
    at: Timestamp,
    severity: DiagnosticSeverity,
    module: &'static str,
    message: String,
    thread_id: u32,
}

/// Where the log puts its lines; cheap to clone.
#[derive(Clone)]
pub struct Sink {
    least: DiagnosticSeverity,
    lines: Sender<Line>,
    state: Arc<State>,
    clock: Arc<dyn Clock>,
}

/// What both ends know.
#[derive(Debug)]
struct State {
    /// The twin wants them.
    wanted: AtomicBool,
    left_out: AtomicU64,
}

/// The other end, for [`super::AgentOptions`].
pub struct Source {
    lines: Receiver<Line>,
    state: Arc<State>,
}

/// Both ends. Lines from `least` up are taken.
#[must_use]
pub fn channel(least: DiagnosticSeverity, clock: Arc<dyn Clock>) -> (Sink, Source) {
    let (sender, lines) = flume::bounded(QUEUE);
    let state = Arc::new(State { wanted: AtomicBool::new(true), left_out: AtomicU64::new(0) });
    (Sink { least, lines: sender, state: Arc::clone(&state), clock }, Source { lines, state })
}

impl Sink {
    /// Takes a line. `message` is asked for only if the line is wanted; it is one line without control characters.
    /// `module` is the part of the program that speaks.
    pub fn line(&self, severity: DiagnosticSeverity, module: &'static str, message: impl FnOnce() -> String) {
        // The gravest severity is the smallest.
        if severity > self.least || !self.state.wanted.load(Ordering::Relaxed) || SILENT.get() {
            return;
        }
        if self.lines.is_full() {
            self.state.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut message = message();
        if message.len() > MESSAGE {
            message.truncate(message.floor_char_boundary(MESSAGE));
            message.push('…');
        }
        let thread_id = crate::sys::host::thread_id();
        let line = Line { at: self.clock.now().wall, severity, module, message, thread_id };
        match self.lines.try_send(line) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.state.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Source {
    /// Whether the twin wants them at all.
    pub(super) fn want(&self) -> Switch {
        Switch(Arc::clone(&self.state))
    }

    /// The messages that wait.
    #[cfg(test)]
    pub(super) fn said(&self) -> Vec<String> {
        self.lines.try_iter().map(|line| line.message).collect()
    }
}

/// Switches the lines on and off.
#[derive(Clone)]
pub(super) struct Switch(Arc<State>);

impl Switch {
    pub(super) fn set(&self, wanted: bool) {
        self.0.wanted.store(wanted, Ordering::Relaxed);
    }
}

/// How many lines may go, and what became of the others: pure.
#[derive(Debug)]
struct Measure {
    /// Lines that may go now.
    tokens: u32,
    /// When the last one was added.
    since: Mono,
    unbooked: u64,
    unsaid: u64,
    book_at: Option<Mono>,
}

impl Measure {
    fn new(now: Mono) -> Self {
        Self { tokens: BURST, since: now, unbooked: 0, unsaid: 0, book_at: None }
    }

    /// Whether a line may go; if so, how many were left out before it.
    fn take(&mut self, now: Mono) -> Option<u64> {
        let pauses = u32::try_from(now.since(self.since).as_secs() / PAUSE.as_secs()).unwrap_or(u32::MAX);
        self.since = if self.tokens.saturating_add(pauses) >= BURST { now } else { self.since.after(PAUSE * pauses) };
        self.tokens = self.tokens.saturating_add(pauses).min(BURST);
        if self.tokens == 0 {
            self.left_out(1, now);
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.unsaid))
    }

    fn left_out(&mut self, lines: u64, now: Mono) {
        if lines > 0 {
            self.unbooked += lines;
            self.unsaid += lines;
            self.book_at.get_or_insert(now.after(BOOKING));
        }
    }

    /// What is to be booked as dropped now.
    fn book(&mut self) -> u64 {
        self.book_at = None;
        std::mem::take(&mut self.unbooked)
    }
}

/// Hands lines to the core until it is cancelled.
pub(super) async fn run(source: Source, core: Sender<ToCore>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let correlation_id = Uuid::new_v4();
    let mut measure = Measure::new(clock.now().mono);
    let mut serial = 0;
    loop {
        let booking = measure.book_at.map(|at| at.since(clock.now().mono));
        let (line, last) = tokio::select! {
            () = stop.cancelled() => (source.lines.try_recv().ok(), true),
            // Without a log there is nothing more to come.
            line = source.lines.recv_async() => line.map_or((None, true), |line| (Some(line), false)),
            () = sleep(booking.unwrap_or(Duration::MAX)), if booking.is_some() => (None, false),
        };
        let now = clock.now().mono;
        measure.left_out(source.state.left_out.swap(0, Ordering::Relaxed), now);
        let news = match line {
            Some(line) => measure.take(now).map(|unsaid| {
                serial += 1;
                ToCore::Diagnostic(Observation { at: line.at, serial, what: item(line, correlation_id, unsaid) })
            }),
            None if last => {
                let lines = measure.book();
                if lines > 0 {
                    // The core is gone only when the agent ends.
                    let _ = core.send_async(ToCore::LinesLeftOut(lines)).await;
                }
                return;
            }
            None => Some(ToCore::LinesLeftOut(measure.book())),
        };
        if let Some(news) = news
            && core.send_async(news).await.is_err()
        {
            return;
        }
    }
}

fn item(line: Line, correlation_id: Uuid, left_out: u64) -> Payload {
    let mut extra_details = ExtraDetails::from([("Module".to_owned(), line.module.to_owned())]);
    if left_out > 0 {
        extra_details.insert("LinesLeftOut".to_owned(), left_out.to_string());
    }
    Payload::Diagnostic(Diagnostic {
        severity: line.severity,
        message: line.message,
        process_id: std::process::id(),
        thread_id: line.thread_id,
        correlation_id: Some(correlation_id),
        extra_details,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::ManualClock;

    fn pair(least: DiagnosticSeverity) -> (Sink, Source) {
        channel(least, Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap())))
    }

    #[test]
    fn only_what_is_grave_enough_and_wanted_is_taken() {
        let (sink, source) = pair(DiagnosticSeverity::Warning);
        let never = || -> String { panic!("asked for in vain") };
        sink.line(DiagnosticSeverity::Error, "m", || "error".into());
        sink.line(DiagnosticSeverity::Warning, "m", || "warning".into());
        sink.line(DiagnosticSeverity::Information, "m", never);
        silently(|| {
            sink.line(DiagnosticSeverity::Error, "m", never);
            silently(|| ());
            sink.line(DiagnosticSeverity::Error, "m", never);
        });
        source.want().set(false);
        sink.line(DiagnosticSeverity::Error, "m", never);
        source.want().set(true);
        sink.line(DiagnosticSeverity::Error, "m", || "again".into());
        assert_eq!(source.said(), ["error", "warning", "again"]);
    }

    #[test]
    fn a_full_queue_counts_and_never_waits() {
        let (sink, source) = pair(DiagnosticSeverity::Warning);
        for n in 0..QUEUE + 5 {
            sink.line(DiagnosticSeverity::Warning, "m", || n.to_string());
        }
        assert_eq!((source.said().len(), source.state.left_out.load(Ordering::Relaxed)), (QUEUE, 5));
        drop(source);
        sink.line(DiagnosticSeverity::Warning, "m", || "to nobody".into());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let (sink, source) = pair(DiagnosticSeverity::Warning);
        sink.line(DiagnosticSeverity::Warning, "m", || format!("a{}", "ö".repeat(MESSAGE)));
        let line = source.said().remove(0);
        assert!(line.ends_with("ö…") && line.len() <= MESSAGE + '…'.len_utf8(), "{}", line.len());
    }

    #[test]
    fn a_burst_goes_and_then_one_for_each_pause() {
        let at = |second| Mono::from_boot(Duration::from_secs(second));
        let mut measure = Measure::new(at(100));
        let passed = (0..50).filter(|_| measure.take(at(100)).is_some()).count();
        assert_eq!((passed, measure.book_at), (30, Some(at(110))));
        assert_eq!((measure.book(), measure.book_at), (20, None));
        assert_eq!(measure.take(at(109)), None);
        assert_eq!(measure.take(at(110)), Some(21), "and says what was left out");
        assert_eq!(measure.take(at(110)), None);
        assert_eq!(measure.take(at(125)), Some(1));
        assert_eq!(measure.take(at(130)), Some(0), "the pauses count from the first line on");
        // An hour of storm: 360 lines, however many are written.
        let hour = (0..36_000).filter(|n| measure.take(at(130 + n / 10)).is_some()).count();
        assert!((355..=361).contains(&hour), "{hour}");
        let after = (0..50).filter(|_| measure.take(at(10_000)).is_some()).count();
        assert_eq!(after, 30);
    }

    #[tokio::test]
    async fn of_a_storm_each_line_is_an_event_or_counted() {
        let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
        let (sink, source) = channel(DiagnosticSeverity::Warning, Arc::clone(&clock) as Arc<dyn Clock>);
        // More than the queue takes, before anybody reads it.
        for n in 0..QUEUE + 8 {
            sink.line(DiagnosticSeverity::Warning, "m", || n.to_string());
        }
        let (core, inbox) = flume::unbounded();
        let stop = CancellationToken::new();
        stop.cancel();
        run(source, core, clock, stop).await;
        let (mut events, mut left_out) = (0, 0);
        for news in inbox.drain() {
            match news {
                ToCore::Diagnostic(_) => events += 1,
                ToCore::LinesLeftOut(lines) => left_out += lines,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((events, left_out), (30, 42));
    }
}
