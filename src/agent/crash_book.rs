//! The book of crashes of a running agent (`crashes.rs`): read and told at the start, asked by whoever starts
//! something, and written anew when what crashed works again. That is a small file and rare: whoever had the success
//! waits for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::model::time::{Mono, Now};
use crate::sys::clock::Clock;
use crate::sys::crash_file::{self, Crash};

use super::crashes::{Held, Ledger, Part, STABLE};

/// See the top of this file. The default one is empty and stays so.
#[derive(Debug, Default)]
pub(super) struct CrashBook {
    file: PathBuf,
    ledger: Mutex<Ledger>,
}

impl CrashBook {
    /// Reads it, and tells the log what is new and what is held back. A file that cannot be read holds nothing back.
    pub(super) fn open(file: PathBuf, now: Now) -> Self {
        let lines = match crash_file::read(&file) {
            Ok(None) => return Self::default(),
            Ok(Some(lines)) => lines,
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "what crashed before cannot be read");
                return Self::default();
            }
        };
        let book = Self { file, ledger: Mutex::new(Ledger::new(lines, now)) };
        for (crash, held) in book.ledger().rows() {
            let Crash { part, times, place, message, untold, .. } = crash;
            let at = format!("{:.3}", crash.last);
            if *untold {
                tracing::error!(part, times, at, place, "the last run ended with a crash: {message}");
            }
            if let Some(held) = held {
                tracing::warn!(part, "held back after a crash: {}", held.why);
            }
        }
        book.write(&book.ledger());
        book
    }

    /// Why this must not run yet, if so.
    pub(super) fn held(&self, part: &Part, now: Mono) -> Option<Held> {
        self.ledger().held(part, now).cloned()
    }

    /// It lives from now on; after a minute it is taken as mended.
    pub(super) fn up(&self, part: &Part, now: Mono) {
        self.ledger().up(part, now);
    }

    /// It ended in another way than by a crash.
    pub(super) fn down(&self, part: &Part) {
        self.ledger().down(part);
    }

    /// It did what it is there for. May wait for the disk, after a crash.
    pub(super) fn worked(&self, part: &Part) {
        let mut ledger = self.ledger();
        if ledger.worked(part) {
            tracing::info!(%part, "works again after a crash");
            self.write(&ledger);
        }
    }

    fn review(&self, now: Mono) {
        let mut ledger = self.ledger();
        if ledger.review(now) {
            self.write(&ledger);
        }
    }

    fn is_empty(&self) -> bool {
        self.ledger().is_empty()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, ledger: &Ledger) {
        let lines: Vec<Crash> = ledger.rows().map(|(crash, _)| Crash { untold: false, ..crash.clone() }).collect();
        if let Err(error) = crash_file::replace(&self.file, &lines) {
            tracing::warn!(%error, file = %self.file.display(), "what crashed cannot be written anew");
        }
    }
}

/// Forgets what has lived for a minute; ends when there is nothing to forget, which is at once after most starts.
pub(super) async fn run(book: Arc<CrashBook>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    while !book.is_empty() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(STABLE) => {}
        }
        let (book, now) = (Arc::clone(&book), clock.now().mono);
        // What is not forgotten now is looked at again.
        let _ = spawn_blocking(move || book.review(now)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::event::EventName;
    use crate::sys::clock::ManualClock;

    const BASELINE: Part = Part::Snapshot(EventName::OSBaseline);

    #[test]
    fn what_works_again_is_out_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = crash_file::path(dir.path());
        let clock = ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap());
        let parts = || crash_file::read(&file).unwrap().unwrap_or_default();
        for part in ["OSBaseline", "core", "core", "link"] {
            crash_file::append(&file, &Crash::new(part, clock.now().wall.utc, "m", "p")).unwrap();
        }
        let book = CrashBook::open(file.clone(), clock.now());
        let stored: Vec<_> = parts().into_iter().map(|crash| (crash.part, crash.times, crash.untold)).collect();
        let expected = [("OSBaseline", 1), ("link", 1), ("core", 2)];
        assert_eq!(stored, expected.map(|(part, times)| (part.to_owned(), times, false)));
        assert!(book.held(&BASELINE, clock.now().mono).is_some());
        book.worked(&BASELINE);
        assert_eq!(book.held(&BASELINE, clock.now().mono), None);
        assert_eq!(parts().len(), 2);
        book.up(&Part::Link, clock.now().mono);
        clock.advance(Duration::from_secs(60));
        assert!(!book.is_empty());
        book.review(clock.now().mono);
        assert!(book.is_empty() && !file.exists());
        // Without a file nothing is ever written.
        let none = CrashBook::open(file.clone(), clock.now());
        none.worked(&BASELINE);
        assert!(!file.exists());
    }
}
