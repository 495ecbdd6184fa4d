//! The desired twin as the agent takes it: what is applied, what is refused and how that is told.

use serde_json::{Value, json};
use twinward::lab::Happening;

use crate::harness::{Agent, Hub, OBJECT, Place, eventually, keys};

async fn pair() -> (Hub, Agent) {
    let mut hub = Hub::start().await;
    let agent = Place::new(&hub).start();
    agent.linked().await;
    hub.taken(1).await;
    (hub, agent)
}

/// The reported value of a key.
fn value<'a>(reported: &'a Value, key: &str) -> &'a Value {
    &reported[OBJECT][key]["value"]
}

/// The problem that is reported for a key.
fn problem<'a>(reported: &'a Value, key: &str) -> Option<&'a Value> {
    reported["twinward"]["problems"].as_array()?.iter().find(|problem| problem["key"] == key)
}

/// Waits for the ConfigurationError event about a key; gives its payload item.
async fn told(hub: &mut Hub, key: &str) -> Value {
    eventually(&format!("a ConfigurationError about {key}"), || {
        let found = hub.events().into_values().find(|e| e["Payload"][0]["ConfigurationName"] == key);
        std::future::ready(found.map(|event| {
            assert_eq!((&event["Name"], &event["EventType"]), (&json!("ConfigurationError"), &json!("Operational")));
            event["Payload"][0].clone()
        }))
    })
    .await
}

#[tokio::test]
async fn each_bad_key_is_told_and_its_good_neighbours_are_applied() {
    let (mut hub, agent) = pair().await;
    let version = hub
        .patch_desired(keys([
            ("snapshotFrequency", json!("often")),
            ("maxLocalCacheSizeInBytes", json!("4 MB")),
            ("eventPriorityLogin", json!(3)),
            ("aggregationEnabledProcessCreate", json!("yes")),
            ("eventPriorityLocalUsers", json!("Low")),
            ("lowPriorityMessageFrequency", json!("PT2S")),
        ]))
        .unwrap();
    hub.taken(version).await;
    let reported = hub.reported_now();
    let bad = [
        ("snapshotFrequency", "PT13H", "an ISO-8601 duration such as PT7M, from PT5S to P365D"),
        ("maxLocalCacheSizeInBytes", "2560000", "a whole number from 8192 to 1073741824"),
        ("eventPriorityLogin", "High", "High, Low or Off"),
        ("aggregationEnabledProcessCreate", "true", "true or false"),
    ];
    assert_eq!(reported["twinward"]["problemCount"], bad.len());
    for (key, in_force, expected) in bad {
        let problem = problem(&reported, key).unwrap();
        assert_eq!(problem["kind"], "TypeMismatch", "{problem}");
        assert_eq!(problem["inForce"], in_force, "{problem}");
        assert_eq!(problem["expected"], expected, "{problem}");
        assert_eq!(problem["given"], hub.desired()[OBJECT][key].to_string(), "{problem}");
        let item = told(&mut hub, key).await;
        assert_eq!((&item["ErrorType"], &item["UsedConfiguration"]), (&json!("TypeMismatch"), &json!(in_force)));
        assert!(item["Message"].as_str().unwrap().contains(expected), "{item}");
    }
    assert_eq!(value(&reported, "snapshotFrequency"), "PT13H");
    assert_eq!(value(&reported, "eventPriorityLocalUsers"), "Low");
    assert_eq!(value(&reported, "lowPriorityMessageFrequency"), "PT2S");

    // All is well again: no problem is left, and no further event was made.
    let mend = keys([
        ("snapshotFrequency", json!("PT1H")),
        ("maxLocalCacheSizeInBytes", json!(4_000_000)),
        ("eventPriorityLogin", json!("Low")),
        ("aggregationEnabledProcessCreate", json!(false)),
    ]);
    let version = hub.patch_desired(mend).unwrap();
    hub.taken(version).await;
    assert_eq!(hub.reported_now()["twinward"]["problems"], json!([]));
    agent.books_agree(&mut hub).await;
    let errors = hub.events().into_values().filter(|e| e["Name"] == "ConfigurationError").count();
    assert_eq!(errors, bad.len());
}

