//! The probes `sysctl`, `mount`, `module` and `boot`: the kernel, and what it was told at its start.

use std::path::Path;

use super::super::check::MountProbe;
use super::super::compare::Comparison;
use super::super::machine::{Cannot, Machine};
use super::super::verdict::Verdict;
use crate::sys::mounts;
use crate::sys::text_file::{self, TEXT_LIMIT};
use crate::sys::{kernel_modules, sysctl as parameters};

pub(super) fn sysctl(machine: &Machine, name: &str, compare: &Comparison) -> Result<Verdict, Cannot> {
    let value = parameters::value(machine.host, name)?;
    Ok(compare.judge(name, value.as_deref()))
}

pub(super) fn mount(machine: &Machine, probe: &MountProbe) -> Result<Verdict, Cannot> {
    /// What the system mounts by itself: `fstab` need not name it.
    const OWN: [&str; 5] = ["/proc", "/sys", "/dev", "/dev/shm", "/run"];
    let point = Path::new(&*probe.point);
    let found = if let Some(table) = machine.mounts()? {
        mounts::mounted_at(table, point)
    } else {
        let fstab = text_file::read(machine.host, "/etc/fstab", TEXT_LIMIT)?.unwrap_or_default();
        let planned = mounts::planned_at(fstab.as_bytes(), point);
        if planned.is_none() && OWN.contains(&&*probe.point) {
            return Ok(Verdict::Beside(format!("an image does not tell how {} will be mounted", probe.point)));
        }
        planned
    };
    let Some(found) = found else {
        let holds =
            if probe.separate == Some(true) { false } else { probe.separate == Some(false) || probe.absent_holds };
        return Ok(Verdict::of(holds, || format!("{} is no file system of its own", probe.point)));
    };
    let has = |option: &str| found.options.iter().any(|given| given == option);
    let mut wrong = Vec::new();
    if probe.separate == Some(false) {
        wrong.push("is a file system of its own, expected none".to_owned());
    }
    wrong.extend(probe.options.iter().filter(|o| !has(o)).map(|o| format!("is mounted without {o}, expected with it")));
    wrong.extend(probe.without.iter().filter(|o| has(o)).map(|o| format!("is mounted with {o}, expected without it")));
    if !probe.kind.is_empty() && !probe.kind.iter().any(|kind| **kind == *found.kind) {
        wrong.push(format!("is {}, expected {}", found.kind, probe.kind.join(" or ")));
    }
    Ok(Verdict::of(wrong.is_empty(), || format!("{} {}", probe.point, wrong.join("; "))))
}

pub(super) fn module(
    machine: &Machine,
    name: &str,
    loaded: Option<bool>,
    loadable: Option<bool>,
) -> Result<Verdict, Cannot> {
    let mut wrong = Vec::new();
    if let Some(wanted) = loaded
        && kernel_modules::loaded(machine.host, name)? != wanted
    {
        wrong.push(if wanted { "is not loaded, expected to be" } else { "is loaded, expected not to be" });
    }
    if let Some(wanted) = loadable
        && kernel_modules::loadable(machine.host, name)? != wanted
    {
        wrong.push(if wanted { "cannot be loaded, expected to be" } else { "can be loaded, expected not to be" });
    }
    Ok(Verdict::of(wrong.is_empty(), || format!("the kernel module {name} {}", wrong.join("; "))))
}

pub(super) fn boot(
    machine: &Machine,
    name: &str,
    compare: Option<&Comparison>,
    present: Option<bool>,
) -> Result<Verdict, Cannot> {
    const PLACES: [&str; 3] = ["/proc/cmdline", "/boot/firmware/cmdline.txt", "/boot/cmdline.txt"];
    let mut line = None;
    for path in PLACES {
        line = text_file::read(machine.host, path, TEXT_LIMIT)?;
        if line.is_some() {
            break;
        }
    }
    let Some(line) = line else {
        return Ok(Verdict::Beside("an image does not tell the kernel's command line".to_owned()));
    };
    // `-` and `_` in names are one for the kernel.
    let plain = |name: &str| name.replace('-', "_");
    let wanted = plain(name);
    let words = words(&line);
    let values: Vec<Option<&str>> = words
        .iter()
        .filter_map(|word| {
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            (plain(name) == wanted).then_some(value)
        })
        .collect();
    let what = format!("{name} on the kernel's command line");
    match present {
        Some(false) if !values.is_empty() => return Ok(Verdict::fails(format!("{what} is there, expected not to be"))),
        Some(true) if values.is_empty() => return Ok(Verdict::fails(format!("{what} is not there, expected to be"))),
        _ => {}
    }
    Ok(match compare {
        None => Verdict::Holds,
        Some(compare) if values.is_empty() => compare.judge(&what, None),
        Some(compare) => {
            Verdict::all(values.into_iter().map(|value| compare.judge(&what, Some(value.unwrap_or_default()))))
        }
    })
}

/// Words of the kernel's command line; blanks within quotes part none.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.trim().chars().chain([' ']) {
        match letter {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    // A quote that is never closed.
    if !word.is_empty() {
        words.push(word);
    }
    words
}
