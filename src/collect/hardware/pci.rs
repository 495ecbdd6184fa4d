//! Devices on PCI.

use super::device::Device;
use crate::sys::hwdata::List;
use crate::sys::sysfs;
use crate::sys::uevent::Properties;

/// Reads a device; what `/sys` does not have any more is taken from what the kernel said of it.
pub(super) fn read(device: &sysfs::Device<'_>, said: Properties<'_>) -> Device {
    // Base class, subclass, programming interface: a byte each.
    let class = device.hex("class").or_else(|| sysfs::hex(said.get("PCI_CLASS")?)).unwrap_or(0);
    let (category, kind) = meaning(class >> 8);
    let mut found = Device::new(category, kind, device);
    let mut said_ids = said.get("PCI_ID").unwrap_or_default().split(':').map(sysfs::hex);
    let (vendor, product) = (said_ids.next().flatten(), said_ids.next().flatten());
    found.identify(List::Pci, device.hex("vendor").or(vendor), device.hex("device").or(product));
    found.tell("Bus", Some("PCI".to_owned()));
    found.tell("Class", Some(format!("{class:06x}")));
    found.tell("Driver", device.link("driver"));
    let subsystem = device.hex("subsystem_vendor").zip(device.hex("subsystem_device"));
    // Bridges and devices of virtual machines have none.
    found.tell("SubsystemId", subsystem.filter(|ids| *ids != (0, 0)).map(|(a, b)| format!("{a:04x}:{b:04x}")));
    if let Some((_, (vendor, product))) = found.id {
        found.plain_name = format!("{category} {kind} {vendor:04x}:{product:04x}");
    }
    found
}

/// Category and kind of a class and subclass.
const fn meaning(class: u32) -> (&'static str, &'static str) {
    match (class >> 8, class & 0xff) {
        (0x01, 0x06) => ("Storage", "SATA Controller"),
        (0x01, 0x08) => ("Storage", "NVMe Controller"),
        (0x01, _) => ("Storage", "Controller"),
        (0x02, 0x80) => ("Network", "Wireless Adapter"),
        (0x02, _) => ("Network", "Adapter"),
        (0x03, _) => ("Display", "Adapter"),
        (0x04, 0x01 | 0x03) => ("Sound Device", "Adapter"),
        (0x04, _) => ("Multimedia", "Adapter"),
        (0x05, _) => ("Memory", "Controller"),
        (0x06, _) => ("PCI", "Bridge"),
        (0x07, 0x00) => ("Serial Port", "Controller"),
        (0x07, 0x03) => ("Modem", "Adapter"),
        (0x07, _) => ("Communications", "Controller"),
        (0x08, 0x05) => ("Storage", "SD Host Controller"),
        (0x08, _) => ("System", "Peripheral"),
        (0x09, _) => ("Input", "Controller"),
        (0x0c, 0x00) => ("FireWire", "Controller"),
        (0x0c, 0x03) => ("USB", "Controller"),
        (0x0c, 0x05) => ("I2C", "SMBus Controller"),
        (0x0c, _) => ("Bus", "Controller"),
        (0x0d, 0x00) => ("Infrared", "Controller"),
        (0x0d, 0x11) => ("Bluetooth", "Adapter"),
        (0x0d, _) => ("Network", "Wireless Adapter"),
        (0x10, _) => ("Security", "Cryptographic Accelerator"),
        (0x12, _) => ("System", "Accelerator"),
        _ => ("PCI", "Device"),
    }
}
