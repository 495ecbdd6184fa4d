//! Whether something starts the agent and keeps it running.

use crate::sys::host::Host;

use super::finding::{Check, Finding};

const UNIT: &str = "twinward.service";
/// Where units stand, the stronger place first (systemd.unit(5)).
const PLACES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const WANTED_BY: &str = "/etc/systemd/system/multi-user.target.wants/twinward.service";
/// It is there if and only if systemd runs (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// Looks for the unit, and for the link that starts it at boot.
pub(super) fn service(host: &Host) -> Finding {
    if !host.path(BOOTED).exists() {
        let detail = "systemd does not run here: nothing that is known watches over the agent";
        let advice = "let your init start `twinward run`, restart it when it ends, and stop it with SIGTERM";
        return Finding::warning(Check::Service, detail, advice);
    }
    // A link may point to a place that is not below a replaced root; that it is there is enough.
    let there = |path: &str| host.path(path).symlink_metadata().is_ok();
    let Some(unit) = PLACES.iter().map(|place| format!("{place}/{UNIT}")).find(|path| there(path)) else {
        return Finding::warning(
            Check::Service,
            format!("systemd runs, but has no {UNIT}"),
            "install the package, or copy the unit from systemd/ of the sources to /etc/systemd/system",
        );
    };
    if !there(WANTED_BY) {
        let detail = format!("{unit} is not enabled: the agent does not start at boot");
        return Finding::warning(Check::Service, detail, format!("run: systemctl enable {UNIT}"));
    }
    Finding::ok(Check::Service, format!("{unit} is enabled"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn the_unit_is_looked_for_step_by_step() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        let make = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap();
        };
        assert!(service(&host).detail.starts_with("systemd does not run"));
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        assert!(service(&host).detail.contains("has no twinward.service"));
        make("usr/lib/systemd/system/twinward.service");
        assert!(service(&host).advice.contains("systemctl enable"));
        make("etc/systemd/system/multi-user.target.wants/twinward.service");
        let finding = service(&host);
        assert_eq!(
            (finding.result, finding.detail.as_str()),
            (Verdict::Ok, "/usr/lib/systemd/system/twinward.service is enabled")
        );
    }
}
