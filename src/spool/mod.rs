//! Floor of `spool`: the bounded, durable queue between the collectors and the hub.
//!
//! One store with two levels. Each call writes the **hot** level, a file in the runtime directory (tmpfs), which
//! outlives the process and costs no flash; [`Spool::commit`] moves what it holds to the **cold** level in the state
//! directory, which outlives a power cut. Records carry numbers that grow; those of the hot level are higher than all
//! of the cold one, so reading is the cold level first and then the hot one.
//!
//! Each queue is: records in flight or gone, up to a cursor, then records that are ready. A message always takes the
//! head of the ready ones, so a message in flight is at most one range of each queue.
//!
//! Books, records and messages in flight change in one transaction: `collected = delivered + dropped + pending` is true
//! after each call and after the process is killed at any instant. A commit is two transactions, first cold, then hot;
//! both carry its number, so one that was interrupted is recognised (`recover.rs`). The files are described in
//! `store.rs`.
//!
//! All calls block; use one thread.

mod books;
mod commit;
mod durability;
mod edit;
mod error;
mod gaps;
mod ledger;
mod ranges;
mod record;
mod recover;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use books::Backlog;
pub use commit::CommitReport;
pub use error::SpoolError;
pub use ledger::{QueueStatistics, Statistics};
pub use recover::{Recovery, Start};

use books::{Books, Flight, Known};
use commit::Schedule;
use durability::Durability;
use edit::{Changes, Edit};
use gaps::GapLog;
use record::Record;
use store::Level;

use crate::model::change::Change;
use crate::model::ids::MessageId;
use crate::model::loss::{Balance, DropReason, Gap, Queue};
use crate::model::message::{Message, MessageRoot, Room};
use crate::model::time::Now;
use crate::model::units::ByteSize;
use crate::sys::files::private_directory;

/// Bodies below this count as small in the statistics: the billing step of the hub.
const SMALL_BODY: usize = 4096;

/// Where and how the spool stores.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The cold level: `spool.db`.
    pub directory: PathBuf,
    /// The hot level: `hot.db`; best on a tmpfs. `None`: inside `directory`.
    pub runtime_directory: Option<PathBuf>,
    /// Both levels together hold at most this (`maxLocalCacheSizeInBytes`).
    pub cache_limit: ByteSize,
    /// At most this long until a change reaches the cold level; finished High events take at most 1 s.
    pub commit_interval: Duration,
    /// While the file system of `directory` has less free than this, the cold file does not grow.
    pub min_free: ByteSize,
}

/// What a change of contents cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Hits dropped as `CacheFull`, to make room or for want of it, per queue; queues without a drop are absent.
    pub dropped: BTreeMap<Queue, u64>,
}

/// The durable queue. See the module.
#[derive(Debug)]
pub struct Spool {
    options: SpoolOptions,
    hot: Level,
    cold: Level,
    books: Books,
    known: BTreeMap<String, Known>,
    gaps: GapLog,
    schedule: Schedule,
}

impl Spool {
    /// Opens the store, or makes it, and looks both files through. Damaged ones are put aside, see [`Recovery::notes`].
    /// A full disk is no error here: [`Spool::commit`] will say so.
    ///
    /// # Errors
    /// The directories or files cannot be made, or another process uses them.
    pub fn open(options: SpoolOptions, now: Now) -> Result<(Self, Recovery), SpoolError> {
        let runtime = options.runtime_directory.as_ref().unwrap_or(&options.directory);
        for path in [&options.directory, runtime] {
            private_directory(path).map_err(|source| SpoolError::Prepare { path: path.clone(), source })?;
        }
        let durability = if commit::is_tmpfs(runtime) { Durability::Process } else { Durability::Whole };
        let found = recover::open(&options.directory.join("spool.db"), &runtime.join("hot.db"), durability, now)?;
        let mut recovery = found.recovery;
        let mut spool = Self {
            options,
            hot: found.hot,
            cold: found.cold,
            books: found.books,
            known: found.known,
            gaps: GapLog::default(),
            schedule: Schedule::default(),
        };
        spool.cap_cold()?;
        spool.edit(now, |edit| {
            edit.changes.gaps = Some(found.gaps);
            edit.changes.flights_changed = true;
            Ok(())
        })?;
        if let Err(error) = spool.commit(now) {
            recovery.notes.push(format!("The first commit failed and will be repeated: {error}."));
        }
        Ok((spool, recovery))
    }

