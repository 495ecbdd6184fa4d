//! The tables of the snapshots. What has no column is in `--json`.

use std::io;

use crate::cli::output;
use crate::model::event::{EventName, Snapshot};
use crate::model::payload::{ExtraDetails, FirewallRule, ListeningPort, LocalUser, Payload, SystemInformation};

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
            &["TABLE", "CHAIN", "NO", "ACTION", "WAY", "PROTOCOL", "SOURCE", "PORT", "DESTINATION", "PORT", "RULE"]
        }
        EventName::ConnectedHardware => &["CATEGORY", "KIND", "NAME", "STATE", "SERIAL", "WHERE"],
        EventName::OSBaseline => &["SEVERITY", "RESULT", "CHECK", "WHAT", "FOUND"],
        _ => &["FIELD", "VALUE"],
    }
}

/// The rows of one item: one, but for the one item of SystemInformation, which has one for each field.
fn rows(item: &Payload) -> Vec<Vec<String>> {
    let row = match item {
        Payload::SystemInformation(system) => return fields(system),
        Payload::ListeningPort(port) => port_row(port),
        Payload::LocalUser(user) => user_row(user),
        Payload::FirewallRule(rule) => rule_row(rule),
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

/// Which way a rule of a map goes stands behind the rule; what is not in force says so.
fn rule_row(rule: &FirewallRule) -> Vec<String> {
    let short = |value: &Option<String>| {
        let text = value.as_deref().unwrap_or("-");
        if text.chars().count() <= 40 {
            text.to_owned()
        } else {
            format!("{}…", text.chars().take(39).collect::<String>())
        }
    };
    let details = &rule.extra_details;
    let of_iptables = if details.get("Backend").is_some_and(|b| b == "iptables-legacy") { " (legacy)" } else { "" };
    let element = details.get("MapElement").map(|element| format!(" [{element}]")).unwrap_or_default();
    vec![
        format!("{} {}{of_iptables}", detail(details, "Family"), detail(details, "Table")),
        short(&rule.chain_name),
        rule.priority.map_or_else(|| "-".to_owned(), |number| number.to_string()),
        format!("{:?}{}", rule.action, if rule.enabled { "" } else { " (off)" }),
        rule.direction.map_or_else(|| "-".to_owned(), |way| format!("{way:?}")),
        short(&rule.protocol),
        short(&rule.source_address),
        short(&rule.source_port),
        short(&rule.destination_address),
        short(&rule.destination_port),
        format!("{}{element}", detail(details, "Rule")),
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
