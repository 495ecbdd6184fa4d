//! `twinward doctor` against the loopback hub: over real TLS and MQTT.

#![expect(clippy::indexing_slicing, reason = "a test stops where its assumptions break")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Output;

use rustix::net::{AddressFamily, SocketType};
use serde_json::{Value, json};
use twinward::collect::SNAPSHOTS;
use twinward::lab::{Happening, Lab, LabOptions, Refusal, ServerCertificate, Why};

use crate::{Place, STRING, out};

/// A hub, and a configuration that leads to it.
async fn hub(options: LabOptions) -> (Lab, Place) {
    let lab = Lab::start(options).await.unwrap();
    let place = leading_to(&lab, &lab.connection_string());
    (lab, place)
}

fn leading_to(lab: &Lab, connection_string: &str) -> Place {
    let place = Place::new(connection_string, "");
    let ca = place.write("ca.pem", lab.ca_pem());
    let root = place.path("");
    let root = root.display().to_string();
    let root = root.trim_end_matches('/');
    place.write(
        "twinward.toml",
        &format!(
            "identity.connection_string_file = \"{root}/connection-string\"\nstorage.directory = \"{root}\"\n\
             hub.host = \"127.0.0.1\"\nhub.port = {}\nhub.ca_file = \"{}\"\ncollect.process_source = \"poll\"\n",
            lab.port(),
            ca.display()
        ),
    );
    place
}

/// Runs the doctor while the hub's tasks go on. The exit code, and the findings as `result: detail` by check.
async fn doctor(place: Place) -> (Option<i32>, BTreeMap<String, Vec<String>>) {
    let output = tokio::task::spawn_blocking(move || place.run(&["doctor", "--json"])).await.unwrap();
    (output.status.code(), findings(&output))
}

fn findings(output: &Output) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in out(output).lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        assert_eq!(value.as_object().unwrap().len(), 4, "{line}");
        assert!(text("result") != "failed" || !text("advice").is_empty(), "no advice: {line}");
        found.entry(text("check")).or_default().push(format!("{}: {}", text("result"), text("detail")));
    }
    found
}

#[tokio::test]
async fn all_is_well_with_a_hub_that_is_well() {
    let (lab, place) = hub(LabOptions::default()).await;
    let mut seen = lab.observe();
    let (code, found) = doctor(place).await;
    assert_eq!(code, Some(0), "{found:#?}");
    assert_eq!(found["sign-in"], ["ok: try-device/azureiotsecurity at lab.azure-devices.net: accepted"]);
    assert_eq!(found["twin"], ["ok: version 1: every key is in force"]);
    assert!(found["tls"][0].starts_with("ok: lab.azure-devices.net: TLSv1.2"), "{found:#?}");
    assert!(found["certificate"][0].contains("lab.azure-devices.net"), "{found:#?}");
    assert!(found["tcp"][0].starts_with("ok: 127.0.0.1:"), "{found:#?}");
    for (check, wanted) in [
        ("process-source", "ok: as uid "),
        // Nobody tells polling of it.
        ("process-ends", "warning: as uid "),
        ("connections", ""),
        ("logins", ""),
    ] {
        let [finding] = found[check].as_slice() else { panic!("{check}: {found:#?}") };
        assert!(finding.starts_with(wanted) && finding.contains("as uid "), "{finding}");
    }
    assert_eq!(found["snapshots"].len(), SNAPSHOTS.len(), "{found:#?}");
    assert!(found["snapshots"].iter().all(|finding| finding.contains("as uid ")), "{found:#?}");
    // It looked, changed nothing, and said goodbye.
    assert_eq!(lab.reported()["$version"], 1);
    let why = loop {
        if let Happening::Disconnected(why) = seen.recv().await.unwrap().what {
            break why;
        }
    };
    assert_eq!(why, Why::ClientLeft);
    lab.shutdown().await;
}

#[tokio::test]
async fn a_refused_key_of_the_twin_is_named() {
    let (lab, place) = hub(LabOptions::default()).await;
    let object = "ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration";
    lab.patch_desired(json!({object: {"snapshotFrequency": {"value": "often"}}})).unwrap();
    let (code, found) = doctor(place).await;
    assert_eq!(code, Some(0), "{found:#?}");
    assert!(found["twin"].iter().any(|f| f.starts_with("warning: snapshotFrequency is refused")), "{found:#?}");
    lab.shutdown().await;
}

