//! `twinward try`, as a newcomer runs it.

use serde_json::Value;

use crate::harness::{OBJECT, run};
use crate::schema;

const TIME: [&str; 2] = ["--for", "12s"];
/// One that is taken and one that is out of bounds. No collector depends on the first one, so the first finds of all of
/// them are shown, however slow the machine is.
const SET: [&str; 4] = ["--set", "eventPriorityLogin=Off", "--set", "snapshotFrequency=PT1S"];
const SET_JSON: [&str; 2] = ["--set", "eventPriorityListeningPorts=Off"];

#[tokio::test]
async fn a_try_shows_everything_that_happens_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let environment = [("TMPDIR", place.path())];
    let json = [&["try", "--json"][..], &TIME, &SET_JSON].concat();
    let plain = [&["try"][..], &TIME, &SET].concat();
    let (plain, json) = tokio::join!(run(&plain, &environment), run(&json, &environment));

    let text = String::from_utf8(plain.stdout).unwrap();
    let said = String::from_utf8(plain.stderr).unwrap();
    assert_eq!(plain.status.code(), Some(0), "{text}\n{said}");
    for words in [
        "--  loopback IoT Hub lab.azure-devices.net at 127.0.0.1:",
        "hub try-device/azureiotsecurity connected",
        "hub twin received by the agent, desired version 1",
        "  ProcessCreate  ",
        "  ListeningPorts  ",
        "  SystemInformation  ",
        "sleep 2",
        "--  twin changed: eventPriorityLogin = \"Off\" (version 2)",
        "--  applied and reported: eventPriorityLogin = \"Off\"",
        "--  twin changed: snapshotFrequency = \"PT1S\" (version 3)",
        "--  refused: snapshotFrequency = \"PT1S\"; expected an ISO-8601 duration such as PT7M, from PT5S to P365D; in force: PT15S",
        "  ConfigurationError  ",
        "QUEUE",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    for queue in ["High", "Low"] {
        let row = text.lines().rfind(|line| line.starts_with(queue)).unwrap();
        let row: Vec<&str> = row.split_whitespace().collect();
        let [_, collected, delivered, dropped, pending, holds] = row[..] else { panic!("{row:?}") };
        // On a busy machine something may start during the last breath.
        let [collected, delivered, pending] = [collected, delivered, pending].map(|n| n.parse::<u64>().unwrap());
        assert_eq!((collected, dropped, holds), (delivered + pending, "0", "yes"), "{text}");
        assert!(delivered > 0, "{text}");
    }

    let text = String::from_utf8(json.stdout).unwrap();
    assert_eq!(json.status.code(), Some(0), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    let validator = schema::validator();
    let bodies: Vec<&Value> = of("telemetry").iter().map(|line| &line["body"]).collect();
    assert!(!bodies.is_empty() && bodies.iter().all(|body| validator.is_valid(body)), "{text}");
    for event in ["connected", "twin_read", "reported", "note", "collector"] {
        assert!(!of(event).is_empty(), "no {event} in {text}");
    }
    let off = |line: &&Value| line["patch"][OBJECT]["eventPriorityListeningPorts"]["value"] == "Off";
    assert!(of("reported").iter().any(off), "{text}");
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["holds"]), (&"balance".into(), &true.into()), "{last}");

    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
