//! What a user has to mend before the agent starts: exit code 78, and words that say where and what to do.

use std::process::Output;

use serde_json::json;

use crate::harness::{Hub, Place};

/// Base64 of a key that is in no message, whatever is wrong with its neighbours.
const KEY: &str = "TmV2ZXJTaG93VGhpc0tleSE=";

/// What `run` says on its standard error before it ends with 78.
async fn refused(place: &Place) -> String {
    let output: Output = place.run(&["run"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(!text.contains("panicked") && !text.contains(KEY), "{text}");
    text
}

fn place(connection_string: &str) -> Place {
    // The port is never dialled.
    Place::with(connection_string, 1, "", "info")
}

#[tokio::test]
async fn a_malformed_connection_string_is_refused_by_the_name_of_its_part() {
    let good = "HostName=h.azure-devices.net;DeviceId=d;ModuleId=azureiotsecurity";
    for (text, words) in [
        (String::new(), "the connection string is empty"),
        (good.to_owned(), "the connection string lacks SharedAccessKey"),
        (format!("DeviceId=d;SharedAccessKey={KEY}"), "lacks HostName and ModuleId"),
        (
            format!("HostName=https://h/;DeviceId=d;ModuleId=m;SharedAccessKey={KEY}"),
            "HostName in the connection string",
        ),
        (format!("HostName=h.net;DeviceId=a b;ModuleId=m;SharedAccessKey={KEY}"), "DeviceId in the connection string"),
        (format!("HostName=h.net;DeviceId=d;ModuleId=;SharedAccessKey={KEY}"), "ModuleId in the connection string"),
        (format!("{good};SharedAccessKey={KEY};GatewayHostName=a/b"), "GatewayHostName in the connection string"),
        (format!("{good};SharedAccessKey="), "SharedAccessKey in the connection string is malformed: it is empty"),
        (format!("{good};SharedAccessKey={KEY};DeviceId=e"), "DeviceId is twice"),
        (format!("{good};SharedAccesKey={KEY}"), "did you mean SharedAccessKey?"),
        (format!("{good};{KEY}"), "part 4 of the connection string has an unknown name"),
        (format!("{good};SharedAccessKeyName=owner;SharedAccessKey={KEY}"), "a key of the whole hub"),
    ] {
        let place = place(&text);
        let said = refused(&place).await;
        assert!(said.contains(words), "{text}: {said}");
        assert!(said.contains(&place.path("connection-string").display().to_string()), "{said}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_base64_is_refused() {
    let said = refused(&place("HostName=h.net;DeviceId=d;ModuleId=m;SharedAccessKey=Never!Show%This")).await;
    assert!(said.contains("SharedAccessKey in the connection string is not base64; copy it again"), "{said}");
    assert!(!said.contains("Never"), "{said}");
}

#[tokio::test]
async fn a_secret_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let hub = Hub::start().await;
    let place = Place::new(&hub);
    for mode in [0o644, 0o640, 0o604] {
        place.write("connection-string", &hub.connection_string(), mode);
        let said = refused(&place).await;
        let file = place.path("connection-string");
        assert!(said.contains(&format!("mode {mode:04o}")), "{said}");
        assert!(said.contains(&format!("run: chmod 600 {}", file.display())), "{said}");
    }
    // What was asked for is enough.
    place.write("connection-string", &hub.connection_string(), 0o600);
    let agent = place.start();
    agent.linked().await;
}

#[tokio::test]
async fn every_fault_of_the_configuration_is_told_at_once_with_file_and_line() {
    let place = place("");
    place.edit("[collect]\n", "[collect]\nproces_source = \"auto\"\n");
    place.edit("port = 1\n", "port = \"many\"\n");
    let said = refused(&place).await;
    let file = place.path("twinward.toml").display().to_string();
    let text = std::fs::read_to_string(&file).unwrap();
    let line = |words: &str| text.lines().position(|line| line.starts_with(words)).unwrap() + 1;
    let unknown = format!("{file}:{}: collect.proces_source: unknown key; did you mean", line("proces_source"));
    let wrong = format!("{file}:{}: hub.port: is ", line("port"));
    assert!(said.contains(&unknown) && said.contains("process_source?"), "{unknown}\n{said}");
    assert!(said.contains(&wrong) && said.contains("expected"), "{wrong}\n{said}");
}

#[tokio::test]
async fn a_ca_file_that_holds_no_certificate_is_refused() {
    let place = place(&format!("HostName=h.net;DeviceId=d;ModuleId=m;SharedAccessKey={KEY}"));
    let said = refused(&place).await;
    assert!(said.contains(&place.path("ca.pem").display().to_string()), "{said}");
}

#[tokio::test]
async fn a_second_agent_with_the_same_state_is_refused() {
    let mut hub = Hub::start().await;
    let agent = Place::new(&hub).start();
    agent.linked().await;
    let output = agent.place().run(&["run"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let state = agent.place().path("state").display().to_string();
    assert!(said.contains(&format!("another agent works in {state}; stop it first")), "{said}");
    // The first one did not notice.
    let version = hub.patch_desired(crate::harness::keys([("hubResourceId", json!("after"))])).unwrap();
    hub.taken(version).await;
    agent.books_agree(&mut hub).await;
}
