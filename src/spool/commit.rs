//! When and how the hot level goes to the cold one.
//!
//! A commit writes everything new to the cold level in one transaction, numbered n + 1, and then clears the hot level in
//! another one that takes the same number. Should the process end between the two, the higher number in the cold level
//! says that the hot one holds nothing new. Should the cold transaction fail, the hot level takes the number n + 1
//! **without** being cleared: whether or not the failed transaction reached the disk after all, the hot level is not
//! older than the cold one and is merged, which repeats what is there and changes nothing.
//!
//! While the disk has less free than `min_free`, the limit of the store is what the cold file has already (at least
//! 256 KiB), so the oldest events make room in it for new ones, as when the cache limit is reached.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{FsWord, statfs, statvfs};

use super::books::{Document, json};
use super::error::SpoolError;
use super::ledger::Ledger;
use super::store::Level;
use super::{Applied, Spool};
use crate::model::loss::Queue;
use crate::model::time::{Mono, Now};

/// A finished High event is in the cold level after at most this time.
const HIGH_WITHIN: Duration = Duration::from_secs(1);

/// A commit that failed is repeated after this time, or after the commit interval if that is shorter.
const RETRY: Duration = Duration::from_secs(10);

/// What the cold file may always have, even when the disk is short of space.
const SHORT_ROOM: u64 = 256 * 1024;

/// `f_type` of a tmpfs (linux/magic.h).
const TMPFS: FsWord = 0x0102_1994;

/// Whether `path` is on a file system that lives in memory, so that syncing it would be for nothing.
pub(super) fn is_tmpfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type == TMPFS)
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Bytes written to the cold file and its log, at most; 0 if nothing had changed.
    pub bytes: u64,
    /// What was dropped because the disk is short of space.
    pub applied: Applied,
    /// Whether the disk has less free than `min_free`.
    pub short_of_space: bool,
}

/// What waits for a commit.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    first_change: Option<Mono>,
    first_urgent: Option<Mono>,
    retry: Option<Mono>,
    /// The limit of the store while the disk is short of space.
    pub(super) room: Option<u64>,
}

impl Schedule {
    pub(super) fn changed(&mut self, now: Mono, urgent: bool) {
        self.first_change.get_or_insert(now);
        if urgent {
            self.first_urgent.get_or_insert(now);
        }
    }

    fn done(&mut self) {
        (self.first_change, self.first_urgent, self.retry) = (None, None, None);
    }

    fn next(&self, interval: Duration) -> Option<Mono> {
        let regular = self.first_change.map(|at| at.after(interval));
        let urgent = self.first_urgent.map(|at| at.after(interval.min(HIGH_WITHIN)));
        self.retry.or_else(|| regular.into_iter().chain(urgent).min())
    }
}

impl Spool {
    /// When [`Spool::commit`] is due; `None` while there is nothing to commit.
    #[must_use]
    pub fn next_commit(&self) -> Option<Mono> {
        self.schedule.next(self.options.commit_interval)
    }

    /// Moves everything to the cold level. Writes nothing if nothing changed. A heartbeat is no change.
    ///
    /// # Errors
    /// The hot level still has everything; [`Spool::next_commit`] says when to try again.
    pub fn commit(&mut self, now: Now) -> Result<CommitReport, SpoolError> {
        if self.schedule.first_change.is_none() {
            return Ok(CommitReport::default());
        }
        self.commit_as(false, now)
    }

    /// The link to the hub is down: what waits will wait longer, so it is committed now.
    ///
    /// # Errors
    /// As [`Spool::commit`].
    pub fn link_down(&mut self, now: Now) -> Result<CommitReport, SpoolError> {
        self.commit(now)
    }

    /// Commits everything and notes that the stop was clean.
    ///
    /// # Errors
    /// The stop counts as a crash; what the hot level has is found again at the next start.
    pub fn close(mut self, now: Now) -> Result<(), SpoolError> {
        self.alive(now)?;
        self.commit_as(true, now).map(drop)
    }

