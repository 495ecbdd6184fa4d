//! The probes `key`, `text` and `value`: what stands in text files.
//!
//! A line whose first letter is `#` or `;` is a comment. A setting is `NAME value` or `NAME=value`, perhaps with `export`
//! in front; quotes around the value are taken off, and so is a blank with `#` and all after it. A line `[Name]` begins a
//! section.

use std::path::{Path, PathBuf};

use super::super::check::{KeyProbe, TextProbe};
use super::super::compare::{Comparison, has};
use super::super::machine::{Cannot, Machine};
use super::super::verdict::Verdict;
use crate::sys::glob;
use crate::sys::host::FileKind;
use crate::sys::text_file::{self, TEXT_LIMIT};

/// More files than a directory of settings has.
const FILES: usize = 256;

pub(super) fn key(machine: &Machine, probe: &KeyProbe) -> Result<Verdict, Cannot> {
    let mut found = None;
    for path in paths(machine, &probe.files)? {
        let Some(text) = text_file::read(machine.host, &path, TEXT_LIMIT)? else { continue };
        if let Some(value) = setting(&text, probe) {
            found = Some((value, path));
            if !probe.last {
                break;
            }
        }
    }
    let Some((value, path)) = found else {
        let files = probe.files.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        return Ok(probe.compare.judge(&format!("{} in {files}", probe.key), None));
    };
    let what = format!("{} in {}", probe.key, path.display());
    Ok(if secret(&probe.key, &value) || is_closed(machine, &path) {
        Verdict::of(probe.compare.holds(&value), || format!("{what} is not as it must be (a secret is not shown)"))
    } else {
        probe.compare.judge(&what, Some(&value))
    })
}

/// Whether others may not read the file: then nothing of it leaves the machine.
fn is_closed(machine: &Machine, path: &Path) -> bool {
    machine.host.facts(path).is_ok_and(|facts| facts.mode & 0o004 == 0)
}

/// Whether a value may be a secret: nothing of it may leave the machine.
fn secret(name: &str, value: &str) -> bool {
    const NAMES: [&str; 8] = ["password", "passwd", "passphrase", "psk", "secret", "token", "private", "credential"];
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part)) || (value.starts_with('$') && value.matches('$').count() >= 3)
}

fn paths(machine: &Machine, patterns: &[Box<str>]) -> Result<Vec<PathBuf>, Cannot> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let found = glob::expand(machine.host, pattern, FILES)?;
        if found.cut {
            return Err(Cannot(format!("more than {FILES} files fit {pattern}")));
        }
        // Whoever names one file means that file; a directory among many is none of the files that are meant.
        let one = !pattern.contains('*');
        let is_file = |path: &PathBuf| machine.host.facts(path).is_ok_and(|facts| facts.kind == FileKind::File);
        paths.extend(found.paths.into_iter().filter(|path| one || is_file(path)));
    }
    Ok(paths)
}

/// The lines that are no comments, without blanks around. `//` begins one only before a blank: it begins the name of a
/// share in `/etc/fstab` too.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let comment = |line: &str| line.starts_with(['#', ';']) || line.starts_with("// ") || line == "//";
    text.lines().map(str::trim).filter(move |line| !line.is_empty() && !comment(line))
}

/// A text as it is compared: without blanks, which most files take in several places or not at all; exactly, with one
/// blank in place of several.
fn spelling(text: &str, exact: bool) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(if exact { " " } else { "" })
}

/// The value of the setting in a text.
fn setting(text: &str, probe: &KeyProbe) -> Option<String> {
    let mut section = None;
    let mut found = None;
    for line in lines(text) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = Some(name.trim());
        } else if (probe.section.is_none() || probe.section.as_deref() == section)
            && let Some(value) = value_of(line, &probe.key, probe.blank)
        {
            found = Some(value);
            if !probe.last {
                break;
            }
        }
    }
    found
}

