//! What was collected outlives the process, however it ends, and an agent without a hub.

use rustix::process::Signal;
use serde_json::{Value, json};
use twinward::lab::PubAckFault;

use crate::harness::{Agent, Hub, OBJECT, PROVOKED, Place, STOP_LIMIT, balance_holds, eventually, keys};

#[tokio::test]
async fn after_a_kill_what_was_on_the_wire_comes_again_as_it_was() {
    let mut hub = Hub::start().await;
    let mut agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    agent.books_agree(&mut hub).await;
    hub.faults(|faults| faults.pub_ack = PubAckFault::Withhold);
    hub.provoke("killed");
    let first = hub.provoked("killed").await;
    agent.kill();
    let mark = hub.mark();
    hub.faults(|faults| faults.pub_ack = PubAckFault::None);
    agent.start_again();
    hub.connected(mark).await;
    agent.books_agree(&mut hub).await;
    for message in &first {
        let same: Vec<_> = hub.messages().into_iter().filter(|m| m.mid == message.mid).collect();
        assert!(same.len() == 2 && same.iter().all(|m| m == message), "{same:#?}");
    }
    // The time without an agent is told.
    let gaps = agent.status("the status", |status| Some(status["gaps"].clone())).await;
    assert!(gaps.as_array().unwrap().iter().any(|gap| gap["source"] == "agent"), "{gaps}");
    assert_eq!(agent.lines("agent ended without a clean stop").len(), 1, "{}", agent.log());
}

