//! Which logs are read: at the start each from its end, or from where it was left; later whatever becomes readable.

use std::path::PathBuf;

use super::super::entries::QUERY;
use super::super::feed::Feed;
use super::super::sighting::Origin;
use super::super::state::State;
use super::{FIXED, LoginSource, health};
use crate::collect::SourceChoice;
use crate::model::time::Now;
use crate::sys::follow::{Begun, From};
use crate::sys::journal::JournalError;
use crate::sys::journal_files::{self, Found};

/// Entries of a journal file that are read of what was written while nobody looked.
const CATCH_UP_ENTRIES: u64 = 50_000;

/// Stands for all files of the journal among what cannot be read.
const THE_JOURNAL: &str = "the journal";
/// Reasons that are told, at most.
const REASONS: usize = 6;

impl LoginSource {
    /// Opens the logs at fixed paths.
    pub(super) fn open_fixed(&mut self, kept: Option<&State>, now: Now) {
        for (origin, path) in FIXED {
            let from = match kept {
                None => From::End,
                // It appeared since then.
                Some(kept) => kept.files.get(path).map_or(From::Start, From::Place),
            };
            self.open_log(origin, path, from, now);
        }
    }

    /// Tries those again that could not be opened: what was written there meanwhile is read.
    pub(super) fn open_refused(&mut self, now: Now) {
        for (origin, path) in FIXED {
            let real = self.host.path(path);
            if !self.feeds.iter().any(|feed| feed.path() == real) {
                self.open_log(origin, path, From::Start, now);
            }
        }
    }

    fn open_log(&mut self, origin: Origin, path: &str, from: From<'_>, now: Now) {
        let real = self.host.path(path);
        match Feed::fixed(origin, real.clone(), from, self.since.utc, now.mono) {
            Ok((feed, begun)) => {
                if let Begun::Missing(what) = begun {
                    self.missing.push(format!("{path}: {what}"));
                }
                self.refused.remove(&real);
                self.feeds.push(feed);
            }
            Err(error) => {
                self.refused.insert(real, error.to_string());
            }
        }
    }

    /// The journal files there are. Those that are gone are not refused any more.
    pub(super) fn find_journals(&mut self) -> Vec<Found> {
        let found = journal_files::find(&self.host);
        let fixed = FIXED.map(|(_, path)| self.host.path(path));
        let there = found.as_deref().unwrap_or_default();
        self.refused.retain(|path, _| fixed.contains(path) || there.iter().any(|found| found.path == *path));
        match found {
            Ok(found) => found,
            Err(error) => {
                self.refused.insert(THE_JOURNAL.into(), error.to_string());
                Vec::new()
            }
        }
    }

    /// Opens the journal: at its end, or where it was left, archives included.
    pub(super) fn open_journals(&mut self, kept: Option<&State>, now: Now) {
        for found in self.find_journals() {
            if found.active || kept.is_some() {
                self.open_journal(found, kept, now);
            }
        }
    }

    /// Which logs are read now, and what that means.
    ///
    /// # Errors
    /// None is; says why.
    pub(super) fn judge(&self) -> Result<SourceChoice, String> {
        let refused = self.refused.iter().map(|(path, why)| (path.as_path(), why));
        let troubled = self.feeds.iter().filter_map(|feed| Some((feed.path(), feed.trouble.as_ref()?)));
        let why_not = refused.chain(troubled).take(REASONS).map(|(path, why)| format!("{}: {why}", path.display()));
        health::choice(&self.readable(), &why_not.collect::<Vec<_>>(), self.watches.is_some())
    }

    fn open_journal(&mut self, found: Found, kept: Option<&State>, now: Now) {
        let path = found.path.clone();
        match self.place_journal(found, kept, now) {
            Ok(Some(feed)) => {
                self.refused.remove(&path);
                self.feeds.push(feed);
            }
            Ok(None) => {}
            Err(error) => {
                self.refused.insert(path, error.to_string());
            }
        }
    }

    fn place_journal(&mut self, found: Found, kept: Option<&State>, now: Now) -> Result<Option<Feed>, JournalError> {
        let mut journal = journal_files::open(&found.path, QUERY)?;
        let header = *journal.header();
        let Some(kept) = kept else {
            journal.skip_to(u64::MAX)?;
            return Ok(Some(Feed::journal(found, journal, None, now.mono)));
        };
        match kept.journals.get(&format!("{:032x}", header.id)) {
            Some(sequence) => journal.skip_to(*sequence)?,
            None => journal.skip_until(self.since.utc.as_microsecond())?,
        }
        if !found.active && !journal.has_more() {
            return Ok(None);
        }
        if journal.left() > CATCH_UP_ENTRIES {
            journal.skip_to(header.last.saturating_sub(CATCH_UP_ENTRIES))?;
            self.missing.push(format!("{}: more was written than is read at once", found.path.display()));
        }
        Ok(Some(Feed::journal(found, journal, None, now.mono)))
    }

    /// The paths that are read, as they stand on the machine.
    fn readable(&self) -> Vec<(Origin, PathBuf)> {
        let there = || self.feeds.iter().filter(|feed| feed.is_there());
        let journals = there().filter(|feed| feed.sequence().is_some());
        let journals = journals.filter_map(|feed| Some((Origin::Journal, feed.path().parent()?.to_owned())));
        let fixed = FIXED.iter().filter_map(|(origin, path)| {
            let path = self.host.path(path);
            there().any(|feed| feed.path() == path).then_some((*origin, path))
        });
        let mut all: Vec<_> = journals.chain(fixed).collect();
        all.dedup();
        all
    }
}
