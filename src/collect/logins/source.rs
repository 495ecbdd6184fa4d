//! Reads the logs of the machine side by side and gives each attempt once.
//!
//! Idle, it waits for inotify and runs no timer. What is written wakes it once, and after [`SETTLE`] it reads all logs in
//! the order of their times.

mod opening;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::correlate::{Attempt, Correlator};
use super::entries::QUERY;
use super::event;
use super::feed::{Copies, Feed, Reading};
use super::health;
use super::sighting::Origin;
use super::state::{self, State};
use super::{EVENTS, NAME};
use crate::collect::lane::SourceContext;
use crate::collect::{BATCH, Drained, Loss, Source, SourceChoice, SourceError};
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::payload::Payload;
use crate::model::time::{Mono, Now, Timestamp};
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::inotify::Watches;
use crate::sys::journal_files;
use crate::sys::passwd::Passwd;
use crate::sys::wake::{WakeFlag, Waker, Woken};

/// The logs at fixed paths.
const FIXED: [(Origin, &str); 4] = [
    (Origin::AuthLog, "/var/log/auth.log"),
    (Origin::AuthLog, "/var/log/secure"),
    (Origin::Wtmp, "/var/log/wtmp"),
    (Origin::Btmp, "/var/log/btmp"),
];
/// Directories in which logs appear.
const PLACES: [&str; 4] = ["/var/log", "/run/log", "/run/log/journal", "/var/log/journal"];
/// After a notice: who writes one line soon writes the next, and one reading is enough for both.
const SETTLE: Duration = Duration::from_millis(500);
/// How often it looks without inotify.
const LOOK: Duration = Duration::from_secs(1);
/// How often it looks for new files even if nobody tells of one.
const RESCAN: Duration = Duration::from_secs(30);
/// Least time between two savings after a sign-in.
const SAVE: Duration = Duration::from_secs(10);
/// The same, if lines were read and no sign-in was among them.
const SAVE_PLACES: Duration = Duration::from_secs(3600);
/// Lines, records and entries that are looked at in one turn.
const PATIENCE: usize = 4096;

/// See the top of the file.
pub(super) struct LoginSource {
    host: Host,
    clock: Arc<dyn Clock>,
    users: Passwd,
    choice: SourceChoice,
    flag: WakeFlag,
    watches: Option<Watches>,
    feeds: Vec<Feed>,
    /// Logs that cannot be opened, and why.
    refused: BTreeMap<PathBuf, String>,
    correlator: Correlator,
    copies: Copies,
    serial: u64,
    /// Since when all is seen.
    since: Timestamp,
    /// Everything that was written until then was read.
    whole_until: Timestamp,
    missing: Vec<String>,
    next_scan: Mono,
    /// How it sees is to be judged anew.
    scanned: bool,
    /// Where the state is kept, if it is.
    state: Option<PathBuf>,
    resumed: bool,
    /// Something was seen, or gave an event, since the state was kept.
    changed: bool,
    saved: Mono,
}

impl LoginSource {
    /// Opens what there is.
    ///
    /// # Errors
    /// Nothing can be read; says why.
    pub(super) fn open(context: &SourceContext) -> Result<Self, String> {
        let now = context.clock.now();
        let state = context.state.as_ref().map(|directory| directory.join(state::NAME));
        let kept = state.as_deref().and_then(State::load);
        let since = kept.as_ref().map_or(now.wall, |kept| Timestamp { utc: kept.saved_utc, ..now.wall });
        let memory = kept.as_ref().map(|kept| kept.attempts.clone()).unwrap_or_default();
        let mut source = Self {
            host: context.host.clone(),
            clock: Arc::clone(&context.clock),
            users: Passwd::new(context.host.clone(), Arc::clone(&context.clock)),
            choice: SourceChoice { name: NAME, reason: String::new(), covers: Vec::new() },
            flag: WakeFlag::new().map_err(|error| error.to_string())?,
            watches: Watches::new().ok(),
            feeds: Vec::new(),
            refused: BTreeMap::new(),
            correlator: Correlator::resume(memory, now.mono),
            copies: Copies::default(),
            serial: 0,
            since,
            whole_until: since,
            missing: Vec::new(),
            next_scan: now.mono,
            scanned: false,
            state,
            resumed: kept.is_some(),
            changed: true,
            saved: now.mono,
        };
        source.open_fixed(kept.as_ref(), now);
        source.open_journals(kept.as_ref(), now);
        source.choice = source.judge()?;
        source.scan(now);
        Ok(source)
    }