    /// Stores a batch, whole or not at all, then drops the oldest events if the cache limit is exceeded: Low first, then
    /// High, then messages in flight. Open aggregates count, but are not dropped. An event, or a snapshot with all its
    /// parts, that would not fit even then is dropped itself, and nothing for it. A later `now` moves the start of the gap
    /// after a crash, as [`Spool::alive`] does.
    ///
    /// # Errors
    /// Nothing of the batch is stored or booked.
    pub fn apply(&mut self, changes: &[Change], now: Now) -> Result<Applied, SpoolError> {
        let limit = self.limit();
        self.edit(now, |edit| {
            edit.touch(now);
            edit.apply(changes, limit)?;
            edit.shrink_to(limit)?;
            Ok(Applied { dropped: edit.changes.dropped.clone() })
        })
    }

    /// Changes the cache limit, and drops what is beyond it.
    ///
    /// # Errors
    /// The limit is not changed.
    pub fn set_cache_limit(&mut self, limit: ByteSize, now: Now) -> Result<Applied, SpoolError> {
        let before = std::mem::replace(&mut self.options.cache_limit, limit);
        let result = self.cap_cold().and_then(|()| self.enforce(now));
        if result.is_err() {
            self.options.cache_limit = before;
        }
        result
    }

    /// What waits in `queue`, without what is in flight and without open aggregates.
    #[must_use]
    pub fn backlog(&self, queue: Queue) -> Backlog {
        let ready = self.books.shelves.of(queue).ready;
        Backlog { records: ready.records, bytes: ready.bytes }
    }

    /// Whether an aggregate that still grows is stored under `key`.
    #[must_use]
    pub fn has_aggregate(&self, key: &str) -> bool {
        self.known.contains_key(key)
    }

    /// Puts the next message together: the oldest events of `lead`, as many as `limits` allow, and riders of the other
    /// queue. They are in flight from now on, under an id that outlives the process.
    /// Events that alone do not fit are dropped as `Oversize`, broken ones as `Corrupt`. `None` if `lead` has none.
    ///
    /// # Errors
    /// Nothing is in flight and nothing dropped.
    pub fn assemble(
        &mut self,
        lead: Queue,
        limits: Room,
        root: &MessageRoot,
        now: Now,
    ) -> Result<Option<Message>, SpoolError> {
        if self.backlog(lead).records == 0 {
            return Ok(None);
        }
        self.edit(now, |edit| edit.assemble(lead, limits, root))
    }

    /// The messages that were handed out and not acknowledged, oldest first, also those of before a restart.
    #[must_use]
    pub fn in_flight(&self) -> Vec<MessageId> {
        self.books.flights.iter().map(|flight| flight.id).collect()
    }

    /// A message in flight again, byte for byte the same under the same `root`; `None` if `id` is not in flight. Should
    /// a record be damaged by now, it is dropped as `Corrupt` and the message has the others.
    ///
    /// # Errors
    /// Those of the store.
    pub fn message(&mut self, id: MessageId, root: &MessageRoot) -> Result<Option<Message>, SpoolError> {
        let Some(flight) = self.books.flights.iter().find(|flight| flight.id == id) else { return Ok(None) };
        let (mut bodies, mut lost, lead) = (Vec::new(), Vec::new(), flight.lead);
        for (queue, range) in flight.parts() {
            let cold_last = self.books.shelves.of(queue).cold_last;
            // Between its events there may have been some that were dropped and still stand in the cold level.
            let gone = self.hot.gone(queue)?;
            let mut each = |record: Record| {
                if gone.contain(record.seq) {
                    return Ok(true);
                }
                match record.clone().text() {
                    Some(body) => bodies.push(body),
                    None => lost.push((queue, record)),
                }
                Ok(true)
            };
            self.cold.records(queue, &(*range.start()..=cold_last.min(*range.end())), &mut each)?;
            self.hot.records(queue, &(cold_last.saturating_add(1).max(*range.start())..=*range.end()), &mut each)?;
        }
        if !lost.is_empty() {
            let empty = bodies.is_empty();
            self.edit_quietly(|edit| {
                lost.iter().try_for_each(|(queue, record)| edit.lose_in_flight(id, *queue, record))?;
                edit.changes.flights_changed = true;
                if empty {
                    edit.take_flight(id)?;
                }
                Ok(())
            })?;
            if empty {
                return Ok(None);
            }
        }
        Ok(Some(Message { id, queue: lead, body: root.body(&bodies), hub_resource_id: String::new() }))
    }

    /// The hub has the message: its events are delivered and removed. `body_len` is for the statistics. `false` if it is
    /// not in flight, as after a repeated PUBACK.
    ///
    /// # Errors
    /// The message stays in flight.
    pub fn acknowledge(&mut self, id: MessageId, body_len: usize, now: Now) -> Result<bool, SpoolError> {
        self.land(id, now, |edit, flight| {
            let ledger = &mut edit.books().ledger;
            for queue in Queue::ALL {
                ledger.deliver(queue, flight.load.of(queue).hits);
            }
            let since = &mut ledger.since;
            since.messages_sent = since.messages_sent.saturating_add(1);
            since.messages_under_4_kib = since.messages_under_4_kib.saturating_add(u64::from(body_len < SMALL_BODY));
        })
    }

