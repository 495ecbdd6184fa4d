//! What kind of machine this is, as far as its files tell: distribution (`os-release(5)`), processor, container,
//! service manager. It works for an image too.

use std::borrow::Cow;
use std::io::Read;

use super::elf;
use super::host::{self, Host};
use super::os_release::OsRelease;
use super::sysfs::{clean, line};

const SMALL: usize = 16 * 1024;

/// The machine in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// `x86`, `x86_64`, `arm`, `aarch64`, `riscv64`, or the kernel's word for another one; `None` if nothing tells.
    pub architecture: Option<String>,
    /// `ID` and `ID_LIKE` of os-release, in lower case.
    pub distributions: Vec<String>,
    /// Whether it is a container.
    pub container: bool,
    /// Whether systemd runs it.
    pub systemd: bool,
}

impl Platform {
    /// Looks.
    #[must_use]
    pub fn read(host: &Host) -> Self {
        let architecture = host
            .read_text("/proc/sys/kernel/arch", 64)
            .ok()
            .map(|text| text.trim().to_owned())
            .or_else(|| if host.is_live() { host::machine() } else { of_program(host) });
        Self {
            architecture: architecture.map(|word| family(&word).to_owned()),
            distributions: distributions(&OsRelease::read(host)),
            container: container(host).is_some(),
            systemd: has_systemd(host),
        }
    }
}

fn distributions(release: &OsRelease) -> Vec<String> {
    let of = |key| release.value(key).unwrap_or_default().to_ascii_lowercase();
    let (id, like) = (of("ID"), of("ID_LIKE"));
    let words = id.split_ascii_whitespace().chain(like.split_ascii_whitespace());
    words.take(16).map(str::to_owned).collect()
}

/// The words of the kernel and of Debian for the processors of a family are many.
fn family(machine: &str) -> &str {
    match machine {
        "i386" | "i486" | "i586" | "i686" => "x86",
        "amd64" => "x86_64",
        "arm64" | "aarch64" | "aarch64_be" => "aarch64",
        word if word.starts_with("arm") => "arm",
        word => word,
    }
}

/// For which processor the programs of an image are.
fn of_program(host: &Host) -> Option<String> {
    const PLACES: [&str; 4] = ["/bin/sh", "/bin/busybox", "/usr/bin/env", "/sbin/init"];
    PLACES.iter().find_map(|path| {
        let mut head = Vec::new();
        host.regular(path).ok()?.take(elf::HEAD as u64).read_to_end(&mut head).ok()?;
        elf::architecture(&head).map(Cow::into_owned)
    })
}

/// The kind of container that the first process is in, such as `docker`; `None` if nothing speaks for one. What systemd or
/// the tool itself left comes before what only points to it.
#[must_use]
pub fn container(host: &Host) -> Option<String> {
    let has = |path: &str| host.facts(path).is_ok();
    let of_kernel = line(host, "/proc/sys/kernel/osrelease").unwrap_or_default().to_ascii_lowercase();
    if of_kernel.contains("microsoft") {
        return Some("wsl".to_owned());
    }
    // What systemd was told when it started as the first process of a container.
    if let Some(name) = line(host, "/run/systemd/container").or_else(|| line(host, "/run/host/container-manager")) {
        return Some(name);
    }
    if let Ok(environment) = host.read_text("/proc/1/environ", SMALL)
        && let Some(name) = environment.split('\0').find_map(|entry| clean(entry.strip_prefix("container=")?))
    {
        return Some(name);
    }
    if has("/run/.containerenv") {
        return Some("podman".to_owned());
    }
    // Images of boards are made from containers too, and keep this file.
    if has("/.dockerenv") && !has("/run/systemd/system") {
        return Some("docker".to_owned());
    }
    if has("/proc/vz") && !has("/proc/bc") {
        return Some("openvz".to_owned());
    }
    by_cgroup(&host.read_text("/proc/1/cgroup", SMALL).unwrap_or_default()).map(str::to_owned)
}

/// By the group of the first process, which has a namespace of its own in new containers and then says nothing.
fn by_cgroup(text: &str) -> Option<&'static str> {
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let named = [
        ("/kubepods", "kubernetes"),
        ("/docker", "docker"),
        ("/libpod", "podman"),
        ("/containerd", "containerd"),
        ("/lxc", "lxc"),
        ("/machine.slice/machine-", "systemd-nspawn"),
    ];
    named.into_iter().find(|(part, _)| paths().any(|path| path.contains(part))).map(|(_, name)| name)
}

pub(super) fn has_systemd(host: &Host) -> bool {
    let here = |path: &str| host.facts(path).is_ok();
    here("/run/systemd/system")
        || (!host.is_live() && (here("/usr/lib/systemd/systemd") || here("/lib/systemd/systemd")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::fixture;

    #[test]
    fn an_image_is_known_by_its_files() {
        let image = fixture::made(&[]);
        let host = &image.host;
        assert_eq!(Platform::read(host), Platform::default());
        image.put("etc/os-release", b"NAME=x\nID=raspbian\nID_LIKE=\"debian Linux\"\n");
        let mut head = [0; 64];
        head[..20].copy_from_slice(b"\x7fELF\x01\x01\x01aaaaaaaaa\x02\x00\x28\x00");
        image.put("bin/sh", head);
        image.put("lib/systemd/systemd", b"");
        let seen = Platform::read(host);
        assert_eq!(seen.architecture.as_deref(), Some("arm"));
        assert_eq!(seen.distributions, ["raspbian", "debian", "linux"]);
        assert!(seen.systemd && !seen.container);
        (head[4], head[18]) = (2, 183);
        image.put("bin/sh", head);
        image.put("proc/1/environ", b"PATH=/bin\0container=lxc\0");
        assert_eq!(Platform::read(host).architecture.as_deref(), Some("aarch64"));
        assert!(Platform::read(host).container);
    }

    #[test]
    fn families_are_named() {
        for (word, name) in [("i686", "x86"), ("armv7l", "arm"), ("arm64", "aarch64"), ("x86_64", "x86_64")] {
            assert_eq!(family(word), name);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = by_cgroup(&text);
        }
    }
}
