//! ConnectedHardware: the devices that are there, and, if a [`Recorder`] has listened to the kernel, when they came and
//! which ones have come and gone since the last snapshot.
//!
//! An item has `State` `connected` or `removed`, `Path` (below `/sys`), and what the kind of device tells. `ConnectedAt`
//! is there if the device came while we listened, `DisconnectedAt` if it went.

mod block;
mod device;
mod net;
mod parts;
mod pci;
mod recorder;
mod usb;
mod watch;

use super::snapshot::Found;
use crate::model::payload::{ConnectedHardware, Payload};
use crate::model::time::Now;
use crate::sys::host::Host;
use crate::sys::sysfs;
use crate::sys::uevent::Properties;
use device::{AllNames, Device};

pub use recorder::{Recorder, Writer};
pub use watch::{Watch, WatchStop};

/// Most devices of a snapshot.
const LIMIT: usize = 1024;
/// Most entries of one directory of links; a machine has 64 consoles, and hosts of containers have many interfaces.
const ENTRIES: usize = 4096;

/// The kernel's name for a kind of device, and where `/sys` lists those. The order is that of the event: interfaces come
/// last, for a host of containers has many.
const KINDS: &[(&str, &str)] = &[
    ("usb", "/sys/bus/usb/devices"),
    ("pci", "/sys/bus/pci/devices"),
    ("block", "/sys/class/block"),
    ("tty", "/sys/class/tty"),
    ("video4linux", "/sys/class/video4linux"),
    ("sound", "/sys/class/sound"),
    ("input", "/sys/class/input"),
    ("bluetooth", "/sys/class/bluetooth"),
    ("i2c", "/sys/bus/i2c/devices"),
    ("spi_master", "/sys/class/spi_master"),
    ("spi", "/sys/bus/spi/devices"),
    ("gpio", "/sys/bus/gpio/devices"),
    ("watchdog", "/sys/class/watchdog"),
    ("tpm", "/sys/class/tpm"),
    ("net", "/sys/class/net"),
];

pub(super) fn collect(host: &Host, recorder: Option<&Recorder>, now: Now) -> Found {
    const SOURCE: &str = "/sys";
    if host.facts("/sys/devices").is_err() {
        return Found::unavailable(SOURCE, "/sys is not mounted");
    }
    let look = recorder.map(Recorder::look).unwrap_or_default();
    let Listing { devices, left_out, cut } = list(host);
    if let Some(recorder) = recorder {
        recorder.listed(look.mark, &devices);
    }
    let names = AllNames::of_all(host, devices.iter().chain(look.gone.iter().map(|gone| &gone.device)));
    let mut missing = look.missing();
    if left_out > 0 {
        missing.push(format!("more than {LIMIT} devices: {left_out} more are left out"));
    }
    missing.extend(cut.map(|directory| format!("more than {ENTRIES} entries in {directory}: the rest is left out")));
    let present = devices.into_iter().map(|device| {
        let since = device.details.get("Path").and_then(|path| look.connected.get(path)).copied();
        let mut item = device.into_item(&names);
        state(&mut item, "connected", since, None, now);
        item
    });
    let mut items: Vec<Payload> = present.map(Payload::ConnectedHardware).collect();
    items.extend(look.gone.into_iter().map(|gone| {
        let mut item = gone.device.into_item(&names);
        // How it stood is of no use any more.
        item.extra_details.remove("OperState");
        state(&mut item, "removed", gone.connected, Some(gone.at), now);
        Payload::ConnectedHardware(item)
    }));
    let source = if recorder.is_some() { "/sys, uevents" } else { SOURCE };
    Found { items, source: source.to_owned(), missing, ..Found::default() }
}

/// What was listed.
#[derive(Debug, Default)]
struct Listing {
    devices: Vec<Device>,
    /// How many more there are than [`LIMIT`].
    left_out: usize,
    /// A directory that has more entries than [`ENTRIES`].
    cut: Option<&'static str>,
}

fn list(host: &Host) -> Listing {
    let mut found = Listing::default();
    for (subsystem, directory) in KINDS {
        let (paths, more) = sysfs::devices(host, directory, ENTRIES);
        if more {
            found.cut = Some(directory);
        }
        for path in paths {
            let device = sysfs::Device::at(host, &path);
            let uevent = device.uevent();
            let said = Properties::lines(&uevent);
            if let Some(device) = read(&device, subsystem, said) {
                if found.devices.len() < LIMIT {
                    found.devices.push(device);
                } else {
                    found.left_out += 1;
                }
            }
        }
    }
    found
}

/// Reads one device of a kind; `said` is what the kernel says of it. `None` if it is no hardware that is told.
fn read(device: &sysfs::Device<'_>, subsystem: &str, said: Properties<'_>) -> Option<Device> {
    match (subsystem, said.get("DEVTYPE")) {
        ("usb", Some("usb_device")) => Some(usb::read(device, said)),
        ("pci", _) => Some(pci::read(device, said)),
        ("block", None | Some("disk")) => block::read(device),
        ("tty", _) => parts::serial_port(device),
        ("video4linux", _) => Some(parts::video(device)),
        ("sound", _) => parts::sound(device),
        ("input", _) => parts::input(device),
        ("bluetooth", _) => parts::bluetooth(device),
        ("i2c", _) => Some(parts::i2c(device)),
        ("spi_master", _) => Some(parts::spi_controller(device)),
        ("spi", _) => Some(parts::spi(device)),
        ("gpio", _) => parts::gpio(device),
        ("watchdog", _) => Some(parts::watchdog(device)),
        ("tpm", _) => Some(parts::tpm(device)),
        ("net", _) => net::read(device, said),
        _ => None,
    }
}

/// Adds the state of a device and its times.
fn state(item: &mut ConnectedHardware, state: &str, connected: Option<Now>, gone: Option<Now>, now: Now) {
    let times = [("ConnectedAt", connected), ("DisconnectedAt", gone)];
    let times = times.into_iter().filter_map(|(key, at)| Some((key.to_owned(), recorder::time(at?, now))));
    item.extra_details.extend(times.chain([("State".to_owned(), state.to_owned())]));
}

#[cfg(test)]
mod tests;
