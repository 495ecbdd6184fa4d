//! The agent's own log as Diagnostic events.

use serde_json::{Value, json};
use tokio::time::Instant;
use twinward::control::Request;
use twinward::lab::TwinFault;

use crate::harness::{Agent, Hub, PROVOKED, Place, eventually, keys};

/// An agent that sends its warnings.
async fn talkative(hub: &mut Hub) -> Agent {
    let place = Place::new(hub);
    place.edit("diagnostic_level = \"off\"", "diagnostic_level = \"warn\"");
    let agent = place.start();
    agent.linked().await;
    hub.taken(1).await;
    agent
}

fn lines(hub: &mut Hub) -> Vec<Value> {
    let events = hub.events().into_values();
    let mut lines: Vec<Value> = events.filter(|event| event["Name"] == "Diagnostic").collect();
    lines.sort_by_key(|event| event["TimestampUTC"].to_string());
    lines.into_iter().map(|event| event["Payload"][0].clone()).collect()
}

#[tokio::test]
async fn a_warning_of_the_log_arrives_at_the_hub() {
    let mut hub = Hub::start().await;
    let mut agent = talkative(&mut hub).await;
    let given = "bad\u{1b}[31m value";
    hub.patch_desired(keys([("snapshotFrequency", json!(given))])).unwrap();
    let logged = agent.says("desired value is refused or doubtful").await;
    let line = eventually("a Diagnostic event", || {
        let found = lines(&mut hub).into_iter().find(|l| l["Message"].to_string().contains("snapshotFrequency"));
        std::future::ready(found)
    })
    .await;
    assert_eq!(
        (&line["Severity"], &line["ExtraDetails"]["Module"]),
        (&json!("Warning"), &json!("twinward::agent::run"))
    );
    let message = line["Message"].as_str().unwrap();
    assert!(logged.ends_with(message), "the same words: {logged} / {message}");
    assert!(!message.contains('\u{1b}'), "{message}");
    let status = agent.status("the status", |status| Some(status.clone())).await;
    assert_eq!(line["ProcessId"], status["pid"]);
    assert!(line["ThreadId"].as_u64() >= line["ProcessId"].as_u64(), "{line}");
    let collectors = status["collectors"].as_array().unwrap();
    let own = collectors.iter().find(|c| c["event"] == "Diagnostic").unwrap();
    assert_eq!((&own["state"], &own["source"]), (&json!("ok"), &json!("log")));
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn a_storm_is_measured_and_what_is_left_out_is_counted() {
    let mut hub = Hub::start().await;
    let began = Instant::now();
    let agent = talkative(&mut hub).await;
    // A warning for each.
    for round in 0..6 {
        let version = hub.provoke(&format!("round {round}"));
        hub.taken(version).await;
    }
    assert_eq!(agent.lines("desired value is refused or doubtful").len(), 6 * PROVOKED);
    // Each line is an event or counted, some seconds later.
    let sent = eventually("all of them", || {
        let sent = lines(&mut hub).len();
        let asked = agent.ask(Request::Status);
        let written = agent.log().lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count();
        async move {
            let balance = asked.await?["balance"].take();
            let dropped = |queue: &str| balance[queue]["dropped"]["rateLimited"].as_u64().unwrap_or(0);
            let dropped = usize::try_from(dropped("high") + dropped("low")).unwrap();
            (sent + dropped == written).then_some(sent)
        }
    })
    .await;
    // Thirty at once and one each ten seconds, however slow all this was.
    let most = 31 + usize::try_from(began.elapsed().as_secs() / 10).unwrap();
    assert!((30..=most).contains(&sent), "{sent} sent, at most {most}");
}

#[tokio::test]
async fn what_the_hub_refuses_is_told_once() {
    let mut hub = Hub::start().await;
    let mut agent = talkative(&mut hub).await;
    hub.faults(|faults| faults.twin_report = Some(TwinFault::Status(400)));
    hub.patch_desired(keys([("snapshotFrequency", json!("PT2H"))])).unwrap();
    agent.says("the hub refused the reported properties").await;
    let found = eventually("a Diagnostic event", || {
        let lines = lines(&mut hub);
        std::future::ready(lines.iter().any(|l| l["Message"].to_string().contains("refused")).then_some(lines))
    })
    .await;
    assert!(found.iter().all(|line| line["ExtraDetails"]["Module"] == "twinward::agent::run"), "{found:?}");
    assert!(agent.lines("not taken").is_empty(), "{}", agent.log());
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn off_in_the_twin_ends_them_and_back_on_takes_them_again() {
    let mut hub = Hub::start().await;
    let agent = talkative(&mut hub).await;
    let version = hub.patch_desired(keys([("eventPriorityDiagnostic", json!("Off"))])).unwrap();
    hub.taken(version).await;
    let version = hub.patch_desired(keys([("hubResourceId", json!(1))])).unwrap();
    hub.taken(version).await;
    let state = |status: &Value| {
        status["collectors"].as_array()?.iter().find(|c| c["event"] == "Diagnostic").map(|c| c["state"].clone())
    };
    assert_eq!(agent.status("the state", state).await, "off");
    let version =
        hub.patch_desired(keys([("eventPriorityDiagnostic", json!("High")), ("snapshotFrequency", json!(1))])).unwrap();
    hub.taken(version).await;
    let version = hub.patch_desired(keys([("lowPriorityMessageFrequency", json!(1))])).unwrap();
    hub.taken(version).await;
    let found = eventually("the last one", || {
        let lines = lines(&mut hub);
        std::future::ready(lines.iter().any(|l| l["Message"].to_string().contains("lowPriority")).then_some(lines))
    })
    .await;
    assert!(!found.iter().any(|l| l["Message"].to_string().contains("hubResourceId")), "{found:?}");
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn the_key_is_in_none_of_them() {
    let mut hub = Hub::start().await;
    let key = hub.connection_string().split("SharedAccessKey=").nth(1).unwrap().to_owned();
    let place = Place::new(&hub);
    place.edit("level = \"info\"", "level = \"debug\"");
    place.edit("diagnostic_level = \"off\"", "diagnostic_level = \"info\"");
    let agent = place.start();
    agent.linked().await;
    let mark = hub.mark();
    hub.kick();
    hub.connected(mark).await;
    let lines = eventually("lines about the link", || {
        let lines = lines(&mut hub);
        std::future::ready(lines.iter().any(|l| l["Message"].to_string().contains("link down")).then_some(lines))
    })
    .await;
    assert!(!json!(lines).to_string().contains(&key));
}
