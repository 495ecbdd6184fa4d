//! The asking side.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use super::{ANSWER_LIMIT, Request, STEP_LIMIT};

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No socket, or nobody behind it.
    #[error("no agent answers at {path} ({source}); start it with: systemctl start twinward")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket belongs to somebody else.
    #[error("not permitted to ask the agent at {path}; run as root or as the agent's user")]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// The exchange broke off.
    #[error("the agent's answer did not arrive: {0}")]
    Broken(#[from] io::Error),
    /// The answer is no JSON.
    #[error("the agent's answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// Asks the agent behind the socket at `path`, within 5 s a step.
///
/// # Errors
/// As [`ControlError`] says.
pub fn ask(path: &Path, request: Request) -> Result<Value, ControlError> {
    let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ControlError::NotPermitted { path: path.to_owned() },
        _ => ControlError::NotRunning { path: path.to_owned(), source },
    })?;
    stream.set_read_timeout(Some(STEP_LIMIT * 2))?;
    stream.set_write_timeout(Some(STEP_LIMIT))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    (&stream).write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new((&stream).take(ANSWER_LIMIT)).read_until(b'\n', &mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
