//! Following a file that other programs write at the end: log lines, or records of one size.
//!
//! Only whole lines and records are given, so what is half written is read later. A file that was renamed and replaced
//! is read to its end first, and for [`LINGER`] it is looked at again, because its writer learns of the new one late. A
//! file that became shorter was cut and is read from its start.
//!
//! A [`Place`] names a file by its inode, so that it is found again under its next name (`NAME.1`, `NAME-20260701`).

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::time::Mono;

/// How long the renamed file is still looked at.
pub const LINGER: Duration = Duration::from_secs(30);
/// Bytes that are read at once; a longer line is passed over.
const CHUNK: usize = 64 * 1024;
/// Bytes from which the size of a record is told.
const HEAD: usize = 4096;
/// Names among which the renamed file is looked for.
const NAMES: usize = 1024;

/// Where a file was read up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The device that it is on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// Bytes that were read.
    pub offset: u64,
}

/// What is whole.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Lines.
    Line,
    /// Records; how long one is, told from the start of the file. Never 0.
    Record(fn(&[u8]) -> usize),
}

/// How following began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// There is no file yet; it will be read from its start.
    Absent,
    /// At the end.
    AtEnd,
    /// Where it was left; nothing is missing.
    Resumed,
    /// Something between the place and where it begins cannot be read, or is too much.
    Missing(&'static str),
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// Nothing more for now.
    Nothing,
    /// Whole units.
    Some,
    /// The file was cut; what was written between the last read and the cut is lost.
    Cut,
}

#[derive(Debug)]
struct Followed {
    file: File,
    place: Place,
    /// Since when it is no longer under its name.
    left: Option<Mono>,
    /// The rest of a line that was passed over comes first.
    in_line: bool,
}

impl Followed {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self { file, place: Place { device: meta.dev(), inode: meta.ino(), offset: 0 }, left: None, in_line: false })
    }

    fn is(&self, place: &Place) -> bool {
        (self.place.device, self.place.inode) == (place.device, place.inode)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn unit(&self, unit: Unit) -> io::Result<usize> {
        match unit {
            Unit::Line => Ok(0),
            Unit::Record(size) => {
                let mut head = vec![0; HEAD];
                let got = self.file.read_at(&mut head, 0)?;
                head.truncate(got);
                Ok(size(&head).max(1))
            }
        }
    }
}

/// Follows one path.
pub struct Follower {
    path: PathBuf,
    unit: Unit,
    /// The renamed one first.
    files: VecDeque<Followed>,
}

impl Follower {
    /// Nothing is open yet; without [`Follower::begin`] it begins at the start.
    #[must_use]
    pub const fn new(path: PathBuf, unit: Unit) -> Self {
        Self { path, unit, files: VecDeque::new() }
    }