    /// Looks which files there are now.
    fn scan(&mut self, now: Now) {
        self.next_scan = now.mono.after(RESCAN);
        self.feeds.retain_mut(|feed| feed.is_needed(now.mono));
        self.open_refused(now);
        for found in self.find_journals().into_iter().filter(|found| found.active) {
            if self.feeds.iter().any(|feed| feed.is_journal_at(&found.path)) {
                continue;
            }
            // Of a file that takes the place of a full one all is new; another one may have been filled before.
            let follows = self.feeds.iter().any(|feed| feed.path() == found.path);
            let since = (!follows).then_some(self.since.utc);
            match journal_files::open(&found.path, QUERY) {
                Ok(journal) => {
                    self.refused.remove(&found.path);
                    self.feeds.push(Feed::journal(found, journal, since, now.mono));
                }
                Err(error) => {
                    let why = error.to_string();
                    if self.refused.get(&found.path) != Some(&why) {
                        self.missing.push(format!("{} {why}", found.path.display()));
                        self.refused.insert(found.path, why);
                    }
                }
            }
        }
        let directories =
            PLACES.iter().map(|place| self.host.path(place)).chain(journal_files::directories(&self.host));
        let directories: Vec<PathBuf> = directories.collect();
        if let Some(watches) = &mut self.watches {
            let files = self.feeds.iter().map(Feed::path);
            if let Err(error) = watches.set(files, directories.iter().map(PathBuf::as_path)) {
                tracing::warn!(%error, "cannot be told of changes to the logs; looking once a second");
                self.watches = None;
            }
        }
        self.scanned = true;
        self.look_again();
    }

    fn look_again(&mut self) {
        self.feeds.iter_mut().for_each(Feed::look_again);
    }

    /// Reads what there is, the oldest first; `true` if more is at hand.
    fn turn(&mut self, now: Now, out: &mut Vec<Observation>, limit: usize) -> bool {
        let zone = self.clock.zone();
        let mut reading = Reading {
            now,
            zone: &zone,
            patience: PATIENCE,
            missing: Vec::new(),
            users: &mut self.users,
            copies: &mut self.copies,
        };
        let (mut told, mut more) = (Vec::new(), false);
        while told.len() < limit {
            let fronts: Result<Vec<_>, ()> = self.feeds.iter_mut().map(|feed| feed.front(&mut reading)).collect();
            let Ok(fronts) = fronts else {
                more = true;
                break;
            };
            let oldest = fronts.into_iter().zip(0_usize..).filter_map(|(at, place)| Some((at?, place))).min();
            let Some(sighting) = oldest.and_then(|(_, place)| self.feeds.get_mut(place)?.pop()) else { break };
            self.changed = true;
            told.extend(self.correlator.see(sighting, now.mono));
        }
        more |= told.len() >= limit;
        self.missing.append(&mut reading.missing);
        told.extend(self.correlator.due(now.mono));
        self.changed |= !told.is_empty();
        out.extend(told.iter().map(|attempt| self.observe(attempt, now)));
        more
    }

    fn observe(&mut self, attempt: &Attempt, now: Now) -> Observation {
        let what = Payload::Login(event::make(attempt, &self.host, &mut self.users));
        let serial = self.serial;
        self.serial += 1;
        // A log that is ahead of the clock was written before it was set.
        let at = Timestamp { utc: attempt.at.min(now.wall.utc), ..now.wall };
        Observation { at, serial, what }
    }

