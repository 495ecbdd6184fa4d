//! The kernel's socket diagnostics (`linux/sock_diag.h`, `linux/inet_diag.h`): a dump of one table of sockets.
//!
//! Netlink type 20 both ways. Numbers in the machine's byte order, ports and addresses in that of the wire:
//!
//! ```text
//! socket id   0  u16  source port          2  u16  peer's port
//!             4  16 B source address       20 16 B peer's address (IPv4: the first 4 bytes)
//!             36 u32  interface index      40 8 B  cookie
//! question    0  u8   family               1  u8   protocol (6 TCP, 17 UDP,      2  u8, u8 unused
//!                                              255 raw)
//!             4  u32  states, one bit each 8  …    socket id, all zero for any
//! answer      0  u8   family               1  u8   state (10 listens)            2  u8, u8 timer
//!             4  …    socket id            52 u32  expiry    56 u32, u32 queues
//!             64 u32  uid                  68 u32  inode     72 … attributes
//! attribute   type 11: u8, not 0 if an IPv6 socket takes IPv6 only; told of sockets that listen or have no peer
//! ```
//!
//! The port of a raw socket is the number of its IP protocol. Its table needs the kernel's module `raw_diag`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::netlink::SOCK_DIAG;

use super::generic_netlink::attributes;
use super::netlink::{self, FLAG_DUMP, FLAG_DUMP_INTERRUPTED, Received, Socket, u32_at};
use super::sockets::{BoundSocket, SOCKET_LIMIT, Transport};
use super::wake::{WakeFlag, Woken};

pub(super) const BY_FAMILY: u16 = 20;
pub(super) const LISTENS: u32 = 1 << 10;
/// Length of an answer without its attributes.
pub(super) const HEAD: usize = 72;
const V6_ONLY: u16 = 11;
const ANY_STATE: u32 = u32::MAX;
const V4: u8 = 2;
const V6: u8 = 10;
/// The kernel fills datagrams of up to 32 KiB.
const BUFFER: usize = 32 * 1024;
/// The kernel answers at once; this only keeps us from hanging.
const PATIENCE: Duration = Duration::from_secs(2);
/// A dump that sockets disturb is taken again this often.
const TRIES: u32 = 3;

/// Dumps the waiting sockets of one table: listening TCP, bound UDP, raw.
///
/// # Errors
/// The kernel has no diagnostics for it (`NotFound`, `Unsupported`), or a sandbox forbids netlink.
pub fn waiting(transport: Transport) -> io::Result<Vec<BoundSocket>> {
    let states = if transport.is_tcp() { LISTENS } else { ANY_STATE };
    let socket = Socket::open(SOCK_DIAG, 0)?;
    list(&socket, transport, states, |body| decode(body, transport))
}

/// Dumps the sockets of one table that are in one of `states`, as far as `decode` wants them; at most one more than
/// [`SOCKET_LIMIT`].
pub(super) fn list<T>(
    socket: &Socket,
    transport: Transport,
    states: u32,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut last = Vec::new();
    for _ in 0..TRIES {
        let sequence = fastrand::u32(1..);
        socket.send(&netlink::request(BY_FAMILY, FLAG_DUMP, sequence, &question(transport, states)))?;
        let (sockets, disturbed) = dump(socket, sequence, &decode)?;
        last = sockets;
        if !disturbed {
            break;
        }
    }
    Ok(last)
}

fn question(transport: Transport, states: u32) -> Vec<u8> {
    let mut body = vec![family(transport), protocol(transport), 0, 0];
    body.extend_from_slice(&states.to_ne_bytes());
    body.resize(56, 0);
    body
}

/// Reads answers up to the end of the dump; also says whether the kernel calls it disturbed.
fn dump<T>(socket: &Socket, sequence: u32, decode: impl Fn(&[u8]) -> Option<T>) -> io::Result<(Vec<T>, bool)> {
    let flag = WakeFlag::new()?;
    let mut buffer = vec![0; BUFFER];
    let (mut sockets, mut disturbed) = (Vec::new(), false);
    loop {
        let length = match socket.receive(&mut buffer)? {
            Received::Datagram(length) => length,
            Received::Overflow => {
                disturbed = true;
                continue;
            }
            Received::Empty if flag.wait(Some(socket.as_fd()), PATIENCE)? == Woken::Elapsed => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Received::Empty => continue,
        };
        for message in netlink::messages(buffer.get(..length).unwrap_or_default()) {
            if message.sequence != sequence {
                continue;
            }
            disturbed |= message.flags & FLAG_DUMP_INTERRUPTED != 0;
            match message.kind {
                netlink::TYPE_DONE => return netlink::error_of(&message).map_or(Ok((sockets, disturbed)), Err),
                netlink::TYPE_ERROR => {
                    return Err(netlink::error_of(&message).unwrap_or_else(|| io::ErrorKind::InvalidData.into()));
                }
                BY_FAMILY if sockets.len() <= SOCKET_LIMIT => sockets.extend(decode(message.body)),
                _ => {}
            }
        }
    }
}

/// The kernel's number of the address family.
const fn family(transport: Transport) -> u8 {
    if transport.is_v6() { V6 } else { V4 }
}

/// The kernel's number of the protocol.
const fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp | Transport::Tcp6 => 6,
        Transport::Udp | Transport::Udp6 => 17,
        Transport::Raw | Transport::Raw6 => 255,
    }
}

/// What every answer has: who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) state: u8,
    pub(super) local: IpAddr,
    pub(super) local_port: u16,
    pub(super) remote: IpAddr,
    pub(super) remote_port: u16,
    pub(super) interface: u32,
    /// Names the socket for ever.
    pub(super) cookie: u64,
    pub(super) uid: u32,
    pub(super) inode: u32,
}

