//! The answer as a page for people. Pure.

use crate::cli::output::{printable, table_text};

use super::answer::{Account, Answer, Gap, Moment, Queue};

/// The page; foreign text in it is made printable.
pub(super) fn text(answer: &Answer) -> String {
    if let Some(waiting) = &answer.waiting {
        return lines(&[
            ("agent", format!("{}, pid {}", answer.version, answer.pid)),
            ("", up(answer)),
            ("waiting", format!("for its credentials in {}", waiting.file)),
            ("", waiting.why.clone()),
        ]);
    }
    let mut page = head(answer);
    page += &section(&["COLLECTOR", "STATE", "SOURCE", "DETAIL"], &collectors(answer));
    page += &section(&["QUEUE", "WAITING", "BYTES"], &queues(answer));
    page += &section(&["BALANCE", "COLLECTED", "DELIVERED", "DROPPED", "PENDING", "ADDS UP"], &balance(answer));
    page += &section(&["DROPPED", "REASON", "COUNT"], &drops(answer));
    page += &section(&["GAP", "FROM", "TO", "MISSED", "REASON"], &answer.gaps.iter().map(gap).collect::<Vec<_>>());
    page += &section(&["SETTING", "COMES FROM"], &pairs(&answer.origins));
    page
}

/// A table after an empty line; nothing if there are no rows.
fn section(header: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() { String::new() } else { format!("\n{}", table_text(header, rows)) }
}

