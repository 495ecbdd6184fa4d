//! The `twinward` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    twinward::cli::main()
}
