//! The probes: each looks at one thing, changes nothing and runs nothing.

mod accounts;
mod crypt;
mod files;
mod services;
mod settings;
mod sign_in;
mod system;

use super::check::{Condition, Probe};
use super::machine::Machine;
use super::verdict::Verdict;

/// What becomes of a condition on a machine.
#[must_use]
pub fn judge(machine: &Machine, condition: &Condition) -> Verdict {
    match condition {
        Condition::All(list) => Verdict::all(list.iter().map(|inner| judge(machine, inner))),
        Condition::Any(list) => Verdict::any(list.iter().map(|inner| judge(machine, inner))),
        Condition::Not(inner) => judge(machine, inner).not(|| inner.subject()),
        Condition::Probe(probe) => look(machine, probe).into(),
    }
}

fn look(machine: &Machine, probe: &Probe) -> Result<Verdict, super::machine::Cannot> {
    match probe {
        Probe::File(probe) => files::file(machine, probe),
        Probe::Key(probe) => settings::key(machine, probe),
        Probe::Text(probe) => settings::text(machine, probe),
        Probe::Value { path, compare } => settings::value(machine, path, compare),
        Probe::Sysctl { name, compare } => system::sysctl(machine, name, compare),
        Probe::Mount(probe) => system::mount(machine, probe),
        Probe::Module { name, loaded, loadable } => system::module(machine, name, *loaded, *loadable),
        Probe::Boot { name, compare, present } => system::boot(machine, name, compare.as_ref(), *present),
        Probe::Service { names, enabled } => services::service(machine, names, *enabled),
        Probe::Package { names, installed } => services::package(machine, names, *installed),
        Probe::Port { ports, tcp, listening, loopback } => services::port(machine, ports, *tcp, *listening, *loopback),
        Probe::Account(probe) => accounts::account(machine, probe),
        Probe::Group { name, members } => accounts::group(machine, name, members),
        Probe::Sshd { option, compare, default } => sign_in::sshd(machine, option, compare, default.as_deref()),
        Probe::Pam(probe) => sign_in::pam(machine, probe),
    }
}

#[cfg(test)]
mod tests;
