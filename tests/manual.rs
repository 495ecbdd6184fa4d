//! The manual page has every command, option and exit code that the program has, and no others.

#![expect(clippy::unwrap_used, reason = "a test stops where its assumptions break")]

use std::collections::{BTreeMap, BTreeSet};

use twinward::cli::exit;

/// Absent from programs without the feature `lab`.
const OF_THE_LAB: [&str; 2] = ["try", "lab"];
/// Where the page has the options that every command takes.
const ALL: &str = "All commands";

fn help(arguments: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "the built program is what is tested")]
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_twinward")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The words in the first column of the help's `Commands:`.
fn commands() -> BTreeSet<String> {
    let text = help(&["--help"]);
    let rows = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description that goes on in the next line is indented further.
    rows.filter_map(|row| row.strip_prefix("  ").filter(|row| !row.starts_with(' ')))
        .filter_map(|row| row.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The long options that begin a line of a help text.
fn options(text: &str) -> BTreeSet<String> {
    text.lines()
        .map(|line| line.trim_start().trim_start_matches("-h, ").trim_start_matches("-V, "))
        .filter_map(|line| line.strip_prefix("--"))
        .filter_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next())
        .map(str::to_owned)
        .collect()
}

/// The long options of each command without those of all; the latter stand under [`ALL`].
fn real() -> BTreeMap<String, BTreeSet<String>> {
    let of_all = options(&help(&["--help"]));
    let mut found = BTreeMap::new();
    for command in commands() {
        let own: BTreeSet<_> = options(&help(&[&command, "--help"])).difference(&of_all).cloned().collect();
        found.insert(command, own);
    }
    found.insert(ALL.to_owned(), of_all);
    found
}

/// The page as text lines: fonts and the escaped hyphen are gone, requests stay.
fn page() -> Vec<String> {
    let text = include_str!("../packaging/twinward.8");
    let plain = |line: &str| line.replace(r"\fB", "").replace(r"\fI", "").replace(r"\fR", "").replace(r"\-", "-");
    text.lines().map(plain).collect()
}

/// The lines of a section.
fn section<'a>(page: &'a [String], name: &str) -> Vec<&'a str> {
    let head = format!(".SH {name}");
    let lines = page.iter().skip_while(|line| **line != head).skip(1);
    lines.map(String::as_str).take_while(|line| !line.starts_with(".SH ")).collect()
}

/// The first words of the tagged paragraphs of some lines: what follows each `.TP`, without its macro.
fn tags<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let tag = |pair: &[&'a str]| match pair {
        [".TP", tag] => {
            Some(tag.strip_prefix(".BR ").or(tag.strip_prefix(".BI ")).or(tag.strip_prefix(".B ")).unwrap_or(tag))
        }
        _ => None,
    };
    lines.windows(2).filter_map(tag).collect()
}

/// Commands and options as the page has them, as [`real`].
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = page();
    let here = |command: &str| cfg!(feature = "lab") || !OF_THE_LAB.contains(&command);
    let mut found: BTreeMap<String, BTreeSet<String>> = tags(&section(&page, "COMMANDS"))
        .into_iter()
        .filter_map(|tag| tag.split_whitespace().next())
        .filter(|command| here(command))
        .map(|command| (command.to_owned(), BTreeSet::new()))
        .collect();
    let lines = section(&page, "OPTIONS");
    let mut name = "";
    for pair in lines.windows(2) {
        match pair {
            [line, _] if line.starts_with(".SS ") => name = line.trim_start_matches(".SS "),
            [".TP", tag] if here(name) => {
                let long = tag.split("--").nth(1).unwrap();
                let long = long.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next().unwrap();
                found.entry(name.to_owned()).or_default().insert(long.to_owned());
            }
            _ => {}
        }
    }
    found
}

#[test]
fn commands_and_options_are_those_of_the_program() {
    assert_eq!(documented(), real());
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let page = page();
    let codes: Vec<u8> =
        tags(&section(&page, "EXIT STATUS")).iter().filter_map(|tag| tag.trim_matches('"').parse().ok()).collect();
    assert_eq!(codes, [exit::OK, exit::FAILED, exit::USAGE, exit::NOT_PERMITTED, exit::CONFIGURATION]);
}

#[test]
fn the_page_is_of_this_version() {
    let title = page().into_iter().find(|line| line.starts_with(".TH ")).unwrap();
    assert!(title.contains(&format!("\"twinward {}\"", env!("CARGO_PKG_VERSION"))), "{title}");
}
