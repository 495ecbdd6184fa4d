//! The wire form of all fourteen events, each with everything it can hold and with the least: `tests/golden/events`.

use std::net::IpAddr;

use super::*;
use crate::model::payload::{
    Address, BaselineOutcome, BaselineResult, BaselineSeverity, ConfigurationError, ConnectedHardware,
    ConnectionCreate, Diagnostic, DiagnosticSeverity, Direction, DroppedEvents, FirewallAction, FirewallRule,
    ListeningPort, LocalUser, Login, LoginResult, Port, ProcessTerminate,
};

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

fn details() -> BTreeMap<String, String> {
    [("Note".to_owned(), "a \"quoted\" word".to_owned())].into()
}

/// Every field of the published schema has a value.
#[expect(clippy::too_many_lines, reason = "one arm for each event")]
pub(super) fn full(name: EventName) -> Payload {
    let some = |text: &str| Some(text.to_owned());
    match name {
        EventName::ProcessCreate => {
            Payload::ProcessCreate(ProcessCreate { extra_details: details(), ..process("id -u") })
        }
        EventName::ProcessTerminate => Payload::ProcessTerminate(ProcessTerminate {
            executable: "/usr/bin/id".into(),
            process_id: 812,
            exit_status: 137,
            extra_details: details(),
        }),
        EventName::ConnectionCreate => Payload::ConnectionCreate(ConnectionCreate {
            remote_address: address("2001:db8::7"),
            remote_port: Port(443),
            local_address: Some(address("2001:db8::1")),
            local_port: Some(Port(53_248)),
            direction: Direction::Out,
            protocol: "tcp".into(),
            process_id: 812,
            user_id: some("1000"),
            executable: "/usr/bin/curl".into(),
            command_line: some("curl https://host.example"),
            extra_details: details(),
        }),
        EventName::Login => Payload::Login(Login {
            process_id: 812,
            user_id: some("1000"),
            user_name: "alice".into(),
            operation: "PAM:authentication".into(),
            executable: "/usr/sbin/sshd".into(),
            remote_address: Some(address("::ffff:192.0.2.7")),
            remote_port: Some(Port(50_000)),
            local_port: Some(Port(22)),
            result: LoginResult::Success,
            extra_details: details(),
        }),
        EventName::LocalUsers => Payload::LocalUser(LocalUser {
            user_id: "1000".into(),
            user_name: "alice".into(),
            group_ids: "1000;27".into(),
            group_names: "alice;sudo".into(),
            extra_details: details(),
        }),
        EventName::ListeningPorts => Payload::ListeningPort(ListeningPort {
            protocol: "tcp".into(),
            local_address: "0.0.0.0".into(),
            local_port: "22".into(),
            remote_address: "0.0.0.0".into(),
            remote_port: "*".into(),
            extra_details: details(),
        }),
        EventName::FirewallConfiguration => Payload::FirewallRule(FirewallRule {
            enabled: true,
            action: FirewallAction::Deny,
            priority: Some(3),
            direction: Some(Direction::In),
            chain_name: some("INPUT"),
            application: some("/usr/sbin/sshd"),
            source_address: some("!192.0.2.0/24"),
            source_port: some("1024-65535"),
            destination_address: some("192.0.2.1-192.0.2.9"),
            destination_port: some("22,53"),
            protocol: some("tcp"),
            extra_details: details(),
        }),
        EventName::SystemInformation => Payload::SystemInformation(SystemInformation {
            os_name: some("Linux"),
            os_version: some("6.12.48"),
            os_vendor: some("Debian"),
            os_architecture: some("aarch64"),
            host_name: some("gateway-7"),
            bios_version: some("1.2"),
            boot_device: some("/dev/mmcblk0p2"),
            total_physical_memory_kib: Some(1_024_000),
            free_physical_memory_kib: Some(512_000),
            total_virtual_memory_kib: Some(2_048_000),
            free_virtual_memory_kib: Some(1_536_000),
            extra_details: details(),
        }),
        EventName::ConnectedHardware => Payload::ConnectedHardware(ConnectedHardware {
            hardware_category: "USB".into(),
            hardware_sub_category: "Keyboard".into(),
            hardware_name: "Example Keyboard".into(),
            extra_details: details(),
        }),
        EventName::OSBaseline => Payload::BaselineResult(BaselineResult {
            description: "Root must not sign in over SSH".into(),
            cce_id: "CCE-4387-8".into(),
            result: BaselineOutcome::Fail,
            error: "PermitRootLogin is yes".into(),
            severity: BaselineSeverity::Critical,
            extra_details: details(),
        }),
        EventName::Diagnostic => Payload::Diagnostic(Diagnostic {
            severity: DiagnosticSeverity::Warning,
            message: "snapshot failed".into(),
            process_id: 812,
            thread_id: 815,
            correlation_id: Some("9c647395-b913-4997-a732-a7fe7303b649".parse().unwrap()),
            extra_details: details(),
        }),
        EventName::ConfigurationError => Payload::ConfigurationError(ConfigurationError {
            configuration_name: "snapshotFrequency".into(),
            error_type: "TypeMismatch".into(),
            used_configuration: "PT13H".into(),
            message: "given \"soon\", expected an ISO-8601 duration".into(),
            extra_details: details(),
        }),
        EventName::DroppedEventsStatistics => Payload::DroppedEvents(DroppedEvents {
            queue: "High".into(),
            collected_events: 9,
            dropped_events: 2,
            extra_details: details(),
        }),
        EventName::MessageStatistics => Payload::MessageStatistics(MessageStatistics {
            messages_sent: 7,
            messages_under_4_kib: 5,
            total_failed: 1,
            extra_details: details(),
        }),
    }
}

