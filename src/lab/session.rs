//! What the hub does with each packet of a module that has signed in. Pure: takes a packet and the module's record,
//! gives what is to be done, in order. Watchers are told before the client is.

use std::time::Duration;

use serde_json::json;

use super::faults::{Faults, TwinFault};
use super::identity::{Answer, Record};
use super::observed::{Happening, Telemetry, Why};
use super::packet::{Packet, Publish};
use super::topic::{self, Properties, Topic, TopicError};
use super::twin_rules::TwinError;
use super::{packet, reply};

/// The largest message, counted with its properties.
const LARGEST_MESSAGE: usize = 256 * 1024;
/// Filters a client may hold.
const SUBSCRIPTIONS: usize = 5;

/// Something to do.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// To the client.
    Send(Vec<u8>),
    /// To the client, after a while.
    SendLater(Duration, Vec<u8>),
    /// PUBACK for this packet id, as the faults of the moment have it.
    Acknowledge(u16),
    /// To those who watch.
    Tell(Happening),
    /// End the connection; nothing follows.
    Close(Why),
}

/// Judges one packet.
pub(super) fn handle(packet: Packet, record: &mut Record, faults: &Faults, now: jiff::Timestamp) -> Vec<Action> {
    match packet {
        Packet::Connect(_) => vec![Action::Close(Why::Malformed("a second CONNECT".to_owned()))],
        Packet::Publish(publish) => published(publish, record, faults, now),
        Packet::PubAck => Vec::new(),
        Packet::Subscribe { id, filters } => subscribe(id, filters, record),
        Packet::Unsubscribe { id, filters } => unsubscribe(id, filters, record),
        Packet::Ping => vec![Action::Send(reply::pong())],
        Packet::Disconnect => vec![Action::Close(Why::ClientLeft)],
    }
}

fn subscribe(id: u16, filters: Vec<(String, u8)>, record: &mut Record) -> Vec<Action> {
    if let Some((filter, _)) = filters.iter().find(|(filter, _)| !topic::may_subscribe(filter, &record.id)) {
        return vec![Action::Close(Why::UnknownFilter(filter.clone()))];
    }
    let held = record.session.get_or_insert_default();
    let (mut granted, mut actions) = (Vec::new(), Vec::new());
    for (filter, qos) in filters {
        let qos = qos.min(1);
        granted.push(qos);
        held.insert(filter.clone(), qos);
        actions.push(Action::Tell(Happening::Subscribed { filter, qos }));
    }
    if held.len() > SUBSCRIPTIONS {
        return vec![Action::Close(Why::TooManySubscriptions)];
    }
    actions.push(Action::Send(reply::sub_ack(id, &granted)));
    actions
}

fn unsubscribe(id: u16, filters: Vec<String>, record: &mut Record) -> Vec<Action> {
    let held = record.session.get_or_insert_default();
    let mut actions = Vec::new();
    for filter in filters {
        if held.remove(&filter).is_some() {
            actions.push(Action::Tell(Happening::Unsubscribed { filter }));
        }
    }
    actions.push(Action::Send(reply::unsub_ack(id)));
    actions
}

fn published(publish: Publish, record: &mut Record, faults: &Faults, now: jiff::Timestamp) -> Vec<Action> {
    if publish.qos == 2 {
        return vec![Action::Close(Why::QosTwo)];
    }
    let id = publish.id;
    let mut actions = match topic::parse(&publish.topic, &record.id) {
        Err(TopicError::Unknown) => return vec![Action::Close(Why::UnknownTopic(publish.topic))],
        Err(TopicError::Properties(why)) => return vec![Action::Close(Why::BadProperties(why))],
        Ok(Topic::Telemetry(properties)) => match telemetry(properties, publish) {
            Ok(telemetry) => vec![Action::Tell(Happening::Telemetry(telemetry))],
            Err(why) => return vec![Action::Close(why)],
        },
        Ok(Topic::TwinGet { rid }) => twin_get(&rid, record, faults, now),
        Ok(Topic::Report { rid, if_version }) => {
            report(&rid, if_version.as_deref(), &publish.body, record, faults, now)
        }
        Ok(Topic::MethodAnswer { rid, status }) => {
            let waiting = record.calls.remove(&rid);
            let awaited = waiting.is_some_and(|caller| caller.send(Answer { status, body: publish.body }).is_ok());
            vec![Action::Tell(Happening::MethodAnswer { rid, status, awaited })]
        }
    };
    actions.extend(id.map(Action::Acknowledge));
    actions
}

/// The message that `publish` carries.
///
/// # Errors
/// It is too large.
pub(super) fn telemetry(mut properties: Properties, publish: Publish) -> Result<Telemetry, Why> {
    let size = topic::counted_size(&properties, &publish.body);
    if size > LARGEST_MESSAGE {
        return Err(Why::TooLarge(size));
    }
    if publish.retain {
        // Nothing is retained; the hub leaves a mark instead.
        properties.insert("mqtt-retain".to_owned(), "true".to_owned());
    }
    Ok(Telemetry { properties, body: publish.body, dup: publish.dup, packet_id: publish.id, size })
}

