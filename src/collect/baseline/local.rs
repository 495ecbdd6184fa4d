//! Checks of the device's owner: files of `/etc/twinward/baseline.d`. The twin may choose one of them by its hash; it
//! cannot bring any. They are data, and never run.

use std::collections::BTreeSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::parse::{self, FILE_LIMIT, Parsed};
use super::verdict::clipped;
use crate::settings::agent_config::BaselineCustomChecks;
use crate::sys::host::{FileFacts, FileKind, Host};
use crate::sys::text_file::{self, Unreadable, present};

/// Where they are.
pub const DIRECTORY: &str = "/etc/twinward/baseline.d";
/// More files are left out, and said so.
const FILES: usize = 64;
/// More bytes than a device's own checks have; each costs about ten while they are evaluated.
const TOGETHER: usize = 512 * 1024;

/// What the directory has.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// What is in each file, by name. Without checks where the twin does not want them.
    pub(super) files: Vec<(String, Parsed)>,
    /// What is wrong, each a part of a sentence.
    pub(super) problems: Vec<String>,
}

/// Reads the files, and leaves those checks that are not wanted. What is to be skipped counts always: it is the word of
/// the device's owner.
pub(super) fn read(host: &Host, wanted: &BaselineCustomChecks) -> Local {
    let mut local = Local::default();
    let chosen = choose(wanted).unwrap_or_else(|problem| {
        local.problems.push(problem);
        Chosen::None
    });
    let names = match names(host) {
        Ok(names) => names,
        Err(problem) => {
            local.problems.push(problem);
            return local;
        }
    };
    if let Chosen::One { name, .. } = &chosen
        && !names.contains(name)
    {
        local.problems.push(format!("{DIRECTORY}/{} does not exist", clipped(name, 100)));
    }
    if names.len() > FILES {
        local.problems.push(format!("{DIRECTORY} has {} files: all beyond {FILES} are left out", names.len()));
    }
    let mut taken = BTreeSet::new();
    let mut room = TOGETHER;
    for name in names.into_iter().take(FILES) {
        let bytes = match bytes(host, &name) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(problem) => {
                local.problems.push(problem);
                continue;
            }
        };
        let Some(left) = room.checked_sub(bytes.len()) else {
            local
                .problems
                .push(format!("{DIRECTORY}/{name} is left out: the files have more than {TOGETHER} bytes together"));
            continue;
        };
        room = left;
        let checks = match &chosen {
            Chosen::All => true,
            Chosen::One { name: one, hash } if *one == name => {
                let found = hex(&Sha256::digest(&bytes));
                if !found.eq_ignore_ascii_case(hash) {
                    local.problems.push(format!(
                        "{DIRECTORY}/{name} has the SHA-256 {found}, which is not baselineCustomChecksFileHash: nothing of it \
                         is taken"
                    ));
                    continue;
                }
                true
            }
            Chosen::None | Chosen::One { .. } => false,
        };
        let mut parsed = parse::parse(&name, &bytes, true, &mut taken);
        if !checks {
            parsed.checks.clear();
        }
        local.problems.extend(parsed.problems.drain(..).map(|problem| problem.to_string()));
        local.files.push((name, parsed));
    }
    local
}

/// Whose checks are wanted.
enum Chosen {
    None,
    All,
    One { name: String, hash: String },
}

fn choose(wanted: &BaselineCustomChecks) -> Result<Chosen, String> {
    let given =
        |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    if !wanted.enabled {
        return Ok(Chosen::None);
    }
    match (given(&wanted.file_path), given(&wanted.file_hash)) {
        (None, None) => Ok(Chosen::All),
        (Some(_), None) => {
            Err("baselineCustomChecksFilePath is given without baselineCustomChecksFileHash: the SHA-256 of \
                                the file must be given too"
                .to_owned())
        }
        (None, Some(_)) => Err("baselineCustomChecksFileHash is given without baselineCustomChecksFilePath".to_owned()),
        (Some(path), Some(hash)) => {
            let name = path.strip_prefix(DIRECTORY).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&path);
            if name.contains('/') || name.starts_with('.') || !is_toml(name) || name.contains(char::is_control) {
                return Err(format!(
                    "baselineCustomChecksFilePath is \"{}\": expected the name of a .toml file directly in {DIRECTORY}",
                    clipped(&path, 100)
                ));
            }
            Ok(Chosen::One { name: name.to_owned(), hash })
        }
    }
}

/// Whether it is the name of a file of checks.
fn is_toml(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "toml")
}

fn names(host: &Host) -> Result<Vec<String>, String> {
    /// More names than anybody has there.
    const NAMES: usize = 4096;
    let path = Path::new(DIRECTORY);
    match present(path, host.link_facts(path)).map_err(|error| error.to_string())? {
        None => return Ok(Vec::new()),
        Some(facts) => trusted(DIRECTORY, facts, FileKind::Directory)?,
    }
    let names = text_file::names(host, path, NAMES).map_err(|error| error.to_string())?;
    Ok(names.into_iter().filter(|name| is_toml(name) && !name.starts_with('.')).collect())
}

fn trusted(path: &str, facts: FileFacts, kind: FileKind) -> Result<(), String> {
    let what = if kind == FileKind::Directory { "a directory" } else { "a regular file" };
    if facts.kind != kind {
        Err(format!("{path} is not read: it must be {what}, and no link"))
    } else if facts.uid != 0 || facts.mode & 0o022 != 0 {
        Err(format!(
            "{path} is not read: it belongs to uid {} with mode {:04o}; it must be root's, and writable by root only",
            facts.uid, facts.mode
        ))
    } else {
        Ok(())
    }
}

fn bytes(host: &Host, name: &str) -> Result<Option<Vec<u8>>, String> {
    use std::io::Read;
    let path = format!("{DIRECTORY}/{name}");
    let place = Path::new(&path);
    let Some(facts) = present(place, host.link_facts(place)).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    trusted(&path, facts, FileKind::File)?;
    let read = || {
        let mut bytes = Vec::new();
        host.regular(place)?.take(FILE_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    present(place, read()).map_err(|error: Unreadable| error.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests;
