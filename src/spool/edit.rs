//! One transaction of the hot level together with the books in memory: both change, or neither.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::books::{Books, Document, Flight, Known, Load, json, other};
use super::error::SpoolError;
use super::gaps::GapLog;
use super::ledger::PerQueue;
use super::record::{Record, cost};
use super::recover::boot_ms;
use super::store::Level;
use crate::model::change::{Change, OpenAggregate, StoredEvent};
use crate::model::ids::MessageId;
use crate::model::loss::{DropReason, Queue};
use crate::model::message::{Message, MessageRoot, Riders, Room};
use crate::model::time::Now;

/// A transaction that is being put together.
pub(super) struct Edit<'a> {
    pub(super) hot: &'a Level,
    pub(super) cold: &'a Level,
    pub(super) known: &'a BTreeMap<String, Known>,
    pub(super) gaps: &'a GapLog,
    pub(super) changes: Changes,
}

/// What memory takes over when the transaction is done.
pub(super) struct Changes {
    pub(super) books: Books,
    pub(super) aggregates: BTreeMap<String, Option<Known>>,
    pub(super) gaps: Option<GapLog>,
    pub(super) flights_changed: bool,
    /// A finished High event came in.
    pub(super) urgent: bool,
    /// Hits dropped as `CacheFull`, to make room or for want of it.
    pub(super) dropped: BTreeMap<Queue, u64>,
}

impl Changes {
    /// Nothing yet.
    pub(super) const fn on(books: Books) -> Self {
        Self {
            books,
            aggregates: BTreeMap::new(),
            gaps: None,
            flights_changed: false,
            urgent: false,
            dropped: BTreeMap::new(),
        }
    }
}

