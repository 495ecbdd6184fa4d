//! Floor 5: the command line. One table of arguments; each command has a file of its own.

mod args;
mod baseline;
pub mod check;
mod collect;
mod doctor;
pub mod exit;
mod identity;
#[cfg(feature = "lab")]
mod lab;
pub mod log;
pub mod output;
mod reach;
mod run;
pub mod signals;
mod status;
#[cfg(feature = "lab")]
mod tryout;
mod users;
mod version;
mod waiting;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

/// Parses the arguments, runs the command, and turns its outcome into an exit code.
#[must_use]
pub fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // A closed pipe behind --help is no failure.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match args.command.run(&args.global) {
        Ok(code) => ExitCode::from(code),
        Err(error) => exit::report(&error),
    }
}

/// The program as its parser sees it; manual pages and completions are made from this.
#[must_use]
pub fn command() -> clap::Command {
    args::Args::command()
}

/// A moment that has surely passed when this version runs: clocks before it are not trusted.
fn release_floor() -> jiff::Timestamp {
    const FLOOR_UNIX_SECONDS: i64 = 1_793_491_200; // 2026-11-01T00:00:00Z
    jiff::Timestamp::from_second(FLOOR_UNIX_SECONDS).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}
