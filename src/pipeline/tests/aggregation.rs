//! The three types that can be aggregated: keys and windows as the twin says, and what their events show.

use std::net::IpAddr;

use super::*;
use crate::model::payload::{ConnectionCreate, Direction, Port, ProcessTerminate};

const TYPES: [EventName; 3] = [EventName::ProcessCreate, EventName::ProcessTerminate, EventName::ConnectionCreate];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn connection(direction: Direction, local_port: u16, remote_port: u16) -> ConnectionCreate {
    ConnectionCreate {
        remote_address: address("::ffff:192.0.2.7").into(),
        remote_port: Port(remote_port),
        local_address: Some(address("192.0.2.1").into()),
        local_port: Some(Port(local_port)),
        direction,
        protocol: "tcp".into(),
        process_id: 812,
        user_id: Some("1000".into()),
        executable: "/usr/bin/ssh".into(),
        command_line: Some("ssh host".into()),
        extra_details: [].into(),
    }
}

fn end(exit_status: i32) -> ProcessTerminate {
    ProcessTerminate { executable: "/usr/bin/id".into(), process_id: 812, exit_status, ..Default::default() }
}

/// One of a kind for each type; the `number` is outside its key.
fn any_of(name: EventName, number: u16) -> Payload {
    match name {
        EventName::ProcessCreate => {
            Payload::ProcessCreate(ProcessCreate { process_id: number.into(), ..process("id") })
        }
        EventName::ProcessTerminate => {
            Payload::ProcessTerminate(ProcessTerminate { process_id: number.into(), ..end(0) })
        }
        _ => Payload::ConnectionCreate(connection(Direction::Out, number, 22)),
    }
}

fn at(second: u64, what: Payload) -> Observation {
    Observation { at: time(second), serial: 0, what }
}

/// All three types in the low queue, aggregated over this many seconds; `None` is off.
fn aggregating(intervals: [Option<u64>; 3]) -> AgentConfig {
    let mut config = AgentConfig::default();
    for (name, interval) in TYPES.into_iter().zip(intervals) {
        config.priorities.insert(name, Priority::Low);
        let (enabled, interval) = (interval.is_some(), IsoDuration::from_secs(interval.unwrap_or(60)));
        config.aggregation.insert(name, Aggregation { enabled, interval });
    }
    config
}

fn item(change: &Change) -> Value {
    let body = event_body(change);
    assert_valid(&[body]);
    serde_json::from_str::<Value>(body).unwrap()["Payload"][0].take()
}

#[test]
fn each_type_has_a_switch_and_an_interval_of_its_own() {
    let mut pipeline = pipeline(&aggregating([Some(30), Some(20), None]));
    let batch = TYPES.into_iter().flat_map(|name| [at(0, any_of(name, 1)), at(1, any_of(name, 2))]).collect();
    let changes = pipeline.observe(batch, now(1));
    let names = |changes: &[Change]| -> Vec<String> {
        let events = changes.iter().filter(|change| !matches!(change, Change::Aggregate(_)));
        events.map(|change| serde_json::from_str::<Value>(event_body(change)).unwrap()["Name"].to_string()).collect()
    };
    assert_eq!(names(&changes), ["\"ConnectionCreate\"", "\"ConnectionCreate\""]);
    assert_eq!(item(&changes[0])["LocalPort"], "1", "a single event shows all that was seen");
    assert_eq!(pipeline.next_deadline(), Some(now(21).mono));
    assert_eq!(names(&pipeline.tick(now(21))), ["\"ProcessTerminate\""]);
    assert_eq!(pipeline.next_deadline(), Some(now(31).mono));
    let closed = pipeline.tick(now(31));
    assert_eq!((names(&closed), pipeline.open_aggregates()), (vec!["\"ProcessCreate\"".to_owned()], 0));
    assert_eq!(item(&closed[0])["ExtraDetails"]["HitCount"], "2");
}

#[test]
fn what_is_open_is_closed_when_its_type_is_switched_and_no_other() {
    let mut pipeline = pipeline(&aggregating([Some(60); 3]));
    pipeline.observe(TYPES.into_iter().map(|name| at(0, any_of(name, 1))).collect(), now(0));
    for (switched, left) in [([Some(60), Some(60), None], 2), ([Some(60), None, None], 1), ([None; 3], 0)] {
        let changes = pipeline.configure(&aggregating(switched), now(1));
        assert!(matches!(&changes[..], [Change::Close { .. }]), "{changes:?}");
        assert_eq!(pipeline.open_aggregates(), left);
    }
}