/// Reads an answer about a socket of this family; `None` if it is cut short or of another one.
pub(super) fn ends(body: &[u8], v6: bool) -> Option<Ends> {
    if *body.first()? != if v6 { V6 } else { V4 } {
        return None;
    }
    let address = |offset: usize| {
        let bytes = body.get(offset..)?;
        Some(if v6 {
            IpAddr::V6(Ipv6Addr::from(*bytes.first_chunk::<16>()?))
        } else {
            IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?))
        })
    };
    let port = |offset: usize| body.get(offset..)?.first_chunk().map(|b| u16::from_be_bytes(*b));
    Some(Ends {
        state: *body.get(1)?,
        local: address(8)?,
        local_port: port(4)?,
        remote: address(24)?,
        remote_port: port(6)?,
        interface: u32_at(body, 40)?,
        cookie: u64::from(u32_at(body, 44)?) | u64::from(u32_at(body, 48)?) << 32,
        uid: u32_at(body, 64)?,
        inode: u32_at(body, 68)?,
    })
}

/// Decodes one answer; `None` if it is cut short, or no waiting socket of this table.
#[must_use]
pub fn decode(body: &[u8], transport: Transport) -> Option<BoundSocket> {
    let ends = ends(body, transport.is_v6())?;
    if transport.is_tcp() && 1_u32.checked_shl(ends.state.into())? != LISTENS {
        return None;
    }
    let Ends { local, local_port, remote, remote_port, interface, uid, inode, .. } = ends;
    let inode = u64::from(inode);
    let asks = transport.is_v6() && !transport.is_raw() && local.is_unspecified();
    let mut told = attributes(body.get(HEAD..).unwrap_or_default()).filter(|(kind, _)| asks && *kind == V6_ONLY);
    let dual_stack = told.next().and_then(|(_, value)| Some(*value.first()? == 0));
    let found = BoundSocket { transport, local, local_port, remote, remote_port, inode, uid, interface, dual_stack };
    (local_port != 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(family: u8, state: u8, port: u16, address: &[u8], interface: u32) -> Vec<u8> {
        let mut body = vec![family, state, 0, 0];
        body.extend_from_slice(&port.to_be_bytes());
        body.extend_from_slice(&0_u16.to_be_bytes());
        body.extend_from_slice(address);
        body.resize(40, 0);
        body.extend_from_slice(&interface.to_ne_bytes());
        body.resize(64, 0);
        body.extend_from_slice(&1000_u32.to_ne_bytes());
        body.extend_from_slice(&4242_u32.to_ne_bytes());
        body
    }

    #[test]
    fn both_families_are_read() {
        let v4 = decode(&answer(V4, 10, 8883, &[127, 0, 0, 1], 0), Transport::Tcp).unwrap();
        assert_eq!((v4.local.to_string().as_str(), v4.local_port), ("127.0.0.1", 8883));
        assert_eq!((v4.uid, v4.inode, v4.interface, v4.remote_port), (1000, 4242, 0, 0));
        let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
        let v6 = decode(&answer(V6, 7, 546, &address.octets(), 3), Transport::Udp6).unwrap();
        assert_eq!((v6.local.to_string().as_str(), v6.interface), ("fe80::7", 3));
        let mapped = decode(&answer(V6, 10, 80, &Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), 0), Transport::Tcp6);
        assert_eq!(mapped.unwrap().local.to_string(), "::ffff:127.0.0.1");
    }

    #[test]
    fn a_wildcard_says_whether_it_takes_ipv4_too() {
        let of = |transport, address: [u8; 16], attribute: &[u8]| {
            let mut body = answer(V6, 10, 80, &address, 0);
            body.extend_from_slice(attribute);
            decode(&body, transport).unwrap().dual_stack
        };
        let attribute = |value: u8| {
            let [a, b] = 5_u16.to_ne_bytes();
            let [c, d] = V6_ONLY.to_ne_bytes();
            [a, b, c, d, value, 0, 0, 0]
        };
        let (any, one) = ([0; 16], Ipv6Addr::LOCALHOST.octets());
        assert_eq!(of(Transport::Tcp6, any, &attribute(0)), Some(true));
        assert_eq!(of(Transport::Udp6, any, &attribute(1)), Some(false));
        assert_eq!(of(Transport::Udp6, any, &[]), None);
        assert_eq!(of(Transport::Tcp6, one, &attribute(0)), None);
        assert_eq!(of(Transport::Raw6, any, &attribute(0)), None);
    }

    #[test]
    fn a_raw_socket_has_its_protocol_for_a_port() {
        let icmp = decode(&answer(V4, 7, 1, &[0; 4], 0), Transport::Raw).unwrap();
        assert_eq!((icmp.local_port, icmp.transport.as_str()), (1, "raw"));
        assert_eq!(question(Transport::Raw6, ANY_STATE)[..2], [V6, 255]);
    }

    #[test]
    fn what_does_not_wait_is_left() {
        let established = answer(V4, 1, 8883, &[127, 0, 0, 1], 0);
        assert_eq!(decode(&established, Transport::Tcp), None);
        assert!(decode(&established, Transport::Udp).is_some());
        assert_eq!(decode(&established, Transport::Udp6), None);
        assert_eq!(decode(&answer(V4, 7, 0, &[0, 0, 0, 0], 0), Transport::Udp), None);
        let whole = answer(V4, 10, 1, &[0, 0, 0, 0], 0);
        for end in 0..whole.len() {
            assert_eq!(decode(&whole[..end], Transport::Tcp), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            for transport in Transport::ALL {
                let _ = decode(&bytes, transport);
            }
        }
    }
}
