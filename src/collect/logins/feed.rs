//! One log as a queue of sightings in the order of their times.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::entries::{self, Compressed};
use super::records::{Refusals, Sessions};
use super::sighting::{Origin, Sighting};
use super::syslog;
use super::words;
use crate::model::time::{Mono, Now};
use crate::sys::follow::{Begun, Follower, From, Got, LINGER, Place, Unit};
use crate::sys::journal::Journal;
use crate::sys::journal_files::{self, Found};
use crate::sys::passwd::Passwd;
use crate::sys::utmp::{Layout, Record};

/// Sightings that a feed keeps ready.
const READY: usize = 64;
/// Entries of a journal file that are looked at before the others have their turn.
const ENTRIES: usize = 512;
/// Looks in a row that must fail before a journal file is given up.
const FAILURES: u8 = 5;
/// Bytes of a file that are read of what was written while nobody looked.
const CATCH_UP_BYTES: u64 = 4 << 20;
/// Records of wtmp that are gone through for the sessions that are open.
const SESSIONS: u32 = 1024;
/// Copies of journal entries that are recognised: those of the newest so many sightings.
const COPIES: usize = 256;

/// What reading needs besides the log.
pub(super) struct Reading<'a> {
    pub(super) now: Now,
    pub(super) zone: &'a TimeZone,
    /// Entries and chunks that may still be read in this turn.
    pub(super) patience: usize,
    /// What is missing, and whether anything was read.
    pub(super) missing: Vec<String>,
    pub(super) copies: &'a mut Copies,
    pub(super) users: &'a mut Passwd,
}

/// Journal entries that were seen: the daemon copies them when it moves the journal from memory to disk.
#[derive(Debug, Default)]
pub(super) struct Copies(VecDeque<(i64, u64)>);

impl Copies {
    /// Whether it was seen before.
    fn is_copy(&mut self, at: i64, hash: u64) -> bool {
        let key = (at, hash);
        if self.0.contains(&key) {
            return true;
        }
        if self.0.len() >= COPIES {
            self.0.pop_front();
        }
        self.0.push_back(key);
        false
    }
}

/// What is read.
enum Log {
    Lines(Follower),
    Wtmp(Follower, Sessions),
    Btmp(Follower, Refusals),
    Journal(JournalFile),
}

/// A journal file.
struct JournalFile {
    path: PathBuf,
    journal: Journal<File>,
    /// Since when it is not written to any more.
    left: Option<Mono>,
    /// Looks in a row that failed.
    failures: u8,
}

/// See the top of the file.
pub(super) struct Feed {
    log: Log,
    /// While it reads what was there before: what is older is not wanted.
    since: Option<jiff::Timestamp>,
    queue: VecDeque<Sighting>,
    /// Something may be there to be read.
    more: bool,
    /// Bytes or entries were read since the places were last kept.
    pub(super) moved: bool,
    /// Why a log at a fixed path cannot be read since the last look.
    pub(super) trouble: Option<String>,
}

impl Feed {
    const fn over(log: Log, since: Option<jiff::Timestamp>) -> Self {
        Self { log, since, queue: VecDeque::new(), more: true, moved: false, trouble: None }
    }

    /// Follows a log of this origin, which is not the journal. Of what is there already only what is newer than `since`
    /// is given.
    pub(super) fn fixed(
        origin: Origin,
        path: PathBuf,
        from: From<'_>,
        since: jiff::Timestamp,
        now: Mono,
    ) -> std::io::Result<(Self, Begun)> {
        let unit = if origin.is_record() { Unit::Record(|head| Layout::detect(head).size()) } else { Unit::Line };
        let mut follower = Follower::new(path, unit);
        let begun = follower.begin(from, CATCH_UP_BYTES, now)?;
        let log = match origin {
            Origin::Wtmp => {
                let mut sessions = Sessions::default();
                for record in records_in(&follower.before(SESSIONS).unwrap_or_default(), None) {
                    sessions.take(record);
                }
                Log::Wtmp(follower, sessions)
            }
            Origin::Btmp => Log::Btmp(follower, Refusals::default()),
            Origin::Journal | Origin::AuthLog => Log::Lines(follower),
        };
        Ok((Self::over(log, matches!(from, From::Start).then_some(since)), begun))
    }

