//! Exit codes and the last line a user sees.

use std::process::ExitCode;

use thiserror::Error;

use super::output::printable_lines;

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
    eprintln!("{}", error_text(error));
    ExitCode::from(error.downcast_ref::<CommandError>().map_or(FAILED, |e| e.code))
}

/// The error and its causes. It may quote files, arguments and answers, so it is made printable; a list of problems
/// keeps its lines.
fn error_text(error: &anyhow::Error) -> String {
    printable_lines(&format!("twinward: {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_lines_and_steers_nothing() {
        let error = anyhow::anyhow!("no \x1b[2Jkey \u{202e}x").context("two problems:\n  a\n  b");
        assert_eq!(error_text(&error), "twinward: two problems:\n  a\n  b: no \\u{1b}[2Jkey \\u{202e}x");
    }
}
