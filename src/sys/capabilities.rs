//! What this process may do: its effective capabilities and its namespaces, from `/proc/self`.

use std::io;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde::Serialize;

use super::host::Host;

/// The capabilities that matter to sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Capability {
    /// Read any file and directory, also `/proc/PID/fd` of others.
    DacReadSearch,
    /// Join the process connector before Linux 6.6; connection tracking; taskstats.
    NetAdmin,
    /// Raw sockets, by which the older tables of iptables are read.
    NetRaw,
    /// Read `/proc/PID/exe` and the sockets of other users' processes.
    SysPtrace,
    /// fanotify on whole file systems.
    SysAdmin,
    /// Change audit rules.
    AuditControl,
    /// Read the audit log from the kernel.
    AuditRead,
    /// Trace programs with eBPF.
    Perfmon,
    /// Load eBPF programs.
    Bpf,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::DacReadSearch,
        Self::NetAdmin,
        Self::NetRaw,
        Self::SysPtrace,
        Self::SysAdmin,
        Self::AuditControl,
        Self::AuditRead,
        Self::Perfmon,
        Self::Bpf,
    ];

    /// The kernel's number (`linux/capability.h`).
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::DacReadSearch => 2,
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::AuditControl => 30,
            Self::AuditRead => 37,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }

    /// The kernel's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::AuditControl => "CAP_AUDIT_CONTROL",
            Self::AuditRead => "CAP_AUDIT_READ",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// The inode of the initial PID namespace, fixed by the kernel.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
/// The inode of the initial user namespace, fixed by the kernel.
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    effective: u64,
    /// Whether this is the machine's own PID namespace; `None` if it cannot be told.
    pub initial_pid_namespace: Option<bool>,
    /// Whether this is the machine's own user namespace; `None` if it cannot be told.
    pub initial_user_namespace: Option<bool>,
}

impl Privileges {
    /// Reads `/proc/self/status` (line `CapEff`, 64 bits in hexadecimal) and `/proc/self/ns`.
    ///
    /// # Errors
    /// `/proc` is not mounted, or has no such line.
    pub fn read(host: &Host) -> io::Result<Self> {
        let effective = effective(&host.read_text("/proc/self/status", 8192)?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no CapEff line in /proc/self/status"))?;
        let is = |kind: &str, first: &str| {
            host.read_link(format!("/proc/self/ns/{kind}")).ok().map(|link| link.as_os_str() == first)
        };
        Ok(Self {
            effective,
            initial_pid_namespace: is("pid", FIRST_PID_NAMESPACE),
            initial_user_namespace: is("user", FIRST_USER_NAMESPACE),
        })
    }

    /// Whether a capability is effective.
    #[must_use]
    pub const fn has(&self, capability: Capability) -> bool {
        self.effective & (1 << capability.number()) != 0
    }

    /// Those of `wanted` that are not effective.
    #[must_use]
    pub fn lacking(&self, wanted: &[Capability]) -> Vec<Capability> {
        wanted.iter().copied().filter(|c| !self.has(*c)).collect()
    }
}

/// Gives capabilities back for good: this thread, and all that it starts, can never have them again. That needs
/// [`forbid_new_privileges`](super::hardening::forbid_new_privileges) before: a program that root starts would have all
/// of them anew. To be called before there are other threads, which would keep theirs. Returns those that it had.
///
/// # Errors
/// The kernel does not let it; then all are as before.
pub fn give_back(unneeded: &[Capability]) -> io::Result<Vec<Capability>> {
    let mut sets = capabilities(None)?;
    let held: Vec<Capability> =
        unneeded.iter().copied().filter(|capability| sets.permitted.bits() & (1 << capability.number()) != 0).collect();
    let mask = CapabilitySet::from_bits_retain(held.iter().fold(0, |mask, held| mask | 1 << held.number()));
    // What is not inheritable any more cannot be ambient either.
    sets.effective.remove(mask);
    sets.permitted.remove(mask);
    sets.inheritable.remove(mask);
    set_capabilities(None, sets)?;
    Ok(held)
}

/// The mask of effective capabilities in the text of a `status` file.
#[must_use]
pub fn effective(status: &str) -> Option<u64> {
    u64::from_str_radix(status.lines().find_map(|l| l.strip_prefix("CapEff:"))?.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{fixture, hardening};

    #[test]
    fn the_mask_is_read() {
        let text = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000081004\nCapBnd:\t000001ffffffffff\n";
        let privileges = Privileges {
            effective: effective(text).unwrap(),
            initial_pid_namespace: None,
            initial_user_namespace: None,
        };
        assert!(privileges.has(Capability::NetAdmin) && privileges.has(Capability::SysPtrace));
        assert!(privileges.has(Capability::DacReadSearch));
        assert_eq!(privileges.lacking(&[Capability::Bpf, Capability::NetAdmin]), vec![Capability::Bpf]);
        assert_eq!(effective("CapEff:\tzz\n"), None);
    }

    #[test]
    fn namespaces_are_told_apart() {
        let machine = fixture::machine("board");
        let privileges = Privileges::read(&machine.host).unwrap();
        assert_eq!(privileges.initial_pid_namespace, Some(true));
        assert_eq!(privileges.initial_user_namespace, Some(false));
        assert_eq!(privileges.lacking(&Capability::ALL), Capability::ALL);
    }

    #[test]
    fn what_is_given_back_is_gone_for_this_thread_alone() {
        let before = capabilities(None).unwrap();
        let had = before.permitted.contains(CapabilitySet::NET_RAW);
        std::thread::spawn(move || {
            let given = give_back(&[Capability::NetRaw]).unwrap();
            assert_eq!(given, if had { vec![Capability::NetRaw] } else { Vec::new() });
            let after = capabilities(None).unwrap();
            assert_eq!(after.permitted, before.permitted.difference(CapabilitySet::NET_RAW));
            assert!(!after.effective.contains(CapabilitySet::NET_RAW));
            assert!(!after.inheritable.contains(CapabilitySet::NET_RAW));
            assert_eq!(give_back(&[Capability::NetRaw]).unwrap(), []);
        })
        .join()
        .unwrap();
        assert_eq!(capabilities(None).unwrap().permitted, before.permitted);
    }

    #[test]
    #[ignore = "needs root; run by CI"]
    fn a_program_that_root_starts_does_not_get_back_what_was_given_back() {
        let permitted = || {
            #[expect(clippy::disallowed_methods, reason = "what a program has is what it says of itself")]
            let output = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
            effective(&String::from_utf8(output.stdout).unwrap()).unwrap()
        };
        let raw = 1_u64 << Capability::NetRaw.number();
        let ours = capabilities(None).unwrap().permitted.bits();
        assert_ne!(ours & raw, 0, "this test needs the capability");
        let children = std::thread::spawn(move || {
            give_back(&[Capability::NetRaw]).unwrap();
            let before = permitted();
            hardening::forbid_new_privileges().unwrap();
            (before, permitted())
        });
        let (before, after) = children.join().unwrap();
        assert_ne!(before & raw, 0, "else the kernel needs no telling");
        assert_eq!(after, ours & !raw);
    }
}
