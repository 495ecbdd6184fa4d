//! ListeningPorts: sockets that wait for connections (TCP), datagrams (UDP) or packets of an IP protocol (raw), with who
//! holds them; those of other network namespaces, such as containers, too.
//!
//! A raw socket has the number of its IP protocol for a port, as the old agents sent it.
//!
//! A socket that takes IPv4 and IPv6 stands in the IPv6 table as `::`, one that is bound to an IPv4 address through an
//! IPv6 socket as `::ffff:a.b.c.d`; the table's name is kept, and `DualStack` tells the first from one for IPv6 only.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::owners::{self, Owners};
use super::process::container;
use super::snapshot::Found;
use crate::model::payload::{ExtraDetails, ListeningPort, Payload};
use crate::sys::host::Host;
use crate::sys::net_namespaces::{self, Namespace};
use crate::sys::sockets::{self, BoundSocket, Listing, SOCKET_LIMIT, Transport};

/// More sockets than a board has, in all network namespaces together. An item takes about 1 KiB while the event is made.
const ITEM_LIMIT: usize = 5000;
/// The interface whose packets never leave the machine.
const LOOPBACK: &str = "lo";

pub(super) fn collect(host: &Host) -> Found {
    let listing = sockets::waiting(host);
    if listing.unreadable.len() == Transport::ALL.len() {
        return Found::unavailable("/proc/net", listing.unreadable.join(", "));
    }
    let others = net_namespaces::others(host);
    let all = || listing.sockets.iter().chain(others.namespaces.iter().flat_map(|namespace| &namespace.sockets));
    let wanted: HashSet<u64> = all().map(|s| s.inode).filter(|inode| *inode != 0).collect();
    let owners = owners::find(host, wanted, &[]);
    let interfaces = interface_names(host, &listing.sockets);

    let left_out = all().count().saturating_sub(ITEM_LIMIT);
    let mut items: Vec<Payload> = Vec::with_capacity(all().count() - left_out);
    items.extend(listing.sockets.iter().take(ITEM_LIMIT).map(|socket| {
        Payload::ListeningPort(item(socket, &owners, interfaces.get(&socket.interface).map(String::as_str)))
    }));
    for namespace in &others.namespaces {
        let place = place(host, namespace);
        let room = ITEM_LIMIT - items.len();
        items.extend(namespace.sockets.iter().take(room).map(|socket| {
            let mut item = item(socket, &owners, None);
            item.extra_details.extend(place.clone());
            Payload::ListeningPort(item)
        }));
    }

    let unowned = all().filter(|s| s.inode != 0 && owners.of(s.inode).is_none()).count();
    let cut = listing.cut || others.cut;
    let source = source(&listing);
    let mut missing = listing.unreadable;
    if unowned > 0 && owners.closed > 0 {
        missing.push(format!(
            "the process of {unowned} socket(s) is unknown: {} process(es) do not let us read their open files; \
             CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH allow it",
            owners.closed
        ));
    }
    if others.closed > 0 {
        missing.push(format!(
            "sockets of other network namespaces may be missing: {} process(es) do not show theirs; CAP_SYS_PTRACE \
             allows it",
            others.closed
        ));
    }
    if others.unreadable + others.left_out > 0 {
        let count = others.unreadable + others.left_out;
        missing.push(format!("the sockets of {count} more network namespace(s) are left out"));
    }
    if left_out > 0 {
        missing.push(format!("{left_out} more socket(s) are left out"));
    }
    if cut {
        missing.push(format!("more than {SOCKET_LIMIT} sockets, or too many in one namespace: the rest is left out"));
    }
    Found { items, source: source.to_owned(), missing, ..Found::default() }
}

const fn source(listing: &Listing) -> &'static str {
    match (listing.diagnosed, listing.fallback.is_some()) {
        (true, false) => "sock_diag",
        (true, true) => "sock_diag and /proc/net",
        (false, _) => "/proc/net",
    }
}

