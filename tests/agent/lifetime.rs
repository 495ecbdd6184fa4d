//! What the service manager and the person at the machine see: readiness, watchdog, signals, the control socket.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use serde_json::json;
use twinward::control::Request;
use twinward::lab::PubAckFault;

use crate::harness::{Agent, Hub, Place, STOP_LIMIT, eventually};

/// What systemd is told.
pub struct Told {
    socket: UnixDatagram,
    lines: Vec<String>,
}

impl Told {
    pub fn by(place: &Place) -> Self {
        let socket = UnixDatagram::bind(place.path("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, lines: Vec::new() }
    }

    pub fn all(&mut self) -> &[String] {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            self.lines.extend(std::str::from_utf8(&bytes[..length]).unwrap().lines().map(str::to_owned));
        }
        &self.lines
    }

    pub fn count(&mut self, line: &str) -> usize {
        self.all().iter().filter(|told| *told == line).count()
    }

    pub async fn until(&mut self, times: usize, line: &str) {
        eventually(&format!("{line}, {times} times"), || std::future::ready((self.count(line) >= times).then_some(())))
            .await;
    }
}

#[tokio::test]
#[ignore = "needs root: only root has capabilities to give back"]
async fn what_the_chosen_source_does_not_need_no_thread_may_do() {
    let mut hub = Hub::start().await;
    let mut agent = Place::new(&hub).start();
    hub.taken(1).await;
    let said = agent.says("given back").await;
    // Bpf, Perfmon, AuditRead, AuditControl, SysAdmin (linux/capability.h).
    let gone = [39, 38, 37, 30, 21].into_iter().fold(0u64, |mask, number| mask | 1 << number);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.id())).unwrap();
    let permitted: Vec<u64> = tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap())
        .map(|status| status.lines().find_map(|line| line.strip_prefix("CapPrm:\t").map(str::to_owned)).unwrap())
        .map(|mask| u64::from_str_radix(&mask, 16).unwrap())
        .collect();
    assert!(permitted.len() > 1 && permitted.iter().all(|mask| mask & gone == 0 && mask & 1 << 19 != 0), "{said}");
    agent.stop().await;
}

#[tokio::test]
async fn systemd_is_told_of_readiness_link_watchdog_and_end() {
    let mut hub = Hub::start().await;
    let place = Place::new(&hub);
    let mut told = Told::by(&place);
    let socket = place.path("notify").display().to_string();
    let mut agent = place.start_with(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "1500000")]);
    told.until(1, "READY=1").await;
    told.until(1, "STATUS=link ready").await;
    hub.taken(1).await;
    // The twin switched the process source off, whose thread waits longer than this watchdog.
    let fed = told.count("WATCHDOG=1");
    told.until(fed + 2, "WATCHDOG=1").await;
    let mark = hub.mark();
    hub.kick();
    hub.connected(mark).await;
    told.until(2, "STATUS=link ready").await;
    let down = "STATUS=link down: the connection was closed by the other side";
    assert!(told.all().iter().any(|line| line.starts_with(down)), "{:?}", told.lines);
    agent.stop().await;
    assert_eq!((told.count("READY=1"), told.count("STOPPING=1")), (1, 1), "{:?}", told.lines);
    let (ready, stopping) = ("READY=1".to_owned(), "STOPPING=1".to_owned());
    let at = |line: &String| told.lines.iter().position(|told| told == line).unwrap();
    assert!(at(&ready) < at(&stopping));
}

#[tokio::test]
async fn it_is_ready_without_a_hub() {
    let hub = Hub::start().await;
    hub.faults(|faults| faults.cut = true);
    let place = Place::new(&hub);
    let mut told = Told::by(&place);
    let socket = place.path("notify").display().to_string();
    let mut agent = place.start_with(&[("NOTIFY_SOCKET", &socket)]);
    told.until(1, "READY=1").await;
    agent.stop().await;
    assert_eq!(told.count("WATCHDOG=1"), 0, "nobody asked for it");
}

#[tokio::test]
async fn a_sign_in_that_hangs_does_not_hold_up_the_end() {
    let hub = Hub::start().await;
    hub.faults(|faults| faults.stall = true);
    let mut agent = Place::new(&hub).start();
    agent.says("agent is running").await;
    agent.status("connecting", |status| (status["link"]["state"] == "connecting").then_some(())).await;
    let asked = tokio::time::Instant::now();
    agent.stop().await;
    assert!(asked.elapsed() < STOP_LIMIT, "{:?}", asked.elapsed());
}

async fn with_a_message_on_the_wire() -> (Hub, Agent) {
    let mut hub = Hub::start().await;
    let agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    hub.faults(|faults| faults.pub_ack = PubAckFault::Withhold);
    hub.provoke("wire");
    hub.provoked("wire").await;
    (hub, agent)
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    let (_hub, mut agent) = with_a_message_on_the_wire().await;
    agent.signal(Signal::TERM);
    // It waits for the acknowledgement now.
    agent.says("stopping signal=SIGTERM").await;
    agent.signal(Signal::TERM);
    assert_eq!(agent.ended().await.code(), Some(143), "{}", agent.log());
    assert!(agent.lines("what is pending is stored").is_empty(), "it was not orderly");
}

#[tokio::test]
async fn an_interrupt_ends_it_as_well() {
    let (_hub, mut agent) = with_a_message_on_the_wire().await;
    agent.signal(Signal::INT);
    assert_eq!(agent.ended().await.code(), Some(0));
    agent.log().lines().find(|line| line.contains("stopped; what is pending is stored")).unwrap();
    assert!(!agent.place().path("run/control.sock").exists());
}

#[tokio::test]
async fn the_control_socket_answers_and_flushes() {
    let mut hub = Hub::quiet().await;
    let agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    let status = agent.status("something waits", |s| (s["low"]["records"].as_u64() > Some(0)).then(|| s.clone())).await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["link"]["identity"], "try-device/azureiotsecurity");
    assert_eq!((&status["twin"]["source"], &status["twin"]["desiredVersion"]), (&json!("hub"), &json!(1)));
    assert!(hub.messages().is_empty());
    assert_eq!(agent.ask(Request::Flush).await.unwrap(), json!({"flushing": true}));
    agent.books_agree(&mut hub).await;
    assert!(!hub.messages().is_empty());
    let shown = agent.place().run(&["status", "--json"]).await;
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["agentId"], status["agentId"]);
}

#[tokio::test]
async fn before_its_first_twin_it_collects_with_the_defaults() {
    // The twin has ListeningPorts off, but the agent cannot know.
    let mut hub = Hub::start().await;
    hub.faults(|faults| faults.cut = true);
    let agent = Place::new(&hub).start();
    let state = |status: &serde_json::Value| {
        status["collectors"].as_array()?.iter().find(|c| c["event"] == "ListeningPorts").map(|c| c["state"].clone())
    };
    let first = agent.status("the snapshot", |s| (state(s)? != "off").then(|| s.clone())).await;
    assert_eq!(first["twin"]["source"], "defaults");
    assert!(first["balance"]["high"]["collected"].as_u64() > Some(0), "{first}");
    hub.faults(|faults| faults.cut = false);
    agent.status("the twin is in force", |s| (state(s)? == "off").then_some(())).await;
    agent.books_agree(&mut hub).await;
    let ports = hub.events().values().filter(|event| event["Name"] == "ListeningPorts").count();
    assert_eq!(ports, 1, "what it found before is kept");
}
