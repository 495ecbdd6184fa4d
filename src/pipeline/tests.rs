mod aggregation;
mod any_payload;
mod books;
mod conserved;
mod golden;
mod queues;
mod times;
mod value_types;

use self::books::Books;
use super::schema::assert_valid;
use super::statistics::{QueueCounts, configuration_errors, dropped_events, message_statistics};
use super::*;
use crate::model::event::Event;
use crate::model::ids::EventId;
use crate::model::payload::{ListeningPort, MessageStatistics, ProcessCreate, SystemInformation};
use crate::model::problem::{Problem, ProblemKind};
use crate::model::units::{ByteSize, IsoDuration, Priority};
use crate::settings::agent_config::Aggregation;

fn time(second: u64) -> Timestamp {
    Timestamp::trusted(jiff::Timestamp::from_second(1_795_340_000 + i64::try_from(second).unwrap()).unwrap())
}

fn now(second: u64) -> Now {
    Now { wall: time(second), mono: Mono::from_boot(Duration::from_secs(1000 + second)) }
}

fn zone() -> TimeZone {
    TimeZone::fixed(jiff::tz::offset(1))
}

fn pipeline(config: &AgentConfig) -> Pipeline {
    Pipeline::new(config, zone(), now(0))
}

fn process(command_line: &str) -> ProcessCreate {
    ProcessCreate {
        executable: "/usr/bin/id".into(),
        process_id: 812,
        parent_process_id: 1,
        user_id: "1000".into(),
        user_name: Some("alice".into()),
        command_line: command_line.into(),
        ..Default::default()
    }
}

fn seen(command_line: &str, second: u64) -> Observation {
    Observation { at: time(second), serial: 0, what: Payload::ProcessCreate(process(command_line)) }
}

fn ports(count: usize) -> Snapshot {
    let port = |n: usize| {
        Payload::ListeningPort(ListeningPort {
            protocol: "tcp".into(),
            local_address: "0.0.0.0".into(),
            local_port: (n + 1).to_string(),
            remote_address: "0.0.0.0".into(),
            remote_port: "*".into(),
            extra_details: [("Pid".to_owned(), n.to_string())].into(),
        })
    };
    Snapshot { name: EventName::ListeningPorts, at: time(0), items: (0..count).map(port).collect() }
}

fn config(priority: Priority, aggregation: Option<u64>, max_message: u64) -> AgentConfig {
    let mut config = AgentConfig { max_message_size: ByteSize::bytes(max_message), ..AgentConfig::default() };
    config.priorities.insert(EventName::ProcessCreate, priority);
    let interval = IsoDuration::from_secs(aggregation.unwrap_or(3600));
    config.aggregation.insert(EventName::ProcessCreate, Aggregation { enabled: aggregation.is_some(), interval });
    config
}

const PLAIN: u64 = 204_800;

fn event_body(change: &Change) -> &str {
    match change {
        Change::Event(event) | Change::Close { event, .. } => &event.body,
        other => panic!("no event: {other:?}"),
    }
}

/// The event without its random id, in readable lines.
fn shown(body: &str) -> String {
    assert_valid(&[body]);
    let mut event: Value = serde_json::from_str(body).unwrap();
    assert_eq!(event["Id"].as_str().unwrap().len(), 36);
    event["Id"] = Value::from("ID");
    serde_json::to_string_pretty(&event).unwrap()
}

