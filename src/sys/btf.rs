//! Where the members of the kernel's own structures stand, from its type information (BTF,
//! `Documentation/bpf/btf.rst` of the kernel; on the machine `/sys/kernel/btf/vmlinux`, about 5 MB).
//!
//! All numbers are in the machine's byte order. Offsets of the two sections count from the end of the header:
//!
//! ```text
//! header   0  u16  0xeb9f                 types    0  u32  offset of the name; 0: has none
//!          2  u8   version, 1                      4  u32  bits 0-15: count, 24-28: kind, 31: bit fields inside
//!          3  u8   flags                           8  u32  size, or another type
//!          4  u32  length of the header           12  what belongs to the kind: see `tail`
//!          8  u32  offset of the types
//!         12  u32  their length           strings  texts that end with NUL; the first one is empty
//!         16  u32  offset of the strings
//!         20  u32  their length           member   0  u32  offset of the name
//!                                                  4  u32  type
//!                                                  8  u32  offset in bits; of a structure with bit fields inside
//!                                                          only bits 0-23, and bits 24-31 are the field's width
//! ```
//!
//! Types are numbered from 1, in their order. The file is read in pieces and never held: once for the names that are
//! wanted, once for the structures, and once more for each level of structures without a name inside them.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const HEADER: u64 = 24;
/// Far above any kernel's: 64 MiB of types, and as much of strings.
const SECTION_LIMIT: u32 = 64 << 20;
/// Longest name that can be wanted, in bytes.
const NAME_LIMIT: usize = 64;
/// Most names, and most structures without a name that are looked into.
const LIST_LIMIT: usize = 256;
/// Most readings of the types.
const LEVELS: usize = 8;

/// Why the type information is of no use.
#[derive(Debug, Error)]
pub enum BtfError {
    /// It cannot be read: most often, this kernel has none (`CONFIG_DEBUG_INFO_BTF`).
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else, or of another byte order.
    #[error("it is no type information of this machine's byte order")]
    Foreign,
    /// Its parts do not fit together.
    #[error("it is damaged, or larger than any that is known")]
    Damaged,
    /// A newer kernel has a kind of type that is not known here, so what follows it cannot be found.
    #[error("it has types of kind {0}, which this version does not know")]
    UnknownKind(u32),
}

/// A member of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Name of the structure.
    pub structure: &'a str,
    /// Name of the member, which may stand in a structure without a name inside it.
    pub name: &'a str,
}

