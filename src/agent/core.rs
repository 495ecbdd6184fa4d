//! The core: pipeline, spool and schedule as one synchronous machine on a thread of its own, so that a slow disk
//! never stalls the network side, and nothing here needs a lock.
//!
//! Everything collected comes in as [`ToCore`], is stored in one transaction a batch, and leaves as messages when the
//! schedule says so and the link is ready. What storage refuses is kept in memory, bounded, and tried again.

mod figures;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flume::{Receiver, RecvTimeoutError};
use tokio::sync::{mpsc, oneshot};

use crate::hub::traffic::{ToHub, WINDOW};
use crate::model::change::Change;
use crate::model::event::{EventName, Observation, Snapshot};
use crate::model::event_set::EventSet;
use crate::model::ids::MessageId;
use crate::model::loss::{DropReason, Gap, Queue};
use crate::model::message::{LARGEST_BODY, MessageRoot, Riders, Room};
use crate::model::problem::Problem;
use crate::model::time::{Mono, Now, Timestamp};
use crate::pipeline::schedule::{Backlogs, Schedule};
use crate::pipeline::statistics::configuration_errors;
use crate::pipeline::{Pipeline, max_body};
use crate::settings::agent_config::AgentConfig;
use crate::spool::{Spool, SpoolError};
use crate::sys::clock::Clock;

use super::diagnostics::silently;
use super::status::{CoreStatus, QueueStatus};
use super::storage::{Landing, Storage};

/// What the core is told.
#[derive(Debug)]
pub(super) enum ToCore {
    /// A source saw these.
    Observed(Vec<Observation>),
    /// A snapshot was taken.
    Snapshot(Snapshot),
    /// Something could not be watched.
    Gap(Gap),
    /// A line of the agent's own log.
    Diagnostic(Observation),
    /// So many lines of the log became no Diagnostic events.
    LinesLeftOut(u64),
    /// Refused or doubtful keys of the twin.
    Problems(Vec<Problem>),
    /// A new effective configuration.
    Configure(Arc<AgentConfig>),
    /// Time for statistics events.
    Statistics {
        /// Which of the two.
        names: EventSet,
        /// Told whether they were made: not while storage fails.
        done: oneshot::Sender<bool>,
    },
    /// The hub takes messages, from now on.
    LinkReady,
    /// The connection is gone, and with it every acknowledgement that was owed.
    LinkDown,
    /// The hub acknowledged this message.
    Delivered(MessageId),
    /// This message can never be sent.
    Undeliverable(MessageId),
    /// Close the aggregates and send everything that waits.
    Flush,
    /// Report the state.
    Status(oneshot::Sender<CoreStatus>),
    /// Close aggregates into events and commit, because the agent stops.
    Settle {
        /// Nothing is watched after this moment.
        watched_until: Timestamp,
        /// Told when it is done.
        done: oneshot::Sender<()>,
    },
    /// Commit, close and end.
    Stop(oneshot::Sender<Result<CoreStatus, SpoolError>>),
}

/// Longest sleep, so that a jump of the clocks is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Bytes of the properties of a message besides the resource id, names and values; a little more than there are.
const PROPERTIES: usize = 160;
/// How often the zone of the machine is read.
const ZONE: Duration = Duration::from_secs(60);
/// A link that takes no message is asked again after this time.
const LINK_RETRY: Duration = Duration::from_secs(1);

/// The parts that the core is built from.
pub(super) struct CoreParts {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: Arc<AgentConfig>,
    pub(super) pipeline: Pipeline,
    pub(super) spool: Spool,
    pub(super) root: MessageRoot,
    pub(super) to_hub: mpsc::Sender<ToHub>,
    /// How often the time is noted on disk, so that a crash leaves a gap of known length.
    pub(super) heartbeat: Duration,
}

pub(super) struct Core {
    clock: Arc<dyn Clock>,
    config: Arc<AgentConfig>,
    pipeline: Pipeline,
    storage: Storage,
    schedule: Schedule,
    root: MessageRoot,
    to_hub: mpsc::Sender<ToHub>,
    link_ready: bool,
    /// On the wire, with the size of the body.
    sent: BTreeMap<MessageId, usize>,
    /// To be sent again, oldest first.
    resend: VecDeque<MessageId>,
    /// Known once the agent stops: the start of the next gap, whatever is booked later.
    watched_until: Option<Timestamp>,
    heartbeat: Duration,
    heartbeat_due: Mono,
    zone_due: Mono,
    /// The queue that Diagnostic events have, or had before they were switched off.
    diagnostic_queue: Option<Queue>,
    /// The link took no message: not asked again before.
    retry_link_at: Option<Mono>,
    /// Running number of the configuration errors.
    problem_serial: u64,
}