#[test]
fn an_aggregated_inbound_connection_on_the_wire() {
    let mut pipeline = pipeline(&aggregating([Some(60); 3]));
    let batch = [50_000, 50_001, 50_002].map(|port| {
        let what = connection(Direction::In, 22, port);
        at(u64::from(port - 50_000), Payload::ConnectionCreate(what))
    });
    pipeline.observe(batch.into(), now(2));
    let closed = pipeline.flush(now(9));
    assert_eq!(closed.len(), 1);
    let shown = serde_json::to_string_pretty(&item(&closed[0])).unwrap();
    insta::assert_snapshot!(shown, @r#"
    {
      "CommandLine": "ssh host",
      "Direction": "In",
      "Executable": "/usr/bin/ssh",
      "ExtraDetails": {
        "EndTimeLocal": "2026-11-22T10:33:22.000+01:00",
        "EndTimeUtc": "2026-11-22T09:33:22.000Z",
        "HitCount": "3",
        "StartTimeLocal": "2026-11-22T10:33:20.000+01:00",
        "StartTimeUtc": "2026-11-22T09:33:20.000Z"
      },
      "LocalAddress": "192.0.2.1",
      "LocalPort": "22",
      "ProcessId": 0,
      "Protocol": "tcp",
      "RemoteAddress": "192.0.2.7",
      "RemotePort": "0",
      "UserId": "1000"
    }
    "#);
}

#[test]
fn an_aggregated_outbound_connection_has_no_local_port_and_one_service_each() {
    let mut pipeline = pipeline(&aggregating([Some(60); 3]));
    let batch = [(40_000, 443), (40_001, 443), (40_002, 80)]
        .map(|(local, remote)| at(0, Payload::ConnectionCreate(connection(Direction::Out, local, remote))));
    pipeline.observe(batch.into(), now(0));
    let closed: Vec<Value> = pipeline.flush(now(9)).iter().map(item).collect();
    let ports: Vec<_> = closed.iter().map(|i| (i["RemotePort"].clone(), i.get("LocalPort").cloned())).collect();
    assert_eq!(ports, [(Value::from("443"), None), (Value::from("80"), None)]);
}

#[test]
fn aggregated_ends_of_a_program_are_counted_by_status() {
    let mut pipeline = pipeline(&aggregating([Some(60); 3]));
    let batch = [0, 137, 0].map(|status| at(0, Payload::ProcessTerminate(end(status))));
    pipeline.observe(batch.into(), now(0));
    let closed: Vec<Value> = pipeline.flush(now(9)).iter().map(item).collect();
    let shown: Vec<_> = closed
        .iter()
        .map(|item| (&item["ExitStatus"], &item["ProcessId"], &item["ExtraDetails"]["HitCount"]))
        .map(|(status, pid, hits)| (status.as_i64(), pid.as_u64(), hits.as_str()))
        .collect();
    assert_eq!(shown, [(Some(0), Some(0), Some("2")), (Some(137), Some(0), Some("1"))]);
}

#[test]
fn a_changed_program_with_the_same_command_line_is_seen() {
    let mut pipeline = pipeline(&aggregating([Some(60); 3]));
    let hashed = |hash: &str| {
        let extra_details = [("Hash".to_owned(), hash.to_owned())].into();
        at(0, Payload::ProcessCreate(ProcessCreate { extra_details, ..process("id") }))
    };
    pipeline.observe(vec![hashed("aa"), hashed("bb"), hashed("aa")], now(0));
    let closed: Vec<Value> = pipeline.flush(now(9)).iter().map(item).collect();
    let shown: Vec<_> =
        closed.iter().map(|item| (&item["ExtraDetails"]["Hash"], &item["ExtraDetails"]["HitCount"])).collect();
    assert_eq!(shown, [(&Value::from("aa"), &Value::from("2")), (&Value::from("bb"), &Value::from("1"))]);
}

#[test]
fn details_outside_the_key_are_those_of_the_first_hit() {
    let mut pipeline = pipeline(&aggregating([Some(60); 3]));
    let from = |source: &str, second| {
        let extra_details = [("CommandLineSource".to_owned(), source.to_owned())].into();
        at(second, Payload::ProcessCreate(ProcessCreate { extra_details, ..process("id") }))
    };
    // The second one happened before, and was seen after it.
    pipeline.observe(vec![from("proc", 5), from("none", 3), from("later", 8)], now(9));
    let closed = pipeline.flush(now(9));
    let details = item(&closed[0])["ExtraDetails"].take();
    assert_eq!((&details["CommandLineSource"], &details["HitCount"]), (&Value::from("proc"), &Value::from("3")));
    assert_eq!(
        (&details["StartTimeUtc"], &details["EndTimeUtc"]),
        (&time(3).utc_text().into(), &time(8).utc_text().into())
    );
}

/// An aggregate as version 0.1.0 stored it, found in the spool after an update of the program.
#[test]
fn an_aggregate_of_an_earlier_version_goes_on() {
    let stored = OpenAggregate {
        key: "ProcessCreate:76896cc098fef57f2edcb3569e2114c4ef8a2efc386d904297b04ad1793c64ea".into(),
        queue: Queue::Low,
        hits: 41,
        state: concat!(
            r#"{"payload":{"ProcessCreate":{"Executable":"/usr/bin/id","ProcessId":0,"ParentProcessId":0,"#,
            r#""UserId":"1000","UserName":"alice","CommandLine":"id -u","ExtraDetails":{"CommandLineSource":"proc"}}},"#,
            r#""first":{"utc":"2026-11-22T09:33:20.25Z","trusted":true},"#,
            r#""last":{"utc":"2026-11-22T09:33:21Z","trusted":true}}"#,
        )
        .into(),
    };
    let mut pipeline = pipeline(&aggregating([Some(60); 3]));
    assert_eq!(pipeline.restore(vec![stored], now(10)), []);
    assert_eq!(pipeline.next_deadline().map(|due| due.since(now(0).mono).as_secs()), Some(60));
    pipeline.observe(vec![at(11, Payload::ProcessCreate(process("id -u")))], now(11));
    assert_eq!(pipeline.open_aggregates(), 1, "the new hit found it");
    let closed = pipeline.flush(now(12));
    let details = item(closed.last().unwrap())["ExtraDetails"].take();
    assert_eq!(details["HitCount"], "42");
    assert_eq!(details["StartTimeUtc"], "2026-11-22T09:33:20.250Z");
    assert_eq!(details["EndTimeUtc"], time(11).utc_text());
    assert_eq!(details["CommandLineSource"], "proc");
}
