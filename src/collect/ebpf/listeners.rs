//! Which process listens where: what is connected from outside comes with a packet, not with a process.
//!
//! The kernel's programs tell of each socket that begins to listen, also in containers. What listened before is looked
//! up once, with the kernel's socket diagnostics and the open files of processes.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::time::Mono;
use crate::sys::bpf::record::Socket;

/// Most listening sockets that are known; the oldest makes room.
const MOST: usize = 256;
/// Whose process was not found is not searched for again in this time.
const AGAIN: Duration = Duration::from_secs(60);

/// A listening socket.
#[derive(Debug)]
struct Listener {
    /// The kernel's name of it; 0 if it was looked up.
    socket: u64,
    namespace: Option<u32>,
    address: IpAddr,
    port: u16,
    pid: Option<u32>,
    /// When its process may be searched for, if it is unknown.
    again: Mono,
}

/// What is known of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The process.
    Is(u32),
    /// It may be searched for.
    Unknown,
    /// It was not found a moment ago.
    Hidden,
}

/// The listening sockets.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Listener>);

impl Listeners {
    /// A socket begins to listen.
    pub(super) fn begins(&mut self, socket: &Socket) {
        self.ends(socket);
        self.add(Listener {
            socket: socket.socket,
            namespace: socket.namespace,
            address: socket.local.to_canonical(),
            port: socket.local_port,
            pid: socket.pid,
            again: Mono::default(),
        });
    }

    /// A socket listens no more.
    pub(super) fn ends(&mut self, socket: &Socket) {
        let (address, place) = (socket.local.to_canonical(), (socket.namespace, socket.local_port));
        self.0.retain(|known| {
            let looked_up = known.socket == 0 && known.address == address && (known.namespace, known.port) == place;
            known.socket != socket.socket && !looked_up
        });
    }

    /// A process has ended. Others may hold its sockets still.
    pub(super) fn process_ended(&mut self, pid: u32) {
        self.0.retain(|known| known.socket != 0 || known.pid != Some(pid));
        for known in self.0.iter_mut().filter(|known| known.pid == Some(pid)) {
            known.pid = None;
        }
    }

    /// Something was lost: nothing that is known is certain.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Who listens where this connection came in.
    pub(super) fn of(&self, connection: &Socket, now: Mono) -> Owner {
        let mut hidden = false;
        for known in self.0.iter().rev().filter(|known| known.takes(connection)) {
            match known.pid {
                Some(pid) => return Owner::Is(pid),
                None => hidden |= now < known.again,
            }
        }
        if hidden { Owner::Hidden } else { Owner::Unknown }
    }

    /// Takes what a search for the owner of this listener gave.
    pub(super) fn found(&mut self, connection: &Socket, pid: Option<u32>, now: Mono) {
        let again = now.after(AGAIN);
        if let Some(known) = self.0.iter_mut().rfind(|known| known.takes(connection)) {
            (known.pid, known.again) = (pid, again);
            return;
        }
        self.add(Listener {
            socket: 0,
            namespace: connection.namespace,
            address: connection.local.to_canonical(),
            port: connection.local_port,
            pid,
            again,
        });
    }

    /// The processes that listen.
    pub(super) fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.0.iter().filter_map(|known| known.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn add(&mut self, listener: Listener) {
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(listener);
    }
}

impl Listener {
    fn takes(&self, connection: &Socket) -> bool {
        self.port == connection.local_port
            && self.namespace == connection.namespace
            && (self.address.is_unspecified() || self.address == connection.local.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::connections::sample;
    use super::*;
    use crate::sys::bpf::record::What;

    fn listens(socket: u64, local: &str, port: u16, pid: u32) -> Socket {
        let pid = Some(pid);
        Socket { socket, local: local.parse().unwrap(), local_port: port, pid, ..sample(What::Listens) }
    }

    fn comes_in(local: &str, port: u16) -> Socket {
        Socket { local: local.parse().unwrap(), local_port: port, pid: None, ..sample(What::In) }
    }

    const NOW: Mono = Mono::from_boot(Duration::from_secs(100));

    #[test]
    fn who_listens_is_known_from_its_beginning_to_its_end() {
        let mut listeners = Listeners::default();
        let (all, one) = (listens(1, "::", 22, 5), listens(2, "192.0.2.9", 80, 6));
        listeners.begins(&all);
        listeners.begins(&one);
        let of = |listeners: &Listeners, local, port| listeners.of(&comes_in(local, port), NOW);
        assert_eq!(of(&listeners, "::ffff:192.0.2.1", 22), Owner::Is(5));
        assert_eq!(of(&listeners, "192.0.2.9", 80), Owner::Is(6));
        assert_eq!(of(&listeners, "192.0.2.1", 80), Owner::Unknown, "another address");
        let elsewhere = Socket { namespace: Some(9), ..comes_in("192.0.2.1", 22) };
        assert_eq!(listeners.of(&elsewhere, NOW), Owner::Unknown, "another namespace");
        assert_eq!(listeners.processes(), [5, 6]);
        listeners.ends(&all);
        assert_eq!(of(&listeners, "192.0.2.1", 22), Owner::Unknown);
    }

    #[test]
    fn what_was_looked_up_holds_until_its_process_or_its_socket_ends() {
        let mut listeners = Listeners::default();
        let connection = comes_in("192.0.2.1", 22);
        listeners.found(&connection, Some(5), NOW);
        assert_eq!(listeners.of(&connection, NOW), Owner::Is(5));
        listeners.process_ended(5);
        assert_eq!(listeners.of(&connection, NOW), Owner::Unknown);
        listeners.found(&connection, None, NOW);
        assert_eq!(listeners.of(&connection, NOW), Owner::Hidden);
        assert_eq!(listeners.of(&connection, NOW.after(AGAIN)), Owner::Unknown);
        listeners.ends(&listens(77, "192.0.2.1", 22, 5));
        assert!(listeners.0.is_empty());
        // The socket of a process that has ended may be that of its children now.
        listeners.begins(&listens(1, "::", 22, 5));
        listeners.process_ended(5);
        assert_eq!(listeners.of(&connection, NOW), Owner::Unknown);
        listeners.found(&connection, Some(6), NOW);
        assert_eq!((listeners.of(&connection, NOW), listeners.0.len()), (Owner::Is(6), 1));
        listeners.forget();
        assert_eq!(listeners.of(&connection, NOW), Owner::Unknown);
    }

    proptest! {
        /// Whatever begins, ends and is searched for: the table is bounded, and no process that ended is named.
        #[test]
        fn no_process_that_ended_is_named(steps in prop::collection::vec((0_u8..5, 0_u64..600, 1_u32..9), 1..900)) {
            let mut listeners = Listeners::default();
            for (what, socket, pid) in steps {
                let port = u16::try_from(socket % 40 + 1).unwrap();
                match what {
                    0 => listeners.ends(&listens(socket, "::", port, pid)),
                    1 => {
                        listeners.process_ended(pid);
                        prop_assert!(!listeners.processes().contains(&pid));
                    }
                    2 => listeners.found(&comes_in("192.0.2.1", port), Some(pid), NOW),
                    _ => {
                        listeners.begins(&listens(socket, "::", port, pid));
                        prop_assert_eq!(listeners.of(&comes_in("192.0.2.1", port), NOW), Owner::Is(pid));
                    }
                }
                prop_assert!(listeners.0.len() <= MOST);
            }
        }
    }
}
