//! Floor 3: from what was seen to what is stored. Pure: no I/O, no clock, no task; it takes `now` and answers with
//! [`Change`]s for the spool.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | observations and snapshots become events in the queue that the twin gives them |
//! | `aggregate.rs` | identical observations are counted instead of sent one by one |
//! | `key.rs` | which observations are identical |
//! | `fit.rs` | what is too large is split or cut |
//! | [`schedule`] | when a message leaves, and who leads it |
//! | [`statistics`] | what the agent reports about its own work |
//!
//! # The account (hits)
//! - An observation is one hit. An aggregated event stands for as many as it counted.
//! - A snapshot is one hit. If it was split, its first part carries the hit and the others carry none: when the cache is
//!   full the oldest goes first, so a snapshot that lost a part to that is booked as dropped. The spool takes all its
//!   parts or none.
//! - An item of a snapshot that fits no event is a dropped hit of its own (`oversize`); the rest of the snapshot goes.
//! - A type with priority `Off` is not collected. What still arrives from a source that is being closed is kept, in the
//!   queue that its type had, if it happened before the switch; later ones are not booked, only counted by
//!   [`Pipeline::ignored`].
//!
//! # An aggregated event
//! `Category` `Triggered`; what is outside the key is blanked even if it stands for a single hit (`key.rs`);
//! `ExtraDetails` `HitCount` and `StartTimeUtc`, `StartTimeLocal`, `EndTimeUtc`, `EndTimeLocal` of the first and the
//! last hit; the event's own time is the time it was closed.
//!
//! # A time that is not to be believed
//! A board without a battery-backed clock collects before its clock is set. If the time of an event, or the first or
//! last time of an aggregate, is not trusted, each item of the event has `ExtraDetails` `TimeTrusted` = `false`. No mark
//! is a trusted time. An empty snapshot has no item to mark.

mod aggregate;
mod fit;
mod key;
pub mod schedule;
#[cfg(test)]
pub(crate) mod schema;
pub mod statistics;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::Value;

use crate::model::change::{Change, OpenAggregate, StoredEvent};
use crate::model::event::{Category, EventName, Observation, Snapshot};
use crate::model::loss::{DropReason, Queue};
use crate::model::payload::Payload;
use crate::model::time::{Mono, Now, Timestamp};
use crate::settings::agent_config::AgentConfig;

pub use fit::{max_body, max_event};

use aggregate::{Entry, Table};
use fit::{Fitted, Writer};

/// The shortest aggregation interval: a twin cannot make the agent spin.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// What `HitCount`, the four times and [`TIME_TRUSTED`] add to an item, with the longest count.
const AGGREGATE_DETAILS: usize = 288;

/// The key in `ExtraDetails` of an event whose time is not to be believed; its value is `false`.
const TIME_TRUSTED: &str = "TimeTrusted";

/// Turns observations and snapshots into stored events.
///
/// Each call answers with changes that the spool applies as one batch, in their order, before the next call.
#[derive(Debug)]
pub struct Pipeline {
    config: AgentConfig,
    writer: Writer,
    table: Table,
    /// Types that were switched off: when, and the queue they had.
    off: BTreeMap<EventName, (Timestamp, Queue)>,
    ignored: u64,
}

impl Pipeline {
    /// An empty pipeline. `zone` is the zone of the local times in events.
    #[must_use]
    pub fn new(config: &AgentConfig, zone: TimeZone, _now: Now) -> Self {
        Self {
            config: config.clone(),
            writer: Writer { zone, max_event: max_event(config) },
            table: Table::new(fit::quarter_of_cache(config)),
            off: BTreeMap::new(),
            ignored: 0,
        }
    }

    /// Takes back the aggregates that were open when the agent stopped, as the spool kept them; before anything is
    /// observed. Those that the configuration does not aggregate any more, or puts into another queue, are closed; one
    /// that cannot be read is discarded as [`DropReason::Corrupt`], because its hits are booked as pending.
    pub fn restore(&mut self, aggregates: Vec<OpenAggregate>, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        for stored in aggregates {
            let Some(entry) = Entry::read(&stored) else {
                changes.push(Change::Discard { key: stored.key, reason: DropReason::Corrupt });
                continue;
            };
            let interval = self.interval(entry.name).filter(|_| self.queue(entry.name) == Some(entry.queue));
            match interval {
                Some(interval) => {
                    let waited = aggregate::waited(entry.first, now, interval);
                    self.open(entry, waited, now, &mut changes);
                }
                None => self.close(&entry, now, &mut changes),
            }
        }
        changes
    }

