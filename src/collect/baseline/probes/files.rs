//! The probe `file`: whether files exist, whose they are, and who may use them.

use std::io::Read;
use std::path::Path;

use super::super::check::FileProbe;
use super::super::machine::{Cannot, Machine};
use super::super::verdict::Verdict;
use crate::sys::glob;
use crate::sys::host::{FileFacts, FileKind, Host, is_of_kernel};
use crate::sys::text_file::{Unreadable, present};

/// More files than any check needs.
const MATCHES: usize = 4096;

pub(super) fn file(machine: &Machine, probe: &FileProbe) -> Result<Verdict, Cannot> {
    let host = machine.place(&probe.path)?;
    let found = glob::expand(host, &probe.path, MATCHES)?;
    let mut amiss = Vec::new();
    let mut count = 0;
    for path in &found.paths {
        // It may be gone by now.
        let Some(facts) = present(path, host.facts(path))? else { continue };
        if probe.private_keys && !is_private_key(host, path, facts)? {
            continue;
        }
        count += 1;
        let wrong = deviations(machine, probe, facts)?;
        if !wrong.is_empty() {
            amiss.push(format!("{} {}", path.display(), wrong.join(", ")));
        }
    }
    match probe.exists {
        Some(true) if count == 0 => return Ok(Verdict::fails(format!("{} does not exist, expected to", probe.path))),
        Some(false) => {
            let named: Vec<String> = found.paths.iter().map(|path| format!("{} exists", path.display())).collect();
            return Ok(if count == 0 { Verdict::Holds } else { Verdict::of_list(&named, "no such file") });
        }
        _ => {}
    }
    if amiss.is_empty() && found.cut {
        return Err(Cannot(format!("more than {MATCHES} files fit {}", probe.path)));
    }
    Ok(Verdict::of_list(&amiss, &expected(probe)))
}

fn expected(probe: &FileProbe) -> String {
    let list = |what: &str, names: &[Box<str>]| (!names.is_empty()).then(|| format!("{what} {}", names.join(" or ")));
    [
        probe.directory.map(|directory| if directory { "a directory" } else { "a regular file" }.to_owned()),
        probe.mode.map(|mode| format!("mode {mode:04o} or stricter")),
        list("owner", &probe.owner),
        list("group", &probe.group),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(", ")
}

fn deviations(machine: &Machine, probe: &FileProbe, facts: FileFacts) -> Result<Vec<String>, Cannot> {
    let mut wrong = Vec::new();
    if let Some(directory) = probe.directory {
        let wanted = if directory { FileKind::Directory } else { FileKind::File };
        if facts.kind != wanted {
            wrong.push("is another kind of file".to_owned());
        }
    }
    if probe.mode.is_some_and(|mode| facts.mode & !mode != 0) {
        wrong.push(format!("has mode {:04o}", facts.mode));
    }
    if !probe.owner.is_empty() && !is_one_of(&probe.owner, facts.uid, |name| user_id(machine, name))? {
        wrong.push(format!("belongs to uid {}", facts.uid));
    }
    if !probe.group.is_empty() && !is_one_of(&probe.group, facts.gid, |name| group_id(machine, name))? {
        wrong.push(format!("has gid {}", facts.gid));
    }
    Ok(wrong)
}

fn is_one_of(names: &[Box<str>], id: u32, id_of: impl Fn(&str) -> Result<Option<u32>, Cannot>) -> Result<bool, Cannot> {
    for name in names {
        if name.parse() == Ok(id) || (&**name == "root" && id == 0) || id_of(name)? == Some(id) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn user_id(machine: &Machine, name: &str) -> Result<Option<u32>, Cannot> {
    Ok(machine.accounts()?.iter().find(|account| account.name == name).map(|account| account.uid))
}

fn group_id(machine: &Machine, name: &str) -> Result<Option<u32>, Cannot> {
    Ok(machine.groups()?.iter().find(|group| group.name == name).map(|group| group.gid))
}

/// Whether a file has a private key near its beginning, in PEM or OpenSSH's own form. The kernel's files, to which a link
/// may lead as `/etc/mtab` does, hold none of the device's; what such a link names beyond them is looked at.
pub(super) fn is_private_key(host: &Host, path: &Path, facts: FileFacts) -> Result<bool, Unreadable> {
    // Parameters of a curve, or a certificate, may stand before the key.
    const HEAD: u64 = 16 * 1024;
    if facts.kind != FileKind::File {
        return Ok(false);
    }
    let read = || {
        let mut head = Vec::new();
        match host.regular(path) {
            Ok(file) => file.take(HEAD).read_to_end(&mut head).map(|_| head),
            Err(error) if is_of_kernel(&error) => Ok(head),
            Err(error) => Err(error),
        }
    };
    let head = present(path, read())?.unwrap_or_default();
    Ok(head.windows(11).any(|part| part == b"-----BEGIN ") && head.windows(16).any(|part| part == b"PRIVATE KEY-----"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::files::write_atomic;

    #[test]
    fn a_link_to_a_file_of_the_kernel_is_no_key_and_one_through_proc_to_a_key_is() {
        let directory = tempfile::tempdir().unwrap();
        let (etc, elsewhere) = (directory.path(), tempfile::tempdir().unwrap());
        let key = elsewhere.path().join("key");
        write_atomic(&key, b"-----BEGIN PRIVATE KEY-----\n", 0o600).unwrap();
        let through = format!("/proc/self/root{}", key.display());
        for (name, target) in [("mtab", "/proc/self/mounts"), ("key", &key.to_string_lossy()), ("through", &through)] {
            symlink(target, etc.join(name)).unwrap();
        }
        let host = Host::system();
        let judge = |name| {
            let path = etc.join(name);
            is_private_key(&host, &path, host.facts(&path).unwrap()).unwrap()
        };
        assert_eq!(["mtab", "key", "through"].map(judge), [false, true, true]);
        // Whoever wants its text is still refused.
        let error = host.regular(etc.join("mtab")).unwrap_err();
        assert!(is_of_kernel(&error) && error.to_string() == "a link to a file of the kernel", "{error}");
    }
}
