//! Opening: both levels are found in whatever state the last process, or the power, left them.
//!
//! | cold | hot | what happened | what is taken |
//! |---|---|---|---|
//! | absent | absent | first start | nothing |
//! | present | absent | clean stop, or the machine went down | cold |
//! | commit n | commit n | clean stop, or the process was killed | cold, changed by hot |
//! | commit n + 1 | commit n | killed between the two steps of a commit | cold; hot holds nothing new |
//! | commit n | commit n + 1 | the last commit failed, or the cold file was put aside | cold, changed by hot |
//! | another store | present | the hot file is a stranger's | cold |
//!
//! A file that is damaged is put aside and begun anew; the pending hits that are then missing are booked as `Corrupt`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::books::{Books, Document, Flight, Known, Load, Shelf};
use super::durability::Durability;
use super::error::SpoolError;
use super::gaps::GapLog;
use super::ledger::{Ledger, PerQueue, Statistics};
use super::store::{Level, companion};
use crate::model::change::OpenAggregate;
use crate::model::ids::MessageId;
use crate::model::loss::{Balance, Gap, Queue};
use crate::model::time::Now;

/// How the last run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing was stored before.
    Fresh,
    /// It stopped and committed everything.
    Clean,
    /// The process ended without a clean stop; nothing that was stored is lost.
    Crash,
    /// The machine went down without a clean stop; what came after the last commit is lost.
    PowerLoss,
}

/// What was found when the spool was opened.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// How the last run ended.
    pub start: Start,
    /// The time since then; it is already recorded, do not record it again.
    pub gap: Option<Gap>,
    /// Aggregates that were still growing.
    pub aggregates: Vec<OpenAggregate>,
    /// What the operator should know, each a whole sentence.
    pub notes: Vec<String>,
}

/// Everything that [`super::Spool`] starts from.
pub(super) struct Found {
    pub(super) hot: Level,
    pub(super) cold: Level,
    pub(super) books: Books,
    pub(super) known: BTreeMap<String, Known>,
    pub(super) gaps: GapLog,
    pub(super) recovery: Recovery,
}

struct Opened {
    level: Level,
    ledger: Option<Ledger>,
    damaged: bool,
    /// Whether it is of this store, and older than the last commit: the process ended between the two.
    behind: bool,
}

pub(super) fn open(cold: &Path, hot: &Path, hot_durability: Durability, now: Now) -> Result<Found, SpoolError> {
    let mut notes = Vec::new();
    let cold = open_or_put_aside(cold, Durability::Power, &mut notes)?;
    let mut hot = open_or_put_aside(hot, hot_durability, &mut notes)?;
    if let (Some(c), Some(h)) = (&cold.ledger, &hot.ledger) {
        if c.store != h.store {
            notes.push("The hot spool belonged to another store and was not used.".to_owned());
        }
        if c.store != h.store || c.commit > h.commit {
            hot.behind = c.store == h.store;
            hot.level.forget()?;
            hot.ledger = None;
        }
    }
    let started = start(&cold, &hot, now);
    let damaged = cold.damaged || hot.damaged;
    // A damaged hot level lost what came after the last commit, so the gap starts there.
    let known_until = if hot.damaged { &cold.ledger } else { &hot.ledger }.as_ref().or(cold.ledger.as_ref()).cloned();
    let gap = known_until.map(|ledger| Gap {
        source: "agent".to_owned(),
        start: if ledger.at.utc > now.wall.utc { now.wall } else { ledger.at },
        end: now.wall,
        reason: reason(started, hot.damaged).to_owned(),
        missed_at_most: None,
    });
    let Opened { level: hot, ledger: hot_ledger, .. } = hot;
    let Opened { level: cold, ledger: cold_ledger, .. } = cold;
    let mut ledger = hot_ledger.or(cold_ledger).unwrap_or_else(|| first_ledger(now));
    ledger.clean = false;
    ledger.at = now.wall;
    ledger.boot_ms = boot_ms(now);

    let mut gaps: GapLog = document(&hot, &cold, Document::Gaps)?.unwrap_or_default();
    if let Some(gap) = &gap {
        gaps.record(gap.clone());
    }
    let flights = document(&hot, &cold, Document::Flights)?.unwrap_or_default();
    let aggregates = aggregates(&hot, &cold)?;
    let known = aggregates.iter().map(|a| (a.key.clone(), Known::of(a))).collect();
    let mut books = Books { cold_may_have: ledger.seq, ledger, flights, shelves: PerQueue::default(), held: 0 };
    for queue in Queue::ALL {
        count(&mut books, queue, &hot, &cold, &aggregates, damaged, &mut notes)?;
    }
    books.flights.retain(|flight| Queue::ALL.iter().any(|q| flight.load.of(*q).records > 0));
    let recovery = Recovery { start: started, gap, aggregates, notes };
    Ok(Found { hot, cold, books, known, gaps, recovery })
}

