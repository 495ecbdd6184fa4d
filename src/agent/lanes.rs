//! Keeps a capture thread in each lane as the configuration wants it: which events are wanted, which source sees them,
//! what takes over for what the first lane does not see, and when a source that failed is tried again, or one that made
//! an earlier run crash.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::collect::SourceChoice;
use crate::collect::lane::{Lane, STREAMS};
use crate::model::event::EventName;
use crate::model::event_set::EventSet;
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::time::Timestamp;

use super::capture::{Capture, CaptureChange, CaptureNews, CaptureParts, Failure, Pulse};
use super::crashes::Part;

/// Longest pause before a failed source is opened again.
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// How long a thread may take to end before it is left behind.
const PATIENCE: Duration = Duration::from_secs(1);

/// One lane.
struct Keeper {
    lane: Lane,
    pulse: Arc<Pulse>,
    running: Option<Capture>,
    /// The source, once it is open.
    open: Option<SourceChoice>,
    /// Why there is none, since the last try.
    failure: Option<Failure>,
    wanted: EventSet,
    /// Told that nothing is wanted of it.
    off: bool,
    gap_from: Option<Timestamp>,
    failures: u32,
    retry_at: Option<Instant>,
}

/// All lanes.
pub(super) struct Lanes {
    parts: CaptureParts,
    keepers: [Keeper; Lane::ALL.len()],
    wanted: EventSet,
}

impl Keeper {
    /// Whether it is known what this lane sees.
    const fn is_settled(&self) -> bool {
        self.wanted.is_empty() || self.open.is_some() || self.failure.is_some()
    }

    /// What its source sees, of what it is wanted for.
    fn sees(&self) -> EventSet {
        self.open.as_ref().map_or(EventSet::NONE, |choice| choice.events().and(self.wanted))
    }

    fn want(&mut self, wanted: EventSet, parts: &CaptureParts) {
        let now = parts.context.clock.now().wall;
        let changed = wanted != self.wanted;
        let was_off = std::mem::replace(&mut self.off, wanted.is_empty());
        if was_off && !self.off {
            // From the moment it is wanted until the source is open, nothing is seen.
            self.gap_from.get_or_insert(now);
        }
        self.wanted = wanted;
        if self.off {
            self.retry_at = None;
            self.failure = None;
            self.failures = 0;
            self.gap_from = None;
        }
        match &self.running {
            Some(capture) if self.off => {
                // Switched off, and not only ended: it keeps nothing for later.
                capture.want(wanted, now);
                capture.stop();
            }
            None if self.off && !was_off => self.lane.forget(&parts.context),
            Some(capture) if changed => capture.want(wanted, now),
            None if !self.off && (changed || self.is_due()) => self.start(parts),
            Some(_) | None => {}
        }
    }

    /// Whether it is time to try again, or for the first time.
    fn is_due(&self) -> bool {
        match (&self.failure, self.retry_at) {
            (_, Some(at)) => at <= Instant::now(),
            (Some(failure), None) => failure.retryable,
            (None, None) => true,
        }
    }

    fn start(&mut self, parts: &CaptureParts) {
        self.retry_at = None;
        let now = parts.context.clock.now().mono;
        if let Some(held) = parts.crashes.held(&Part::Source(self.lane), now) {
            self.retry_at = Some(Instant::now() + held.until.since(now));
            self.failure = Some(Failure { why: held.why, retryable: true });
            return;
        }
        let pulse = Arc::clone(&self.pulse);
        match Capture::start(self.lane, parts.clone(), pulse, self.wanted, self.gap_from.take()) {
            Ok(capture) => self.running = Some(capture),
            Err(error) => {
                tracing::error!(lane = self.lane.as_str(), %error, "cannot start the thread of a source");
                self.failure = Some(Failure { why: error.to_string(), retryable: true });
                self.retry_at = Some(Instant::now() + LONGEST_RETRY);
            }
        }
    }

