//! From the kernel's records about sockets to observations of connections.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::hold::{Held, Hold};
use super::listeners::{Listeners, Owner};
use super::programs::{Programs, Reading};
use crate::collect::lane::SourceContext;
use crate::collect::owners;
use crate::model::payload::{ConnectionCreate, Direction, ExtraDetails, Port};
use crate::model::time::{Mono, Now, Timestamp};
use crate::sys::bpf::record::{Closed, Socket, What};
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::sock_diag;
use crate::sys::sockets::Transport;

/// After a search that took a while no other one is made for so many times as long: 5 % of a processor at most.
const REST: u32 = 20;

/// A connection, when it was made, in the order in which they are told.
pub(super) type Told = (Timestamp, ConnectionCreate);

/// Makes observations of connections.
pub(super) struct Connections {
    clock: Arc<dyn Clock>,
    /// Ours.
    namespace: Option<u32>,
    listeners: Listeners,
    hold: Hold,
    /// When the open files of all processes may be looked at again.
    not_before: Mono,
}

impl Connections {
    pub(super) fn new(context: &SourceContext) -> Self {
        Self {
            clock: Arc::clone(&context.clock),
            namespace: namespace(&context.host),
            listeners: Listeners::default(),
            hold: Hold::default(),
            not_before: Mono::default(),
        }
    }

    /// Takes what happened to a socket; gives what is to be told now.
    ///
    /// `ExtraDetails` of a connection: what is said about the command line; `NetworkNamespace` if it is not ours;
    /// `ContainerId` of a process that was started in one; and what [`Hold::ended`] adds.
    pub(super) fn socket(
        &mut self,
        socket: &Socket,
        at: Timestamp,
        now: Now,
        programs: &mut Programs,
        reading: &Reading,
    ) -> Option<Told> {
        let direction = match socket.what {
            What::Listens => {
                self.listeners.begins(socket);
                return None;
            }
            What::ListensNoMore => {
                self.listeners.ends(socket);
                return None;
            }
            What::Out => Direction::Out,
            What::In => Direction::In,
        };
        let pid = socket.pid.or_else(|| self.owner(socket, now.mono, &reading.host));
        let parent = socket.parent.filter(|_| socket.forked);
        let program = pid.and_then(|pid| programs.find(reading, pid, parent)).unwrap_or_default();
        let mut details = ExtraDetails::new();
        if let Some(line) = &program.line {
            line.describe(&mut details);
        }
        if let Some(other) = socket.namespace.filter(|_| self.is_elsewhere(socket)) {
            details.insert("NetworkNamespace".to_owned(), other.to_string());
        }
        if let Some(container) = program.container {
            details.insert("ContainerId".to_owned(), container.into());
        }
        let what = ConnectionCreate {
            remote_address: socket.remote.into(),
            remote_port: Port(socket.remote_port),
            local_address: Some(socket.local.into()),
            local_port: Some(Port(socket.local_port)),
            direction,
            protocol: if socket.tcp { "tcp" } else { "udp" }.to_owned(),
            process_id: pid.unwrap_or(0),
            user_id: socket.uid.map(|uid| uid.to_string()),
            executable: program.executable.into(),
            command_line: program.line.map(|line| line.line.text),
            extra_details: details,
        };
        if !socket.tcp {
            return Some((at, what));
        }
        let held = Held { at, socket: socket.socket, when: socket.when, what: Box::new(what) };
        self.hold.put(held).map(told)
    }

    /// Takes the end of a connection; gives it if it was held back.
    pub(super) fn closed(&mut self, end: &Closed) -> Option<Told> {
        self.hold.ended(end).map(told)
    }

    /// The next connection that was held back long enough; any, if `now` is `None`.
    pub(super) fn take_due(&mut self, now: Option<Mono>) -> Option<Told> {
        self.hold.take_due(now).map(told)
    }

    /// When [`Connections::take_due`] has something.
    pub(super) fn due(&self) -> Option<Mono> {
        self.hold.due()
    }

    /// A process has ended.
    pub(super) fn process_ended(&mut self, pid: u32) {
        self.listeners.process_ended(pid);
    }

    /// Records were lost.
    pub(super) fn forget_listeners(&mut self) {
        self.listeners.forget();
    }

    fn is_elsewhere(&self, socket: &Socket) -> bool {
        self.namespace.is_some() && socket.namespace.is_some_and(|other| Some(other) != self.namespace)
    }

    /// Whose socket it is, if the kernel did not know who ran.
    fn owner(&mut self, socket: &Socket, now: Mono, host: &Host) -> Option<u32> {
        if !socket.tcp {
            let inode = socket.inode?;
            if self.rests() {
                return None;
            }
            return self.search(host, HashSet::from([inode]));
        }
        if socket.what != What::In {
            return None;
        }
        match self.listeners.of(socket, now) {
            Owner::Is(pid) => return Some(pid),
            Owner::Hidden => return None,
            Owner::Unknown => {}
        }
        // The diagnostics show what is in our network namespace.
        if self.is_elsewhere(socket) || self.rests() {
            return None;
        }
        let pid = self.search(host, listening(socket));
        self.listeners.found(socket, pid, now);
        pid
    }

    /// Whether it is too early for another search.
    fn rests(&self) -> bool {
        self.clock.now().mono < self.not_before
    }

    /// Searches the open files of processes for one of these sockets.
    fn search(&mut self, host: &Host, inodes: HashSet<u64>) -> Option<u32> {
        let begin = self.clock.now().mono;
        let owners = owners::find(host, inodes.clone(), &self.listeners.processes());
        let end = self.clock.now().mono;
        self.not_before = end.after(end.since(begin).min(Duration::from_secs(3)) * REST);
        inodes.into_iter().find_map(|inode| Some(owners.of(inode)?.pid))
    }
}

