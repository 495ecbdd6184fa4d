//! The probes `service`, `package` and `port`: what runs, what could, and what waits for others.

use super::super::machine::{Cannot, Machine};
use super::super::verdict::Verdict;
use crate::sys::packages::Installed;

pub(super) fn service(machine: &Machine, names: &[Box<str>], wanted: bool) -> Result<Verdict, Cannot> {
    let units = machine.units()?;
    let mut found = Vec::new();
    for name in names {
        if units.enabled(machine.host, name)? {
            found.push(format!("{name} is started at boot"));
        }
    }
    Ok(one_of(wanted, &found, "not to be", || format!("{} is not started at boot, expected to be", names.join(", "))))
}

pub(super) fn package(machine: &Machine, names: &[Box<str>], wanted: bool) -> Result<Verdict, Cannot> {
    let all = match machine.packages()? {
        Installed::Known(all) => all,
        Installed::Unknown => {
            return Err(Cannot("rpm's database is not read: whether a package is installed is not known".to_owned()));
        }
        Installed::None => return Ok(Verdict::Beside("there is no package manager".to_owned())),
    };
    let found: Vec<String> =
        names.iter().filter(|name| all.contains(*name)).map(|name| format!("{name} is installed")).collect();
    Ok(one_of(wanted, &found, "not to be", || format!("{} is not installed, expected to be", names.join(", "))))
}

pub(super) fn port(
    machine: &Machine,
    ports: &[u16],
    tcp: bool,
    wanted: bool,
    loopback: bool,
) -> Result<Verdict, Cannot> {
    let Some(sockets) = machine.waiting()? else {
        return Ok(Verdict::Beside("an image has no sockets".to_owned()));
    };
    let name = if tcp { "TCP" } else { "UDP" };
    let mut found: Vec<String> = sockets
        .iter()
        .filter(|socket| socket.transport.is_tcp() == tcp && ports.contains(&socket.local_port))
        .filter(|socket| !(loopback && !wanted && socket.local.to_canonical().is_loopback()))
        // A socket with a peer waits for that peer alone.
        .filter(|socket| socket.remote_port == 0)
        .map(|socket| format!("somebody waits on {name} port {} of {}", socket.local_port, socket.local))
        .collect();
    found.dedup();
    let expected = if loopback { "nobody, or on loopback only" } else { "nobody" };
    Ok(one_of(wanted, &found, expected, || {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        format!("nobody waits on {name} port {}, expected somebody", ports.join(" or "))
    }))
}

/// One is wanted, or none.
fn one_of(wanted: bool, found: &[String], expected: &str, none: impl FnOnce() -> String) -> Verdict {
    if wanted { Verdict::of(!found.is_empty(), none) } else { Verdict::of_list(found, expected) }
}