fn start(cold: &Opened, hot: &Opened, now: Now) -> Start {
    match (&cold.ledger, &hot.ledger) {
        (None, None) => Start::Fresh,
        (_, Some(ledger)) | (Some(ledger), None) if ledger.clean => Start::Clean,
        (_, Some(ledger)) if boot_ms(now) >= ledger.boot_ms => Start::Crash,
        // The hot file is there, but what it held is in the cold one, or it was damaged: the process ended.
        (Some(ledger), None) if (hot.damaged || hot.behind) && boot_ms(now) >= ledger.boot_ms => Start::Crash,
        _ => Start::PowerLoss,
    }
}

const fn reason(start: Start, hot_damaged: bool) -> &'static str {
    match start {
        _ if hot_damaged => "hot spool was damaged: what came after the last commit is lost",
        Start::Fresh | Start::Clean => "agent was not running",
        Start::Crash => "agent ended without a clean stop",
        Start::PowerLoss => "machine went down without a clean stop: what came after the last commit is lost",
    }
}

fn first_ledger(now: Now) -> Ledger {
    Ledger {
        store: MessageId::random(),
        commit: 0,
        seq: 0,
        clean: false,
        at: now.wall,
        boot_ms: boot_ms(now),
        balance: Balance::default(),
        since: Statistics::default(),
    }
}

pub(super) fn boot_ms(now: Now) -> u64 {
    u64::try_from(now.mono.since_boot().as_millis()).unwrap_or(u64::MAX)
}

fn open_or_put_aside(path: &Path, durability: Durability, notes: &mut Vec<String>) -> Result<Opened, SpoolError> {
    let attempt =
        Level::open(path, durability).and_then(|level| Ok((read(&level, Document::Ledger)?, check(&level)?, level)));
    match attempt {
        Ok((ledger, (), level)) => Ok(Opened { level, ledger, damaged: false, behind: false }),
        Err(error @ SpoolError::Corrupt { .. }) => {
            let ledger = Level::salvage(path, Document::Ledger).and_then(|text| serde_json::from_str(&text).ok());
            let aside = put_aside(path).map_err(|source| SpoolError::Prepare { path: path.to_owned(), source })?;
            let counted = if ledger.is_some() { "what it held is counted" } else { "what it held cannot be counted" };
            notes.push(format!("{error}. It was put aside as {}; {counted}.", aside.display()));
            Ok(Opened { level: Level::open(path, durability)?, ledger, damaged: true, behind: false })
        }
        Err(error) => Err(error),
    }
}

/// Reads each document once, so that a damaged one is found while the file can still be put aside.
fn check(level: &Level) -> Result<(), SpoolError> {
    read::<Vec<Flight>>(level, Document::Flights)?;
    read::<GapLog>(level, Document::Gaps)?;
    level.aggregates().map(drop)
}

/// Renames a damaged file to a name with `.corrupt-N`; of these only the newest is kept.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let prefix = format!("{}.corrupt-", path.file_name().unwrap_or_default().to_string_lossy());
    let mut newest = 0_u64;
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        if let Some(number) = name.to_string_lossy().strip_prefix(&prefix) {
            newest = newest.max(number.parse().unwrap_or(0));
            fs::remove_file(entry.path())?;
        }
    }
    let aside = directory.join(format!("{prefix}{}", newest.saturating_add(1)));
    fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm", "-journal"] {
        match fs::remove_file(companion(path, suffix)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(aside)
}

