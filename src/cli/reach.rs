//! Finding the running agent.
//!
//! systemd tells the agent its runtime directory by an environment variable that a user's shell does not have. So
//! when none is configured and the state directory is the packaged one, the packaged runtime directory is tried too.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::control::{self, ControlError, Request};
use crate::settings::Storage;

const PACKAGED_STATE: &str = "/var/lib/twinward";
const PACKAGED_RUNTIME: &str = "/run/twinward";

/// Asks the agent that works in `storage`. The answer is a JSON object.
///
/// # Errors
/// As [`ControlError`]; of several places the first error that says more than "nobody there" counts.
pub(super) fn ask(storage: &Storage, request: Request) -> Result<Value, ControlError> {
    ask_in(&directories(storage), request)
}

fn ask_in(directories: &[PathBuf], request: Request) -> Result<Value, ControlError> {
    let mut nobody = None;
    for directory in directories {
        match control::ask(&control::socket_path(directory), request) {
            Err(error @ ControlError::NotRunning { .. }) => {
                nobody.get_or_insert(error);
            }
            other => return other,
        }
    }
    Err(nobody.unwrap_or_else(|| std::io::Error::other("no directory to look in").into()))
}

fn directories(storage: &Storage) -> Vec<PathBuf> {
    match &storage.runtime_directory {
        Some(directory) => vec![directory.clone()],
        None if storage.directory == Path::new(PACKAGED_STATE) => {
            vec![PathBuf::from(PACKAGED_RUNTIME), storage.directory.clone()]
        }
        None => vec![storage.directory.clone()],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::units::ByteSize;

    fn storage(directory: &str, runtime: Option<&str>) -> Storage {
        Storage {
            directory: directory.into(),
            runtime_directory: runtime.map(PathBuf::from),
            commit_interval: Duration::from_secs(60),
            min_free: ByteSize::bytes(0),
        }
    }

    #[test]
    fn only_the_packaged_state_directory_leads_to_the_packaged_runtime_directory() {
        let found = |directory, runtime| directories(&storage(directory, runtime));
        assert_eq!(
            found("/var/lib/twinward", None),
            [PathBuf::from("/run/twinward"), PathBuf::from("/var/lib/twinward")]
        );
        assert_eq!(found("/srv/two", None), [PathBuf::from("/srv/two")]);
        assert_eq!(found("/var/lib/twinward", Some("/tmp/r")), [PathBuf::from("/tmp/r")]);
    }

    #[test]
    fn the_next_place_is_tried_only_if_nobody_is_there() {
        let empty = tempfile::tempdir().unwrap();
        let dead = tempfile::tempdir().unwrap();
        control::leave_dead_socket(&control::socket_path(dead.path()));
        let places = [empty.path().to_owned(), dead.path().to_owned()];
        let error = ask_in(&places, Request::Status).unwrap_err();
        assert!(matches!(&error, ControlError::NotRunning { path, .. } if path.starts_with(empty.path())), "{error}");
    }
}
