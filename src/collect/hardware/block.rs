//! Disks and cards. Partitions, and what the kernel makes of memory, files and other disks (loop, zram, device mapper,
//! RAID), are no hardware of their own.

use super::device::Device;
use crate::sys::sysfs;

/// Reads a device. `None` if it is no hardware of its own.
pub(super) fn read(device: &sysfs::Device<'_>) -> Option<Device> {
    if device.is_virtual() || device.has("partition") {
        return None;
    }
    let parent = device.parent().map(|parent| parent.name()).unwrap_or_default();
    // An eMMC has further areas to boot from.
    if parent.starts_with("mmcblk") && device.name().starts_with(parent) {
        return None;
    }
    let transport = transport(device);
    let (category, kind) = kind(device, transport);
    let mut found = Device::new(category, kind, device);
    let sectors = device.number("size");
    // In units of 512 bytes, whatever the sectors of the disk are.
    found.tell("SizeBytes", sectors.and_then(|count| count.checked_mul(512)).map(|bytes| bytes.to_string()));
    found.tell("Removable", flag(device, "removable"));
    found.tell("ReadOnly", flag(device, "ro").filter(|value| value == "true"));
    found.tell("Transport", transport.map(str::to_owned));
    found.tell("Vendor", device.value("device/vendor").filter(|vendor| !vendor.starts_with("0x")));
    let model =
        device.value("device/model").or_else(|| device.value("device/name").filter(|_| transport == Some("mmc")));
    found.tell("Model", model.clone());
    found.tell("Serial", serial(device));
    found.tell("FirmwareRevision", device.value("device/firmware_rev").or_else(|| device.value("device/rev")));
    found.tell("Driver", device.link("device/driver"));
    found.tell("Device", Some(format!("/dev/{}", device.name().replace('!', "/"))));
    found.name = model.or_else(|| Some(device.name().to_owned()));
    Some(found)
}

fn flag(device: &sysfs::Device<'_>, name: &str) -> Option<String> {
    device.value(name).map(|value| (value != "0").to_string())
}

/// How it is attached: by the devices that it hangs on.
fn transport(device: &sysfs::Device<'_>) -> Option<&'static str> {
    device.ancestors().skip(1).find_map(|above| {
        let name = above.name();
        let numbered =
            |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        [
            ("usb", "usb"),
            ("nvme", "nvme"),
            ("nvme-subsys", "nvme"),
            ("mmc", "mmc"),
            ("ata", "ata"),
            ("virtio", "virtio"),
            ("vbd-", "xen"),
            ("mtd", "mtd"),
        ]
        .into_iter()
        .find(|(prefix, _)| numbered(prefix))
        .map(|(_, transport)| transport)
    })
}

fn kind(device: &sysfs::Device<'_>, transport: Option<&str>) -> (&'static str, &'static str) {
    let name = device.name();
    if name.starts_with("sr") {
        return ("CD-ROM", "Drive");
    }
    let kind = match (transport, device.value("device/type").as_deref()) {
        (Some("mmc"), Some("SD")) => "SD Card",
        (Some("mmc"), Some("MMC")) => "eMMC",
        (Some("mmc"), _) => "Memory Card",
        (Some("mtd"), _) => "Flash",
        (Some("usb"), _) => "USB Disk",
        _ if name.starts_with("fd") => "Floppy Drive",
        _ => "Disk",
    };
    ("Storage", kind)
}

/// The serial number: of the disk, else of the USB device that it is in.
fn serial(device: &sysfs::Device<'_>) -> Option<String> {
    device.value("device/serial").or_else(|| device.value("serial")).or_else(|| {
        // Up to its own hub no other USB device is above it; the number of a hub would be another's.
        let usb = device.ancestors().find(|above| above.has("idVendor"))?;
        usb.value("serial")
    })
}
