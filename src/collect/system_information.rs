//! SystemInformation: what kind of machine this is. One item; what cannot be read is absent.

use super::snapshot::Found;
use crate::model::payload::{ExtraDetails, Payload, SystemInformation};
use crate::sys::host::{self, Host};

const SMALL: usize = 4096;
const MOUNTS: usize = 1 << 20;

pub(super) fn collect(host: &Host) -> Found {
    let release = host
        .read_text("/etc/os-release", SMALL)
        .or_else(|_| host.read_text("/usr/lib/os-release", SMALL))
        .unwrap_or_default();
    let of_release = |key: &str| release_value(&release, key);
    let memory = Memory::parse(&host.read_text("/proc/meminfo", SMALL).unwrap_or_default());
    let item = SystemInformation {
        os_name: of_release("NAME").or_else(|| line(host, "/proc/sys/kernel/ostype")),
        os_version: of_release("VERSION")
            .or_else(|| of_release("VERSION_ID"))
            .or_else(|| line(host, "/proc/sys/kernel/osrelease")),
        os_vendor: of_release("VENDOR_NAME").or_else(|| of_release("ID")),
        os_architecture: line(host, "/proc/sys/kernel/arch").or_else(host::machine),
        host_name: line(host, "/proc/sys/kernel/hostname"),
        bios_version: [
            "/sys/class/dmi/id/bios_version",
            "/proc/device-tree/chosen/bootloader/version",
            "/proc/device-tree/chosen/u-boot,version",
        ]
        .into_iter()
        .find_map(|path| line(host, path)),
        boot_device: root_device(
            &host.read_text("/proc/mounts", MOUNTS).unwrap_or_default(),
            &host.read_text("/proc/cmdline", SMALL).unwrap_or_default(),
        ),
        total_physical_memory_kib: memory.total,
        free_physical_memory_kib: memory.available,
        total_virtual_memory_kib: memory.total.zip(memory.swap_total).map(|(a, b)| a.saturating_add(b)),
        free_virtual_memory_kib: memory.available.zip(memory.swap_free).map(|(a, b)| a.saturating_add(b)),
        extra_details: details(host),
    };
    let missing = if memory.total.is_none() { vec!["/proc/meminfo is not readable".to_owned()] } else { Vec::new() };
    Found { items: vec![Payload::SystemInformation(item)], source: "/proc".to_owned(), missing, ..Found::default() }
}

/// `KernelRelease`, `KernelVersion`, `Manufacturer`, `Model`, `UptimeSeconds`, each if known.
fn details(host: &Host) -> ExtraDetails {
    let uptime = line(host, "/proc/uptime").and_then(|text| Some(text.split(['.', ' ']).next()?.to_owned()));
    [
        ("KernelRelease", line(host, "/proc/sys/kernel/osrelease")),
        ("KernelVersion", line(host, "/proc/sys/kernel/version")),
        ("Manufacturer", line(host, "/sys/class/dmi/id/sys_vendor")),
        ("Model", line(host, "/sys/class/dmi/id/product_name").or_else(|| line(host, "/proc/device-tree/model"))),
        ("UptimeSeconds", uptime.filter(|text| text.parse::<u64>().is_ok())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}

/// The first line of a small file; device-tree strings end with NUL. `None` if it is absent or empty.
fn line(host: &Host, path: &str) -> Option<String> {
    let text = host.read_text(path, SMALL).ok()?;
    let first = text.split(['\n', '\0']).next()?.trim();
    (!first.is_empty()).then(|| first.to_owned())
}

/// A value of `os-release(5)`: shell quoting, one assignment a line.
fn release_value(text: &str, key: &str) -> Option<String> {
    let raw = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?.trim();
    let inner = |quote| raw.strip_prefix(quote)?.strip_suffix(quote);
    let value = if let Some(single) = inner('\'') {
        single.to_owned()
    } else {
        let mut value = String::with_capacity(raw.len());
        let mut letters = inner('"').unwrap_or(raw).chars();
        while let Some(letter) = letters.next() {
            value.extend(if letter == '\\' { letters.next() } else { Some(letter) });
        }
        value
    };
    (!value.is_empty()).then_some(value)
}

/// The device of the root file system: what is mounted on `/` last if it is a device, else what the boot loader told
/// the kernel.
fn root_device(mounts: &str, command_line: &str) -> Option<String> {
    let mut mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point) = (fields.next()?, fields.next()?);
        (point == "/").then_some(device)
    });
    match mounted.next_back() {
        Some(device) if device.starts_with("/dev/") && device != "/dev/root" => Some(unescape(device)),
        _ => command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix("root=")).map(str::to_owned),
    }
}

