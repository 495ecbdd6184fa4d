//! How the machine is at the moment: since when it runs, whether its clock is right, whether it waits for a restart.

use super::{Facts, SMALL};
use crate::sys::host::Host;
use crate::sys::sysfs::line;

/// As much of `/proc/stat` as its first lines and the processors before `btime` take.
const STAT: usize = 256 << 10;
/// Most packages that are named as those who wait for a restart.
const PACKAGES: usize = 10;
/// More kernels than a machine has installed.
const KERNELS: usize = 256;

/// `UptimeSeconds`, `BootTime`, `TimeSync`, `TimeSource`, `PendingReboot`, `PendingRebootReason`.
pub(super) fn tell(host: &Host, facts: &mut Facts) {
    let uptime = line(host, "/proc/uptime").and_then(|text| Some(text.split(['.', ' ']).next()?.to_owned()));
    facts.tell("UptimeSeconds", uptime.filter(|text| text.parse::<u64>().is_ok()));
    let booted = host.read_text("/proc/stat", STAT).ok().and_then(|text| boot_time(&text));
    facts.tell("BootTime", booted.and_then(|at| Some(jiff::Timestamp::from_second(at).ok()?.to_string())));
    let (state, source) = time_sync(host, booted);
    facts.tell("TimeSync", Some(state));
    facts.tell("TimeSource", source);
    if let Some(reason) = pending_reboot(host) {
        facts.tell("PendingReboot", Some("true"));
        facts.tell("PendingRebootReason", Some(reason));
    }
}

/// `btime` of `/proc/stat`: seconds since 1970, by the clock as it is set now.
fn boot_time(stat: &str) -> Option<i64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A program that sets the clock: what is there while it runs, and the files that it writes when the clock is right.
struct Daemon {
    name: &'static str,
    runs: &'static [&'static str],
    proofs: &'static [&'static str],
}

const DAEMONS: &[Daemon] = &[
    Daemon {
        name: "systemd-timesyncd",
        runs: &["/run/systemd/timesync"],
        proofs: &["/run/systemd/timesync/synchronized"],
    },
    Daemon {
        name: "chrony",
        runs: &["/run/chrony/chronyd.pid", "/run/chrony/chronyd.sock", "/run/chronyd.pid", "/var/run/chronyd.pid"],
        proofs: &["/var/lib/chrony/chrony.drift", "/var/lib/chrony/drift"],
    },
    Daemon {
        name: "openntpd",
        runs: &["/run/openntpd.sock", "/run/ntpd.sock", "/var/run/ntpd.sock"],
        proofs: &["/var/lib/openntpd/db/ntpd.drift", "/var/db/ntpd.drift"],
    },
    Daemon {
        name: "ntpd",
        runs: &["/run/ntpd.pid", "/var/run/ntpd.pid"],
        proofs: &["/var/lib/ntpsec/ntp.drift", "/var/lib/ntp/ntp.drift", "/var/lib/ntp/drift", "/etc/ntp.drift"],
    },
];

/// Whether the clock is right, and by whom. A drift file that is older than the start of the machine proves nothing, and
/// without one it may be right all the same: then it is unknown. Only timesyncd says that it is not right yet.
fn time_sync(host: &Host, booted: Option<i64>) -> (&'static str, Option<&'static str>) {
    let there = |path: &str| host.facts(path).is_ok();
    let is_proof = |path: &str| {
        let written = host.facts(path).ok().map(|facts| facts.modified);
        path.starts_with("/run/") && written.is_some() || written.zip(booted).is_some_and(|(at, booted)| at > booted)
    };
    let mut running = DAEMONS.iter().filter(|daemon| daemon.runs.iter().any(|path| there(path)));
    let Some(first) = running.next() else { return ("unknown", None) };
    let proven = std::iter::once(first).chain(running).find(|daemon| daemon.proofs.iter().any(|path| is_proof(path)));
    match proven {
        Some(daemon) => ("synchronised", Some(daemon.name)),
        None if first.name == "systemd-timesyncd" => ("not synchronised", Some(first.name)),
        None => ("unknown", Some(first.name)),
    }
}

