//! twinward(8), put together from what a person wrote and from the program's arguments.
//!
//! Lines of the source that begin with `@`: `@command NAME`, the head of a command's paragraph
//! with its arguments, and what it does in a sentence; `@options [NAME]`, its options, as `clap_mangen` writes them.

use std::collections::BTreeSet;

use clap::{Arg, Command};
use twinward::cli::exit;

use crate::packaged;

const SOURCE: &str = include_str!("../../packaging/man/twinward.8.in");

/// Text of ours as roff: nothing in it is a command.
pub fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// The page with a first line that says where it comes from.
pub fn made(page: &str) -> String {
    let page = page.split_once(".TH ").unwrap().1;
    format!(".\\\" Made by tests/pages from the file beside it whose name ends in .in. Do not edit.\n.TH {page}")
}

/// A sentence, as the help has it without its full stop.
fn sentence(command: &Command) -> String {
    format!("{}.", escaped(&command.get_about().unwrap().to_string()))
}

fn argument(arg: &Arg) -> String {
    let names: Vec<&str> = arg.get_value_names().unwrap_or_default().iter().map(clap::builder::Str::as_str).collect();
    let value = escaped(&names.join(" "));
    let Some(long) = arg.get_long() else {
        return if arg.is_required_set() { format!("\\fI{value}\\fR") } else { format!("[\\fI{value}\\fR]") };
    };
    let long = escaped(&format!("--{long}"));
    if arg.get_action().takes_values() {
        format!("[\\fB{long}\\fR \\fI{value}\\fR]")
    } else {
        format!("[\\fB{long}\\fR]")
    }
}

/// The head of a command's paragraph.
fn paragraph(command: &Command) -> String {
    let (values, options): (Vec<&Arg>, Vec<&Arg>) = command.get_arguments().partition(|arg| arg.is_positional());
    let words: Vec<String> = values.into_iter().chain(options).map(argument).collect();
    format!(".TP\n\\fB{}\\fR {}\n{}\n", command.get_name(), words.join(" "), sentence(command)).replace(" \n", "\n")
}

/// The options of a command alone, without those that all commands have.
fn options(command: &Command) -> String {
    let own = Command::new("own").disable_help_flag(true).args(command.get_arguments().cloned());
    let mut text = Vec::new();
    clap_mangen::Man::new(own).render_options_section(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().skip_while(|line| *line != ".SH OPTIONS").skip(1);
    let text: String = lines.map(|line| line.replace('`', "") + "\n").collect();
    // Its apostrophe is defined in lines before the section, and its empty line makes formatters complain.
    text.replace("\\*(Aq", "\\(aq").replace(".br\n\n.br\n", ".IP\n")
}

/// `-h` and `-V`, which are the parser's own.
const HELP: &str = r".TP
\fB\-h\fR, \fB\-\-help\fR
Print help and exit.
.TP
\fB\-V\fR, \fB\-\-version\fR
Print the version and exit; not after a command.
";

fn page(program: &Command) -> String {
    let find = |name: &str| program.find_subcommand(name).unwrap_or_else(|| panic!("there is no command {name}"));
    let mut page = String::new();
    for line in SOURCE.lines() {
        page += &match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["@command", name] => paragraph(find(name)),
            ["@options"] => options(program) + HELP,
            ["@options", name] => options(find(name)),
            _ => line.replace("@VERSION@", env!("CARGO_PKG_VERSION")) + "\n",
        };
    }
    page
}

#[test]
fn the_page_of_the_program_is_made_from_its_arguments() {
    packaged("man/twinward.8", &made(&page(&twinward::cli::command())));
}

/// The names after a word of the source.
fn named(word: &str) -> BTreeSet<&'static str> {
    SOURCE.lines().filter_map(|line| line.strip_prefix(word)).collect()
}

#[test]
fn every_command_and_every_option_has_its_place() {
    let program = twinward::cli::command();
    let commands: BTreeSet<&str> = program.get_subcommands().map(Command::get_name).collect();
    assert_eq!(named("@command "), commands);
    let with_options = program.get_subcommands().filter(|command| command.get_arguments().next().is_some());
    assert_eq!(named("@options "), with_options.map(Command::get_name).collect());
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let lines = SOURCE.lines().skip_while(|line| *line != ".SH EXIT STATUS").skip(1);
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with(".SH ")).collect();
    let codes: Vec<u8> = lines.iter().filter_map(|line| line.strip_prefix(".B ")?.parse().ok()).collect();
    assert_eq!(codes, [exit::OK, exit::FAILED, exit::USAGE, exit::NOT_PERMITTED, exit::CONFIGURATION]);
}
