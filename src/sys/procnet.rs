//! The socket tables `/proc/net/{tcp,tcp6,udp,udp6,raw,raw6}`, for kernels without socket diagnostics, and for other
//! network namespaces.
//!
//! One line a socket after a heading, fields apart by blanks: number, local `ADDRESS:PORT`, remote `ADDRESS:PORT`,
//! state (`0A` listens), queues, timer, retransmissions, uid, time-out, inode, … All but uid, time-out and inode are
//! hexadecimal. An address is one 32-bit word for IPv4, four for IPv6, each printed as the machine reads the four
//! bytes of the wire; the port is a plain number, in the raw tables that of the IP protocol.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::host::Host;
use super::sockets::{BoundSocket, SOCKET_LIMIT, Transport};

/// Room for the limit of sockets: an IPv6 line has about 170 bytes.
const BYTES: usize = SOCKET_LIMIT * 180;
const LISTEN: &str = "0A";

/// Reads one table; a missing file is an empty one.
///
/// # Errors
/// Those of reading.
pub fn waiting(host: &Host, transport: Transport) -> io::Result<Vec<BoundSocket>> {
    Ok(waiting_below(host, "/proc/net", transport, BYTES)?.0)
}

/// The same of the tables in another directory, of which at most `limit` bytes are read; and whether there were more.
///
/// # Errors
/// Those of reading.
pub fn waiting_below(
    host: &Host,
    directory: &str,
    transport: Transport,
    limit: usize,
) -> io::Result<(Vec<BoundSocket>, bool)> {
    match host.read_text(format!("{directory}/{}", transport.as_str()), limit) {
        Ok(text) => Ok((parse(&text, transport), text.len() >= limit)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), false)),
        Err(error) => Err(error),
    }
}

/// The waiting sockets in the text of a table; lines that cannot be read are left out.
#[must_use]
pub fn parse(text: &str, transport: Transport) -> Vec<BoundSocket> {
    text.lines().skip(1).filter_map(|line| socket(line, transport)).take(SOCKET_LIMIT + 1).collect()
}

fn socket(line: &str, transport: Transport) -> Option<BoundSocket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    if transport.is_tcp() && state != LISTEN {
        return None;
    }
    let (local, local_port) = endpoint(local, transport)?;
    let (remote, remote_port) = endpoint(remote, transport)?;
    let mut fields = fields.skip(3);
    let uid = fields.next()?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(BoundSocket { transport, local, local_port, remote, remote_port, inode, uid, interface: 0, dual_stack: None })
}

fn endpoint(text: &str, transport: Transport) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |i: usize| Some(u32::from_str_radix(address.get(i * 8..i * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let address = match (transport.is_v6(), address.len()) {
        (false, 8) => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        (true, 32) => {
            let mut bytes = [0_u8; 16];
            for (i, part) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *part = word(i)?;
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::fixture;

    // The captured tables are those of a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn captured_tables_are_read() {
        let machine = fixture::machine("board");
        let found: Vec<_> = Transport::ALL
            .into_iter()
            .flat_map(|t| waiting(&machine.host, t).unwrap())
            .map(|s| {
                let (t, l, r) = (s.transport.as_str(), (s.local, s.local_port), (s.remote, s.remote_port));
                format!("{t} {} {} {} {} {} {}", l.0, l.1, r.0, r.1, s.uid, s.inode)
            })
            .collect();
        assert_eq!(
            found,
            [
                "tcp 127.0.0.1 631 0.0.0.0 0 0 5000",
                "tcp6 :: 22 :: 0 0 5002",
                "tcp6 ::ffff:127.0.0.1 8080 :: 0 1000 5001",
                "tcp6 fe80::1234:56ff:fe78:9abc 546 :: 0 0 5003",
                "udp 0.0.0.0 68 0.0.0.0 0 0 5004",
                "udp 192.168.1.7 40000 192.168.1.1 53 1000 5005",
                "raw 0.0.0.0 1 0.0.0.0 0 0 5006",
            ]
        );
    }

    #[test]
    fn a_missing_table_is_empty() {
        assert_eq!(waiting(&fixture::machine("board").host, Transport::Udp6).unwrap(), []);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(line in "[ -~]{0,80}", a in "[0-9A-F]{0,40}") {
            for transport in Transport::ALL {
                let _ = parse(&format!("heading\n{line}\n0: {a}:0016 {a}:0000 0A 0 0 0 0 0 1\n"), transport);
            }
        }

        #[test]
        fn any_address_is_read(bytes: [u8; 16], port: u16) {
            let mut words = String::new();
            for chunk in bytes.as_chunks::<4>().0 {
                words.push_str(&format!("{:08X}", u32::from_ne_bytes(*chunk)));
            }
            let text = format!("heading\n 0: {words}:{port:04X} {words}:0000 07 0:0 0:0 0 7 0 9 2 x\n");
            let found = parse(&text, Transport::Udp6);
            prop_assert_eq!((found[0].local, found[0].local_port), (IpAddr::V6(Ipv6Addr::from(bytes)), port));
            prop_assert_eq!((found[0].uid, found[0].inode), (7, 9));
        }
    }
}
