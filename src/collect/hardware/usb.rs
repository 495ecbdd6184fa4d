//! Devices on USB. A device is what its interfaces are: one that is a keyboard and a disk says both.

use std::collections::BTreeSet;

use super::device::Device;
use crate::sys::hwdata::List;
use crate::sys::sysfs;
use crate::sys::uevent::Properties;

/// More files and interfaces than the directory of a device has.
const ENTRIES: usize = 256;

/// Class, subclass and protocol of an interface (`bInterfaceClass` and so on), or of a device.
type Class = (u32, u32, u32);

/// Reads a device; what `/sys` does not have any more is taken from what the kernel said of it.
pub(super) fn read(device: &sysfs::Device<'_>, said: Properties<'_>) -> Device {
    let interfaces = interfaces(device);
    let own = triple(device, "bDevice");
    let classes: BTreeSet<Class> = if interfaces.is_empty() {
        // Class 0: see the interfaces, which are not there yet or not any more.
        own.or_else(|| said_class(said)).into_iter().filter(|class| class.0 != 0).collect()
    } else {
        interfaces.iter().filter_map(|name| triple(device, &format!("{name}/bInterface"))).collect()
    };
    let is_root = device.name().strip_prefix("usb").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let mut found = Device::new("USB", kind(&classes, is_root), device);
    let mut said_ids = said.get("PRODUCT").unwrap_or_default().split('/').map(sysfs::hex);
    let (vendor, product) = (said_ids.next().flatten(), said_ids.next().flatten());
    found.identify(List::Usb, device.hex("idVendor").or(vendor), device.hex("idProduct").or(product));
    found.name = device.value("product");
    found.tell("Vendor", device.value("manufacturer"));
    found.tell("Product", device.value("product"));
    found.tell("Serial", device.value("serial"));
    let listed: Vec<String> = classes.iter().map(|(a, b, c)| format!("{a:02x}/{b:02x}/{c:02x}")).collect();
    found.tell("Class", (!listed.is_empty()).then(|| listed.join(", ")));
    let drivers: BTreeSet<String> =
        interfaces.iter().filter_map(|name| device.link(&format!("{name}/driver"))).collect();
    found.tell("Driver", (!drivers.is_empty()).then(|| drivers.into_iter().collect::<Vec<_>>().join(", ")));
    found.tell("SpeedMbps", device.value("speed"));
    found.tell("Removable", device.value("removable").filter(|value| value != "unknown"));
    found.tell("Authorized", device.value("authorized").filter(|value| value == "0").map(|_| "false".to_owned()));
    if let Some((_, (vendor, product))) = found.id {
        found.plain_name = format!("USB device {vendor:04x}:{product:04x}");
    }
    found
}

/// The names of its interfaces: `1-2:1.0` is interface 0 in configuration 1 of device `1-2`.
fn interfaces(device: &sysfs::Device<'_>) -> Vec<String> {
    let mut names = device.children("", ENTRIES);
    names.retain(|name| name.contains(':') && !name.starts_with("ep_"));
    names
}

fn triple(device: &sysfs::Device<'_>, prefix: &str) -> Option<Class> {
    let of = |name: &str| device.hex(&format!("{prefix}{name}"));
    Some((of("Class")?, of("SubClass")?, of("Protocol")?))
}

/// `TYPE=9/0/1` of a notice: decimal.
fn said_class(said: Properties<'_>) -> Option<Class> {
    let mut numbers = said.get("TYPE")?.split('/').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

fn kind(classes: &BTreeSet<Class>, is_root: bool) -> String {
    if is_root {
        return "Root Hub".to_owned();
    }
    let mut kinds: Vec<&str> = Vec::new();
    for class in classes {
        let kind = match class {
            (0x01, ..) => "Audio",
            (0x02 | 0x0a, ..) => "Communications",
            (0x03, _, 1) => "Keyboard",
            (0x03, _, 2) => "Pointing Device",
            (0x03, ..) => "Human Interface Device",
            (0x05, ..) => "Physical Interface Device",
            (0x06, ..) => "Imaging",
            (0x07, ..) => "Printer",
            (0x08, ..) => "Mass Storage",
            (0x09, ..) => "Hub",
            (0x0b, ..) => "Smart Card Reader",
            (0x0d, ..) => "Content Security",
            (0x0e, ..) => "Camera",
            (0x0f, ..) => "Personal Healthcare",
            (0x10, ..) => "Audio/Video",
            (0x11, ..) => "Billboard",
            (0xdc, ..) => "Diagnostic Device",
            (0xe0, 1, 1) => "Bluetooth Adapter",
            (0xe0, ..) => "Wireless Controller",
            (0xef, ..) => "Miscellaneous",
            (0xfe, 1, _) => "Firmware Upgrade",
            (0xfe, ..) => "Application Specific",
            (0xff, ..) => "Vendor Specific",
            _ => continue,
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_all_that_its_interfaces_are() {
        let of = |classes: &[Class]| kind(&classes.iter().copied().collect(), false);
        assert_eq!(of(&[(3, 1, 1), (8, 6, 0x50)]), "Keyboard, Mass Storage");
        assert_eq!(of(&[(2, 2, 1), (0x0a, 0, 0)]), "Communications");
        assert_eq!(kind(&BTreeSet::new(), true), "Root Hub");
        assert_eq!((of(&[]), of(&[(0x77, 0, 0)])), (String::new(), String::new()));
    }
}
