//! Floor 4: the local control socket, `control.sock` in the runtime directory, mode 0600.
//!
//! One connection carries one exchange: a request line and an answer line, each one JSON object. Requests:
//! `{"command":"status"}`, `{"command":"flush"}`. Answers are the command's own object, or `{"error":"…"}`.
//! A request line is at most 4 KiB, must arrive within 5 s, and at most 8 connections are served at once.

mod client;
mod server;

pub use client::{ControlError, ask};
pub use server::{Server, serve};

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// The state of the agent.
    Status,
    /// Send everything that waits now.
    Flush,
}

/// Longest request line in bytes.
const REQUEST_LIMIT: u64 = 4096;
/// Longest answer line in bytes that a client takes.
const ANSWER_LIMIT: u64 = 1 << 20;
/// Time for each step of an exchange.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// Where the socket stands in `directory`.
#[must_use]
pub fn socket_path(directory: &Path) -> PathBuf {
    directory.join("control.sock")
}

/// Leaves a socket at `path` that refuses, as a dead agent's does. It never listened, so it refuses also while a child
/// process that another test starts at this moment still holds a copy of the descriptor.
#[cfg(test)]
pub(crate) fn leave_dead_socket(path: &Path) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    let refused = std::os::unix::net::UnixStream::connect(path).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "also while the socket is open");
}
