//! What a file is to the kernel that is asked to run it, from its beginning.
//!
//! A script begins with `#!`, blanks, and the path of its interpreter up to the next blank, NUL or line end; the kernel
//! reads 256 bytes for it. A program is in ELF (`elf(5)`), in its own byte order:
//!
//! ```text
//! 0   7f 45 4c 46                    4   u8  1: 32 bits, 2: 64 bits   5   u8  1: little, 2: big endian
//! 16  u16 type: 2 EXEC, 3 DYN
//! 32 bits: 28 u32 where the program headers are, 42 u16 the length of one, 44 u16 how many
//! 64 bits: 32 u64                                54 u16                    56 u16
//! program header: 0 u32 type: 3 INTERP, the path of the program that loads this one
//! ```

/// How much of a file is looked at: its header, and as many program headers as linkers write.
pub const HEAD: usize = 4096;
const SCRIPT_LINE: usize = 256;
const INTERP: u32 = 3;
const EXEC: u16 = 2;
const DYN: u16 = 3;

/// What the kernel makes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It runs another program with it.
    Script {
        /// That program's path, as the file names it.
        interpreter: String,
    },
    /// A program that another one loads (`ld.so`), whose file is opened next.
    Dynamic,
    /// A program that can be anywhere in memory and needs nobody to load it: a loader itself, or linked whole.
    Loader,
    /// A program that is linked whole.
    Static,
    /// Something else: a program for another machine, a script without `#!`, or what `binfmt_misc` knows.
    Other,
}

impl Kind {
    /// Looks at the first [`HEAD`] bytes of a file.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        if let Some(line) = head.strip_prefix(b"#!") {
            return script(line.get(..SCRIPT_LINE).unwrap_or(line)).unwrap_or(Self::Other);
        }
        elf(head).unwrap_or(Self::Other)
    }
}

fn script(line: &[u8]) -> Option<Kind> {
    let line = line.split(|byte| matches!(byte, b'\n' | 0)).next()?.trim_ascii_start();
    let path = line.split(|byte| matches!(byte, b' ' | b'\t')).next().filter(|path| !path.is_empty())?;
    Some(Kind::Script { interpreter: String::from_utf8_lossy(path).into_owned() })
}

/// Numbers in the byte order of a file.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl Reader<'_> {
    /// A number of `N` bytes.
    fn number<const N: usize>(self, offset: usize) -> Option<u64> {
        let bytes: &[u8; N] = self.bytes.get(offset..)?.first_chunk()?;
        let add = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
        Some(if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    }
}

fn elf(head: &[u8]) -> Option<Kind> {
    let rest = head.strip_prefix(b"\x7fELF")?;
    let wide = *rest.first()? == 2;
    let file = Reader { bytes: head, little: *rest.get(1)? == 1 };
    let kind = u16::try_from(file.number::<2>(16)?).ok()?;
    let (at, length, count) = if wide {
        (file.number::<8>(32)?, file.number::<2>(54)?, file.number::<2>(56)?)
    } else {
        (file.number::<4>(28)?, file.number::<2>(42)?, file.number::<2>(44)?)
    };
    let (at, length) = (usize::try_from(at).ok()?, usize::try_from(length).ok()?);
    let header = |index: u64| at.checked_add(length.checked_mul(usize::try_from(index).ok()?)?);
    let mut kinds = (0..count).map_while(|index| file.number::<4>(header(index)?));
    let interpreted = length >= 4 && kinds.any(|kind| kind == u64::from(INTERP));
    Some(match (kind, interpreted) {
        (EXEC | DYN, true) => Kind::Dynamic,
        (DYN, false) => Kind::Loader,
        (EXEC, false) => Kind::Static,
        _ => Kind::Other,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn program(wide: bool, little: bool, kind: u16, headers: &[u32]) -> Vec<u8> {
        let (size, length) = if wide { (64, 56) } else { (52, 32) };
        let mut bytes = vec![0; size + length * headers.len()];
        let mut put = |at: usize, width: usize, number: u64| {
            let ordered: Vec<u8> = if little {
                number.to_le_bytes()[..width].to_vec()
            } else {
                number.to_be_bytes()[8 - width..].to_vec()
            };
            bytes[at..at + width].copy_from_slice(&ordered);
        };
        put(16, 2, u64::from(kind));
        let [at, each, count] = if wide { [32, 54, 56] } else { [28, 42, 44] };
        put(at, if wide { 8 } else { 4 }, size as u64);
        put(each, 2, length as u64);
        put(count, 2, headers.len() as u64);
        for (index, header) in headers.iter().enumerate() {
            put(size + length * index, 4, u64::from(*header));
        }
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[4] = if wide { 2 } else { 1 };
        bytes[5] = if little { 1 } else { 2 };
        bytes
    }

    #[test]
    fn programs_of_every_machine_are_known() {
        for (wide, little) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(Kind::of(&program(wide, little, 3, &[6, 3, 1])), Kind::Dynamic);
            assert_eq!(Kind::of(&program(wide, little, 2, &[6, 3, 1])), Kind::Dynamic);
            assert_eq!(Kind::of(&program(wide, little, 3, &[1, 1])), Kind::Loader);
            assert_eq!(Kind::of(&program(wide, little, 2, &[1])), Kind::Static);
            assert_eq!(Kind::of(&program(wide, little, 1, &[])), Kind::Other);
        }
        assert_eq!(Kind::of(&std::fs::read("/bin/true").unwrap()), Kind::Dynamic);
    }

    #[test]
    fn a_script_names_its_interpreter() {
        let script = |interpreter: &str| Kind::Script { interpreter: interpreter.to_owned() };
        assert_eq!(Kind::of(b"#!/bin/sh\nexit"), script("/bin/sh"));
        assert_eq!(Kind::of(b"#! \t /usr/bin/env  python3 -u\n"), script("/usr/bin/env"));
        assert_eq!(Kind::of(b"#!/bin/busybox"), script("/bin/busybox"));
        assert_eq!(Kind::of(b"#! \n/bin/sh"), Kind::Other);
        assert_eq!(Kind::of(b"echo"), Kind::Other);
        assert_eq!(Kind::of(b""), Kind::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..300), elf: bool) {
            if elf && let Some(head) = bytes.first_chunk_mut() {
                *head = *b"\x7fELF";
            }
            let _ = Kind::of(&bytes);
        }
    }
}
