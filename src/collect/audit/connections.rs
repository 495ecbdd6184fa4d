//! What audit does not say about a connection: TCP or UDP, this side's address, and the other side's, if the program did
//! not ask for it. The kernel's table of sockets has it while the socket is open, and TCP's end of a connection often a
//! while longer. One look at the table serves all connections of a drain.
//!
//! What is known by the call itself: what is accepted, and what is connected without waiting, is TCP. Else, if the socket
//! is gone, a socket with the same peer decides; and if there is none, the port does, and the event says that this is
//! assumed.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::time::Mono;
use crate::sys::audit::assemble::Connection;
use crate::sys::connections::{self, Connected};
use crate::sys::host::Host;
use crate::sys::procfs;

/// After a look that took a while no other one is taken for so many times as long: 5 % of a processor at most.
const REST: u32 = 20;
/// Ports that programs reach by UDP as a rule: names and time.
const UDP_PORTS: [u16; 2] = [53, 123];

/// A connection with everything that could be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) connection: Connection,
    pub(super) peer: SocketAddr,
    pub(super) local: Option<SocketAddr>,
    pub(super) is_tcp: bool,
    /// Whether `is_tcp` was only guessed.
    pub(super) assumed: bool,
}

/// The sockets of the machine, by what they are looked up with.
#[derive(Debug, Default)]
struct Table {
    by_inode: HashMap<u64, Connected>,
    /// By the other side: whether it is TCP.
    peers: HashMap<SocketAddr, bool>,
}

impl Table {
    fn add(&mut self, sockets: Vec<Connected>) {
        for socket in sockets {
            self.peers.entry(canonical(socket.remote, socket.remote_port)).or_insert(socket.tcp);
            if socket.inode != 0 {
                self.by_inode.insert(socket.inode, socket);
            }
        }
    }
}

fn canonical(address: std::net::IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

/// Puts a connection together with its socket; `None` if it is none to tell: of another family, or its peer unknown.
fn join(connection: Connection, inode: Option<u64>, table: &Table) -> Option<Resolved> {
    let socket = inode.and_then(|inode| table.by_inode.get(&inode));
    let remote = socket.map(|socket| canonical(socket.remote, socket.remote_port));
    // The descriptor may have been used again meanwhile.
    let socket = socket.filter(|_| connection.peer.is_none() || connection.peer == remote);
    let peer = connection.peer.or(remote)?;
    let known = match socket {
        Some(socket) => Some(socket.tcp),
        None if connection.accepted || connection.in_progress => Some(true),
        None => table.peers.get(&peer).copied(),
    };
    Some(Resolved {
        peer,
        local: socket.map(|socket| canonical(socket.local, socket.local_port)),
        is_tcp: known.unwrap_or(!UDP_PORTS.contains(&peer.port())),
        assumed: known.is_none(),
        connection,
    })
}

/// Finds out what audit does not say.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    not_before: Mono,
    /// Whether connections of the machine with itself are told.
    loopback: bool,
}

impl Resolver {
    pub(super) fn new(loopback: bool) -> Self {
        Self { loopback, ..Self::default() }
    }

    /// Whether the connection may be one to tell. Port 0 is no port: name resolvers try out addresses that way.
    pub(super) fn wants(&self, connection: &Connection) -> bool {
        connection.peer.is_none_or(|peer| self.tells(&peer))
    }

    fn tells(&self, peer: &SocketAddr) -> bool {
        peer.port() != 0 && (self.loopback || !peer.ip().is_loopback())
    }

    /// Takes the connections of a drain. `clock` says how long a look takes.
    pub(super) fn resolve(
        &mut self,
        host: &Host,
        connections: Vec<Connection>,
        clock: &dyn Fn() -> Mono,
    ) -> Vec<Resolved> {
        let socket = |c: &Connection| procfs::socket_inode_of(host, c.caller.pid, c.descriptor?);
        let with_inodes: Vec<_> = connections.into_iter().map(|c| (socket(&c), c)).collect();
        let table = self.look(&with_inodes, clock);
        self.told(with_inodes, &table)
    }

    /// Puts each connection together with the socket that its descriptor is now.
    fn told(&self, connections: Vec<(Option<u64>, Connection)>, table: &Table) -> Vec<Resolved> {
        let mut seen = HashSet::new();
        let mut resolved: Vec<_> = connections
            .into_iter()
            .rev()
            .filter_map(|(inode, connection)| {
                let again = inode.is_some_and(|inode| !seen.insert((connection.caller.pid, inode)));
                if !again {
                    return join(connection, inode, table);
                }
                // TCP connects once: an earlier call with this descriptor was about a socket that is gone. A datagram
                // socket is connected again and again by name resolution, which tries out addresses: the last call
                // with it is the one that it was opened for.
                let datagrams = inode.and_then(|inode| table.by_inode.get(&inode)).is_some_and(|socket| !socket.tcp);
                if datagrams { None } else { join(connection, None, table) }
            })
            .filter(|resolved| self.tells(&resolved.peer))
            .collect();
        resolved.reverse();
        resolved
    }