#[tokio::test]
async fn a_wrong_key_fails_at_the_sign_in() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let right = lab.connection_string();
    let (front, _) = right.split_once("SharedAccessKey=").unwrap();
    let place = leading_to(&lab, &format!("{front}SharedAccessKey={}", crate::KEY));
    let (code, found) = doctor(place).await;
    assert_eq!(code, Some(1));
    assert!(found["tls"][0].starts_with("ok: "), "{found:#?}");
    assert!(found["sign-in"][0].starts_with("failed: ") && found["sign-in"][0].contains("wrong key"), "{found:#?}");
    assert_eq!(found["twin"], ["skipped: (needs sign-in)"]);
    lab.shutdown().await;
}

#[tokio::test]
async fn a_hub_that_is_unavailable_fails_at_the_sign_in() {
    let (lab, place) = hub(LabOptions::default()).await;
    lab.faults(|faults| faults.refuse = Some(Refusal::ConnAck(3)));
    let (code, found) = doctor(place).await;
    assert_eq!(code, Some(1));
    assert!(found["sign-in"][0].starts_with("failed: "), "{found:#?}");
    lab.shutdown().await;
}

#[tokio::test]
async fn an_unknown_authority_fails_at_tls_and_nothing_is_signed_in() {
    let (lab, place) = hub(LabOptions::default()).await;
    let config = std::fs::read_to_string(place.path("twinward.toml")).unwrap();
    let without: Vec<&str> = config.lines().filter(|line| !line.starts_with("hub.ca_file")).collect();
    place.write("twinward.toml", &without.join("\n"));
    let (code, found) = doctor(place).await;
    assert_eq!(code, Some(1));
    assert!(found["tls"][0].contains("no trusted CA"), "{found:#?}");
    assert_eq!(found["sign-in"], ["skipped: (needs tls)"]);
    lab.shutdown().await;
}

#[tokio::test]
async fn each_fault_of_the_certificate_has_its_own_words() {
    for (certificate, words) in [
        (ServerCertificate::Expired, "a certificate has expired"),
        (ServerCertificate::WrongName, "is for elsewhere.example, not for lab.azure-devices.net"),
    ] {
        let (lab, place) = hub(LabOptions::default()).await;
        lab.faults(|faults| faults.certificate = certificate);
        let (code, found) = doctor(place).await;
        assert_eq!(code, Some(1));
        assert!(found["tls"][0].contains(words), "{found:#?}");
        assert!(found["certificate"][0].contains("issued by"), "{found:#?}");
        lab.shutdown().await;
    }
}

#[tokio::test]
async fn a_running_agent_is_asked_and_not_thrown_out() {
    let (lab, place) = hub(LabOptions::default()).await;
    let mut seen = lab.observe();
    let server = twinward::control::Server::bind(&place.path("control.sock")).unwrap();
    let answer = json!({
        "version": "0.1.0", "pid": 7,
        "link": {"state": "ready", "sinceUtc": "T", "hub": lab.host_name(),
                 "identity": "try-device/azureiotsecurity", "error": ""},
        "twin": {"source": "hub", "desiredVersion": 1, "problems": []},
        "collectors": [{"event": "ProcessCreate", "state": "ok", "source": "poll", "detail": ""}]
    });
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(twinward::control::serve(server, move |_| std::future::ready(answer.clone())));
    let (code, found) = doctor(place).await;
    assert_eq!(code, Some(0), "{found:#?}");
    assert!(found["sign-in"][0].starts_with("ok: signed in since T"), "{found:#?}");
    assert_eq!(found["collectors"], ["ok: ProcessCreate is ok: poll"]);
    tasks.shutdown().await;
    lab.shutdown().await;
    while let Some(event) = seen.recv().await {
        assert!(!matches!(event.what, Happening::Connected { .. }), "somebody signed in: {event:?}");
    }
}

#[test]
fn a_bad_configuration_has_its_exit_code_and_skips_what_needs_it() {
    let output = Place::new(STRING, "hub.prot = 1\n").run(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(78));
    let found = findings(&output);
    assert!(found["configuration"][0].contains("hub.port"), "{found:#?}");
    assert_eq!(found["secret-file"], ["skipped: (needs configuration)"]);
    assert!(found.contains_key("clock") && found.contains_key("capabilities"), "{found:#?}");
}

#[test]
fn a_page_for_people_ends_with_a_count() {
    // A port that is taken and does not listen refuses for sure.
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let taken = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap().port();
    let more = format!("hub.host = \"127.0.0.1\"\nhub.port = {taken}\ncollect.process_source = \"poll\"\n");
    let place = Place::new(STRING, &more);
    let output = place.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(out(&output).contains("failed   tcp                127.0.0.1:"), "{}", out(&output));
    assert!(out(&output).lines().last().unwrap().contains("1 failed, 3 skipped"), "{}", out(&output));
}