fn item(socket: &BoundSocket, owners: &Owners, interface: Option<&str>) -> ListeningPort {
    let mut details = ExtraDetails::from([
        ("UserId".to_owned(), socket.uid.to_string()),
        ("Scope".to_owned(), scope(socket.local, interface).to_owned()),
    ]);
    if let Some(owner) = owners.of(socket.inode) {
        details.insert("Pid".to_owned(), owner.pid.to_string());
        details.extend(owner.executable.clone().map(|path| ("Executable".to_owned(), path)));
    }
    details.extend(interface.map(|name| ("Interface".to_owned(), name.to_owned())));
    details.extend(socket.dual_stack.map(|both| ("DualStack".to_owned(), both.to_string())));
    ListeningPort {
        protocol: socket.transport.as_str().to_owned(),
        local_address: socket.local.to_string(),
        local_port: socket.local_port.to_string(),
        remote_address: socket.remote.to_string(),
        remote_port: if socket.remote_port == 0 { "*".to_owned() } else { socket.remote_port.to_string() },
        extra_details: details,
    }
}

/// Who can reach the socket, as far as its address and its interface say: `loopback`, only this machine (or container);
/// `link`, the same local network; `multicast`, whoever sends to the group; `any`, whoever reaches any address of the
/// machine; `address`, whoever reaches this one.
fn scope(local: IpAddr, interface: Option<&str>) -> &'static str {
    // What is mapped is reached by IPv4.
    match local.to_canonical() {
        _ if interface == Some(LOOPBACK) => "loopback",
        address if address.is_loopback() => "loopback",
        address if address.is_unspecified() => "any",
        address if address.is_multicast() => "multicast",
        IpAddr::V4(address) if address.is_link_local() => "link",
        IpAddr::V6(address) if address.is_unicast_link_local() => "link",
        _ => "address",
    }
}

/// What names a namespace: its number, the process through which it was read, and the container of that process.
fn place(host: &Host, namespace: &Namespace) -> Vec<(String, String)> {
    let mut place = vec![
        ("NetworkNamespace".to_owned(), namespace.inode.to_string()),
        ("NamespacePid".to_owned(), namespace.pid.to_string()),
    ];
    place.extend(container::of(host, namespace.pid, None).map(|id| ("ContainerId".to_owned(), id)));
    place
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
        assert_eq!((found.source.as_str(), found.items.len()), ("/proc/net", 8));
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
        let icmp = of("1");
        assert_eq!((icmp.protocol.as_str(), icmp.remote_port.as_str()), ("raw", "*"));
        let scopes = ["22", "8080", "546", "40000"].map(|port| of(port).extra_details["Scope"].clone());
        assert_eq!(scopes, ["any", "loopback", "link", "address"]);
        assert!(found.items.iter().all(|item| match item {
            Payload::ListeningPort(port) => !port.extra_details.contains_key("DualStack"),
            _ => false,
        }));
        // In another network namespace, held by the process through which it was read.
        let database = of("5432");
        let of_database = |key: &str| database.extra_details[key].as_str();
        assert_eq!((of_database("NetworkNamespace"), of_database("NamespacePid")), ("4026532500", "303"));
        assert_eq!((of_database("Pid"), of_database("Executable")), ("303", "/opt/sensor/sensord"));
    }

    #[test]
    fn a_scope_says_who_can_reach_a_socket() {
        for (address, expected) in [
            ("0.0.0.0", "any"),
            ("::", "any"),
            ("::ffff:0.0.0.0", "any"),
            ("127.0.0.53", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("169.254.1.1", "link"),
            ("fe80::1", "link"),
            ("224.0.0.251", "multicast"),
            ("ff02::fb", "multicast"),
            ("192.0.2.1", "address"),
            ("::ffff:192.0.2.1", "address"),
            ("fd00::1", "address"),
        ] {
            assert_eq!(scope(address.parse().unwrap(), None), expected, "{address}");
        }
        let any = IpAddr::from([0; 4]);
        assert_eq!((scope(any, Some("lo")), scope(any, Some("eth0"))), ("loopback", "any"));
    }

    #[test]
    fn a_machine_without_tables_has_no_sockets() {
        let root = tempfile::tempdir().unwrap();
        let found = collect(&Host::rooted(root.path()));
        assert_eq!(found.items, []);
    }
}
