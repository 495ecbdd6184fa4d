//! The reported section: the effective configuration under the contract's name, and the object `twinward` with
//! everything else (design: version, agent id, desired version, problems, collectors, loss balance, gaps).
//!
//! It is sent at once when the configuration changes, else at most every five minutes and only if it differs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::model::loss::{Account, Gap};
use crate::model::problem::Problem;
use crate::model::time::Mono;
use crate::settings::defaults::OWN_OBJECT;
use crate::settings::reported::reported;
use crate::settings::twin_keys::OBJECT;

use super::configuration::Configuration;
use super::status::Status;

/// Shortest time between two reports that no configuration change asked for.
const INTERVAL: Duration = Duration::from_secs(300);
/// How many problems are reported one by one.
const PROBLEMS: usize = 32;
/// How many gaps are reported; the newest.
const GAPS: usize = 8;

/// Both reported objects. If the configuration object has a name of its own, what was reported under the published name
/// before is removed: it would be taken for what is in force. Of other earlier names nothing is known.
pub(super) fn objects(configuration: &Configuration, status: &Status) -> Map<String, Value> {
    let mut section = Map::new();
    section.insert(OBJECT.to_owned(), Value::Null);
    section.insert(configuration.object.clone(), Value::Object(reported(&configuration.config)));
    section.insert(
        OWN_OBJECT.to_owned(),
        json!({
            "version": status.version,
            "agentId": status.agent_id,
            "desiredVersion": status.twin.desired_version,
            "configurationSource": status.twin.source,
            "problems": status.twin.problems.iter().take(PROBLEMS).map(problem).collect::<Vec<_>>(),
            "problemCount": status.twin.problems.len(),
            "collectors": collectors(status),
            "balance": {"high": account(&status.core.balance.high), "low": account(&status.core.balance.low)},
            "gaps": status.core.gaps.iter().rev().take(GAPS).map(gap).collect::<Vec<_>>(),
        }),
    );
    section
}

fn problem(problem: &Problem) -> Value {
    json!({"key": problem.key, "kind": problem.kind, "given": problem.given, "expected": problem.expected, "inForce": problem.in_force})
}

fn collectors(status: &Status) -> Value {
    let of = status
        .collectors
        .iter()
        .map(|c| (c.event.as_str().to_owned(), json!({"state": c.state, "source": c.source, "detail": c.detail})));
    Value::Object(of.collect())
}

fn account(account: &Account) -> Value {
    json!({
        "collected": account.collected,
        "delivered": account.delivered,
        "pending": account.pending,
        "dropped": account.dropped.iter().map(|(reason, hits)| (reason.as_str(), *hits)).collect::<std::collections::BTreeMap<_, _>>(),
    })
}

fn gap(gap: &Gap) -> Value {
    let mut value =
        json!({"source": gap.source, "start": gap.start.utc_text(), "end": gap.end.utc_text(), "reason": gap.reason});
    if let (Some(missed), Some(object)) = (gap.missed_at_most, value.as_object_mut()) {
        object.insert("missedAtMost".to_owned(), missed.into());
    }
    value
}

/// Decides when the section is sent.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    last: Option<(Mono, Map<String, Value>)>,
    urgent: bool,
}

impl Reporter {
    /// The configuration changed, or the link came back: the next section is sent at once.
    pub(super) fn urge(&mut self) {
        self.urgent = true;
    }

    /// When to ask [`Reporter::due`] again.
    pub(super) fn next_deadline(&self, now: Mono) -> Mono {
        match &self.last {
            Some((at, _)) if !self.urgent => at.after(INTERVAL).max(now),
            _ => now,
        }
    }

    /// Whether it is time to look at the section again.
    pub(super) fn due(&self, now: Mono) -> bool {
        self.next_deadline(now) <= now
    }

    /// Takes the section; gives it back if it is to be sent.
    pub(super) fn offer(&mut self, section: Map<String, Value>, now: Mono) -> Option<Map<String, Value>> {
        let send = self.urgent || self.last.as_ref().is_none_or(|(_, last)| *last != section);
        self.urgent = false;
        self.last = Some((now, section.clone()));
        send.then_some(section)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_rare_unless_the_configuration_changes() {
        let at = |s| Mono::from_boot(Duration::from_secs(s));
        let section = |n: u64| Map::from_iter([("n".to_owned(), Value::from(n))]);
        let mut reporter = Reporter::default();
        assert!(reporter.due(at(0)));
        assert!(reporter.offer(section(1), at(0)).is_some());
        assert!(!reporter.due(at(299)));
        assert_eq!(reporter.next_deadline(at(1)), at(300));
        assert!(reporter.offer(section(1), at(300)).is_none(), "nothing changed");
        assert!(reporter.offer(section(2), at(600)).is_some());
        reporter.urge();
        assert!(reporter.due(at(601)));
        assert!(reporter.offer(section(2), at(601)).is_some());
        assert!(!reporter.due(at(602)));
    }
}