    /// Takes a changed configuration. Aggregates of a type whose aggregation was switched off or whose priority changed
    /// are closed, into the queue they were booked in; a changed interval counts from when the window was opened.
    pub fn configure(&mut self, config: &AgentConfig, now: Now) -> Vec<Change> {
        let old = std::mem::replace(&mut self.config, config.clone());
        self.writer.max_event = max_event(config);
        let mut changes = Vec::new();
        for name in EventName::ALL {
            match (old.priority(name).queue(), self.queue(name)) {
                (Some(queue), None) => {
                    self.off.insert(name, (now.wall, queue));
                }
                (_, Some(_)) => {
                    self.off.remove(&name);
                }
                (None, None) => {}
            }
            if self.interval(name).is_none() || old.priority(name) != self.config.priority(name) {
                self.close_all(name, now, &mut changes);
            }
        }
        for entry in self.table.bound(fit::quarter_of_cache(config)) {
            self.close(&entry, now, &mut changes);
        }
        changes
    }

    /// Takes the machine's zone as it is now, for the local times of everything that is written from here on.
    pub fn set_zone(&mut self, zone: TimeZone) {
        self.writer.zone = zone;
    }

    /// Takes what the sources saw. The totals of all aggregates that grew are reported once, at the end of the batch.
    pub fn observe(&mut self, batch: Vec<Observation>, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        for observation in batch {
            self.observe_one(observation, now, &mut changes);
        }
        changes.extend(self.table.take_grown().into_iter().map(Change::Aggregate));
        changes
    }

    /// Takes a snapshot: one event, or several if it is too large.
    pub fn snapshot(&mut self, snapshot: Snapshot, _now: Now) -> Vec<Change> {
        let Snapshot { name, at, items } = snapshot;
        let Some(queue) = self.queue_at(name, at) else {
            self.ignored = self.ignored.saturating_add(1);
            return Vec::new();
        };
        let mut changes = Vec::new();
        self.write(name, queue, at, items, &mut changes);
        changes
    }

    /// Closes the aggregates whose interval is over.
    pub fn tick(&mut self, now: Now) -> Vec<Change> {
        let due: Vec<EventName> =
            self.deadlines().filter(|(_, deadline)| *deadline <= now.mono).map(|(name, _)| name).collect();
        let mut changes = Vec::new();
        for name in due {
            self.close_all(name, now, &mut changes);
        }
        changes
    }

