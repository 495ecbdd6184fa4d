//! Connections, by the programs in the kernel of this machine: real sockets of real processes, nothing lost.

#![cfg(ebpf)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are about real processes, and end by themselves")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use twinward::collect::lane::{self, Lane, SourceContext};
use twinward::collect::{Loss, Source};
use twinward::model::event::{EventName, Observation};
use twinward::model::event_set::EventSet;
use twinward::model::ids::EventId;
use twinward::model::payload::{ConnectionCreate, Direction, Payload, Port};
use twinward::settings::ProcessSource;
use twinward::sys::clock::SystemClock;
use twinward::sys::host::Host;

/// Long enough for any machine; a test that works does not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTIONS: EventSet = EventSet::of(&[EventName::ConnectionCreate]);

/// The programs tell everybody everything: a storm of one test would fill the ring of the others.
static ONE_STORM: Mutex<()> = Mutex::new(());

/// A source, and what it gave.
struct Bench {
    source: Box<dyn Source>,
    all: Vec<Observation>,
    losses: Vec<Loss>,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    fn open(loopback_connections: bool) -> Self {
        let alone = ONE_STORM.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH));
        let plain = SourceContext::plain(Host::system(), clock);
        let context = SourceContext { wanted: ProcessSource::Ebpf, loopback_connections, ..plain };
        let source = lane::open(Lane::Kernel, &context, CONNECTIONS).unwrap();
        Self { source, all: Vec::new(), losses: Vec::new(), _alone: alone }
    }

    /// The connections with an end at `port`, when there are so many.
    fn seen(&mut self, port: u16, count: usize) -> Vec<ConnectionCreate> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let seen: Vec<_> = self.connections().filter(|c| at(c, port)).cloned().collect();
            if seen.len() >= count {
                assert_eq!(seen.len(), count, "{seen:?}");
                return seen;
            }
            assert!(Instant::now() < patience, "{count} were to be seen: {seen:?}");
            self.losses.extend(self.source.drain(Duration::from_secs(5), &mut self.all).unwrap().losses);
        }
    }

    fn connections(&self) -> impl Iterator<Item = &ConnectionCreate> {
        self.all.iter().filter_map(|observation| match &observation.what {
            Payload::ConnectionCreate(connection) => Some(connection),
            _ => None,
        })
    }
}

fn at(connection: &ConnectionCreate, port: u16) -> bool {
    [connection.local_port, Some(connection.remote_port)].contains(&Some(Port(port)))
}

fn side(seen: &[ConnectionCreate], direction: Direction) -> &ConnectionCreate {
    seen.iter().find(|connection| connection.direction == direction).unwrap()
}

fn is_ours(connection: &ConnectionCreate) {
    assert_eq!(connection.process_id, std::process::id(), "{connection:?}");
    assert!(connection.executable.contains("ebpf_connections"), "{connection:?}");
    assert!(connection.command_line.as_ref().unwrap().contains("ebpf_connections"), "{connection:?}");
    assert_eq!(connection.user_id, Some(rustix::process::getuid().as_raw().to_string()));
}

fn detail(connection: &ConnectionCreate, key: &str) -> u64 {
    connection.extra_details[key].parse().unwrap()
}

/// An argument that nobody else has.
fn marker() -> String {
    format!("twinward-{}", EventId::random())
}

fn python(script: &str, arguments: &[&str]) -> Child {
    Command::new("python3").args(["-c", script]).args(arguments).stdin(Stdio::null()).spawn().unwrap()
}

/// Both ends, each with its process, and exactly the bytes that went over it.
#[test]
#[ignore = "needs root; run by CI"]
fn a_connection_is_seen_from_both_sides_with_its_bytes() {
    let mut bench = Bench::open(true);
    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut out = TcpStream::connect((address.ip(), port)).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let ours = out.local_addr().unwrap().port();
        out.write_all(&vec![7; 100_000]).unwrap();
        out.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(accepted.read_to_end(&mut Vec::new()).unwrap(), 100_000);
        accepted.write_all(b"1234567").unwrap();
        drop(accepted);
        assert_eq!(out.read_to_end(&mut Vec::new()).unwrap(), 7);
        drop(out);
        let seen = bench.seen(port, 2);
        let (out, into) = (side(&seen, Direction::Out), side(&seen, Direction::In));
        for (connection, local, remote) in [(out, ours, port), (into, port, ours)] {
            is_ours(connection);
            assert_eq!((connection.local_port, connection.remote_port), (Some(Port(local)), Port(remote)));
            assert_eq!((connection.protocol.as_str(), connection.remote_address), ("tcp", address.ip().into()));
            assert_eq!(connection.local_address, Some(address.ip().into()));
            assert!(detail(connection, "DurationMilliseconds") < 1000);
            assert!(!connection.extra_details.contains_key("NetworkNamespace"));
        }
        assert_eq!((detail(out, "BytesSent"), detail(out, "BytesReceived")), (100_000, 7));
        assert_eq!((detail(into, "BytesSent"), detail(into, "BytesReceived")), (7, 100_000));
    }
    assert_eq!(bench.losses, []);
}

