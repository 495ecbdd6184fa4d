//! The text of one audit record.
//!
//! ```text
//! audit(1795571169.955:10): argc=3 a0="/bin/ls" a1="-l" a2=612062
//! audit(1795571170.087:24): pid=7 uid=0 auid=4294967295 ses=4294967295 msg='op=login acct="pi" exe="/usr/sbin/sshd" res=success'
//! ```
//!
//! In the parentheses: seconds since 1970, milliseconds, and the serial number that all records of one event share.
//! Then `key=value`, separated by blanks. Text that a program can choose is in double quotes, or, if it holds a quote, a
//! blank, or anything below or above printable ASCII, in upper-case hexadecimal. Records of programs have their own row
//! of such pairs in single quotes, under the key `msg`.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// When an event happened, and which one it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since 1970 by the kernel's wall clock.
    pub milliseconds: u64,
    /// The event's serial number.
    pub serial: u64,
}

/// Cuts a record into its stamp and its pairs; `None` if it has no stamp.
#[must_use]
pub fn parse(body: &[u8]) -> Option<(Stamp, Pairs<'_>)> {
    let rest = body.strip_prefix(b"audit(")?;
    let (seconds, rest) = split(rest, b'.')?;
    let (thousandths, rest) = split(rest, b':')?;
    let (serial, rest) = split(rest, b')')?;
    let milliseconds = number(seconds)?.checked_mul(1000)?.checked_add(number(thousandths)?)?;
    let stamp = Stamp { milliseconds, serial: number(serial)? };
    Some((stamp, Pairs(rest.strip_prefix(b":").unwrap_or(rest))))
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

/// A decimal number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A value as it stands in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// In double quotes, which are left out here.
    Quoted(&'a [u8]),
    /// In single quotes, which are left out here: pairs of a program.
    Inner(&'a [u8]),
    /// Without quotes.
    Bare(&'a [u8]),
}

impl<'a> Value<'a> {
    /// As a decimal number.
    #[must_use]
    pub fn number(self) -> Option<u64> {
        number(self.raw())
    }

    /// As a decimal number of 32 bits; `None` also for the largest one, which stands for "not set".
    #[must_use]
    pub fn id(self) -> Option<u32> {
        self.number().and_then(|number| u32::try_from(number).ok()).filter(|id| *id != u32::MAX)
    }

    /// As a decimal number with a sign.
    #[must_use]
    pub fn signed(self) -> Option<i64> {
        std::str::from_utf8(self.raw()).ok()?.parse().ok()
    }

    /// As a hexadecimal number.
    #[must_use]
    pub fn hexadecimal(self) -> Option<u64> {
        u64::from_str_radix(std::str::from_utf8(self.raw()).ok()?, 16).ok()
    }

    /// What stands there.
    #[must_use]
    pub const fn raw(self) -> &'a [u8] {
        match self {
            Self::Quoted(raw) | Self::Inner(raw) | Self::Bare(raw) => raw,
        }
    }

    /// As text that a program could choose; `None` if the record says that there is none.
    #[must_use]
    pub fn text(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Quoted(text) | Self::Inner(text) => Some(Cow::Borrowed(text)),
            Self::Bare(b"?" | b"(null)" | b"(none)" | b"") => None,
            Self::Bare(text) => Some(match hex(text) {
                Some(bytes) => Cow::Owned(bytes.collect()),
                None => Cow::Borrowed(text),
            }),
        }
    }

    /// Appends such text to `out`, at most `room` bytes of it; gives its whole length.
    pub fn append(self, out: &mut Vec<u8>, room: usize) -> usize {
        if let Self::Bare(text) = self
            && let Some(bytes) = hex(text)
        {
            out.extend(bytes.take(room));
            return text.len() / 2;
        }
        let text = self.raw();
        out.extend_from_slice(text.get(..room).unwrap_or(text));
        text.len()
    }
}

/// The bytes of a hexadecimal text; `None` if it is something else.
fn hex(text: &[u8]) -> Option<impl Iterator<Item = u8> + '_> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let is_hex = text.len().is_multiple_of(2) && text.iter().all(u8::is_ascii_hexdigit);
    (is_hex && !text.is_empty()).then(|| {
        text.as_chunks::<2>().0.iter().map(move |[high, low]| digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0))
    })
}

/// The pairs of a record. Whatever is no pair is passed over.
#[derive(Clone, Debug)]
pub struct Pairs<'a>(&'a [u8]);

/// The pairs inside an [`Value::Inner`].
#[must_use]
pub const fn inner(text: &[u8]) -> Pairs<'_> {
    Pairs(text)
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let from = self.0.iter().position(|byte| !matches!(byte, b' ' | b'\n' | 0))?;
            let text = self.0.get(from..)?;
            let end = text.iter().position(|byte| matches!(byte, b'=' | b' ')).unwrap_or(text.len());
            let (key, rest) = text.split_at_checked(end)?;
            let Some(rest) = rest.strip_prefix(b"=") else {
                self.0 = rest;
                continue;
            };
            let (value, rest) = match rest.split_first() {
                Some((b'"', text)) => {
                    let (value, rest) = split(text, b'"').unwrap_or((text, b""));
                    (Value::Quoted(value), rest)
                }
                // The program's own text may hold such a quote: the last one ends it.
                Some((b'\'', text)) => {
                    let end = text.iter().rposition(|byte| *byte == b'\'').unwrap_or(text.len());
                    let (value, rest) = text.split_at_checked(end)?;
                    (Value::Inner(value), rest.get(1..).unwrap_or_default())
                }
                _ => {
                    let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\n' | 0)).unwrap_or(rest.len());
                    let (value, rest) = rest.split_at_checked(end)?;
                    (Value::Bare(value), rest)
                }
            };
            self.0 = rest;
            return Some((key, value));
        }
    }
}

