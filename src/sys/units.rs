//! Which services are started at boot, as the files of the init systems have it; nothing is asked of a running one.
//!
//! systemd: a link with the unit's name in a directory `*.wants`, `*.requires` or `*.upholds` beside the units, or among
//! what generators made at this start (a sign-in on each serial console of the kernel, for example), unless the unit is masked (a link to `/dev/null`, or an empty file). Others: links `S??NAME` in `/etc/rc?.d` and `/etc/rc.d`,
//! files `S??NAME` in `/etc/init.d` (BusyBox), names in `/etc/runlevels/*` (OpenRC), and lines of `/etc/inetd.conf`.

use std::collections::BTreeSet;
use std::path::Path;

use super::host::{FileKind, Host};
use super::platform;
use super::text_file::{self, TEXT_LIMIT, Unreadable};

/// The earlier ones count more (`systemd.unit(5)`).
const UNITS: [&str; 7] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];
/// More units or links than a board has.
const NAMES: usize = 8192;

/// What is started at boot.
#[derive(Clone, Debug, Default)]
pub struct Units {
    /// Directories with links to what is wanted.
    wants: Vec<String>,
    /// Names of what the other init systems start.
    started: BTreeSet<String>,
    /// Whether systemd runs the machine: units of packages are there without it too.
    systemd: bool,
}

impl Units {
    /// Reads the directories.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn read(host: &Host) -> Result<Self, Unreadable> {
        let mut units = Self { systemd: platform::has_systemd(host), ..Self::default() };
        for directory in UNITS {
            let names = text_file::names(host, directory, NAMES)?;
            let wants =
                names.iter().filter(|name| [".wants", ".requires", ".upholds"].iter().any(|end| name.ends_with(end)));
            units.wants.extend(wants.map(|name| format!("{directory}/{name}")));
        }
        for directory in ["rc2.d", "rc3.d", "rc4.d", "rc5.d", "rcS.d", "rc.d", "init.d"] {
            let names = text_file::names(host, format!("/etc/{directory}"), NAMES)?;
            units.started.extend(names.iter().filter_map(|name| start_link(name)).map(str::to_owned));
        }
        for level in text_file::names(host, "/etc/runlevels", 64)? {
            units.started.extend(text_file::names(host, format!("/etc/runlevels/{level}"), NAMES)?);
        }
        let inetd = text_file::read(host, "/etc/inetd.conf", TEXT_LIMIT)?.unwrap_or_default();
        units.started.extend(inetd_names(&inetd));
        Ok(units)
    }

    /// Whether a unit, such as `telnet.socket`, is started at boot. A plain name is that of a service: systemd takes its
    /// start links only if it has no unit, and no mask, for it.
    ///
    /// # Errors
    /// A link cannot be read.
    pub fn enabled(&self, host: &Host, unit: &str) -> Result<bool, Unreadable> {
        let unit = &if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") };
        let plain = unit.strip_suffix(".service").or_else(|| unit.strip_suffix(".socket")).unwrap_or(unit);
        if !self.systemd && self.started.contains(plain) {
            return Ok(true);
        }
        let mut known = false;
        for directory in UNITS {
            let path = format!("{directory}/{unit}");
            let Some(facts) = text_file::present(Path::new(&path), host.link_facts(&path))? else { continue };
            if masked(host, &path, facts.kind, facts.size) {
                return Ok(false);
            }
            known = true;
            break;
        }
        // Of a template there are only instances.
        for directory in &self.wants {
            let path = format!("{directory}/{unit}");
            if text_file::present(Path::new(&path), host.link_facts(&path))?.is_some()
                && (known || host.facts(&path).is_ok())
            {
                return Ok(true);
            }
        }
        Ok(!known && self.started.contains(plain))
    }
}

fn masked(host: &Host, path: &str, kind: FileKind, size: u64) -> bool {
    match kind {
        FileKind::Link => host.read_link(path).is_ok_and(|target| target == Path::new("/dev/null")),
        kind => kind == FileKind::File && size == 0,
    }
}

/// `S50dropbear` starts dropbear.
fn start_link(name: &str) -> Option<&str> {
    let rest = name.strip_prefix('S')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest.get(digits..).filter(|plain| digits > 0 && !plain.is_empty()).map(|plain| plain.trim_end_matches(".sh"))
}

/// The services and the programs in the text of the file: `telnet stream tcp nowait root /usr/sbin/in.telnetd …`.
fn inetd_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let program = words.iter().skip(5).take(2).filter_map(|word| word.rsplit('/').next());
        if words.len() >= 6 {
            names.extend(words.iter().copied().take(1).chain(program).map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::fixture;

    #[test]
    fn links_count_and_masks_count_more() {
        let machine = fixture::made(&[]);
        let host = &machine.host;
        let put = |path: &str, text: &str| machine.put(path, text);
        let link = |path: &str, target: &str| machine.link(path, target);
        for unit in ["telnet.socket", "ssh.service", "idle.service", "avahi.service"] {
            put(&format!("lib/systemd/system/{unit}"), "[Unit]\n");
            if unit != "idle.service" {
                let wants = format!("etc/systemd/system/multi-user.target.wants/{unit}");
                link(&wants, &format!("/lib/systemd/system/{unit}"));
            }
        }
        put("lib/systemd/systemd", "");
        link("etc/systemd/system/avahi.service", "/dev/null");
        put("lib/systemd/system/serial-getty@.service", "[Unit]\n");
        for line in ["ttyS0", "ttyS1"] {
            let wants = format!("run/systemd/generator/getty.target.wants/serial-getty@{line}.service");
            link(&wants, "/lib/systemd/system/serial-getty@.service");
        }
        link("etc/systemd/system/serial-getty@ttyS1.service", "/dev/null");
        link("etc/systemd/system/multi-user.target.wants/gone.service", "/lib/systemd/system/gone.service");
        link("etc/rc3.d/S01avahi", "../init.d/avahi");
        link("etc/rc3.d/S01old", "../init.d/old");
        link("etc/rc3.d/S01idle", "../init.d/idle");
        put("etc/init.d/S50dropbear", "");
        put("etc/runlevels/default/sshd", "");
        put(
            "etc/inetd.conf",
            "#ftp stream tcp nowait root /usr/sbin/ftpd\ntelnet stream tcp nowait root /usr/sbin/in.telnetd in.telnetd\n",
        );
        let units = Units::read(host).unwrap();
        let on = |name| units.enabled(host, name).unwrap();
        for name in [
            "telnet.socket",
            "ssh.service",
            "old.service",
            "dropbear.service",
            "sshd",
            "in.telnetd",
            "serial-getty@ttyS0.service",
        ] {
            assert!(on(name), "{name}");
        }
        for name in [
            "idle.service",
            "idle",
            "avahi.service",
            "avahi",
            "gone.service",
            "ftp.service",
            "none.timer",
            "serial-getty@ttyS1.service",
        ] {
            assert!(!on(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n]{0,200}") {
            let _ = inetd_names(&text);
            let _ = start_link(&text);
        }
    }
}
