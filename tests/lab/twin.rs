//! Twins and direct methods over the wire.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use twinward::lab::{Happening, LabOptions, MethodError, ModuleId, TwinError};

use super::client::{Client, Got, NOTICES, PATIENCE, TWIN_ANSWERS, lab, until, with};

fn small() -> LabOptions {
    LabOptions { desired: json!({"a": {"value": 1}}).as_object().unwrap().clone(), ..LabOptions::default() }
}

async fn answer(client: &mut Client) -> (String, Value) {
    match client.read().await {
        Got::Publish { topic, body } => (topic, serde_json::from_str(&body).unwrap_or(Value::Null)),
        other => panic!("{other:?}"),
    }
}

async fn report(client: &mut Client, query: &str, body: &str) -> (String, Value) {
    let topic = format!("$iothub/twin/PATCH/properties/reported/?{query}");
    client.publish_as(0x30, &topic, 0, body.as_bytes()).await;
    answer(client).await
}

#[tokio::test]
async fn the_twin_is_read_by_those_who_listen() {
    let (lab, mut watcher) = with(small()).await;
    let mut client = Client::sign_in(&lab).await;
    let get = "$iothub/twin/GET/?$rid=42";
    client.publish_as(0x30, get, 0, b"").await;
    assert_eq!(client.ping().await, []);
    client.subscribe(TWIN_ANSWERS).await;
    client.publish(get, 3, b"").await;
    let (topic, body) = answer(&mut client).await;
    assert_eq!(topic, "$iothub/twin/res/200/?$rid=42");
    assert_eq!(body, json!({"desired": {"a": {"value": 1}, "$version": 1}, "reported": {"$version": 1}}));
    assert_eq!(client.read().await, Got::PubAck(3));
    let status = |what: &Happening| match what {
        Happening::TwinRead { status, .. } => Some(*status),
        _ => None,
    };
    assert_eq!(until(&mut watcher, status).await, None);
    assert_eq!(until(&mut watcher, status).await, Some(200));
}

#[tokio::test]
async fn reports_merge_or_are_refused_with_the_hubs_status() {
    let (lab, _watcher) = with(small()).await;
    let mut client = Client::sign_in(&lab).await;
    client.subscribe(TWIN_ANSWERS).await;
    let taken = report(&mut client, "$rid=1", r#"{"x":{"y":1,"z":2}}"#).await;
    assert_eq!(taken, ("$iothub/twin/res/204/?$rid=1&$version=2".into(), Value::Null));
    let taken = report(&mut client, "$rid=2&$version=2", r#"{"x":{"y":null}}"#).await;
    assert_eq!(taken.0, "$iothub/twin/res/204/?$rid=2&$version=3");
    let large = json!({"b": vec!["t".repeat(4000); 9]}).to_string();
    for (rid, query, body, status) in [
        (3, "&$version=2", r#"{"x":1}"#, 412),
        (4, "", r#"{"a b":1}"#, 400),
        (5, "", "[]", 400),
        (6, "", large.as_str(), 413),
        (7, "", r#"{"n":4503599627370496}"#, 400),
    ] {
        let (topic, error) = report(&mut client, &format!("$rid={rid}{query}"), body).await;
        assert_eq!(topic, format!("$iothub/twin/res/{status}/?$rid={rid}"));
        assert_eq!(error["errorCode"], status * 1000 + 1, "{error}");
    }
    assert_eq!(lab.reported(), json!({"x": {"z": 2}, "$version": 3}));
}

#[tokio::test]
async fn desired_changes_are_noticed_by_those_who_are_there() {
    let (lab, mut watcher) = with(small()).await;
    let mut client = Client::sign_in(&lab).await;
    client.subscribe(NOTICES).await;
    assert_eq!(lab.patch_desired(json!({"b": {"value": 2}, "gone": null})), Ok(2));
    let (topic, body) = answer(&mut client).await;
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(body, json!({"b": {"value": 2}, "gone": null, "$version": 2}), "a notice is the patch as it was made");
    assert_eq!(lab.replace_desired(json!({"c": 3})), Ok(3));
    assert_eq!(answer(&mut client).await.1, json!({"c": 3, "$version": 3}), "a replacement is the whole document");
    assert!(matches!(lab.patch_desired(json!({"a.b": 1})), Err(TwinError::Name(_))));
    assert!(matches!(lab.patch_desired_of(&ModuleId::new("x", "y"), json!({})), Err(TwinError::NoModule(_))));
    drop(client);
    super::client::disconnected(&mut watcher).await;
    assert_eq!(lab.patch_desired(json!({"d": 4})), Ok(4));
    let mut client = Client::sign_in(&lab).await;
    client.subscribe(NOTICES).await;
    assert_eq!(client.ping().await, [], "what was changed meanwhile is not sent again");
    assert_eq!(lab.desired(), json!({"c": 3, "d": 4, "$version": 4}));
}

#[tokio::test]
async fn a_method_is_called_and_answered() {
    let (lab, mut watcher) = lab().await;
    let mut client = Client::sign_in(&lab).await;
    let call = |wait| lab.invoke_method("collect", &Value::Null, wait);
    assert_eq!(call(PATIENCE).await, Err(MethodError::NotOnline));
    client.subscribe("$iothub/methods/POST/#").await;
    assert_eq!(call(Duration::from_millis(20)).await, Err(MethodError::TimedOut));
    let (late, _) = answer(&mut client).await;
    let rid = late.strip_prefix("$iothub/methods/POST/collect/?$rid=").unwrap();
    client.publish_as(0x30, &format!("$iothub/methods/res/200/?$rid={rid}"), 0, b"").await;
    let awaited = until(&mut watcher, |what| match what {
        Happening::MethodAnswer { awaited, .. } => Some(*awaited),
        _ => None,
    });
    assert!(!awaited.await, "a late answer is ignored");

    let device = async {
        let (topic, body) = answer(&mut client).await;
        assert_eq!(body, json!({"deep": true}));
        let rid = topic.strip_prefix("$iothub/methods/POST/reboot/?$rid=").unwrap().to_owned();
        client.publish(&format!("$iothub/methods/res/501/?$rid={rid}"), 4, br#"{"why":"no"}"#).await;
        assert_eq!(client.read().await, Got::PubAck(4));
    };
    let payload = json!({"deep": true});
    let (reply, ()) = tokio::join!(lab.invoke_method("reboot", &payload, PATIENCE), device);
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.payload), (501, json!({"why": "no"})));
    assert_eq!(lab.invoke_method("no/name", &Value::Null, PATIENCE).await, Err(MethodError::Name));
    assert!(timeout(PATIENCE, lab.shutdown()).await.is_ok());
}
