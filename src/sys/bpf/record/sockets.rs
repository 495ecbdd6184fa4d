//! The records about connections. Their heads are as that of every record (`record.rs`); an address of IPv4 stands in
//! the first four bytes of its place.
//!
//! ```text
//! kind 3   4  u32  process id, 0 if unknown        kind 4   4  u32  0
//!          8  u64  when                                     8  u64  when
//!         16  u32  process id of the parent                16  u64  the socket, as in its record of kind 3
//!         20  u32  user id                                 24  u64  when that was
//!         24  u64  the socket: names it while it lives     32  u64  bytes sent, those sent again counted once
//!         32  u64  its inode, 0 if unknown                 40  u64  bytes received
//!         40  u32  its network namespace
//!         44  u32  1: the process runs its parent's program still
//!         48  u16  port of this side
//!         50  u16  port of the other side
//!         52  u8   protocol: 6 TCP, 17 UDP
//!         53  u8   1 connected out, 2 connected in, 3 listens, 4 listens no more
//!         54  u8   family: 2 IPv4, 10 IPv6
//!         55  u8   0
//!         56 16 B  address of this side
//!         72 16 B  address of the other side
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{UNKNOWN, number, wide};

const V4: u8 = 2;
const V6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was connected by this machine, or has sent its first packet to this peer.
    Out,
    /// It was connected by the other side, or answers it.
    In,
    /// It waits for connections now.
    Listens,
    /// It does so no more.
    ListensNoMore,
}

/// Something happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// What.
    pub what: What,
    /// Nanoseconds since boot, suspended time included.
    pub when: u64,
    /// Process id, if the kernel knew it.
    pub pid: Option<u32>,
    /// Process id of the parent.
    pub parent: Option<u32>,
    /// Whether the process has started no program itself, and so runs that of its parent.
    pub forked: bool,
    /// User id.
    pub uid: Option<u32>,
    /// Names the socket while it lives.
    pub socket: u64,
    /// Its inode, if known.
    pub inode: Option<u64>,
    /// Its network namespace, if known.
    pub namespace: Option<u32>,
    /// TCP or else UDP.
    pub tcp: bool,
    /// This side.
    pub local: IpAddr,
    /// Its port.
    pub local_port: u16,
    /// The other side.
    pub remote: IpAddr,
    /// Its port.
    pub remote_port: u16,
}

/// A TCP connection ended soon after it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Nanoseconds since boot, suspended time included.
    pub when: u64,
    /// As in [`Socket::socket`].
    pub socket: u64,
    /// As in [`Socket::when`].
    pub opened: u64,
    /// Bytes sent: data only, and what was sent again once.
    pub sent: u64,
    /// Bytes received: data only.
    pub received: u64,
}

pub(super) fn socket(bytes: &[u8]) -> Option<Socket> {
    let known = |at| number(bytes, at).filter(|number| *number != UNKNOWN);
    let port = |at: usize| bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk));
    let family = *bytes.get(54)?;
    let address = |at: usize| -> Option<IpAddr> {
        let place = bytes.get(at..)?.first_chunk::<16>()?;
        match family {
            V4 => Some(Ipv4Addr::from(*place.first_chunk::<4>()?).into()),
            V6 => Some(Ipv6Addr::from(*place).into()),
            _ => None,
        }
    };
    Some(Socket {
        what: match bytes.get(53)? {
            1 => What::Out,
            2 => What::In,
            3 => What::Listens,
            4 => What::ListensNoMore,
            _ => return None,
        },
        when: wide(bytes, 8)?,
        pid: known(4).filter(|pid| *pid != 0),
        parent: known(16),
        forked: number(bytes, 44)? != 0,
        uid: known(20),
        socket: wide(bytes, 24)?,
        inode: wide(bytes, 32).filter(|inode| *inode != 0),
        namespace: known(40),
        tcp: match *bytes.get(52)? {
            TCP => true,
            UDP => false,
            _ => return None,
        },
        local: address(56)?,
        local_port: port(48)?,
        remote: address(72)?,
        remote_port: port(50)?,
    })
}

pub(super) fn closed(bytes: &[u8]) -> Option<Closed> {
    Some(Closed {
        when: wide(bytes, 8)?,
        socket: wide(bytes, 16)?,
        opened: wide(bytes, 24)?,
        sent: wide(bytes, 32)?,
        received: wide(bytes, 40)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Record, decode};
    use super::*;

    fn record(family: u8, what: u8, protocol: u8, pid: u32) -> Vec<u8> {
        let mut all = Vec::new();
        for number in [3, pid, 5, 1, 3, 1000, 0xaa, 0, 77, 0, 4_026_531_840, 1] {
            all.extend_from_slice(&u32::to_ne_bytes(number));
        }
        all.extend_from_slice(&40_000_u16.to_ne_bytes());
        all.extend_from_slice(&443_u16.to_ne_bytes());
        all.extend_from_slice(&[protocol, what, family, 0]);
        for last in [1, 2] {
            all.extend_from_slice(&[192, 0, 2, last]);
            all.extend_from_slice(&[0; 11]);
            all.push(last);
        }
        all
    }

    #[test]
    fn a_connection_is_read_whole() {
        let bytes = record(V4, 1, TCP, 7);
        let expected = Socket {
            what: What::Out,
            when: (1 << 32) + 5,
            pid: Some(7),
            parent: Some(3),
            forked: true,
            uid: Some(1000),
            socket: 0xaa,
            inode: Some(77),
            namespace: Some(4_026_531_840),
            tcp: true,
            local: Ipv4Addr::new(192, 0, 2, 1).into(),
            local_port: 40_000,
            remote: Ipv4Addr::new(192, 0, 2, 2).into(),
            remote_port: 443,
        };
        assert_eq!(decode(&bytes), Some(Record::Socket(expected)));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "{end}");
        }
    }

    #[test]
    fn each_kind_of_socket_is_told_apart() {
        let read = |family, what, protocol, pid| socket(&record(family, what, protocol, pid));
        let whats: Vec<_> = (0..6).map(|what| read(V6, what, UDP, 0).map(|socket| socket.what)).collect();
        let known = [What::Out, What::In, What::Listens, What::ListensNoMore].map(Some);
        assert_eq!((whats[0], &whats[1..5], whats[5]), (None, &known[..], None));
        let v6 = read(V6, 2, UDP, 0).unwrap();
        assert_eq!((v6.remote.to_string().as_str(), v6.tcp, v6.pid), ("c000:202::2", false, None));
        assert_eq!((read(1, 1, TCP, 7), read(V4, 1, 1, 7)), (None, None));
    }

    #[test]
    fn an_end_is_read_whole() {
        let numbers = [4, 9, 0xaa, 8, 1000, 2000_u64];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        let expected = Closed { when: 9, socket: 0xaa, opened: 8, sent: 1000, received: 2000 };
        assert_eq!(decode(&bytes), Some(Record::Closed(expected)));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "{end}");
        }
    }
}
