//! Netlink sockets to the kernel, and the framing that all their families share.
//!
//! A datagram is a row of messages, each aligned to 4 bytes, all numbers in the machine's byte order
//! (`linux/netlink.h`):
//!
//! ```text
//! 0  u32  length of the message, these 16 bytes included
//! 4  u16  type: 1 NOOP, 2 ERROR, 3 DONE, from 16 on the family's own
//! 6  u16  flags: 1 REQUEST, 2 MULTI, 0x10 DUMP_INTR, 0x300 DUMP
//! 8  u32  sequence number of the request that it answers
//! 12 u32  port of the sender's side
//! 16 …    body
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// Length of a message's header.
pub const HEADER: usize = 16;
/// Type of an error or acknowledgement: the body starts with a negative `errno`, 0 for success.
pub const TYPE_ERROR: u16 = 2;
/// Type of the last message of a dump.
pub const TYPE_DONE: u16 = 3;
/// Flag: this is a request.
pub const FLAG_REQUEST: u16 = 1;
/// Flag: the dump was disturbed by a change and may miss or repeat entries.
pub const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
/// Flags: list everything that matches.
pub const FLAG_DUMP: u16 = 0x300;

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The sequence number of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of a datagram. Ends at the first header that does not fit.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

/// Cuts a datagram into its messages.
#[must_use]
pub const fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages(datagram)
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32_at(self.0, 0)?).ok()?;
        let message = self.0.get(..length)?;
        let found = Message {
            kind: u16_at(message, 4)?,
            flags: u16_at(message, 6)?,
            sequence: u32_at(message, 8)?,
            body: message.get(HEADER..)?,
        };
        // The padding of the last message may be missing.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(found)
    }
}

/// The `u16` at `offset`, in the machine's byte order.
#[must_use]
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

/// The `u32` at `offset`, in the machine's byte order.
#[must_use]
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// The `u64` at `offset`, in the machine's byte order.
#[must_use]
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|b| u64::from_ne_bytes(*b))
}

/// The `errno` that an ERROR or DONE message carries; `None` for success.
#[must_use]
pub fn error_of(message: &Message<'_>) -> Option<io::Error> {
    let code = u32_at(message.body, 0)?.cast_signed();
    (code < 0).then(|| io::Error::from_raw_os_error(code.wrapping_neg()))
}

/// A message ready to be sent.
#[must_use]
pub fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(FLAG_REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A datagram from the kernel: this many bytes of the buffer. One that did not fit is cut, so its last message is
    /// not complete and [`messages`] leaves it out.
    Datagram(usize),
    /// The receive buffer overflowed since the last read: the kernel dropped datagrams. What is queued is still there.
    Overflow,
    /// Nothing waits.
    Empty,
}

/// A non-blocking netlink socket to the kernel.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket and joins the multicast groups in the mask `groups`.
    ///
    /// # Errors
    /// The kernel lacks the family (`EPROTONOSUPPORT`), or does not let us join (`EPERM`).
    pub fn open(protocol: Protocol, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(protocol))?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(fd))
    }

    /// Asks for a receive buffer of `bytes`: beyond the machine's limit with CAP_NET_ADMIN, else up to it.
    pub fn raise_buffer(&self, bytes: usize) {
        if sockopt::set_socket_recv_buffer_size_force(&self.0, bytes).is_err() {
            // Up to net.core.rmem_max; the kernel cuts what is too large.
            let _ = sockopt::set_socket_recv_buffer_size(&self.0, bytes);
        }
    }

    /// Sends a message to the kernel.
    ///
    /// # Errors
    /// Those of `sendto`.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        rustix::net::sendto(&self.0, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        Ok(())
    }

    /// Reads one datagram without waiting. Datagrams of other senders than the kernel are thrown away.
    ///
    /// # Errors
    /// Those of `recvfrom`, besides the two that are answers.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        // Others can send to this port, but not for ever: what waits is bounded by the buffer.
        for _ in 0..4096 {
            match rustix::net::recvfrom(&self.0, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _, sender)) => {
                    if sender.and_then(|s| SocketAddrNetlink::try_from(s).ok()).is_some_and(|s| s.pid() == 0) {
                        return Ok(Received::Datagram(length));
                    }
                }
                Err(Errno::NOBUFS) => return Ok(Received::Overflow),
                Err(Errno::AGAIN) => return Ok(Received::Empty),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Received::Empty)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_of_messages_is_cut_at_their_alignment() {
        let mut bytes = request(20, FLAG_DUMP, 7, b"abcde");
        bytes.extend_from_slice(&[0; 3]);
        bytes.extend(request(TYPE_DONE, 0, 7, b""));
        let found: Vec<_> = messages(&bytes).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Message { kind: 20, flags: 0x301, sequence: 7, body: b"abcde" });
        assert_eq!(found[1].kind, TYPE_DONE);
        // The last one without its padding.
        assert_eq!(messages(&bytes[..21]).count(), 1);
        // Cut in the middle.
        assert_eq!(messages(&bytes[..20]).count(), 0);
    }

    #[test]
    fn an_error_is_a_negative_errno() {
        let refused = request(TYPE_ERROR, 0, 1, &(-1_i32).to_ne_bytes());
        let error = error_of(&messages(&refused).next().unwrap()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let fine = request(TYPE_ERROR, 0, 1, &0_i32.to_ne_bytes());
        assert!(error_of(&messages(&fine).next().unwrap()).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_end_and_stay_inside(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let total: usize = messages(&bytes).map(|m| m.body.len() + HEADER).sum();
            prop_assert!(total <= bytes.len());
            for message in messages(&bytes) {
                let _ = error_of(&message);
            }
        }

        #[test]
        fn what_is_written_is_read(kind: u16, sequence: u32, body in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = request(kind, 0, sequence, &body);
            let found: Vec<_> = messages(&bytes).collect();
            prop_assert_eq!(found, vec![Message { kind, flags: FLAG_REQUEST, sequence, body: &body }]);
        }
    }
}