/// An IPv4 connection to an IPv6 socket is one of IPv4, and a connection that lasts is told without its end.
#[test]
#[ignore = "needs root; run by CI"]
fn a_mapped_address_is_ipv4_and_what_lasts_is_told_too() {
    let mut bench = Bench::open(true);
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let both: Vec<_> = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((mapped, port))]
        .into_iter()
        .map(|to| (TcpStream::connect(to).unwrap(), listener.accept().unwrap()))
        .collect();
    for connection in bench.seen(port, 4) {
        is_ours(&connection);
        assert_eq!(connection.remote_address.to_string(), "127.0.0.1");
        assert_eq!(connection.local_address.unwrap().to_string(), "127.0.0.1");
        assert!(!connection.extra_details.contains_key("BytesSent"), "it is open: {connection:?}");
    }
    drop(both);
}

#[test]
#[ignore = "needs root; run by CI"]
fn who_does_not_wait_is_seen_and_who_is_refused_is_not() {
    let mut bench = Bench::open(true);
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    assert!(TcpStream::connect(nobody).is_err());

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    // On loopback the answer may be there already.
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => panic!("{error}"),
    }
    let accepted = rustix::net::accept_with(&listener, flags).unwrap();
    let seen = bench.seen(to.port(), 2);
    is_ours(side(&seen, Direction::Out));
    is_ours(side(&seen, Direction::In));
    assert!(!bench.connections().any(|connection| at(connection, nobody.port())));
    drop((socket, accepted));
}

/// Both processes are gone before anything is read: the client, a copy of it that runs no program of its own, and the
/// server with its listener.
#[test]
#[ignore = "needs root; run by CI"]
fn processes_that_are_gone_are_known() {
    let mut bench = Bench::open(true);
    let (client, server) = (marker(), marker());
    let serve = "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\n\
                 for n in range(2): s.accept()[0].close()";
    let mut serving = Command::new("python3").args(["-c", serve, &server]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(serving.stdout.take().unwrap()), &mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap();
    let call = "import os, socket, sys\nto = ('127.0.0.1', int(sys.argv[1]))\n\
                if os.fork() == 0:\n socket.create_connection(to).recv(1)\n os._exit(0)\n\
                os.wait()\nsocket.create_connection(to).recv(1)";
    let mut calling = python(call, &[&port.to_string(), &client]);
    assert!(calling.wait().unwrap().success() && serving.wait().unwrap().success());
    let seen = bench.seen(port, 4);
    let marked = |connection: &ConnectionCreate, marker: &str| {
        assert!(connection.executable.contains("python3"), "{connection:?}");
        assert!(connection.command_line.as_ref().unwrap().ends_with(marker), "{connection:?}");
        connection.process_id
    };
    let out: Vec<_> = seen.iter().filter(|c| c.direction == Direction::Out).map(|c| marked(c, &client)).collect();
    let into: Vec<_> = seen.iter().filter(|c| c.direction == Direction::In).map(|c| marked(c, &server)).collect();
    assert!(out[0] != calling.id() && out[1] == calling.id(), "{out:?}");
    assert_eq!(into, [serving.id(); 2]);
    assert_eq!(bench.losses, []);
}

/// What listened before the source was opened is looked up.
#[test]
#[ignore = "needs root; run by CI"]
fn who_listened_before_is_found() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let mut bench = Bench::open(true);
    drop((TcpStream::connect(to).unwrap(), listener.accept().unwrap()));
    is_ours(side(&bench.seen(to.port(), 2), Direction::In));
}