    /// Keeps up to where everything was read. What was given before this drain was handed on.
    fn keep(&mut self, now: Now, at_once: bool) {
        let every = if self.changed { SAVE } else { SAVE_PLACES };
        let moved = self.changed || self.feeds.iter().any(|feed| feed.moved);
        let due = at_once || self.saved.after(every) <= now.mono;
        let Some(path) = self.state.as_ref().filter(|_| moved && due) else { return };
        let mut state = State::new(now.wall.utc, self.correlator.memory(state::TOLD));
        for (_, path) in FIXED {
            let real = self.host.path(path);
            if let Some(place) = self.feeds.iter().find(|feed| feed.path() == real).and_then(Feed::place) {
                state.files.insert(path.to_owned(), place);
            }
        }
        let journals = self.feeds.iter().filter_map(Feed::sequence);
        state.journals = journals.map(|(id, sequence)| (format!("{id:032x}"), sequence)).collect();
        if let Err(error) = state.save(path) {
            tracing::warn!(path = %path.display(), %error, "cannot keep the places in the logs");
        }
        self.feeds.iter_mut().for_each(|feed| feed.moved = false);
        (self.changed, self.saved) = (false, now.mono);
    }

    /// Waits until something was written, an attempt is due, or the time is up. `false` if it was called.
    fn wait(&mut self, left: Duration) -> std::io::Result<bool> {
        let Some(watches) = &mut self.watches else {
            let woken = self.flag.wait(None, left.min(LOOK))?;
            self.next_scan = self.clock.now().mono;
            return Ok(woken != Woken::Called);
        };
        match self.flag.wait(Some(watches.as_fd()), left)? {
            Woken::Called => return Ok(false),
            Woken::Elapsed => return Ok(true),
            Woken::Ready => {}
        }
        let called = self.flag.wait(None, SETTLE)? == Woken::Called;
        if watches.take()?.appeared {
            self.next_scan = self.clock.now().mono;
        }
        self.look_again();
        Ok(!called)
    }

    fn gather(&mut self, wait: Duration, out: &mut Vec<Observation>) -> std::io::Result<()> {
        let mut now = self.clock.now();
        let until = now.mono.after(wait);
        self.keep(now, false);
        self.look_again();
        loop {
            if self.next_scan <= now.mono {
                self.scan(now);
            }
            let more = self.turn(now, out, BATCH);
            // Only now it is known whether a file that took the place of another one can be read.
            if !more && std::mem::take(&mut self.scanned) {
                self.choice = self.judge().unwrap_or_else(health::blind);
            }
            if !out.is_empty() || !self.missing.is_empty() || more || now.mono >= until {
                return Ok(());
            }
            let end = self.correlator.next_due().into_iter().chain([until, self.next_scan]).min().unwrap_or(until);
            self.whole_until = now.wall;
            if !self.wait(end.since(now.mono))? {
                return Ok(());
            }
            now = self.clock.now();
        }
    }
}

impl Source for LoginSource {
    fn choice(&self) -> &SourceChoice {
        &self.choice
    }

    fn waker(&self) -> Waker {
        self.flag.waker()
    }

    fn resumed(&self) -> EventSet {
        if self.resumed { EVENTS } else { EventSet::NONE }
    }

    fn want(&mut self, events: EventSet) -> Result<(), SourceError> {
        if !events.contains(EventName::Login)
            && let Some(path) = self.state.take()
        {
            state::forget(&path);
        }
        Ok(())
    }

    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
        let mut found = Vec::new();
        let result = self.gather(wait, &mut found);
        out.append(&mut found);
        result.map_err(|source| SourceError::Broken { name: NAME, source })?;
        Ok(Drained { losses: self.losses() })
    }
}

impl LoginSource {
    /// What is missing, as one loss.
    fn losses(&mut self) -> Vec<Loss> {
        let mut missing = std::mem::take(&mut self.missing);
        missing.dedup();
        if missing.is_empty() {
            return Vec::new();
        }
        let (count, end) = (missing.len(), self.clock.now().wall);
        missing.truncate(4);
        let mut reason = missing.join("; ");
        if count > missing.len() {
            reason.push_str("; and more");
        }
        let start = std::mem::replace(&mut self.whole_until, end);
        vec![Loss { events: EVENTS, start, end, at_most: None, reason }]
    }
}

impl Drop for LoginSource {
    fn drop(&mut self) {
        self.keep(self.clock.now(), true);
    }
}

/// Removes what is kept: what is written from now on is not wanted.
pub(in crate::collect) fn forget(directory: &Path) {
    state::forget(&directory.join(state::NAME));
}

#[cfg(test)]
mod tests;
