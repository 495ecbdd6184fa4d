//! Login records: `/var/log/wtmp` (sessions that began and ended) and `/var/log/btmp` (refused attempts), `utmp(5)`.
//!
//! A file is a row of records of one size, in the byte order of the machine. Two layouts are in use. Both begin alike;
//! offsets in bytes:
//!
//! | offset | field |
//! |---|---|
//! | 0 | type, 16 bits: 2 boot, 6 login prompt, 7 session, 8 end of a session; then 2 of padding |
//! | 4 | process id, 32 bits |
//! | 8 | terminal without `/dev/`, 32 bytes; text fields end at the first NUL, or are full |
//! | 40 | id of the terminal, 4 bytes |
//! | 44 | user, 32 bytes |
//! | 76 | host: a name or an address, 256 bytes |
//! | 332 | exit status, 2 × 16 bits |
//!
//! What follows has 32-bit numbers where the C library keeps the layout of 32-bit programs (x86, 32-bit ARM):
//! 336 session, 340 seconds, 344 microseconds, 348 address (16 bytes, of which IPv4 uses the first 4), 364 unused;
//! 384 in all. Elsewhere (64-bit ARM, RISC-V) 64-bit ones: 336 session, 344 seconds, 352 microseconds, 360 address,
//! 376 unused; 400 in all. Seconds in 32 bits are taken as unsigned, which lasts until 2106.
//!
//! Which one a file has is not written in it: [`Layout::detect`] looks at what the records would say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How records lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// 384 bytes, 32-bit times.
    Narrow,
    /// 400 bytes, 64-bit times.
    Wide,
}

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The machine was started.
    Boot,
    /// A login prompt; in btmp a refused attempt.
    Prompt,
    /// A session began; in btmp a refused attempt.
    Session,
    /// A session, or another process of a terminal, ended.
    End,
    /// Something else.
    Other,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it tells.
    pub kind: Kind,
    /// Process id.
    pub pid: u32,
    /// Terminal without `/dev/`: `pts/0`, `tty1`, `ssh:notty`.
    pub terminal: String,
    /// User, at most 32 bytes of the name.
    pub user: String,
    /// Where from, as the program wrote it: a name or an address; empty for a local session.
    pub host: String,
    /// Where from, if the program knew.
    pub address: Option<IpAddr>,
    /// When.
    pub at: jiff::Timestamp,
}

impl Layout {
    /// Bytes of one record.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Narrow => 384,
            Self::Wide => 400,
        }
    }

    /// The layout that the C library of this processor uses.
    #[must_use]
    pub const fn native() -> Self {
        if cfg!(all(target_pointer_width = "64", not(any(target_arch = "x86_64", target_arch = "powerpc64")))) {
            Self::Wide
        } else {
            Self::Narrow
        }
    }

    /// The layout of a file that begins like this: the one under which more of the records make sense, the native one
    /// if that tells nothing.
    #[must_use]
    pub fn detect(start: &[u8]) -> Self {
        let sensible = |layout: Self| start.chunks_exact(layout.size()).take(8).filter(|r| layout.fits(r)).count();
        match sensible(Self::Narrow).cmp(&sensible(Self::Wide)) {
            std::cmp::Ordering::Greater => Self::Narrow,
            std::cmp::Ordering::Less => Self::Wide,
            std::cmp::Ordering::Equal => Self::native(),
        }
    }

    /// Whether the bytes could be a record: a known type, a moment after 1980, microseconds below a million, texts that
    /// are padded with NULs.
    fn fits(self, record: &[u8]) -> bool {
        let padded = |from: usize, to: usize| {
            let field = record.get(from..to).unwrap_or_default();
            field.iter().skip_while(|b| **b != 0).all(|b| *b == 0)
        };
        let (seconds, microseconds) = self.time(record);
        (1..=9).contains(&short(record, 0))
            && seconds > 315_532_800
            && (0..1_000_000).contains(&microseconds)
            && padded(8, 40)
            && padded(44, 76)
            && padded(76, 332)
    }

    fn time(self, record: &[u8]) -> (i64, i64) {
        match self {
            Self::Narrow => (i64::from(word(record, 340)), i64::from(word(record, 344))),
            Self::Wide => (long(record, 344), long(record, 352)),
        }
    }

    /// Reads one record. `None` if there are fewer bytes, or its time is none.
    #[must_use]
    pub fn read(self, record: &[u8]) -> Option<Record> {
        let record = record.get(..self.size())?;
        let (seconds, microseconds) = self.time(record);
        let nanoseconds = i32::try_from(microseconds.clamp(0, 999_999)).unwrap_or(0) * 1000;
        let address = record.get(if self == Self::Narrow { 348..364 } else { 360..376 })?;
        Some(Record {
            kind: match short(record, 0) {
                2 => Kind::Boot,
                6 => Kind::Prompt,
                7 => Kind::Session,
                8 => Kind::End,
                _ => Kind::Other,
            },
            pid: word(record, 4),
            terminal: text(record.get(8..40)?),
            user: text(record.get(44..76)?),
            host: text(record.get(76..332)?),
            address: address_of(address.first_chunk()?),
            at: jiff::Timestamp::new(seconds, nanoseconds).ok()?,
        })
    }
}

