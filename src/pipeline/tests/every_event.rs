//! All fourteen events, as the hub sees them: golden text, and any content at all against the published schema.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::model::event::Category;
use crate::model::payload::{
    BaselineOutcome, BaselineResult, BaselineSeverity, ConfigurationError, ConnectedHardware, ConnectionCreate,
    Diagnostic, DiagnosticSeverity, Direction, DroppedEvents, ExtraDetails, FirewallAction, FirewallRule, LocalUser,
    Login, LoginResult, Port, ProcessTerminate,
};

/// Texts and numbers to fill a payload with.
struct Fill {
    texts: Vec<String>,
    numbers: [u32; 3],
    /// Whether optional members are there.
    full: bool,
}

impl Fill {
    fn text(&self, n: usize) -> String {
        self.texts[n % self.texts.len()].clone()
    }

    fn some<T>(&self, value: T) -> Option<T> {
        self.full.then_some(value)
    }

    fn details(&self) -> ExtraDetails {
        if self.full { [("Detail".to_owned(), self.text(7))].into() } else { ExtraDetails::new() }
    }

    fn address(&self) -> crate::model::payload::Address {
        let [a, b, _] = self.numbers;
        let address: IpAddr =
            if a % 2 == 0 { IpAddr::V4(b.into()) } else { IpAddr::V6((u128::from(a) << 64 | u128::from(b)).into()) };
        address.into()
    }