#[tokio::test]
async fn values_without_their_object_are_refused_and_the_object_itself_may_be_anything() {
    let (mut hub, agent) = pair().await;
    let version =
        hub.patch_desired(json!({ OBJECT: {"snapshotFrequency": "PT1H", "hubResourceId": {"value": "kept"}} }));
    hub.taken(version.unwrap()).await;
    let reported = hub.reported_now();
    assert_eq!(problem(&reported, "snapshotFrequency").unwrap()["given"], "\"PT1H\"");
    assert_eq!(value(&reported, "snapshotFrequency"), "PT13H");
    assert_eq!(value(&reported, "hubResourceId"), "kept");
    assert!(
        told(&mut hub, "snapshotFrequency").await["Message"].as_str().unwrap().contains("an object {\"value\": …}")
    );

    for object in [json!("a text"), json!([1, 2]), json!(7)] {
        let version = hub.patch_desired(json!({ OBJECT: object })).unwrap();
        hub.taken(version).await;
        let reported = hub.reported_now();
        let problem = problem(&reported, OBJECT).unwrap();
        assert_eq!(problem["inForce"], "the configuration from before");
        assert_eq!(value(&reported, "hubResourceId"), "kept", "everything stays in force");
    }
    let item = told(&mut hub, OBJECT).await;
    assert!(item["Message"].as_str().unwrap().contains("an object with one member for each property"), "{item}");
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn sizes_out_of_bounds_are_refused_at_each_bound() {
    let (mut hub, agent) = pair().await;
    for (key, value) in [
        ("maxMessageSizeInBytes", json!(8191)),
        ("maxMessageSizeInBytes", json!(262_145)),
        ("maxMessageSizeInBytes", json!(-1)),
        ("maxMessageSizeInBytes", json!(8192.5)),
        ("maxLocalCacheSizeInBytes", json!(8191)),
        ("maxLocalCacheSizeInBytes", json!(1_073_741_825)),
        ("snapshotFrequency", json!("PT4S")),
        ("highPriorityMessageFrequency", json!("PT0S")),
        ("lowPriorityMessageFrequency", json!("P1M")),
    ] {
        let before = hub.reported_now()[OBJECT][key].clone();
        let version = hub.patch_desired(keys([(key, value.clone())])).unwrap();
        hub.taken(version).await;
        let reported = hub.reported_now();
        assert!(problem(&reported, key).is_some(), "{key} = {value}: {reported:#}");
        assert_eq!(reported[OBJECT][key], before, "{key} = {value}");
    }
    let version = hub
        .patch_desired(keys([("maxMessageSizeInBytes", json!(262_144)), ("maxLocalCacheSizeInBytes", json!(262_144))]))
        .unwrap();
    hub.taken(version).await;
    let reported = hub.reported_now();
    assert!(problem(&reported, "maxMessageSizeInBytes").is_none(), "{reported:#}");
    assert_eq!(value(&reported, "maxMessageSizeInBytes"), 262_144);
    assert_eq!(value(&reported, "maxLocalCacheSizeInBytes"), 262_144);
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn a_deep_twin_and_unknown_keys_harm_nothing() {
    let (mut hub, agent) = pair().await;
    // As deep as the hub lets through: ten levels below the section.
    let deep = (0..9).fold(json!({"value": 1}), |inner, _| json!({ "level": inner }));
    assert!(hub.patch_desired(json!({ "a": { "b": deep } })).is_err(), "the hub itself refuses more");
    let version = hub
        .patch_desired(json!({ OBJECT: {"snapshotFrequenzy": {"value": "PT1H"}, "tower": deep["level"]["level"]} }))
        .unwrap();
    hub.taken(version).await;
    let reported = hub.reported_now();
    let unknown = problem(&reported, "snapshotFrequenzy").unwrap();
    assert_eq!((&unknown["kind"], &unknown["inForce"]), (&json!("Unknown"), &json!("")));
    assert!(unknown["expected"].as_str().unwrap().contains("perhaps snapshotFrequency"), "{unknown}");
    assert!(problem(&reported, "tower").is_some());
    agent.books_agree(&mut hub).await;
    assert!(!hub.events().values().any(|e| e["Name"] == "ConfigurationError"), "not a published kind of error");
}

#[tokio::test]
async fn a_twin_that_is_too_large_is_told_and_what_is_in_force_stays() {
    let (mut hub, mut agent) = pair().await;
    // 32 KiB by the hub's count, which takes a control character as one byte; as JSON text it has six.
    let text = "\u{1}".repeat(4000);
    let large: Value = (0..7).map(|n| (format!("text{n}"), json!(text))).collect::<serde_json::Map<_, _>>().into();
    hub.patch_desired(json!({ "large": large })).unwrap();
    let line = agent.says("key=TwinConfiguration").await;
    assert!(line.contains("remove what is not needed from the desired properties"), "{line}");
    let item = told(&mut hub, "TwinConfiguration").await;
    assert_eq!(
        (&item["ErrorType"], &item["UsedConfiguration"]),
        (&json!("TypeMismatch"), &json!("the configuration from before (hub)"))
    );
    hub.reported("the problem", |reported| problem(reported, "TwinConfiguration").map(|_| ())).await;
    agent.books_agree(&mut hub).await;
    assert_eq!(hub.reported_now()["twinward"]["desiredVersion"], 1);
    // It asks again, and finds the same: that is nothing to report.
    let mark = hub.mark();
    for again in ["once more", "and again"] {
        let from = hub.mark();
        hub.until_after(from, again, |what| matches!(what, Happening::TwinRead { .. }).then_some(())).await;
    }
    let told = hub.seen().iter().skip(mark).filter(|what| matches!(what, Happening::Reported { .. }));
    assert_eq!(told.count(), 0);
    // It asks again with pauses, and takes the twin when it is small again.
    let asked = hub.seen().iter().filter(|what| matches!(what, Happening::TwinRead { .. })).count();
    assert!(asked <= 4, "{asked} requests for the twin");
    let version = hub.patch_desired(json!({"large": null, OBJECT: {"hubResourceId": {"value": "small"}}})).unwrap();
    hub.taken(version).await;
    assert_eq!(value(&hub.reported_now(), "hubResourceId"), "small");
    assert!(problem(&hub.reported_now(), "TwinConfiguration").is_none());
    let about = hub.events().into_values().filter(|e| e["Payload"][0]["ConfigurationName"] == "TwinConfiguration");
    assert_eq!(about.count(), 1, "told once");
    let connects = hub.seen().iter().filter(|what| matches!(what, Happening::Connected { .. })).count();
    assert_eq!(connects, 1, "the link stood all the time");
}

#[tokio::test]
async fn a_missed_notice_is_healed_by_asking_for_the_twin() {
    let (mut hub, _agent) = pair().await;
    hub.faults(|faults| faults.miss_desired_notices = true);
    hub.patch_desired(keys([("hubResourceId", json!("missed"))])).unwrap();
    hub.faults(|faults| faults.miss_desired_notices = false);
    let version = hub.patch_desired(keys([("snapshotFrequency", json!("PT2H"))])).unwrap();
    hub.taken(version).await;
    let reported = hub.reported_now();
    assert_eq!(value(&reported, "hubResourceId"), "missed");
    assert_eq!(value(&reported, "snapshotFrequency"), "PT2H");
}

#[tokio::test]
async fn a_notice_that_comes_twice_is_taken_once() {
    let (mut hub, mut agent) = pair().await;
    hub.faults(|faults| faults.duplicate_desired_notices = true);
    let version = hub.patch_desired(keys([("snapshotFrequency", json!("twice"))])).unwrap();
    hub.taken(version).await;
    let version = hub.patch_desired(keys([("snapshotFrequency", json!("PT2H"))])).unwrap();
    hub.taken(version).await;
    agent.says("desired configuration received version=3").await;
    assert_eq!(agent.lines("desired configuration received version=2").len(), 1, "{}", agent.log());
    assert_eq!(agent.lines("desired configuration received version=3").len(), 1, "{}", agent.log());
    told(&mut hub, "snapshotFrequency").await;
    agent.books_agree(&mut hub).await;
    assert_eq!(hub.events().values().filter(|e| e["Name"] == "ConfigurationError").count(), 1);
}

#[tokio::test]
async fn a_change_while_disconnected_is_taken_at_the_next_sign_in() {
    let (mut hub, agent) = pair().await;
    hub.faults(|faults| faults.cut = true);
    agent.status("down", |status| (status["link"]["state"] != "ready").then_some(())).await;
    let version = hub.patch_desired(keys([("hubResourceId", json!("meanwhile"))])).unwrap();
    hub.faults(|faults| faults.cut = false);
    hub.taken(version).await;
    assert_eq!(value(&hub.reported_now(), "hubResourceId"), "meanwhile");
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn keys_that_a_replacement_removes_fall_back_to_their_defaults() {
    let (mut hub, _agent) = pair().await;
    let version =
        hub.patch_desired(keys([("hubResourceId", json!("x")), ("snapshotFrequency", json!("PT2H"))])).unwrap();
    hub.taken(version).await;
    let version = hub
        .replace_desired(keys([("hubResourceId", json!("y")), ("eventPriorityProcessCreate", json!("Off"))]))
        .unwrap();
    // The notice does not say what is gone. Nevertheless no report of this version is without it.
    hub.taken(version).await;
    let reported = hub.reported_now();
    assert_eq!(value(&reported, "snapshotFrequency"), "PT13H");
    assert_eq!(value(&reported, "hubResourceId"), "y");
    assert_eq!(value(&reported, "highPriorityMessageFrequency"), "PT7M");
    assert_eq!(value(&reported, "eventPriorityProcessCreate"), "Off");
    let halves = hub.reported_by_and_by();
    let half = halves.iter().find(|r| value(r, "hubResourceId") == "y" && value(r, "snapshotFrequency") != "PT13H");
    assert_eq!(half, None);
}

#[tokio::test]
async fn of_twenty_changes_at_once_the_last_wins() {
    let (mut hub, agent) = pair().await;
    let mut version = 0;
    for n in 1..=20 {
        let change =
            keys([("snapshotFrequency", json!(format!("PT{n}H"))), ("maxLocalCacheSizeInBytes", json!(1_000_000 + n))]);
        version = hub.patch_desired(change).unwrap();
    }
    hub.taken(version).await;
    let reported = hub.reported_now();
    assert_eq!(value(&reported, "snapshotFrequency"), "PT20H");
    assert_eq!(value(&reported, "maxLocalCacheSizeInBytes"), 1_000_020);
    // Whatever was in force between: both keys were of the same change.
    for reported in hub.reported_by_and_by() {
        let hours = value(&reported, "snapshotFrequency").as_str().unwrap();
        let size = value(&reported, "maxLocalCacheSizeInBytes").as_u64().unwrap();
        let n = hours.trim_start_matches("PT").trim_end_matches('H');
        assert!(
            size == 1_000_000 + n.parse::<u64>().unwrap() || (hours, size) == ("PT13H", 2_560_000),
            "{hours} {size}"
        );
    }
    let desired = hub.desired();
    for (key, wanted) in desired[OBJECT].as_object().unwrap() {
        assert_eq!(&reported[OBJECT][key], wanted, "{key}: reported equals desired");
    }
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn the_older_form_of_the_twin_is_taken_with_a_word_about_it() {
    const OLDER: &str = "azureiot*com^securityAgentConfiguration^1*0*0";
    let (mut hub, mut agent) = pair().await;
    let version = hub
        .replace_desired(json!({ OLDER: {"highPriorityMessageFrequency": "PT1S", "lowPriorityMessageFrequency": "PT2S",
            "snapshotFrequency": "PT3H", "eventPriorityLogin": "low", "maxMessageSizeInBytes": 1} }))
        .unwrap();
    hub.taken(version).await;
    agent.says(&format!("key={OLDER}")).await;
    let reported = hub.reported_now();
    assert_eq!(value(&reported, "snapshotFrequency"), "PT3H");
    assert_eq!(
        (value(&reported, "lowPriorityMessageFrequency"), value(&reported, "eventPriorityLogin")),
        (&json!("PT2S"), &json!("Low"))
    );
    assert_eq!(problem(&reported, OLDER).unwrap()["kind"], "Outdated");
    assert_eq!(problem(&reported, "maxMessageSizeInBytes").unwrap()["kind"], "TypeMismatch");
    // The current object comes back and counts.
    let version = hub.patch_desired(keys([("snapshotFrequency", json!("PT4H"))])).unwrap();
    hub.taken(version).await;
    assert_eq!(value(&hub.reported_now(), "snapshotFrequency"), "PT4H");
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn the_configuration_object_can_have_another_name() {
    let (mut hub, mut agent) = pair().await;
    assert!(hub.reported_now().get(OBJECT).is_some());
    agent.stop().await;
    agent.place().edit("[storage]", "[twin]\nobject = \"mySecurity\"\n[storage]");
    agent.start_again();
    let version = hub.patch_desired(json!({"mySecurity": {"snapshotFrequency": {"value": "PT3H"}}})).unwrap();
    hub.taken(version).await;
    let reported = hub.reported_now();
    assert_eq!(reported["mySecurity"]["snapshotFrequency"]["value"], "PT3H");
    assert_eq!(reported["mySecurity"]["highPriorityMessageFrequency"]["value"], "PT7M", "the other object is not ours");
    assert!(reported.get(OBJECT).is_none(), "it would be taken for what is in force");
}

#[tokio::test]
async fn the_resource_id_is_a_property_of_each_message() {
    let (mut hub, _agent) = pair().await;
    let ids = |hub: &mut Hub| -> Vec<Option<String>> {
        let seen = hub.seen().iter();
        seen.filter_map(|what| match what {
            Happening::Telemetry(message) => Some(message.properties.get("HubResourceId").cloned()),
            _ => None,
        })
        .collect()
    };
    hub.provoked_now("before").await;
    assert!(ids(&mut hub).iter().all(Option::is_none));
    let id = "/subscriptions/0 & more/=#+";
    let version = hub.patch_desired(keys([("hubResourceId", json!(id))])).unwrap();
    hub.taken(version).await;
    let before = ids(&mut hub).len();
    hub.provoked_now("after").await;
    let ids = ids(&mut hub);
    assert!(ids.len() > before && ids[before..].iter().all(|given| given.as_deref() == Some(id)), "{ids:?}");
}

#[tokio::test]
async fn custom_checks_of_the_twin_are_reported_and_never_run() {
    let (mut hub, agent) = pair().await;
    let trap = agent.place().path("trap");
    let path = format!("/bin/sh -c 'touch {0}'; touch {0} `touch {0}` $(touch {0})", trap.display());
    let version = hub
        .patch_desired(keys([
            ("baselineCustomChecksEnabled", json!(true)),
            ("baselineCustomChecksFilePath", json!(path)),
            ("baselineCustomChecksFileHash", json!("; reboot")),
            ("eventPriorityOSBaseline", json!("High")),
            ("snapshotFrequency", json!("PT5S")),
        ]))
        .unwrap();
    hub.taken(version).await;
    assert_eq!(value(&hub.reported_now(), "baselineCustomChecksFilePath"), &json!(path));
    // It is said what is amiss; the checks that come with the program are made nevertheless.
    let detail = baseline_says(&agent, "expected the name of a .toml file directly in /etc/twinward/baseline.d").await;
    assert!(detail.contains("custom checks: baselineCustomChecksFilePath is \"/bin/sh -c"), "{detail}");
    let made = eventually("OSBaseline", || {
        std::future::ready(hub.events().into_values().find(|event| event["Name"] == "OSBaseline"))
    })
    .await;
    let items = made["Payload"].as_array().unwrap();
    assert!(items.iter().all(|item| item["ExtraDetails"]["Source"] == "builtin"), "{items:#?}");

    // Each next word of the twin reaches the next round.
    for (change, said) in [
        (
            keys([("baselineCustomChecksFilePath", json!("never-there.toml"))]),
            "/etc/twinward/baseline.d/never-there.toml does not exist",
        ),
        (keys([("baselineCustomChecksFileHash", Value::Null)]), "is given without baselineCustomChecksFileHash"),
    ] {
        let version = hub.patch_desired(change).unwrap();
        hub.taken(version).await;
        baseline_says(&agent, said).await;
    }
    let version = hub.patch_desired(keys([("baselineCustomChecksEnabled", json!(false))])).unwrap();
    hub.taken(version).await;
    let state = |status: &Value| {
        let of = status["collectors"].as_array()?.iter().find(|c| c["event"] == "OSBaseline")?.clone();
        (!of["detail"].as_str()?.contains("custom checks: baseline")).then_some(())
    };
    agent.status("no word about custom checks", state).await;
    assert!(!trap.exists());
}

/// Waits until the health of OSBaseline says so; gives all that it says.
async fn baseline_says(agent: &Agent, words: &str) -> String {
    let find = |status: &Value| {
        let of = status["collectors"].as_array()?.iter().find(|c| c["event"] == "OSBaseline")?.clone();
        of["detail"].as_str().filter(|detail| detail.contains(words)).map(str::to_owned)
    };
    agent.status(words, find).await
}