    fn look(&mut self, connections: &[(Option<u64>, Connection)], clock: &dyn Fn() -> Mono) -> Table {
        let mut table = Table::default();
        let begin = clock();
        if connections.is_empty() || begin < self.not_before {
            return table;
        }
        // Without the kernel's help it stays unknown.
        table.add(connections::with_peers().unwrap_or_default());
        let end = clock();
        self.not_before = end.after(end.since(begin).min(Duration::from_secs(3)) * REST);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::audit::arch;
    use crate::sys::audit::assemble::Caller;
    use crate::sys::audit::record::Stamp;

    fn connection(peer: Option<&str>, accepted: bool) -> Connection {
        let caller = Caller {
            stamp: Stamp::default(),
            abi: arch::of_record(0xC000_003E).unwrap(),
            pid: 7,
            parent: 1,
            uid: None,
            login_uid: None,
            session: None,
            executable: String::new(),
        };
        let peer = peer.map(|peer| peer.parse().unwrap());
        Connection { caller, accepted, descriptor: Some(3), peer, title: Vec::new(), in_progress: false }
    }

    fn socket(tcp: bool, remote: &str, inode: u64) -> Connected {
        let remote: SocketAddr = remote.parse().unwrap();
        Connected {
            tcp,
            local: "::ffff:192.0.2.1".parse().unwrap(),
            local_port: 8883,
            remote: remote.ip(),
            remote_port: remote.port(),
            cookie: 0,
            uid: 0,
            inode,
            bytes: None,
        }
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.add(vec![
            socket(true, "[::ffff:192.0.2.7]:5000", 11),
            socket(false, "192.0.2.8:53", 12),
            socket(true, "192.0.2.9:443", 0),
        ]);
        table
    }

    fn joined(peer: Option<&str>, accepted: bool, inode: Option<u64>) -> Option<(String, Option<String>, bool, bool)> {
        let resolved = join(connection(peer, accepted), inode, &table())?;
        let local = resolved.local.map(|local| local.to_string());
        Some((resolved.peer.to_string(), local, resolved.is_tcp, resolved.assumed))
    }

    #[test]
    fn the_socket_tells_what_the_record_does_not() {
        let ours = Some("192.0.2.1:8883".to_owned());
        let peer = "192.0.2.7:5000".to_owned();
        assert_eq!(joined(Some("192.0.2.7:5000"), true, Some(11)), Some((peer.clone(), ours.clone(), true, false)));
        assert_eq!(joined(None, true, Some(11)), Some((peer, ours.clone(), true, false)));
        assert_eq!(joined(Some("192.0.2.8:53"), false, Some(12)).unwrap(), ("192.0.2.8:53".into(), ours, false, false));
        // Gone, or no internet socket at all.
        assert_eq!(joined(None, true, Some(99)), None);
        assert_eq!(joined(None, true, None), None);
    }

    #[test]
    fn without_the_socket_its_peer_decides_and_then_the_port() {
        let of = |peer: &str, accepted| {
            let (_, local, is_tcp, assumed) = joined(Some(peer), accepted, None).unwrap();
            assert_eq!(local, None);
            (is_tcp, assumed)
        };
        assert_eq!(of("192.0.2.9:443", false), (true, false));
        assert_eq!(of("192.0.2.8:53", false), (false, false));
        assert_eq!(of("192.0.2.66:53", false), (false, true));
        assert_eq!(of("192.0.2.66:80", false), (true, true));
        assert_eq!(of("192.0.2.66:53", true), (true, false));
        // The descriptor is another socket by now.
        let (_, local, is_tcp, assumed) = joined(Some("192.0.2.66:53"), false, Some(11)).unwrap();
        assert_eq!((local, is_tcp, assumed), (None, false, true));
    }

    #[test]
    fn loopback_is_told_on_request_and_port_0_never() {
        let wants = |loopback, peer| Resolver::new(loopback).wants(&connection(Some(peer), false));
        assert!(wants(true, "127.0.0.1:80") && !wants(false, "127.0.0.1:80") && !wants(false, "[::1]:80"));
        assert!(wants(false, "192.0.2.7:80") && !wants(true, "192.0.2.7:0"));
        assert!(Resolver::new(false).wants(&connection(None, true)));
    }

    #[test]
    fn a_slow_look_is_not_taken_again_at_once() {
        let mut resolver = Resolver::new(true);
        let times = std::cell::Cell::new(0);
        let clock = || {
            times.set(times.get() + 1);
            Mono::from_boot(Duration::from_secs(times.get()))
        };
        let pending = vec![(None, connection(Some("192.0.2.66:80"), false))];
        resolver.look(&pending, &clock);
        assert_eq!(resolver.not_before, Mono::from_boot(Duration::from_secs(2 + 20)));
        resolver.look(&pending, &clock);
        assert_eq!(times.get(), 3);
    }

    /// Two calls with one descriptor, whose socket is now this.
    fn twice(socket: Connected) -> Vec<(u16, bool)> {
        let both = [Some("192.0.2.66:80"), Some("192.0.2.66:443")].map(|peer| (Some(4), connection(peer, false)));
        let mut table = Table::default();
        table.add(vec![socket]);
        let told = Resolver::new(false).told(both.into(), &table);
        told.iter().map(|resolved| (resolved.peer.port(), resolved.local.is_some())).collect()
    }

    #[test]
    fn a_descriptor_that_is_used_again_is_another_connection_unless_it_is_of_datagrams() {
        assert_eq!(twice(socket(true, "192.0.2.66:443", 4)), [(80, false), (443, true)]);
        assert_eq!(twice(socket(false, "192.0.2.66:443", 4)), [(443, true)]);
        // Not in the table: whether it is one socket is not known, and nothing is left out.
        assert_eq!(twice(socket(true, "192.0.2.66:443", 0)), [(80, false), (443, false)]);
    }
}
