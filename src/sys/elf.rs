//! For which processors the programs of a system are built, from the header of one of them (`elf(5)`).
//!
//! ```text
//! 0   7f 45 4c 46        4   u8  1: 32 bits, 2: 64 bits        5   u8  1: little, 2: big endian
//! 18  u16 machine        32 bits: 36 u32 flags                 64 bits: 48 u32 flags
//! ```
//!
//! All numbers are in the byte order of the file.

use std::borrow::Cow;

/// How much of a program is looked at: its header, and the name of its loader, which linkers put right behind it.
pub const HEAD: usize = 4096;

const ARM_HARD_FLOAT: u32 = 0x400;
const MIPS_N32: u32 = 0x20;

/// The architecture of a program, under the name that Debian has for it (`dpkg-architecture(1)`), so that `armhf` is told
/// from `armel`. `None` if it is no program.
#[must_use]
pub fn architecture(head: &[u8]) -> Option<Cow<'static, str>> {
    let rest = head.strip_prefix(b"\x7fELF")?;
    let (wide, little) = match rest {
        [wide @ 1..=2, order @ 1..=2, ..] => (*wide == 2, *order == 1),
        _ => return None,
    };
    let number = |offset: usize, length: usize| -> Option<u32> {
        let bytes = head.get(offset..offset.checked_add(length)?)?;
        let add = |sum: u32, byte: &u8| (sum << 8) | u32::from(*byte);
        Some(if little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    };
    let flags = number(if wide { 48 } else { 36 }, 4)?;
    let name = match (number(18, 2)?, wide, little) {
        (3, ..) => "i386",
        (4, ..) => "m68k",
        (8, false, true) if flags & MIPS_N32 != 0 => "mipsn32el",
        (8, false, false) if flags & MIPS_N32 != 0 => "mipsn32",
        (8, false, true) => "mipsel",
        (8, false, false) => "mips",
        (8, true, true) => "mips64el",
        (8, true, false) => "mips64",
        (20, ..) => "powerpc",
        (21, _, true) => "ppc64el",
        (21, _, false) => "ppc64",
        (22, ..) => "s390x",
        (40, _, true) if flags & ARM_HARD_FLOAT != 0 || names_hard_float(head) => "armhf",
        (40, _, true) => "armel",
        (40, _, false) => "armeb",
        (42, ..) => "sh4",
        (62, true, _) => "amd64",
        (62, false, _) => "x32",
        (183, true, _) => "arm64",
        (183, false, _) => "arm64ilp32",
        (243, true, _) => "riscv64",
        (243, false, _) => "riscv32",
        (258, ..) => "loong64",
        (other, ..) => return Some(Cow::Owned(format!("ELF machine {other}"))),
    };
    Some(Cow::Borrowed(name))
}

/// Linkers do not write the flag into every kind of program, but the name of the loader has it.
fn names_hard_float(head: &[u8]) -> bool {
    let loaders = [b"/lib/ld-linux-armhf.so".as_slice(), b"/lib/ld-musl-armhf.so"];
    loaders.iter().any(|loader| head.windows(loader.len()).any(|window| window == *loader))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(wide: bool, little: bool, machine: u16, flags: u32) -> Vec<u8> {
        let mut head = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(wide), 2 - u8::from(little)];
        head.resize(64, 0);
        let at = if wide { 48 } else { 36 };
        let (machine, flags) = if little {
            (machine.to_le_bytes(), flags.to_le_bytes())
        } else {
            (machine.to_be_bytes(), flags.to_be_bytes())
        };
        head[18..20].copy_from_slice(&machine);
        head[at..at + 4].copy_from_slice(&flags);
        head
    }

    #[test]
    fn architectures_have_debians_names() {
        for (wide, little, machine, flags, name) in [
            (false, true, 40, 0x0500_0400, "armhf"),
            (false, true, 40, 0x0500_0200, "armel"),
            (true, true, 183, 0, "arm64"),
            (true, true, 62, 0, "amd64"),
            (false, true, 62, 0, "x32"),
            (false, true, 3, 0, "i386"),
            (true, true, 243, 5, "riscv64"),
            (false, false, 8, 0x7000_1007, "mips"),
            (true, true, 8, 0x8000_0007, "mips64el"),
            (true, true, 21, 2, "ppc64el"),
            (true, false, 22, 0, "s390x"),
            (false, true, 94, 0, "ELF machine 94"),
        ] {
            assert_eq!(architecture(&header(wide, little, machine, flags)).as_deref(), Some(name));
        }
    }

    #[test]
    fn the_loader_tells_what_the_flags_do_not() {
        let mut head = header(false, true, 40, 0x0500_0000);
        assert_eq!(architecture(&head).as_deref(), Some("armel"));
        head.extend(b"/lib/ld-linux-armhf.so.3\0");
        assert_eq!(architecture(&head).as_deref(), Some("armhf"));
    }

    #[test]
    fn what_is_no_program_has_none() {
        let whole = header(true, true, 62, 0);
        for length in 0..52 {
            assert_eq!(architecture(&whole[..length]), None);
        }
        assert_eq!(architecture(b"#!/bin/sh\n"), None);
        assert_eq!(architecture(b"\x7fELF\x03\x01 and so on, and so on, and so on, and so on, and so on"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = architecture(&bytes);
            let _ = architecture(&[b"\x7fELF".as_slice(), &bytes].concat());
        }
    }
}
