//! The clock: tokens and certificates need it. Whether it is right cannot be asked over MQTT, so what this machine says
//! about it must do.

use crate::model::time::Now;
use crate::sys::host::Host;

use super::finding::{Check, Finding};

/// systemd-timesyncd makes it when the clock was set from the network (systemd-timesyncd.service(8)).
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
/// What other time services leave while they run.
const SERVICES: [(&str, &str); 5] = [
    ("/run/chrony", "chrony"),
    ("/run/chronyd.pid", "chrony"),
    ("/run/ntpd.pid", "ntpd"),
    ("/run/openntpd.sock", "openntpd"),
    ("/run/ntpd-rs", "ntpd-rs"),
];

/// Whether the clock can be believed: it is not before a moment that has surely passed.
pub(super) fn clock(now: Now) -> Finding {
    let at = now.wall.utc_text();
    if now.wall.trusted {
        return Finding::ok(Check::Clock, at);
    }
    Finding::failed(
        Check::Clock,
        format!("{at} is before the release of this version: tokens and certificates will be refused"),
        "set the clock (timedatectl set-ntp true, or date -s), and check the battery of the hardware clock",
    )
}

/// Whether something keeps it right.
pub(super) fn synchronization(host: &Host) -> Finding {
    if host.path(SYNCHRONIZED).exists() {
        return Finding::ok(Check::ClockSync, "set from the network (systemd-timesyncd)");
    }
    let running = SERVICES.iter().find(|(path, _)| host.path(path).exists());
    match running {
        Some((_, name)) => {
            Finding::ok(Check::ClockSync, format!("{name} runs; whether it has set the clock is not seen from here"))
        }
        None => Finding::warning(
            Check::ClockSync,
            "nothing on this machine says that the clock is kept right",
            "install a time service such as systemd-timesyncd or chrony; in a container the host's one counts",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::finding::Verdict;
    use super::*;
    use crate::sys::clock::{Clock, ManualClock};

    #[test]
    fn a_clock_before_the_release_fails() {
        let mut now = ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()).now();
        assert_eq!(clock(now), Finding::ok(Check::Clock, "2026-11-22T09:30:00.000Z"));
        now.wall.trusted = false;
        assert_eq!(clock(now).result, Verdict::Failed);
    }

    #[test]
    fn time_services_are_found_by_their_traces() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        assert_eq!(synchronization(&host).result, Verdict::Warning);
        fs::create_dir_all(root.path().join("run/chrony")).unwrap();
        assert!(synchronization(&host).detail.starts_with("chrony runs"));
        fs::create_dir_all(root.path().join("run/systemd/timesync")).unwrap();
        fs::File::create(root.path().join("run/systemd/timesync/synchronized")).unwrap();
        assert!(synchronization(&host).detail.contains("timesyncd"));
    }
}