/// `/proc/mounts` writes blank, tab, newline and backslash as `\ooo`, in octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The lines of `/proc/meminfo` that are used here, in KiB.
#[derive(Debug, Default, PartialEq, Eq)]
struct Memory {
    total: Option<u64>,
    available: Option<u64>,
    swap_total: Option<u64>,
    swap_free: Option<u64>,
}

impl Memory {
    fn parse(text: &str) -> Self {
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
    use crate::sys::fixture;

    fn of(name: &str) -> SystemInformation {
        match collect(&fixture::machine(name).host).items.remove(0) {
            Payload::SystemInformation(item) => item,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_board_is_described() {
        let seen = of("board");
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        assert_eq!(text(&seen.os_name), "Debian GNU/Linux");
        assert_eq!(text(&seen.os_version), "12 (bookworm)");
        assert_eq!(text(&seen.os_vendor), "debian");
        assert_eq!(text(&seen.os_architecture), "aarch64");
        assert_eq!(text(&seen.host_name), "gate-7");
        assert_eq!(text(&seen.bios_version), "2025/05/08 15:13:17");
        assert_eq!(text(&seen.boot_device), "/dev/mmcblk0p2");
        assert_eq!((seen.total_physical_memory_kib, seen.free_physical_memory_kib), (Some(948_304), Some(640_128)));
        assert_eq!((seen.total_virtual_memory_kib, seen.free_virtual_memory_kib), (Some(1_050_700), Some(740_128)));
        assert_eq!(seen.extra_details["Model"], "Raspberry Pi 3 Model B Plus Rev 1.3");
        assert_eq!(seen.extra_details["UptimeSeconds"], "54321");
        assert_eq!(seen.extra_details["KernelRelease"], "6.12.25+rpt-rpi-v8");
    }

    #[test]
    fn a_pc_is_described() {
        let seen = of("pc");
        assert_eq!(seen.os_name.as_deref(), Some("Fedora Linux"));
        assert_eq!(seen.os_version.as_deref(), Some("43 (IoT \"Edge\")"));
        assert_eq!(seen.os_vendor.as_deref(), Some("Fedora Project"));
        assert_eq!(seen.bios_version.as_deref(), Some("F.23"));
        assert_eq!(seen.boot_device.as_deref(), Some("/dev/nvme0n1p3"));
        assert_eq!(seen.free_physical_memory_kib, Some(8_000_300));
        assert_eq!((seen.total_virtual_memory_kib, seen.host_name), (None, None));
        assert_eq!(seen.extra_details["Manufacturer"], "Example Corp.");
        assert_eq!(seen.extra_details["Model"], "Edge Box 12");
    }

    #[test]
    fn a_device_with_a_blank_is_read() {
        assert_eq!(root_device("/dev/my\\040disk / ext4 rw 0 0\n", "").as_deref(), Some("/dev/my disk"));
        assert_eq!(root_device("rootfs / rootfs rw 0 0\n", "quiet"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n]{0,200}") {
            let _ = release_value(&text, "NAME");
            let _ = release_value(&format!("NAME={text}"), "NAME");
            let _ = root_device(&text, &text);
            let _ = Memory::parse(&text);
            let _ = Memory::parse(&format!("MemTotal:{text}"));
        }
    }
}
