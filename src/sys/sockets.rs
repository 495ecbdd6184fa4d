//! The sockets that wait for somebody: listening TCP and bound UDP, from the kernel's socket diagnostics, else from
//! `/proc/net`.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::host::Host;
use super::{procnet, sock_diag};

/// More sockets than a board has; the rest is left out, and said so.
pub const SOCKET_LIMIT: usize = 65_536;

/// The four tables of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP over IPv4.
    Tcp,
    /// TCP over IPv6, also those that take IPv4 too.
    Tcp6,
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6, also those that take IPv4 too.
    Udp6,
}

impl Transport {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Tcp6, Self::Udp, Self::Udp6];

    /// `tcp`, `tcp6`, `udp`, `udp6`: the file below `/proc/net`, and the published protocol name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tcp6 => "tcp6",
            Self::Udp => "udp",
            Self::Udp6 => "udp6",
        }
    }

    /// Whether it is one of the two TCP tables.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Tcp6)
    }

    /// Whether it is one of the two IPv6 tables.
    #[must_use]
    pub const fn is_v6(self) -> bool {
        matches!(self, Self::Tcp6 | Self::Udp6)
    }
}

/// A socket that waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoundSocket {
    /// Its table.
    pub transport: Transport,
    /// Its own address, without scope; unspecified for all.
    pub local: IpAddr,
    /// Its own port.
    pub local_port: u16,
    /// The peer of a connected UDP socket, else unspecified.
    pub remote: IpAddr,
    /// The port of that peer, else 0.
    pub remote_port: u16,
    /// Its inode; 0 for a socket that no process holds.
    pub inode: u64,
    /// The user who made it.
    pub uid: u32,
    /// Index of the interface that it is bound to; 0 for none, and where the source cannot tell.
    pub interface: u32,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted, each once.
    pub sockets: Vec<BoundSocket>,
    /// Whether at least one table came from `/proc/net`, and why.
    pub fallback: Option<String>,
    /// Tables that could not be read at all, with the reason.
    pub unreadable: Vec<String>,
    /// Whether there were more than [`SOCKET_LIMIT`].
    pub cut: bool,
}

/// Lists them. A table that the kernel does not have (no IPv6) is empty.
#[must_use]
pub fn waiting(host: &Host) -> Listing {
    let mut listing = Listing::default();
    // The kernel answers for the real machine only.
    let real = host.path("/") == Path::new("/");
    for transport in Transport::ALL {
        let asked = if real { sock_diag::waiting(transport) } else { Err(io::ErrorKind::Unsupported.into()) };
        match asked {
            Ok(sockets) => listing.sockets.extend(sockets),
            Err(error) => {
                match procnet::waiting(host, transport) {
                    Ok(sockets) => listing.sockets.extend(sockets),
                    Err(e) => listing.unreadable.push(format!("/proc/net/{}: {e}", transport.as_str())),
                }
                listing.fallback.get_or_insert_with(|| format!("socket diagnostics: {error}"));
            }
        }
    }
    listing.sockets.sort_unstable();
    listing.sockets.dedup();
    listing.cut = listing.sockets.len() > SOCKET_LIMIT;
    listing.sockets.truncate(SOCKET_LIMIT);
    listing
}