    /// The hub will never take the message: its events are dropped as `Refused`. `false` if it is not in flight.
    ///
    /// # Errors
    /// The message stays in flight.
    pub fn refuse(&mut self, id: MessageId, now: Now) -> Result<bool, SpoolError> {
        self.land(id, now, |edit, flight| {
            let ledger = &mut edit.books().ledger;
            for queue in Queue::ALL {
                ledger.drop_hits(queue, DropReason::Refused, flight.load.of(queue).hits);
            }
            ledger.since.messages_failed = ledger.since.messages_failed.saturating_add(1);
        })
    }

    /// A message had to be sent again; counted in the statistics.
    ///
    /// # Errors
    /// It is not counted.
    pub fn note_resend(&mut self) -> Result<(), SpoolError> {
        self.edit_quietly(|edit| {
            let since = &mut edit.books().ledger.since;
            since.messages_failed = since.messages_failed.saturating_add(1);
            Ok(())
        })
    }

    /// The accounts of both queues since the installation.
    #[must_use]
    pub fn balance(&self) -> Balance {
        self.books.ledger.balance.clone()
    }

    /// What happened since [`Change::DroppedEventsReported`], and of messages since [`Change::MessagesReported`].
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.books.ledger.since.clone()
    }

    /// Stores a time in which something could not be collected.
    ///
    /// # Errors
    /// It is not stored.
    pub fn record_gap(&mut self, gap: Gap, now: Now) -> Result<(), SpoolError> {
        self.edit(now, |edit| {
            edit.gap_log().record(gap);
            Ok(())
        })
    }

    /// The gaps since [`Change::DroppedEventsReported`], at most 32; the oldest are merged into one.
    #[must_use]
    pub fn gaps_since_report(&self) -> Vec<Gap> {
        self.gaps.unreported.clone()
    }

    /// The latest 32 gaps, reported or not.
    #[must_use]
    pub fn recent_gaps(&self) -> Vec<Gap> {
        self.gaps.recent.clone()
    }

    /// A heartbeat: everything collected up to `now` is stored. Bounds the gap after a crash; writes only the hot level.
    ///
    /// # Errors
    /// The gap would start at the last heartbeat that succeeded.
    pub fn alive(&mut self, now: Now) -> Result<(), SpoolError> {
        self.edit_quietly(|edit| {
            edit.touch(now);
            Ok(())
        })
    }

    fn land(&mut self, id: MessageId, now: Now, book: impl FnOnce(&mut Edit<'_>, &Flight)) -> Result<bool, SpoolError> {
        if !self.books.flights.iter().any(|flight| flight.id == id) {
            return Ok(false);
        }
        self.edit(now, |edit| {
            let Some(flight) = edit.take_flight(id)? else { return Ok(false) };
            book(edit, &flight);
            Ok(true)
        })
    }

    /// The limit that is in force: the cache limit, or less while the disk is short.
    fn limit(&self) -> u64 {
        self.options.cache_limit.as_u64().min(self.schedule.room.unwrap_or(u64::MAX))
    }

    fn enforce(&mut self, now: Now) -> Result<Applied, SpoolError> {
        let limit = self.limit();
        if self.books.held <= limit {
            return Ok(Applied::default());
        }
        self.edit(now, |edit| {
            edit.shrink_to(limit)?;
            Ok(Applied { dropped: edit.changes.dropped.clone() })
        })
    }

    /// An edit that must reach the cold level in time.
    fn edit<T>(
        &mut self,
        now: Now,
        work: impl FnOnce(&mut Edit<'_>) -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        let (value, urgent) = self.run(work)?;
        self.schedule.changed(now.mono, urgent);
        Ok(value)
    }

    /// An edit that goes to the cold level with the next one.
    fn edit_quietly<T>(&mut self, work: impl FnOnce(&mut Edit<'_>) -> Result<T, SpoolError>) -> Result<T, SpoolError> {
        self.run(work).map(|(value, _)| value)
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut Edit<'_>) -> Result<T, SpoolError>) -> Result<(T, bool), SpoolError> {
        let mut edit = Edit {
            hot: &self.hot,
            cold: &self.cold,
            known: &self.known,
            gaps: &self.gaps,
            changes: Changes::on(self.books.clone()),
        };
        let value = self.hot.transaction(|_| {
            let value = work(&mut edit)?;
            edit.write_documents()?;
            Ok(value)
        })?;
        let changes = edit.changes;
        self.books = changes.books;
        for (key, known) in changes.aggregates {
            match known {
                Some(known) => self.known.insert(key, known),
                None => self.known.remove(&key),
            };
        }
        if let Some(gaps) = changes.gaps {
            self.gaps = gaps;
        }
        Ok((value, changes.urgent))
    }
}
