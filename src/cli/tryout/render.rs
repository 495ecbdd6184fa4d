//! One readable line for each event of a message, from its JSON as the hub received it.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value by name gives null for what is absent")]

use serde_json::Value;

use crate::cli::output::printable;

/// Longest line; a terminal is not a log.
const WIDTH: usize = 160;

/// One line for each event in `body`; a body that is no message gives one line that says so.
pub(super) fn message(body: &Value) -> Vec<String> {
    match body["Events"].as_array() {
        Some(events) => events.iter().map(event).collect(),
        None => vec!["not a message of the published form".to_owned()],
    }
}

fn event(event: &Value) -> String {
    let name = text(&event["Name"]);
    let items = event["Payload"].as_array().map_or(&[][..], Vec::as_slice);
    let details = match (name.as_str(), items) {
        (_, []) => "nothing found".to_owned(),
        ("ProcessCreate", [item, ..]) => process(item),
        ("LocalUsers", items) => some("accounts", items, |i| text(&i["UserName"])),
        ("ListeningPorts", items) => {
            let socket =
                |i: &Value| format!("{} {}:{}", text(&i["Protocol"]), text(&i["LocalAddress"]), text(&i["LocalPort"]));
            some("sockets", items, socket)
        }
        ("FirewallConfiguration", items) => some("rules and policies", items, |i| text(&i["ExtraDetails"]["Rule"])),
        ("ConnectedHardware", items) => {
            let gone = items.iter().filter(|i| i["ExtraDetails"]["State"] != "connected").count();
            some(&format!("devices, {gone} of them gone"), items, |i| text(&i["HardwareName"]))
        }
        ("OSBaseline", items) => {
            let critical = items.iter().filter(|i| i["Severity"] == "Critical" && i["Result"] == "Fail").count();
            some(&format!("checks amiss, {critical} of them critical"), items, |i| text(&i["ExtraDetails"]["CheckId"]))
        }
        ("SystemInformation", [item, ..]) => format!(
            "{} {}, {}, {} MiB, host {}",
            text(&item["OSName"]),
            text(&item["OSVersion"]),
            text(&item["OsArchitecture"]),
            item["TotalPhysicalMemoryInKB"].as_u64().unwrap_or(0) / 1024,
            text(&item["HostName"])
        ),
        ("DroppedEventsStatistics", items) => items
            .iter()
            .map(|i| {
                format!("{}: {} collected, {} dropped", text(&i["Queue"]), i["CollectedEvents"], i["DroppedEvents"])
            })
            .collect::<Vec<_>>()
            .join("; "),
        ("MessageStatistics", [item, ..]) => {
            format!(
                "{} sent, {} under 4 KiB, {} failed",
                item["MessagesSent"], item["MessagesUnder4KB"], item["TotalFailed"]
            )
        }
        ("ConfigurationError", [item, ..]) => {
            format!("{}: {} ({})", text(&item["ConfigurationName"]), text(&item["ErrorType"]), text(&item["Message"]))
        }
        (_, items) => format!("{} items: {}", items.len(), items.first().map(Value::to_string).unwrap_or_default()),
    };
    let time = event["TimestampLocal"].as_str().and_then(|t| t.get(11..19)).unwrap_or("--:--:--").to_owned();
    cut(&printable(&format!("{time}  {name:<24}{details}")))
}

/// How many there are, and the names of the first ones.
fn some(what: &str, items: &[Value], name: impl Fn(&Value) -> String) -> String {
    let names: Vec<_> = items.iter().take(6).map(name).collect();
    let more = items.len().saturating_sub(names.len());
    let more = if more > 0 { format!(", {more} more") } else { String::new() };
    format!("{} {what}: {}{more}", items.len(), names.join(", "))
}

fn process(item: &Value) -> String {
    let hits = item["ExtraDetails"]["HitCount"].as_str().filter(|h| *h != "1");
    let user = item["UserName"].as_str().or(item["UserId"].as_str()).unwrap_or("?");
    let line = match text(&item["CommandLine"]) {
        line if line.is_empty() => "(ended before it could be read)".to_owned(),
        line => line,
    };
    let hits = hits.map(|h| format!(" ({h} times)")).unwrap_or_default();
    let executable = match text(&item["Executable"]) {
        path if path.is_empty() => String::new(),
        path => format!("  [{path}]"),
    };
    format!("{user}: {line}{hits}{executable}")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_event_is_one_harmless_line() {
        let body = json!({"Events": [
            {"Name": "ProcessCreate", "TimestampLocal": "2026-07-01T11:30:00.250+02:00", "Payload": [{"UserName": "root", "CommandLine": "ls \u{1b}[31m -l", "Executable": "/bin/ls", "ExtraDetails": {"HitCount": "3"}}]},
            {"Name": "ListeningPorts", "TimestampLocal": "2026-07-01T11:30:00.250+02:00", "Payload": []},
            {"Name": "LocalUsers", "Payload": [{"UserName": "root"}, {"UserName": "pi"}]},
            {"Name": "OSBaseline", "Payload": [{"Severity": "Critical", "Result": "Fail", "ExtraDetails": {"CheckId": "ssh-root-login"}}]},
            {"Name": "MessageStatistics", "Payload": [{"MessagesSent": 4, "MessagesUnder4KB": 1, "TotalFailed": 0}]},
        ]});
        assert_eq!(
            message(&body),
            [
                "11:30:00  ProcessCreate           root: ls \\u{1b}[31m -l (3 times)  [/bin/ls]",
                "11:30:00  ListeningPorts          nothing found",
                "--:--:--  LocalUsers              2 accounts: root, pi",
                "--:--:--  OSBaseline              1 checks amiss, 1 of them critical: ssh-root-login",
                "--:--:--  MessageStatistics       4 sent, 1 under 4 KiB, 0 failed",
            ]
        );
        assert_eq!(message(&json!([])), ["not a message of the published form"]);
    }

    #[test]
    fn long_lines_are_cut() {
        let body = json!({"Events": [{"Name": "ProcessCreate", "Payload": [{"CommandLine": "ö".repeat(500)}]}]});
        assert_eq!(message(&body)[0].chars().count(), WIDTH);
    }
}
