//! Keeps a capture thread in each lane as the configuration wants it: which events are wanted, which source sees them,
//! what takes over for what the first lane does not see, and when a source that failed is tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::collect::SourceChoice;
use crate::collect::lane::{Lane, STREAMS};
use crate::model::event::EventName;
use crate::model::event_set::EventSet;
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::time::Timestamp;

use super::capture::{Capture, CaptureChange, CaptureNews, CaptureParts, Pulse};

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
    failure: Option<String>,
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
        if std::mem::replace(&mut self.off, wanted.is_empty()) && !self.off {
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
            Some(capture) if self.off => capture.stop(),
            Some(capture) if changed => capture.want(wanted, now),
            None if !self.off && (changed || self.is_due()) => self.start(parts),
            Some(_) | None => {}
        }
    }

    /// Whether it is time to try again, or for the first time.
    fn is_due(&self) -> bool {
        self.retry_at.is_none_or(|at| at <= Instant::now())
    }

    fn start(&mut self, parts: &CaptureParts) {
        self.retry_at = None;
        let pulse = Arc::clone(&self.pulse);
        match Capture::start(self.lane, parts.clone(), pulse, self.wanted, self.gap_from.take()) {
            Ok(capture) => self.running = Some(capture),
            Err(error) => {
                tracing::error!(lane = self.lane.as_str(), %error, "cannot start the thread of a source");
                self.failure = Some(error.to_string());
                self.retry_at = Some(Instant::now() + LONGEST_RETRY);
            }
        }
    }

    fn take(&mut self, what: CaptureChange, now: Timestamp) {
        match what {
            CaptureChange::Opened { choice, waker } => {
                if let Some(capture) = &mut self.running {
                    capture.opened(waker);
                }
                tracing::info!(source = choice.name, reason = choice.reason, "source is open");
                for coverage in choice.covers.iter().filter(|c| self.wanted.contains(c.event)) {
                    tracing::info!(
                        event = coverage.event.as_str(),
                        source = choice.name,
                        cannot_see = coverage.cannot_see,
                        "events are collected"
                    );
                }
                self.failure = None;
                self.open = Some(choice);
            }
            CaptureChange::Ended { failure, worked, unwatched_since } => {
                self.running = None;
                self.open = None;
                if let Some(failure) = failure {
                    self.gap_from = unwatched_since.or(Some(now));
                    self.failures = if worked { 1 } else { self.failures + 1 };
                    let pause = LONGEST_RETRY.min(Duration::from_secs(1 << self.failures.min(9)));
                    // What stays as it is, is told once.
                    if self.failure.as_ref() != Some(&failure) {
                        let lane = self.lane.as_str();
                        tracing::warn!(lane, failure, retry_in_seconds = pause.as_secs(), "a source cannot be read");
                    }
                    self.failure = Some(failure);
                    self.retry_at = Some(Instant::now() + pause);
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
        let now = self.parts.context.clock.now().wall;
        if let Some(keeper) = self.keepers.iter_mut().find(|keeper| keeper.lane == news.lane) {
            keeper.take(news.what, now);
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
        // The last lane is the one that had to take over.
        let last = keepers.next_back()?;
        let detail = match (&last.failure, &last.open) {
            (Some(failure), _) => failure.clone(),
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