/// Why the machine waits for a restart, if it is known to.
fn pending_reboot(host: &Host) -> Option<String> {
    for directory in ["/run", "/var/run"] {
        if host.facts(format!("{directory}/reboot-required")).is_ok() {
            let text = host.read_text(format!("{directory}/reboot-required.pkgs"), SMALL).unwrap_or_default();
            let mut packages: Vec<&str> = text.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
            packages.sort_unstable();
            packages.dedup();
            let more = packages.len().saturating_sub(PACKAGES);
            packages.truncate(PACKAGES);
            return Some(match (packages.is_empty(), more) {
                (true, _) => "updated software".to_owned(),
                (false, 0) => packages.join(", "),
                (false, more) => format!("{} and {more} more", packages.join(", ")),
            });
        }
    }
    replaced_kernel(host)
}

/// The modules of the kernel that runs have gone and there are those of another: it was replaced. A kernel that was
/// given to a virtual machine from outside has no modules there either, but then none is loaded.
fn replaced_kernel(host: &Host) -> Option<String> {
    let running = line(host, "/proc/sys/kernel/osrelease")?;
    // systemd may hide them from a service; the first process sees them.
    let hidden = host.is_live() && host.list("/lib/modules", 1).is_ok_and(|names| names.is_empty());
    let place = if hidden { "/proc/1/root/lib/modules" } else { "/lib/modules" };
    let others = host.list(place, KERNELS).ok()?;
    let is_whole = |name: &str| host.facts(format!("{place}/{name}/modules.dep")).is_ok();
    let other = others.iter().filter_map(|name| name.to_str()).any(|name| name != running && is_whole(name));
    let modules = host.read("/proc/modules", 1).ok()?;
    let replaced = other && !modules.is_empty() && host.facts(format!("{place}/{running}")).is_err();
    replaced.then(|| format!("the modules of the running kernel {running} are no longer installed"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::fixture;

    #[test]
    fn the_clock_is_right_if_somebody_proves_it() {
        let of = |files: &[(&str, &str)], booted| time_sync(&fixture::made(files).host, booted);
        assert_eq!(of(&[], Some(0)), ("unknown", None));
        let daemon = Some("systemd-timesyncd");
        assert_eq!(of(&[("run/systemd/timesync/x", "")], None), ("not synchronised", daemon));
        assert_eq!(of(&[("run/systemd/timesync/synchronized", "")], None), ("synchronised", daemon));
        let chrony = [("run/chrony/chronyd.pid", "7\n"), ("var/lib/chrony/chrony.drift", "1 2\n")];
        assert_eq!(of(&chrony, Some(0)), ("synchronised", Some("chrony")));
        assert_eq!(of(&chrony, Some(i64::MAX)), ("unknown", Some("chrony")), "an old drift");
        assert_eq!(of(&chrony, None), ("unknown", Some("chrony")));
        assert_eq!(of(&chrony[1..], Some(0)), ("unknown", None), "it does not run");
        assert_eq!(of(&[("run/ntpd.pid", "7\n")], Some(0)), ("unknown", Some("ntpd")));
    }

    #[test]
    fn a_restart_is_waited_for() {
        let of = |files: &[(&str, &str)]| pending_reboot(&fixture::made(files).host);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("run/reboot-required", "")]).as_deref(), Some("updated software"));
        let packages = ("var/run/reboot-required.pkgs", "linux-base\nlibc6\nlibc6\n");
        assert_eq!(of(&[("var/run/reboot-required", ""), packages]).as_deref(), Some("libc6, linux-base"));
        let many = (10..30).map(|n| format!("p{n}")).collect::<Vec<_>>().join("\n");
        let reason = of(&[("run/reboot-required", ""), ("run/reboot-required.pkgs", &many)]).unwrap();
        assert!(reason.ends_with("p19 and 10 more"), "{reason}");
    }

    #[test]
    fn a_kernel_that_was_replaced_is_known() {
        let of = |files: &[(&str, &str)]| pending_reboot(&fixture::made(files).host);
        let running = ("proc/sys/kernel/osrelease", "6.1.0-1\n");
        let newer = ("lib/modules/6.1.0-2/modules.dep", "");
        let loaded = ("proc/modules", "snd 1 0 - Live 0x0\n");
        let reason = of(&[running, newer, loaded]).unwrap();
        assert_eq!(reason, "the modules of the running kernel 6.1.0-1 are no longer installed");
        assert_eq!(of(&[running, newer, loaded, ("lib/modules/6.1.0-1/x", "")]), None);
        assert_eq!(of(&[running, newer]), None);
        assert_eq!(of(&[running, newer, ("proc/modules", "")]), None);
        assert_eq!(of(&[running, loaded]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = (boot_time(&text), boot_time(&format!("btime {text}")));
        }
    }
}