fn twin_get(rid: &str, record: &Record, faults: &Faults, now: jiff::Timestamp) -> Vec<Action> {
    let fault = faults.twin_get;
    let listens = record.listens(|filter| filter == topic::TWIN_ANSWERS);
    let status = match fault {
        Some(TwinFault::Status(status)) => status,
        _ => 200,
    };
    let answered = listens && fault != Some(TwinFault::Silence);
    let mut actions = vec![Action::Tell(Happening::TwinRead {
        status: answered.then_some(status),
        version: record.twin.desired_version(),
    })];
    if answered {
        let body = if status == 200 {
            record.twin.document().to_string().into_bytes()
        } else {
            error_body(status, "on request", now)
        };
        actions.push(answer(&format!("$iothub/twin/res/{status}/?$rid={rid}"), &body, fault));
    }
    actions
}

fn report(
    rid: &str,
    if_version: Option<&str>,
    body: &[u8],
    record: &mut Record,
    faults: &Faults,
    now: jiff::Timestamp,
) -> Vec<Action> {
    let fault = faults.twin_report;
    let listens = record.listens(|filter| filter == topic::TWIN_ANSWERS);
    let outcome = match fault {
        Some(TwinFault::Silence) => {
            let reason = "lost on request".to_owned();
            return vec![Action::Tell(Happening::ReportRefused { status: None, reason })];
        }
        Some(TwinFault::Status(status)) => Err((status, "on request".to_owned())),
        None | Some(TwinFault::LateMs(_)) => {
            record.twin.report(body, if_version).map_err(|error: TwinError| (error.status(), error.to_string()))
        }
    };
    let (told, topic, body) = match outcome {
        Ok((patch, version)) => (
            Happening::Reported { patch, version },
            format!("$iothub/twin/res/204/?$rid={rid}&$version={version}"),
            Vec::new(),
        ),
        Err((status, reason)) => {
            let body = error_body(status, &reason, now);
            let told = Happening::ReportRefused { status: Some(status), reason };
            (told, format!("$iothub/twin/res/{status}/?$rid={rid}"), body)
        }
    };
    let mut actions = vec![Action::Tell(told)];
    if listens {
        actions.push(answer(&topic, &body, fault));
    }
    actions
}

fn answer(topic: &str, body: &[u8], fault: Option<TwinFault>) -> Action {
    let bytes = reply::publish(topic, body);
    match fault {
        Some(TwinFault::LateMs(ms)) => Action::SendLater(Duration::from_millis(ms), bytes),
        _ => Action::Send(bytes),
    }
}

fn error_body(status: u16, message: &str, now: jiff::Timestamp) -> Vec<u8> {
    json!({
        "errorCode": u32::from(status) * 1000 + 1,
        "trackingId": uuid::Uuid::new_v4().simple().to_string().to_uppercase(),
        "message": message,
        "timestampUtc": now.to_string(),
    })
    .to_string()
    .into_bytes()
}