/// Each of many short connections is seen from both sides, with its process and its bytes.
#[test]
#[ignore = "needs root; run by CI"]
fn a_thousand_short_connections_are_seen_whole() {
    const COUNT: usize = 1000;
    let mut bench = Bench::open(true);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let runner = std::thread::spawn(move || {
        let begin = Instant::now();
        for number in 0..COUNT {
            let out = TcpStream::connect(to).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            accepted.write_all(b"0123456789").unwrap();
            drop(accepted);
            assert_eq!((&out).read_to_end(&mut Vec::new()).unwrap(), 10);
            // 500 a second; the pace is part of what is tested.
            let next = Duration::from_millis(2) * u32::try_from(number).unwrap();
            std::thread::sleep(next.saturating_sub(begin.elapsed()));
        }
    });
    let seen = bench.seen(to.port(), 2 * COUNT);
    runner.join().unwrap();
    assert_eq!(seen.iter().filter(|c| c.direction == Direction::In).count(), COUNT);
    for connection in &seen {
        is_ours(connection);
        let bytes = if connection.direction == Direction::In { ("10", "0") } else { ("0", "10") };
        let of = |key: &str| connection.extra_details.get(key).map_or("", String::as_str);
        assert_eq!((of("BytesSent"), of("BytesReceived")), bytes, "{connection:?}");
    }
    assert_eq!(bench.losses, []);
}

/// A peer of UDP is told once; who serves, and who asks, is told apart; a socket that is gone at once is seen.
#[test]
#[ignore = "needs root; run by CI"]
fn a_udp_peer_is_told_once_with_its_direction() {
    let mut bench = Bench::open(true);
    for (address, first) in [(IpAddr::from(Ipv4Addr::LOCALHOST), 2000), (Ipv6Addr::LOCALHOST.into(), 12_000)] {
        // A port that is not given by the kernel itself: somebody chose it.
        let (server, port) =
            (first..first + 10_000_u16).find_map(|port| Some((UdpSocket::bind((address, port)).ok()?, port))).unwrap();
        let marker = marker();
        let script = "import socket, sys\ns = socket.socket(int(sys.argv[1]), socket.SOCK_DGRAM)\n\
                      s.sendto(b'ask', (sys.argv[2], int(sys.argv[3])))\ns.recv(9)";
        let family = if address.is_ipv4() { "2" } else { "10" };
        let mut asking = python(script, &[family, &address.to_string(), &port.to_string(), &marker]);
        let answer = || {
            let (_, from) = server.recv_from(&mut [0; 9]).unwrap();
            server.send_to(b"answer", from).unwrap();
        };
        answer();
        assert!(asking.wait().unwrap().success());
        // Connected, and more than once.
        let client = UdpSocket::bind((address, 0)).unwrap();
        client.connect((address, port)).unwrap();
        for _ in 0..10 {
            client.send(b"ask").unwrap();
            answer();
            client.recv(&mut [0; 9]).unwrap();
        }
        let seen = bench.seen(port, 3);
        assert!(seen.iter().all(|c| c.protocol == "udp" && c.remote_address == address.into()), "{seen:?}");
        let theirs = seen.iter().find(|c| c.process_id == asking.id()).unwrap();
        assert!(theirs.command_line.as_ref().unwrap().ends_with(&marker) && theirs.direction == Direction::Out);
        let into = side(&seen, Direction::In);
        is_ours(into);
        assert_eq!(into.local_port, Some(Port(port)));
        let ours = seen.iter().rfind(|c| c.direction == Direction::Out).unwrap();
        is_ours(ours);
        assert_eq!(ours.remote_port, Port(port));
    }
    assert_eq!(bench.losses, []);
}