fn told(held: Held) -> Told {
    (held.at, *held.what)
}

/// The inodes of the sockets that may have taken this connection in.
fn listening(connection: &Socket) -> HashSet<u64> {
    let local = connection.local.to_canonical();
    let tables = [Transport::Tcp, Transport::Tcp6].into_iter();
    tables
        .flat_map(|table| sock_diag::waiting(table).unwrap_or_default())
        .filter(|socket| socket.local_port == connection.local_port && socket.inode != 0)
        .filter(|socket| socket.local.is_unspecified() || socket.local.to_canonical() == local)
        .map(|socket| socket.inode)
        .collect()
}

/// The number of our network namespace.
fn namespace(host: &Host) -> Option<u32> {
    let link = host.read_link("/proc/self/ns/net").ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// A connection of process 300 of the machine `board`.
#[cfg(test)]
pub(super) fn sample(what: What) -> Socket {
    Socket {
        what,
        when: 3_599_000_000_000,
        pid: Some(300),
        parent: Some(1),
        forked: false,
        uid: Some(1000),
        socket: 0xaa,
        inode: None,
        namespace: Some(4_026_531_840),
        tcp: true,
        local: std::net::Ipv4Addr::new(192, 0, 2, 1).into(),
        local_port: 40_000,
        remote: std::net::Ipv4Addr::new(192, 0, 2, 7).into(),
        remote_port: 443,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::ManualClock;
    use crate::sys::fixture::{self, Fixture};

    struct Bench {
        connections: Connections,
        programs: Programs,
        reading: Reading,
        clock: Arc<ManualClock>,
        _machine: Fixture,
    }

    fn bench() -> Bench {
        let machine = fixture::machine("board");
        let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
        let context = SourceContext::plain(machine.host.clone(), clock.clone());
        let mut connections = Connections::new(&context);
        connections.namespace = sample(What::Out).namespace;
        Bench { connections, programs: Programs::default(), reading: Reading::new(&context), clock, _machine: machine }
    }

    impl Bench {
        fn told(&mut self, socket: &Socket) -> Option<ConnectionCreate> {
            let Self { connections, programs, reading, clock, .. } = self;
            let now = clock.now();
            let at_once = connections.socket(socket, now.wall, now, programs, reading);
            at_once.or_else(|| connections.take_due(None)).map(|(_, what)| what)
        }
    }

    #[test]
    fn a_connection_out_is_told_with_its_process() {
        let mut bench = bench();
        let seen = bench.told(&sample(What::Out)).unwrap();
        assert_eq!((seen.process_id, seen.executable.as_str()), (300, "/opt/sensor/sensord"));
        assert_eq!(seen.command_line.as_deref(), Some("/opt/sensor/sensord --bus 1"));
        assert_eq!(
            (seen.user_id.as_deref(), seen.direction, seen.protocol.as_str()),
            (Some("1000"), Direction::Out, "tcp")
        );
        assert_eq!((seen.local_port, seen.remote_port), (Some(Port(40_000)), Port(443)));
        assert!(seen.extra_details.is_empty());
        // A copy of it that is gone, and a program that is gone.
        let copy = Socket { pid: Some(9999), parent: Some(300), forked: true, ..sample(What::Out) };
        let seen = bench.told(&copy).unwrap();
        assert_eq!((seen.process_id, seen.executable.as_str()), (9999, "/opt/sensor/sensord"));
        let seen = bench.told(&Socket { forked: false, ..copy }).unwrap();
        assert_eq!((seen.process_id, seen.executable.as_str(), seen.command_line), (9999, "", None));
    }

    #[test]
    fn a_connection_in_is_that_of_who_listens_also_in_a_container() {
        let mut bench = bench();
        let elsewhere = Some(7);
        let listens = Socket {
            namespace: elsewhere,
            local: std::net::Ipv4Addr::UNSPECIFIED.into(),
            local_port: 80,
            ..sample(What::Listens)
        };
        let comes = Socket { namespace: elsewhere, local_port: 80, pid: None, ..sample(What::In) };
        assert_eq!(bench.told(&comes).unwrap().process_id, 0);
        assert_eq!(bench.told(&listens), None);
        let seen = bench.told(&comes).unwrap();
        assert_eq!(
            (seen.process_id, seen.executable.as_str(), seen.direction),
            (300, "/opt/sensor/sensord", Direction::In)
        );
        assert_eq!(seen.extra_details, [("NetworkNamespace".to_owned(), "7".to_owned())].into());
        assert_eq!(bench.told(&Socket { what: What::ListensNoMore, ..listens }), None);
        assert_eq!(bench.told(&comes).unwrap().process_id, 0);
    }

    #[test]
    fn a_datagram_without_a_process_is_searched_for_by_its_socket() {
        let mut bench = bench();
        let socket = Socket { tcp: false, pid: None, inode: Some(5001), ..sample(What::Out) };
        let seen = bench.told(&socket).unwrap();
        assert_eq!((seen.process_id, seen.protocol.as_str()), (300, "udp"));
        // The kernel's own sockets have no file.
        assert_eq!(bench.told(&Socket { inode: None, ..socket }).unwrap().process_id, 0);
        // After a slow search there is none for a while.
        bench.connections.not_before = bench.clock.now().mono.after(Duration::from_secs(1));
        assert_eq!(bench.told(&socket).unwrap().process_id, 0);
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(bench.told(&socket).unwrap().process_id, 300);
    }

    #[test]
    fn our_own_namespace_has_a_number() {
        assert!(namespace(&Host::system()).is_some());
    }
}
