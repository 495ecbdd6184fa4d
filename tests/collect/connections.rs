//! Connections, by the kernel's socket diagnostics.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use twinward::collect::Source;
use twinward::collect::lane::{self, SourceContext};
use twinward::model::event::{EventName, Observation};
use twinward::model::payload::{ConnectionCreate, Direction, Payload, Port};
use twinward::settings;
use twinward::sys::host::Host;

use crate::{PATIENCE, assert_valid, clock, event};

/// The connections that a source sees with one end at `port`, until there are `count`.
#[expect(clippy::disallowed_methods, reason = "the test's own end")]
fn connections(source: &mut dyn Source, port: u16, count: usize) -> Vec<ConnectionCreate> {
    let end = Instant::now() + PATIENCE;
    let mut all: Vec<Observation> = Vec::new();
    loop {
        let seen: Vec<_> = all
            .iter()
            .filter_map(|o| match &o.what {
                Payload::ConnectionCreate(c) if [c.local_port, Some(c.remote_port)].contains(&Some(Port(port))) => {
                    Some(c.clone())
                }
                _ => None,
            })
            .collect();
        if seen.len() >= count {
            assert_valid(&all.into_iter().map(event).collect::<Vec<_>>());
            return seen;
        }
        assert!(Instant::now() < end, "not seen; saw {seen:?}");
        source.drain(Duration::from_secs(5), &mut all).unwrap();
    }
}

/// Both ends of a connection are seen, with their process while it lasts, and with their bytes if it ended at once.
#[test]
fn connections_are_seen_from_both_sides() {
    let context = SourceContext {
        wanted: settings::ProcessSource::Poll,
        loopback_connections: true,
        ..SourceContext::plain(Host::system(), clock())
    };
    let (mut source, health) = lane::open_for(&context, EventName::ConnectionCreate).unwrap();
    assert_eq!(health.source, "socket diagnostics");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // The listener is in the look that comes before the connection, so the direction is known.
    source.drain(Duration::from_millis(1500), &mut Vec::new()).unwrap();

    let out = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let seen = connections(source.as_mut(), port, 2);
    assert_eq!(seen.len(), 2);
    for connection in &seen {
        let inbound = connection.local_port == Some(Port(port));
        assert_eq!(connection.direction, if inbound { Direction::In } else { Direction::Out });
        assert_eq!((connection.process_id, connection.protocol.as_str()), (std::process::id(), "tcp"));
        assert!(connection.executable.starts_with('/') && connection.command_line.is_some(), "{connection:?}");
        assert_eq!(connection.user_id, Some(rustix::process::getuid().as_raw().to_string()));
    }
    drop((out, accepted));

    for _ in 0..20 {
        let out = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"0123456789").unwrap();
        drop(accepted);
        drop(out);
    }
    let seen = connections(source.as_mut(), port, 40);
    assert_eq!(seen.len(), 40, "each once, and those from before not again");
    let inbound = seen.iter().filter(|c| c.direction == Direction::In).count();
    assert_eq!(inbound, 20);
    // Most are gone by the next look; those have their bytes.
    let with_bytes = seen.iter().filter(|c| c.extra_details.contains_key("BytesSent")).count();
    let with_process = seen.iter().filter(|c| c.process_id != 0).count();
    assert!(with_bytes + with_process >= 40, "{with_bytes} {with_process}");
}
