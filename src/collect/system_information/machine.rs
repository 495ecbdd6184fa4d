//! The hardware: what it is called, its processor and memory.

use std::io;

use super::Facts;
use crate::sys::host::Host;
use crate::sys::sysfs::{clean, line};

/// As much of `/proc/cpuinfo` as the first processor takes; on 32-bit ARM the board comes last.
const CPUINFO: usize = 16 << 10;
/// What makers write who write nothing.
const FILLERS: &[&str] = &[
    "0",
    "default string",
    "n/a",
    "none",
    "not applicable",
    "not available",
    "not specified",
    "o.e.m.",
    "system serial number",
    "to be filled by o.e.m.",
    "unknown",
];

/// `Manufacturer`, `Model`, `Board`, `Compatible`, `Serial`, `CpuModel`, `CpuCount`, `Firmware`.
pub(super) fn tell(host: &Host, facts: &mut Facts) {
    let dmi = |name: &str| line(host, format!("/sys/class/dmi/id/{name}")).filter(|text| is_meant(text));
    let tree = |name: &str| line(host, format!("/proc/device-tree/{name}"));
    let cpuinfo = host.read_text("/proc/cpuinfo", CPUINFO).unwrap_or_default();
    facts.tell("Manufacturer", dmi("sys_vendor"));
    facts.tell("Model", dmi("product_name").or_else(|| tree("model")).or_else(|| field(&cpuinfo, "Model")));
    facts.tell("Board", dmi("board_name"));
    facts.tell("Compatible", tree("compatible"));
    let serial = serial(host, facts).or_else(|| field(&cpuinfo, "Serial"));
    facts.tell("Serial", serial.filter(|text| is_meant(text)));
    facts.tell("CpuModel", cpu_model(&cpuinfo));
    let online = line(host, "/sys/devices/system/cpu/online").and_then(|list| count(&list));
    let listed = || cpuinfo.lines().filter(|line| line.starts_with("processor")).count() as u64;
    facts.tell("CpuCount", online.or_else(|| Some(listed()).filter(|n| *n > 0)).map(|n| n.to_string()));
    let firmware = [("/sys/firmware/efi", "UEFI"), ("/proc/device-tree", "device tree"), ("/sys/class/dmi/id", "BIOS")];
    facts.tell("Firmware", firmware.into_iter().find(|(path, _)| host.facts(path).is_ok()).map(|(_, name)| name));
}

/// Version of the firmware: BIOS, or the boot loader that the device tree names.
pub(super) fn firmware_version(host: &Host) -> Option<String> {
    [
        "/sys/class/dmi/id/bios_version",
        "/proc/device-tree/chosen/bootloader/version",
        "/proc/device-tree/chosen/u-boot,version",
    ]
    .into_iter()
    .find_map(|path| line(host, path))
}

/// The serial number of the machine; root alone may read that of a PC.
fn serial(host: &Host, facts: &mut Facts) -> Option<String> {
    for path in ["/sys/class/dmi/id/product_serial", "/proc/device-tree/serial-number"] {
        match host.read_text(path, 256) {
            Ok(text) => {
                let serial = text.split(['\n', '\0']).next().and_then(clean).filter(|text| is_meant(text));
                if serial.is_some() {
                    return serial;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                facts
                    .missing
                    .push(format!("the serial number is not readable: {path} needs root or CAP_DAC_READ_SEARCH"));
            }
            Err(_) => {}
        }
    }
    None
}

/// Whether a maker has written something.
fn is_meant(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    !FILLERS.contains(&text.as_str()) && text.bytes().any(|b| !matches!(b, b'0' | b' ' | b'.' | b'-' | b'x'))
}

/// The first value of a key in `/proc/cpuinfo`: `KEY<blanks>: VALUE` a line.
pub(super) fn field(cpuinfo: &str, key: &str) -> Option<String> {
    let value = |line: &str| line.strip_prefix(key)?.trim_start().strip_prefix(':').and_then(clean);
    cpuinfo.lines().find_map(value)
}

/// The name of the processor, as the kernel writes it; 64-bit ARM has numbers only.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let named = ["model name", "cpu model", "uarch", "Processor", "cpu", "isa"];
    let arm = || {
        let hex = |key| u32::from_str_radix(field(cpuinfo, key)?.strip_prefix("0x")?, 16).ok();
        let (maker, part) = (hex("CPU implementer")?, hex("CPU part")?);
        Some(arm_name(maker, part).map_or_else(|| format!("ARM {maker:#04x} {part:#05x}"), str::to_owned))
    };
    // 32-bit kernels say `ARMv7 Processor rev 4`, which says less than the numbers.
    let named = || named.into_iter().find_map(|key| field(cpuinfo, key));
    arm().or_else(named)
}