    fn commit_as(&mut self, clean: bool, now: Now) -> Result<CommitReport, SpoolError> {
        let result = self.make_room(now).and_then(|applied| {
            let bytes = self.move_to_cold(clean)?;
            Ok(CommitReport { bytes, applied, short_of_space: self.schedule.room.is_some() })
        });
        match &result {
            Ok(_) => self.schedule.done(),
            Err(_) => self.schedule.retry = Some(now.mono.after(self.options.commit_interval.min(RETRY))),
        }
        result
    }

    fn make_room(&mut self, now: Now) -> Result<Applied, SpoolError> {
        let directory = &self.options.directory;
        let free = statvfs(directory).map(|s| s.f_bavail.saturating_mul(s.f_frsize));
        let free = free.map_err(|e| SpoolError::Prepare { path: directory.clone(), source: e.into() })?;
        let short = free < self.options.min_free.as_u64();
        self.schedule.room = if short { Some(self.cold.size()?.max(SHORT_ROOM)) } else { None };
        self.enforce(now)
    }

    fn move_to_cold(&mut self, clean: bool) -> Result<u64, SpoolError> {
        let number = self.books.ledger.commit.saturating_add(1);
        let ledger = Ledger { commit: number, clean, ..self.books.ledger.clone() };
        let written = self.write_cold(&ledger);
        // From here on the hot level must not look older than the cold one, whatever came of the attempt.
        self.books.ledger.commit = number;
        self.books.cold_may_have = self.books.ledger.seq;
        if let Err(error) = written {
            let text = json(&self.hot, &self.books.ledger)?;
            self.hot.transaction(|hot| hot.put_document(Document::Ledger, &text))?;
            return Err(error);
        }
        for queue in Queue::ALL {
            self.books.shelves.of_mut(queue).cold_last = ledger.seq;
        }
        let text = json(&self.hot, &ledger)?;
        self.hot.transaction(|hot| {
            hot.clear()?;
            hot.put_document(Document::Ledger, &text)
        })?;
        self.hot.shrink()?;
        written
    }

    /// The cold transaction. Repeating it changes nothing.
    fn write_cold(&self, ledger: &Ledger) -> Result<u64, SpoolError> {
        let emptied = self.cold.empty_log()?;
        let before = self.cold.log_size();
        let text = json(&self.cold, ledger)?;
        self.cold.transaction(|cold| {
            for queue in Queue::ALL {
                for (lo, hi) in self.hot.gone(queue)?.iter() {
                    cold.delete(queue, &(lo..=hi))?;
                }
                self.hot.records(queue, &(0..=u64::MAX), &mut |record| cold.put(queue, &record).map(|()| true))?;
            }
            for (key, aggregate) in self.hot.aggregates()? {
                match aggregate {
                    Some(aggregate) => cold.put_aggregate(&aggregate)?,
                    None => cold.delete_aggregate(&key)?,
                }
            }
            for name in [Document::Flights, Document::Gaps] {
                copy_document(&self.hot, cold, name)?;
            }
            cold.put_document(Document::Ledger, &text)
        })?;
        Ok(emptied.saturating_add(self.cold.log_size().saturating_sub(before)))
    }

    /// A backstop behind the cache limit: the cold file cannot grow far beyond it, whatever happens.
    pub(super) fn cap_cold(&self) -> Result<(), SpoolError> {
        let limit = self.options.cache_limit.as_u64();
        self.cold.cap(limit.saturating_add(limit / 4).saturating_add(SHORT_ROOM))
    }
}

fn copy_document(from: &Level, to: &Level, name: Document) -> Result<(), SpoolError> {
    let value = from.document(name)?;
    match value {
        Some(value) if to.document(name)?.as_ref() != Some(&value) => to.put_document(name, &value),
        _ => Ok(()),
    }
}
