//! The last desired section and what was in force with it, kept so that an agent that starts offline runs with it, and
//! a value that was refused stays refused in favour of the same one.
//!
//! Format of `last-desired.json`, mode 0600, one JSON object:
//!
//! ```json
//! {"format":1,"version":7,"desired":{"ms_iotn:…":{…},"$version":7},"inForce":{"snapshotFrequency":{"value":"PT13H"},…}}
//! ```
//!
//! `format` is 1. `version` is the section's `$version`. `desired` is the section as it was merged, which is judged
//! again when it is loaded. `inForce` has the members that were reported for it. The file is replaced as a whole, so it is never half written; what does not read back as
//! above is an error, and the agent then starts with the defaults.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::sys::files;

use super::{defaults, twin_text};

/// Its name in the state directory.
pub const FILE_NAME: &str = "last-desired.json";
const FORMAT: u64 = 1;
/// A section that fitted its bound when it came may take more in this form, through other escapes.
const LIMIT: usize = 4 * defaults::TWIN_SECTION_LIMIT;

/// A desired section and its version.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGood {
    /// `$version` of the section.
    pub version: u64,
    /// The whole section.
    pub desired: Map<String, Value>,
    /// What was in force with it: the members of [`super::reported::reported`].
    pub in_force: Map<String, Value>,
}

/// Why the section was not saved or loaded.
#[derive(Debug, Error)]
pub enum LastGoodError {
    /// The file system refused; worth a retry with the next twin.
    #[error("cannot keep or read {path}: {reason}; check the directory and its free space")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The section is larger than what is loaded again.
    #[error("{path}: the desired section takes {length} bytes, more than {LIMIT}: not kept")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The file is damaged; the next save replaces it.
    #[error("{path} is damaged ({reason}): it is ignored and replaced by the next twin")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl LastGoodError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// Replaces the saved section; writes nothing if it is already there, for the sake of the flash.
///
/// # Errors
/// Those of the file system, and a section that is too large; what was saved before is then still there.
pub fn save(directory: &Path, last: &LastGood) -> Result<(), LastGoodError> {
    let path = directory.join(FILE_NAME);
    let content =
        json!({ "format": FORMAT, "version": last.version, "desired": last.desired, "inForce": last.in_force })
            .to_string();
    if content.len() > LIMIT {
        return Err(LastGoodError::TooLarge { path, length: content.len() });
    }
    if read(&path).is_ok_and(|saved| saved == content.as_bytes()) {
        return Ok(());
    }
    files::write_atomic(&path, content.as_bytes(), 0o600).map_err(|reason| LastGoodError::Io { path, reason })
}

/// Loads the saved section; `None` if there is none yet.
///
/// # Errors
/// Those of the file system, and a damaged file.
pub fn load(directory: &Path) -> Result<Option<LastGood>, LastGoodError> {
    let path = directory.join(FILE_NAME);
    let bytes = match read(&path) {
        Ok(bytes) => bytes,
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(reason) => return Err(LastGoodError::Io { path, reason }),
    };
    match decode(&bytes) {
        Ok(last) => Ok(Some(last)),
        Err(reason) => Err(LastGoodError::Corrupt { path, reason }),
    }
}

fn decode(bytes: &[u8]) -> Result<LastGood, String> {
    let mut map = twin_text::read(bytes, LIMIT).map_err(|e| e.to_string())?;
    if map.get("format").and_then(Value::as_u64) != Some(FORMAT) {
        return Err(format!("its format is not {FORMAT}"));
    }
    let version = map.get("version").and_then(Value::as_u64).ok_or("it has no version")?;
    match (map.remove("desired"), map.remove("inForce")) {
        (Some(Value::Object(desired)), Some(Value::Object(in_force))) => Ok(LastGood { version, desired, in_force }),
        _ => Err("it has no desired section, or not what was in force".to_owned()),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn last(version: u64) -> LastGood {
        let desired = json!({ "ms_iotn:x": { "snapshotFrequency": { "value": "PT1H" } }, "$version": version });
        let in_force = json!({ "snapshotFrequency": { "value": "PT1H" } });
        LastGood {
            version,
            desired: desired.as_object().unwrap().clone(),
            in_force: in_force.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        save(dir.path(), &last(6)).unwrap();
        save(dir.path(), &last(7)).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(last(7)));
        let meta = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        save(dir.path(), &last(7)).unwrap();
        assert_eq!(std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().ino(), meta.ino(), "written again");
    }

    #[test]
    fn each_cut_or_foreign_file_is_a_typed_error() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &last(7)).unwrap();
        let path = dir.path().join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        let foreign: [&[u8]; 4] = [
            b"[]",
            b"{\"format\":2,\"version\":7,\"desired\":{},\"inForce\":{}}",
            b"{\"format\":1,\"desired\":{},\"inForce\":{}}",
            b"{\"format\":1,\"version\":7,\"desired\":{}}",
        ];
        for content in (0..whole.len()).map(|n| &whole[..n]).chain(foreign) {
            files::write_atomic(&path, content, 0o600).unwrap();
            let error = load(dir.path()).unwrap_err();
            assert!(matches!(error, LastGoodError::Corrupt { .. }) && !error.is_retryable(), "{error}");
        }
        save(dir.path(), &last(8)).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(last(8)));
    }

    #[test]
    fn a_missing_directory_is_worth_a_retry() {
        let dir = tempfile::tempdir().unwrap();
        let error = save(&dir.path().join("none"), &last(1)).unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
}
