//! Completions for shells, with the commands that a device has.

use clap::Command;
use clap_complete::{Generator, Shell};

use crate::{OF_THE_LAB, packaged};

/// The program of a device.
fn device() -> Command {
    let full = twinward::cli::command();
    let commands = full.get_subcommands().filter(|command| !OF_THE_LAB.contains(&command.get_name())).cloned();
    Command::new("twinward")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(full.get_arguments().cloned())
        .subcommands(commands.collect::<Vec<_>>())
}

#[test]
fn the_completions_are_those_of_the_program() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut device(), "twinward", &mut text);
        packaged(&format!("completions/{}", shell.file_name("twinward")), &String::from_utf8(text).unwrap());
    }
}
