//! The value types that the published events share (schema `messageEventTypeDefinitions`, protocol reference 3.6): each
//! form that they may have goes out as it came in, and is valid.

use super::*;
use crate::model::payload::{DiagnosticSeverity, Direction, FirewallRule, Port};

/// The item as the pipeline writes it, in a valid event.
fn item(what: Payload) -> Value {
    golden::written(what, "3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9a10")["Payload"][0].take()
}

fn rule(change: impl FnOnce(&mut FirewallRule)) -> Value {
    let Payload::FirewallRule(mut rule) = golden::full(EventName::FirewallConfiguration) else { panic!() };
    change(&mut rule);
    item(Payload::FirewallRule(rule))
}

#[test]
fn an_address_tag_may_be_an_address_a_network_a_range_an_exception_or_a_word() {
    for tag in [
        "192.0.2.7",
        "2001:db8::1",
        "192.0.2.0/24",
        "2001:db8::/32",
        "192.0.2.1-192.0.2.9",
        "!192.0.2.0/24",
        "!(192.0.2.1-192.0.2.9)",
        "Local subnet",
        "@blocklist",
    ] {
        let item = rule(|rule| {
            rule.source_address = Some(tag.into());
            rule.destination_address = Some(tag.into());
        });
        assert_eq!((&item["SourceAddress"], &item["DestinationAddress"]), (&Value::from(tag), &Value::from(tag)));
    }
}

#[test]
fn a_port_is_a_text_a_number_a_range_a_list_or_any() {
    for port in ["53248", "53248-53250", "*", "22,53", "22,1024-2048"] {
        let item = rule(|rule| {
            rule.source_port = Some(port.into());
            rule.destination_port = Some(port.into());
        });
        assert_eq!((&item["SourcePort"], &item["DestinationPort"]), (&Value::from(port), &Value::from(port)));
    }
    for (port, text) in [(0, "0"), (22, "22"), (u16::MAX, "65535")] {
        let Payload::ConnectionCreate(mut connection) = golden::full(EventName::ConnectionCreate) else { panic!() };
        connection.remote_port = Port(port);
        assert_eq!(item(Payload::ConnectionCreate(connection))["RemotePort"], text);
    }
    let Payload::ListeningPort(socket) = golden::full(EventName::ListeningPorts) else { panic!() };
    assert_eq!(item(Payload::ListeningPort(socket))["RemotePort"], "*", "a socket that listens has no peer");
}

#[test]
fn a_protocol_is_any_word_and_a_direction_is_one_of_two() {
    for protocol in ["tcp", "udp6", "icmp", "TCP", "132"] {
        assert_eq!(rule(|rule| rule.protocol = Some(protocol.into()))["Protocol"], protocol);
    }
    for (direction, text) in [(Direction::In, "In"), (Direction::Out, "Out")] {
        assert_eq!(rule(|rule| rule.direction = Some(direction))["Direction"], text);
        let Payload::ConnectionCreate(mut connection) = golden::full(EventName::ConnectionCreate) else { panic!() };
        connection.direction = direction;
        assert_eq!(item(Payload::ConnectionCreate(connection))["Direction"], text);
    }
}

#[test]
fn ids_of_processes_and_threads_are_numbers_and_those_of_users_are_texts() {
    for id in [0, 1, u32::MAX] {
        let Payload::Diagnostic(mut line) = golden::full(EventName::Diagnostic) else { panic!() };
        (line.process_id, line.thread_id, line.severity) = (id, id, DiagnosticSeverity::Fatal);
        let item = item(Payload::Diagnostic(line));
        assert_eq!((item["ProcessId"].as_u64(), item["ThreadId"].as_u64()), (Some(id.into()), Some(id.into())));
    }
    let Payload::ProcessCreate(mut process) = golden::full(EventName::ProcessCreate) else { panic!() };
    // The uid that the old agents wrote as a negative number.
    process.user_id = u32::MAX.to_string();
    assert_eq!(item(Payload::ProcessCreate(process))["UserId"], "4294967295");
}