    fn sees_by(&mut self, choice: SourceChoice) {
        for coverage in choice.covers.iter().filter(|c| self.wanted.contains(c.event)) {
            tracing::info!(
                event = coverage.event.as_str(),
                source = choice.name,
                cannot_see = coverage.cannot_see,
                "events are collected"
            );
        }
        self.open = Some(choice);
    }

    fn take(&mut self, what: CaptureChange, now: Timestamp) {
        match what {
            CaptureChange::Opened { choice, waker } => {
                if let Some(capture) = &mut self.running {
                    capture.opened(waker);
                }
                tracing::info!(source = choice.name, reason = choice.reason, "source is open");
                self.failure = None;
                self.sees_by(choice);
            }
            CaptureChange::Changed(choice) => {
                tracing::info!(source = choice.name, reason = choice.reason, "source has changed");
                self.sees_by(choice);
            }
            CaptureChange::Ended { failure, worked, unwatched_since } => {
                self.running = None;
                self.open = None;
                if let Some(failure) = failure {
                    self.gap_from = unwatched_since.or(Some(now));
                    self.failures = if worked { 1 } else { self.failures + 1 };
                    let pause = LONGEST_RETRY.min(Duration::from_secs(1 << self.failures.min(9)));
                    self.retry_at = failure.retryable.then(|| Instant::now() + pause);
                    // What stays as it is, is told once; what no source sees is told by those that see the rest.
                    if failure.retryable && self.failure.as_ref() != Some(&failure) {
                        let (lane, why) = (self.lane.as_str(), failure.why.as_str());
                        tracing::warn!(lane, why, retry_in_seconds = pause.as_secs(), "a source cannot be read");
                    }
                    self.failure = Some(failure);
                }
            }
        }
    }
}

impl Lanes {
    /// Nothing runs yet. `gap_from` is the moment since when nothing was watched, if that is a gap.
    pub(super) fn new(parts: CaptureParts, gap_from: Option<Timestamp>) -> Self {
        let keepers = Lane::ALL.map(|lane| Keeper {
            lane,
            pulse: Arc::default(),
            running: None,
            open: None,
            failure: None,
            wanted: EventSet::NONE,
            off: false,
            gap_from,
            failures: 0,
            retry_at: None,
        });
        Self { parts, keepers, wanted: EventSet::NONE }
    }

    /// Whether the threads go round, for the watchdog.
    pub(super) fn pulses(&self) -> Vec<Arc<Pulse>> {
        self.keepers.iter().map(|keeper| Arc::clone(&keeper.pulse)).collect()
    }

    /// Opens and closes sources, so that these events are watched.
    pub(super) fn want(&mut self, events: EventSet) {
        self.wanted = events.and(STREAMS);
        self.reconcile();
    }

    /// Takes what a thread tells.
    pub(super) fn take(&mut self, news: CaptureNews) {
        let now = self.parts.context.clock.now();
        match news.what {
            CaptureChange::Opened { .. } => self.parts.crashes.up(&Part::Source(news.lane), now.mono),
            CaptureChange::Changed(_) => {}
            CaptureChange::Ended { .. } => self.parts.crashes.down(&Part::Source(news.lane)),
        }
        if let Some(keeper) = self.keepers.iter_mut().find(|keeper| keeper.lane == news.lane) {
            keeper.take(news.what, now.wall);
        }
        self.reconcile();
    }

    /// Tries again what is due.
    pub(super) fn reconcile(&mut self) {
        let mut left = Some(self.wanted);
        for keeper in &mut self.keepers {
            // What the first lane sees is not known yet: what another one does stays as it is.
            let Some(events) = left else { break };
            keeper.want(events.and(keeper.lane.events()), &self.parts);
            left = keeper.is_settled().then(|| events.without(keeper.sees()));
        }
    }

