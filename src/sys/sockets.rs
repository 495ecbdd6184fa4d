//! The sockets that wait for somebody: listening TCP, bound UDP, and raw ones, from the kernel's socket diagnostics, else
//! from `/proc/net`.
//!
//! A raw socket has no port. Where the others have theirs, it has the number of its IP protocol (1 is ICMP, 58 ICMPv6),
//! in both sources.

use std::io;
use std::net::IpAddr;

use super::host::Host;
use super::{procnet, sock_diag};

/// More sockets than a board has; the rest is left out, and said so.
pub const SOCKET_LIMIT: usize = 65_536;

/// The tables of sockets.
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
    /// Whole packets of an IP protocol over IPv4.
    Raw,
    /// The same over IPv6.
    Raw6,
}

impl Transport {
    /// All six.
    pub const ALL: [Self; 6] = [Self::Tcp, Self::Tcp6, Self::Udp, Self::Udp6, Self::Raw, Self::Raw6];
    /// Those with ports.
    pub const WITH_PORTS: [Self; 4] = [Self::Tcp, Self::Tcp6, Self::Udp, Self::Udp6];

    /// `tcp`, `tcp6`, `udp`, `udp6`, `raw`, `raw6`: the file below `/proc/net`, and the published protocol name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tcp6 => "tcp6",
            Self::Udp => "udp",
            Self::Udp6 => "udp6",
            Self::Raw => "raw",
            Self::Raw6 => "raw6",
        }
    }

    /// Whether it is one of the two TCP tables.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Tcp6)
    }

    /// Whether it is one of the two raw tables.
    #[must_use]
    pub const fn is_raw(self) -> bool {
        matches!(self, Self::Raw | Self::Raw6)
    }

    /// Whether it is one of the IPv6 tables.
    #[must_use]
    pub const fn is_v6(self) -> bool {
        matches!(self, Self::Tcp6 | Self::Udp6 | Self::Raw6)
    }
}

/// A socket that waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoundSocket {
    /// Its table.
    pub transport: Transport,
    /// Its own address, without scope; unspecified for all.
    pub local: IpAddr,
    /// Its own port; the IP protocol of a raw socket.
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
    /// Whether an IPv6 socket for all addresses takes IPv4 too; `None` for others, and where the source cannot tell.
    pub dual_stack: Option<bool>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted, each once.
    pub sockets: Vec<BoundSocket>,
    /// Whether at least one table came from socket diagnostics.
    pub diagnosed: bool,
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
    for transport in Transport::ALL {
        // The kernel answers for the real machine only.
        let asked = if host.is_live() { sock_diag::waiting(transport) } else { Err(io::ErrorKind::Unsupported.into()) };
        match asked {
            Ok(sockets) => {
                listing.diagnosed = true;
                listing.sockets.extend(sockets);
            }
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
