//! Whether this is a virtual machine, and whether we run in a container: from files only, as far as these tell.

use super::Facts;
use super::machine::field;
use crate::sys::host::Host;
use crate::sys::platform;
use crate::sys::sysfs::line;

const CPUINFO: usize = 16 << 10;

/// `Virtualization` and `Container`, each `none` if nothing speaks for one.
pub(super) fn tell(host: &Host, facts: &mut Facts) {
    facts.tell("Virtualization", Some(hypervisor(host).unwrap_or("none")));
    facts.tell("Container", Some(platform::container(host).unwrap_or_else(|| "none".to_owned())));
}

/// Words in the names of a machine (DMI), and what they stand for; the more telling ones first.
const MAKERS: &[(&str, &str)] = &[
    ("amazon ec2", "amazon"),
    ("google compute engine", "google"),
    ("virtualbox", "virtualbox"),
    ("innotek", "virtualbox"),
    ("vmware", "vmware"),
    ("parallels", "parallels"),
    ("bhyve", "bhyve"),
    ("apple virtualization", "apple"),
    ("hvm domu", "xen"),
    ("xen", "xen"),
    ("hyper-v", "hyper-v"),
    ("openstack", "kvm"),
    ("kubevirt", "kvm"),
    ("kvm", "kvm"),
    ("qemu", "qemu"),
    ("bochs", "bochs"),
];

fn hypervisor(host: &Host) -> Option<&'static str> {
    let of_kernel = line(host, "/proc/sys/kernel/osrelease").unwrap_or_default().to_ascii_lowercase();
    if of_kernel.contains("microsoft") {
        return Some("hyper-v");
    }
    // The first domain runs on the bare machine, beside its guests.
    if line(host, "/proc/xen/capabilities").is_some_and(|text| text.contains("control_d")) {
        return None;
    }
    if line(host, "/sys/hypervisor/type").as_deref() == Some("xen") || host.facts("/proc/xen/capabilities").is_ok() {
        return Some("xen");
    }
    by_maker(host).or_else(|| by_clock(host)).or_else(|| by_device_tree(host)).or_else(|| {
        let cpuinfo = host.read_text("/proc/cpuinfo", CPUINFO).unwrap_or_default();
        by_processor(&cpuinfo)
    })
}

fn by_maker(host: &Host) -> Option<&'static str> {
    let of = |name: &str| line(host, format!("/sys/class/dmi/id/{name}")).unwrap_or_default().to_ascii_lowercase();
    let (vendor, product) = (of("sys_vendor"), of("product_name"));
    if vendor == "microsoft corporation" && product == "virtual machine" {
        return Some("hyper-v");
    }
    // Bare metal of the same maker has the maker's name too.
    if vendor == "amazon ec2" && product.contains(".metal") {
        return None;
    }
    let texts = [product, vendor, of("board_vendor"), of("bios_vendor")];
    let made = MAKERS.iter().find(|(word, _)| texts.iter().any(|text| text.starts_with(word)))?.1;
    // QEMU says who it is; that KVM is below it is known by the clock.
    if made == "qemu" { by_clock(host).or(Some(made)) } else { Some(made) }
}

/// A guest has its hypervisor's clock.
fn by_clock(host: &Host) -> Option<&'static str> {
    let clocks = line(host, "/sys/devices/system/clocksource/clocksource0/available_clocksource")?;
    clocks.split_whitespace().find_map(|clock| match clock {
        "kvm-clock" => Some("kvm"),
        "xen" => Some("xen"),
        clock if clock.starts_with("hyperv_clocksource") => Some("hyper-v"),
        _ => None,
    })
}

fn by_device_tree(host: &Host) -> Option<&'static str> {
    let of = |path: &str| line(host, format!("/proc/device-tree/{path}")).unwrap_or_default();
    match of("hypervisor/compatible").as_str() {
        "linux,kvm" => return Some("kvm"),
        "" => {}
        text if text.starts_with("xen") => return Some("xen"),
        text if text.contains("vmware") => return Some("vmware"),
        _ => return Some("other"),
    }
    match of("compatible").as_str() {
        "linux,dummy-virt" | "qemu,pseries" => Some("qemu"),
        _ => of("model").to_ascii_lowercase().contains("qemu").then_some("qemu"),
    }
}

