//! Programs of ours in the kernel (eBPF, `bpf/twinward.bpf.c`) and the ring that they write into.
//!
//! They are built with clang by the build script; a build without it, or for a processor with 32 bits, has none and says
//! so ([`BUILT`]). They need Linux 5.8, and of rights CAP_BPF and CAP_PERFMON.

#[cfg(not(ebpf))]
mod absent;
mod layout;
#[cfg(ebpf)]
mod loaded;
pub mod record;

use std::io;

use thiserror::Error;

use super::btf::BtfError;

#[cfg(not(ebpf))]
pub use absent::Programs;
pub use layout::Layout;
#[cfg(ebpf)]
pub use loaded::Programs;

/// `built`, or why the programs are not in this build.
pub const BUILT: &str = env!("TWINWARD_EBPF");

/// Whether the programs are in this build.
pub const IS_BUILT: bool = cfg!(ebpf);

/// One program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Tells of each program that is started.
    Exec,
    /// Tells of each process that ends.
    Exit,
    /// Notes who connects by TCP, and tells of what listens.
    Call,
    /// Tells of each TCP connection, and of its end if that comes soon. Does not know who connects without the other one.
    Tcp,
    /// Tells of the first UDP packet that is sent to a peer, and again after ten minutes.
    Udp,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Exec, Self::Exit, Self::Call, Self::Tcp, Self::Udp];

    /// Whether the others are of use without it.
    #[must_use]
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::Call | Self::Tcp | Self::Udp)
    }
}

/// What the programs are loaded with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many bytes of the arguments of a program are kept; above 32,776 as many.
    pub arguments: u32,
    /// Bytes of the ring; a power of two, and a multiple of the page size.
    pub ring: u32,
    /// Whether connections of the machine with itself are told.
    pub loopback: bool,
    /// The ports that the kernel gives to sockets that ask for none: the first and the last.
    pub ephemeral: (u16, u16),
}

/// Why the kernel's programs give nothing.
#[derive(Debug, Error)]
pub enum BpfError {
    /// They are not in this build.
    #[error("eBPF: {BUILT}")]
    NotBuilt,
    /// It is not known where the members of the kernel's structures are.
    #[error("eBPF: the kernel's type information (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF): {0}")]
    NoLayout(BtfError),
    /// A member that is needed is not there.
    #[error("eBPF: this kernel has no {0} where it is looked for")]
    Lacks(&'static str),
    /// The kernel does not take a map or a program.
    #[error("eBPF: {0}")]
    Refused(String),
    /// Reading broke.
    #[error("eBPF: {0}")]
    Io(#[from] io::Error),
}
