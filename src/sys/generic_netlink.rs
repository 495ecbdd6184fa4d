//! Generic netlink: families that the kernel numbers when they are registered, found by their names.
//!
//! The body of a message, numbers in the machine's byte order (`linux/genetlink.h`, `linux/netlink.h`):
//!
//! ```text
//! 0  u8   command                          1  u8   version of the family
//! 2  u16  unused                           4  …    attributes, each aligned to 4 bytes
//! attribute: 0  u16  its length, these 4 bytes included
//!            2  u16  type; bit 15 says that attributes are nested in it, bit 14 is no part of the type either
//!            4  …    value
//! ```
//!
//! Family 16 is the one that knows the others. Asked with command 3 for a name (attribute 2: text that ends with NUL),
//! it answers with the number (attribute 1: u16).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::netlink::{self, Received, Socket, u16_at};
use super::wake::{WakeFlag, Woken};

const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// Flag of a request: say when it is done.
const FLAG_ACKNOWLEDGE: u16 = 4;
/// Length of command and version.
const HEADER: usize = 4;
/// The type of an attribute without its two flags.
const TYPE_MASK: u16 = 0x3fff;
/// The kernel answers at once; this only keeps us from hanging.
const PATIENCE: Duration = Duration::from_secs(2);

/// The attributes in some bytes. Ends at the first one that does not fit.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(..length)?.get(4..)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The attributes that are nested in a value.
#[must_use]
pub const fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes(bytes)
}

/// The command of a body, and its attributes.
#[must_use]
pub fn split(body: &[u8]) -> Option<(u8, Attributes<'_>)> {
    Some((*body.first()?, Attributes(body.get(HEADER..)?)))
}

/// A body with one attribute.
#[must_use]
pub fn body(command: u8, kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![command, 1, 0, 0];
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends a question and reads up to its end; gives what `take` made of the answer, if there was one. What else arrives
/// meanwhile is thrown away.
///
/// # Errors
/// The kernel's own, or `TimedOut`.
pub fn ask<T>(
    socket: &Socket,
    family: u16,
    body: &[u8],
    buffer: &mut [u8],
    take: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let sequence = fastrand::u32(1..);
    socket.send(&netlink::request(family, FLAG_ACKNOWLEDGE, sequence, body))?;
    let flag = WakeFlag::new()?;
    let mut answer = None;
    loop {
        let length = match socket.receive(buffer)? {
            Received::Datagram(length) => length,
            Received::Empty if flag.wait(Some(socket.as_fd()), PATIENCE)? == Woken::Elapsed => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Received::Empty | Received::Overflow => continue,
        };
        let datagram = buffer.get(..length).unwrap_or_default();
        for message in netlink::messages(datagram).filter(|message| message.sequence == sequence) {
            match message.kind {
                netlink::TYPE_ERROR => return netlink::error_of(&message).map_or(Ok(answer), Err),
                kind if kind == family => answer = answer.or_else(|| take(message.body)),
                _ => {}
            }
        }
    }
}

/// The number of a family; `None` if this kernel has none of that name.
///
/// # Errors
/// As [`ask`].
pub fn family(socket: &Socket, name: &str, buffer: &mut [u8]) -> io::Result<Option<u16>> {
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    let question = body(GET_FAMILY, FAMILY_NAME, &text);
    let number = |body: &[u8]| {
        let (_, mut attributes) = split(body)?;
        u16_at(attributes.find(|(kind, _)| *kind == FAMILY_ID)?.1, 0)
    };
    match ask(socket, CONTROL, &question, buffer, number) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::net::netlink::GENERIC;

    use super::*;

    #[test]
    fn the_kernel_knows_itself_and_not_everybody() {
        let socket = Socket::open(GENERIC, 0).unwrap();
        let mut buffer = vec![0; 8192];
        assert_eq!(family(&socket, "nlctrl", &mut buffer).unwrap(), Some(CONTROL));
        assert_eq!(family(&socket, "twinward", &mut buffer).unwrap(), None);
    }

    #[test]
    fn an_attribute_without_its_padding_is_the_last_one() {
        let bytes = body(1, 2 | 0x8000, b"abcde");
        assert_eq!(bytes.len(), 16);
        let (command, attributes) = split(&bytes).unwrap();
        assert_eq!((command, attributes.collect::<Vec<_>>()), (1, vec![(2, b"abcde".as_slice())]));
        assert_eq!(split(&bytes[..13]).unwrap().1.count(), 1);
        assert_eq!(split(&bytes[..12]).unwrap().1.count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_end_and_stay_inside(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let total: usize = attributes(&bytes).map(|(_, value)| value.len() + 4).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
