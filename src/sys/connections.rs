//! Connected sockets: those that are there now (a dump), and those that the kernel has just destroyed (multicast), both
//! from the socket diagnostics (`linux/sock_diag.h`, `linux/inet_diag.h`). The head of an answer is described in
//! `sock_diag.rs`; behind it, from byte 72 on, stand attributes, each aligned to 4 bytes:
//!
//! ```text
//! 0  u16  length, these 4 bytes included        2  u16  type
//! type 2    struct tcp_info: 120 u64 bytes that the peer has acknowledged, 128 u64 bytes received
//! type 16   u8 protocol (6 TCP, 17 UDP), in notices about destroyed sockets
//! ```
//!
//! A notice about a destroyed socket has no user and no inode: its file is gone.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::netlink::SOCK_DIAG;

use super::generic_netlink::attributes;
use super::netlink::{self, Received, Socket, u64_at};
use super::sock_diag::{self, BY_FAMILY, Ends, HEAD};
use super::sockets::{SOCKET_LIMIT, Transport};

/// Groups 1 to 4: destroyed TCP and UDP sockets of IPv4, then of IPv6.
const DESTROYED: u32 = 0b1111;
/// States of a TCP socket that has, or may get, a peer: ESTABLISHED (1) to FIN_WAIT2 (5), CLOSE_WAIT (8), LAST_ACK (9)
/// and CLOSING (11). Not TIME_WAIT: that is no socket of a process any more.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
/// A UDP socket with a peer.
const UDP_CONNECTED: u32 = 1 << 1;
const SYN_SENT: u8 = 2;
const SYN_RECEIVED: u8 = 3;
const TCP_INFO: u16 = 2;
const PROTOCOL: u16 = 16;
/// Room for some thousand notices.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A socket with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
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
    /// The kernel's name of the socket, never used again.
    pub cookie: u64,
    /// The user who made it; 0 in a notice.
    pub uid: u32,
    /// Its inode; 0 if no process holds it any more.
    pub inode: u64,
    /// Bytes sent and received, if the kernel says.
    pub bytes: Option<(u64, u64)>,
}

/// Everything that is connected, and what listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// At most [`SOCKET_LIMIT`].
    pub connected: Vec<Connected>,
    /// Ports of TCP sockets that listen, with their addresses.
    pub listening: Vec<(IpAddr, u16)>,
    /// Whether there were more.
    pub cut: bool,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A socket was destroyed.
    Destroyed(Connected),
    /// The receive buffer overflowed: notices are lost.
    Overflow,
    /// Nothing waits.
    Empty,
}

/// Questions and notices.
#[derive(Debug)]
pub struct Connections {
    questions: Socket,
    notices: Socket,
    buffer: Vec<u8>,
    /// Bytes of the last datagram that were not looked at yet.
    rest: std::ops::Range<usize>,
}

impl Connections {
    /// Joins the groups.
    ///
    /// # Errors
    /// The kernel has no socket diagnostics, or a sandbox forbids netlink.
    pub fn open() -> io::Result<Self> {
        let questions = Socket::open(SOCK_DIAG, 0)?;
        let notices = Socket::open(SOCK_DIAG, DESTROYED)?;
        notices.raise_buffer(RECEIVE_BUFFER);
        Ok(Self { questions, notices, buffer: vec![0; 8192], rest: 0..0 })
    }

    /// What is connected and what listens now.
    ///
    /// # Errors
    /// As [`sock_diag::waiting`]; a table that the kernel does not have (no IPv6) is empty if another one is there.
    pub fn look(&self) -> io::Result<Look> {
        let mut look = Look::default();
        let mut failed = None;
        let mut any = false;
        for transport in Transport::WITH_PORTS {
            let states = if transport.is_tcp() { CONNECTED | sock_diag::LISTENS } else { UDP_CONNECTED };
            match sock_diag::list(&self.questions, transport, states, |body| sock_diag::ends(body, transport.is_v6())) {
                Ok(found) => {
                    any = true;
                    look.take(&found, transport.is_tcp());
                }
                Err(error) => failed = Some(error),
            }
        }
        look.cut = look.connected.len() > SOCKET_LIMIT;
        look.connected.truncate(SOCKET_LIMIT);
        match failed {
            Some(error) if !any => Err(error),
            _ => Ok(look),
        }
    }

    /// The next notice, without waiting.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn read(&mut self) -> io::Result<Notice> {
        loop {
            while let Some(message) = netlink::messages(self.buffer.get(self.rest.clone()).unwrap_or_default()).next() {
                let notice = (message.kind == BY_FAMILY).then(|| destroyed(message.body)).flatten();
                let length = (netlink::HEADER + message.body.len()).next_multiple_of(4);
                self.rest.start = self.rest.start.saturating_add(length).min(self.rest.end);
                if let Some(connected) = notice {
                    return Ok(Notice::Destroyed(connected));
                }
            }
            match self.notices.receive(&mut self.buffer)? {
                Received::Datagram(length) => self.rest = 0..length,
                Received::Overflow => return Ok(Notice::Overflow),
                Received::Empty => return Ok(Notice::Empty),
            }
        }
    }
}

impl AsFd for Connections {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notices.as_fd()
    }
}

impl Look {
    fn take(&mut self, found: &[Ends], tcp: bool) {
        for ends in found {
            if tcp && 1_u32.checked_shl(ends.state.into()) == Some(sock_diag::LISTENS) {
                self.listening.push((ends.local, ends.local_port));
            } else if ends.remote_port != 0 && !(tcp && matches!(ends.state, SYN_SENT | SYN_RECEIVED)) {
                self.connected.push(connected(ends, tcp, None));
            }
        }
    }
}