/// Names of the cores that boards have (`MIDR_EL1`, Arm's technical reference manuals).
const fn arm_name(maker: u32, part: u32) -> Option<&'static str> {
    Some(match (maker, part) {
        (0x41, 0x926) => "ARM926EJ-S",
        (0x41, 0xb76) => "ARM1176",
        (0x41, 0xc05) => "Cortex-A5",
        (0x41, 0xc07) => "Cortex-A7",
        (0x41, 0xc08) => "Cortex-A8",
        (0x41, 0xc09) => "Cortex-A9",
        (0x41, 0xc0f) => "Cortex-A15",
        (0x41, 0xc0e) => "Cortex-A17",
        (0x41, 0xd01) => "Cortex-A32",
        (0x41, 0xd02) => "Cortex-A34",
        (0x41, 0xd03) => "Cortex-A53",
        (0x41, 0xd04) => "Cortex-A35",
        (0x41, 0xd05) => "Cortex-A55",
        (0x41, 0xd07) => "Cortex-A57",
        (0x41, 0xd08) => "Cortex-A72",
        (0x41, 0xd09) => "Cortex-A73",
        (0x41, 0xd0a) => "Cortex-A75",
        (0x41, 0xd0b) => "Cortex-A76",
        (0x41, 0xd0c) => "Neoverse-N1",
        (0x41, 0xd41) => "Cortex-A78",
        (0x41, 0xd42) => "Cortex-A78AE",
        _ => return None,
    })
}

/// How many numbers a list as `0-3,5` has.
fn count(numbers: &str) -> Option<u64> {
    numbers.split(',').try_fold(0_u64, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        sum.checked_add(u64::from(last.checked_sub(first)?) + 1)
    })
}

/// The lines of `/proc/meminfo` that are used here, in KiB.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: Option<u64>,
    pub(super) available: Option<u64>,
    pub(super) swap_total: Option<u64>,
    pub(super) swap_free: Option<u64>,
}

impl Memory {
    pub(super) fn parse(text: &str) -> Self {
        let of = |key: &str| -> Option<u64> {
            let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            rest.split_ascii_whitespace().next()?.parse().ok()
        };
        // Kernels before 3.14 do not estimate it.
        let estimated = || {
            let parts = [of("MemFree")?, of("Buffers")?, of("Cached")?];
            Some(parts.into_iter().fold(0, u64::saturating_add))
        };
        Self {
            total: of("MemTotal"),
            available: of("MemAvailable").or_else(estimated),
            swap_total: of("SwapTotal"),
            swap_free: of("SwapFree"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn processors_have_names() {
        let pi =
            "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n";
        assert_eq!(cpu_model(pi).as_deref(), Some("Cortex-A53"));
        assert_eq!(cpu_model(&pi.replace("0xd03", "0xfff")).as_deref(), Some("ARM 0x41 0xfff"));
        let pc = "processor\t: 0\nmodel\t\t: 154\nmodel name\t: Intel(R) N100\n";
        assert_eq!(cpu_model(pc).as_deref(), Some("Intel(R) N100"));
        assert_eq!(
            cpu_model("system type\t: MT7621\ncpu model\t\t: MIPS 1004Kc V2.15\n").as_deref(),
            Some("MIPS 1004Kc V2.15")
        );
    }

    #[test]
    fn lists_are_counted() {
        assert_eq!((count("0-3"), count("0"), count("0-1,4,6-7")), (Some(4), Some(1), Some(5)));
        assert_eq!((count(""), count("3-0"), count("a")), (None, None, None));
    }

    #[test]
    fn what_nobody_wrote_is_no_serial_number() {
        for text in ["None", "To be filled by O.E.M.", "0000000000000000", "0x0", "...", "Default string"] {
            assert!(!is_meant(text), "{text}");
        }
        assert!(is_meant("10000000abcdef01"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = (cpu_model(&text), count(&text), is_meant(&text), Memory::parse(&text));
            let _ = cpu_model(&format!("CPU implementer : 0x{text}\nCPU part : 0x{text}"));
            let _ = Memory::parse(&format!("MemTotal:{text}"));
        }
    }
}