    /// Reads a journal file on from where it stands.
    pub(super) fn journal(found: Found, journal: Journal<File>, since: Option<jiff::Timestamp>, now: Mono) -> Self {
        let left = (!found.active).then_some(now);
        Self::over(Log::Journal(JournalFile { path: found.path, journal, left, failures: 0 }), since)
    }

    /// The path of the log, as it really stands.
    pub(super) fn path(&self) -> &Path {
        match &self.log {
            Log::Lines(follower) | Log::Wtmp(follower, _) | Log::Btmp(follower, _) => follower.path(),
            Log::Journal(file) => &file.path,
        }
    }

    /// Whether the log is read and still stands where it is written to.
    pub(super) fn is_there(&self) -> bool {
        match &self.log {
            Log::Lines(follower) | Log::Wtmp(follower, _) | Log::Btmp(follower, _) => follower.is_there(),
            Log::Journal(file) => file.left.is_none() && file.failures < FAILURES,
        }
    }

    /// Where a fixed log was read up to.
    pub(super) fn place(&self) -> Option<Place> {
        match &self.log {
            Log::Lines(follower) | Log::Wtmp(follower, _) | Log::Btmp(follower, _) => follower.place(),
            Log::Journal(_) => None,
        }
    }

    /// Id of a journal file, and the running number of the last entry that was read.
    pub(super) fn sequence(&self) -> Option<(u128, u64)> {
        match &self.log {
            Log::Journal(file) => Some((file.journal.header().id, file.journal.behind())),
            _ => None,
        }
    }

    /// Whether this is the journal file that the path names, as long as it is written to.
    pub(super) fn is_journal_at(&self, path: &Path) -> bool {
        matches!(&self.log, Log::Journal(file) if file.left.is_none() && file.path == path)
    }

    /// Notices that a journal file was renamed; `false` once it need not be looked at any more.
    pub(super) fn is_needed(&mut self, now: Mono) -> bool {
        let Log::Journal(file) = &mut self.log else { return true };
        if file.left.is_none() && !journal_files::is_at(&file.journal, &file.path) {
            file.left = Some(now);
        }
        file.left.is_none_or(|left| file.failures < FAILURES && (file.journal.has_more() || now.since(left) < LINGER))
            || !self.queue.is_empty()
    }

    /// Something may have been written.
    pub(super) const fn look_again(&mut self) {
        self.more = true;
    }

    /// When the next sighting was; reads on if none is ready. `Err` if patience ended before that was known.
    pub(super) fn front(&mut self, reading: &mut Reading<'_>) -> Result<Option<jiff::Timestamp>, ()> {
        while self.queue.is_empty() && self.more {
            if reading.patience == 0 {
                return Err(());
            }
            reading.patience -= 1;
            self.refill(reading);
        }
        Ok(self.queue.front().map(|sighting| sighting.at))
    }

    /// Takes the next sighting.
    pub(super) fn pop(&mut self) -> Option<Sighting> {
        self.queue.pop_front()
    }

    fn refill(&mut self, reading: &mut Reading<'_>) {
        let mut fresh = match &mut self.log {
            Log::Journal(file) => {
                let before = file.journal.behind();
                let (more, fresh) = file.read(reading);
                self.more = more;
                self.moved |= file.journal.behind() != before;
                fresh
            }
            Log::Lines(follower) | Log::Wtmp(follower, _) | Log::Btmp(follower, _) => {
                let mut bytes = Vec::new();
                let size = read(follower, reading, &mut bytes, &mut self.trouble);
                self.more = size.is_some();
                self.moved |= !bytes.is_empty();
                match &mut self.log {
                    Log::Wtmp(_, sessions) => {
                        records_in(&bytes, size).filter_map(|record| sessions.take(record)).collect()
                    }
                    Log::Btmp(_, refusals) => records_in(&bytes, size)
                        .filter_map(|record| refusals.take(&record, |name| reading.users.id(name).is_some()))
                        .collect(),
                    Log::Lines(_) | Log::Journal(_) => lines(&bytes, reading),
                }
            }
        };
        // PAM names a user who has no login name by the id alone, where the program has the name.
        for said in fresh.iter_mut().map(|sighting| &mut sighting.said).filter(|said| said.user.is_none()) {
            said.user = said.uid.and_then(|uid| reading.users.name(uid)).map(str::to_owned);
        }
        if let Some(since) = self.since {
            fresh.retain(|sighting: &Sighting| sighting.at > since);
        }
        if !self.more {
            self.since = None;
        }
        self.queue.extend(fresh);
    }
}

