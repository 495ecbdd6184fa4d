//! Network interfaces: physical, and those that the system made up.

use super::device::Device;
use crate::sys::sysfs;
use crate::sys::uevent::Properties;

/// `ARPHRD_LOOPBACK`.
const LOOPBACK: u64 = 772;
/// `ARPHRD_CAN`.
const CAN: u64 = 280;

/// Reads an interface. `None` for the loopback, which every machine has.
pub(super) fn read(device: &sysfs::Device<'_>, said: Properties<'_>) -> Option<Device> {
    let link_type = device.number("type");
    if link_type == Some(LOOPBACK) || device.name() == "lo" {
        return None;
    }
    let is_virtual = device.is_virtual();
    let said_type = said.get("DEVTYPE");
    let is_wireless = device.has("phy80211") || device.has("wireless") || said_type == Some("wlan");
    let kind = match said_type {
        _ if is_wireless => "Wireless Adapter",
        _ if link_type == Some(CAN) => "CAN Adapter",
        Some("wwan") => "Mobile Adapter",
        Some("bridge") => "Bridge",
        Some("bond") => "Bond",
        Some("vlan") => "VLAN",
        Some("wireguard") => "WireGuard Tunnel",
        _ if device.has("tun_flags") => "Tunnel",
        _ if is_virtual => "Virtual Adapter",
        _ => "Adapter",
    };
    let mut found = Device::new("Network", kind, device);
    found.name = Some(device.name().to_owned());
    found.tell("MacAddress", device.value("address").filter(|mac| mac.bytes().any(|b| !matches!(b, b'0' | b':'))));
    found.tell("OperState", device.value("operstate"));
    found.tell("Driver", device.link("device/driver"));
    found.tell("Virtual", Some(is_virtual.to_string()));
    found.tell("Index", device.value("ifindex"));
    Some(found)
}
