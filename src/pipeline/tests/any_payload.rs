//! Whatever a payload of any event holds, what leaves the pipeline is valid, fits, and is accounted for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::model::ids::AgentId;
use crate::model::message::MessageRoot;
use crate::model::payload::{
    BaselineOutcome, BaselineResult, BaselineSeverity, ConfigurationError, ConnectedHardware, ConnectionCreate,
    Diagnostic, DiagnosticSeverity, Direction, DroppedEvents, FirewallAction, FirewallRule, LocalUser, Login,
    LoginResult, Port, ProcessTerminate,
};

/// What a payload of any kind is made of.
#[derive(Clone, Debug)]
struct Parts {
    texts: Vec<String>,
    details: BTreeMap<String, String>,
    numbers: [u32; 3],
    large: u64,
    /// Which optional fields are there, and which of the choices is taken.
    choice: u16,
    address: [u16; 8],
}

fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec!['\0', '\u{1}', '\n', '"', '\\', '\u{7f}', '\u{2028}', 'é', '\u{1f512}', 'x']);
    prop_oneof![
        4 => any::<String>(),
        2 => prop::collection::vec(odd.clone(), 0..40).prop_map(String::from_iter),
        1 => (odd, 0_usize..20_000).prop_map(|(c, count)| c.to_string().repeat(count)),
    ]
}

fn parts() -> impl Strategy<Value = Parts> {
    let texts = prop::collection::vec(text(), 8);
    let details = prop::collection::btree_map(text(), text(), 0..3);
    let mapped = any::<[u16; 2]>().prop_map(|[a, b]| [0, 0, 0, 0, 0, 0xffff, a, b]);
    let address = prop_oneof![any::<[u16; 8]>(), mapped, Just([0; 8])];
    (texts, details, any::<[u32; 3]>(), any::<u64>(), any::<u16>(), address).prop_map(
        |(texts, details, numbers, large, choice, address)| Parts { texts, details, numbers, large, choice, address },
    )
}

