//! The spool as the core uses it: what it refuses is kept in memory, bounded, and tried again; troubles are logged once.
//!
//! Two troubles are told apart. When the hot store fails, nothing can be booked: everything waits for the next try. When
//! only the commit to the state directory fails, work goes on, because what is stored outlives the process.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::change::Change;
use crate::model::ids::MessageId;
use crate::model::loss::{Gap, Queue};
use crate::model::message::{Message, MessageRoot, Room};
use crate::model::time::{Mono, Now};
use crate::model::units::ByteSize;
use crate::spool::{Spool, SpoolError};

use super::unstored::limit_unstored;

/// Changes that were refused are kept up to this number; beyond it events are booked as lost.
const UNSTORED_LIMIT: usize = 4096;
/// Gaps that were refused are kept up to this number; beyond it the last one grows.
pub(super) const UNSTORED_GAPS: usize = 32;
/// What was seen up to this long ago has surely been handed to the spool; what is younger may still be on its way, from
/// the source that gathers it or in the core's queue. A crash leaves a gap that begins then.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// A storage that fails is tried again this often.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// The end of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Landing {
    /// With the size of its body.
    Delivered(MessageId, usize),
    /// It can never be sent.
    Refused(MessageId),
}

/// The spool and what waits for it.
pub(super) struct Storage {
    spool: Spool,
    pub(super) changes: Vec<Change>,
    pub(super) gaps: VecDeque<Gap>,
    /// What the hub said about messages and was not booked yet; not more than were on the wire.
    landings: VecDeque<Landing>,
    pub(super) retry_at: Option<Mono>,
    trouble: Option<String>,
    pub(super) commit_trouble: Option<String>,
    /// A stored file is damaged: only a new start, which puts it aside and counts it, helps.
    damaged: bool,
    /// Writing fails.
    #[cfg(test)]
    pub(super) fault: bool,
}

impl Storage {
    pub(super) fn new(spool: Spool) -> Self {
        Self {
            spool,
            changes: Vec::new(),
            gaps: VecDeque::new(),
            landings: VecDeque::new(),
            retry_at: None,
            trouble: None,
            commit_trouble: None,
            damaged: false,
            #[cfg(test)]
            fault: false,
        }
    }

    /// The spool, to ask.
    pub(super) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Whether it takes what it is given, as far as is known.
    pub(super) fn works(&self) -> bool {
        self.retry_at.is_none()
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// What is wrong, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.clone().or_else(|| self.commit_trouble.clone())
    }

    /// How many changes wait in memory.
    pub(super) fn unstored(&self) -> usize {
        self.changes.len()
    }

