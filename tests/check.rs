//! `twinward check` as a user runs it: what it prints, and its exit codes.

#![expect(clippy::disallowed_methods, reason = "runs the program under test, with files that are no state of an agent")]
#![expect(clippy::unwrap_used, reason = "a test helper that cannot do its work fails the test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// Runs `twinward check` and gives its exit code, standard output and standard error, without the test's directory.
fn check(dir: &TempDir, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_twinward"))
        .arg("check")
        .args(args)
        .env_clear()
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&dir.path().display().to_string(), "DIR");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn put(dir: &TempDir, name: &str, content: &str, mode: u32) -> String {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

/// The cells of each line, whatever their widths; the widths depend on the test's directory.
fn cells(text: &str) -> String {
    let line = |line: &str| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>().join(" | ");
    text.lines().filter(|l| !l.is_empty()).map(|l| line(l) + "\n").collect()
}

#[test]
fn the_configuration_and_its_secret_are_checked_together() {
    let dir = tempfile::tempdir().unwrap();
    let secret = put(&dir, "secret", "HostName=h", 0o644);
    let config = put(&dir, "a.toml", &format!("[identity]\nconnection_string_file = \"{secret}\"\n"), 0o644);

    let (code, out, _) = check(&dir, &["--config", &config]);
    insta::assert_snapshot!(cells(&out), @r#"
    KEY | IN FORCE | FROM
    identity.connection_string_file | DIR/secret | DIR/a.toml
    identity.connection_string | - | default
    hub.messages | open | default
    hub.transport | mqtt | default
    hub.port | 8883 | default
    hub.host | - | default
    hub.ca_file | - | default
    hub.direct_methods | true | default
    twin.object | ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration | default
    storage.directory | /var/lib/twinward | default
    storage.runtime_directory | - | default
    storage.commit_interval | 1m | default
    storage.min_free_bytes | 64 MiB | default
    collect.process_source | auto | default
    collect.command_line_bytes | 4 KiB | default
    collect.loopback_connections | false | default
    collect.redact_secrets | true | default
    collect.secret_names | - | default
    collect.name_service | false | default
    log.level | info | default
    log.diagnostic_level | warn | default
    DIR/secret has mode 0644: others could read the secret; run: chmod 600 DIR/secret
    DIR/a.toml: the local configuration is not usable: 1 problem
    "#);
    assert_eq!(code, Some(78));
    // Elsewhere than on the device the secret is not there; the file alone can still be checked.
    assert_eq!(check(&dir, &[&config]).0, Some(0));

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let (code, out, _) = check(&dir, &["--config", &config, "--json"]);
    assert_eq!(code, Some(0));
    let out = json(&out);
    assert_eq!((&out["ok"], &out["problems"]), (&Value::from(true), &Value::from(Vec::<Value>::new())));
    assert_eq!(out["values"][0]["from"], "DIR/a.toml");
}

#[test]
#[ignore = "needs root; run by CI"]
fn root_finds_the_agents_own_secret_right_and_a_strangers_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, state) = (put(&dir, "secret", "HostName=h", 0o600), dir.path().join("state"));
    fs::create_dir(&state).unwrap();
    let text = format!("[identity]\nconnection_string_file = \"{secret}\"\n[storage]\ndirectory = \"DIR/state\"\n")
        .replace("DIR", &dir.path().display().to_string());
    let config = put(&dir, "a.toml", &text, 0o644);
    chown(&state, Some(997), None).unwrap();
    let owned_by = |owner| {
        chown(&secret, Some(owner), None).unwrap();
        let (code, out, _) = check(&dir, &["--config", &config]);
        (code, out.lines().find(|line| line.contains("uid")).map(str::to_owned))
    };
    assert_eq!((owned_by(997), owned_by(0)), ((Some(0), None), (Some(0), None)));
    let wrong = "DIR/secret belongs to uid 998: it must belong to root or to uid 997; run: chown 997 DIR/secret";
    assert_eq!(owned_by(998), (Some(78), Some(wrong.to_owned())));
}