/// Nothing is known that need not be.
fn least(name: EventName) -> Payload {
    let empty = String::new;
    match name {
        EventName::ProcessCreate => Payload::ProcessCreate(ProcessCreate::default()),
        EventName::ProcessTerminate => Payload::ProcessTerminate(ProcessTerminate::default()),
        EventName::ConnectionCreate => Payload::ConnectionCreate(ConnectionCreate {
            remote_address: address("0.0.0.0"),
            remote_port: Port(0),
            local_address: None,
            local_port: None,
            direction: Direction::In,
            protocol: empty(),
            process_id: 0,
            user_id: None,
            executable: empty(),
            command_line: None,
            extra_details: [].into(),
        }),
        EventName::Login => Payload::Login(Login {
            process_id: 0,
            user_id: None,
            user_name: empty(),
            operation: empty(),
            executable: empty(),
            remote_address: None,
            remote_port: None,
            local_port: None,
            result: LoginResult::Fail,
            extra_details: [].into(),
        }),
        EventName::LocalUsers => Payload::LocalUser(LocalUser::default()),
        EventName::ListeningPorts => Payload::ListeningPort(ListeningPort {
            local_address: "::".into(),
            remote_address: "::".into(),
            ..Default::default()
        }),
        EventName::FirewallConfiguration => Payload::FirewallRule(FirewallRule {
            enabled: false,
            action: FirewallAction::Other,
            priority: None,
            direction: None,
            chain_name: None,
            application: None,
            source_address: None,
            source_port: None,
            destination_address: None,
            destination_port: None,
            protocol: None,
            extra_details: [].into(),
        }),
        EventName::SystemInformation => Payload::SystemInformation(SystemInformation::default()),
        EventName::ConnectedHardware => Payload::ConnectedHardware(ConnectedHardware::default()),
        EventName::OSBaseline => Payload::BaselineResult(BaselineResult {
            description: empty(),
            cce_id: empty(),
            result: BaselineOutcome::Err,
            error: empty(),
            severity: BaselineSeverity::Informational,
            extra_details: [].into(),
        }),
        EventName::Diagnostic => Payload::Diagnostic(Diagnostic {
            severity: DiagnosticSeverity::Debug,
            message: empty(),
            process_id: 0,
            thread_id: 0,
            correlation_id: None,
            extra_details: [].into(),
        }),
        EventName::ConfigurationError => Payload::ConfigurationError(ConfigurationError {
            error_type: "Conflict".into(),
            ..ConfigurationError::default()
        }),
        EventName::DroppedEventsStatistics => {
            Payload::DroppedEvents(DroppedEvents { queue: "Low".into(), ..DroppedEvents::default() })
        }
        EventName::MessageStatistics => Payload::MessageStatistics(MessageStatistics::default()),
    }
}