#[expect(clippy::too_many_lines, reason = "one arm for each event")]
fn build(name: EventName, parts: Parts) -> Payload {
    let Parts { texts, details: extra_details, numbers: [n0, n1, n2], large, choice, address } = parts;
    let mut texts = texts.into_iter();
    let mut text = || texts.next().unwrap();
    let there = |bit: u16| choice & (1 << bit) != 0;
    let address = || IpAddr::from(Ipv6Addr::from(address)).into();
    let port = |n: u32| Port(u16::try_from(n & 0xffff).unwrap());
    let direction = if there(15) { Direction::In } else { Direction::Out };
    match name {
        EventName::ProcessCreate => Payload::ProcessCreate(ProcessCreate {
            executable: text(),
            process_id: n0,
            parent_process_id: n1,
            user_id: text(),
            user_name: there(0).then(&mut text),
            command_line: text(),
            extra_details,
        }),
        EventName::ProcessTerminate => Payload::ProcessTerminate(ProcessTerminate {
            executable: text(),
            process_id: n0,
            exit_status: n1.cast_signed(),
            extra_details,
        }),
        EventName::ConnectionCreate => Payload::ConnectionCreate(ConnectionCreate {
            remote_address: address(),
            remote_port: port(n0),
            local_address: there(0).then(address),
            local_port: there(1).then_some(port(n1)),
            direction,
            protocol: text(),
            process_id: n2,
            user_id: there(2).then(&mut text),
            executable: text(),
            command_line: there(3).then(&mut text),
            extra_details,
        }),
        EventName::Login => Payload::Login(Login {
            process_id: n0,
            user_id: there(0).then(&mut text),
            user_name: text(),
            operation: text(),
            executable: text(),
            remote_address: there(1).then(address),
            remote_port: there(2).then_some(port(n1)),
            local_port: there(3).then_some(port(n2)),
            result: if there(4) { LoginResult::Success } else { LoginResult::Fail },
            extra_details,
        }),
        EventName::LocalUsers => Payload::LocalUser(LocalUser {
            user_id: text(),
            user_name: text(),
            group_ids: text(),
            group_names: text(),
            extra_details,
        }),
        EventName::ListeningPorts => Payload::ListeningPort(ListeningPort {
            protocol: text(),
            local_address: Ipv6Addr::from(u128::from(large)).to_string(),
            local_port: text(),
            remote_address: "0.0.0.0".into(),
            remote_port: text(),
            extra_details,
        }),
        EventName::FirewallConfiguration => Payload::FirewallRule(FirewallRule {
            enabled: there(0),
            action: [FirewallAction::Allow, FirewallAction::Deny, FirewallAction::Other][usize::from(choice % 3)],
            priority: there(1).then_some(n0),
            direction: there(2).then_some(direction),
            chain_name: there(3).then(&mut text),
            application: there(4).then(&mut text),
            source_address: there(5).then(&mut text),
            source_port: there(6).then(&mut text),
            destination_address: there(7).then(&mut text),
            destination_port: there(8).then(&mut text),
            protocol: there(9).then(&mut text),
            extra_details,
        }),
        EventName::SystemInformation => Payload::SystemInformation(SystemInformation {
            os_name: there(0).then(&mut text),
            os_version: there(1).then(&mut text),
            os_vendor: there(2).then(&mut text),
            os_architecture: there(3).then(&mut text),
            host_name: there(4).then(&mut text),
            bios_version: there(5).then(&mut text),
            boot_device: there(6).then(&mut text),
            total_physical_memory_kib: there(7).then_some(large),
            free_physical_memory_kib: there(8).then_some(large / 2),
            total_virtual_memory_kib: there(9).then_some(large),
            free_virtual_memory_kib: there(10).then_some(0),
            extra_details,
        }),
        EventName::ConnectedHardware => Payload::ConnectedHardware(ConnectedHardware {
            hardware_category: text(),
            hardware_sub_category: text(),
            hardware_name: text(),
            extra_details,
        }),
        EventName::OSBaseline => Payload::BaselineResult(BaselineResult {
            description: text(),
            cce_id: text(),
            result: [BaselineOutcome::Pass, BaselineOutcome::Fail, BaselineOutcome::Err][usize::from(choice % 3)],
            error: text(),
            severity: if there(14) { BaselineSeverity::Important } else { BaselineSeverity::Warning },
            extra_details,
        }),
        EventName::Diagnostic => Payload::Diagnostic(Diagnostic {
            severity: if there(0) { DiagnosticSeverity::Fatal } else { DiagnosticSeverity::Information },
            message: text(),
            process_id: n0,
            thread_id: n1,
            correlation_id: there(1).then(|| uuid::Uuid::from_u64_pair(large, large)),
            extra_details,
        }),
        EventName::ConfigurationError => Payload::ConfigurationError(ConfigurationError {
            configuration_name: text(),
            error_type: ["TypeMismatch", "NotOptimal", "Conflict"][usize::from(choice % 3)].into(),
            used_configuration: text(),
            message: text(),
            extra_details,
        }),
        EventName::DroppedEventsStatistics => Payload::DroppedEvents(DroppedEvents {
            queue: Queue::ALL[usize::from(choice % 2)].as_str().into(),
            collected_events: large,
            dropped_events: n0.into(),
            extra_details,
        }),
        EventName::MessageStatistics => Payload::MessageStatistics(MessageStatistics {
            messages_sent: large,
            messages_under_4_kib: n0.into(),
            total_failed: n1.into(),
            extra_details,
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_payload_gives_valid_bodies_that_fit_and_are_accounted_for(
        name in prop::sample::select(EventName::ALL.to_vec()),
        given in prop::collection::vec(parts(), 0..4),
        max_message in 8192_u64..100_000,
        aggregated in any::<bool>(),
        trusted in any::<bool>(),
    ) {
        let mut config = AgentConfig { max_message_size: ByteSize::bytes(max_message), ..AgentConfig::default() };
        config.priorities.insert(name, Priority::High);
        for aggregation in config.aggregation.values_mut() {
            aggregation.enabled = aggregated;
        }
        let at = Timestamp { trusted, ..time(0) };
        let count = given.len();
        let items: Vec<Payload> = given.into_iter().map(|parts| build(name, parts)).collect();

        let (mut pipeline, mut books) = (pipeline(&config), Books::default());
        let snapshot = name.category() == Category::Periodic;
        if snapshot {
            books.apply(&pipeline.snapshot(Snapshot { name, at, items }, now(0)));
        } else {
            let batch = items.into_iter().map(|what| Observation { at, serial: 0, what }).collect();
            books.apply(&pipeline.observe(batch, now(0)));
            books.apply(&pipeline.flush(now(1)));
        }

        let root = MessageRoot::new(crate::model::VERSION, AgentId::random());
        let (mut shown, mut ids) = (0, BTreeSet::new());
        for event in &books.events {
            prop_assert!(event.body.len() <= max_event(&config));
            prop_assert!(root.body(&[&event.body]).len() <= max_body(&config));
            assert_valid(&[&event.body]);
            let event: Value = serde_json::from_str(&event.body).unwrap();
            prop_assert_eq!(event["Name"].as_str(), Some(name.as_str()));
            let items = event["Payload"].as_array().unwrap();
            for item in items {
                let mark = item["ExtraDetails"]["TimeTrusted"].as_str();
                prop_assert_eq!(mark == Some("false"), !trusted);
            }
            shown += items.len();
            ids.insert(event["Id"].to_string());
        }
        prop_assert_eq!(ids.len(), books.events.len());

        let hits: u64 = books.events.iter().map(|event| event.hits).sum();
        let account = &books.balance.high;
        prop_assert_eq!((books.open.len(), account.collected), (0, hits + account.dropped_total()));
        let lost = usize::try_from(account.dropped_total()).unwrap();
        if snapshot {
            prop_assert_eq!(shown + lost, count, "each item is shown or dropped");
            prop_assert_eq!(hits, u64::from(shown > 0 || count == 0));
        } else {
            prop_assert_eq!(usize::try_from(account.collected).unwrap(), count);
        }
    }
}
