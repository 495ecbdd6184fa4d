//! Starts of processes, by the sources that need no rights.

use twinward::settings;

use crate::{Marked, assert_valid, drain_until, event, marker, open, process};

pub(crate) fn sees_a_marked_process(wanted: settings::ProcessSource) {
    let mut source = open(wanted);
    let marked = Marked::start(marker());
    let all = drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.command_line.contains(&marked.marker)));
    let found = all.iter().map(process).find(|p| p.command_line.contains(&marked.marker)).unwrap();
    assert_eq!(found.process_id, marked.child.id());
    assert_eq!(found.parent_process_id, std::process::id());
    assert_eq!(found.user_id, rustix::process::getuid().as_raw().to_string());
    assert_eq!(found.extra_details["CommandLineSource"], "proc");
    assert!(found.executable.starts_with('/'), "{}", found.executable);
    let serials: Vec<u64> = all.iter().map(|o| o.serial).collect();
    assert_eq!(serials, (0..all.len() as u64).collect::<Vec<_>>());
    assert_valid(&all.into_iter().map(event).collect::<Vec<_>>());
}

#[test]
fn polling_sees_a_marked_process() {
    sees_a_marked_process(settings::ProcessSource::Poll);
}

/// A long command line is cut and says so, with its true length.
#[test]
fn a_long_command_line_is_cut_and_marked() {
    let mut source = open(settings::ProcessSource::Poll);
    let long = format!("{}{}", marker(), "x".repeat(100_000));
    let marked = Marked::start(long);
    let pid = marked.child.id();
    let all = drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.process_id == pid));
    let found = all.iter().map(process).find(|p| p.process_id == pid).unwrap();
    assert_eq!(found.command_line.len(), 4096);
    assert_eq!(found.extra_details["CommandLineCut"], "true");
    let whole = format!("/bin/sh -c read -r line; exit 0 {}", marked.marker);
    assert_eq!(found.extra_details["CommandLineLength"], whole.len().to_string());
    assert!(whole.starts_with(&found.command_line));
}

/// A secret among the arguments of a real process is not in what is seen of it.
#[test]
fn a_secret_among_the_arguments_is_masked() {
    let mut source = open(settings::ProcessSource::Poll);
    let name = marker();
    let marked = Marked::with(name.clone(), &["--api-token", "hunter two"]);
    let pid = marked.child.id();
    let all = drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.process_id == pid));
    let found = all.iter().map(process).find(|p| p.process_id == pid).unwrap();
    assert_eq!(found.command_line, format!("/bin/sh -c read -r line; exit 0 {name} --api-token ***"));
    assert_eq!(found.extra_details["SecretsMasked"], "1");
    assert_valid(&all.into_iter().map(event).collect::<Vec<_>>());
}

#[test]
fn some_source_is_always_found() {
    let source = open(settings::ProcessSource::Auto);
    assert!(!source.choice().reason.is_empty());
}
