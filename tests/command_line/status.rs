//! `twinward status` against a socket that answers with a given line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::Output;
use std::thread;

use crate::{Place, STRING, err, out};

/// Runs `status` while an agent stands in that answers one question.
fn status(answer: &str, arguments: &[&str]) -> (Output, String) {
    let place = Place::new(STRING, "");
    let listener = UnixListener::bind(place.path("control.sock")).unwrap();
    thread::scope(|scope| {
        let agent = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut question).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            stream.write_all(b"\n").unwrap();
            question
        });
        let output = place.run(&[&["status"], arguments].concat());
        (output, agent.join().unwrap())
    })
}

const ANSWER: &str = r#"{"version":"0.1.0","agentId":"a","pid":7,"link":{"state":"down","error":"evil\u001b[2J"}}"#;

#[test]
fn the_answer_becomes_a_page_and_nothing_in_it_steers_the_terminal() {
    let (output, question) = status(ANSWER, &[]);
    assert_eq!(question, "{\"command\":\"status\"}\n");
    assert_eq!(output.status.code(), Some(0));
    assert!(out(&output).starts_with("agent      0.1.0, id a, pid 7\n"), "{}", out(&output));
    assert!(out(&output).contains("last error: evil\\u{1b}[2J\n"), "{}", out(&output));
}

#[test]
fn json_is_handed_on_as_one_line() {
    let (output, _) = status(ANSWER, &["--json"]);
    assert_eq!(out(&output).lines().count(), 1);
    let (got, sent): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(out(&output)).unwrap(), serde_json::from_str(ANSWER).unwrap());
    assert_eq!(got, sent);
}

#[test]
fn an_agent_without_credentials_says_for_which_file_it_waits() {
    let answer =
        r#"{"version":"0.1.0","pid":7,"startedUtc":"T","uptimeSeconds":9,"waiting":{"file":"/x","why":"no /x"}}"#;
    let (output, _) = status(answer, &[]);
    assert_eq!(output.status.code(), Some(0));
    let page =
        "agent      0.1.0, pid 7\n           up 9 s, since T\nwaiting    for its credentials in /x\n           no /x\n";
    assert_eq!(out(&output), page);
}

#[test]
fn an_agent_that_cannot_tell_is_a_failure() {
    let (output, _) = status(r#"{"error":"busy"}"#, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "twinward: the agent cannot tell: busy\n");
    let (output, _) = status("rubbish", &[]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn without_an_agent_it_says_how_to_start_one() {
    let output = Place::new(STRING, "").run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("systemctl start twinward"), "{}", err(&output));
    assert_eq!(err(&output).lines().count(), 1);
}

#[test]
fn a_bad_configuration_is_told_apart() {
    let output = Place::new(STRING, "hub.prot = 1\n").run(&["status"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("hub.port"), "{}", err(&output));
}
