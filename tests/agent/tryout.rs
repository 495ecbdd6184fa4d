//! `twinward try`, as a newcomer runs it: something is typed, and what comes of it is read.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::harness::{LIMIT, OBJECT, run};
use crate::schema;

/// A try that runs. Dropping it kills it.
struct Try {
    child: Child,
    keyboard: ChildStdin,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    place: TempDir,
}

impl Try {
    fn start(arguments: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinward"));
        command.arg("try").args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("TMPDIR", place.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (sender, lines) = mpsc::channel(1024);
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().all(|line| sender.blocking_send(line.unwrap()).is_ok()));
        Self { keyboard: child.stdin.take().unwrap(), child, lines, seen: Vec::new(), place }
    }

    /// Types orders, one a line.
    fn types(&mut self, orders: &str) {
        self.keyboard.write_all(orders.as_bytes()).unwrap();
    }

    /// Waits for a line that is this; gives what was found in it.
    async fn until<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        // Something is shown all the time, so the whole wait has the bound.
        let end = Instant::now() + 2 * LIMIT;
        loop {
            if let Some(found) = self.seen.iter().find_map(|line| find(line)) {
                return found;
            }
            let next = timeout_at(end, self.lines.recv()).await.ok().flatten();
            let Some(line) = next else { panic!("never came: {what}\n{}", self.seen.join("\n")) };
            self.seen.push(line);
        }
    }

    async fn shows(&mut self, words: &str) {
        self.until(words, |line| line.contains(words).then_some(())).await;
    }

    /// Reads to the end; it must be a good one and leave nothing behind.
    async fn ends(mut self) -> Vec<String> {
        let end = Instant::now() + 2 * LIMIT;
        while let Some(line) = timeout_at(end, self.lines.recv()).await.unwrap() {
            self.seen.push(line);
        }
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.seen.join("\n"));
        assert_nothing_is_left(self.place.path());
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        // It may have ended already; its own child is all that is ever killed here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_nothing_is_left(place: &Path) {
    let left: Vec<_> = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_try_shows_everything_that_happens_and_leaves_nothing_behind() {
    // One that is taken and one that is out of bounds. No collector depends on the first one, so the first finds of all
    // of them are shown, however slow the machine is.
    let mut screen = Try::start(&["--set", "eventPriorityLogin=Off", "--set", "snapshotFrequency=PT1S"]);
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
        // None is sent here, whatever the key `log.diagnostic_level` is.
        "--  Diagnostic off this command does not send its log",
    ] {
        screen.shows(words).await;
    }
    screen.types("quit\n");
    let lines = screen.ends().await;
    assert!(lines.iter().any(|line| line.starts_with("QUEUE")), "{lines:#?}");
    for queue in ["High", "Low"] {
        let row = lines.iter().rfind(|line| line.starts_with(queue)).unwrap();
        let row: Vec<&str> = row.split_whitespace().collect();
        let [_, collected, delivered, dropped, pending, holds] = row[..] else { panic!("{row:?}") };
        // On a busy machine something may start during the last breath.
        let [collected, delivered, pending] = [collected, delivered, pending].map(|n| n.parse::<u64>().unwrap());
        assert_eq!((collected, dropped, holds), (delivered + pending, "0", "yes"), "{lines:#?}");
        assert!(delivered > 0, "{lines:#?}");
    }
}

#[tokio::test]
async fn a_method_that_is_called_at_the_prompt_is_answered() {
    let mut screen = Try::start(&[]);
    screen.shows("hub reported").await;
    screen.types("call ping\ncall reboot\n");
    screen.shows("--  ping answered 200: {\"agentId\":").await;
    screen.shows("--  reboot answered 404: ").await;
    // The end waits for the answer that it owes.
    screen.types("call collectNow {\"events\": [\"SystemInformation\"]}\nquit\n");
    let lines = screen.ends().await;
    let answer = "--  collectNow answered 200: {\"collected\":[\"SystemInformation\"],\"off\":[],\"unavailable\":[]}";
    assert!(lines.iter().any(|line| line == answer), "{lines:#?}");
}

#[tokio::test]
async fn a_try_for_programs_is_one_json_object_a_line() {
    let mut screen = Try::start(&["--json", "--set", "eventPriorityListeningPorts=Off"]);
    let read = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
    for event in ["connected", "twin_read", "reported", "note", "collector", "telemetry"] {
        screen.until(event, |line| (read(line)["event"] == event).then_some(())).await;
    }
    let off = |line: &str| read(line)["patch"][OBJECT]["eventPriorityListeningPorts"]["value"] == "Off";
    screen.until("the change as it was reported", |line| off(line).then_some(())).await;
    screen.types("quit\n");
    let lines: Vec<Value> = screen.ends().await.iter().map(|line| read(line)).collect();
    let validator = schema::validator();
    for body in lines.iter().filter(|line| line["event"] == "telemetry").map(|line| &line["body"]) {
        assert!(validator.is_valid(body), "{body:#}");
    }
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["holds"]), (&"balance".into(), &true.into()), "{last}");
}

#[tokio::test]
async fn a_try_with_a_time_ends_by_itself() {
    let place = tempfile::tempdir().unwrap();
    let output = run(&["try", "--for", "1s"], &[("TMPDIR", place.path())]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("QUEUE"), "{text}");
    assert_nothing_is_left(place.path());
}
