//! What kind of machine this is, as far as its files tell: distribution (`os-release(5)`), processor, container,
//! service manager. It works for an image too.

use super::host::{self, Host};

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
        let release = host
            .read_text("/etc/os-release", SMALL)
            .or_else(|_| host.read_text("/usr/lib/os-release", SMALL))
            .unwrap_or_default();
        Self {
            architecture: architecture.map(|word| family(&word).to_owned()),
            distributions: distributions(&release),
            container: is_container(host),
            systemd: has_systemd(host),
        }
    }
}

fn distributions(release: &str) -> Vec<String> {
    let of = |key: &str| {
        let value = release.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim().trim_matches(['"', '\'']).to_ascii_lowercase()
    };
    let (id, like) = (of("ID"), of("ID_LIKE"));
    let words = id.split_ascii_whitespace().chain(like.split_ascii_whitespace());
    words.take(16).map(str::to_owned).collect()
}

/// The kernel's words for the processors of a family are many.
fn family(machine: &str) -> &str {
    match machine {
        "i386" | "i486" | "i586" | "i686" => "x86",
        "arm64" | "aarch64" | "aarch64_be" => "aarch64",
        word if word.starts_with("arm") => "arm",
        word => word,
    }
}

/// For which processor the programs of an image are: bytes 18 and 19 of the ELF header (`elf(5)`).
fn of_program(host: &Host) -> Option<String> {
    let places = ["/bin/sh", "/bin/busybox", "/usr/bin/env", "/sbin/init"];
    places.into_iter().find_map(|path| {
        let mut head = [0_u8; 20];
        std::io::Read::read_exact(&mut host.regular(path).ok()?, &mut head).ok()?;
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let number = *head.last_chunk::<2>()?;
        let number = if head.get(5) == Some(&2) { u16::from_be_bytes(number) } else { u16::from_le_bytes(number) };
        let word = match number {
            3 => "x86",
            40 => "arm",
            62 => "x86_64",
            183 => "aarch64",
            243 => "riscv64",
            _ => return None,
        };
        Some(word.to_owned())
    })
}

fn is_container(host: &Host) -> bool {
    const MARKS: [&str; 3] = ["/run/.containerenv", "/run/systemd/container", "/run/host/container-manager"];
    const WORDS: [&str; 5] = ["/docker", "/lxc", "/kubepods", "/containerd", "/libpod"];
    let told = |path: &str, words: &[&str]| {
        host.read_text(path, SMALL).is_ok_and(|text| words.iter().any(|word| text.contains(word)))
    };
    let here = |path: &str| host.facts(path).is_ok();
    // Images of boards are made from containers too, and keep this file.
    let of_docker = here("/.dockerenv") && !here("/run/systemd/system");
    of_docker
        || MARKS.iter().any(|path| here(path))
        || told("/proc/1/cgroup", &WORDS)
        || host.read("/proc/1/environ", SMALL).is_ok_and(|bytes| {
            bytes.split(|byte| *byte == 0).any(|word| word.starts_with(b"container=") && word.len() > 10)
        })
}

pub(super) fn has_systemd(host: &Host) -> bool {
    let here = |path: &str| host.facts(path).is_ok();
    here("/run/systemd/system")
        || (!host.is_live() && (here("/usr/lib/systemd/systemd") || here("/lib/systemd/systemd")))
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;

    use super::*;
    use crate::sys::files::write_atomic;

    fn put(root: &std::path::Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write_atomic(&path, bytes, 0o644).unwrap();
    }

    #[test]
    fn an_image_is_known_by_its_files() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        assert_eq!(Platform::read(&host), Platform::default());
        put(root.path(), "etc/os-release", b"NAME=x\nID=raspbian\nID_LIKE=\"debian Linux\"\n");
        let mut head = *b"\x7fELF\x01\x01\x01aaaaaaaaa\x02\x00\x28\x00";
        put(root.path(), "bin/sh", &head);
        put(root.path(), "lib/systemd/systemd", b"");
        let seen = Platform::read(&host);
        assert_eq!(seen.architecture.as_deref(), Some("arm"));
        assert_eq!(seen.distributions, ["raspbian", "debian", "linux"]);
        assert!(seen.systemd && !seen.container);
        head[18] = 183;
        put(root.path(), "bin/sh", &head);
        put(root.path(), "proc/1/environ", b"PATH=/bin\0container=lxc\0");
        assert_eq!(Platform::read(&host).architecture.as_deref(), Some("aarch64"));
        assert!(Platform::read(&host).container);
    }

    #[test]
    fn families_are_named() {
        for (word, name) in [("i686", "x86"), ("armv7l", "arm"), ("arm64", "aarch64"), ("x86_64", "x86_64")] {
            assert_eq!(family(word), name);
        }
    }
}
