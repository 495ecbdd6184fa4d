//! A panic ends the process; the next one has everything that was stored, and holds back what crashed.
//!
//! `LAB_CRASH`, which programs for devices do not know, makes a part of the agent panic as soon as it is at work.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use jiff::{Timestamp, ToSpan};
use rustix::io::ioctl_fionbio;
use rustix::process::Signal;
use serde_json::{Value, json};
use twinward::lab::PubAckFault;

use crate::harness::{Agent, Hub, Place, keys};

const BASELINE: (&str, &str) = ("LAB_CRASH", "OSBaseline");

/// An agent that took the twin, in which nothing is on that crashes, and ended.
async fn prepared(hub: &mut Hub) -> Agent {
    let place = Place::new(hub);
    place.edit("diagnostic_level = \"off\"", "diagnostic_level = \"error\"");
    let mut agent = place.start();
    agent.linked().await;
    hub.taken(1).await;
    agent.stop().await;
    agent
}

/// Waits for its end by SIGABRT.
async fn crashed(agent: &mut Agent) {
    let status = agent.ended().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}:\n{}", agent.log());
}

/// The lines of the file.
fn written(agent: &Agent) -> Vec<Value> {
    let text = fs::read_to_string(agent.place().path("run/crashes")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Lets all crashes be so long ago that nothing is held back.
fn two_days_later(agent: &Agent) {
    let before: Vec<Value> = written(agent);
    let then = json!(Timestamp::now().checked_sub(48.hours()).unwrap());
    let line = |mut crash: Value| {
        crash["last"] = then.clone();
        format!("{crash}\n")
    };
    agent.place().write("run/crashes", &before.into_iter().map(line).collect::<String>(), 0o600);
}

fn collector(status: &Value, name: &str) -> Option<Value> {
    status["collectors"].as_array()?.iter().find(|c| c["event"] == name).cloned()
}

/// The Diagnostic events that tell of a crash.
fn told(hub: &mut Hub) -> Vec<Value> {
    let events = hub.events().into_values().filter(|event| event["Name"] == "Diagnostic");
    let lines = events.map(|event| event["Payload"][0].clone());
    lines.filter(|line| line["Message"].to_string().contains("the last run ended with a crash")).collect()
}

#[tokio::test]
async fn a_collector_that_panics_ends_the_process_and_is_held_back_at_the_next_start() {
    let mut hub = Hub::start().await;
    let mut agent = prepared(&mut hub).await;
    agent.start_again_with(&[BASELINE]);
    agent.linked().await;
    agent.books_agree(&mut hub).await;
    hub.faults(|faults| faults.pub_ack = PubAckFault::Withhold);
    hub.provoke("kept");
    let first = hub.provoked("kept").await;
    // What is on the wire is not acknowledged when it crashes.
    let on = hub.patch_desired(keys([("eventPriorityOSBaseline", json!("High"))])).unwrap();
    crashed(&mut agent).await;
    let log = agent.lines("a thread panicked, the process ends: OSBaseline crashes because LAB_CRASH says so");
    assert_eq!(log.len(), 1, "{}", agent.log());
    let crashes = written(&agent);
    assert_eq!(crashes.len(), 1);
    assert_eq!((&crashes[0]["part"], &crashes[0]["times"]), (&json!("OSBaseline"), &json!(1)));

    // The cause is still there, and the agent works.
    hub.faults(|faults| faults.pub_ack = PubAckFault::None);
    agent.start_again_with(&[BASELINE]);
    agent.linked().await;
    hub.taken(on).await;
    let held = |status: &Value| collector(status, "OSBaseline").filter(|c| c["state"] == "unavailable");
    let held = agent.status("OSBaseline is held back", held).await;
    let detail = held["detail"].as_str().unwrap();
    assert!(detail.starts_with("it crashed, last at 20") && detail.contains("; tried again at 20"), "{detail}");
    // A change is reported at once, with everything.
    hub.patch_desired(keys([("snapshotFrequency", json!("PT2H"))])).unwrap();
    let same = |reported: &Value| (reported["twinward"]["collectors"]["OSBaseline"]["detail"] == detail).then_some(());
    hub.reported("that it is held back", same).await;
    // On order it is not taken either, and the others are.
    let called = json!({"events": ["OSBaseline", "SystemInformation"]});
    let reply = hub.invoke_method("collectNow", &called, crate::harness::LIMIT).await.unwrap();
    assert_eq!(reply.payload["unavailable"], json!(["OSBaseline"]), "{}", reply.payload);
    assert_eq!(reply.payload["collected"], json!(["SystemInformation"]), "{}", reply.payload);
    agent.says("held back after a crash: it crashed, last at").await;
    hub.until("the crash is told", |seen| {
        format!("{seen:?}").contains("the last run ended with a crash").then_some(())
    })
    .await;
    agent.books_agree_after_crashes(&mut hub).await;
    let line = told(&mut hub).remove(0);
    assert_eq!(line["Severity"], "Error");
    let message = line["Message"].to_string();
    assert!(message.contains("part=OSBaseline") && message.contains("place=src/sys/crash.rs"), "{message}");
    for message in &first {
        let same: Vec<_> = hub.messages().into_iter().filter(|m| m.mid == message.mid).collect();
        assert!(same.len() == 2 && same.iter().all(|m| m == message), "{same:#?}");
    }
    agent.stop().await;

    // The pause is over and the cause is gone: it is taken, and forgotten.
    two_days_later(&agent);
    agent.start_again();
    agent
        .status("OSBaseline is taken", |status| {
            let state = collector(status, "OSBaseline")?["state"].clone();
            (state == "ok" || state == "degraded").then_some(())
        })
        .await;
    agent.books_agree_after_crashes(&mut hub).await;
    assert!(hub.events().values().any(|event| event["Name"] == "OSBaseline"));
    assert_eq!(told(&mut hub).len(), 1, "told once");
    assert!(!agent.place().path("run/crashes").exists());
}

#[tokio::test]
async fn a_source_that_panicked_is_opened_again_after_its_pause() {
    let mut hub = Hub::start().await;
    let mut agent = prepared(&mut hub).await;
    // Login is on.
    agent.start_again_with(&[("LAB_CRASH", "capture")]);
    crashed(&mut agent).await;
    agent.start_again();
    hub.patch_desired(keys([("eventPriorityProcessCreate", json!("High"))])).unwrap();
    let open = |status: &Value| collector(status, "ProcessCreate").filter(|c| c["source"] == "polling /proc");
    agent.status("ProcessCreate is collected", open).await;
    let off = hub.patch_desired(keys([("eventPriorityProcessCreate", json!("Off"))])).unwrap();
    hub.taken(off).await;
    agent.books_agree_after_crashes(&mut hub).await;
    let gaps = agent.status("the status", |status| Some(status["gaps"].clone())).await;
    assert!(gaps.as_array().unwrap().iter().any(|gap| gap["source"] == "ProcessCreate"), "{gaps}");
    // A stop does not count as a minute of life.
    agent.stop().await;
    assert_eq!(written(&agent).len(), 1);
}

#[tokio::test]
async fn a_device_that_makes_its_notice_panic_does_not_take_the_agent_down_for_ever() {
    let mut hub = Hub::start().await;
    let mut agent = prepared(&mut hub).await;
    hub.patch_desired(keys([("eventPriorityConnectedHardware", json!("High"))])).unwrap();
    let line = json!({"part": "hotplug", "times": 9, "last": Timestamp::now(), "message": "m", "place": "p"});
    agent.place().write("run/crashes", &format!("{line}\n"), 0o600);
    agent.start_again_with(&[("LAB_CRASH", "hotplug")]);
    agent.linked().await;
    // The snapshot is taken without it, says so, and that is no reason to forget it.
    let taken = |status: &Value| {
        let found = collector(status, "ConnectedHardware")?;
        (found["state"] != "off").then(|| format!("{found}"))
    };
    let found = agent.status("ConnectedHardware is taken", taken).await;
    assert!(found.contains("degraded") && found.contains("it crashed 9 times, last at 20"), "{found}");
    agent.books_agree_after_crashes(&mut hub).await;
    agent.stop().await;
    assert_eq!(written(&agent)[0]["times"], 9);
    two_days_later(&agent);
    agent.start_again_with(&[("LAB_CRASH", "hotplug")]);
    crashed(&mut agent).await;
    let lines = written(&agent);
    assert_eq!((lines.len(), &lines[1]["part"]), (2, &json!("hotplug")), "{lines:?}");
}

#[tokio::test]
async fn a_link_that_panics_is_held_back_and_what_is_collected_meanwhile_is_delivered() {
    let mut hub = Hub::start().await;
    let mut agent = prepared(&mut hub).await;
    for times in 1..=2 {
        agent.start_again_with(&[("LAB_CRASH", "link")]);
        crashed(&mut agent).await;
        let sum: u64 = written(&agent).iter().map(|crash| crash["times"].as_u64().unwrap()).sum();
        assert_eq!(sum, times);
    }
    // As if it had crashed for long: it waits for minutes, and says so.
    let line = json!({"part": "link", "times": 9, "last": Timestamp::now(), "message": "m", "place": "p"});
    agent.place().write("run/crashes", &format!("{line}\n"), 0o600);
    agent.start_again();
    let down = |status: &Value| (status["link"]["state"] == "down").then(|| status["link"]["error"].clone());
    let why = agent.status("the link is held back", down).await;
    assert!(why.as_str().unwrap().starts_with("it crashed 9 times, last at 20"), "{why}");
    let pending = |status: &Value| (status["balance"]["high"]["pending"].as_u64() > Some(0)).then_some(());
    agent.status("it collects", pending).await;
    agent.stop().await;
    two_days_later(&agent);
    agent.start_again();
    agent.linked().await;
    agent.books_agree_after_crashes(&mut hub).await;
}

#[tokio::test]
async fn twenty_crashes_in_a_row_lose_nothing_and_leave_one_line() {
    let mut hub = Hub::start().await;
    let mut agent = prepared(&mut hub).await;
    agent.start_again_with(&[BASELINE]);
    agent.linked().await;
    agent.books_agree(&mut hub).await;
    hub.faults(|faults| faults.pub_ack = PubAckFault::Withhold);
    hub.provoke("kept");
    let first = hub.provoked("kept").await;
    hub.patch_desired(keys([("eventPriorityOSBaseline", json!("High"))])).unwrap();
    crashed(&mut agent).await;
    // Each start also collects what the snapshots before it find, and may be sending.
    for times in 2..=20 {
        two_days_later(&agent);
        agent.start_again_with(&[BASELINE]);
        crashed(&mut agent).await;
        let lines = written(&agent);
        let sum: u64 = lines.iter().map(|crash| crash["times"].as_u64().unwrap()).sum();
        assert_eq!((lines.len(), sum), (2, times), "what was known, and the new one");
    }
    hub.faults(|faults| faults.pub_ack = PubAckFault::None);
    agent.start_again_with(&[BASELINE]);
    agent.linked().await;
    agent.books_agree_after_crashes(&mut hub).await;
    let acknowledged = hub.messages();
    assert!(
        first.iter().all(|message| acknowledged.iter().filter(|m| *m == message).count() > 1),
        "sent again as it was"
    );
    let lines = written(&agent);
    assert_eq!((lines.len(), &lines[0]["times"]), (1, &json!(20)));
    assert!(agent.lines("damaged").is_empty(), "{}", agent.log());
}

#[tokio::test]
async fn a_core_that_panics_is_started_again_at_once_with_what_was_stored() {
    let mut hub = Hub::start().await;
    let mut agent = prepared(&mut hub).await;
    for _ in 0..2 {
        agent.start_again_with(&[("LAB_CRASH", "core")]);
        crashed(&mut agent).await;
    }
    agent.start_again();
    agent.linked().await;
    agent.books_agree_after_crashes(&mut hub).await;
    assert!(agent.lines("held back").is_empty(), "{}", agent.log());
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_keep_a_crashed_agent_alive() {
    let hub = Hub::start().await;
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // From here on it takes nothing more, and whoever writes waits.
    ioctl_fionbio(&writer, true).unwrap();
    while writer.write_all(&[b'x'; 4096]).is_ok() {}
    ioctl_fionbio(&writer, false).unwrap();
    let place = Place::with(&hub.connection_string(), hub.port(), hub.ca_pem(), "error");
    let mut agent = place.start_logging_to(writer, &[("LAB_CRASH", "core")]);
    let status = agent.ended().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
    assert_eq!(written(&agent).len(), 1);
}