#[test]
fn every_problem_of_a_bad_configuration_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let config = put(&dir, "a.toml", "[hub]\nprot = 1\nport = 0\n", 0o644);
    let (code, out, _) = check(&dir, &[&config]);
    insta::assert_snapshot!(out, @r#"
    DIR/a.toml:2: hub.prot: unknown key; did you mean hub.port?
    DIR/a.toml:3: hub.port: 0 is not accepted, expected a port from 1 to 65535
    DIR/a.toml: the local configuration is not usable: 2 problems
    "#);
    assert_eq!(code, Some(78));
    let (code, out, _) = check(&dir, &["--json", &config]);
    insta::assert_snapshot!(out.trim(), @r#"
    {"document":"local","file":"DIR/a.toml","ok":false,"problems":[{"expected":null,"from":"DIR/a.toml","key":"hub.prot","line":2,"nearest":"hub.port","problem":"unknown key; did you mean hub.port?"},{"expected":"a port from 1 to 65535","from":"DIR/a.toml","key":"hub.port","line":3,"nearest":null,"problem":"0 is not accepted, expected a port from 1 to 65535"}],"values":[],"warnings":[]}
    "#);
    assert_eq!(code, Some(78));
    assert_eq!(check(&dir, &["--config", "/nonexistent/twinward.toml"]).0, Some(78));
}

#[test]
fn the_sample_passes_its_own_check() {
    let dir = tempfile::tempdir().unwrap();
    let (code, sample, _) = check(&dir, &["--sample"]);
    assert_eq!(code, Some(0));
    let (code, out, _) = check(&dir, &[&put(&dir, "sample.toml", &sample, 0o644)]);
    assert_eq!(code, Some(0), "{out}");
}

const OBJECT: &str = "ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration";
const MEMBERS: &str = r#"{
    "snapshotFrequency": {"value": "PT1H"},
    "eventPriorityLogin": {"value": "high"},
    "eventPriorityDiagnostic": {"value": "Sometimes"},
    "maxMessageSizeInBytes": {"value": 10000},
    "highPriorityMessageFrequency": "PT7M",
    "colour": {"value": "\u001b[2Jred"}
}"#;

