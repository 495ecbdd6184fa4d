//! The kernel's view of the devices in `/sys`: one directory for each device below `/sys/devices`, small files in it
//! (attributes, one value each), and links that say what it belongs to (`driver`, `subsystem`, `device`).
//!
//! `/sys/bus/*/devices` and `/sys/class/*` have a link to each device of a kind. What a device says of itself, as the
//! name in a USB stick, is the word of a stranger: it is cut, and characters that steer a terminal become blanks.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::host::Host;

/// Longest value that is kept of an attribute, in bytes.
const VALUE: usize = 256;
/// Longest file of attributes (`uevent`) that is read.
pub const UEVENT: usize = 4096;

/// The value of a small file, its first line; device-tree strings end with NUL. `None` if it is absent or empty.
#[must_use]
pub fn line(host: &Host, path: impl AsRef<Path>) -> Option<String> {
    let text = host.read_text(path, VALUE).ok()?;
    clean(text.split(['\n', '\0']).next()?)
}

/// A text of a stranger: without blanks around it and without control characters. `None` if nothing is left.
#[must_use]
pub fn clean(text: &str) -> Option<String> {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let plain = plain.trim();
    let end = plain.floor_char_boundary(VALUE);
    plain.get(..end).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The devices that a directory of links names, each as its path below `/sys`, for example
/// `/devices/platform/soc/3f201000.serial/tty/ttyAMA0`: in the order of these paths, at most `limit`. The second is
/// whether there are more.
#[must_use]
pub fn devices(host: &Host, directory: &str, limit: usize) -> (Vec<String>, bool) {
    let mut names = host.list(directory, limit.saturating_add(1)).unwrap_or_default();
    let more = names.len() > limit;
    names.truncate(limit);
    let paths: BTreeSet<String> = names
        .iter()
        .filter_map(|name| {
            let target = host.read_link(Path::new(directory).join(name)).ok()?;
            device_path(&Path::new(directory).join(target))
        })
        .collect();
    (paths.into_iter().collect(), more)
}

/// A path of `/sys` without `..` and without `/sys`, if it leads to a device.
fn device_path(path: &Path) -> Option<String> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    let path = plain.strip_prefix("/sys").ok()?.to_str()?;
    path.starts_with("devices/").then(|| format!("/{path}"))
}

/// A device, by its path below `/sys`.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    host: &'a Host,
    path: &'a str,
}

impl<'a> Device<'a> {
    /// The device at this path, which may be gone.
    #[must_use]
    pub const fn at(host: &'a Host, path: &'a str) -> Self {
        Self { host, path }
    }

    /// Its path below `/sys`.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// The kernel's name for it: the last part of its path.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The device above it: the directory that holds it. Not every directory is a device.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (path, _) = self.path.rsplit_once('/')?;
        (path.len() > "/devices".len()).then_some(Self { host: self.host, path })
    }

    /// Whether the system made it up: no hardware is behind it. Input devices of Bluetooth come through a program, and
    /// NVMe disks that can be reached in several ways have a place of their own; they are real.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        let real = ["misc/uhid/", "nvme-subsystem/"];
        let rest = self.path.strip_prefix("/devices/virtual/");
        rest.is_some_and(|rest| !real.iter().any(|prefix| rest.starts_with(prefix)))
    }

    /// It, and the directories above it.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + use<'a> {
        std::iter::successors(Some(*self), Self::parent)
    }

    /// Where a file of it stands.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        format!("/sys{}/{name}", self.path)
    }

    /// Whether it, or this file of it, is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.host.facts(self.file(name)).is_ok()
    }

    /// An attribute.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        line(self.host, self.file(name))
    }

    /// A number in an attribute: decimal.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// A number in an attribute: hexadecimal, with or without `0x`.
    #[must_use]
    pub fn hex(&self, name: &str) -> Option<u32> {
        hex(&self.value(name)?)
    }

    /// Where a link of it leads to, only the last part: the name of its driver, for example.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<String> {
        clean(self.host.read_link(self.file(name)).ok()?.file_name()?.to_str()?)
    }

    /// The names of what is in it, or in a directory of it, in order, at most `limit`.
    #[must_use]
    pub fn children(&self, directory: &str, limit: usize) -> Vec<String> {
        let names = self.host.list(self.file(directory), limit).unwrap_or_default();
        let mut names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Its `uevent` file: what the kernel would tell of it, `KEY=VALUE` a line.
    #[must_use]
    pub fn uevent(&self) -> Vec<u8> {
        self.host.read(self.file("uevent"), UEVENT).unwrap_or_default()
    }
}

/// A hexadecimal number, with or without `0x`.
#[must_use]
pub fn hex(text: &str) -> Option<u32> {
    let text = text.trim();
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_become_paths_of_devices() {
        let of = |path: &str| device_path(Path::new(path));
        assert_eq!(of("/sys/class/net/../../devices/pci0/net/eth0").as_deref(), Some("/devices/pci0/net/eth0"));
        assert_eq!(of("/sys/bus/usb/devices/../../../devices/x/usb1").as_deref(), Some("/devices/x/usb1"));
        assert_eq!(of("/sys/class/net/../../../etc/passwd"), None);
        assert_eq!(of("/sys/class/net/bonding_masters"), None);
        assert_eq!(of("/sys/../../../../sys/devices"), None);
    }

    #[test]
    fn a_device_knows_what_is_above_it() {
        let host = Host::rooted("/nowhere");
        let device = Device::at(&host, "/devices/pci0/usb1/1-1");
        let above: Vec<&str> = device.ancestors().map(|d| d.name()).collect();
        assert_eq!(above, ["1-1", "usb1", "pci0"]);
        let is_virtual = |path| Device::at(&host, path).is_virtual();
        assert!(!is_virtual("/devices/pci0/usb1/1-1") && is_virtual("/devices/virtual/input/input7"));
        assert!(!is_virtual("/devices/virtual/misc/uhid/0005:046D:B33B.0001/input/input8"));
        assert_eq!((device.value("serial"), device.link("driver"), device.has("")), (None, None, false));
    }

    #[test]
    fn words_of_strangers_are_made_plain() {
        assert_eq!(clean(" Ultra\tFit\u{1b}[2J ").as_deref(), Some("Ultra Fit [2J"));
        assert_eq!(clean("\u{7}  "), None);
        assert_eq!(clean(&"ä".repeat(300)).map(|text| text.len()), Some(VALUE));
        assert_eq!((hex("0x1af4"), hex("1d6b"), hex("-1"), hex("")), (Some(0x1af4), Some(0x1d6b), None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            if let Some(plain) = clean(&text) {
                prop_assert!(!plain.is_empty() && plain.len() <= VALUE && !plain.contains(char::is_control));
            }
            let _ = hex(&text);
            if let Some(path) = device_path(Path::new(&text)) {
                prop_assert!(path.starts_with("/devices/") && !path.contains("/../"));
            }
        }
    }
}
