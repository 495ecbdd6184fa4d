//! The tables of the snapshots. What has no column is in `--json`.

use std::io;

use crate::cli::output;
use crate::model::event::{EventName, Snapshot};
use crate::model::payload::{ExtraDetails, ListeningPort, Payload, SystemInformation};

/// Prints the items of a snapshot.
pub(super) fn print(snapshot: &Snapshot) -> io::Result<()> {
    let rows: Vec<Vec<String>> = snapshot.items.iter().flat_map(rows).collect();
    output::table(header(snapshot.name), &rows)
}

const fn header(name: EventName) -> &'static [&'static str] {
    match name {
        EventName::LocalUsers => &["UID", "NAME", "GROUPS", "PASSWORD", "SHELL", "HOME"],
        EventName::ListeningPorts => &["PROTOCOL", "LOCAL", "PORT", "PEER", "UID", "PID", "EXECUTABLE"],
        EventName::FirewallConfiguration => {
            &["CHAIN", "NO", "ACTION", "WAY", "PROTOCOL", "SOURCE", "PORT", "DESTINATION", "PORT", "RULE"]
        }
        EventName::ConnectedHardware => &["CATEGORY", "KIND", "NAME", "STATE", "SERIAL", "WHERE"],
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
        Payload::LocalUser(user) => vec![
            user.user_id.clone(),
            user.user_name.clone(),
            user.group_names.clone(),
            detail(&user.extra_details, "Password"),
            detail(&user.extra_details, "Shell"),
            detail(&user.extra_details, "Home"),
        ],
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
            if device.hardware_sub_category.is_empty() { "-" } else { &device.hardware_sub_category }.to_owned(),
            device.hardware_name.clone(),
            detail(&device.extra_details, "State"),
            // What tells two of a kind apart.
            match detail(&device.extra_details, "Serial") {
                none if none == "-" => detail(&device.extra_details, "MacAddress"),
                serial => serial,
            },
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

fn port_row(port: &ListeningPort) -> Vec<String> {
    let peer = if port.remote_port == "*" {
        "*".to_owned()
    } else if port.remote_address.contains(':') {
        format!("[{}]:{}", port.remote_address, port.remote_port)
    } else {
        format!("{}:{}", port.remote_address, port.remote_port)
    };
    vec![
        port.protocol.clone(),
        port.local_address.clone(),
        port.local_port.clone(),
        peer,
        detail(&port.extra_details, "UserId"),
        detail(&port.extra_details, "Pid"),
        detail(&port.extra_details, "Executable"),
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
