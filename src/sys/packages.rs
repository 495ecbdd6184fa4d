//! Which packages are installed, by the files of dpkg and opkg (`Package:` and `Status:` lines, an empty line between
//! two packages) and of apk (`P:` lines).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::host::Host;
use super::text_file::{self, Unreadable};

/// A full desktop has 3 MB.
const LIMIT: usize = 32 << 20;
/// More packages than a board has.
const PACKAGES: usize = 32_768;

/// Answers of the package managers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The names of all installed packages.
    Known(BTreeSet<Box<str>>),
    /// There is a database that we do not read: that of rpm.
    Unknown,
    /// There is no package manager.
    None,
}

/// Reads the databases that are there.
///
/// # Errors
/// One cannot be read.
pub fn installed(host: &Host) -> Result<Installed, Unreadable> {
    const STATUS: [&str; 3] = ["/var/lib/dpkg/status", "/usr/lib/opkg/status", "/var/lib/opkg/status"];
    const APK: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
    const RPM: [&str; 2] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];
    let mut names = BTreeSet::new();
    let mut any = false;
    for path in STATUS {
        let mut reader = StatusReader::default();
        any |= text_file::each_line(host, path, LIMIT, |line| reader.line(line, &mut names))?;
        reader.end(&mut names);
    }
    for path in APK {
        any |= text_file::each_line(host, path, LIMIT, |line| {
            if let Some(name) = line.strip_prefix("P:") {
                names.insert(name.trim().into());
            }
            go_on(&names)
        })?;
    }
    if any {
        return Ok(Installed::Known(names));
    }
    // Debian ships an empty directory for rpm's tools.
    let rpm = RPM.iter().any(|path| host.list(path, 1).is_ok_and(|names| !names.is_empty()));
    Ok(if rpm { Installed::Unknown } else { Installed::None })
}

fn go_on(names: &BTreeSet<Box<str>>) -> ControlFlow<()> {
    if names.len() < PACKAGES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

#[derive(Default)]
struct StatusReader {
    name: Option<Box<str>>,
    installed: bool,
}

impl StatusReader {
    fn line(&mut self, line: &str, names: &mut BTreeSet<Box<str>>) -> ControlFlow<()> {
        if let Some(name) = line.strip_prefix("Package:") {
            self.name = Some(name.trim().into());
        } else if let Some(status) = line.strip_prefix("Status:") {
            // What was wanted, whether it is broken, and what is: `deinstall ok config-files` is not there any more.
            self.installed = status.split_ascii_whitespace().last() == Some("installed");
        } else if line.trim().is_empty() {
            self.end(names);
        }
        go_on(names)
    }

    fn end(&mut self, names: &mut BTreeSet<Box<str>>) {
        let Self { name, installed } = std::mem::take(self);
        if installed {
            names.extend(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fixture;

    #[test]
    fn each_database_is_read() {
        let machine = fixture::made(&[]);
        let host = &machine.host;
        let put = |path, text| machine.put(path, text);
        assert_eq!(installed(host).unwrap(), Installed::None);
        put("var/lib/rpm/rpmdb.sqlite", "");
        assert_eq!(installed(host).unwrap(), Installed::Unknown);
        put(
            "var/lib/dpkg/status",
            "Package: telnetd\nStatus: deinstall ok config-files\nPackage-Type: x\n\nStatus: install ok installed\n\
             Package: ssh\n\nPackage: last\nStatus: hold ok installed",
        );
        put("lib/apk/db/installed", "C:Q1\nP:busybox\nV:1\n\nP:musl\n");
        let names: Vec<Box<str>> = ["busybox", "last", "musl", "ssh"].map(Into::into).to_vec();
        assert_eq!(installed(host).unwrap(), Installed::Known(names.into_iter().collect()));
    }
}
