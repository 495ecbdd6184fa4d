//! The tables of the snapshots. What has no column is in `--json`.

use std::io;

use crate::cli::output;
use crate::model::event::{EventName, Snapshot};
use crate::model::payload::{ExtraDetails, ListeningPort, LocalUser, Payload, SystemInformation};

/// Prints the items of a snapshot.
pub(super) fn print(snapshot: &Snapshot) -> io::Result<()> {
    let rows: Vec<Vec<String>> = snapshot.items.iter().flat_map(rows).collect();
    output::table(header(snapshot.name), &rows)
}

const fn header(name: EventName) -> &'static [&'static str] {
    match name {
        EventName::LocalUsers => &["UID", "NAME", "PASSWORD", "KEYS", "RIGHTS", "SHELL", "HOME", "GROUPS"],
        EventName::ListeningPorts => {
            &["PROTOCOL", "LOCAL", "PORT", "PEER", "SCOPE", "UID", "PID", "NAMESPACE", "EXECUTABLE"]
        }
        EventName::FirewallConfiguration => {
            &["CHAIN", "NO", "ACTION", "WAY", "PROTOCOL", "SOURCE", "PORT", "DESTINATION", "PORT", "RULE"]
        }
        EventName::ConnectedHardware => &["CATEGORY", "KIND", "NAME", "WHERE"],
        EventName::OSBaseline => &["SEVERITY", "RESULT", "CHECK", "WHAT", "FOUND"],
        _ => &["FIELD", "VALUE"],
    }
}

/// The rows of one item: one, but for the one item of SystemInformation, which has one for each field.
fn rows(item: &Payload) -> Vec<Vec<String>> {
    let dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let row = match item {
        Payload::SystemInformation(system) => return fields(system),
        Payload::ListeningPort(port) => port_row(port),
        Payload::LocalUser(user) => user_row(user),
        Payload::FirewallRule(rule) => vec![
            dash(&rule.chain_name),
            rule.priority.map_or_else(|| "-".to_owned(), |number| number.to_string()),
            format!("{:?}", rule.action),
            rule.direction.map_or_else(|| "-".to_owned(), |way| format!("{way:?}")),
            dash(&rule.protocol),
            dash(&rule.source_address),
            dash(&rule.source_port),
            dash(&rule.destination_address),
            dash(&rule.destination_port),
            detail(&rule.extra_details, "Rule"),
        ],
        Payload::ConnectedHardware(device) => vec![
            device.hardware_category.clone(),
            device.hardware_sub_category.clone(),
            device.hardware_name.clone(),
            detail(&device.extra_details, "Path"),
        ],
        Payload::BaselineResult(result) => vec![
            format!("{:?}", result.severity),
            format!("{:?}", result.result),
            detail(&result.extra_details, "CheckId"),
            result.description.clone(),
            result.error.clone(),
        ],
        _ => return Vec::new(),
    };
    vec![row]
}

fn detail(details: &ExtraDetails, key: &str) -> String {
    details.get(key).cloned().unwrap_or_else(|| "-".to_owned())
}

fn user_row(user: &LocalUser) -> Vec<String> {
    let details = &user.extra_details;
    vec![
        user.user_id.clone(),
        user.user_name.clone(),
        detail(details, "Password"),
        detail(details, "SshKeys"),
        if details.contains_key("Root") { "root".to_owned() } else { detail(details, "Privileged") },
        detail(details, "Shell"),
        detail(details, "Home"),
        user.group_names.clone(),
    ]
}

fn port_row(port: &ListeningPort) -> Vec<String> {
    let details = &port.extra_details;
    // A raw socket may have a peer, which has no port.
    let peer = match (port.remote_port.as_str(), port.remote_address.as_str()) {
        ("*", "0.0.0.0" | "::" | "") => "*".to_owned(),
        ("*", address) => address.to_owned(),
        (number, address) if address.contains(':') => format!("[{address}]:{number}"),
        (number, address) => format!("{address}:{number}"),
    };
    let scope = detail(details, "Scope");
    let scope = match details.get("DualStack").map(String::as_str) {
        Some("true") => format!("{scope}, IPv4 too"),
        Some(_) => format!("{scope}, IPv6 only"),
        None => scope,
    };
    vec![
        port.protocol.clone(),
        port.local_address.clone(),
        port.local_port.clone(),
        peer,
        scope,
        detail(details, "UserId"),
        detail(details, "Pid"),
        detail(details, "NetworkNamespace"),
        detail(details, "Executable"),
    ]
}

/// The published fields that are known, under their published names, then the others.
fn fields(system: &SystemInformation) -> Vec<Vec<String>> {
    let Ok(serde_json::Value::Object(map)) = serde_json::to_value(system) else { return Vec::new() };
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let plain = map.iter().filter(|(key, _)| *key != "ExtraDetails").map(|(key, value)| vec![key.clone(), text(value)]);
    let extra = system.extra_details.iter().map(|(key, value)| vec![key.clone(), value.clone()]);
    plain.chain(extra).collect()
}
