//! Everything that has few attributes: serial ports, cameras, sound, input, radio, and the small buses of a board with
//! what hangs on them.

use super::device::Device;
use crate::sys::sysfs;
use crate::sys::uevent::Properties;

/// Reads a serial port. The driver for PC ports makes up ports that are not there: their type is 0. Terminals without
/// hardware (consoles, pseudo terminals) have no device.
pub(super) fn serial_port(device: &sysfs::Device<'_>) -> Option<Device> {
    if device.is_virtual() || device.number("type") == Some(0) || !device.has("device") {
        return None;
    }
    let kind = match device.name().trim_end_matches(|c: char| c.is_ascii_digit()) {
        "ttyUSB" => "USB Adapter",
        "ttyACM" => "USB Modem",
        _ => "Port",
    };
    let mut found = named("Serial Port", kind, device, None);
    found.tell("Device", Some(format!("/dev/{}", device.name())));
    // Between the port and its device, new kernels have two of their own.
    let driver = device.ancestors().skip(1).filter_map(|above| above.link("driver"));
    found.tell("Driver", driver.into_iter().find(|driver| driver != "port" && driver != "ctrl"));
    Some(found)
}

/// Reads a video device. Boards have codecs and image processors as such too.
pub(super) fn video(device: &sysfs::Device<'_>) -> Device {
    let name = device.value("name");
    let driver = device.link("device/driver");
    let has = |words: &[&str]| {
        let texts = [&name, &driver];
        texts.into_iter().flatten().any(|text| words.iter().any(|word| text.to_ascii_lowercase().contains(word)))
    };
    let kind = if has(&["codec", "decode", "encode", "hevc", "-dec", "-enc", "vpu", "hantro", "cedrus"]) {
        "Video Codecs"
    } else if has(&["isp", "resize", "image_fx"]) {
        "Image Processor"
    } else {
        "Camera"
    };
    let mut found = named("Multimedia", kind, device, name);
    found.tell("Device", Some(format!("/dev/{}", device.name())));
    found.tell("Driver", driver);
    found
}

/// Reads a sound card; its streams and controls are parts of it.
pub(super) fn sound(device: &sysfs::Device<'_>) -> Option<Device> {
    if !is_numbered(device.name(), "card") {
        return None;
    }
    let mut found = named("Sound Device", "Adapter", device, device.value("id"));
    found.tell("Driver", device.link("device/driver"));
    Some(found)
}

/// Reads an input device; the event files are parts of it.
pub(super) fn input(device: &sysfs::Device<'_>) -> Option<Device> {
    if !is_numbered(device.name(), "input") {
        return None;
    }
    let mut found = named("Input", input_kind(device), device, device.value("name"));
    let id = |name: &str| device.value(&format!("id/{name}")).filter(|value| value != "0000");
    found.tell("VendorId", id("vendor"));
    found.tell("ProductId", id("product"));
    found.tell("Serial", device.value("uniq"));
    found.tell("Driver", device.link("device/driver"));
    Some(found)
}

/// By what it can tell: bits in hexadecimal words, the highest word first (`linux/input-event-codes.h`).
fn input_kind(device: &sysfs::Device<'_>) -> &'static str {
    let bits = |name: &str| device.value(&format!("capabilities/{name}")).unwrap_or_default();
    let (keys, relative, absolute, switches) = (bits("key"), bits("rel"), bits("abs"), bits("sw"));
    // The letters, KEY_Q to KEY_P, are in the lowest 32 bits of the first word.
    let lowest = |text: &str| text.rsplit(' ').next().and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or(0);
    let letters = 0x3ff << 16;
    if lowest(&keys) & letters == letters {
        "Keyboard"
    } else if lowest(&relative) & 3 == 3 || lowest(&absolute) & 3 == 3 {
        "Pointing Device"
    } else if keys.bytes().any(|b| !matches!(b, b'0' | b' ')) {
        "Buttons"
    } else if lowest(&switches) != 0 {
        "Switch"
    } else {
        ""
    }
}

/// Reads a Bluetooth adapter. What is connected to it stands there too, but comes and goes by radio.
pub(super) fn bluetooth(device: &sysfs::Device<'_>) -> Option<Device> {
    if !is_numbered(device.name(), "hci") {
        return None;
    }
    let mut found = named("Bluetooth", "Adapter", device, None);
    found.tell("MacAddress", device.value("address"));
    found.tell("Driver", device.link("device/driver"));
    Some(found)
}

/// Reads a controller of I2C or a device on it.
pub(super) fn i2c(device: &sysfs::Device<'_>) -> Device {
    let is_adapter = is_numbered(device.name(), "i2c-");
    chip("I2C", if is_adapter { "Controller" } else { "Device" }, device, device.value("name"))
}

/// Reads a controller of SPI.
pub(super) fn spi_controller(device: &sysfs::Device<'_>) -> Device {
    chip("SPI", "Controller", device, None)
}

/// Reads a device on SPI.
pub(super) fn spi(device: &sysfs::Device<'_>) -> Device {
    let model = device.value("modalias").map(|model| model.trim_start_matches("spi:").to_owned());
    chip("SPI", "Device", device, model)
}

/// Reads a controller of pins.
pub(super) fn gpio(device: &sysfs::Device<'_>) -> Option<Device> {
    if !is_numbered(device.name(), "gpiochip") {
        return None;
    }
    let label = device.value("label");
    Some(chip("GPIO", "Controller", device, label))
}

/// Reads a watchdog.
pub(super) fn watchdog(device: &sysfs::Device<'_>) -> Device {
    let mut found = named("Watchdog", "Timer", device, device.value("identity"));
    found.tell("Driver", device.link("device/driver"));
    found
}

/// Reads a TPM.
pub(super) fn tpm(device: &sysfs::Device<'_>) -> Device {
    let mut found = named("Security", "TPM", device, None);
    found.tell("Version", device.value("tpm_version_major"));
    found.tell("Driver", device.link("device/driver"));
    found
}

/// A device of a small bus: with its driver, which a controller has two directories above, and its name in the device
/// tree.
fn chip(category: &'static str, kind: &str, device: &sysfs::Device<'_>, name: Option<String>) -> Device {
    let mut found = named(category, kind, device, name);
    let reach = if kind == "Controller" { 3 } else { 1 };
    found.tell("Driver", device.ancestors().take(reach).find_map(|above| above.link("driver")));
    let uevent = device.uevent();
    let compatible = Properties::lines(&uevent).get("OF_COMPATIBLE_0").and_then(sysfs::clean);
    found.tell("Compatible", compatible);
    found
}

/// A device with a name of its own and the kernel's name beside it.
fn named(category: &'static str, kind: &str, device: &sysfs::Device<'_>, name: Option<String>) -> Device {
    let mut found = Device::new(category, kind, device);
    found.tell("KernelName", name.as_ref().map(|_| device.name().to_owned()));
    found.name = name.or_else(|| Some(device.name().to_owned()));
    found
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}
