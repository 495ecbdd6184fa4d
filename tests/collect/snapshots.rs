//! Snapshots of this machine, and the validator that judges them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use serde_json::json;
use twinward::collect::SNAPSHOTS;
use twinward::collect::snapshot::{self, CollectError, SnapshotContext};
use twinward::model::event::{Event, EventName};
use twinward::model::ids::{AgentId, EventId};
use twinward::model::payload::{ListeningPort, Payload};
use twinward::sys::host::Host;

use crate::{assert_valid, clock, schema};

pub fn take(name: EventName) -> snapshot::Taken {
    snapshot::take(name, &SnapshotContext::plain(Host::system(), clock())).unwrap()
}

#[test]
fn bound_sockets_are_found_with_their_process() {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connected = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    connected.connect(peer.local_addr().unwrap()).unwrap();
    let established = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let mut expected: Vec<(&str, SocketAddr, String)> = vec![
        ("tcp", tcp.local_addr().unwrap(), "*".to_owned()),
        ("udp", udp.local_addr().unwrap(), "*".to_owned()),
        ("udp", connected.local_addr().unwrap(), peer.local_addr().unwrap().port().to_string()),
    ];
    // A machine without IPv6 has none to show.
    let tcp6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
    let udp6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok();
    let mapped = TcpListener::bind((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 0)).ok();
    expected.extend(mapped.iter().map(|s| ("tcp6", s.local_addr().unwrap(), "*".to_owned())));
    expected.extend(tcp6.iter().map(|s| ("tcp6", s.local_addr().unwrap(), "*".to_owned())));
    expected.extend(udp6.iter().map(|s| ("udp6", s.local_addr().unwrap(), "*".to_owned())));

    let taken = take(EventName::ListeningPorts);
    let ports: Vec<&ListeningPort> = taken
        .snapshot
        .items
        .iter()
        .map(|item| match item {
            Payload::ListeningPort(port) => port,
            other => panic!("{other:?}"),
        })
        .collect();
    for (protocol, address, peer) in expected {
        let port = address.port().to_string();
        let found: Vec<_> = ports.iter().filter(|p| p.protocol == protocol && p.local_port == port).collect();
        let [found] = found[..] else { panic!("{protocol} {address}: {found:?}") };
        assert_eq!(found.local_address, address.ip().to_string());
        assert_eq!(found.remote_port, peer);
        assert_eq!(found.extra_details["Pid"], std::process::id().to_string());
        assert_eq!(found.extra_details["UserId"], rustix::process::getuid().as_raw().to_string());
        assert_eq!(found.extra_details["Executable"], std::env::current_exe().unwrap().to_str().unwrap());
    }
    // A connection is no listening port.
    let ours = established.local_addr().unwrap().port().to_string();
    assert!(!ports.iter().any(|p| p.protocol.starts_with("tcp") && p.local_port == ours));
}

/// Both ways to the same table say the same.
#[test]
fn the_kernel_and_proc_agree() {
    use twinward::sys::sockets::Transport;
    use twinward::sys::{procnet, sock_diag};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let only_ours = |all: Vec<_>| -> Vec<_> {
        all.into_iter().filter(|s: &twinward::sys::sockets::BoundSocket| s.local_port == port).collect()
    };
    let by_proc = only_ours(procnet::waiting(&Host::system(), Transport::Tcp).unwrap());
    assert_eq!(by_proc.len(), 1);
    match sock_diag::waiting(Transport::Tcp) {
        Ok(sockets) => assert_eq!(only_ours(sockets), by_proc),
        // Then the fallback is what is used.
        Err(error) => assert!(take(EventName::ListeningPorts).health.source == "/proc/net", "{error}"),
    }
}

#[test]
fn snapshots_of_this_machine_are_valid_messages() {
    let events: Vec<Event> = SNAPSHOTS
        .iter()
        .map(|name| {
            let taken = take(*name);
            Event { id: EventId::random(), name: *name, at: taken.snapshot.at, payload: taken.snapshot.items, hits: 1 }
        })
        .collect();
    assert_valid(&events);
    let system = &events.iter().find(|e| e.name == EventName::SystemInformation).unwrap().payload[..];
    let [Payload::SystemInformation(system)] = system else { panic!("{system:?}") };
    assert_eq!(system.host_name.as_deref(), rustix::system::uname().nodename().to_str().ok());
    assert_eq!(system.os_architecture.as_deref(), rustix::system::uname().machine().to_str().ok());
    assert!(system.total_physical_memory_kib > Some(1024));
}

#[test]
fn names_without_a_snapshot_are_refused() {
    let context = SnapshotContext::plain(Host::system(), clock());
    assert!(matches!(snapshot::take(EventName::Login, &context), Err(CollectError::NoCollector(EventName::Login))));
}

/// The validator itself: it must accept what is right and refuse what is not, also in formats.
#[test]
fn the_validator_can_refuse() {
    let validator = schema::validator();
    let good = json!({
        "AgentVersion": "0.1.0", "AgentId": AgentId::random(), "MessageSchemaVersion": "1.0",
        "Events": [{
            "Id": EventId::random(), "TimestampUTC": "2026-07-01T09:30:00.250Z",
            "TimestampLocal": "2026-07-01T11:30:00.250+02:00", "Category": "Periodic", "Name": "ListeningPorts",
            "EventType": "Security", "IsEmpty": false, "PayloadSchemaVersion": "1.0",
            "Payload": [{"LocalAddress": "::1", "LocalPort": "1", "Protocol": "tcp6"}],
        }],
    });
    assert!(validator.is_valid(&good), "{:?}", validator.iter_errors(&good).map(|e| e.to_string()).collect::<Vec<_>>());
    for (path, value) in [
        ("/AgentId", json!("short")),
        ("/Events", json!([])),
        ("/Events/0/TimestampUTC", json!("2026-07-01 09:30:00")),
        ("/Events/0/TimestampLocal", json!("2026-07-01T11:30:00")),
        ("/Events/0/Name", json!("Nonsense")),
        ("/Events/0/Payload/0/LocalAddress", json!("localhost")),
        ("/Events/0/Payload/0/LocalAddress", json!("fe80::1%eth0")),
        ("/Events/0/Payload/0/LocalPort", json!(1)),
        ("/Events/0/Payload/0/ExtraDetails", json!({"Pid": 1})),
    ] {
        let mut bad = good.clone();
        match bad.pointer_mut(path) {
            Some(place) => *place = value,
            None => bad["Events"][0]["Payload"][0]["ExtraDetails"] = value,
        }
        assert!(!validator.is_valid(&bad), "{path}");
    }
}
