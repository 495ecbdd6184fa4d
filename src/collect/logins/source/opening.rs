//! What is read at the start: each log from its end, or from where it was left.

use std::path::PathBuf;

use super::super::entries::QUERY;
use super::super::feed::Feed;
use super::super::sighting::Origin;
use super::super::state::State;
use super::{FIXED, LoginSource};
use crate::model::time::Now;
use crate::sys::follow::{Begun, From};
use crate::sys::journal::JournalError;
use crate::sys::journal_files::{self, Found};

/// Entries of a journal file that are read of what was written while nobody looked.
const CATCH_UP_ENTRIES: u64 = 50_000;

impl LoginSource {
    /// Opens the logs at fixed paths; says which cannot be read.
    pub(super) fn open_fixed(&mut self, kept: Option<&State>, now: Now) -> Vec<String> {
        let mut why_not = Vec::new();
        for (origin, path) in FIXED {
            let from = match kept {
                None => From::End,
                // It appeared since then.
                Some(kept) => kept.files.get(path).map_or(From::Start, From::Place),
            };
            match Feed::fixed(origin, self.host.path(path), from, self.since.utc, now.mono) {
                Ok((feed, begun)) => {
                    if let Begun::Missing(what) = begun {
                        self.missing.push(format!("{path}: {what}"));
                    }
                    self.feeds.push(feed);
                }
                Err(error) => why_not.push(format!("{path}: {error}")),
            }
        }
        why_not
    }

    /// Opens the journal: at its end, or where it was left, archives included.
    pub(super) fn open_journals(&mut self, kept: Option<&State>, now: Now) -> Vec<String> {
        let found = match journal_files::find(&self.host) {
            Ok(found) => found,
            Err(error) => return vec![format!("the journal: {error}")],
        };
        for found in found {
            if found.active || kept.is_some() {
                self.open_journal(found, kept, now);
            }
        }
        self.refused.iter().take(2).map(|(path, why)| format!("{}: {why}", path.display())).collect()
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
    pub(super) fn readable(&self) -> Vec<(Origin, PathBuf)> {
        let journals = self.feeds.iter().filter(|feed| feed.sequence().is_some());
        let journals = journals.filter_map(|feed| Some((Origin::Journal, feed.path().parent()?.to_owned())));
        let fixed = FIXED.iter().filter_map(|(origin, path)| {
            let path = self.host.path(path);
            self.feeds.iter().any(|feed| feed.path() == path && feed.is_open()).then_some((*origin, path))
        });
        let mut all: Vec<_> = journals.chain(fixed).collect();
        all.dedup();
        all
    }
}
