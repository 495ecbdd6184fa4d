//! `twinward collect`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use twinward::model::ids::AgentId;

use crate::{Marked, marker, schema};

#[expect(clippy::disallowed_methods, reason = "the command line is tested as a user calls it")]
fn twinward(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinward"));
    command.args(arguments);
    command
}

#[test]
fn collect_prints_events_as_they_would_be_sent() {
    let output = twinward(&["collect", "SystemInformation", "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    let body = json!({
        "AgentVersion": "0.1.0", "AgentId": AgentId::random(), "MessageSchemaVersion": "1.0", "Events": [event],
    });
    assert!(schema::validator().is_valid(&body), "{body:#}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("source: "));
}

#[test]
fn collect_explains_names_it_cannot_serve() {
    let unknown = twinward(&["collect", "Nonsense"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    let text = String::from_utf8(unknown.stderr).unwrap();
    assert!(text.contains("ListeningPorts") && text.contains("ProcessCreate"), "{text}");

    let later = twinward(&["collect", "Diagnostic"]).output().unwrap();
    assert_eq!(later.status.code(), Some(1));
    assert!(String::from_utf8(later.stderr).unwrap().contains("Diagnostic has no collector in this version"));
}

#[test]
fn collect_follows_and_ends_cleanly_on_interrupt() {
    let mut child = twinward(&["collect", "ProcessCreate", "--source", "poll", "--for", "1h", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so once it follows; then processes are starts.
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    said.by_ref().map(Result::unwrap).find(|line| line.starts_with("following for")).unwrap();
    let marked = Marked::start(marker());
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let found = events.by_ref().find(|line| line.contains(&marked.marker)).unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["Payload"][0]["ProcessId"], marked.child.id());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(said.map(Result::unwrap).any(|line| line.contains("events seen")));
}