    /// When [`Pipeline::tick`] has something to do; `None` if no aggregate is open.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines().map(|(_, deadline)| deadline).min()
    }

    /// Closes all aggregates, for the stop of the agent.
    pub fn flush(&mut self, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        for name in EventName::ALL {
            self.close_all(name, now, &mut changes);
        }
        changes
    }

    /// How many aggregates are open.
    #[must_use]
    pub fn open_aggregates(&self) -> usize {
        self.table.len()
    }

    /// How many observations and snapshots arrived of types that are `Off`, and were not collected.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    fn queue(&self, name: EventName) -> Option<Queue> {
        self.config.priority(name).queue()
    }

    /// The queue for something that happened `at`, see the top of this file.
    fn queue_at(&self, name: EventName, at: Timestamp) -> Option<Queue> {
        let before = || self.off.get(&name).filter(|(since, _)| at.utc <= since.utc).map(|(_, queue)| *queue);
        self.queue(name).or_else(before)
    }

    /// How long a type is aggregated; `None` if it is not.
    fn interval(&self, name: EventName) -> Option<Duration> {
        self.queue(name)?;
        self.config.aggregation_interval(name).map(|interval| interval.length().max(SHORTEST_INTERVAL))
    }

    fn deadlines(&self) -> impl Iterator<Item = (EventName, Mono)> {
        self.table.deadlines(|name| self.interval(name))
    }

    fn observe_one(&mut self, observation: Observation, now: Now, changes: &mut Vec<Change>) {
        let Observation { at, what, .. } = observation;
        let name = what.event();
        let Some(queue) = self.queue_at(name, at) else {
            self.ignored = self.ignored.saturating_add(1);
            return;
        };
        let Some(key) = self.interval(name).and_then(|_| key::key(&what)) else {
            self.write(name, queue, at, vec![what], changes);
            return;
        };
        if self.table.hit(&key, 1, at, at) {
            return;
        }
        match self.stored_payload(what, at) {
            Some(payload) => {
                let key = key.into();
                let entry = Entry { key, name, queue, hits: 1, first: at, last: at, payload, grown: true };
                self.open(entry, Duration::ZERO, now, changes);
            }
            None => changes.push(Change::Drop { queue, hits: 1, reason: DropReason::Oversize }),
        }
    }

    /// The payload of a new aggregate as text, cut so that its event will fit; `None` if it cannot be made to.
    fn stored_payload(&self, what: Payload, at: Timestamp) -> Option<String> {
        let name = what.event();
        let mut tagged = serde_json::to_value(key::common_part(what)).ok()?;
        let item = tagged.as_object_mut()?.values_mut().next()?;
        self.writer.trim(name, at, item, AGGREGATE_DETAILS).ok()?.then_some(())?;
        serde_json::to_string(&tagged).ok()
    }

    /// Opens an aggregate; if the table is full the oldest ones are closed early.
    fn open(&mut self, entry: Entry, waited: Duration, now: Now, changes: &mut Vec<Change>) {
        if self.table.hit(&entry.key, entry.hits, entry.first, entry.last) {
            return;
        }
        while let Some(oldest) = self.table.make_room(&entry) {
            self.close(&oldest, now, changes);
        }
        self.table.insert(entry, waited, now.mono);
    }

    fn close_all(&mut self, name: EventName, now: Now, changes: &mut Vec<Change>) {
        for entry in self.table.take(name) {
            self.close(&entry, now, changes);
        }
    }

    fn close(&self, entry: &Entry, now: Now, changes: &mut Vec<Change>) {
        if entry.grown {
            // What it grew by in this batch is not booked yet, and closing books nothing.
            changes.push(Change::Aggregate(entry.open()));
        }
        let key = entry.key.to_string();
        match self.aggregated_body(entry, now) {
            Ok(body) => {
                let event = StoredEvent { queue: entry.queue, hits: entry.hits, body };
                changes.push(Change::Close { key, event });
            }
            Err(reason) => changes.push(Change::Discard { key, reason }),
        }
    }

    fn aggregated_body(&self, entry: &Entry, now: Now) -> Result<String, DropReason> {
        let payload: Payload = serde_json::from_str(&entry.payload).map_err(|_| DropReason::Corrupt)?;
        let mut item = payload.to_value().map_err(|_| DropReason::Corrupt)?;
        for (key, value) in [
            ("HitCount", entry.hits.to_string()),
            ("StartTimeUtc", entry.first.utc_text()),
            ("StartTimeLocal", entry.first.local_text(&self.writer.zone)),
            ("EndTimeUtc", entry.last.utc_text()),
            ("EndTimeLocal", entry.last.local_text(&self.writer.zone)),
        ] {
            fit::detail(&mut item, key, value);
        }
        if !(entry.first.trusted && entry.last.trusted && now.wall.trusted) {
            mark_untrusted(&mut item);
        }
        let fitted = self.writer.write(entry.name, now.wall, vec![item]).map_err(|_| DropReason::Corrupt)?;
        fitted.bodies.into_iter().next().ok_or(DropReason::Oversize)
    }

    /// Writes an event that is not aggregated: one hit. What has no valid form is dropped as [`DropReason::Corrupt`].
    fn write(&self, name: EventName, queue: Queue, at: Timestamp, items: Vec<Payload>, changes: &mut Vec<Change>) {
        let Some(fitted) = self.written(name, at, items) else {
            changes.push(Change::Drop { queue, hits: 1, reason: DropReason::Corrupt });
            return;
        };
        // Nothing at all could be sent: then at least the hit of the event itself is lost.
        let lost = if fitted.bodies.is_empty() { fitted.lost.max(1) } else { fitted.lost };
        for (number, body) in fitted.bodies.into_iter().enumerate() {
            let hits = u64::from(number == 0);
            changes.push(Change::Event(StoredEvent { queue, hits, body }));
        }
        if lost > 0 {
            changes.push(Change::Drop { queue, hits: lost, reason: DropReason::Oversize });
        }
    }

    /// The event or events of these items; `None` if there is no valid one.
    fn written(&self, name: EventName, at: Timestamp, items: Vec<Payload>) -> Option<Fitted> {
        // Only a snapshot may have found nothing (schema `message_v1_0`).
        if items.is_empty() && name.category() == Category::Triggered {
            return None;
        }
        let mut values = items.into_iter().map(|item| item.to_value()).collect::<Result<Vec<Value>, _>>().ok()?;
        if !at.trusted {
            values.iter_mut().for_each(mark_untrusted);
        }
        self.writer.write(name, at, values).ok()
    }
}

fn mark_untrusted(item: &mut Value) {
    fit::detail(item, TIME_TRUSTED, "false".to_owned());
}

#[cfg(test)]
mod tests;
