//! SystemInformation: what kind of machine this is. One item; what cannot be read is absent.
//!
//! Most of it has no field of its own and goes to `ExtraDetails`: what the machine is (`machine`), where its root file
//! system is (`boot_device`), what it runs in (`guest`), what it is made of (`software`), how it is protected
//! (`protection`), and how it is at the moment (`running`). A key that is absent is not known, or this machine has
//! nothing of the kind.

mod boot_device;
mod guest;
mod machine;
mod protection;
mod running;
mod software;

use super::snapshot::Found;
use crate::model::payload::{ExtraDetails, Payload, SystemInformation};
use crate::sys::host::{self, Host};
use crate::sys::sysfs::line;
use software::Release;

/// Longest file of a few lines that is read.
const SMALL: usize = 4096;

/// What is found: details under their keys, and what could not be read, each a part of a sentence.
#[derive(Debug, Default)]
struct Facts {
    details: ExtraDetails,
    missing: Vec<String>,
}

impl Facts {
    /// Adds a detail if it is known.
    fn tell(&mut self, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.details.insert(key.to_owned(), value.into());
        }
    }
}

pub(super) fn collect(host: &Host) -> Found {
    let release = Release::read(host);
    let mut facts = Facts::default();
    let memory = machine::Memory::parse(&host.read_text("/proc/meminfo", SMALL).unwrap_or_default());
    if memory.total.is_none() {
        facts.missing.push("/proc/meminfo is not readable".to_owned());
    }
    machine::tell(host, &mut facts);
    let boot_device = boot_device::tell(host, &mut facts);
    guest::tell(host, &mut facts);
    software::tell(host, &release, &mut facts);
    protection::tell(host, &mut facts);
    running::tell(host, &mut facts);
    let item = SystemInformation {
        os_name: release.name().or_else(|| line(host, "/proc/sys/kernel/ostype")),
        os_version: release.version().or_else(|| line(host, "/proc/sys/kernel/osrelease")),
        os_vendor: release.vendor(),
        os_architecture: line(host, "/proc/sys/kernel/arch").or_else(|| host.is_live().then(host::machine).flatten()),
        host_name: line(host, "/proc/sys/kernel/hostname"),
        bios_version: machine::firmware_version(host),
        boot_device,
        total_physical_memory_kib: memory.total,
        free_physical_memory_kib: memory.available,
        total_virtual_memory_kib: memory.total.zip(memory.swap_total).map(|(a, b)| a.saturating_add(b)),
        free_virtual_memory_kib: memory.available.zip(memory.swap_free).map(|(a, b)| a.saturating_add(b)),
        extra_details: facts.details,
    };
    Found {
        items: vec![Payload::SystemInformation(item)],
        source: "/proc, /sys, /etc".to_owned(),
        missing: facts.missing,
        ..Found::default()
    }
}

#[cfg(test)]
mod tests;
