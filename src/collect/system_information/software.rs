//! What the system is made of: its release, the architecture of its programs, its package manager, its first process.
//!
//! Small images have few fields in `/etc/os-release`, or none but the greeting in `/etc/issue`.

use super::{Facts, SMALL};
use crate::sys::elf;
use crate::sys::host::Host;
use crate::sys::os_release::OsRelease;
use crate::sys::sysfs::{clean, line};

/// Which release of which system.
#[derive(Debug)]
pub(super) struct Release {
    told: OsRelease,
    issue: Option<String>,
}

impl Release {
    pub(super) fn read(host: &Host) -> Self {
        let issue = host.read_text("/etc/issue", SMALL).ok().and_then(|text| greeting(&text));
        Self { told: OsRelease::read(host), issue }
    }

    fn of(&self, key: &str) -> Option<String> {
        clean(&self.told.value(key)?)
    }

    pub(super) fn name(&self) -> Option<String> {
        self.of("NAME").or_else(|| self.of("PRETTY_NAME")).or_else(|| self.issue.clone())
    }

    pub(super) fn version(&self) -> Option<String> {
        self.of("VERSION").or_else(|| self.of("VERSION_ID"))
    }

    pub(super) fn vendor(&self) -> Option<String> {
        self.of("VENDOR_NAME").or_else(|| self.of("ID"))
    }
}

/// The first line of `/etc/issue` that says something, without what `getty` replaces: `\\n`, `\\l`, `%h`.
fn greeting(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let words = line.split_whitespace().filter(|word| !word.starts_with(['\\', '%']));
        let plain = clean(&words.collect::<Vec<_>>().join(" "))?;
        plain.chars().any(char::is_alphanumeric).then_some(plain)
    })
}

/// `OsId`, `OsIdLike`, `OsVersionId`, `OsVariant`, `OsBuild`, `OsImage`, `DebianVersion`, `KernelRelease`,
/// `KernelVersion`, `UserlandArchitecture`, `PackageManager`, `InitSystem`.
pub(super) fn tell(host: &Host, release: &Release, facts: &mut Facts) {
    facts.tell("OsId", release.of("ID"));
    facts.tell("OsIdLike", release.of("ID_LIKE"));
    facts.tell("OsVersionId", release.of("VERSION_ID"));
    facts.tell("OsVariant", release.of("VARIANT_ID").or_else(|| release.of("VARIANT")));
    facts.tell("OsBuild", release.of("IMAGE_VERSION").or_else(|| release.of("BUILD_ID")));
    // Raspberry Pi OS calls itself Debian if it has 64 bits; this is what it was made from.
    facts.tell("OsImage", release.of("IMAGE_ID").or_else(|| line(host, "/etc/rpi-issue")));
    facts.tell("DebianVersion", line(host, "/etc/debian_version"));
    facts.tell("KernelRelease", line(host, "/proc/sys/kernel/osrelease"));
    facts.tell("KernelVersion", line(host, "/proc/sys/kernel/version"));
    facts.tell("UserlandArchitecture", userland(host));
    facts.tell("PackageManager", Some(package_manager(host)));
    facts.tell("InitSystem", init_system(host));
}

/// For which processor the programs are built, which may be an older one than the kernel's.
fn userland(host: &Host) -> Option<String> {
    let of = |path: &&str| Some(elf::architecture(&host.read(path, elf::HEAD).ok()?)?.into_owned());
    ["/bin/sh", "/sbin/init", "/bin/busybox"].iter().find_map(of)
}

/// What installs software: `none` on an image that is replaced as a whole.
fn package_manager(host: &Host) -> &'static str {
    let has = |path: &str| host.facts(path).is_ok();
    let first = |all: &[(&str, &'static str)]| all.iter().find(|(path, _)| has(path)).map(|(_, name)| *name);
    if has("/run/ostree-booted") {
        return first(&[("/usr/bin/rpm-ostree", "rpm-ostree")]).unwrap_or("ostree");
    }
    if has("/var/lib/dpkg/status") {
        return first(&[("/usr/bin/apt-get", "apt")]).unwrap_or("dpkg");
    }
    if has("/var/lib/rpm") || has("/usr/lib/sysimage/rpm") {
        let front =
            [("/usr/bin/dnf5", "dnf"), ("/usr/bin/dnf", "dnf"), ("/usr/bin/zypper", "zypper"), ("/usr/bin/yum", "yum")];
        return first(&front).unwrap_or("rpm");
    }
    first(&[
        ("/lib/apk/db/installed", "apk"),
        ("/usr/lib/apk/db/installed", "apk"),
        ("/var/lib/opkg", "opkg"),
        ("/usr/lib/opkg", "opkg"),
        ("/var/lib/pacman/local", "pacman"),
        ("/nix/var/nix", "nix"),
        ("/snap/bin", "snap"),
    ])
    .unwrap_or("none")
}

/// Who starts the services.
fn init_system(host: &Host) -> Option<&'static str> {
    let has = |path: &str| host.facts(path).is_ok();
    if has("/run/systemd/system") {
        return Some("systemd");
    }
    if has("/run/openrc") {
        return Some("openrc");
    }
    let target = |path: &str| {
        let target = host.read_link(path).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    };
    // Others may read the name of a process only, and who is called init may be anybody.
    let comm = || line(host, "/proc/1/comm");
    let program = match target("/proc/1/exe").or_else(comm).as_deref() {
        Some("init") | None => target("/sbin/init").unwrap_or_else(|| "init".to_owned()),
        Some(program) => program.to_owned(),
    };
    match program.as_str() {
        "busybox" | "busybox.nosuid" | "busybox.suid" => Some("busybox"),
        "procd" => Some("procd"),
        "runit" | "runit-init" => Some("runit"),
        "s6-svscan" | "s6-linux-init" => Some("s6"),
        "dinit" => Some("dinit"),
        "openrc-init" => Some("openrc"),
        "init.sysvinit" => Some("sysvinit"),
        "init" if has("/etc/inittab") => Some("sysvinit"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greeting_is_read_without_what_getty_replaces() {
        assert_eq!(greeting("Welcome to Buildroot\n").as_deref(), Some("Welcome to Buildroot"));
        let yocto = "\nPoky (Yocto Project Reference Distro) 5.0.4 \\n \\l\n\n";
        assert_eq!(greeting(yocto).as_deref(), Some("Poky (Yocto Project Reference Distro) 5.0.4"));
        assert_eq!(greeting("\\n \\l\n --- \n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = greeting(&text);
        }
    }
}