/// More new peers of UDP than are told in a second are counted, and the rest goes on.
#[test]
#[ignore = "needs root; run by CI"]
fn a_flood_of_udp_peers_is_counted() {
    let mut bench = Bench::open(true);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for number in 0..2000_u16 {
        let [high, low] = number.to_be_bytes();
        // Nobody is there; the refusals come back with a later call.
        let _ = socket.send_to(b"x", (Ipv4Addr::new(127, 9, high, low), 9));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    drop((TcpStream::connect(to).unwrap(), listener.accept().unwrap()));
    bench.seen(to.port(), 2);
    let told = bench.connections().filter(|c| c.remote_address.to_string().starts_with("127.9.")).count() as u64;
    let flood: Vec<_> = bench.losses.iter().filter(|loss| loss.reason.contains("200 new UDP peers")).collect();
    let missed: u64 = flood.iter().map(|loss| loss.at_most.unwrap()).sum();
    // The refused calls sent nothing.
    assert!(told >= 200 && told + missed <= 2000 && missed > 0, "{told} told, {missed} missed");
    assert!(flood.iter().all(|loss| loss.events == CONNECTIONS));
}

/// Nobody reads while more is connected than the ring holds: what is left out is counted, and a process that is started
/// then has room.
#[test]
#[ignore = "needs root; run by CI"]
fn connections_leave_room_for_processes() {
    let mut bench = Bench::open(true);
    let starts = EventSet::of(&[EventName::ProcessCreate]);
    bench.source.want(CONNECTIONS.with(starts)).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    for _ in 0..2000 {
        drop((TcpStream::connect(to).unwrap(), listener.accept().unwrap()));
    }
    let marker = marker();
    assert!(Command::new("/bin/true").arg(&marker).status().unwrap().success());
    let patience = Instant::now() + PATIENCE;
    let started = |all: &[Observation]| {
        all.iter().any(|o| matches!(&o.what, Payload::ProcessCreate(p) if p.command_line.contains(&marker)))
    };
    while !started(&bench.all) || bench.losses.is_empty() {
        assert!(Instant::now() < patience, "the start was not seen");
        bench.losses.extend(bench.source.drain(Duration::from_secs(5), &mut bench.all).unwrap().losses);
    }
    // Who does not wait gets what is held back, too.
    bench.losses.extend(bench.source.drain(Duration::ZERO, &mut bench.all).unwrap().losses);
    let told = bench.connections().filter(|connection| at(connection, to.port())).count() as u64;
    let missed: u64 = bench.losses.iter().map(|loss| loss.at_most.unwrap()).sum();
    assert!(told < 4000 && told + missed >= 4000, "{told} told, {missed} missed");
    assert!(bench.losses.iter().all(|loss| loss.events == CONNECTIONS), "{:?}", bench.losses);
}

/// A container has a network namespace of its own, in which nobody can look for its sockets.
#[test]
#[ignore = "needs root; run by CI"]
fn connections_in_another_network_namespace_are_seen_and_marked() {
    let mut bench = Bench::open(true);
    let marker = marker();
    // A new namespace has a loopback device that is down: its flags are 16 bytes after its name.
    let script = "import fcntl, os, socket, struct\n\
                  s = socket.create_server(('0.0.0.0', 0))\n\
                  fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'lo', 1))\n\
                  print(s.getsockname()[1], os.readlink('/proc/self/ns/net')[5:-1], flush=True)\n\
                  c = socket.create_connection(s.getsockname())\ns.accept()[0].close()\nc.recv(1)";
    let arguments = ["--net", "python3", "-c", script, &marker];
    let output = Command::new("unshare").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (port, namespace) = text.trim().split_once(' ').unwrap();
    for connection in bench.seen(port.parse().unwrap(), 2) {
        assert!(connection.command_line.as_ref().unwrap().ends_with(&marker), "{connection:?}");
        assert_eq!(connection.extra_details["NetworkNamespace"], namespace);
    }
}

/// What the machine says to itself is told on request only.
#[test]
#[ignore = "needs root; run by CI"]
fn loopback_is_told_on_request() {
    let mut bench = Bench::open(false);
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        drop((TcpStream::connect((address, port)).unwrap(), listener.accept().unwrap()));
    }
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let quiet = silent.local_addr().unwrap().port();
    silent.send_to(b"x", (Ipv4Addr::LOCALHOST, quiet)).unwrap();
    // The machine's own address in a network is somebody's. Finding it out sends nothing.
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    if own.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).is_ok() {
        let own = own.local_addr().unwrap().ip();
        let listener = TcpListener::bind((own, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        drop((TcpStream::connect(to).unwrap(), listener.accept().unwrap()));
        assert_eq!(bench.seen(to.port(), 2)[0].remote_address, own.into());
    } else {
        // A machine without a network has nothing to compare with: longer than anything is held back.
        bench.source.drain(Duration::from_millis(1500), &mut bench.all).unwrap();
    }
    assert!(!bench.connections().any(|connection| at(connection, port) || at(connection, quiet)));
}
