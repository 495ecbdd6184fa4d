//! ListeningPorts beside what a plain socket shows: IPv6 with and without IPv4, raw sockets, other network namespaces.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use twinward::model::event::{Event, EventName};
use twinward::model::ids::EventId;
use twinward::model::payload::{ListeningPort, Payload};

use crate::assert_valid;
use crate::snapshots::take;

/// The ports of this machine; their event is valid.
fn ports() -> Vec<ListeningPort> {
    let taken = take(EventName::ListeningPorts);
    let (name, at) = (EventName::ListeningPorts, taken.snapshot.at);
    assert_valid(&[Event { id: EventId::random(), name, at, payload: taken.snapshot.items.clone(), hits: 1 }]);
    let port = |item| match item {
        Payload::ListeningPort(port) => port,
        other => panic!("{other:?}"),
    };
    taken.snapshot.items.into_iter().map(port).collect()
}

fn detail<'a>(port: &'a ListeningPort, key: &str) -> Option<&'a str> {
    port.extra_details.get(key).map(String::as_str)
}

/// A bound IPv6 socket for all addresses, and its port; `None` on a machine without IPv6.
fn wildcard(kind: SocketType, v6_only: bool) -> Option<(OwnedFd, u16)> {
    let socket = rustix::net::socket_with(AddressFamily::INET6, kind, SocketFlags::CLOEXEC, None).ok()?;
    sockopt::set_ipv6_v6only(&socket, v6_only).unwrap();
    rustix::net::bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0)).unwrap();
    if kind == SocketType::STREAM {
        rustix::net::listen(&socket, 1).unwrap();
    }
    let port = SocketAddrV6::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap().port();
    Some((socket, port))
}

#[test]
fn a_wildcard_for_both_families_is_told_from_one_for_ipv6() {
    let all: Vec<_> = [SocketType::STREAM, SocketType::DGRAM]
        .into_iter()
        .flat_map(|kind| [(kind, false), (kind, true)])
        .filter_map(|(kind, v6_only)| Some((wildcard(kind, v6_only)?, kind, v6_only)))
        .collect();
    let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let mapped = TcpListener::bind((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 0)).ok();
    let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ports = ports();
    let of = |protocol: &str, number: u16| {
        ports.iter().find(|p| p.protocol == protocol && p.local_port == number.to_string()).unwrap()
    };
    // Without socket diagnostics nobody tells.
    let diagnosed = twinward::sys::sock_diag::waiting(twinward::sys::sockets::Transport::Tcp6).is_ok();
    for ((_socket, number), kind, v6_only) in &all {
        let found = of(if *kind == SocketType::STREAM { "tcp6" } else { "udp6" }, *number);
        assert_eq!((found.local_address.as_str(), detail(found, "Scope")), ("::", Some("any")));
        assert_eq!(detail(found, "DualStack"), diagnosed.then_some(if *v6_only { "false" } else { "true" }));
    }
    let v4 = of("tcp", v4.local_addr().unwrap().port());
    assert_eq!((detail(v4, "Scope"), detail(v4, "DualStack")), (Some("any"), None));
    let near = of("udp", near.local_addr().unwrap().port());
    assert_eq!(detail(near, "Scope"), Some("loopback"));
    if let Some(mapped) = mapped {
        let found = of("tcp6", mapped.local_addr().unwrap().port());
        assert_eq!((found.local_address.as_str(), detail(found, "Scope")), ("::ffff:127.0.0.1", Some("loopback")));
        assert_eq!(detail(found, "DualStack"), None);
    }
}

#[test]
#[ignore = "needs root: opens raw sockets"]
fn raw_sockets_are_told_with_their_protocol() {
    let raw = |family, protocol| {
        rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol)).unwrap()
    };
    let v4 = raw(AddressFamily::INET, ipproto::ICMP);
    let v6 =
        rustix::net::socket_with(AddressFamily::INET6, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::ICMPV6));
    let ours = std::process::id().to_string();
    let ports = ports();
    let of = |protocol: &str, port: &str| {
        ports.iter().find(|p| p.protocol == protocol && p.local_port == port && detail(p, "Pid") == Some(ours.as_str()))
    };
    let found = of("raw", "1").unwrap();
    assert_eq!((found.local_address.as_str(), found.remote_port.as_str()), ("0.0.0.0", "*"));
    assert_eq!(detail(found, "Scope"), Some("any"));
    if v6.is_ok() {
        let found = of("raw6", "58").unwrap();
        assert_eq!((found.local_address.as_str(), detail(found, "DualStack")), ("::", None));
    }
    drop(v4);
}

/// A socket that has an address of the local link belongs to its interface.
#[test]
fn the_interface_of_a_bound_socket_is_named() {
    // Address, number of the interface, length of the prefix, scope (20 is the link), flags, name.
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let here = addresses.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, index, _, "20", _, name] = fields[..] else { return None };
        let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
        let index = u32::from_str_radix(index, 16).ok()?;
        let socket = UdpSocket::bind(SocketAddrV6::new(address, 0, 0, index)).ok()?;
        Some((socket, address, name.to_owned()))
    });
    // A machine need not have such an address, nor socket diagnostics, which alone know the interface.
    let Some((socket, address, name)) = here else { return };
    if twinward::sys::sock_diag::waiting(twinward::sys::sockets::Transport::Udp6).is_err() {
        return;
    }
    let (ports, number) = (ports(), socket.local_addr().unwrap().port().to_string());
    let found = ports.iter().find(|p| p.protocol == "udp6" && p.local_port == number).unwrap();
    assert_eq!(found.local_address, address.to_string());
    assert_eq!((detail(found, "Interface"), detail(found, "Scope")), (Some(name.as_str()), Some("link")));
}

const HOLDER: &str = "TWINWARD_TEST_HOLDS_A_LISTENER";

/// Not a test by itself: the next one starts it in a network namespace, where it listens until its input ends.
#[test]
#[ignore = "needs root: is started by another test"]
fn holds_a_listener() {
    if std::env::var_os(HOLDER).is_none() {
        return;
    }
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    println!("\nports {} {}", tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
#[ignore = "needs root: makes a network namespace"]
#[expect(clippy::disallowed_methods, reason = "the test is about a real process in a namespace of its own")]
fn a_listener_in_another_network_namespace_is_found() {
    let mut child = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "ports::holds_a_listener"])
        .env(HOLDER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told = said.find(|line| line.starts_with("ports ")).unwrap();
    let numbers: Vec<&str> = told.split(' ').skip(1).collect();
    let pid = child.id().to_string();
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let namespace = link.to_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).to_owned();

    let ports = ports();
    let there: Vec<_> = ports.iter().filter(|p| detail(p, "NetworkNamespace") == Some(namespace.as_str())).collect();
    for (protocol, number) in ["tcp", "udp"].into_iter().zip(numbers) {
        let found: Vec<_> = there.iter().filter(|p| p.protocol == protocol && p.local_port == number).collect();
        let [found] = found[..] else { panic!("{protocol} {number}: {there:?}") };
        assert_eq!((detail(found, "Pid"), detail(found, "NamespacePid")), (Some(pid.as_str()), Some(pid.as_str())));
        assert_eq!(detail(found, "Executable"), std::env::current_exe().unwrap().to_str());
    }
    assert_eq!(there.len(), 2, "{there:?}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