impl Edit<'_> {
    /// Everything collected up to `now` is stored.
    pub(super) fn touch(&mut self, now: Now) {
        let ledger = &mut self.books().ledger;
        ledger.at = now.wall;
        ledger.boot_ms = boot_ms(now);
    }

    /// Applies a batch in its order. What cannot be within `limit` even if all went that goes before it is refused, so
    /// that nothing goes for it.
    pub(super) fn apply(&mut self, changes: &[Change], limit: u64) -> Result<(), SpoolError> {
        let mut rest = changes;
        while let Some((change, later)) = rest.split_first() {
            rest = later;
            if let Change::Event(event) = change {
                let parts = parts_of(event, later);
                rest = later.get(parts.len()..).unwrap_or_default();
                self.books().ledger.collect(event.queue, event.hits);
                self.enter(event, event.hits, &parts, limit)?;
            } else {
                self.apply_other(change, limit)?;
            }
        }
        Ok(())
    }

    fn apply_other(&mut self, change: &Change, limit: u64) -> Result<(), SpoolError> {
        match change {
            Change::Event(_) => Ok(()),
            Change::Aggregate(aggregate) => self.grow(aggregate),
            Change::Close { key, event } => self.finish_aggregate(key, event, limit),
            Change::Discard { key, reason } => self.discard(key, *reason),
            Change::Drop { queue, hits, reason } => {
                let ledger = &mut self.books().ledger;
                ledger.collect(*queue, *hits);
                ledger.drop_hits(*queue, *reason, *hits);
                Ok(())
            }
            Change::DroppedEventsReported => {
                let since = &mut self.books().ledger.since;
                (since.high, since.low) = Default::default();
                if !self.gaps.unreported.is_empty() {
                    self.gap_log().reported();
                }
                Ok(())
            }
            Change::MessagesReported => {
                let since = &mut self.books().ledger.since;
                (since.messages_sent, since.messages_under_4_kib, since.messages_failed) = (0, 0, 0);
                Ok(())
            }
        }
    }

    /// Stores an event with its parts, all or none: a snapshot that lacks one is of little use, and is one hit.
    fn enter(&mut self, event: &StoredEvent, hits: u64, parts: &[&StoredEvent], limit: u64) -> Result<(), SpoolError> {
        let sizes = [event].into_iter().chain(parts.iter().copied()).map(|e| cost(e.body.len() as u64));
        if sizes.fold(0, u64::saturating_add) > self.room(event.queue, limit) {
            self.lose(event.queue, hits);
            return Ok(());
        }
        self.append(event, hits)?;
        parts.iter().try_for_each(|part| self.append(part, part.hits))
    }

    /// What there is for something new in `queue`, if all goes that [`Edit::shrink_to`] takes before it.
    fn room(&self, queue: Queue, limit: u64) -> u64 {
        let Books { held, shelves, .. } = &self.changes.books;
        let goes = Queue::ALL.into_iter().filter(|other| *other >= queue).map(|q| shelves.of(q).ready.cost);
        limit.saturating_sub(held.saturating_sub(goes.fold(0, u64::saturating_add)))
    }

    /// Books hits of `queue` as dropped because the cache is full.
    fn lose(&mut self, queue: Queue, hits: u64) {
        self.books().ledger.drop_hits(queue, DropReason::CacheFull, hits);
        *self.changes.dropped.entry(queue).or_default() += hits;
    }

    fn append(&mut self, event: &StoredEvent, hits: u64) -> Result<(), SpoolError> {
        let books = &mut self.changes.books;
        books.ledger.seq += 1;
        let record = Record::new(books.ledger.seq, hits, event.body.clone());
        self.hot.put(event.queue, &record)?;
        let len = event.body.len() as u64;
        books.shelves.of_mut(event.queue).ready.add(hits, len);
        books.held = books.held.saturating_add(cost(len));
        self.changes.urgent |= event.queue == Queue::High;
        Ok(())
    }

    fn aggregate(&self, key: &str) -> Option<Known> {
        self.changes.aggregates.get(key).copied().unwrap_or_else(|| self.known.get(key).copied())
    }

    /// Books what an aggregate has more than before, and moves it if its queue changed. Gives its total.
    fn book_growth(&mut self, before: Option<Known>, queue: Queue, total: u64) -> u64 {
        let (from, had) = before.map_or((queue, 0), |known| (known.queue, known.hits));
        let ledger = &mut self.books().ledger;
        ledger.requeue(from, queue, had);
        ledger.collect(queue, total.saturating_sub(had));
        total.max(had)
    }

    fn grow(&mut self, aggregate: &OpenAggregate) -> Result<(), SpoolError> {
        let before = self.aggregate(&aggregate.key);
        let hits = self.book_growth(before, aggregate.queue, aggregate.hits);
        let stored = OpenAggregate { hits, ..aggregate.clone() };
        self.hot.put_aggregate(&stored)?;
        let after = Known::of(&stored);
        let books = self.books();
        books.held = books.held.saturating_sub(before.map_or(0, |k| k.cost)).saturating_add(after.cost);
        self.changes.aggregates.insert(stored.key, Some(after));
        Ok(())
    }

    fn finish_aggregate(&mut self, key: &str, event: &StoredEvent, limit: u64) -> Result<(), SpoolError> {
        let before = self.aggregate(key);
        let hits = self.book_growth(before, event.queue, event.hits);
        if let Some(known) = before {
            self.hot.close_aggregate(key)?;
            let books = self.books();
            books.held = books.held.saturating_sub(known.cost);
            self.changes.aggregates.insert(key.to_owned(), None);
        }
        self.enter(event, hits, &[], limit)
    }

    fn discard(&mut self, key: &str, reason: DropReason) -> Result<(), SpoolError> {
        if let Some(known) = self.aggregate(key) {
            self.hot.close_aggregate(key)?;
            let books = self.books();
            books.held = books.held.saturating_sub(known.cost);
            books.ledger.drop_hits(known.queue, reason, known.hits);
            self.changes.aggregates.insert(key.to_owned(), None);
        }
        Ok(())
    }

    /// Drops the oldest Low events, then the oldest High ones, then the oldest messages in flight, until all is within
    /// `limit`. Open aggregates stay.
    pub(super) fn shrink_to(&mut self, limit: u64) -> Result<(), SpoolError> {
        for queue in [Queue::Low, Queue::High] {
            let excess = self.changes.books.held.saturating_sub(limit);
            if excess > 0 {
                self.drop_oldest(queue, excess)?;
            }
        }
        while self.changes.books.held > limit && !self.changes.books.flights.is_empty() {
            let oldest = self.changes.books.flights.remove(0);
            self.land(&oldest)?;
            for queue in Queue::ALL {
                self.lose(queue, oldest.load.of(queue).hits);
            }
        }
        self.changes.dropped.retain(|_, hits| *hits > 0);
        Ok(())
    }

    fn drop_oldest(&mut self, queue: Queue, excess: u64) -> Result<(), SpoolError> {
        let (mut load, mut last) = (Load::default(), 0);
        let mut each = |seq, hits, len| {
            if load.cost >= excess {
                return false;
            }
            load.add(hits, len);
            last = seq;
            true
        };
        let (cold, hot) = self.ready_ranges(queue);
        if self.cold.sizes(queue, &cold, &mut each)? {
            self.hot.sizes(queue, &hot, &mut each)?;
        }
        if load.records == 0 {
            return Ok(());
        }
        self.remove(queue, &(*cold.start()..=last))?;
        self.leave_shelf(queue, load, last);
        self.books().held = self.changes.books.held.saturating_sub(load.cost);
        self.lose(queue, load.hits);
        Ok(())
    }

    /// The ready records: those in the cold level, then those in the hot one.
    fn ready_ranges(&self, queue: Queue) -> (RangeInclusive<u64>, RangeInclusive<u64>) {
        let place = self.changes.books.shelves.of(queue);
        (place.cursor + 1..=place.cold_last, place.cursor.max(place.cold_last) + 1..=u64::MAX)
    }

    fn leave_shelf(&mut self, queue: Queue, load: Load, last: u64) {
        let place = self.books().shelves.of_mut(queue);
        place.cursor = place.cursor.max(last);
        place.ready.records = place.ready.records.saturating_sub(load.records);
        place.ready.hits = place.ready.hits.saturating_sub(load.hits);
        place.ready.bytes = place.ready.bytes.saturating_sub(load.bytes);
        place.ready.cost = place.ready.cost.saturating_sub(load.cost);
    }

    fn remove(&mut self, queue: Queue, range: &RangeInclusive<u64>) -> Result<(), SpoolError> {
        self.hot.delete(queue, range)?;
        if *range.start() <= self.changes.books.cold_may_have {
            self.hot.put_gone(queue, range)?;
        }
        Ok(())
    }

    /// Puts the next message together and marks it as in flight.
    pub(super) fn assemble(
        &mut self,
        lead: Queue,
        limits: Room,
        root: &MessageRoot,
    ) -> Result<Option<Message>, SpoolError> {
        let id = MessageId::random();
        let mut flight = Flight { id, lead, ranges: PerQueue::default(), load: PerQueue::default() };
        let mut bodies = Vec::new();
        self.pick(lead, &mut flight, &mut bodies, root, limits)?;
        if bodies.is_empty() {
            return Ok(None);
        }
        if limits.riders != Riders::None {
            let size = root.body_len(bodies.len(), bodies.iter().map(String::len).sum());
            let limits = Room { body: limits.with_riders(size), ..limits };
            self.pick(other(lead), &mut flight, &mut bodies, root, limits)?;
        }
        self.changes.books.flights.push(flight);
        self.changes.flights_changed = true;
        Ok(Some(Message { id, queue: lead, body: root.body(&bodies), hub_resource_id: String::new() }))
    }

    fn pick(
        &mut self,
        queue: Queue,
        flight: &mut Flight,
        bodies: &mut Vec<String>,
        root: &MessageRoot,
        limits: Room,
    ) -> Result<(), SpoolError> {
        let mut bytes: usize = bodies.iter().map(String::len).sum();
        let (mut taken, mut range, mut lost) = (Load::default(), None, Vec::new());
        let mut each = |record: Record| {
            let (seq, hits, len) = (record.seq, record.hits, record.body.len());
            if root.body_len(1, len) > limits.body.max(limits.alone) {
                lost.push((seq, hits, len as u64, DropReason::Oversize));
                return Ok(true);
            }
            if root.body_len(bodies.len() + 1, bytes + len) > limits.body && !bodies.is_empty() {
                return Ok(false);
            }
            if let Some(body) = record.text() {
                range = Some((range.map_or(seq, |(first, _)| first), seq));
                taken.add(hits, len as u64);
                bytes += len;
                bodies.push(body);
            } else {
                lost.push((seq, hits, len as u64, DropReason::Corrupt));
            }
            Ok(true)
        };
        let (cold, hot) = self.ready_ranges(queue);
        if self.cold.records(queue, &cold, &mut each)? {
            self.hot.records(queue, &hot, &mut each)?;
        }
        for (seq, hits, len, reason) in lost {
            let mut load = Load::default();
            load.add(hits, len);
            self.remove(queue, &(seq..=seq))?;
            self.leave_shelf(queue, load, seq);
            self.books().held = self.changes.books.held.saturating_sub(load.cost);
            self.books().ledger.drop_hits(queue, reason, hits);
        }
        if let Some((_, last)) = range {
            self.leave_shelf(queue, taken, last);
        }
        *flight.ranges.of_mut(queue) = range;
        *flight.load.of_mut(queue) = taken;
        Ok(())
    }

    /// Takes a message out of flight; `None` if it is not there.
    pub(super) fn take_flight(&mut self, id: MessageId) -> Result<Option<Flight>, SpoolError> {
        let Some(at) = self.changes.books.flights.iter().position(|f| f.id == id) else {
            return Ok(None);
        };
        let flight = self.changes.books.flights.remove(at);
        self.land(&flight)?;
        Ok(Some(flight))
    }

    fn land(&mut self, flight: &Flight) -> Result<(), SpoolError> {
        for (queue, range) in flight.parts() {
            self.remove(queue, &range)?;
            self.books().held = self.changes.books.held.saturating_sub(flight.load.of(queue).cost);
        }
        self.changes.flights_changed = true;
        Ok(())
    }

    /// Removes one record of a message in flight that cannot be read.
    pub(super) fn lose_in_flight(&mut self, id: MessageId, queue: Queue, record: &Record) -> Result<(), SpoolError> {
        self.remove(queue, &(record.seq..=record.seq))?;
        let cost = cost(record.body.len() as u64);
        self.books().held = self.changes.books.held.saturating_sub(cost);
        let Some(flight) = self.changes.books.flights.iter_mut().find(|f| f.id == id) else {
            return Ok(());
        };
        let load = flight.load.of_mut(queue);
        let hits = record.hits.min(load.hits);
        load.hits -= hits;
        load.records = load.records.saturating_sub(1);
        load.cost = load.cost.saturating_sub(cost);
        self.books().ledger.drop_hits(queue, DropReason::Corrupt, hits);
        Ok(())
    }

    pub(super) fn books(&mut self) -> &mut Books {
        &mut self.changes.books
    }

    pub(super) fn gap_log(&mut self) -> &mut GapLog {
        self.changes.gaps.get_or_insert_with(|| self.gaps.clone())
    }

    /// The last step of the transaction: writes the documents that changed.
    pub(super) fn write_documents(&self) -> Result<(), SpoolError> {
        self.hot.put_document(Document::Ledger, &json(self.hot, &self.changes.books.ledger)?)?;
        if self.changes.flights_changed {
            self.hot.put_document(Document::Flights, &json(self.hot, &self.changes.books.flights)?)?;
        }
        match &self.changes.gaps {
            Some(gaps) => self.hot.put_document(Document::Gaps, &json(self.hot, gaps)?),
            None => Ok(()),
        }
    }
}

/// The parts of `event` at the head of what comes after it: they stand for no hit of their own.
fn parts_of<'a>(event: &StoredEvent, later: &'a [Change]) -> Vec<&'a StoredEvent> {
    let part = |change: &'a Change| match change {
        Change::Event(part) if part.hits == 0 && part.queue == event.queue => Some(part),
        _ => None,
    };
    later.iter().map_while(part).collect()
}