/// The processor says that it is lent, but not by whom.
fn by_processor(cpuinfo: &str) -> Option<&'static str> {
    if field(cpuinfo, "vendor_id").is_some_and(|vendor| vendor == "User Mode Linux") {
        return Some("uml");
    }
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    flags.split_whitespace().any(|flag| flag == "hypervisor").then_some("other")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::fixture;

    /// `Virtualization` and `Container` of a machine with these files.
    fn of(files: &[(&str, &str)]) -> (String, String) {
        let mut facts = Facts::default();
        tell(&fixture::made(files).host, &mut facts);
        (facts.details["Virtualization"].clone(), facts.details["Container"].clone())
    }

    #[test]
    fn virtual_machines_are_known() {
        const VENDOR: &str = "sys/class/dmi/id/sys_vendor";
        const PRODUCT: &str = "sys/class/dmi/id/product_name";
        const CLOCKS: &str = "sys/devices/system/clocksource/clocksource0/available_clocksource";
        for (files, expected) in [
            (vec![], "none"),
            (vec![(VENDOR, "Dell Inc.\n"), (PRODUCT, "OptiPlex 7090\n")], "none"),
            (vec![(VENDOR, "QEMU\n")], "qemu"),
            (vec![(VENDOR, "QEMU\n"), (CLOCKS, "kvm-clock tsc acpi_pm \n")], "kvm"),
            (vec![(CLOCKS, "tsc hyperv_clocksource_tsc_page\n")], "hyper-v"),
            (vec![(VENDOR, "Microsoft Corporation\n"), (PRODUCT, "Virtual Machine\n")], "hyper-v"),
            (vec![(VENDOR, "Microsoft Corporation\n"), (PRODUCT, "Surface Go\n")], "none"),
            (vec![(VENDOR, "VMware, Inc.\n")], "vmware"),
            (vec![(VENDOR, "innotek GmbH\n"), (PRODUCT, "VirtualBox\n")], "virtualbox"),
            (vec![(VENDOR, "Amazon EC2\n"), (PRODUCT, "t3.micro\n")], "amazon"),
            (vec![(VENDOR, "Amazon EC2\n"), (PRODUCT, "a1.metal\n")], "none"),
            (vec![("sys/hypervisor/type", "xen\n")], "xen"),
            (vec![("sys/hypervisor/type", "xen\n"), ("proc/xen/capabilities", "control_d\n")], "none"),
            (vec![("proc/device-tree/hypervisor/compatible", "linux,kvm\0")], "kvm"),
            (vec![("proc/device-tree/compatible", "linux,dummy-virt\0")], "qemu"),
            (vec![("proc/cpuinfo", "flags\t\t: fpu hypervisor lm\n")], "other"),
            (vec![("proc/cpuinfo", "flags\t\t: fpu lm\nbugs: hypervisor\n")], "none"),
            (vec![("proc/cpuinfo", "vendor_id\t: User Mode Linux\n")], "uml"),
        ] {
            assert_eq!(of(&files).0, expected, "{files:?}");
        }
    }

    #[test]
    fn containers_are_known() {
        for (files, expected) in [
            (vec![], "none"),
            (vec![("proc/1/cgroup", "0::/init.scope\n")], "none"),
            (vec![(".dockerenv", "")], "docker"),
            (vec![("run/.containerenv", "engine=\"podman-4.3\"\n")], "podman"),
            (vec![("run/systemd/container", "systemd-nspawn\n")], "systemd-nspawn"),
            (vec![("proc/1/environ", "PATH=/bin\0container=lxc\0")], "lxc"),
            (vec![("proc/1/environ", "xcontainer=lxc\0")], "none"),
            (vec![("proc/1/cgroup", "4:memory:/docker/0123\n")], "docker"),
            (vec![("proc/1/cgroup", "0::/kubepods.slice/docker-1.scope\n")], "kubernetes"),
            (vec![("proc/sys/kernel/osrelease", "5.15.90.1-microsoft-standard-WSL2\n")], "wsl"),
        ] {
            assert_eq!(of(&files).1, expected, "{files:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = by_processor(&text);
        }
    }
}
