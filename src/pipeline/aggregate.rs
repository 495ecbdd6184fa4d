//! The table of open aggregates: identical observations within one interval, counted instead of sent one by one.
//!
//! Which ones are identical is said in `key.rs`.
//!
//! # What is stored of one
//! `state` is the JSON object `{"payload":{"ProcessCreate":{…}},"first":{"utc":…,"trusted":…},"last":{…}}`: the payload
//! item of the first hit, already cut to size, and the times of the earliest and the latest hit.
//!
//! # When it ends
//! All aggregates of one event type share a window. It opens with the first hit into an empty table, so an idle device
//! is not woken, and no hit waits longer than the interval. After a restart it goes on by the wall clock; if that
//! cannot be trusted the wait is taken as over, so that a device which restarts again and again still reports.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::model::change::OpenAggregate;
use crate::model::event::EventName;
use crate::model::loss::Queue;
use crate::model::payload::Payload;
use crate::model::time::{Mono, Now, Timestamp};

/// The most aggregates that are open at once.
const MOST_ENTRIES: usize = 4096;

/// The most bytes that they take together, however large the cache is.
const MOST_BYTES: usize = 1024 * 1024;

/// What an entry takes besides its texts, roughly.
const ENTRY_BYTES: usize = 160;

/// One open aggregate.
#[derive(Debug)]
pub(super) struct Entry {
    /// See the top of this file.
    pub(super) key: Arc<str>,
    /// The event it will become.
    pub(super) name: EventName,
    /// The queue its hits are booked in.
    pub(super) queue: Queue,
    /// How many so far.
    pub(super) hits: u64,
    /// Time of the earliest hit.
    pub(super) first: Timestamp,
    /// Time of the latest hit.
    pub(super) last: Timestamp,
    /// JSON of the [`Payload`], tagged with its kind.
    pub(super) payload: String,
    /// Whether hits were added since the last report.
    pub(super) grown: bool,
}

impl Entry {
    /// What the spool is told.
    pub(super) fn open(&self) -> OpenAggregate {
        OpenAggregate {
            key: self.key.to_string(),
            queue: self.queue,
            hits: self.hits,
            state: format!(
                r#"{{"payload":{},"first":{{"utc":"{}","trusted":{}}},"last":{{"utc":"{}","trusted":{}}}}}"#,
                self.payload, self.first.utc, self.first.trusted, self.last.utc, self.last.trusted
            ),
        }
    }

    /// Reads what [`Entry::open`] wrote; `None` if it is anything else.
    pub(super) fn read(stored: &OpenAggregate) -> Option<Self> {
        #[derive(Deserialize)]
        struct State {
            payload: Payload,
            first: Timestamp,
            last: Timestamp,
        }
        let state: State = serde_json::from_str(&stored.state).ok()?;
        (stored.hits > 0).then_some(())?;
        Some(Self {
            key: stored.key.as_str().into(),
            name: state.payload.event(),
            queue: stored.queue,
            hits: stored.hits,
            first: state.first,
            last: state.last,
            payload: serde_json::to_string(&state.payload).ok()?,
            grown: false,
        })
    }

    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.key.len() + self.payload.len()
    }
}

/// The time that the aggregates of one type share.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Mono,
    /// Waited before `since`: in an earlier run of the agent.
    waited: Duration,
    entries: usize,
}

/// All open aggregates, in the order in which they were opened.
#[derive(Debug)]
pub(super) struct Table {
    /// The most bytes that they take together.
    most_bytes: usize,
    entries: BTreeMap<u64, Entry>,
    numbers: HashMap<Arc<str>, u64>,
    windows: BTreeMap<EventName, Window>,
    grown: Vec<u64>,
    next: u64,
    bytes: usize,
}