/// A will as the message it becomes.
///
/// # Errors
/// It is too large.
pub(super) fn last_words(mut properties: Properties, will: packet::Will) -> Result<Telemetry, Why> {
    properties.insert("iothub-MessageType".to_owned(), "Will".to_owned());
    let publish =
        Publish { topic: will.topic, body: will.body, id: None, qos: will.qos, dup: false, retain: will.retain };
    telemetry(properties, publish)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};
    use tokio::sync::mpsc;

    use super::*;
    use crate::lab::identity::{Live, ModuleId};
    use crate::lab::twin::Twin;
    use crate::model::secret::Secret;

    fn record() -> Record {
        let keys = [Secret::new(vec![1]), Secret::new(vec![2])];
        let mut record = Record::new(ModuleId::new("d", "m"), keys, Twin::new(&Map::new()).unwrap());
        record.live = Some(Live { serial: 1, clean: true, outbound: mpsc::channel(1).0, closer: mpsc::channel(1).0 });
        record
    }

    fn step(record: &mut Record, packet: Packet, faults: &Faults) -> Vec<Action> {
        handle(packet, record, faults, jiff::Timestamp::UNIX_EPOCH)
    }

    fn publish(topic: &str, qos: u8, body: &[u8]) -> Packet {
        let id = (qos > 0).then_some(9);
        Packet::Publish(Publish { topic: topic.into(), body: body.to_vec(), id, qos, dup: false, retain: true })
    }

    fn listen(record: &mut Record) {
        let filters = vec![(topic::TWIN_ANSWERS.to_owned(), 2)];
        let actions = step(record, Packet::Subscribe { id: 3, filters }, &Faults::default());
        assert_eq!(actions.last(), Some(&Action::Send(vec![0x90, 3, 0, 3, 1])));
    }

    #[test]
    fn watchers_hear_of_a_message_before_its_sender_does() {
        let actions =
            step(&mut record(), publish("devices/d/modules/m/messages/events/a=1", 1, b"x"), &Faults::default());
        let [Action::Tell(Happening::Telemetry(telemetry)), Action::Acknowledge(9)] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        assert_eq!(telemetry.properties["mqtt-retain"], "true");
        assert_eq!(telemetry.size, 3);
    }

    #[test]
    fn misuse_closes() {
        let events = "devices/d/modules/m/messages/events/";
        let large = vec![b'x'; LARGEST_MESSAGE - 2];
        let ok = step(&mut record(), publish(&format!("{events}a=1"), 0, &large), &Faults::default());
        assert!(matches!(ok.as_slice(), [Action::Tell(_)]), "exactly 256 KiB are taken");
        let cases = [
            (publish(&format!("{events}a=12"), 0, &large), Why::TooLarge(LARGEST_MESSAGE + 1)),
            (publish(events, 2, b""), Why::QosTwo),
            (publish("devices/d/messages/events/", 1, b""), Why::UnknownTopic("devices/d/messages/events/".into())),
            (Packet::Subscribe { id: 1, filters: vec![("#".into(), 0)] }, Why::UnknownFilter("#".into())),
            (Packet::Disconnect, Why::ClientLeft),
        ];
        for (packet, why) in cases {
            assert_eq!(step(&mut record(), packet, &Faults::default()), [Action::Close(why)]);
        }
    }

    #[test]
    fn the_sixth_subscription_closes_but_a_repeated_one_does_not() {
        let mut record = record();
        let filter = |i: u8| vec![(format!("$iothub/methods/POST/m{i}/#"), 0)];
        for i in [0, 1, 2, 3, 4, 4] {
            let actions = step(&mut record, Packet::Subscribe { id: 1, filters: filter(i) }, &Faults::default());
            assert!(matches!(actions.as_slice(), [Action::Tell(_), Action::Send(_)]));
        }
        let actions = step(&mut record, Packet::Subscribe { id: 1, filters: filter(5) }, &Faults::default());
        assert_eq!(actions, [Action::Close(Why::TooManySubscriptions)]);
    }

    #[test]
    fn twin_answers_go_to_those_who_listen() {
        let mut record = record();
        let get = || publish("$iothub/twin/GET/?$rid=7", 0, b"");
        let deaf = step(&mut record, get(), &Faults::default());
        assert_eq!(deaf, [Action::Tell(Happening::TwinRead { status: None, version: 1 })]);
        listen(&mut record);
        let heard = step(&mut record, get(), &Faults::default());
        let body = br#"{"desired":{"$version":1},"reported":{"$version":1}}"#;
        assert_eq!(heard[1], Action::Send(reply::publish("$iothub/twin/res/200/?$rid=7", body)));
    }

    #[test]
    fn twin_faults_do_what_they_say() {
        let mut record = record();
        listen(&mut record);
        let body = br#"{"a":1}"#;
        let mut go = |fault| {
            let faults = Faults { twin_report: Some(fault), ..Faults::default() };
            step(&mut record, publish("$iothub/twin/PATCH/properties/reported/?$rid=7", 0, body), &faults)
        };
        assert_eq!(go(TwinFault::Silence).len(), 1);
        let refused = go(TwinFault::Status(429));
        assert!(matches!(&refused[0], Action::Tell(Happening::ReportRefused { status: Some(429), .. })));
        let Action::Send(bytes) = &refused[1] else { panic!("{refused:?}") };
        let text = String::from_utf8_lossy(bytes);
        assert!(text.contains("$iothub/twin/res/429/?$rid=7") && text.contains("\"errorCode\":429001"), "{text}");
        let late = go(TwinFault::LateMs(20));
        assert!(matches!(&late[1], Action::SendLater(wait, _) if wait.as_millis() == 20));
        assert_eq!(record.twin.reported_section()["$version"], Value::from(2), "only the late one took effect");
    }

    proptest! {
        #[test]
        fn a_message_is_told_once_then_acknowledged_once_or_the_connection_ends(
            steps in proptest::collection::vec((0_u8..3, "(a=[0-9]{0,3}|a|%2|/)?", proptest::bool::weighted(0.9)), 1..20)
        ) {
            let mut record = record();
            for (qos, bag, own) in steps {
                let owner = if own { "m" } else { "n" };
                let topic = format!("devices/d/modules/{owner}/messages/events/{bag}");
                let actions = step(&mut record, publish(&topic, qos, b"x"), &Faults::default());
                let good = own && qos < 2 && (bag.is_empty() || bag.starts_with("a="));
                match (good, qos, actions.as_slice()) {
                    (true, 0, [Action::Tell(Happening::Telemetry(_))])
                    | (true, 1, [Action::Tell(Happening::Telemetry(_)), Action::Acknowledge(9)])
                    | (false, _, [Action::Close(_)]) => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