#[test]
fn a_single_process_on_the_wire() {
    let changes = pipeline(&config(Priority::High, None, PLAIN)).observe(vec![seen("id -u \"\u{e9}\"", 5)], now(9));
    let Change::Event(StoredEvent { queue: Queue::High, hits: 1, body }) = &changes[0] else { panic!("{changes:?}") };
    insta::assert_snapshot!(shown(body), @r#"
    {
      "Category": "Triggered",
      "EventType": "Security",
      "Id": "ID",
      "IsEmpty": false,
      "Name": "ProcessCreate",
      "Payload": [
        {
          "CommandLine": "id -u \"é\"",
          "Executable": "/usr/bin/id",
          "ParentProcessId": 1,
          "ProcessId": 812,
          "UserId": "1000",
          "UserName": "alice"
        }
      ],
      "PayloadSchemaVersion": "1.0",
      "TimestampLocal": "2026-11-22T10:33:25.000+01:00",
      "TimestampUTC": "2026-11-22T09:33:25.000Z"
    }
    "#);
}

#[test]
fn an_aggregated_process_on_the_wire() {
    let mut pipeline = pipeline(&config(Priority::Low, Some(60), PLAIN));
    let mut books = Books::default();
    books.apply(&pipeline.observe(vec![seen("id -u", 5), seen("id -u", 3), seen("id -g", 4)], now(9)));
    assert_eq!((books.open.len(), books.events.len()), (2, 0));
    assert_eq!(pipeline.next_deadline(), Some(now(69).mono));
    assert_eq!(pipeline.tick(now(68)), []);
    let changes = pipeline.tick(now(69));
    books.apply(&changes);
    assert_eq!((books.open.len(), books.events.len(), pipeline.next_deadline()), (0, 2, None));
    insta::assert_snapshot!(shown(event_body(&changes[0])), @r#"
    {
      "Category": "Triggered",
      "EventType": "Security",
      "Id": "ID",
      "IsEmpty": false,
      "Name": "ProcessCreate",
      "Payload": [
        {
          "CommandLine": "id -u",
          "Executable": "/usr/bin/id",
          "ExtraDetails": {
            "EndTimeLocal": "2026-11-22T10:33:25.000+01:00",
            "EndTimeUtc": "2026-11-22T09:33:25.000Z",
            "HitCount": "2",
            "StartTimeLocal": "2026-11-22T10:33:23.000+01:00",
            "StartTimeUtc": "2026-11-22T09:33:23.000Z"
          },
          "ParentProcessId": 0,
          "ProcessId": 0,
          "UserId": "1000",
          "UserName": "alice"
        }
      ],
      "PayloadSchemaVersion": "1.0",
      "TimestampLocal": "2026-11-22T10:34:29.000+01:00",
      "TimestampUTC": "2026-11-22T09:34:29.000Z"
    }
    "#);
}

#[test]
fn a_hand_made_event_is_the_published_object() {
    let event = Event {
        id: EventId::parse("3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9a10").unwrap(),
        name: EventName::SystemInformation,
        at: time(0),
        payload: vec![Payload::SystemInformation(SystemInformation {
            os_name: Some("Linux".into()),
            total_physical_memory_kib: Some(1024),
            ..Default::default()
        })],
        hits: 1,
    };
    let text = event.to_value(&zone()).unwrap().to_string();
    assert_valid(&[&text]);
    insta::assert_snapshot!(text, @r#"{"Category":"Periodic","EventType":"Security","Id":"3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9a10","IsEmpty":false,"Name":"SystemInformation","Payload":[{"OSName":"Linux","TotalPhysicalMemoryInKB":1024}],"PayloadSchemaVersion":"1.0","TimestampLocal":"2026-11-22T10:33:20.000+01:00","TimestampUTC":"2026-11-22T09:33:20.000Z"}"#);
}

#[test]
fn operational_events_are_valid() {
    let mut pipeline = pipeline(&AgentConfig::default());
    let counts = QueueCounts { collected: 9, dropped: [(DropReason::CacheFull, 2)].into() };
    let problem = Problem {
        key: "snapshotFrequency".into(),
        kind: ProblemKind::TypeMismatch,
        given: "\"soon\"".into(),
        expected: "an ISO-8601 duration".into(),
        in_force: "PT13H".into(),
    };
    let mut changes = pipeline.snapshot(dropped_events(&counts, &QueueCounts::default(), &[], time(0)), now(0));
    changes.extend(pipeline.snapshot(message_statistics(MessageStatistics::default(), time(0)), now(0)));
    changes.extend(pipeline.observe(configuration_errors(&[problem], 0, time(0)), now(0)));
    assert_eq!(changes.len(), 3);
    assert_valid(&changes.iter().map(event_body).collect::<Vec<_>>());
}

#[test]
fn an_empty_snapshot_says_so_and_a_large_one_is_one_hit_in_parts() {
    let mut pipeline = pipeline(&config(Priority::Low, None, 8192));
    let empty = pipeline.snapshot(ports(0), now(0));
    assert!(shown(event_body(&empty[0])).contains("\"IsEmpty\": true"));

    let mut books = Books::default();
    books.apply(&pipeline.snapshot(ports(200), now(0)));
    assert!(books.events.len() > 3);
    assert_eq!(books.events.iter().map(|e| e.hits).collect::<Vec<_>>()[..3], [1, 0, 0]);
    assert_eq!(books.collected(), 1);
    let limit = max_event(&config(Priority::Low, None, 8192));
    let mut items = 0;
    for event in &books.events {
        assert!(event.body.len() <= limit && event.queue == Queue::High);
        items += serde_json::from_str::<Value>(&event.body).unwrap()["Payload"].as_array().unwrap().len();
    }
    assert_eq!(items, 200);
    assert_valid(&books.events.iter().map(|e| e.body.as_str()).collect::<Vec<_>>());
}

#[test]
fn a_command_line_beyond_the_message_size_is_cut_alone_and_in_an_aggregate() {
    let long = |end: &str| format!("{}{end}", "\u{1}é\"".repeat(50_000));
    for aggregation in [None, Some(60)] {
        let mut pipeline = pipeline(&config(Priority::Low, aggregation, 8192));
        let mut books = Books::default();
        books.apply(&pipeline.observe(vec![seen(&long("a"), 0), seen(&long("b"), 0)], now(0)));
        books.apply(&pipeline.flush(now(1)));
        assert_eq!(books.events.len(), 2, "cut, but still told apart");
        for event in &books.events {
            assert!(event.body.len() <= max_event(&config(Priority::Low, None, 8192)));
            assert!(event.body.contains("\"Truncated.CommandLine\":\"200001\""), "{}", event.body);
            assert_valid(&[&event.body]);
        }
    }
}

#[test]
fn nothing_is_larger_than_a_quarter_of_a_small_cache() {
    let small = AgentConfig {
        max_local_cache_size: ByteSize::bytes(8192),
        ..config(Priority::Low, None, AgentConfig::default().max_message_size.as_u64())
    };
    let (mut pipeline, mut books) = (pipeline(&small), Books::default());
    books.apply(&pipeline.snapshot(ports(60), now(0)));
    books.apply(&pipeline.observe(vec![seen(&"x".repeat(9000), 0)], now(0)));
    assert!(books.events.len() > 4);
    for event in &books.events {
        assert!(event.body.len() <= 2048, "{}", event.body.len());
        assert_valid(&[&event.body]);
    }
    assert_eq!((books.balance.high.collected, books.balance.high.dropped_total()), (1, 0));
    assert!(books.events.last().unwrap().body.contains("\"Truncated.CommandLine\":\"9000\""));
}

#[test]
fn open_aggregates_leave_most_of_a_small_cache_to_what_is_finished() {
    let cache = |bytes| AgentConfig {
        max_local_cache_size: ByteSize::bytes(bytes),
        ..config(Priority::Low, Some(3600), PLAIN)
    };
    let (mut pipeline, mut books) = (pipeline(&cache(1 << 20)), Books::default());
    books.apply(&pipeline.observe((0..100).map(|n| seen(&format!("id {n}"), 0)).collect(), now(0)));
    assert_eq!((books.open.len(), books.events.len()), (100, 0));
    // A smaller cache closes the oldest, and so does each new one.
    books.apply(&pipeline.configure(&cache(8192), now(1)));
    let bytes = |books: &Books| books.open.values().map(|a| a.key.len() + a.state.len()).sum::<usize>();
    assert!((1..=2048).contains(&bytes(&books)), "{}", bytes(&books));
    books.apply(&pipeline.observe((100..200).map(|n| seen(&format!("id {n}"), 1)).collect(), now(1)));
    assert!((1..=2048).contains(&bytes(&books)), "{}", bytes(&books));
    assert!(books.open.values().all(|open| open.state.contains("id 19")), "the newest stay open");
    assert_eq!((books.open.len() + books.events.len(), books.collected()), (200, 200));
}

#[test]
fn what_cannot_be_made_to_fit_is_booked_as_dropped() {
    let mut pipeline = pipeline(&config(Priority::Low, Some(60), PLAIN));
    let mut books = Books::default();
    books.apply(&pipeline.observe(vec![seen("id", 0)], now(0)));
    let none = config(Priority::Low, Some(60), 0);
    books.apply(&pipeline.configure(&none, now(1)));
    books.apply(&pipeline.observe(vec![seen("id", 1), seen("other", 1)], now(1)));
    books.apply(&pipeline.snapshot(ports(0), now(1)));
    books.apply(&pipeline.snapshot(ports(1), now(1)));
    books.apply(&pipeline.flush(now(2)));
    assert_eq!(books.balance.low.dropped, [(DropReason::Oversize, 3)].into());
    assert_eq!(books.balance.high.dropped, [(DropReason::Oversize, 2)].into());
    assert_eq!((books.collected(), books.discarded, books.events.len()), (5, 2, 0));
}

#[test]
fn off_ends_collection_but_keeps_what_happened_before() {
    let mut pipeline = pipeline(&config(Priority::High, Some(60), PLAIN));
    let mut books = Books::default();
    books.apply(&pipeline.observe(vec![seen("id", 0)], now(0)));
    books.apply(&pipeline.configure(&config(Priority::Off, Some(60), PLAIN), now(10)));
    assert_eq!((books.open.len(), books.events.len()), (0, 1));
    books.apply(&pipeline.observe(vec![seen("late", 10), seen("after", 11)], now(12)));
    assert_eq!((books.balance.high.collected, books.events.len(), pipeline.ignored()), (2, 2, 1));
    books.apply(&pipeline.configure(&config(Priority::Low, Some(60), PLAIN), now(20)));
    books.apply(&pipeline.observe(vec![seen("again", 21)], now(21)));
    assert_eq!((books.balance.low.collected, pipeline.ignored()), (1, 1));
    let never = Snapshot { name: EventName::ListeningPorts, ..ports(1) };
    let mut off = AgentConfig::default();
    off.priorities.insert(EventName::ListeningPorts, Priority::Off);
    assert_eq!(Pipeline::new(&off, zone(), now(0)).snapshot(never, now(0)), []);
}

#[test]
fn a_changed_interval_counts_from_the_first_hit() {
    let mut pipeline = pipeline(&config(Priority::Low, Some(60), PLAIN));
    pipeline.observe(vec![seen("id", 0)], now(10));
    assert_eq!(pipeline.configure(&config(Priority::Low, Some(100), PLAIN), now(30)), []);
    assert_eq!(pipeline.next_deadline(), Some(now(110).mono));
    assert_eq!(pipeline.configure(&config(Priority::Low, Some(15), PLAIN), now(30)), []);
    assert_eq!(pipeline.tick(now(30)).len(), 1);
    pipeline.observe(vec![seen("id", 40)], now(40));
    let moved = pipeline.configure(&config(Priority::High, Some(15), PLAIN), now(41));
    assert!(matches!(&moved[..], [Change::Close { event: StoredEvent { queue: Queue::Low, .. }, .. }]), "{moved:?}");
}

#[test]
fn the_shortest_interval_is_a_second() {
    let mut pipeline = pipeline(&config(Priority::Low, Some(0), PLAIN));
    pipeline.observe(vec![seen("id", 0)], now(10));
    assert_eq!(pipeline.next_deadline(), Some(now(11).mono));
}

#[test]
fn a_restart_goes_on_where_the_last_run_ended() {
    let config = config(Priority::Low, Some(60), PLAIN);
    let mut first = pipeline(&config);
    let mut books = Books::default();
    books.apply(&first.observe(vec![seen("id", 10), seen("id", 12), seen("other", 12)], now(12)));

    // The machine was restarted as well: its clock since boot begins again.
    let after = |second, wall| Now { wall: time(wall), mono: Mono::from_boot(Duration::from_secs(second)) };
    let mut second = Pipeline::new(&config, zone(), after(3, 40));
    books.apply(&second.restore(books.open.values().cloned().collect(), after(3, 40)));
    assert_eq!(second.next_deadline(), Some(Mono::from_boot(Duration::from_secs(33))));
    books.apply(&second.observe(vec![seen("id", 41)], after(4, 41)));
    books.apply(&second.tick(after(33, 70)));
    assert_eq!((books.collected(), books.open.len()), (4, 0));
    let event: Value = serde_json::from_str(&books.events[0].body).unwrap();
    let (same, details) = (&event["Payload"][0]["CommandLine"], &event["Payload"][0]["ExtraDetails"]);
    assert_eq!((same.as_str(), details["HitCount"].as_str()), (Some("id"), Some("3")));
    assert_eq!(details["StartTimeUtc"], time(10).utc_text());
    assert_eq!(details["EndTimeUtc"], time(41).utc_text());

    let untrusted = Now { wall: Timestamp { trusted: false, ..time(0) }, mono: now(5).mono };
    let mut third = pipeline(&config);
    books.apply(&third.observe(vec![seen("id", 0)], now(0)));
    let mut fourth = pipeline(&config);
    books.apply(&fourth.restore(books.open.values().cloned().collect(), untrusted));
    assert_eq!(fourth.next_deadline(), Some(untrusted.mono));
}

#[test]
fn what_the_new_configuration_does_not_gather_is_closed_after_a_restart() {
    for changed in [
        config(Priority::High, Some(60), PLAIN),
        config(Priority::Low, None, PLAIN),
        config(Priority::Off, Some(60), PLAIN),
    ] {
        let (mut before, mut books) = (pipeline(&config(Priority::Low, Some(60), PLAIN)), Books::default());
        books.apply(&before.observe(vec![seen("id", 0)], now(0)));
        let mut after = pipeline(&changed);
        books.apply(&after.restore(books.open.values().cloned().collect(), now(1)));
        assert_eq!((after.open_aggregates(), books.events.len()), (0, 1));
        assert_eq!(books.events[0].queue, Queue::Low);
    }
}

#[test]
fn a_full_table_closes_the_oldest_early_and_books_it_first() {
    let mut pipeline = pipeline(&config(Priority::Low, Some(3600), PLAIN));
    let mut books = Books::default();
    books.apply(&pipeline.observe((0..5000).map(|n| seen(&format!("id {n}"), n)).collect(), now(0)));
    assert_eq!(books.events.len() + books.open.len(), 5000);
    assert!(pipeline.open_aggregates() <= 4096 && pipeline.open_aggregates() > 1000);
    let first: Value = serde_json::from_str(&books.events[0].body).unwrap();
    assert_eq!(first["Payload"][0]["CommandLine"], "id 0");
    // One that was closed may be opened again in the same batch.
    books.apply(&pipeline.observe((0..5000).map(|n| seen(&format!("id {n}"), n)).collect(), now(1)));
    books.apply(&pipeline.flush(now(2)));
    assert_eq!((books.collected(), books.open.len()), (10_000, 0));
    assert_eq!(books.events.iter().map(|e| e.hits).sum::<u64>(), 10_000);
}