impl Core {
    pub(super) fn new(parts: CoreParts) -> Self {
        let now = parts.clock.now();
        let schedule = Schedule::new(&parts.config, now.mono);
        let diagnostic_queue = parts.config.priority(EventName::Diagnostic).queue();
        Self {
            clock: parts.clock,
            config: parts.config,
            pipeline: parts.pipeline,
            storage: Storage::new(parts.spool),
            schedule,
            root: parts.root,
            to_hub: parts.to_hub,
            link_ready: false,
            sent: BTreeMap::new(),
            resend: VecDeque::new(),
            watched_until: None,
            heartbeat: parts.heartbeat,
            heartbeat_due: now.mono.after(parts.heartbeat),
            zone_due: now.mono.after(ZONE),
            diagnostic_queue,
            retry_link_at: None,
            problem_serial: 0,
        }
    }

    /// Books what became of the aggregates that were open when the last run ended.
    pub(super) fn restore(&mut self, changes: Vec<Change>, now: Now) {
        self.storage.store(changes, now);
    }

    /// Works until it is told to stop or everybody who could tell it is gone.
    pub(super) fn run(mut self, inbox: &Receiver<ToCore>) {
        loop {
            let now = self.clock.now();
            let wait = self.next_deadline(now.mono).since(now.mono).min(LONGEST_SLEEP);
            let input = match inbox.recv_timeout(wait) {
                Ok(ToCore::Stop(answer)) => {
                    // Nobody may be waiting any more; the work is done all the same.
                    let _ = answer.send(self.stop());
                    return;
                }
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = self.stop() {
                        tracing::error!(%error, "the spool could not be closed");
                    }
                    return;
                }
            };
            let now = self.clock.now();
            if let Some(input) = input {
                self.handle(input, now);
            }
            self.turn(now);
            if self.storage.is_damaged() {
                tracing::error!(
                    "the stored state is damaged; ending, so that the next start puts it aside and counts the loss"
                );
                return;
            }
        }
    }

    fn next_deadline(&self, now: Mono) -> Mono {
        let mut next = self.heartbeat_due.min(self.zone_due);
        let mut earlier = |candidate: Option<Mono>| {
            if let Some(candidate) = candidate {
                next = next.min(candidate);
            }
        };
        earlier(self.pipeline.next_deadline());
        earlier(self.storage.next_deadline());
        earlier(self.retry_link_at);
        // What is due and cannot be sent now must not be waited for: it would be a wait of no length.
        if self.may_send() {
            earlier(Some(self.schedule.next_deadline()));
        }
        next.max(now)
    }

    fn may_send(&self) -> bool {
        self.link_ready && self.sent.len() < WINDOW && self.storage.works() && self.retry_link_at.is_none()
    }

    fn handle(&mut self, input: ToCore, now: Now) {
        match input {
            ToCore::Observed(batch) => {
                let changes = self.pipeline.observe(batch, now);
                self.storage.store(changes, now);
            }
            ToCore::Diagnostic(line) => {
                // Storage is heard: it says the start and the end of a trouble once, whatever it was to store.
                let changes = silently(|| self.pipeline.observe(vec![line], now));
                self.storage.store(changes, now);
            }
            ToCore::LinesLeftOut(hits) => {
                // Lines are left out only while they are wanted; by now they may have been switched off.
                if let Some(queue) = self.diagnostic_queue {
                    let reason = DropReason::RateLimited;
                    self.storage.store(vec![Change::Drop { queue, hits, reason }], now);
                }
            }
            ToCore::Snapshot(snapshot) => {
                let changes = self.pipeline.snapshot(snapshot, now);
                self.storage.store(changes, now);
            }
            ToCore::Gap(gap) => {
                tracing::warn!(source = gap.source, start = %gap.start.utc, end = %gap.end.utc, reason = gap.reason, "gap in what was watched");
                self.storage.gap(gap, now);
            }
            ToCore::Problems(problems) => {
                let batch = configuration_errors(&problems, self.problem_serial, now.wall);
                self.problem_serial += batch.len() as u64;
                let changes = self.pipeline.observe(batch, now);
                self.storage.store(changes, now);
            }
            ToCore::Configure(config) => self.configure(config, now),
            ToCore::Statistics { names, done } => {
                // Whoever asked may have given up.
                let _ = done.send(self.report_statistics(names, now));
            }
            ToCore::LinkReady => {
                self.link_ready = true;
                self.retry_link_at = None;
                self.sent.clear();
                self.resend = self.storage.spool().in_flight().into();
            }
            ToCore::LinkDown => {
                self.link_ready = false;
                self.sent.clear();
                self.resend.clear();
                self.storage.link_down(now);
            }
            ToCore::Delivered(id) => {
                let body_len = self.sent.remove(&id).unwrap_or(0);
                self.storage.landed(Landing::Delivered(id, body_len), now);
            }
            ToCore::Undeliverable(id) => {
                self.sent.remove(&id);
                self.storage.landed(Landing::Refused(id), now);
            }
            ToCore::Flush => {
                let changes = self.pipeline.flush(now);
                self.storage.store(changes, now);
                self.schedule.flush_now();
            }
            ToCore::Status(answer) => {
                // Whoever asked may have given up.
                let _ = answer.send(self.status());
            }
            ToCore::Settle { watched_until, done } => {
                self.watched_until = Some(watched_until);
                let changes = self.pipeline.flush(now);
                self.storage.store(changes, now);
                self.storage.commit(now);
                // Whoever asked may have given up.
                let _ = done.send(());
            }
            ToCore::Stop(_) => {}
        }
    }

    /// What is due at `now`, whatever came in.
    fn turn(&mut self, now: Now) {
        if self.pipeline.next_deadline().is_some_and(|due| due <= now.mono) {
            let changes = self.pipeline.tick(now);
            self.storage.store(changes, now);
        }
        self.storage.turn(now);
        if self.heartbeat_due <= now.mono {
            self.heartbeat_due = now.mono.after(self.heartbeat);
            self.storage.alive(now);
        }
        if self.zone_due <= now.mono {
            self.zone_due = now.mono.after(ZONE);
            self.pipeline.set_zone(self.clock.zone());
        }
        self.pump(now);
    }

    fn configure(&mut self, config: Arc<AgentConfig>, now: Now) {
        let changes = self.pipeline.configure(&config, now);
        self.storage.store(changes, now);
        self.schedule.configure(&config, now.mono);
        self.storage.set_cache_limit(config.max_local_cache_size, now);
        self.diagnostic_queue = config.priority(EventName::Diagnostic).queue().or(self.diagnostic_queue);
        self.config = config;
    }

    /// Sends what the schedule wants, up to the window.
    fn pump(&mut self, now: Now) {
        if self.retry_link_at.is_some_and(|due| due <= now.mono) {
            self.retry_link_at = None;
        }
        while self.may_send() {
            let again = self.resend.pop_front();
            let next = match again {
                Some(id) => self.storage.resend(id, &self.root, now),
                None => match self.schedule.next_send(now.mono, &self.backlogs()) {
                    Some(send) => self.storage.assemble(send.lead, self.room(send.all), &self.root, now),
                    None => return,
                },
            };
            match next {
                Some(mut message) => {
                    message.hub_resource_id.clone_from(&self.config.hub_resource_id);
                    let (id, body_len) = (message.id, message.body.len());
                    if self.to_hub.try_send(ToHub::Send(message)).is_err() {
                        // The link is behind or gone; this message is in flight and waits for its turn.
                        self.resend.push_front(id);
                        self.retry_link_at = Some(now.mono.after(LINK_RETRY));
                        return;
                    }
                    self.sent.insert(id, body_len);
                }
                None if !self.storage.works() => {
                    // It is still in flight; storage is asked again.
                    if let Some(id) = again {
                        self.resend.push_front(id);
                    }
                }
                None => {
                    if self.resend.is_empty() {
                        return;
                    }
                }
            }
        }
    }

    fn room(&self, all: bool) -> Room {
        let properties = PROPERTIES + self.config.hub_resource_id.len();
        let riders = if all { Riders::All } else { Riders::Step { properties } };
        Room { body: max_body(&self.config), alone: LARGEST_BODY, riders }
    }

    fn backlogs(&self) -> Backlogs {
        let of = |queue| {
            let backlog = self.storage.spool().backlog(queue);
            (backlog.records, backlog.bytes)
        };
        Backlogs { high: of(Queue::High), low: of(Queue::Low) }
    }

    fn status(&self) -> CoreStatus {
        let queue = |queue| {
            let backlog = self.storage.spool().backlog(queue);
            QueueStatus { records: backlog.records, bytes: backlog.bytes }
        };
        CoreStatus {
            balance: self.storage.spool().balance(),
            high: queue(Queue::High),
            low: queue(Queue::Low),
            in_flight: self.storage.spool().in_flight().len(),
            gaps: self.storage.spool().recent_gaps(),
            storage_trouble: self.storage.trouble(),
            unstored: self.storage.unstored(),
        }
    }

    fn stop(mut self) -> Result<CoreStatus, SpoolError> {
        let now = self.clock.now();
        let changes = self.pipeline.flush(now);
        self.storage.store_at_last(changes, now);
        let status = self.status();
        self.storage.close(Now { wall: self.watched_until.unwrap_or(now.wall), ..now })?;
        Ok(status)
    }
}

#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod trouble_tests;
