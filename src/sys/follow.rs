//! Following a file that other programs write at the end: log lines, or records of one size.
//!
//! Only whole lines and records are given, so what is half written is read later. A file that was renamed and replaced
//! is read to its end first, and for [`LINGER`] it is looked at again, because its writer learns of the new one late. A
//! file that became shorter was cut and is read from its start.
//!
//! A [`Place`] names a file by its inode, so that it is found again under its next name (`NAME.1`, `NAME-20260701`), and
//! by how it begins, because the inode of a file that was removed is used again.

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
    /// FNV-1a hash of the first 256 of them, or of all if they are fewer.
    pub start: u64,
}

/// What is whole.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Lines.
    Line,
    /// Records; how long one is, told from the start of the file. Never 0.
    Record(fn(&[u8]) -> usize),
}

/// Where following begins.
#[derive(Clone, Copy, Debug)]
pub enum From<'a> {
    /// At the end of what is there.
    End,
    /// At the start of what is there.
    Start,
    /// Where it was left.
    Place(&'a Place),
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
    /// Whole units; how long a record is, 0 for lines.
    Some(usize),
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
        Ok(Self {
            file,
            place: Place { device: meta.dev(), inode: meta.ino(), offset: 0, start: 0 },
            left: None,
            in_line: false,
        })
    }

    fn is(&self, (device, inode): (u64, u64)) -> bool {
        (self.place.device, self.place.inode) == (device, inode)
    }

    /// Whether it is the file that was read before.
    fn was(&self, place: &Place) -> bool {
        self.is((place.device, place.inode)) && self.start(place.offset).is_ok_and(|start| start == place.start)
    }

    /// Hash of how it begins, of at most `length` bytes.
    fn start(&self, length: u64) -> io::Result<u64> {
        let mut bytes = [0; 256];
        let wanted = usize::try_from(length).unwrap_or(bytes.len()).min(bytes.len());
        let room = bytes.get_mut(..wanted).unwrap_or_default();
        let got = self.file.read_at(room, 0)?;
        let read = room.get(..got).unwrap_or_default();
        Ok(read
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
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

    /// Whether the file that is read is the one that the path names.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let named = fs::metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        self.files.back().is_some_and(|file| named.is_ok_and(|named| file.is(named)))
    }

    /// Begins, but no more than `limit` bytes before the end.
    ///
    /// # Errors
    /// The file is there and may not be read.
    pub fn begin(&mut self, from: From<'_>, limit: u64, now: Mono) -> io::Result<Begun> {
        self.files.clear();
        let mut current = match Followed::open(&self.path) {
            Ok(current) => current,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Begun::Absent),
            Err(error) => return Err(error),
        };
        let place = match from {
            From::End => {
                // A record that is being written is given when it is whole.
                let (length, unit) = (current.length()?, current.unit(self.unit)?);
                current.place.offset = if unit == 0 { length } else { length - length % unit as u64 };
                self.files.push_back(current);
                return Ok(Begun::AtEnd);
            }
            From::Start => &Place { start: current.start(0)?, ..current.place },
            From::Place(place) => place,
        };
        let mut begun = Begun::Resumed;
        if current.was(place) {
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
            .find_map(|entry| Followed::open(&entry.path()).ok().filter(|file| file.was(place)))
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
            while let Some(size) = read_units(file, self.unit, into)? {
                if !into.is_empty() {
                    return Ok(Got::Some(size));
                }
            }
        }
        Ok(Got::Nothing)
    }

    /// Notices a new file, and forgets the one that was renamed long ago.
    fn look(&mut self, now: Mono) -> io::Result<()> {
        self.files.retain(|file| file.left.is_none_or(|left| now.since(left) < LINGER));
        let Ok(meta) = fs::metadata(&self.path) else { return Ok(()) };
        let place = (meta.dev(), meta.ino());
        for file in self.files.iter_mut().filter(|file| !file.is(place)) {
            file.left.get_or_insert(now);
        }
        if self.files.back().is_none_or(|file| !file.is(place)) {
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

    /// What stands before the place, at most so many whole records of it.
    ///
    /// # Errors
    /// Those of reading.
    pub fn before(&self, records: u32) -> io::Result<Vec<u8>> {
        let Some(file) = self.files.back() else { return Ok(Vec::new()) };
        let size = file.unit(self.unit)?.max(1) as u64;
        let length = file.place.offset.min(size * u64::from(records));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let got = file.file.read_at(&mut bytes, file.place.offset - length)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// Where the newest file was read up to.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let file = self.files.back()?;
        Some(Place { start: file.start(file.place.offset).ok()?, ..file.place })
    }
}

impl Begun {
    /// The first of the two that tells of something missing.
    fn and(self, other: Self) -> Self {
        if matches!(self, Self::Missing(_)) { self } else { other }
    }
}

/// Appends the next whole units and gives the size of a record; `None` if there is nothing whole.
fn read_units(file: &mut Followed, unit: Unit, into: &mut Vec<u8>) -> io::Result<Option<usize>> {
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
        return Ok(endless.then_some(size));
    }
    file.place.offset += whole as u64;
    let mut from = 0;
    if std::mem::take(&mut file.in_line) {
        from = chunk.iter().position(|byte| *byte == b'\n').map_or(whole, |at| at + 1);
    }
    into.extend_from_slice(chunk.get(from..whole).unwrap_or_default());
    Ok(Some(size))
}

#[cfg(test)]
mod tests;
