//! The texts of `/proc` and the user database, one at a time; the first byte says which. What is read stands in the text,
//! and written again it reads the same.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use twinward::sys::capabilities::effective;
use twinward::sys::procfs::{Stat, hides, parse_user, socket_inode};
use twinward::sys::sockets::{BoundSocket, Transport};
use twinward::sys::{authorized_keys, group, net_namespaces, passwd, procnet, shadow};

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match which % 6 {
        0 => stat(&text),
        1 => status(&text),
        2 => sockets(&text),
        3 => users(&text),
        4 => mounts(&text),
        _ => link(&text),
    }
});

fn stat(text: &str) {
    let Some(stat) = Stat::parse(text) else { return };
    assert!(text.contains(&stat.name));
    let Stat { pid, name, state, parent, flags, start, .. } = &stat;
    let fill = "0 ".repeat(12);
    let from = stat.arguments_at.unwrap_or(0);
    let to = from.saturating_add(stat.arguments.unwrap_or(0));
    let line =
        format!("{pid} ({name}) {state} {parent} 1 1 0 -1 {flags} {fill}{start} {}{from} {to} 0 0", "0 ".repeat(25));
    assert_eq!(Stat::parse(&line), Some(stat));
}

fn status(text: &str) {
    if let Some(uid) = parse_user(text) {
        assert_eq!(parse_user(&format!("Name:\tx\nUid:\t{uid}\t0\t0\t0\n")), Some(uid));
        assert!(text.contains("Uid:"));
    }
    if let Some(mask) = effective(text) {
        assert_eq!(effective(&format!("CapEff:\t{mask:016x}\n")), Some(mask));
        assert!(text.contains("CapEff:"));
    }
}

fn sockets(text: &str) {
    for transport in Transport::ALL {
        let found = procnet::parse(text, transport);
        assert!(found.len() <= text.lines().count().saturating_sub(1));
        for socket in found {
            assert_eq!((socket.transport, socket.local.is_ipv6()), (transport, transport.is_v6()));
            assert_eq!(procnet::parse(&format!("heading\n{}\n", line(&socket)), transport), [socket]);
        }
    }
}

/// A socket as the kernel writes it.
fn line(socket: &BoundSocket) -> String {
    let endpoint = |address: IpAddr, port: u16| {
        let words: String = match address {
            IpAddr::V4(v4) => format!("{:08X}", u32::from_ne_bytes(v4.octets())),
            IpAddr::V6(v6) => {
                v6.octets().as_chunks().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect()
            }
        };
        format!("{words}:{port:04X}")
    };
    let (local, remote) = (endpoint(socket.local, socket.local_port), endpoint(socket.remote, socket.remote_port));
    let state = if socket.transport.is_tcp() { "0A" } else { "07" };
    format!("0: {local} {remote} {state} 0:0 0:0 0 {} 0 {} 1", socket.uid, socket.inode)
}

fn users(text: &str) {
    for group in group::groups(text) {
        assert!(text.contains(group.name) && group.members().all(|name| text.contains(name)));
    }
    let hashes = shadow::parse(text.as_bytes());
    assert!(hashes.len() <= text.split('\n').count());
    let _ = text.lines().filter(|line| authorized_keys::is_key(line)).count();
    let (names, ids) = passwd::parse(text);
    assert!(names.len().max(ids.len()) <= text.lines().count());
    for (uid, name) in &names {
        // The first of those that share an id; one name may stand there twice, with two.
        let first = passwd::accounts(text).flatten().find(|account| account.uid == *uid);
        assert!(first.is_some_and(|account| account.name == &**name && text.contains(account.name)));
        assert!(ids.contains_key(name));
    }
}

fn mounts(text: &str) {
    let _ = hides(text);
    // The last one lies on top, whatever stands before it.
    assert!(hides(&format!("{text}\nproc /proc proc rw,hidepid=2 0 0\n")));
    assert!(!hides(&format!("{text}\nproc /proc proc rw,hidepid=0 0 0\n")));
    assert_eq!(hides(&format!("{text}\ntmpfs /tmp tmpfs rw,hidepid=2 0 0\n")), hides(text));
}

fn link(text: &str) {
    if let Some(inode) = net_namespaces::parse(text) {
        assert_eq!(net_namespaces::parse(&format!("net:[{inode}]")), Some(inode));
    }
    if let Some(inode) = socket_inode(text) {
        assert_eq!(socket_inode(&format!("socket:[{inode}]")), Some(inode));
        assert!(text.starts_with("socket:["));
    }
}