/// What the value of `saddr` names: a `struct sockaddr` in hexadecimal, family first, in the machine's byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// IPv4 or IPv6; mapped IPv4 addresses are shown as what they are.
    Internet(SocketAddr),
    /// Anything else, as its family.
    Other(u16),
}

/// Reads the value of `saddr`.
#[must_use]
pub fn peer(value: Value<'_>) -> Option<Peer> {
    let bytes: Vec<u8> = hex(value.raw())?.take(28).collect();
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = || bytes.get(2..)?.first_chunk().map(|port| u16::from_be_bytes(*port));
    let address: IpAddr = match family {
        2 => Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?).into(),
        10 => Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?).to_canonical(),
        other => return Some(Peer::Other(other)),
    };
    Some(Peer::Internet(SocketAddr::new(address, port()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(body: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (_, pairs) = parse(body.as_bytes()).unwrap();
        pairs.map(|(key, value)| (text(key), value.text().map_or("-".to_owned(), |v| text(&v)))).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn quoted_hexadecimal_and_bare_values_are_read() {
        let body = r#"audit(1795571169.955:10): argc=5 a0="/bin/ls" a2=612062 a3=C3B6C3A4 x exe=(null) tty=pts0"#;
        let (stamp, _) = parse(body.as_bytes()).unwrap();
        assert_eq!(stamp, Stamp { milliseconds: 1_795_571_169_955, serial: 10 });
        let expected = [
            pair("argc", "5"),
            pair("a0", "/bin/ls"),
            pair("a2", "a b"),
            pair("a3", "öä"),
            pair("exe", "-"),
            pair("tty", "pts0"),
        ];
        assert_eq!(pairs(body), expected);
        assert!(parse(b"type=SYSCALL audit(1.2:3): a=b").is_none());
        assert!(parse(b"audit(1.2:x): a=b").is_none());
    }

    #[test]
    fn a_programs_own_pairs_are_inside() {
        let body = r#"audit(1.2:3): pid=7 msg='op=login acct="o'neil" addr=? res=failed' a=1"#;
        let (_, mut outer) = parse(body.as_bytes()).unwrap();
        assert_eq!(outer.next().unwrap().1.number(), Some(7));
        let Value::Inner(text) = outer.next().unwrap().1 else { panic!() };
        let found: Vec<_> = inner(text).collect();
        assert_eq!(found[1], (&b"acct"[..], Value::Quoted(b"o'neil")));
        assert_eq!(found[2].1.text(), None);
        assert_eq!(outer.next().unwrap().0, b"a");
    }

    #[test]
    fn socket_addresses_are_read() {
        let read = |text: &str| peer(Value::Bare(text.as_bytes()));
        let internet = |text: &str| Some(Peer::Internet(text.parse().unwrap()));
        if cfg!(target_endian = "little") {
            assert_eq!(read("020098EC7F0000010000000000000000"), internet("127.0.0.1:39148"));
            let mapped = "0A00D0A40000000000000000000000000000FFFF7F00000100000000";
            assert_eq!(read(mapped), internet("127.0.0.1:53412"));
            let six = "0A00D0A40000000020010DB8000000000000000000000001";
            assert_eq!(read(six), internet("[2001:db8::1]:53412"));
            assert_eq!(read("01002F72756E"), Some(Peer::Other(1)));
        }
        for bad in ["", "02", "0200", "0200AA", "0A00D0A400", "xx"] {
            assert!(!matches!(read(bad), Some(Peer::Internet(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = b"audit(1.2:3): ".to_vec();
            body.extend(bytes);
            let (_, pairs) = parse(&body).unwrap();
            let mut total = 0;
            for (key, value) in pairs {
                total += key.len() + value.raw().len();
                let _ = (value.text(), value.number(), value.signed(), value.hexadecimal(), peer(value));
            }
            prop_assert!(total <= body.len());
        }

        /// What the kernel writes in either form is what comes out, and only as much as there is room for.
        #[test]
        fn both_forms_say_the_same(text in prop::collection::vec(any::<u8>(), 1..40), room in 0_usize..50) {
            let digits = text.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let upper = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect::<String>().to_uppercase();
            let mut out = Vec::new();
            prop_assert_eq!(Value::Bare(upper.as_bytes()).append(&mut out, room), text.len());
            prop_assert_eq!(&out[..], &text[..room.min(text.len())]);
            let quoted = Value::Quoted(&text);
            let mut again = Vec::new();
            prop_assert_eq!(quoted.append(&mut again, room), text.len());
            prop_assert_eq!(out, again);
        }
    }
}
