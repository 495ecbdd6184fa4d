//! Floor 5: the command line. One table of arguments; each command has a file of its own.

mod args;
pub mod check;
mod collect;
mod doctor;
pub mod exit;
#[cfg(feature = "lab")]
mod lab;
pub mod log;
pub mod output;
mod reach;
pub mod signals;
mod status;
mod version;

use std::process::ExitCode;

use clap::Parser;

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
