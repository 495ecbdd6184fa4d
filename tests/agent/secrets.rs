//! The key, and what is made of it, appears nowhere.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::json;
use twinward::lab::{LabOptions, Refusal};
use twinward::model::secret::Secret;

use crate::harness::{Hub, Place};

const KEY: &[u8] = b"Seen?Then>the~test%fails:0123456789";

/// Judges a text or a file.
fn clean(place: &str, bytes: &[u8]) {
    let written = [STANDARD.encode(KEY), STANDARD_NO_PAD.encode(KEY), URL_SAFE.encode(KEY)];
    let numbers = format!("{KEY:?}");
    let needles =
        written.iter().map(String::as_bytes).chain([KEY, b"sig=", numbers.trim_matches(['[', ']']).as_bytes()]);
    for needle in needles {
        let found = bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!found, "{} in {place}:\n{}", String::from_utf8_lossy(needle), String::from_utf8_lossy(bytes));
    }
}

fn clean_files(directory: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files += clean_files(&entry.path());
        } else if kind.is_file() {
            clean(&entry.path().display().to_string(), &std::fs::read(entry.path()).unwrap());
            files += 1;
        }
    }
    files
}

async fn hub() -> Hub {
    let options = LabOptions { primary_key: Some(Secret::new(KEY.to_vec())), ..LabOptions::default() };
    Hub::from(options, json!({})).await
}

/// Everything that others can see of a run.
async fn clean_run(hub: &mut Hub, place: Place, up: bool) {
    let mut agent = place.start();
    if up {
        agent.linked().await;
        hub.taken(1).await;
        agent.books_agree(hub).await;
        let mark = hub.mark();
        hub.kick();
        hub.connected(mark).await;
        agent.linked().await;
    } else {
        agent.says("link down").await;
    }
    for arguments in [
        &["doctor"][..],
        &["doctor", "--json"],
        &["status"],
        &["status", "--json"],
        &["check"],
        &["check", "--json"],
        &["version"],
    ] {
        let output = agent.place().run(arguments).await;
        clean(&format!("the output of {arguments:?}"), &output.stdout);
        clean(&format!("the errors of {arguments:?}"), &output.stderr);
    }
    let status = agent.status("the status", |status| Some(status.to_string())).await;
    clean("the control socket's answer", status.as_bytes());
    agent.stop().await;
    assert!(clean_files(&agent.place().path("state")) > 1);
    assert!(clean_files(&agent.place().path("run")) > 0);
    assert!(agent.log().len() > 200);
    clean("the log", agent.log().as_bytes());
    clean("the twin", hub.reported_now().to_string().as_bytes());
    for happening in hub.seen() {
        let text = format!("{happening:?}");
        clean("what the hub got", text.as_bytes());
    }
}

fn traced(hub: &Hub, connection_string: &str) -> Place {
    Place::with(connection_string, hub.port(), hub.ca_pem(), "trace")
}

#[tokio::test]
async fn nobody_sees_the_key_while_all_is_well() {
    let mut hub = hub().await;
    let string = hub.connection_string();
    assert!(string.contains(&STANDARD.encode(KEY)), "the needle is the key");
    let place = traced(&hub, &string);
    clean_run(&mut hub, place, true).await;
}

#[tokio::test]
async fn nobody_sees_the_key_while_the_sign_in_fails() {
    for fault in [Refusal::ConnAck(5), Refusal::Close] {
        let mut hub = hub().await;
        hub.faults(|faults| faults.refuse = Some(fault));
        let place = traced(&hub, &hub.connection_string());
        clean_run(&mut hub, place, false).await;
    }
}

#[tokio::test]
async fn nobody_sees_the_key_in_a_configuration_that_is_refused() {
    let hub = hub().await;
    let string = hub.connection_string();
    let key = STANDARD.encode(KEY);
    let broken = [
        string.replace("ModuleId", "ModulId"),
        string.replace(";SharedAccessKey=", ";"),
        string.replace(";ModuleId=", "; ModuleId"),
        format!("{string};{key}"),
        format!("{string}!"),
        format!("SharedAccessSignature=SharedAccessSignature sr=h&sig={key}&se=1;{string}"),
        key.clone(),
    ];
    for text in broken {
        let place = traced(&hub, &text);
        for arguments in [&["run"][..], &["doctor"], &["doctor", "--json"], &["check"], &["status"]] {
            let output = place.run(arguments).await;
            clean(&format!("the output of {arguments:?}"), &output.stdout);
            clean(&format!("the errors of {arguments:?}"), &output.stderr);
        }
    }
    // Inline, in a file that is wrong elsewhere, and that others can read.
    let place = traced(&hub, &string);
    let file = place.path("connection-string").display().to_string();
    place.edit(&format!("connection_string_file = \"{file}\""), &format!("connection_string = \"{string}\""));
    place.edit("level = \"trace\"", "level = 7\nsecret = 1");
    for mode in [0o600, 0o644] {
        let text = std::fs::read_to_string(place.path("twinward.toml")).unwrap();
        place.write("twinward.toml", &text, mode);
        for arguments in [&["run"][..], &["doctor", "--json"], &["check", "--json"]] {
            let output = place.run(arguments).await;
            assert_ne!(output.status.code(), Some(0));
            clean(&format!("the output of {arguments:?}"), &output.stdout);
            clean(&format!("the errors of {arguments:?}"), &output.stderr);
        }
    }
}
