//! `twinward lab` as a process.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    ready: Value,
}

impl Process {
    #[expect(clippy::disallowed_methods, reason = "this test is about the program")]
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_twinward"))
            .arg("lab")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        Self { child, input, lines, ready }
    }

    fn ask(&mut self, command: &str) -> Value {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{command}").unwrap();
        input.flush().unwrap();
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_says_where_it_is_and_does_what_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let twin = dir.path().join("twin.json");
    std::fs::File::create(&twin).unwrap().write_all(br#"{"properties":{"desired":{"a":1}}}"#).unwrap();
    let out = dir.path().join("out");
    let mut lab = Process::start(&["--dir", out.to_str().unwrap(), "--twin", twin.to_str().unwrap()]);
    let ready = lab.ready.clone();
    assert_eq!((&ready["event"], &ready["host"]), (&json!("ready"), &json!("lab.azure-devices.net")));
    assert!(ready["port"].as_u64().unwrap() > 0);
    assert_eq!(std::fs::read_to_string(ready["ca_file"].as_str().unwrap()).unwrap(), ready["ca_pem"].as_str().unwrap());
    let secret = out.join("connection-string");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), ready["connection_string"].as_str().unwrap());
    assert_eq!((mode(&secret), mode(&out)), (0o600, 0o700));

    let answer = lab.ask(r#"{"cmd":"patch_desired","patch":{"b":2},"id":"x"}"#);
    assert_eq!(answer, json!({"event": "answer", "cmd": "patch_desired", "id": "x", "ok": true, "version": 2}));
    assert_eq!(lab.ask(r#"{"cmd":"replace_desired","desired":{"c":3}}"#)["version"], 3);
    let answer = lab.ask(r#"{"cmd":"twin"}"#);
    assert_eq!(answer["desired"], json!({"c": 3, "$version": 3}));
    assert_eq!(answer["reported"], json!({"$version": 1}));
    let answer = lab.ask(r#"{"cmd":"faults","pub_ack":{"late_ms":5},"stall":true}"#);
    assert_eq!(answer["faults"]["pub_ack"], json!({"late_ms": 5}));
    let answer = lab.ask(r#"{"cmd":"faults","refuse":"close"}"#);
    assert_eq!((&answer["faults"]["stall"], &answer["faults"]["refuse"]), (&json!(true), &json!("close")));
    assert_eq!(lab.ask(r#"{"cmd":"faults","clear":true}"#)["faults"]["stall"], false);
    let answer = lab.ask(r#"{"cmd":"add_identity","device":"d2","module":"m"}"#);
    assert!(answer["connection_string"].as_str().unwrap().contains("DeviceId=d2;ModuleId=m;"));
    assert_eq!(lab.ask(r#"{"cmd":"twin","device":"d2","module":"m"}"#)["desired"], json!({"$version": 1}));
    assert_eq!(lab.ask(r#"{"cmd":"set_enabled","device":"d2","module":"m","enabled":false}"#)["ok"], true);
    assert_eq!(lab.ask(r#"{"cmd":"remove_identity","device":"d2","module":"m"}"#)["ok"], true);
    assert_eq!(lab.ask(r#"{"cmd":"kick"}"#)["ok"], true);
    let answer = lab.ask(r#"{"cmd":"method","name":"reboot","id":9}"#);
    assert!(answer["error"].as_str().unwrap().starts_with("404103"), "{answer}");
    assert_eq!(answer["id"], 9);
    for bad in [
        "hello",
        "[]",
        r#"{"cmd":"dance"}"#,
        r#"{"cmd":"patch_desired"}"#,
        r#"{"cmd":"faults","pubak":1}"#,
        r#"{"cmd":"patch_desired","patch":{"a.b":1}}"#,
        r#"{"cmd":"twin","module":"nobody"}"#,
        r#"{"cmd":"kick","x":1}"#,
    ] {
        let answer = lab.ask(bad);
        assert_eq!((&answer["event"], &answer["ok"]), (&json!("answer"), &json!(false)), "{bad}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    assert_eq!(lab.ask(r#"{"cmd":"quit"}"#)["ok"], true);
    assert!(lab.child.wait().unwrap().success());
}

#[test]
fn the_end_of_input_ends_it() {
    let mut lab = Process::start(&[]);
    assert_eq!(lab.ready["ca_file"], Value::Null);
    drop(lab.input.take());
    assert!(lab.child.wait().unwrap().success());
}

#[test]
fn sigterm_ends_it() {
    let mut lab = Process::start(&[]);
    let pid = Pid::from_raw(i32::try_from(lab.child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(lab.child.wait().unwrap().success());
}