/// Finds where members stand, in bytes from the start of their structure; `None` for one that this kernel does not have,
/// and for a bit field. Names of more than 64 bytes are not found, and of more than 256 names the rest.
///
/// # Errors
/// The source cannot be read or is no type information.
pub fn offsets(source: impl Read + Seek, wanted: &[Member<'_>]) -> Result<Vec<Option<u32>>, BtfError> {
    let mut file = Section { source: BufReader::new(source), left: HEADER };
    let header = Header::read(&mut file)?;
    file.enter(header.strings)?;
    let names = Names::find(&mut file, wanted)?;
    let mut found = Found { offsets: vec![None; wanted.len()], seen: Vec::new(), inner: Vec::new() };
    for level in 0..LEVELS {
        file.enter(header.types)?;
        found.read(&mut file, level == 0, wanted, &names)?;
        if found.inner.is_empty() {
            break;
        }
    }
    Ok(found.offsets)
}

/// A part of the file: where it begins, and its length.
#[derive(Clone, Copy)]
struct Part(u64, u32);

struct Header {
    types: Part,
    strings: Part,
}

impl Header {
    fn read<R: Read + Seek>(file: &mut Section<R>) -> Result<Self, BtfError> {
        let [low, high, version, _] = file.bytes()?;
        if u16::from_ne_bytes([low, high]) != MAGIC || version != 1 {
            return Err(BtfError::Foreign);
        }
        let length = u64::from(file.number()?);
        let mut part = || -> Result<Part, BtfError> {
            let (offset, length_of_part) = (file.number()?, file.number()?);
            if length < HEADER || length_of_part > SECTION_LIMIT {
                return Err(BtfError::Damaged);
            }
            Ok(Part(length + u64::from(offset), length_of_part))
        };
        Ok(Self { types: part()?, strings: part()? })
    }
}

/// The part that is being read.
struct Section<R> {
    source: BufReader<R>,
    /// Bytes of it that are not read yet.
    left: u64,
}

impl<R: Read + Seek> Section<R> {
    fn enter(&mut self, part: Part) -> Result<(), BtfError> {
        self.source.seek(SeekFrom::Start(part.0))?;
        self.left = u64::from(part.1);
        Ok(())
    }

    fn take(&mut self, length: u64) -> Result<(), BtfError> {
        self.left = self.left.checked_sub(length).ok_or(BtfError::Damaged)?;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], BtfError> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, BtfError> {
        Ok(u32::from_ne_bytes(self.bytes()?))
    }

    fn skip(&mut self, length: u64) -> Result<(), BtfError> {
        self.take(length)?;
        Ok(self.source.seek_relative(length.cast_signed())?)
    }
}

/// Where the wanted names stand among the strings.
struct Names {
    /// Offset, and which of `wanted` has it as its structure or as its member.
    found: Vec<(u32, usize, Role)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Structure,
    Member,
}

impl Names {
    fn find<R: Read + Seek>(file: &mut Section<R>, wanted: &[Member<'_>]) -> Result<Self, BtfError> {
        let mut names = Self { found: Vec::new() };
        let mut text = [0_u8; NAME_LIMIT];
        let (mut at, mut start, mut length) = (0_u32, 0_u32, 0_usize);
        while file.left > 0 {
            let [byte] = file.bytes()?;
            at += 1;
            if byte != 0 {
                if let Some(place) = text.get_mut(length) {
                    *place = byte;
                }
                length += 1;
                continue;
            }
            if let Some(name) = text.get(..length).filter(|name| !name.is_empty()) {
                names.note(name, start, wanted);
            }
            (start, length) = (at, 0);
        }
        Ok(names)
    }

    fn note(&mut self, name: &[u8], offset: u32, wanted: &[Member<'_>]) {
        for (index, member) in wanted.iter().enumerate().take(LIST_LIMIT) {
            for (text, role) in [(member.structure, Role::Structure), (member.name, Role::Member)] {
                if text.as_bytes() == name && self.found.len() < 4 * LIST_LIMIT {
                    self.found.push((offset, index, role));
                }
            }
        }
    }

    /// Those of `wanted` that have the name at `offset` in this role.
    fn of(&self, offset: u32, role: Role) -> impl Iterator<Item = usize> {
        self.found.iter().filter(move |(at, _, of)| *at == offset && *of == role).map(|(_, index, _)| *index)
    }
}

/// A structure without a name inside another one.
#[derive(Clone, Copy)]
struct Inner {
    /// Its number.
    number: u32,
    /// One of `wanted` that has the structure around it.
    of: usize,
    /// Where it begins, in bits.
    start: u32,
}

struct Found {
    offsets: Vec<Option<u32>>,
    /// The structures that were read, by one of `wanted` that has it: a second one of the same name is not taken.
    seen: Vec<usize>,
    inner: Vec<Inner>,
}

impl Found {
    /// Reads all types once: the structures by their names, or those inside that the last reading found.
    fn read<R: Read + Seek>(
        &mut self,
        file: &mut Section<R>,
        by_name: bool,
        wanted: &[Member<'_>],
        names: &Names,
    ) -> Result<(), BtfError> {
        let looked_for = std::mem::take(&mut self.inner);
        let mut number = 0_u32;
        while file.left > 0 {
            number += 1;
            let (name, info, _) = (file.number()?, file.number()?, file.number()?);
            let (kind, count) = (info >> 24 & 0x1f, u64::from(info & 0xffff));
            let mut places: Vec<(usize, u32)> = Vec::new();
            if matches!(kind, STRUCT | UNION) {
                if by_name && kind == STRUCT && name != 0 {
                    places.extend(names.of(name, Role::Structure).next().map(|of| (of, 0)));
                    places.retain(|(of, _)| !self.seen.contains(of));
                    self.seen.extend(places.iter().map(|(of, _)| *of));
                }
                places.extend(looked_for.iter().filter(|i| i.number == number).map(|i| (i.of, i.start)));
            }
            if places.is_empty() {
                file.skip(tail(kind, count)?)?;
                continue;
            }
            for _ in 0..count {
                let (name, type_number, place) = (file.number()?, file.number()?, file.number()?);
                let (bits, width) = if info >> 31 == 0 { (place, 0) } else { (place & 0x00ff_ffff, place >> 24) };
                for (of, start) in &places {
                    let Some(at) = start.checked_add(bits) else { return Err(BtfError::Damaged) };
                    self.member(name, type_number, at, width, *of, wanted, names);
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one member with all that is known of it, from one caller")]
    fn member(&mut self, name: u32, number: u32, at: u32, width: u32, of: usize, wanted: &[Member<'_>], names: &Names) {
        if name == 0 {
            if self.inner.len() < LIST_LIMIT {
                self.inner.push(Inner { number, of, start: at });
            }
            return;
        }
        let structure = wanted.get(of).map(|member| member.structure);
        for index in names.of(name, Role::Member) {
            if wanted.get(index).map(|member| member.structure) == structure
                && width == 0
                && at.is_multiple_of(8)
                && let Some(place) = self.offsets.get_mut(index)
            {
                place.get_or_insert(at / 8);
            }
        }
    }
}

const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// How many bytes follow the twelve of each type.
const fn tail(kind: u32, count: u64) -> Result<u64, BtfError> {
    Ok(match kind {
        // Pointer, forward declaration, typedef, volatile, const, restrict, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Enumeration, parameters of a function.
        6 | 13 => 8 * count,
        // Structure, union, section of data, enumeration of 64 bits.
        STRUCT | UNION | 15 | 19 => 12 * count,
        other => return Err(BtfError::UnknownKind(other)),
    })
}

#[cfg(test)]
mod tests;