    /// When [`Lanes::reconcile`] has something to do.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.keepers.iter().filter_map(|keeper| keeper.retry_at).min()
    }

    /// Whether the first lane is open, has failed, or is not wanted.
    pub(super) fn is_settled(&self) -> bool {
        self.keepers.first().is_none_or(Keeper::is_settled)
    }

    /// How each streamed event is collected; those of which it is not known yet are left out.
    pub(super) fn health(&self) -> Vec<CollectorHealth> {
        STREAMS.iter().filter_map(|event| self.health_of(event)).collect()
    }

    fn health_of(&self, event: EventName) -> Option<CollectorHealth> {
        let bare = |state, detail| CollectorHealth { event, state, source: String::new(), detail };
        if !self.wanted.contains(event) {
            return Some(bare(HealthState::Off, String::new()));
        }
        let mut keepers = self.keepers.iter().filter(|keeper| keeper.lane.events().contains(event));
        if let Some(health) =
            keepers.clone().find_map(|k| k.open.as_ref().filter(|_| k.sees().contains(event))?.health(event))
        {
            return Some(health);
        }
        if !keepers.clone().all(Keeper::is_settled) {
            return None;
        }
        // The last lane is the one that had to take over, unless a better one only waits.
        let now = self.parts.context.clock.now().mono;
        let held = |keeper: &&Keeper| self.parts.crashes.held(&Part::Source(keeper.lane), now).is_some();
        let last = keepers.clone().find(held).or_else(|| keepers.next_back())?;
        let detail = match (&last.failure, &last.open) {
            (Some(failure), _) => failure.why.clone(),
            (None, Some(choice)) => format!("{} does not see it", choice.name),
            (None, None) => String::new(),
        };
        Some(bare(HealthState::Unavailable, detail))
    }

    /// Ends all threads. One that is stuck is left behind; what it had not handed on is in the next gap.
    pub(super) async fn shut_down(&mut self) {
        let running: Vec<Capture> = self.keepers.iter_mut().filter_map(|keeper| keeper.running.take()).collect();
        running.iter().for_each(Capture::stop);
        let joined = tokio::task::spawn_blocking(move || running.into_iter().for_each(Capture::join));
        let _ = timeout(PATIENCE, joined).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::agent::core::ToCore;
    use crate::agent::crash_book::CrashBook;
    use crate::collect::lane::SourceContext;
    use crate::settings::ProcessSource;
    use crate::sys::clock::ManualClock;
    use crate::sys::crash_file::{self, Crash};
    use crate::sys::files::private_directory;
    use crate::sys::host::Host;

    struct Bench {
        lanes: Lanes,
        news: mpsc::Receiver<CaptureNews>,
        from_core: flume::Receiver<ToCore>,
    }

    /// A machine whose processes can be looked at only.
    fn bench(root: &std::path::Path, gap_from: Option<Timestamp>) -> Bench {
        let (core, from_core) = flume::bounded(64);
        let (sender, news) = mpsc::channel(16);
        let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
        let context = SourceContext { wanted: ProcessSource::Poll, ..SourceContext::plain(Host::rooted(root), clock) };
        Bench {
            lanes: Lanes::new(
                CaptureParts { context, core, crashes: Arc::default(), news: sender, wait: Duration::from_secs(10) },
                gap_from,
            ),
            news,
            from_core,
        }
    }

    impl Bench {
        /// Takes news until it is known of each event how it is collected.
        async fn settled(&mut self) -> Vec<String> {
            while self.lanes.health().len() < STREAMS.iter().count() {
                let news = self.news.recv().await.unwrap();
                self.lanes.take(news);
            }
            let shown = self.lanes.health();
            shown.into_iter().map(|h| format!("{} {:?} {}", h.event, h.state, h.source)).collect()
        }
    }

    fn set(events: &[EventName]) -> EventSet {
        EventSet::of(events)
    }

    #[tokio::test]
    async fn what_the_first_lane_does_not_see_another_one_takes_over() {
        let root = tempfile::tempdir().unwrap();
        private_directory(&root.path().join("proc")).unwrap();
        let since = Timestamp::trusted("2026-11-22T09:00:00Z".parse().unwrap());
        let mut bench = bench(root.path(), Some(since));
        bench.lanes.want(set(&[EventName::ProcessCreate, EventName::ProcessTerminate, EventName::ConnectionCreate]));
        assert!(!bench.lanes.is_settled());
        let health = bench.settled().await;
        assert!(bench.lanes.is_settled());
        assert_eq!(
            health,
            [
                "ProcessCreate Degraded polling /proc",
                "ProcessTerminate Unavailable ",
                "ConnectionCreate Degraded socket diagnostics",
                "Login Off ",
            ]
        );
        let ends = bench.lanes.health().swap_remove(1);
        assert_eq!(ends.detail, "no source sees ProcessTerminate with collect.process_source = \"poll\"");

        // The time before counts for both lanes, each for what it sees.
        let mut gaps: Vec<_> = bench
            .from_core
            .drain()
            .filter_map(|told| match told {
                ToCore::Gap(gap) => Some((gap.source, gap.start)),
                _ => None,
            })
            .collect();
        gaps.sort();
        assert_eq!(gaps, [("ConnectionCreate".to_owned(), since), ("ProcessCreate".to_owned(), since)]);

        bench.lanes.want(set(&[EventName::ProcessCreate]));
        let health = bench.settled().await;
        assert_eq!(health[2], "ConnectionCreate Off ");
        bench.lanes.want(EventSet::NONE);
        assert!(bench.settled().await.iter().all(|line| line.contains(" Off ")));
        bench.lanes.shut_down().await;
    }

    #[tokio::test]
    async fn a_lane_that_crashed_waits_and_another_one_takes_over_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        private_directory(&root.path().join("proc")).unwrap();
        let mut bench = bench(root.path(), None);
        let now = bench.lanes.parts.context.clock.now();
        let file = crash_file::path(root.path());
        crash_file::append(&file, &Crash::new("ebpf-load", now.wall.utc, "m", "p")).unwrap();
        bench.lanes.parts.crashes = Arc::new(CrashBook::open(file, now));
        bench.lanes.want(STREAMS);
        let health = bench.settled().await;
        assert_eq!(health[0], "ProcessCreate Unavailable ");
        assert_eq!(health[2], "ConnectionCreate Degraded socket diagnostics");
        for health in &bench.lanes.health()[..2] {
            assert!(
                health.detail.starts_with("it crashed, last at 2026-11-22T09:30:00Z; tried again at "),
                "{health:?}"
            );
        }
        // Another wish does not make it run earlier.
        bench.lanes.want(set(&[EventName::ProcessCreate]));
        assert!(bench.lanes.keepers[0].running.is_none() && bench.lanes.retry_at().is_some());
        // So that the pause is over: the clock of the test stands.
        bench.lanes.parts.crashes = Arc::default();
        bench.lanes.want(set(&[EventName::ProcessCreate, EventName::ProcessTerminate]));
        while bench.settled().await[0] != "ProcessCreate Degraded polling /proc" {
            let news = bench.news.recv().await.unwrap();
            bench.lanes.take(news);
        }
        bench.lanes.shut_down().await;
    }

    #[tokio::test]
    async fn a_lane_that_fails_is_tried_again_and_its_gap_goes_on() {
        let root = tempfile::tempdir().unwrap();
        let since = Timestamp::trusted("2026-11-22T09:00:00Z".parse().unwrap());
        let mut bench = bench(root.path(), Some(since));
        // Without `/proc` there is nothing to look at.
        bench.lanes.want(set(&[EventName::ProcessCreate]));
        assert_eq!(bench.settled().await[0], "ProcessCreate Unavailable ");
        assert!(bench.lanes.retry_at().is_some());
        private_directory(&root.path().join("proc")).unwrap();
        // Another wish does not wait for the pause.
        bench.lanes.want(set(&[EventName::ProcessCreate, EventName::ProcessTerminate]));
        // News of the lanes that would take over may come first.
        while bench.settled().await[0] != "ProcessCreate Degraded polling /proc" {
            let news = bench.news.recv().await.unwrap();
            bench.lanes.take(news);
        }
        let Ok(ToCore::Gap(gap)) = bench.from_core.recv() else { panic!("no gap") };
        assert_eq!((gap.source.as_str(), gap.start), ("ProcessCreate", since));
        bench.lanes.shut_down().await;
    }
}
