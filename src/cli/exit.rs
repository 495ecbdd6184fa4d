//! Exit codes and the last line a user sees.

use std::process::ExitCode;

use thiserror::Error;

/// All is well.
pub const OK: u8 = 0;
/// It failed, or something is amiss.
pub const FAILED: u8 = 1;
/// The arguments are wrong.
pub const USAGE: u8 = 2;
/// Not permitted (sysexits `EX_NOPERM`).
pub const NOT_PERMITTED: u8 = 77;
/// The configuration is wrong (sysexits `EX_CONFIG`); systemd does not restart on it.
pub const CONFIGURATION: u8 = 78;

/// An error that chooses its exit code.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct CommandError {
    /// One of the codes above.
    pub code: u8,
    /// What, where, and what to do next.
    pub message: String,
}

impl CommandError {
    /// Exit code 78.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self { code: CONFIGURATION, message: message.into() }
    }

    /// Exit code 77.
    pub fn not_permitted(message: impl Into<String>) -> Self {
        Self { code: NOT_PERMITTED, message: message.into() }
    }
}

/// Prints the error with its causes and gives the exit code. A closed pipe is success.
#[must_use]
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
    {
        return ExitCode::from(OK);
    }
    eprintln!("twinward: {error:#}");
    ExitCode::from(error.downcast_ref::<CommandError>().map_or(FAILED, |e| e.code))
}