fn head(answer: &Answer) -> String {
    let Answer { link, twin, .. } = answer;
    let mut head = vec![
        ("agent", format!("{}, id {}, pid {}", answer.version, answer.agent_id, answer.pid)),
        ("", up(answer)),
        ("link", format!("{} since {}", link.state, link.since_utc)),
        ("", format!("{} at {}", link.identity, link.hub)),
    ];
    if !link.error.is_empty() {
        head.push(("", format!("last error: {}", link.error)));
    }
    let version = twin.desired_version.map_or_else(String::new, |v| format!(", desired version {v}"));
    let problems = match twin.problems.len() {
        0 => "no problems".to_owned(),
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    head.push(("twin", format!("from {}{version}, {problems}", twin.source)));
    for p in &twin.problems {
        let force = if p.in_force.is_empty() { String::new() } else { format!("; in force {}", p.in_force) };
        head.push(("", format!("{} ({}): given {}, expected {}{force}", p.key, p.kind, p.given, p.expected)));
    }
    head.push(("in flight", format!("{} message(s) not yet acknowledged", answer.in_flight)));
    let trouble = answer.storage_trouble.as_deref().unwrap_or("works");
    let unstored = match answer.unstored {
        0 => String::new(),
        n => format!("; {n} change(s) wait in memory"),
    };
    head.push(("storage", format!("{trouble}{unstored}")));
    lines(&head)
}

fn up(answer: &Answer) -> String {
    format!("up {}, since {}", span(answer.uptime_seconds), answer.started_utc)
}

/// Names and values, one pair a line.
fn lines(pairs: &[(&str, String)]) -> String {
    pairs.iter().fold(String::new(), |text, (name, value)| text + &format!("{name:<11}{}\n", printable(value)))
}

fn collectors(answer: &Answer) -> Vec<Vec<String>> {
    let row = |c: &super::answer::Collector| vec![c.event.clone(), c.state.clone(), c.source.clone(), c.detail.clone()];
    answer.collectors.iter().map(row).collect()
}

fn queues(answer: &Answer) -> Vec<Vec<String>> {
    let row = |name: &str, q: &Queue| vec![name.to_owned(), q.records.to_string(), q.bytes.to_string()];
    vec![row("High", &answer.high), row("Low", &answer.low)]
}

fn accounts(answer: &Answer) -> [(&'static str, &Account); 2] {
    [("High", &answer.balance.high), ("Low", &answer.balance.low)]
}

fn balance(answer: &Answer) -> Vec<Vec<String>> {
    let row = |(name, a): (&str, &Account)| {
        vec![
            name.to_owned(),
            a.collected.to_string(),
            a.delivered.to_string(),
            a.dropped_total().to_string(),
            a.pending.to_string(),
            if a.holds() { "yes" } else { "NO" }.to_owned(),
        ]
    };
    accounts(answer).into_iter().map(row).collect()
}

fn drops(answer: &Answer) -> Vec<Vec<String>> {
    accounts(answer)
        .into_iter()
        .flat_map(|(name, a)| a.dropped.iter().map(move |(why, n)| vec![name.to_owned(), why.clone(), n.to_string()]))
        .collect()
}

fn gap(gap: &Gap) -> Vec<String> {
    let missed = gap.missed_at_most.map_or_else(|| "unknown".to_owned(), |n| format!("at most {n}"));
    vec![gap.source.clone(), moment(&gap.start), moment(&gap.end), missed, gap.reason.clone()]
}

/// A time; one from a clock that was not believed is marked.
fn moment(moment: &Moment) -> String {
    format!("{}{}", moment.utc, if moment.trusted { "" } else { "?" })
}

fn pairs(map: &std::collections::BTreeMap<String, String>) -> Vec<Vec<String>> {
    map.iter().map(|(key, origin)| vec![key.clone(), origin.clone()]).collect()
}

/// `3 d 4 h`, `2 h 5 min`, `1 min 3 s`: the two largest parts.
pub(in crate::cli) fn span(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{m} min {s} s"),
        (0, ..) => format!("{h} h {m} min"),
        _ => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn example() -> Value {
        json!({
            "version": "0.1.0", "agentId": "3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9a11", "pid": 812,
            "startedUtc": "2026-11-22T09:30:00.000Z", "uptimeSeconds": 7500,
            "link": {"state": "ready", "sinceUtc": "2026-11-22T09:30:02.000Z", "hub": "contoso.azure-devices.net",
                     "identity": "pump-7/azureiotsecurity", "error": ""},
            "twin": {"source": "hub", "desiredVersion": 12, "problems": [
                {"key": "snapshotFrequency", "kind": "TypeMismatch", "given": "\"often\"",
                 "expected": "an ISO 8601 duration", "in_force": "PT13H"}]},
            "collectors": [
                {"event": "ProcessCreate", "state": "ok", "source": "process connector", "detail": ""},
                {"event": "ListeningPorts", "state": "degraded", "source": "", "detail": "owners unseen"}],
            "balance": {
                "high": {"collected": 10, "delivered": 7, "dropped": {"oversize": 1}, "pending": 2},
                "low": {"collected": 5, "delivered": 0, "dropped": {}, "pending": 4}},
            "high": {"records": 2, "bytes": 1480}, "low": {"records": 4, "bytes": 2960}, "inFlight": 1,
            "gaps": [{"source": "agent", "start": {"utc": "2026-11-22T08:00:00Z", "trusted": false},
                      "end": {"utc": "2026-11-22T09:30:00Z", "trusted": true}, "reason": "not running"}],
            "storageTrouble": null, "unstored": 0,
            "origins": {"hub.port": "/etc/twinward/twinward.toml"}
        })
    }

    fn page(value: Value) -> String {
        text(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_page_for_people() {
        insta::assert_snapshot!(page(example()), @r#"
        agent      0.1.0, id 3f0d7d6c-0c1e-4b0e-9a53-0e4b6d2c9a11, pid 812
                   up 2 h 5 min, since 2026-11-22T09:30:00.000Z
        link       ready since 2026-11-22T09:30:02.000Z
                   pump-7/azureiotsecurity at contoso.azure-devices.net
        twin       from hub, desired version 12, 1 problem
                   snapshotFrequency (TypeMismatch): given "often", expected an ISO 8601 duration; in force PT13H
        in flight  1 message(s) not yet acknowledged
        storage    works

        COLLECTOR       STATE     SOURCE             DETAIL
        ProcessCreate   ok        process connector
        ListeningPorts  degraded                     owners unseen

        QUEUE  WAITING  BYTES
        High   2        1480
        Low    4        2960

        BALANCE  COLLECTED  DELIVERED  DROPPED  PENDING  ADDS UP
        High     10         7          1        2        yes
        Low      5          0          0        4        NO

        DROPPED  REASON    COUNT
        High     oversize  1

        GAP    FROM                   TO                    MISSED   REASON
        agent  2026-11-22T08:00:00Z?  2026-11-22T09:30:00Z  unknown  not running

        SETTING   COMES FROM
        hub.port  /etc/twinward/twinward.toml
        "#);
    }

    #[test]
    fn trouble_is_seen() {
        let mut value = example();
        value["link"] =
            json!({"state": "down", "sinceUtc": "x", "hub": "h", "identity": "d/m", "error": "no\u{1b}[2J"});
        value["storageTrouble"] = json!("disk full");
        value["unstored"] = json!(7);
        let page = page(value);
        assert!(page.contains("storage    disk full; 7 change(s) wait in memory\n"), "{page}");
        assert!(page.contains("last error: no\\u{1b}[2J\n"), "{page}");
    }

    #[test]
    fn an_agent_of_another_version_can_be_looked_at() {
        let page = page(json!({"version": "9.0.0", "colour": {"of": "bikeshed"}}));
        assert!(page.starts_with("agent      9.0.0, id"), "{page}");
    }

    #[test]
    fn huge_numbers_are_added_without_overflow() {
        let n = u64::MAX;
        let page = page(json!({"balance": {"high": {"collected": n, "delivered": n, "dropped": {"a": n, "b": n}}}}));
        assert!(page.contains("36893488147419103230"), "{page}");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([59, 63, 7500, 90_000].map(span), ["59 s", "1 min 3 s", "2 h 5 min", "1 d 1 h"]);
    }
}