/// The next whole lines or records, and how long a record is; `None` if there is nothing more. What stands in the way is
/// told once.
fn read(
    follower: &mut Follower,
    reading: &mut Reading<'_>,
    bytes: &mut Vec<u8>,
    trouble: &mut Option<String>,
) -> Option<usize> {
    let before = trouble.take();
    match follower.read(reading.now.mono, bytes) {
        Ok(Got::Some(size)) => return Some(size),
        Ok(Got::Nothing) => {}
        Ok(Got::Cut) => {
            let name = follower.path().display();
            reading.missing.push(format!("{name} was cut: what was written just before is not known"));
            return Some(0);
        }
        Err(error) => {
            let now = error.to_string();
            if before.as_ref() != Some(&now) {
                reading.missing.push(format!("{} cannot be read: {now}", follower.path().display()));
            }
            *trouble = Some(now);
        }
    }
    None
}

/// The records in these bytes; their layout is told by their size, else by what they say.
fn records_in(bytes: &[u8], size: Option<usize>) -> impl Iterator<Item = Record> {
    let known = [Layout::Narrow, Layout::Wide].into_iter().find(|layout| Some(layout.size()) == size);
    let layout = known.unwrap_or_else(|| Layout::detect(bytes));
    bytes.chunks(layout.size()).filter_map(move |record| layout.read(record))
}

fn lines(bytes: &[u8], reading: &Reading<'_>) -> Vec<Sighting> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.filter_map(|line| line_says(&String::from_utf8_lossy(line), reading.now.wall.utc, reading.zone)).collect()
}

/// What a line of auth.log says about a sign-in.
#[must_use]
pub fn line_says(line: &str, now: jiff::Timestamp, zone: &TimeZone) -> Option<Sighting> {
    let line = syslog::parse(line, now, zone)?;
    let said = words::read(line.program, line.pid, line.text)?;
    Some(Sighting { at: line.at, coarse: line.coarse, origin: Origin::AuthLog, said })
}

impl JournalFile {
    /// Reads on; also whether more may be there.
    fn read(&mut self, reading: &mut Reading<'_>) -> (bool, Vec<Sighting>) {
        let mut seen = Vec::new();
        if self.failures >= FAILURES {
            return (false, seen);
        }
        if let Err(error) = self.journal.look() {
            return (self.fail(reading, &error.to_string()), seen);
        }
        let mut patience = reading.patience.min(ENTRIES);
        let whole = patience;
        let mut compressed = false;
        while seen.len() < READY && patience > 0 && self.journal.has_more() {
            let before = patience;
            match self.journal.next(&mut patience) {
                Ok(None) => {}
                Ok(Some(entry)) => {
                    if !reading.copies.is_copy(entry.at, entry.hash) {
                        match entries::read(&entry) {
                            Ok(sighting) => seen.extend(sighting),
                            Err(Compressed) => compressed = true,
                        }
                    }
                }
                // It stays where it is: there is no way on.
                Err(error) if patience == before => return (self.fail(reading, &error.to_string()), seen),
                Err(error) => reading.missing.push(format!("{}: an entry {error}", self.path.display())),
            }
        }
        self.failures = 0;
        if compressed {
            let name = self.path.display();
            reading.missing.push(format!("{name}: a text is compressed because it is too long for a real name"));
        }
        reading.patience -= whole - patience;
        (self.journal.has_more(), seen)
    }

    /// The daemon may be writing: only what stays is believed.
    fn fail(&mut self, reading: &mut Reading<'_>, error: &str) -> bool {
        self.failures += 1;
        if self.failures == FAILURES {
            reading.missing.push(format!("{} {error}", self.path.display()));
        }
        false
    }
}
