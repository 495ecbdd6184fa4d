//! What outlives a restart: up to where each log was read, and which attempts are not settled. `logins.json` in the
//! state directory, mode 0600:
//!
//! ```json
//! {"version": 1, "savedUtc": "2026-07-01T09:30:00.25Z",
//!  "files": {"/var/log/auth.log": {"device": 2049, "inode": 1234, "offset": 5678, "start": 99}},
//!  "journals": {"0af3…": 4711},
//!  "attempts": {"pending": [], "told": []}}
//! ```
//!
//! `journals` has the running number of the last entry that was read, by the id of the file in hexadecimal digits. What
//! cannot be understood is as if it were not there.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::correlate::Memory;
use crate::sys::files;
use crate::sys::follow::Place;

/// Its name in the state directory.
pub(in crate::collect) const NAME: &str = "logins.json";
/// Told attempts that are kept: those of the last seconds are what matters.
pub(super) const TOLD: usize = 64;
const VERSION: u32 = 1;
/// Larger ones are not ours.
const BYTES: u64 = 1 << 20;

/// See the top of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) version: u32,
    pub(super) saved_utc: jiff::Timestamp,
    pub(super) files: BTreeMap<String, Place>,
    pub(super) journals: BTreeMap<String, u64>,
    pub(super) attempts: Memory,
}

impl State {
    pub(super) fn new(now: jiff::Timestamp, attempts: Memory) -> Self {
        Self { version: VERSION, saved_utc: now, files: BTreeMap::new(), journals: BTreeMap::new(), attempts }
    }

    /// Reads it; `None` if there is none.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let size = std::fs::metadata(path).ok()?.len();
        if size > BYTES {
            return None;
        }
        let text = std::fs::read_to_string(path).ok()?;
        serde_json::from_str(&text).ok().filter(|state: &Self| state.version == VERSION)
    }

    /// Replaces it.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        files::write_atomic(path, &serde_json::to_vec(self)?, 0o600)
    }
}

/// Removes it: what is written from now on is not wanted.
pub(in crate::collect) fn forget(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the places in the logs");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        assert_eq!(State::load(&path), None);
        let mut state = State::new("2026-07-01T09:30:00.25Z".parse().unwrap(), Memory::default());
        state.files.insert("/var/log/auth.log".into(), Place { device: 1, inode: 2, offset: 3, start: 4 });
        state.journals.insert("0af3".into(), 4711);
        state.save(&path).unwrap();
        assert_eq!(State::load(&path), Some(state.clone()));
        State { version: 2, ..state }.save(&path).unwrap();
        assert_eq!(State::load(&path), None);
        files::write_atomic(&path, b"{", 0o600).unwrap();
        assert_eq!(State::load(&path), None);
        forget(&path);
        forget(&path);
        assert!(!path.exists());
    }
}