/// An IPv4 address stands in the first four bytes, the others are zero.
fn address_of(bytes: &[u8; 16]) -> Option<IpAddr> {
    let [a, b, c, d, rest @ ..] = bytes;
    if rest.iter().any(|byte| *byte != 0) {
        return Some(IpAddr::V6(Ipv6Addr::from(*bytes)).to_canonical());
    }
    let address = Ipv4Addr::new(*a, *b, *c, *d);
    (!address.is_unspecified()).then_some(IpAddr::V4(address))
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

fn short(record: &[u8], at: usize) -> i16 {
    record.get(at..).and_then(|r| r.first_chunk()).map_or(0, |b| i16::from_ne_bytes(*b))
}

fn word(record: &[u8], at: usize) -> u32 {
    record.get(at..).and_then(|r| r.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
}

fn long(record: &[u8], at: usize) -> i64 {
    record.get(at..).and_then(|r| r.first_chunk()).map_or(0, |b| i64::from_ne_bytes(*b))
}

#[cfg(test)]
pub(crate) mod made {
    //! Records for tests.

    use super::{IpAddr, Kind, Layout, Record};

    /// The bytes of a record.
    pub(crate) fn bytes(layout: Layout, record: &Record) -> Vec<u8> {
        let mut bytes = vec![0; layout.size()];
        let kind: i16 = match record.kind {
            Kind::Boot => 2,
            Kind::Prompt => 6,
            Kind::Session => 7,
            Kind::End => 8,
            Kind::Other => 1,
        };
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, &kind.to_ne_bytes());
        put(4, &record.pid.to_ne_bytes());
        put(8, record.terminal.as_bytes());
        put(44, record.user.as_bytes());
        put(76, record.host.as_bytes());
        let address = match record.address {
            Some(IpAddr::V4(v4)) => v4.octets().to_vec(),
            Some(IpAddr::V6(v6)) => v6.octets().to_vec(),
            None => Vec::new(),
        };
        let (seconds, micros) = (record.at.as_second(), i64::from(record.at.subsec_microsecond()));
        match layout {
            Layout::Narrow => {
                put(340, &u32::try_from(seconds).unwrap().to_ne_bytes());
                put(344, &u32::try_from(micros).unwrap().to_ne_bytes());
                put(348, &address);
            }
            Layout::Wide => {
                put(344, &seconds.to_ne_bytes());
                put(352, &micros.to_ne_bytes());
                put(360, &address);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        Record {
            kind: Kind::Session,
            pid: 812,
            terminal: "pts/0".into(),
            user: "pi".into(),
            host: "192.0.2.7".into(),
            address: Some("192.0.2.7".parse().unwrap()),
            at: "2026-07-01T09:30:00.25Z".parse().unwrap(),
        }
    }

    #[test]
    fn both_layouts_are_read_and_told_apart() {
        let v6 = Record { address: Some("2001:db8::7".parse().unwrap()), host: "h".into(), ..record() };
        let local = Record { address: None, host: String::new(), kind: Kind::End, user: String::new(), ..record() };
        for layout in [Layout::Narrow, Layout::Wide] {
            let mut file = Vec::new();
            for wanted in [&record(), &v6, &local] {
                let bytes = made::bytes(layout, wanted);
                assert_eq!(layout.read(&bytes).as_ref(), Some(wanted));
                assert_eq!(layout.read(&bytes[1..]), None);
                file.extend(bytes);
                assert_eq!(Layout::detect(&file), layout, "after {wanted:?}");
            }
        }
        assert_eq!(Layout::detect(&[]), Layout::native());
    }

    #[test]
    fn full_and_odd_texts_are_taken_as_they_are() {
        let full = Record { user: "u".repeat(32), terminal: "t".repeat(32), host: "h".repeat(256), ..record() };
        let mut bytes = made::bytes(Layout::Narrow, &full);
        assert_eq!(Layout::Narrow.read(&bytes), Some(full));
        bytes[44] = 0xff;
        assert!(Layout::Narrow.read(&bytes).unwrap().user.starts_with('\u{fffd}'));
    }

    #[test]
    fn a_mapped_address_is_ipv4() {
        let mapped = Record { address: Some("::ffff:192.0.2.7".parse().unwrap()), ..record() };
        let read = Layout::Wide.read(&made::bytes(Layout::Wide, &mapped)).unwrap();
        assert_eq!(read.address, Some("192.0.2.7".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
            let layout = Layout::detect(&bytes);
            for chunk in bytes.chunks(layout.size()) {
                let read = layout.read(chunk);
                prop_assert_eq!(read.is_some() && chunk.len() < layout.size(), false);
            }
        }
    }
}