impl Table {
    /// Empty, for aggregates that take at most so many bytes together.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes: most_bytes.min(MOST_BYTES),
            entries: BTreeMap::new(),
            numbers: HashMap::new(),
            windows: BTreeMap::new(),
            grown: Vec::new(),
            next: 0,
            bytes: 0,
        }
    }

    /// Changes the bound; gives those that are beyond it, the oldest first.
    pub(super) fn bound(&mut self, most_bytes: usize) -> Vec<Entry> {
        self.most_bytes = most_bytes.min(MOST_BYTES);
        let mut beyond = Vec::new();
        while self.bytes > self.most_bytes
            && let Some(oldest) = self.oldest()
        {
            beyond.extend(self.remove(oldest));
        }
        beyond
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Counts hits on an open aggregate; `false` if there is none with this key.
    pub(super) fn hit(&mut self, key: &str, hits: u64, first: Timestamp, last: Timestamp) -> bool {
        let Some(number) = self.numbers.get(key) else { return false };
        let Some(entry) = self.entries.get_mut(number) else { return false };
        entry.hits = entry.hits.saturating_add(hits);
        entry.first = entry.first.min(first);
        entry.last = entry.last.max(last);
        if !entry.grown {
            entry.grown = true;
            self.grown.push(*number);
        }
        true
    }

    /// Opens an aggregate; there is none with its key. `waited` is how long it was open in an earlier run.
    pub(super) fn insert(&mut self, entry: Entry, waited: Duration, now: Mono) {
        let window = self.windows.entry(entry.name).or_insert(Window { since: now, waited, entries: 0 });
        window.entries += 1;
        let so_far = window.waited.saturating_add(now.since(window.since));
        if waited > so_far {
            *window = Window { since: now, waited, entries: window.entries };
        }
        let number = self.next;
        self.next += 1;
        self.bytes += entry.bytes();
        if entry.grown {
            self.grown.push(number);
        }
        self.numbers.insert(Arc::clone(&entry.key), number);
        self.entries.insert(number, entry);
    }

    /// Takes the oldest one out if another of this size would be too many.
    pub(super) fn make_room(&mut self, entry: &Entry) -> Option<Entry> {
        let full = self.entries.len() >= MOST_ENTRIES || self.bytes + entry.bytes() > self.most_bytes;
        let oldest = self.oldest()?;
        if full { self.remove(oldest) } else { None }
    }

    fn oldest(&self) -> Option<u64> {
        self.entries.keys().next().copied()
    }

    /// Takes all of one type out, the oldest first.
    pub(super) fn take(&mut self, name: EventName) -> Vec<Entry> {
        let numbers: Vec<u64> =
            self.entries.iter().filter(|(_, e)| e.name == name).map(|(number, _)| *number).collect();
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// The types that have open aggregates, and when each ends if its interval is as `interval` says.
    pub(super) fn deadlines(
        &self,
        interval: impl Fn(EventName) -> Option<Duration>,
    ) -> impl Iterator<Item = (EventName, Mono)> {
        self.windows.iter().map(move |(name, window)| {
            let wait = interval(*name).unwrap_or_default().saturating_sub(window.waited);
            (*name, window.since.after(wait))
        })
    }

    /// What grew since the last call, the longest open first.
    pub(super) fn take_grown(&mut self) -> Vec<OpenAggregate> {
        let mut numbers = std::mem::take(&mut self.grown);
        numbers.sort_unstable();
        let mut grown = Vec::with_capacity(numbers.len());
        for number in numbers {
            // One that was taken out in the meantime is not here any more, and was reported then.
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.grown = false;
                grown.push(entry.open());
            }
        }
        grown
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.numbers.remove(&entry.key);
        self.bytes = self.bytes.saturating_sub(entry.bytes());
        if let Some(window) = self.windows.get_mut(&entry.name) {
            window.entries = window.entries.saturating_sub(1);
            if window.entries == 0 {
                self.windows.remove(&entry.name);
            }
        }
        Some(entry)
    }
}