/// The balance that the last stop logged: collected, delivered, dropped, pending of both queues.
fn last_words(agent: &Agent) -> Vec<[u64; 4]> {
    let lines = agent.lines(" balance ");
    let number = |line: &str, name: &str| -> u64 {
        let (_, rest) = line.split_once(&format!("{name}=")).unwrap();
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let last = lines.iter().rev().take(2).rev();
    last.map(|line| ["collected", "delivered", "dropped", "pending"].map(|name| number(line, name))).collect()
}

fn of_status(status: &Value) -> Vec<[u64; 4]> {
    let of = |queue: &str| {
        let account = &status["balance"][queue];
        let [collected, delivered, pending] =
            ["collected", "delivered", "pending"].map(|name| account[name].as_u64().unwrap());
        [collected, delivered, 0, pending]
    };
    ["high", "low"].map(of).to_vec()
}

#[tokio::test]
async fn a_stop_keeps_everything_for_the_next_start() {
    let mut hub = Hub::start().await;
    let mut agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    agent.books_agree(&mut hub).await;
    hub.faults(|faults| faults.pub_ack = PubAckFault::Withhold);
    hub.provoke("kept");
    hub.provoked("kept").await;
    // From here on nothing new is collected, now and after the start.
    let off = ["SystemInformation", "ConfigurationError", "DroppedEventsStatistics", "MessageStatistics"];
    let names = off.map(|name| format!("eventPriority{name}"));
    let version = hub.patch_desired(keys(names.iter().map(|name| (name.as_str(), json!("Off"))))).unwrap();
    hub.taken(version).await;
    agent.stop().await;
    let stopped = last_words(&agent);
    assert_eq!(stopped.len(), 2, "{}", agent.log());
    assert!(stopped[1][3] >= PROVOKED as u64, "{stopped:?}");

    hub.faults(|faults| {
        faults.cut = true;
        faults.pub_ack = PubAckFault::None;
    });
    agent.start_again();
    let status = agent.status("the status", |status| Some(status.clone())).await;
    balance_holds(&status);
    assert_eq!(of_status(&status), stopped);
    assert_eq!(status["twin"]["source"], "last good");
    hub.faults(|faults| faults.cut = false);
    agent.books_agree(&mut hub).await;
    let status = agent.status("the status", |status| Some(status.clone())).await;
    assert_eq!(of_status(&status).map_collected(), stopped.map_collected(), "nothing was collected since");
    assert!(agent.lines("gap in what was watched").iter().all(|line| !line.contains("crash")), "{}", agent.log());
}

trait Collected {
    fn map_collected(&self) -> Vec<u64>;
}

impl Collected for Vec<[u64; 4]> {
    fn map_collected(&self) -> Vec<u64> {
        self.iter().map(|account| account[0]).collect()
    }
}

#[tokio::test]
async fn a_start_without_the_hub_uses_the_last_good_twin_and_delivers_later() {
    let mut hub = Hub::start().await;
    let mut agent = Place::new(&hub).start();
    agent.linked().await;
    let choice =
        keys([("eventPrioritySystemInformation", json!("High")), ("eventPriorityMessageStatistics", json!("Off"))]);
    let version = hub.patch_desired(choice).unwrap();
    hub.taken(version).await;
    agent.books_agree(&mut hub).await;
    agent.stop().await;
    hub.faults(|faults| faults.cut = true);
    let before = hub.events();
    agent.start_again();
    let status = agent
        .status("something is collected offline", |status| {
            let collectors = status["collectors"].as_array().unwrap();
            let state = |name: &str| collectors.iter().find(|c| c["event"] == name).map(|c| c["state"].clone());
            let all = state("SystemInformation").is_some() && status["balance"]["high"]["pending"].as_u64() > Some(0);
            all.then(|| {
                assert_eq!(state("SystemInformation").unwrap(), "ok");
                assert_eq!(state("ListeningPorts").unwrap(), "off");
                assert_eq!(state("ProcessCreate").unwrap(), "off");
                status.clone()
            })
        })
        .await;
    assert_eq!((&status["twin"]["source"], &status["twin"]["desiredVersion"]), (&json!("last good"), &json!(version)));
    agent.says("starting with the last good desired configuration").await;
    assert_eq!(hub.events().len(), before.len());
    hub.faults(|faults| faults.cut = false);
    agent.linked().await;
    agent.books_agree(&mut hub).await;
    let after: Vec<String> = hub
        .events()
        .into_iter()
        .filter(|(id, _)| !before.contains_key(id))
        .map(|(_, event)| event["Name"].as_str().unwrap().to_owned())
        .collect();
    assert!(after.contains(&"SystemInformation".to_owned()), "{after:?}");
    assert!(after.iter().all(|name| name == "SystemInformation" || name == "DroppedEventsStatistics"), "{after:?}");
    assert_eq!(hub.reported_now()[OBJECT]["eventPrioritySystemInformation"]["value"], "High");
}

#[tokio::test]
async fn a_stop_that_a_dead_hub_holds_up_ends_in_time_and_keeps_everything() {
    for cut in [false, true] {
        let mut hub = Hub::start().await;
        let mut agent = Place::new(&hub).start();
        agent.linked().await;
        hub.taken(1).await;
        agent.books_agree(&mut hub).await;
        hub.faults(|faults| faults.stall = true);
        hub.provoke("late");
        agent.status("on the wire", |status| (status["inFlight"].as_u64() > Some(0)).then_some(())).await;
        if cut {
            hub.faults(|faults| faults.cut = true);
        }
        let asked = tokio::time::Instant::now();
        agent.signal(Signal::TERM);
        let status = agent.ended().await;
        let took = asked.elapsed();
        assert_eq!(status.code(), Some(0), "{}", agent.log());
        assert!(took < STOP_LIMIT, "cut {cut}: {took:?}");
        hub.faults(|faults| {
            faults.stall = false;
            faults.cut = false;
        });
        agent.start_again();
        agent.linked().await;
        hub.provoked("late").await;
        agent.books_agree(&mut hub).await;
    }
}

#[tokio::test]
async fn a_problem_of_the_twin_is_told_though_the_power_went_before_its_event_was_stored() {
    let mut hub = Hub::quiet().await;
    let mut agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    let version = hub.patch_desired(keys([("snapshotFrequency", json!("at dusk"))])).unwrap();
    hub.taken(version).await;
    let stored = agent.place().path("state/last-desired.json");
    eventually("the section is stored", || {
        std::future::ready(std::fs::read_to_string(&stored).unwrap().contains("at dusk").then_some(()))
    })
    .await;
    agent.kill();
    // What a power cut takes.
    std::fs::remove_dir_all(agent.place().path("run")).unwrap();
    let told = |hub: &mut Hub| {
        hub.events().values().filter(|e| e["Payload"][0]["ConfigurationName"] == "snapshotFrequency").count()
    };
    agent.start_again();
    agent.linked().await;
    agent.books_agree(&mut hub).await;
    // Twice if it was stored by chance, with an important event: then nobody can know.
    let times = told(&mut hub);
    assert!((1..=2).contains(&times), "{times}");
    // After a stop that stored it, it is not told again.
    agent.stop().await;
    agent.start_again();
    agent.linked().await;
    hub.taken(version).await;
    agent.books_agree(&mut hub).await;
    assert_eq!(told(&mut hub), times);
}