/// Every type in the high queue, none aggregated.
fn plain() -> AgentConfig {
    let mut config = AgentConfig::default();
    for name in EventName::ALL {
        config.priorities.insert(name, Priority::High);
        config.aggregation.remove(&name);
    }
    config
}

/// The event of this payload as the pipeline writes it, with an id that stays.
pub(super) fn written(what: Payload, id: &str) -> Value {
    let (name, at) = (what.event(), time(0));
    let mut pipeline = pipeline(&plain());
    let changes = match name.category() {
        Category::Triggered => pipeline.observe(vec![Observation { at, serial: 0, what }], now(0)),
        Category::Periodic => pipeline.snapshot(Snapshot { name, at, items: vec![what] }, now(0)),
    };
    assert_eq!(changes.len(), 1);
    let body = event_body(&changes[0]);
    assert_valid(&[body]);
    let mut event: Value = serde_json::from_str(body).unwrap();
    event["Id"] = Value::from(id);
    event
}

#[test]
fn all_fourteen_events_are_as_published() {
    insta::with_settings!({
        snapshot_path => "../../../tests/golden/events",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        for name in EventName::ALL {
            let full = written(full(name), "3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9a10");
            let least = written(least(name), "c6b0c9ee-5c0f-4b0b-8f0e-3f3a6b1a7d55");
            insta::assert_snapshot!(name.as_str(), serde_json::to_string_pretty(&[full, least]).unwrap());
        }
    });
}

/// The golden files are only as good as the samples: each field that the schema knows is in the full one.
#[test]
fn the_full_event_has_every_published_field() {
    for name in EventName::ALL {
        let payload = full(name);
        let sample = payload.to_value().unwrap();
        let mut have: Vec<&str> = sample.as_object().unwrap().keys().map(String::as_str).collect();
        let published = schema::payload_fields(name);
        have.sort_unstable();
        assert_eq!(have, published, "{name}");
    }
}

/// A snapshot is one event however much it lists; what happened is an event of its own each time.
#[test]
fn a_triggered_event_has_one_item_and_a_snapshot_as_many_as_it_found() {
    for name in EventName::ALL {
        let at = time(0);
        let mut pipeline = pipeline(&plain());
        let changes = match name.category() {
            Category::Triggered => {
                let seen = |serial| Observation { at, serial, what: full(name) };
                pipeline.observe((0..3).map(seen).collect(), now(0))
            }
            Category::Periodic => {
                pipeline.snapshot(Snapshot { name, at, items: (0..3).map(|_| full(name)).collect() }, now(0))
            }
        };
        let items = |change| {
            let event: Value = serde_json::from_str(&shown(event_body(change))).unwrap();
            event["Payload"].as_array().unwrap().len()
        };
        let expected: &[usize] = if name.category() == Category::Triggered { &[1, 1, 1] } else { &[3] };
        assert_eq!(changes.iter().map(items).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn a_triggered_event_is_never_empty() {
    for name in EventName::ALL {
        let changes = pipeline(&plain()).snapshot(Snapshot { name, at: time(0), items: Vec::new() }, now(0));
        match name.category() {
            Category::Triggered => {
                let dropped = Change::Drop { queue: Queue::High, hits: 1, reason: DropReason::Corrupt };
                assert_eq!(changes, [dropped], "{name}");
            }
            Category::Periodic => {
                let event: Value = serde_json::from_str(&shown(event_body(&changes[0]))).unwrap();
                assert_eq!((&event["IsEmpty"], &event["Payload"]), (&Value::from(true), &serde_json::json!([])));
            }
        }
    }
}
