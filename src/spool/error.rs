//! What can go wrong with the spool.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the spool could not do what it was asked. After an error nothing of the request is stored or booked.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// A directory or file could not be made or looked at.
    #[error("cannot prepare {path}: {source}; check that the directory exists and belongs to the agent's user")]
    Prepare {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the file.
    #[error("{path} is in use by another process: one agent per directory; stop the other one")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// No room on the file system, or in the file's own limit.
    #[error("no room to write {path} ({detail}); free some space")]
    Full {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        detail: String,
    },
    /// The file is not what was written.
    #[error("{path} is damaged ({detail}); open the spool again: it puts the file aside and goes on")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        detail: String,
    },
    /// The file could not be read or written.
    #[error("cannot read or write {path} ({detail}); check the storage device and the file's owner and mode")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        detail: String,
    },
}

impl SpoolError {
    /// Whether the same call can succeed later without anything else being done.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::Full { .. } | Self::Io { .. })
    }

    /// Whether the spool must be opened again, which puts the damaged file aside.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}
