//! Changes of the twin while the agent works: how soon they are in force, how many are taken, and that nothing is lost.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use twinward::lab::{Happening, TwinFault};

use crate::harness::{Agent, Hub, OBJECT, PROVOKED, Place, hits, keys};

/// What a change may take until it is in force and reported.
const SOON: Duration = Duration::from_secs(1);

async fn pair(desired: Value) -> (Hub, Agent) {
    let mut hub = Hub::with(desired).await;
    let agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    (hub, agent)
}

/// How often the agent took a desired section.
fn taken(agent: &Agent) -> usize {
    agent.lines("desired configuration received").len()
}

#[tokio::test]
async fn what_was_collected_before_a_change_stays() {
    // A message that is full leaves before its time, so messages are large here.
    let slow = json!({"highPriorityMessageFrequency": "PT1H", "lowPriorityMessageFrequency": "PT1H",
        "maxMessageSizeInBytes": 204_800});
    let (mut hub, agent) = pair(slow).await;
    // Collected, and due in an hour.
    hub.provoke("waiting");
    agent.status("it is collected", |s| (balance(s, "collected")? >= PROVOKED as u64).then_some(())).await;
    assert!(!hub.events().values().any(|e| e["Name"] == "ConfigurationError"), "nothing leaves before its time");
    hub.patch_desired(keys([("lowPriorityMessageFrequency", json!("PT1S"))])).unwrap();
    // The new frequency counts from the oldest event, so it is due at once and not in an hour.
    hub.provoked("waiting").await;

    // A priority that changes loses nothing of what was collected under the other one, nor does a smaller size.
    for (n, (key, value)) in
        [("eventPriorityConfigurationError", json!("High")), ("maxMessageSizeInBytes", json!(8192))]
            .into_iter()
            .enumerate()
    {
        let mark = format!("change {n}");
        hub.provoke(&mark);
        hub.patch_desired(keys([(key, value), ("highPriorityMessageFrequency", json!("PT1S"))])).unwrap();
        hub.provoked(&mark).await;
    }
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn each_change_is_in_force_and_reported_within_a_second() {
    let (mut hub, agent) = pair(json!({})).await;
    // Other tests may keep the machine busy for a moment, but not for most of the time.
    let mut times = Vec::new();
    for n in 1..=7 {
        let asked = Instant::now();
        let version = hub.patch_desired(keys([("snapshotFrequency", json!(format!("PT{n}H")))])).unwrap();
        hub.taken(version).await;
        times.push(asked.elapsed());
        assert_eq!(hub.reported_now()[OBJECT]["snapshotFrequency"]["value"], format!("PT{n}H"));
    }
    times.sort();
    assert!(times[3] < SOON, "{times:?}");
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn a_change_is_in_force_and_reported_although_the_hub_does_not_give_the_whole_twin() {
    let (mut hub, agent) = pair(json!({})).await;
    hub.faults(|faults| faults.twin_get = Some(TwinFault::Silence));
    // The second and the third come while the first request is under way, which ends after a minute.
    for n in 1..=3 {
        let version = hub.patch_desired(keys([("snapshotFrequency", json!(format!("PT{n}H")))])).unwrap();
        hub.taken(version).await;
        assert_eq!(hub.reported_now()[OBJECT]["snapshotFrequency"]["value"], format!("PT{n}H"));
    }
    let asked = hub.seen().iter().filter(|what| matches!(what, Happening::TwinRead { status: None, .. })).count();
    assert_eq!(asked, 1);
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn a_storm_of_changes_is_a_few_of_them_and_ends_with_the_last() {
    let (mut hub, agent) = pair(json!({})).await;
    let before = taken(&agent);
    let began = Instant::now();
    let mut version = 0;
    for n in 1..=500 {
        version = hub.patch_desired(keys([("maxLocalCacheSizeInBytes", json!(1_000_000 + n))])).unwrap();
        if n % 100 == 0 {
            // The hub keeps 256 notices for a client and closes the connection of one that takes none.
            let what = format!("the notice of version {version}");
            let sent = |what: &Happening| matches!(what, Happening::DesiredSent { version: v } if *v == version);
            hub.until(&what, |seen| seen.iter().any(sent).then_some(())).await;
        }
    }
    hub.taken(version).await;
    assert_eq!(hub.reported_now()[OBJECT]["maxLocalCacheSizeInBytes"]["value"], 1_000_500);
    let sent = hub.seen().iter().filter(|what| matches!(what, Happening::DesiredSent { .. })).count();
    assert_eq!(sent, 500);
    let connections = hub.seen().iter().filter(|what| matches!(what, Happening::Connected { .. })).count();
    assert_eq!(connections, 1);
    // One each half second, one for each answer that was later than that, and one more for the time that is cut off.
    let half_seconds = usize::try_from(began.elapsed().as_millis() / 500).unwrap();
    let most = half_seconds + half_seconds / 2 + 2;
    assert!(taken(&agent) - before <= most, "{} of 500 changes, at most {most}", taken(&agent) - before);
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn a_twin_that_was_too_large_before_the_start_is_reported_as_such() {
    let (mut hub, mut agent) = pair(json!({})).await;
    agent.stop().await;
    // 32 KiB by the hub's count, which takes a control character as one byte; as JSON text it has six.
    let large = (0..7).map(|n| (format!("text{n}"), json!("\u{1}".repeat(4000))));
    hub.patch_desired(json!({ "large": large.collect::<Map<_, _>>() })).unwrap();
    agent.start_again();
    let problem = hub
        .reported("the problem", |reported| {
            let problems = reported["twinward"]["problems"].as_array()?;
            problems.iter().find(|problem| problem["key"] == "TwinConfiguration").cloned()
        })
        .await;
    assert!(problem["expected"].as_str().unwrap().contains("remove what is not needed"), "{problem}");
    assert_eq!(problem["inForce"], "the configuration from before (last good)");
    let version = hub.patch_desired(json!({ "large": null })).unwrap();
    hub.taken(version).await;
    assert_eq!(hub.reported_now()["twinward"]["problems"], json!([]));
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn a_twin_as_large_and_as_deep_as_the_hub_allows_is_taken() {
    let (mut hub, agent) = pair(json!({})).await;
    // Ten levels below the section, and as many members as fit in 32 KB; the hub refuses one more.
    let deep = (0..8).fold(json!(1), |inner, _| json!({ "level": inner }));
    let mut members = Map::from_iter([("tower".to_owned(), deep)]);
    for n in 0..40 {
        members.insert(format!("filler{n:02}"), json!({"value": "x".repeat(790)}));
    }
    members.insert("snapshotFrequency".to_owned(), json!({"value": "PT3H"}));
    let mut fits = None;
    for n in 0..40 {
        match hub.replace_desired(json!({ OBJECT: members })) {
            Ok(version) => {
                fits = Some((version, n));
                break;
            }
            Err(_) => {
                members.remove(&format!("filler{n:02}"));
            }
        }
    }
    let (version, left_out) = fits.unwrap();
    assert!(left_out <= 2, "{left_out} members did not fit: the twin is far from full");
    assert!(Value::from(members).to_string().len() > 31_000);
    hub.taken(version).await;
    let reported = hub.reported_now();
    assert_eq!(reported[OBJECT]["snapshotFrequency"]["value"], "PT3H");
    // The reported section has the same limit, so that the last of the unknown keys are only counted.
    assert!(reported["twinward"]["problemCount"].as_u64().unwrap() >= 39, "{reported:#}");
    assert!(!hub.seen().iter().any(|what| matches!(what, Happening::ReportRefused { .. })));
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn an_identity_that_is_made_anew_is_taken_with_its_lower_versions() {
    let (mut hub, mut agent) = pair(json!({})).await;
    for n in 1..=5 {
        let version = hub.patch_desired(keys([("snapshotFrequency", json!(format!("PT{n}H")))])).unwrap();
        hub.taken(version).await;
    }
    let mark = hub.mark();
    let anew = Map::from_iter([(OBJECT.to_owned(), json!({"hubResourceId": {"value": "new"}}))]);
    assert!(hub.make_anew(hub.module(), &anew).unwrap());
    hub.connected(mark).await;
    hub.taken(1).await;
    let reported = hub.reported_now();
    assert_eq!(reported[OBJECT]["hubResourceId"]["value"], "new");
    assert_eq!(reported[OBJECT]["snapshotFrequency"]["value"], "PT13H", "the old twin's values are gone");
    let version = hub.patch_desired(keys([("hubResourceId", json!("newer"))])).unwrap();
    assert_eq!(version, 2);
    hub.taken(2).await;
    assert_eq!(hub.reported_now()[OBJECT]["hubResourceId"]["value"], "newer");
    // The same after a restart.
    agent.kill();
    agent.start_again();
    agent.linked().await;
    agent.status("the stored version", |s| (s["twin"]["desiredVersion"] == 2).then_some(())).await;
    agent.books_agree(&mut hub).await;
    assert!(hub.events().values().all(|e| hits(e) > 0));
}

fn balance(status: &Value, account: &str) -> Option<u64> {
    Some(status["balance"]["high"][account].as_u64()? + status["balance"]["low"][account].as_u64()?)
}
