//! An agent that is started before it has its credentials: it waits, says so, and begins when they come.

use serde_json::{Value, json};
use twinward::control::Request;

use crate::harness::{Hub, Place, STOP_LIMIT, keys};
use crate::lifetime::Told;

/// A place that leads to this hub, with everything but the secret.
fn without_secret(hub: &Hub) -> Place {
    let place = Place::new(hub);
    std::fs::remove_file(place.path("connection-string")).unwrap();
    place
}

#[tokio::test]
async fn it_waits_says_what_for_and_signs_in_when_the_file_has_come() {
    let mut hub = Hub::start().await;
    let place = without_secret(&hub);
    let mut told = Told::by(&place);
    let socket = place.path("notify").display().to_string();
    let mut agent = place.start_with(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "1500000")]);
    let file = agent.place().path("connection-string").display().to_string();
    told.until(1, "READY=1").await;
    let status = agent.status("that it waits", |status| status.get("waiting").cloned()).await;
    assert_eq!(status["file"], file);
    let why = status["why"].as_str().unwrap();
    assert!(why.contains(": install -m 600 ") && why.ends_with(&format!("/dev/stdin {file}")), "{status}");
    // Several looks later it still waits, is fed, and has said it once.
    told.until(3, "WATCHDOG=1").await;
    let said = agent.lines("waiting for credentials");
    assert!(said.len() == 1 && said[0].contains(&format!("{file} does not exist; put ")), "{said:?}");
    let line = format!("STATUS=waiting for credentials: {file} does not exist");
    assert_eq!(told.all().iter().filter(|told| told.starts_with(&line)).count(), 1, "{:?}", told.all());
    assert!(agent.ask(Request::Flush).await.unwrap()["error"].as_str().unwrap().starts_with("nothing is collected"));
    assert!(!agent.place().path("state").exists(), "nothing is stored");

    let page = agent.place().run(&["status"]).await;
    let text = String::from_utf8(page.stdout).unwrap();
    assert_eq!(page.status.code(), Some(0), "{text}");
    assert!(text.contains(&format!("waiting    for its credentials in {file}\n")), "{text}");
    let report = agent.place().run(&["doctor", "--json"]).await;
    assert_eq!(report.status.code(), Some(1));
    let findings: Vec<Value> =
        report.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let finding = findings.iter().find(|finding| finding["check"] == "agent").unwrap();
    assert_eq!(finding["result"], "failed");
    assert!(finding["detail"].as_str().unwrap().contains(&format!("{file} does not exist")), "{finding}");

    agent.place().write("connection-string", &hub.connection_string(), 0o600);
    agent.linked().await;
    assert!(agent.status("the balance", |status| Some(status.clone())).await.get("waiting").is_none());
    let version = hub.patch_desired(keys([("hubResourceId", json!("after"))])).unwrap();
    hub.taken(version).await;
    agent.books_agree(&mut hub).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_file_that_comes_wrong_is_said_and_may_still_be_mended() {
    let hub = Hub::start().await;
    let mut agent = without_secret(&hub).start();
    agent.says("waiting for credentials").await;
    agent.place().write("connection-string", "", 0o600);
    agent.says("the connection string is empty").await;
    agent.place().write("connection-string", &hub.connection_string(), 0o644);
    agent.says("has mode 0644: others could read the secret; run: chmod 600").await;
    agent.place().write("connection-string", &hub.connection_string(), 0o600);
    agent.linked().await;
}

#[tokio::test]
async fn a_signal_ends_the_wait_at_once() {
    let hub = Hub::start().await;
    let place = without_secret(&hub);
    let mut told = Told::by(&place);
    let socket = place.path("notify").display().to_string();
    let mut agent = place.start_with(&[("NOTIFY_SOCKET", &socket)]);
    agent.status("that it waits", |status| status.get("waiting").map(drop)).await;
    let asked = tokio::time::Instant::now();
    agent.stop().await;
    assert!(asked.elapsed() < STOP_LIMIT, "{:?}", asked.elapsed());
    assert_eq!((told.count("STOPPING=1"), told.count("WATCHDOG=1") > 0), (1, true));
    assert!(!agent.place().path("run/control.sock").exists());
}

#[tokio::test]
async fn what_else_is_wrong_is_not_waited_with() {
    let hub = Hub::start().await;
    let place = without_secret(&hub);
    place.write("ca.pem", "", 0o644);
    let output = place.run(&["run"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains(&place.path("ca.pem").display().to_string()), "{said}");
}