    fn port(&self) -> Port {
        Port(u16::try_from(self.numbers[2] % 65_536).unwrap())
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each event")]
    fn payload(&self, name: EventName) -> Payload {
        let [a, b, c] = self.numbers;
        let extra_details = self.details();
        match name {
            EventName::ProcessCreate => Payload::ProcessCreate(ProcessCreate {
                executable: self.text(0),
                process_id: a,
                parent_process_id: b,
                user_id: c.to_string(),
                user_name: self.some(self.text(1)),
                command_line: self.text(2),
                extra_details,
            }),
            EventName::ProcessTerminate => Payload::ProcessTerminate(ProcessTerminate {
                executable: self.text(0),
                process_id: a,
                exit_status: b.cast_signed(),
                extra_details,
            }),
            EventName::ConnectionCreate => Payload::ConnectionCreate(ConnectionCreate {
                remote_address: self.address(),
                remote_port: self.port(),
                local_address: self.some(self.address()),
                local_port: self.some(self.port()),
                direction: if b % 2 == 0 { Direction::Out } else { Direction::In },
                protocol: self.text(0),
                process_id: a,
                user_id: self.some(c.to_string()),
                executable: self.text(1),
                command_line: self.some(self.text(2)),
                extra_details,
            }),
            EventName::Login => Payload::Login(Login {
                process_id: a,
                user_id: self.some(b.to_string()),
                user_name: self.text(0),
                operation: self.text(1),
                executable: self.text(2),
                remote_address: self.some(self.address()),
                remote_port: self.some(self.port()),
                local_port: self.some(self.port()),
                result: if c % 2 == 0 { LoginResult::Success } else { LoginResult::Fail },
                extra_details,
            }),
            EventName::LocalUsers => Payload::LocalUser(LocalUser {
                user_id: a.to_string(),
                user_name: self.text(0),
                group_ids: self.text(1),
                group_names: self.text(2),
                extra_details,
            }),
            EventName::ListeningPorts => Payload::ListeningPort(ListeningPort {
                protocol: self.text(0),
                local_address: self.address().to_string(),
                local_port: self.port().to_string(),
                remote_address: self.address().to_string(),
                remote_port: "*".into(),
                extra_details,
            }),
            EventName::FirewallConfiguration => Payload::FirewallRule(FirewallRule {
                enabled: a % 2 == 0,
                action: [FirewallAction::Allow, FirewallAction::Deny, FirewallAction::Other][(b % 3) as usize],
                priority: self.some(c),
                direction: self.some(Direction::In),
                chain_name: self.some(self.text(0)),
                application: self.some(self.text(1)),
                source_address: self.some(self.text(2)),
                source_port: self.some(self.text(3)),
                destination_address: self.some(self.text(4)),
                destination_port: self.some(self.text(5)),
                protocol: self.some(self.text(6)),
                extra_details,
            }),
            EventName::SystemInformation => Payload::SystemInformation(SystemInformation {
                os_name: self.some(self.text(0)),
                os_version: self.some(self.text(1)),
                os_vendor: self.some(self.text(2)),
                os_architecture: self.some(self.text(3)),
                host_name: self.some(self.text(4)),
                bios_version: self.some(self.text(5)),
                boot_device: self.some(self.text(6)),
                total_physical_memory_kib: self.some(a.into()),
                free_physical_memory_kib: self.some(b.into()),
                total_virtual_memory_kib: self.some(c.into()),
                free_virtual_memory_kib: self.some(u64::from(u32::MAX) + 1),
                extra_details,
            }),
            EventName::ConnectedHardware => Payload::ConnectedHardware(ConnectedHardware {
                hardware_category: self.text(0),
                hardware_sub_category: self.text(1),
                hardware_name: self.text(2),
                extra_details,
            }),
            EventName::OSBaseline => Payload::BaselineResult(BaselineResult {
                description: self.text(0),
                cce_id: self.text(1),
                result: [BaselineOutcome::Pass, BaselineOutcome::Fail, BaselineOutcome::Err][(a % 3) as usize],
                error: self.text(2),
                severity: [
                    BaselineSeverity::Critical,
                    BaselineSeverity::Important,
                    BaselineSeverity::Warning,
                    BaselineSeverity::Informational,
                ][(b % 4) as usize],
                extra_details,
            }),
            EventName::Diagnostic => Payload::Diagnostic(Diagnostic {
                severity: [
                    DiagnosticSeverity::Fatal,
                    DiagnosticSeverity::Error,
                    DiagnosticSeverity::Warning,
                    DiagnosticSeverity::Information,
                    DiagnosticSeverity::Debug,
                ][(a % 5) as usize],
                message: self.text(0),
                process_id: b,
                thread_id: c,
                correlation_id: self.some(uuid::Uuid::from_u128(7)),
                extra_details,
            }),
            EventName::ConfigurationError => Payload::ConfigurationError(ConfigurationError {
                configuration_name: self.text(0),
                error_type: ["TypeMismatch", "NotOptimal", "Conflict"][(a % 3) as usize].into(),
                used_configuration: self.text(1),
                message: self.text(2),
                extra_details,
            }),
            EventName::DroppedEventsStatistics => Payload::DroppedEvents(DroppedEvents {
                queue: ["High", "Low"][(a % 2) as usize].into(),
                collected_events: b.into(),
                dropped_events: c.into(),
                extra_details,
            }),
            EventName::MessageStatistics => Payload::MessageStatistics(MessageStatistics {
                messages_sent: a.into(),
                messages_under_4_kib: b.into(),
                total_failed: c.into(),
                extra_details,
            }),
        }
    }
}

fn everything(max_message: u64, aggregated: bool) -> AgentConfig {
    let mut config = AgentConfig { max_message_size: ByteSize::bytes(max_message), ..AgentConfig::default() };
    for aggregation in config.aggregation.values_mut() {
        aggregation.enabled = aggregated;
    }
    config
}

/// Hands a payload to the pipeline in the way that its event has, and closes what it opened.
fn pass(pipeline: &mut Pipeline, payload: Payload, at: Timestamp) -> Vec<Change> {
    let name = payload.event();
    let now = Now { wall: at, ..now(9) };
    let mut changes = match name.category() {
        Category::Triggered => pipeline.observe(vec![Observation { at, serial: 0, what: payload }], now),
        Category::Periodic => pipeline.snapshot(Snapshot { name, at, items: vec![payload] }, now),
    };
    changes.extend(pipeline.flush(now));
    changes
}

fn bodies(changes: &[Change]) -> Vec<String> {
    let mut books = Books::default();
    books.apply(changes);
    books.events.into_iter().map(|event| event.body).collect()
}

#[test]
fn golden() {
    let plain = |full, numbers| Fill { texts: ["a", "b", "c"].map(Into::into).to_vec(), numbers, full };
    let untrusted = Timestamp { trusted: false, ..time(5) };
    let mut golden = String::new();
    for name in EventName::ALL {
        for (title, fill, at, aggregated) in [
            ("as little as there can be", plain(false, [2, 2, 2]), time(5), false),
            ("as much as there can be", plain(true, [3, 3, 443]), time(5), false),
            ("at an untrusted time", plain(false, [2, 2, 2]), untrusted, false),
            ("aggregated", plain(true, [3, 3, 443]), time(5), true),
        ] {
            if aggregated && AgentConfig::default().aggregation_interval(name).is_none() {
                continue;
            }
            let changes = pass(&mut pipeline(&everything(PLAIN, aggregated)), fill.payload(name), at);
            let bodies = bodies(&changes);
            assert_eq!(bodies.len(), 1, "{name}");
            assert_valid(&bodies);
            let mut event: Value = serde_json::from_str(&bodies[0]).unwrap();
            event["Id"] = "(an id)".into();
            golden.push_str(&format!("# {name}, {title}\n{event:#}\n\n"));
        }
        if name.category() == Category::Periodic {
            let empty = Snapshot { name, at: time(5), items: Vec::new() };
            let bodies = bodies(&pipeline(&everything(PLAIN, true)).snapshot(empty, now(9)));
            assert_valid(&bodies);
            let event: Value = serde_json::from_str(&bodies[0]).unwrap();
            assert_eq!((&event["IsEmpty"], &event["Payload"]), (&true.into(), &Value::Array(Vec::new())), "{name}");
        }
    }
    insta::assert_snapshot!("events", golden);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "\\PC{0,20}",
        2 => any::<String>(),
        1 => "[\\x00-\\x1f\"\\\\/<>&\u{7f}\u{2028}]{0,40}",
        1 => (1_usize..30_000, prop::char::any()).prop_map(|(n, c)| c.to_string().repeat(n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever the texts and numbers are: what comes out is valid and fits, or is booked as dropped.
    #[test]
    fn any_content_of_any_event_is_valid(
        which in 0_usize..14, texts in prop::collection::vec(text(), 8), numbers: [u32; 3],
        full: bool, trusted: bool, aggregated: bool, small: bool,
    ) {
        let config = everything(if small { 8192 } else { 262_144 }, aggregated);
        let payload = Fill { texts, numbers, full }.payload(EventName::ALL[which]);
        let changes = pass(&mut pipeline(&config), payload, Timestamp { trusted, ..time(5) });
        let mut books = Books::default();
        books.apply(&changes);
        prop_assert_eq!(books.collected(), 1);
        prop_assert_eq!(books.balance.low.dropped.len() + books.balance.high.dropped.len() + books.events.len(), 1);
        for event in &books.events {
            prop_assert!(event.body.len() <= max_event(&config));
            assert_valid(&[&event.body]);
        }
    }
}

/// What an earlier release kept of an open aggregate is taken over by this one.
#[test]
fn an_aggregate_of_an_earlier_release_is_read() {
    let stored = OpenAggregate {
        key: "ProcessCreate:00".into(),
        queue: Queue::Low,
        hits: 3,
        state: r#"{"payload":{"ProcessCreate":{"Executable":"/bin/sh","ProcessId":0,"ParentProcessId":0,"UserId":"0","UserName":"root","CommandLine":"sh"}},"first":{"utc":"2026-11-22T09:30:00Z","trusted":true},"last":{"utc":"2026-11-22T09:30:01.5Z","trusted":true}}"#.into(),
    };
    let mut pipeline = pipeline(&everything(PLAIN, true));
    assert_eq!(pipeline.restore(vec![stored], now(0)), []);
    let changes = pipeline.flush(now(1));
    let [Change::Close { event, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(event.hits, 3);
    assert!(event.body.contains(r#""HitCount":"3""#) && event.body.contains("2026-11-22T09:30:01.500Z"));
}

/// Each of the three types has a switch and an interval of its own.
#[test]
fn the_three_aggregations_are_independent() {
    let fill = Fill { texts: vec!["a".into()], numbers: [2, 2, 2], full: true };
    let three = [EventName::ProcessCreate, EventName::ConnectionCreate, EventName::ProcessTerminate];
    for off in three {
        let mut config = everything(PLAIN, true);
        for (n, name) in three.into_iter().enumerate() {
            let interval = IsoDuration::from_secs(60 * (n as u64 + 1));
            config.aggregation.insert(name, Aggregation { enabled: name != off, interval });
        }
        let mut pipeline = pipeline(&config);
        let mut books = Books::default();
        for name in three {
            for _ in 0..5 {
                let batch = vec![Observation { at: time(0), serial: 0, what: fill.payload(name) }];
                books.apply(&pipeline.observe(batch, now(0)));
            }
        }
        assert_eq!((books.events.len(), books.open.len()), (5, 2), "{off} at once");
        for (n, name) in three.into_iter().enumerate() {
            let end = 60 * (n as u64 + 1);
            let before = books.events.len();
            books.apply(&pipeline.tick(now(end - 1)));
            assert_eq!(books.events.len(), before);
            books.apply(&pipeline.tick(now(end)));
            assert_eq!(books.events.len() - before, usize::from(name != off), "{name}");
        }
        assert_eq!(books.collected(), 15);
    }
}

/// The wall clock leaps while aggregates are open: the window goes by the other clock, and the times are in order.
#[test]
fn a_leap_of_the_wall_clock_moves_no_window() {
    for leap in [86_400_i64 * 3650, -86_400] {
        let mut pipeline = pipeline(&config(Priority::Low, Some(60), PLAIN));
        let mut books = Books::default();
        let there = |second: u64| {
            let utc = time(second).utc.checked_add(jiff::SignedDuration::from_secs(leap)).unwrap();
            Now { wall: Timestamp::trusted(utc), ..now(second) }
        };
        books.apply(&pipeline.observe(vec![seen("a", 0)], now(0)));
        let late = Observation { at: there(30).wall, serial: 1, what: Payload::ProcessCreate(process("a")) };
        books.apply(&pipeline.observe(vec![late], there(30)));
        books.apply(&pipeline.tick(there(59)));
        assert_eq!(books.events.len(), 0);
        books.apply(&pipeline.tick(there(60)));
        assert_eq!((books.events.len(), books.events[0].hits), (1, 2));
        let event: Value = serde_json::from_str(&books.events[0].body).unwrap();
        let detail = |key: &str| event["Payload"][0]["ExtraDetails"][key].as_str().unwrap().to_owned();
        assert!(detail("StartTimeUtc") < detail("EndTimeUtc"), "{event}");
        assert_valid(&[&books.events[0].body]);
    }
}
