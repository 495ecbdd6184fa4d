//! Journal files of systemd, read directly. What is used of the format, as systemd publishes it
//! (<https://systemd.io/JOURNAL_FILE_FORMAT>); all numbers are little-endian, all objects begin at multiples of 8.
//!
//! **Header**, at 0: `LPKSHHRH`; 8 compatible flags; 12 incompatible flags (1 XZ, 2 LZ4, 4 keyed hash, 8 ZSTD, 16
//! compact); 24 id of the file (16 bytes); 88 size of the header; 152 number of entries; 160 the running number of the
//! last entry and 168 of the first; 176 the first entry array; 184 and 192 the times of the first and last entry in
//! microseconds since 1970. An unknown incompatible flag means that the file cannot be read.
//!
//! **Object**: type (1 byte: 1 data, 3 entry, 6 entry array), flags (1 byte: 1, 2, 4 if compressed), 6 unused, size
//! (8 bytes, these 16 included). Then:
//!
//! - *entry*: 16 running number, 24 time (microseconds since 1970), 32 monotonic time, 40 boot id, 56 hash of the whole,
//!   64 its data objects: for each an offset and a hash of 8 bytes each, in a compact file an offset of 4 bytes;
//! - *data*: 48 bytes of hash table links (56 in a compact file), then `FIELD=value`. Compressed ones are passed over:
//!   only large values are compressed;
//! - *entry array*: 16 offset of the next array, 24 offsets of entries (8 bytes each; 4 in a compact file), 0 where
//!   nothing stands yet. The arrays together list all entries in order.
//!
//! The daemon appends and never changes what is there, and counts an entry in the header after it is whole, so a reader
//! takes no lock. A file may still be damaged or made to harm: each read is bounded, arrays must lead forward, and an
//! entry that cannot be read is an error of its own, after which the next one is read.

mod bytes;
mod query;

use std::collections::HashMap;
use std::io;

use thiserror::Error;

pub use bytes::Bytes;
use query::Known;
pub use query::{Entry, Query};

/// Flags that are understood.
const KNOWN_FLAGS: u32 = 0b1_1111;
const COMPACT: u32 = 16;
const COMPRESSED: u8 = 7;
/// Fields of an entry that are looked at, at most; the daemon itself sends some 30.
const ITEMS: usize = 128;
/// Bytes of a field that are read, its name included.
const FIELD: usize = 8192;
/// Data objects that are remembered: those that many entries share.
const CACHE: usize = 1024;
/// Only values up to this size are remembered.
const CACHED: usize = 128;
/// Arrays that are gone through to find a place; they double in size, so this is more than any file has.
const ARRAYS: usize = 4096;

/// Why a file or an entry is not read.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Reading failed.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin as one.
    #[error("is no journal file")]
    NoJournal,
    /// A newer format.
    #[error("has a format that this version does not know (flags {0:#x})")]
    Unknown(u32),
    /// It contradicts itself.
    #[error("is damaged at {at}: {what}")]
    Damaged {
        /// Where, in bytes from the start.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// What the header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Id of the file: it stays when the file is renamed.
    pub id: u128,
    /// How many entries there are.
    pub entries: u64,
    /// Running number of the first one; 0 if there is none.
    pub first: u64,
    /// Running number of the last one.
    pub last: u64,
    /// Time of the first one, in microseconds since 1970.
    pub from: i64,
    /// Time of the last one.
    pub until: i64,
    flags: u32,
    arrays: u64,
    size: u64,
}

/// A journal file, read from a place on.
pub struct Journal<B> {
    bytes: B,
    query: Query,
    header: Header,
    /// The array that is read, the place in it, and how many entries were passed.
    array: u64,
    place: u64,
    passed: u64,
    /// Running number of the last entry that was passed.
    behind: u64,
    cache: HashMap<u64, Known>,
}

impl<B: Bytes> Journal<B> {
    /// Reads the header; stands at the first entry.
    ///
    /// # Errors
    /// It is none, or of a newer format.
    pub fn open(bytes: B, query: Query) -> Result<Self, JournalError> {
        let mut journal = Self {
            bytes,
            query,
            header: Header::default(),
            array: 0,
            place: 0,
            passed: 0,
            behind: 0,
            cache: HashMap::new(),
        };
        journal.look()?;
        Ok(journal)
    }

    /// What the header said at the last look.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Where the bytes come from.
    #[must_use]
    pub const fn bytes(&self) -> &B {
        &self.bytes
    }

    /// Running number of the last entry that was passed and could be read; 0 at the start. The header's may be that of an
    /// entry that is still being written.
    #[must_use]
    pub const fn behind(&self) -> u64 {
        self.behind
    }