    /// The path that is followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a file is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.files.is_empty()
    }

    /// Begins where it was left, but no more than `limit` bytes before the end; without a place at the end.
    ///
    /// # Errors
    /// The file is there and may not be read.
    pub fn begin(&mut self, place: Option<&Place>, limit: u64, now: Mono) -> io::Result<Begun> {
        self.files.clear();
        let mut current = match Followed::open(&self.path) {
            Ok(current) => current,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Begun::Absent),
            Err(error) => return Err(error),
        };
        let Some(place) = place else {
            // A record that is being written is given when it is whole.
            let (length, unit) = (current.length()?, current.unit(self.unit)?);
            current.place.offset = if unit == 0 { length } else { length - length % unit as u64 };
            self.files.push_back(current);
            return Ok(Begun::AtEnd);
        };
        let mut begun = Begun::Resumed;
        if current.is(place) {
            begun = begun.and(self.resume(&mut current, place.offset, limit)?);
        } else if let Some(mut older) = self.renamed(place) {
            begun =
                begun.and(self.resume(&mut older, place.offset, limit)?).and(self.resume(&mut current, 0, limit)?);
            older.left = Some(now);
            self.files.push_back(older);
        } else {
            self.resume(&mut current, 0, limit)?;
            begun = Begun::Missing("the file that was read before is gone");
        }
        self.files.push_back(current);
        Ok(begun)
    }

    fn resume(&self, file: &mut Followed, offset: u64, limit: u64) -> io::Result<Begun> {
        let (length, unit) = (file.length()?, file.unit(self.unit)?);
        if length < offset {
            file.place.offset = 0;
            return Ok(Begun::Missing("the file was cut"));
        }
        file.place.offset = offset;
        if length - offset <= limit {
            return Ok(Begun::Resumed);
        }
        file.place.offset = length - limit;
        if unit == 0 {
            file.in_line = true;
        } else {
            file.place.offset -= file.place.offset % unit as u64;
        }
        Ok(Begun::Missing("more was written than is read at once"))
    }

    /// The file that was read, under its next name.
    fn renamed(&self, place: &Place) -> Option<Followed> {
        let (directory, name) = (self.path.parent()?, self.path.file_name()?.to_str()?);
        let entries = fs::read_dir(directory).ok()?.flatten().take(NAMES);
        entries
            .filter(|entry| entry.file_name().to_str().is_some_and(|other| other.starts_with(name)))
            .find_map(|entry| Followed::open(&entry.path()).ok().filter(|file| file.is(place)))
    }

    /// Replaces `into` by the next whole units.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(&mut self, now: Mono, into: &mut Vec<u8>) -> io::Result<Got> {
        into.clear();
        self.look(now)?;
        for at in 0..self.files.len() {
            let Some(file) = self.files.get_mut(at) else { break };
            if file.length()? < file.place.offset {
                (file.place.offset, file.in_line) = (0, false);
                return Ok(Got::Cut);
            }
            while read_units(file, self.unit, into)? {
                if !into.is_empty() {
                    return Ok(Got::Some);
                }
            }
        }
        Ok(Got::Nothing)
    }

    /// Notices a new file, and forgets the one that was renamed long ago.
    fn look(&mut self, now: Mono) -> io::Result<()> {
        self.files.retain(|file| file.left.is_none_or(|left| now.since(left) < LINGER));
        let Ok(meta) = fs::metadata(&self.path) else { return Ok(()) };
        let place = Place { device: meta.dev(), inode: meta.ino(), offset: 0 };
        for file in self.files.iter_mut().filter(|file| !file.is(&place)) {
            file.left.get_or_insert(now);
        }
        if self.files.back().is_none_or(|file| !file.is(&place)) {
            match Followed::open(&self.path) {
                Ok(file) => self.files.push_back(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            while self.files.len() > 2 {
                self.files.pop_front();
            }
        }
        Ok(())
    }

    /// Where the newest file was read up to.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.files.back().map(|file| file.place)
    }
}

impl Begun {
    /// The first of the two that tells of something missing.
    fn and(self, other: Self) -> Self {
        if matches!(self, Self::Missing(_)) { self } else { other }
    }
}

/// Appends the next whole units; `false` if there is nothing whole.
fn read_units(file: &mut Followed, unit: Unit, into: &mut Vec<u8>) -> io::Result<bool> {
    let size = file.unit(unit)?;
    let mut chunk = vec![0; if size == 0 { CHUNK } else { CHUNK - CHUNK % size }];
    let got = file.file.read_at(&mut chunk, file.place.offset)?;
    chunk.truncate(got);
    let whole = match size {
        0 => chunk.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        size => got - got % size,
    };
    if whole == 0 {
        // A line without end is passed over; what is half written comes again.
        let endless = got == CHUNK;
        if endless {
            file.place.offset += got as u64;
            file.in_line = true;
        }
        return Ok(endless);
    }
    file.place.offset += whole as u64;
    let mut from = 0;
    if std::mem::take(&mut file.in_line) {
        from = chunk.iter().position(|byte| *byte == b'\n').map_or(whole, |at| at + 1);
    }
    into.extend_from_slice(chunk.get(from..whole).unwrap_or_default());
    Ok(true)
}

#[cfg(test)]
mod tests;