#[test]
fn a_twin_is_judged_key_by_key_in_each_form_it_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let mut outputs = Vec::new();
    for (name, document) in [
        ("registry", format!("{{\"properties\":{{\"desired\":{{\"{OBJECT}\":{MEMBERS}}}}},\"moduleId\":\"x\"}}")),
        ("device", format!("{{\"desired\":{{\"{OBJECT}\":{MEMBERS}}},\"reported\":{{}}}}")),
        ("section", format!("{{\"{OBJECT}\":{MEMBERS},\"$version\":4}}")),
        ("object", MEMBERS.to_owned()),
    ] {
        put(&dir, name, &document, 0o644);
        let (code, out, _) = check(&dir, &[name]);
        assert_eq!(code, Some(1), "{out}");
        outputs.push(out.replace(&format!("{name}: "), ""));
    }
    let told: String = outputs[0].lines().filter(|l| !l.contains("  default  ")).map(|l| l.to_owned() + "\n").collect();
    insta::assert_snapshot!(cells(&told), @r#"
    KEY | STATE | IN FORCE | GIVEN | EXPECTED
    highPriorityMessageFrequency | refused | PT7M | "PT7M" | an object {"value": …} with an ISO-8601 duration such as PT7M, from PT1S to P365D
    snapshotFrequency | applied | PT1H | - | -
    maxMessageSizeInBytes | not optimal | 10000 | 10000 | a multiple of 4096, the hub's billing step
    eventPriorityLogin | applied | High | - | -
    eventPriorityDiagnostic | refused | Low | {"value":"Sometimes"} | High, Low or Off
    colour | unknown | - | {"value":"\u001b[2Jred"} | a published property
    2 keys are refused; a device keeps the values it has (here: the defaults)
    "#);
    assert!(outputs.iter().all(|out| *out == outputs[0]), "{outputs:?}");

    let (code, out, _) = check(&dir, &["--json", "object"]);
    assert_eq!(code, Some(1));
    let out = json(&out);
    let state = |name: &str| {
        let row = out["keys"].as_array().unwrap().iter().find(|row| row["key"] == name).unwrap();
        row["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("snapshotFrequency"), "applied");
    assert_eq!(state("lowPriorityMessageFrequency"), "default");
    assert_eq!(state("maxMessageSizeInBytes"), "not optimal");
    assert_eq!(state("highPriorityMessageFrequency"), "refused");
    assert_eq!(state("colour"), "unknown");
}

/// The lines that are about something else than a default.
fn told(dir: &TempDir, document: &str) -> String {
    put(dir, "twin", document, 0o644);
    let (code, out, _) = check(dir, &["twin"]);
    assert_eq!(code, Some(0), "{out}");
    cells(&out.lines().filter(|l| !l.contains("  default  ")).map(|l| l.to_owned() + "\n").collect::<String>())
}

#[test]
fn a_null_in_place_of_the_object_does_not_hide_the_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let older = r#""azureiot*com^securityAgentConfiguration^1*0*0": {"snapshotFrequency": "PT2H"}"#;
    insta::assert_snapshot!(told(&dir, &format!("{{\"{OBJECT}\": null, {older}}}")), @r#"
    KEY | STATE | IN FORCE | GIVEN | EXPECTED
    snapshotFrequency | applied | PT2H | - | -
    azureiot*com^securityAgentConfiguration^1*0*0 | outdated | this object | the form from before July 2019 | only the object ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration, with members {"value": …}
    twin: every given key can be used
    "#);
}

#[test]
fn a_silenced_event_is_shown_as_off_whatever_its_own_key_says() {
    let dir = tempfile::tempdir().unwrap();
    let members = r#"{
        "eventPriorityOperational": {"value": "off"},
        "eventPriorityMessageStatistics": {"value": "high"},
        "eventPriorityConfigurationError": {"value": "Off"}
    }"#;
    insta::assert_snapshot!(told(&dir, members), @r"
    KEY | STATE | IN FORCE | GIVEN | EXPECTED
    eventPriorityConfigurationError | applied | Off | - | -
    eventPriorityDroppedEventsStatistics | silenced | Off | - | eventPriorityOperational other than Off
    eventPriorityMessageStatistics | silenced | Off | High | eventPriorityOperational other than Off
    eventPriorityOperational | applied | Off | - | -
    twin: every given key can be used
    ");
}

#[test]
fn a_doubtful_twin_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "twin", "{\"maxMessageSizeInBytes\":{\"value\":10000}}", 0o644);
    assert_eq!(check(&dir, &["twin"]).0, Some(0));
    let default = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/azure-iot-security/security_module_twin/azureiotsecurity_default.json");
    let (code, out, _) = check(&dir, &[default.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}");
    put(&dir, "empty", "{\"desired\":{}}", 0o644);
    let (code, out, _) = check(&dir, &["empty"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("warning: there is no object"), "{out}");
}

#[test]
fn what_is_no_twin_says_why() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("text", "hello".to_owned()),
        ("list", "[]".to_owned()),
        ("deep", "{\"a\":".repeat(20)),
        ("desired", "{\"desired\":5}".to_owned()),
        ("large", format!("{{{}}}", " ".repeat(1 << 20))),
    ] {
        put(&dir, name, &content, 0o644);
    }
    let errors: String = ["text", "list", "deep", "desired", "large", "none"]
        .iter()
        .map(|name| {
            let (code, out, err) = check(&dir, &[name]);
            assert_eq!((code, out.as_str()), (Some(1), ""));
            err
        })
        .collect();
    insta::assert_snapshot!(errors, @r#"
    twinward: text: the twin is not JSON: expected value at line 1 column 1
    twinward: list: the twin is a list: it must be a JSON object
    twinward: deep: the twin is nested deeper than 16 levels: flatten the desired properties
    twinward: desired: its desired section is no JSON object: write {"desired": {…}}
    twinward: large: the twin has more than 1048576 bytes: remove what is not needed from the desired properties
    twinward: cannot read none: No such file or directory (os error 2)
    "#);
}