    /// When [`Storage::turn`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        [self.retry_at, self.spool.next_commit()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn turn(&mut self, now: Now) {
        if self.retry_at.is_some_and(|due| due <= now.mono) {
            self.retry_at = None;
            self.store(Vec::new(), now);
            self.book(now);
        }
        if self.spool.next_commit().is_some_and(|due| due <= now.mono) {
            self.commit(now);
        }
    }

    /// Stores the changes together with those that were refused before.
    pub(super) fn store(&mut self, changes: Vec<Change>, now: Now) {
        self.changes.extend(changes);
        if self.changes.is_empty() {
            return;
        }
        if self.works() {
            let outcome = self.apply(now);
            if outcome.is_ok() {
                self.changes.clear();
            }
            self.watch(outcome, now);
        }
        limit_unstored(&mut self.changes, UNSTORED_LIMIT, |key| self.spool.has_aggregate(key));
    }

    fn apply(&mut self, now: Now) -> Result<(), SpoolError> {
        #[cfg(test)]
        if self.fault {
            return Err(SpoolError::Io { path: "hot.db".into(), detail: "as the test wants it".to_owned() });
        }
        self.spool.apply(&self.changes, surely_stored(now)).map(drop)
    }

    /// Stores all that is left, whatever happened before: there is no later.
    pub(super) fn store_at_last(&mut self, changes: Vec<Change>, now: Now) {
        self.retry_at = None;
        self.store(changes, now);
        self.book(now);
    }

    /// Books a time that was not watched.
    pub(super) fn gap(&mut self, gap: Gap, now: Now) {
        if self.gaps.len() < UNSTORED_GAPS {
            self.gaps.push_back(gap);
        } else if let Some(last) = self.gaps.back_mut() {
            last.end = last.end.max(gap.end);
            last.missed_at_most = None;
        }
        self.book(now);
    }

    /// Books the end of a message.
    pub(super) fn landed(&mut self, landing: Landing, now: Now) {
        self.landings.push_back(landing);
        self.book(now);
    }

    fn book(&mut self, now: Now) {
        while self.works()
            && let Some(landing) = self.landings.front().copied()
        {
            let outcome = match landing {
                Landing::Delivered(id, body_len) => self.spool.acknowledge(id, body_len, now),
                Landing::Refused(id) => self.spool.refuse(id, now),
            };
            if outcome.is_ok() {
                self.landings.pop_front();
            }
            self.watch(outcome, now);
        }
        while self.works()
            && let Some(gap) = self.gaps.front().cloned()
        {
            let outcome = self.spool.record_gap(gap, now);
            if outcome.is_ok() {
                self.gaps.pop_front();
            }
            self.watch(outcome, now);
        }
    }

    /// The next message of the queue that leads; `None` if there is none, or storage has just failed.
    pub(super) fn assemble(&mut self, lead: Queue, limits: Room, root: &MessageRoot, now: Now) -> Option<Message> {
        let outcome = self.spool.assemble(lead, limits, root, now);
        self.watch(outcome, now).flatten()
    }

    /// A message in flight once more; `None` if it is in flight no more, or storage has just failed.
    pub(super) fn resend(&mut self, id: MessageId, root: &MessageRoot, now: Now) -> Option<Message> {
        let noted = self.spool.note_resend();
        self.watch(noted, now)?;
        let outcome = self.spool.message(id, root);
        self.watch(outcome, now).flatten()
    }

    /// Notes that everything up to now is stored, if it is: not while something waits in memory.
    pub(super) fn alive(&mut self, now: Now) {
        if !self.works() {
            return;
        }
        let outcome = self.spool.alive(surely_stored(now));
        self.watch(outcome, now);
    }

    pub(super) fn set_cache_limit(&mut self, limit: ByteSize, now: Now) {
        let outcome = self.spool.set_cache_limit(limit, now);
        self.watch(outcome, now);
    }

    pub(super) fn commit(&mut self, now: Now) {
        let outcome = self.spool.commit(now);
        self.watch_commit(outcome);
    }

    pub(super) fn link_down(&mut self, now: Now) {
        let outcome = self.spool.link_down(now);
        self.watch_commit(outcome);
    }

    /// Commits everything; `now.wall` is the last moment that was watched.
    pub(super) fn close(self, now: Now) -> Result<(), SpoolError> {
        self.spool.close(now)
    }

    /// Logs the edges of a trouble, and pauses after a failure.
    fn watch<T>(&mut self, outcome: Result<T, SpoolError>, now: Now) -> Option<T> {
        if let Err(error) = &outcome {
            self.retry_at = Some(now.mono.after(RETRY));
            self.damaged |= error.is_corrupt();
        }
        let failed = "storage failed; events are held in memory and tried again";
        log_edges(&mut self.trouble, outcome, failed, "storage works again")
    }

    /// As [`Storage::watch`], for a commit, which the spool itself asks to be repeated.
    fn watch_commit<T>(&mut self, outcome: Result<T, SpoolError>) {
        self.damaged |= outcome.as_ref().is_err_and(SpoolError::is_corrupt);
        let failed = "the state directory takes nothing; a power cut would lose what is new";
        log_edges(&mut self.commit_trouble, outcome, failed, "the state directory works again");
    }
}

fn surely_stored(mut now: Now) -> Now {
    now.wall.utc = now.wall.utc.checked_sub(ON_ITS_WAY).unwrap_or(now.wall.utc);
    now
}

fn log_edges<T>(trouble: &mut Option<String>, outcome: Result<T, SpoolError>, failed: &str, works: &str) -> Option<T> {
    match outcome {
        Ok(value) => {
            if trouble.take().is_some() {
                tracing::info!("{works}");
            }
            Some(value)
        }
        Err(error) => {
            let text = error.to_string();
            if trouble.as_ref() != Some(&text) {
                tracing::error!(error = text, "{failed}");
            }
            *trouble = Some(text);
            None
        }
    }
}