    /// Reads the header again; `true` if there are entries that were not passed.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn look(&mut self) -> Result<bool, JournalError> {
        let mut raw = [0; 208];
        if self.bytes.at(0, &mut raw)? < raw.len() || !raw.starts_with(b"LPKSHHRH") {
            return Err(JournalError::NoJournal);
        }
        let flags = u32(&raw, 12);
        if flags & !KNOWN_FLAGS != 0 {
            return Err(JournalError::Unknown(flags));
        }
        let time = |at| i64::try_from(u64(&raw, at)).unwrap_or(i64::MAX);
        self.header = Header {
            id: raw.get(24..40).and_then(|id| id.first_chunk()).map_or(0, |id| u128::from_be_bytes(*id)),
            entries: u64(&raw, 152),
            last: u64(&raw, 160),
            first: u64(&raw, 168),
            from: time(184),
            until: time(192),
            flags,
            arrays: u64(&raw, 176),
            size: u64(&raw, 88).max(208),
        };
        if self.array == 0 {
            self.array = self.header.arrays;
        }
        Ok(self.passed < self.header.entries)
    }

    /// Goes behind the entry with this running number, and all before it.
    ///
    /// # Errors
    /// The arrays are damaged: it then stands where it stood.
    pub fn skip_to(&mut self, sequence: u64) -> Result<(), JournalError> {
        self.skip_while(|number, _| number <= sequence)
    }

    /// Goes behind all entries up to this time, in microseconds since 1970.
    ///
    /// # Errors
    /// As [`Journal::skip_to`].
    pub fn skip_until(&mut self, time: i64) -> Result<(), JournalError> {
        self.skip_while(|_, at| at <= time)
    }

    /// Goes behind the entries for which this holds; they are the first ones.
    fn skip_while(&mut self, holds: impl Fn(u64, i64) -> bool) -> Result<(), JournalError> {
        let (mut array, mut passed, mut behind) = (self.header.arrays, 0, 0);
        for _ in 0..ARRAYS {
            if array == 0 || passed >= self.header.entries {
                (self.array, self.place, self.passed, self.behind) = (array, 0, passed, behind);
                return Ok(());
            }
            let (next, capacity) = self.array_at(array)?;
            let used = capacity.min(self.header.entries - passed);
            // The first place in this array whose entry is not passed.
            let (mut low, mut high) = (0, used);
            while low < high {
                let middle = low + (high - low) / 2;
                let (number, at) = self.stamp(self.listed(array, middle)?)?;
                if holds(number, at) {
                    (low, behind) = (middle + 1, number);
                } else {
                    high = middle;
                }
            }
            passed += low;
            if low < used || next == 0 || used < capacity {
                (self.array, self.place, self.passed, self.behind) = (array, low, passed, behind);
                return Ok(());
            }
            array = next;
        }
        Err(JournalError::Damaged { at: array, what: "too many arrays" })
    }

    /// The next entry that is wanted, looking at no more than `patience`; those that it looks at are taken off it.
    /// `None` at the end, or when the patience is at its end.
    ///
    /// # Errors
    /// One entry cannot be read: the next call goes on behind it. The arrays cannot: every call says so.
    pub fn next(&mut self, patience: &mut usize) -> Result<Option<Entry>, JournalError> {
        while self.passed < self.header.entries && *patience > 0 {
            if self.array == 0 {
                return Err(JournalError::Damaged { at: 0, what: "the arrays end before the entries" });
            }
            let (next, capacity) = self.array_at(self.array)?;
            if self.place >= capacity {
                if next == 0 {
                    return Err(JournalError::Damaged { at: self.array, what: "the arrays end before the entries" });
                }
                (self.array, self.place) = (next, 0);
                *patience -= 1;
                continue;
            }
            let listed = self.listed(self.array, self.place);
            self.place += 1;
            self.passed += 1;
            *patience -= 1;
            if let Some(entry) = self.entry(listed?)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// How many entries were not passed, as of the last look.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.header.entries.saturating_sub(self.passed)
    }

    /// Whether entries are left that were not passed, as of the last look.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.passed < self.header.entries
    }

    const fn is_compact(&self) -> bool {
        self.header.flags & COMPACT != 0
    }

    /// Reads the header of an object; gives its flags and size.
    fn object(&self, at: u64, kind: u8, smallest: u64) -> Result<(u8, u64), JournalError> {
        let damaged = |what| JournalError::Damaged { at, what };
        if at < self.header.size || !at.is_multiple_of(8) {
            return Err(damaged("no place for an object"));
        }
        let raw: [u8; 16] = self.read(at)?;
        let [found, flags, ..] = raw;
        let size = u64(&raw, 8);
        if found != kind {
            return Err(damaged("an object of another type"));
        }
        if size < smallest {
            return Err(damaged("an object that is too small"));
        }
        Ok((flags, size))
    }

    /// The next array, and how many entries this one has room for.
    fn array_at(&self, at: u64) -> Result<(u64, u64), JournalError> {
        let (_, size) = self.object(at, 6, 24)?;
        let next = u64(&self.read::<8>(at + 16)?, 0);
        if next != 0 && next <= at {
            return Err(JournalError::Damaged { at, what: "an array that leads back" });
        }
        Ok((next, (size - 24) / if self.is_compact() { 4 } else { 8 }))
    }

    /// The entry that stands at a place of an array.
    fn listed(&self, array: u64, place: u64) -> Result<u64, JournalError> {
        let width = if self.is_compact() { 4 } else { 8 };
        let at = place.checked_mul(width).and_then(|offset| array.checked_add(24)?.checked_add(offset));
        let at = at.ok_or(JournalError::Damaged { at: array, what: "an array without end" })?;
        Ok(if self.is_compact() { u32(&self.read::<4>(at)?, 0).into() } else { u64(&self.read::<8>(at)?, 0) })
    }

    /// The running number and the time of an entry.
    fn stamp(&self, at: u64) -> Result<(u64, i64), JournalError> {
        self.object(at, 3, 64)?;
        let raw: [u8; 16] = self.read(at + 16)?;
        Ok((u64(&raw, 0), i64::try_from(u64(&raw, 8)).unwrap_or(i64::MAX)))
    }

    /// Reads an entry, if it is wanted.
    fn entry(&mut self, at: u64) -> Result<Option<Entry>, JournalError> {
        let (_, size) = self.object(at, 3, 64)?;
        let fixed: [u8; 48] = self.read(at + 16)?;
        self.behind = u64(&fixed, 0);
        let width = if self.is_compact() { 4 } else { 16 };
        let mut items = [0; ITEMS * 16];
        let length = usize::try_from(size - 64).unwrap_or(usize::MAX).min(ITEMS * width);
        let room = items.get_mut(..length).unwrap_or_default();
        let got = self.bytes.at(at + 64, room)?;
        let items = room.get(..got).unwrap_or_default().chunks_exact(width);
        let offsets: Vec<u64> = items.map(|item| if width == 4 { u32(item, 0).into() } else { u64(item, 0) }).collect();
        // Most entries can be told to be unwanted by what is remembered.
        if offsets.iter().any(|offset| matches!(self.cache.get(offset), Some(Known::Unwanted))) {
            return Ok(None);
        }
        let mut fields = vec![None; self.query.fields.len()];
        for offset in offsets {
            match self.known(offset)? {
                Known::Nothing => {}
                Known::Unwanted => return Ok(None),
                Known::Field(place, value) => {
                    if let Some(field) = fields.get_mut(place).filter(|field| field.is_none()) {
                        *field = Some(value.into_vec());
                    }
                }
            }
        }
        if fields.first().is_none_or(Option::is_none) {
            return Ok(None);
        }
        let at = i64::try_from(u64(&fixed, 8)).unwrap_or(i64::MAX);
        Ok(Some(Entry { sequence: self.behind, at, hash: u64(&fixed, 40), fields }))
    }

    /// What a data object is to the query.
    fn known(&mut self, at: u64) -> Result<Known, JournalError> {
        if let Some(known) = self.cache.get(&at) {
            return Ok(known.clone());
        }
        let links = if self.is_compact() { 72 } else { 64 };
        let (flags, size) = self.object(at, 1, links)?;
        let length = usize::try_from(size - links).unwrap_or(usize::MAX);
        let mut value = vec![0; length.min(FIELD)];
        let got = self.bytes.at(at + links, &mut value)?;
        value.truncate(got);
        let known = if flags & COMPRESSED == 0 { self.query.judge(&value) } else { Known::Nothing };
        if length <= CACHED {
            if self.cache.len() >= CACHE {
                self.cache.clear();
            }
            self.cache.insert(at, known.clone());
        }
        Ok(known)
    }

    fn read<const N: usize>(&self, at: u64) -> Result<[u8; N], JournalError> {
        let mut raw = [0; N];
        if self.bytes.at(at, &mut raw)? < N {
            return Err(JournalError::Damaged { at, what: "it lies beyond the end" });
        }
        Ok(raw)
    }
}

fn u32(raw: &[u8], at: usize) -> u32 {
    raw.get(at..).and_then(|r| r.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

fn u64(raw: &[u8], at: usize) -> u64 {
    raw.get(at..).and_then(|r| r.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests;