/// How long an aggregate had been open before a restart; `interval`, that is to its end, if the clocks cannot tell.
pub(super) fn waited(first: Timestamp, now: Now, interval: Duration) -> Duration {
    if !(first.trusted && now.wall.trusted) {
        return interval;
    }
    Duration::try_from(now.wall.utc.duration_since(first.utc)).unwrap_or(interval)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::payload::ProcessCreate;

    fn at(second: i64) -> Timestamp {
        Timestamp::trusted(jiff::Timestamp::from_second(1_800_000_000 + second).unwrap())
    }

    fn process() -> Payload {
        Payload::ProcessCreate(ProcessCreate { command_line: "sh \"-c\" \u{1}ö".into(), ..Default::default() })
    }

    fn entry(key: &str, payload: usize) -> Entry {
        Entry {
            key: key.into(),
            name: EventName::ProcessCreate,
            queue: Queue::Low,
            hits: 1,
            first: at(0),
            last: at(0),
            payload: "x".repeat(payload),
            grown: true,
        }
    }

    #[test]
    fn state_is_read_back_as_it_was_written() {
        let mut written = entry("k", 0);
        written.payload = serde_json::to_string(&process()).unwrap();
        written.last =
            Timestamp { utc: jiff::Timestamp::from_nanosecond(1_800_000_001_000_000_001).unwrap(), trusted: false };
        written.hits = 3;
        let read = Entry::read(&written.open()).unwrap();
        assert_eq!(read.open(), written.open());
        assert_eq!((read.first, read.last, read.hits), (written.first, written.last, 3));
    }

    #[test]
    fn anything_else_is_not_read() {
        let good = Entry { payload: serde_json::to_string(&process()).unwrap(), ..entry("k", 0) }.open();
        assert!(Entry::read(&good).is_some());
        assert!(Entry::read(&OpenAggregate { hits: 0, ..good.clone() }).is_none());
        for (end, _) in good.state.char_indices() {
            assert!(Entry::read(&OpenAggregate { state: good.state[..end].into(), ..good.clone() }).is_none(), "{end}");
        }
    }

    #[test]
    fn the_table_is_bounded_in_entries_and_bytes() {
        let now = Mono::default();
        let mut table = Table::new(MOST_BYTES);
        for n in 0..MOST_ENTRIES {
            let new = entry(&n.to_string(), 1);
            assert!(table.make_room(&new).is_none(), "{n}");
            table.insert(new, Duration::ZERO, now);
        }
        assert_eq!(&*table.make_room(&entry("new", 1)).unwrap().key, "0");
        let mut evicted = 0;
        let large = entry("large", MOST_BYTES);
        while table.make_room(&large).is_some() {
            evicted += 1;
        }
        assert_eq!(evicted, MOST_ENTRIES - 1);
        assert_eq!((table.len(), table.bytes, table.windows.len()), (0, 0, 0));
    }

    #[test]
    fn the_one_that_waited_longest_ends_the_window_of_its_type() {
        let minute = |_| Some(Duration::from_secs(60));
        let at = |second| Mono::from_boot(Duration::from_secs(second));
        let mut table = Table::new(MOST_BYTES);
        table.insert(entry("a", 1), Duration::from_secs(10), at(100));
        table.insert(entry("b", 1), Duration::from_secs(40), at(100));
        table.insert(entry("c", 1), Duration::from_secs(20), at(100));
        table.insert(entry("d", 1), Duration::ZERO, at(110));
        assert_eq!(table.deadlines(minute).collect::<Vec<_>>(), [(EventName::ProcessCreate, at(120))]);
        assert_eq!(table.take(EventName::ProcessCreate).len(), 4);
        assert_eq!(table.deadlines(minute).count(), 0);
    }

    #[test]
    fn a_wait_that_cannot_be_measured_is_over() {
        let interval = Duration::from_secs(60);
        let now = |second, trusted| Now { wall: Timestamp { trusted, ..at(second) }, mono: Mono::default() };
        assert_eq!(waited(at(0), now(10, true), interval), Duration::from_secs(10));
        assert_eq!(waited(at(0), now(10, false), interval), interval);
        assert_eq!(waited(at(0), now(-1, true), interval), interval);
        assert_eq!(waited(Timestamp { trusted: false, ..at(0) }, now(10, true), interval), interval);
    }
}