/// All sockets with a peer: also those that are only being connected, and what TCP keeps of connections that are over,
/// which has no inode.
///
/// # Errors
/// As [`sock_diag::waiting`]; a table that the kernel does not have is empty.
pub fn with_peers() -> io::Result<Vec<Connected>> {
    let questions = Socket::open(SOCK_DIAG, 0)?;
    let mut all = Vec::new();
    for transport in Transport::WITH_PORTS {
        let tcp = transport.is_tcp();
        let states = if tcp { !sock_diag::LISTENS } else { UDP_CONNECTED };
        let found = sock_diag::list(&questions, transport, states, |body| sock_diag::ends(body, transport.is_v6()));
        let found = found.unwrap_or_default();
        all.extend(found.iter().filter(|ends| ends.remote_port != 0).map(|ends| connected(ends, tcp, None)));
    }
    Ok(all)
}

fn connected(ends: &Ends, tcp: bool, bytes: Option<(u64, u64)>) -> Connected {
    let Ends { local, local_port, remote, remote_port, cookie, uid, inode, .. } = *ends;
    Connected { tcp, local, local_port, remote, remote_port, cookie, uid, inode: inode.into(), bytes }
}

/// Reads a notice; `None` if it is about a socket that never had a peer, or cut short.
#[must_use]
pub fn destroyed(body: &[u8]) -> Option<Connected> {
    let ends = sock_diag::ends(body, false).or_else(|| sock_diag::ends(body, true))?;
    let (mut tcp, mut bytes) = (None, None);
    for (kind, value) in attributes(body.get(HEAD..)?) {
        match kind {
            PROTOCOL => tcp = Some(*value.first()? == 6),
            TCP_INFO => bytes = u64_at(value, 120).zip(u64_at(value, 128)),
            _ => {}
        }
    }
    let tcp = tcp.unwrap_or(bytes.is_some());
    (ends.remote_port != 0 && ends.local_port != 0).then(|| connected(&ends, tcp, bytes.filter(|_| tcp)))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::sys::wake::{WakeFlag, Woken};

    fn notice(family: u8, remote_port: u16, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = vec![family, 7, 0, 0];
        body.extend_from_slice(&4000_u16.to_be_bytes());
        body.extend_from_slice(&remote_port.to_be_bytes());
        body.extend_from_slice(&[192, 0, 2, 1]);
        body.resize(24, 0);
        body.extend_from_slice(&[192, 0, 2, 7]);
        body.resize(44, 0);
        body.extend_from_slice(&7_u64.to_ne_bytes());
        body.resize(HEAD, 0);
        for (kind, value) in attributes {
            body.extend_from_slice(&u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    }

    #[test]
    fn a_notice_says_who_talked_and_how_much() {
        let mut info = vec![0; 136];
        info[120..128].copy_from_slice(&1000_u64.to_ne_bytes());
        info[128..136].copy_from_slice(&2000_u64.to_ne_bytes());
        let whole = notice(2, 443, &[(PROTOCOL, vec![6]), (TCP_INFO, info.clone())]);
        let seen = destroyed(&whole).unwrap();
        assert_eq!((seen.local.to_string().as_str(), seen.local_port), ("192.0.2.1", 4000));
        assert_eq!((seen.remote.to_string().as_str(), seen.remote_port), ("192.0.2.7", 443));
        assert_eq!((seen.tcp, seen.cookie, seen.bytes), (true, 7, Some((1000, 2000))));
        let udp = destroyed(&notice(2, 53, &[(PROTOCOL, vec![17])])).unwrap();
        assert_eq!((udp.tcp, udp.bytes), (false, None));
        // Never connected, of another family, or cut short.
        assert_eq!(destroyed(&notice(2, 0, &[(PROTOCOL, vec![6])])), None);
        assert_eq!(destroyed(&notice(1, 53, &[(PROTOCOL, vec![6])])), None);
        assert_eq!(destroyed(&whole[..HEAD - 1]), None);
    }

    #[test]
    fn a_connection_is_in_the_look_and_then_in_a_notice() {
        let mut connections = Connections::open().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let out = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let look = connections.look().unwrap();
        assert!(look.listening.contains(&(Ipv4Addr::LOCALHOST.into(), port)));
        let ours = out.local_addr().unwrap().port();
        let of = |look: &Look, local: u16| look.connected.iter().find(|c| c.tcp && c.local_port == local).copied();
        let (near, far) = (of(&look, ours).unwrap(), of(&look, port).unwrap());
        assert_eq!((near.remote_port, far.remote_port), (port, ours));
        assert!(near.inode != 0 && near.cookie != 0 && near.cookie != far.cookie);
        drop((out, accepted));
        let flag = WakeFlag::new().unwrap();
        loop {
            match connections.read().unwrap() {
                Notice::Destroyed(seen) if seen.cookie == near.cookie => {
                    assert_eq!((seen.local_port, seen.remote_port, seen.tcp), (ours, port, true));
                    break;
                }
                Notice::Empty => {
                    let woken = flag.wait(Some(connections.as_fd()), Duration::from_secs(60)).unwrap();
                    assert_eq!(woken, Woken::Ready, "no notice came");
                }
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = destroyed(&bytes);
        }

        #[test]
        fn any_attributes_are_survived(kind: u16, length: u16, value in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = notice(10, 1, &[(kind, value)]);
            let _ = destroyed(&body);
            body[HEAD..HEAD + 2].copy_from_slice(&length.to_ne_bytes());
            let _ = destroyed(&body);
        }
    }
}