fn read<T: DeserializeOwned>(level: &Level, name: Document) -> Result<Option<T>, SpoolError> {
    let Some(text) = level.document(name)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| level.corrupt(&format!("document {name:?}: {e}")))
}

/// The hot level's copy, which is never older, or else the cold one's.
fn document<T: DeserializeOwned>(hot: &Level, cold: &Level, name: Document) -> Result<Option<T>, SpoolError> {
    match read(hot, name)? {
        Some(value) => Ok(Some(value)),
        None => read(cold, name),
    }
}

fn aggregates(hot: &Level, cold: &Level) -> Result<Vec<OpenAggregate>, SpoolError> {
    let mut merged: BTreeMap<String, Option<OpenAggregate>> = cold.aggregates()?.into_iter().collect();
    merged.extend(hot.aggregates()?);
    Ok(merged.into_values().flatten().collect())
}

/// Counts what is really there, and makes the books say so.
fn count(
    books: &mut Books,
    queue: Queue,
    hot: &Level,
    cold: &Level,
    aggregates: &[OpenAggregate],
    damaged: bool,
    notes: &mut Vec<String>,
) -> Result<(), SpoolError> {
    let gone = hot.gone(queue)?;
    let cold_last = cold.last(queue)?;
    let last = cold_last.max(hot.last(queue)?);
    books.ledger.seq = books.ledger.seq.max(last);
    books.cold_may_have = books.cold_may_have.max(last);
    let mut parts: Vec<(u64, u64, usize)> = books
        .flights
        .iter()
        .enumerate()
        .filter_map(|(at, flight)| flight.ranges.of(queue).map(|(lo, hi)| (lo, hi, at)))
        .collect();
    parts.sort_unstable();
    let cursor = parts.iter().map(|(_, hi, _)| *hi).fold(gone.last(), u64::max);

    let (mut ready, mut found, mut held) = (Load::default(), Load::default(), 0_u64);
    let mut loads = vec![Load::default(); parts.len()];
    let mut strays = Vec::new();
    let mut each = |seq: u64, hits: u64, len: u64, may_be_gone: bool| {
        if may_be_gone && gone.contain(seq) {
            return;
        }
        let after = parts.partition_point(|(lo, ..)| *lo <= seq);
        let part = after.checked_sub(1).filter(|at| parts.get(*at).is_some_and(|(_, hi, _)| seq <= *hi));
        let slot = part.and_then(|at| loads.get_mut(at));
        match slot {
            Some(load) => load.add(hits, len),
            None if seq > cursor => ready.add(hits, len),
            None => {
                strays.push(seq);
                return;
            }
        }
        found.add(hits, len);
    };
    cold.sizes(queue, &(0..=cold_last), &mut |seq, hits, len| {
        each(seq, hits, len, true);
        true
    })?;
    hot.sizes(queue, &(cold_last + 1..=u64::MAX), &mut |seq, hits, len| {
        each(seq, hits, len, false);
        true
    })?;
    for seq in &strays {
        // Neither ready nor in flight: the levels do not fit together. It cannot be sent in order any more.
        hot.delete(queue, &(*seq..=*seq))?;
        hot.put_gone(queue, &(*seq..=*seq))?;
    }
    for ((_, _, at), load) in parts.iter().zip(loads) {
        if let Some(flight) = books.flights.get_mut(*at) {
            *flight.load.of_mut(queue) = load;
        }
    }
    held = held.saturating_add(found.cost);
    let mut hits = found.hits;
    for aggregate in aggregates.iter().filter(|a| a.queue == queue) {
        hits = hits.saturating_add(aggregate.hits);
        held = held.saturating_add(Known::of(aggregate).cost);
    }
    let pending = books.ledger.balance.of(queue).pending;
    if pending != hits {
        let cause = if damaged { "damaged" } else { "do not fit together" };
        let name = queue.as_str();
        notes.push(format!("The books said {pending} pending hits in queue {name}, the files ({cause}) hold {hits}."));
    }
    books.ledger.reconcile(queue, hits);
    books.held = books.held.saturating_add(held);
    *books.shelves.of_mut(queue) = Shelf { cursor, cold_last, ready };
    Ok(())
}
