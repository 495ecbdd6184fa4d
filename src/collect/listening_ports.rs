//! ListeningPorts: sockets that wait for connections (TCP) or datagrams (UDP), with who holds them.
//!
//! A socket that takes IPv4 and IPv6 stands in the IPv6 table as `::`, one that is bound to an IPv4 address through an
//! IPv6 socket as `::ffff:a.b.c.d`; the table's name is kept.

use std::collections::{HashMap, HashSet};

use super::owners::{self, Owners};
use super::snapshot::Found;
use crate::model::payload::{ExtraDetails, ListeningPort, Payload};
use crate::sys::host::Host;
use crate::sys::sockets::{self, BoundSocket, SOCKET_LIMIT, Transport};

pub(super) fn collect(host: &Host) -> Found {
    let listing = sockets::waiting(host);
    if listing.unreadable.len() == Transport::ALL.len() {
        return Found::unavailable("/proc/net", listing.unreadable.join(", "));
    }
    let wanted: HashSet<u64> = listing.sockets.iter().map(|s| s.inode).filter(|inode| *inode != 0).collect();
    let owners = owners::find(host, wanted, &[]);
    let interfaces = interface_names(host, &listing.sockets);

    let mut missing = listing.unreadable;
    let unowned = listing.sockets.iter().filter(|s| s.inode != 0 && owners.of(s.inode).is_none()).count();
    if unowned > 0 && owners.closed > 0 {
        missing.push(format!(
            "the process of {unowned} socket(s) is unknown: {} process(es) do not let us read their open files; \
             CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH allow it",
            owners.closed
        ));
    }
    if listing.cut {
        missing.push(format!("more than {SOCKET_LIMIT} sockets: the rest is left out"));
    }
    let items = listing.sockets.iter().map(|s| Payload::ListeningPort(item(s, &owners, &interfaces))).collect();
    let source = if listing.fallback.is_some() { "/proc/net" } else { "sock_diag" };
    Found { items, source: source.to_owned(), missing, ..Found::default() }
}

fn item(socket: &BoundSocket, owners: &Owners, interfaces: &HashMap<u32, String>) -> ListeningPort {
    let mut details = ExtraDetails::from([("UserId".to_owned(), socket.uid.to_string())]);
    if let Some(owner) = owners.of(socket.inode) {
        details.insert("Pid".to_owned(), owner.pid.to_string());
        details.extend(owner.executable.clone().map(|path| ("Executable".to_owned(), path)));
    }
    details.extend(interfaces.get(&socket.interface).map(|name| ("Interface".to_owned(), name.clone())));
    ListeningPort {
        protocol: socket.transport.as_str().to_owned(),
        local_address: socket.local.to_string(),
        local_port: socket.local_port.to_string(),
        remote_address: socket.remote.to_string(),
        remote_port: if socket.remote_port == 0 { "*".to_owned() } else { socket.remote_port.to_string() },
        extra_details: details,
    }
}

/// Names of the interfaces that sockets are bound to; reads nothing if there are none.
fn interface_names(host: &Host, sockets: &[BoundSocket]) -> HashMap<u32, String> {
    const DIRECTORY: &str = "/sys/class/net";
    if sockets.iter().all(|s| s.interface == 0) {
        return HashMap::new();
    }
    let names = host.list(DIRECTORY, 1024).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| {
            let name = name.to_str()?;
            let index = host.read_text(format!("{DIRECTORY}/{name}/ifindex"), 32).ok()?;
            Some((index.trim().parse().ok()?, name.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fixture;

    // The captured tables are those of a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_captured_board_is_listed_with_owners() {
        let machine = fixture::machine("board");
        let found = collect(&machine.host);
        assert_eq!((found.source.as_str(), found.items.len()), ("/proc/net", 6));
        assert!(found.missing.is_empty(), "{:?}", found.missing);
        let of = |port: &str| {
            found
                .items
                .iter()
                .find_map(|item| match item {
                    Payload::ListeningPort(p) if p.local_port == port => Some(p.clone()),
                    _ => None,
                })
                .unwrap()
        };
        let ssh = of("22");
        assert_eq!((ssh.protocol.as_str(), ssh.local_address.as_str(), ssh.remote_port.as_str()), ("tcp6", "::", "*"));
        assert_eq!((ssh.extra_details["Pid"].as_str(), ssh.extra_details["UserId"].as_str()), ("1", "0"));
        // Held by two processes: the first one is named.
        let sensor = of("8080");
        assert_eq!(sensor.local_address, "::ffff:127.0.0.1");
        assert_eq!(sensor.extra_details["Pid"], "300");
        assert_eq!(sensor.extra_details["Executable"], "/opt/sensor/sensord");
        let dns = of("40000");
        assert_eq!((dns.remote_address.as_str(), dns.remote_port.as_str()), ("192.168.1.1", "53"));
        assert_eq!(dns.extra_details.get("Pid"), None);
    }

    #[test]
    fn a_machine_without_tables_has_no_sockets() {
        let root = tempfile::tempdir().unwrap();
        let found = collect(&Host::rooted(root.path()));
        assert_eq!(found.items, []);
    }
}