fn value_of(line: &str, key: &str, blank: Option<bool>) -> Option<String> {
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let rest = line.strip_prefix(key)?;
    let value = match blank {
        Some(false) => rest.trim_start().strip_prefix('=')?,
        _ if rest.is_empty() => rest,
        Some(true) => rest.strip_prefix(|c: char| c.is_ascii_whitespace())?,
        None => {
            let after = rest.trim_start();
            match after.strip_prefix('=') {
                Some(value) => value,
                None if after.len() < rest.len() => after,
                None => return None,
            }
        }
    };
    Some(bare(value.trim()).to_owned())
}

/// Without quotes around and without a comment behind.
fn bare(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some((inner, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner;
        }
    }
    let end = [" #", "\t#"].iter().filter_map(|mark| value.find(mark)).min().unwrap_or(value.len());
    value.get(..end).unwrap_or(value).trim_end()
}

pub(super) fn text(machine: &Machine, probe: &TextProbe) -> Result<Verdict, Cannot> {
    let paths = paths(machine, &probe.files)?;
    let mut read = false;
    for path in paths {
        let Some(text) = text_file::read(machine.host, &path, TEXT_LIMIT)? else { continue };
        read = true;
        let part = spelling(&probe.part, probe.exact);
        if lines(&text).any(|line| has(&spelling(line, probe.exact), &part, probe.exact)) {
            return Ok(Verdict::of(probe.wanted, || {
                format!("a line of {} has \"{}\" in it, expected none", path.display(), probe.part)
            }));
        }
    }
    let files = probe.files.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    Ok(match (read, probe.wanted) {
        (false, _) => Verdict::of(probe.absent_holds, || format!("there is no {files}")),
        (true, true) => Verdict::fails(format!("no line of {files} has \"{}\" in it, expected one", probe.part)),
        (true, false) => Verdict::Holds,
    })
}

pub(super) fn value(machine: &Machine, path: &str, compare: &Comparison) -> Result<Verdict, Cannot> {
    const SMALL: usize = 4096;
    let text = text_file::read(machine.host, path, SMALL)?;
    let value = text.as_deref().map(|text| text.trim_matches(['\0', ' ', '\n', '\t']));
    Ok(match value {
        Some(value) if secret(path, value) || is_closed(machine, Path::new(path)) => {
            Verdict::of(compare.holds(value), || format!("{path} is not as it must be (a secret is not shown)"))
        }
        value => compare.judge(path, value),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_of_a_setting_is_read() {
        for (line, blank, value) in [
            ("UMASK\t027", None, Some("027")),
            ("UMASK = \"0 27\" # x", None, Some("0 27")),
            ("UMASK=027 # x", Some(false), Some("027")),
            ("export UMASK='027'", None, Some("027")),
            ("UMASK =027", Some(true), Some("=027")),
            ("UMASK 027", Some(false), None),
            ("UMASKX 027", None, None),
            ("UMASK", None, Some("")),
            ("UMASK", Some(false), None),
            ("UMASK=", None, Some("")),
        ] {
            assert_eq!(value_of(line, "UMASK", blank).as_deref(), value, "{line}");
        }
    }

    #[test]
    fn comments_are_no_lines_and_blanks_are_one() {
        let text = "# a\n ; b\n// c\n//\n//server/share /mnt\n\n\t* hard\t  core 0 \n";
        let found: Vec<String> = lines(text).map(|line| spelling(line, true)).collect();
        assert_eq!(found, ["//server/share /mnt", "* hard core 0"]);
        assert_eq!(spelling("guest ok = yes", false), spelling("guest ok=yes", false));
    }

    #[test]
    fn secrets_are_known_by_name_or_form() {
        for (name, value) in [("wpa_passphrase", "x"), ("PSK", "x"), ("a", "$6$salt$hash"), ("rpc.secret", "1")] {
            assert!(secret(name, value), "{name}");
        }
        assert!(!secret("PASS_MAX_DAYS", "$HOME"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\t=#'\"]{0,60}", blank in any::<Option<bool>>()) {
            let _ = value_of(&text, "", blank);
            let _ = value_of(&format!("K{text}"), "K", blank);
        }
    }
}
