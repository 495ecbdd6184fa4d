//! What a running agent knows: it holds the one connection that the hub allows, so it is asked instead of trying.

use serde::Deserialize;

use crate::cli::reach;
use crate::cli::status::{Answer, Waiting, span};
use crate::control::{ControlError, Request};
use crate::hub::connstr::ConnectionString;
use crate::settings::Storage;

use super::finding::{Check, Finding};
use super::sign_in::{count, doubtful, down};

/// Whether an agent runs.
pub(super) enum Running {
    /// It answers.
    Yes(Box<Answer>),
    /// Nobody is there, or not yet with credentials: nobody is signed in.
    No,
    /// Somebody is there and cannot be asked.
    Unknown,
}

/// Asks.
pub(super) fn ask(storage: &Storage) -> (Finding, Running) {
    let answer = reach::ask(storage, Request::Status);
    match answer {
        Ok(value) => match Answer::deserialize(&value) {
            Ok(answer) if value.get("error").is_none() => match &answer.waiting {
                Some(waiting) => (waits(&answer, waiting), Running::No),
                None => (here(&answer), Running::Yes(Box::new(answer))),
            },
            _ => {
                let advice = "look at it with: twinward status --json";
                (Finding::failed(Check::Agent, "it answers, but not with its state", advice), Running::Unknown)
            }
        },
        Err(ControlError::NotRunning { path, .. }) => {
            let detail = format!("none answers at {}", path.display());
            (Finding::warning(Check::Agent, detail, "start it with: systemctl start twinward"), Running::No)
        }
        Err(error @ ControlError::NotPermitted { .. }) => {
            let advice = "run the doctor as root or as the agent's user";
            (Finding::failed(Check::Agent, error.to_string(), advice), Running::Unknown)
        }
        Err(error) => {
            let advice = "if it stays so, restart the agent: systemctl restart twinward";
            (Finding::failed(Check::Agent, error.to_string(), advice), Running::Unknown)
        }
    }
}

/// It has no credentials yet.
fn waits(answer: &Answer, waiting: &Waiting) -> Finding {
    let (what, advice) = waiting.why.split_once("; ").unwrap_or((&waiting.why, "see secret-file"));
    let detail = format!("{}; it waits for its credentials, and nothing is collected: {what}", runs(answer));
    Finding::failed(Check::Agent, detail, format!("{advice}; the agent notices it within seconds"))
}

fn runs(answer: &Answer) -> String {
    format!("{} runs, pid {}, up {}", answer.version, answer.pid, span(answer.uptime_seconds))
}

fn here(answer: &Answer) -> Finding {
    let detail = runs(answer);
    match &answer.storage_trouble {
        None => Finding::ok(Check::Agent, detail),
        Some(trouble) => {
            Finding::failed(Check::Agent, format!("{detail}; its storage: {trouble}"), "free space, check the disk")
        }
    }
}

/// Whether the agent signs in as the identity that is configured now.
pub(super) fn same_identity(answer: &Answer, identity: &ConnectionString) -> bool {
    answer.link.hub == identity.host_name
        && answer.link.identity == format!("{}/{}", identity.device_id, identity.module_id)
}

/// The sign-in and the twin, as the agent sees them. Without a link the twin is absent.
pub(super) fn link(answer: &Answer) -> Vec<Finding> {
    let link = &answer.link;
    let since = format!("since {}, told by the running agent (two cannot be signed in)", link.since_utc);
    match link.state.as_str() {
        "ready" => {
            let mut findings = vec![Finding::ok(Check::SignIn, format!("signed in {since}"))];
            findings.extend(twin(answer));
            findings
        }
        "down" => {
            let mut finding = down(&link.error);
            finding.detail = format!("down {since}: {}", finding.detail);
            vec![finding]
        }
        other => vec![Finding::failed(Check::SignIn, format!("{other} {since}"), "wait a moment, and try again")],
    }
}

fn twin(answer: &Answer) -> Vec<Finding> {
    let twin = &answer.twin;
    let version = twin.desired_version.map_or_else(|| "no version".to_owned(), |v| format!("version {v}"));
    let mut findings =
        vec![Finding::ok(Check::Twin, format!("{version} from {}: {}", twin.source, count(twin.problems.len())))];
    findings.extend(
        twin.problems
            .iter()
            .map(|p| doubtful(&p.key, &format!("not right ({})", p.kind), [&p.given, &p.expected, &p.in_force])),
    );
    findings
}

/// The check that opens the source of an event.
fn of(event: &str) -> &'static str {
    let check = match event {
        "ProcessTerminate" => Check::ProcessEnds,
        "ConnectionCreate" => Check::Connections,
        "Login" => Check::Logins,
        _ => Check::ProcessSource,
    };
    check.as_str()
}

/// The collectors, as the agent sees them.
pub(super) fn collectors(answer: &Answer) -> Vec<Finding> {
    let one = |c: &crate::cli::status::Collector| {
        let parts: Vec<&str> = [c.source.as_str(), c.detail.as_str()].into_iter().filter(|p| !p.is_empty()).collect();
        let more = if parts.is_empty() { String::new() } else { format!(": {}", parts.join("; ")) };
        let detail = format!("{} is {}{more}", c.event, c.state);
        match c.state.as_str() {
            "ok" | "off" => Finding::ok(Check::Collectors, detail),
            "degraded" => Finding::warning(Check::Collectors, detail, format!("see {} and capabilities", of(&c.event))),
            _ => {
                let advice = format!("see {} and capabilities, and the agent's log", of(&c.event));
                Finding::failed(Check::Collectors, detail, advice)
            }
        }
    };
    answer.collectors.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::finding::Verdict;
    use super::*;

    fn answer(value: Value) -> Answer {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_running_agent_is_believed() {
        let answer = answer(json!({
            "version": "0.1.0", "pid": 7, "uptimeSeconds": 90,
            "link": {"state": "ready", "sinceUtc": "T", "hub": "h", "identity": "d/m", "error": ""},
            "twin": {"source": "hub", "desiredVersion": 4, "problems": [{"key": "k", "kind": "Unknown", "given": "1",
                     "expected": "a known key", "in_force": ""}]},
            "collectors": [{"event": "ProcessCreate", "state": "ok", "source": "poll", "detail": ""},
                           {"event": "ListeningPorts", "state": "degraded", "source": "", "detail": "owners unseen"},
                           {"event": "Login", "state": "unavailable", "source": "", "detail": ""}]
        }));
        let text: String =
            [here(&answer)].iter().chain(&link(&answer)).chain(&collectors(&answer)).map(Finding::text).collect();
        insta::assert_snapshot!(text, @r"
        ok       agent              0.1.0 runs, pid 7, up 1 min 30 s
        ok       sign-in            signed in since T, told by the running agent (two cannot be signed in)
        ok       twin               version 4 from hub: 1 key is refused, doubtful or unknown
        warning  twin               k is not right (Unknown); given: 1; expected: a known key
                                    what to do: change it in properties.desired of the module twin
        ok       collectors         ProcessCreate is ok: poll
        warning  collectors         ListeningPorts is degraded: owners unseen
                                    what to do: see process-source and capabilities
        failed   collectors         Login is unavailable
                                    what to do: see logins and capabilities, and the agent's log
        ");
    }

    #[test]
    fn a_link_that_is_down_fails_and_has_no_twin() {
        let down = answer(json!({"link": {"state": "down", "sinceUtc": "T", "error": "CONNACK 5; check the key"}}));
        let findings = link(&down);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].result, findings[0].advice.as_str()), (Verdict::Failed, "check the key"));
        assert!(findings[0].detail.ends_with(": CONNACK 5"), "{findings:?}");
        assert_eq!(link(&answer(json!({"link": {"state": "connecting"}})))[0].result, Verdict::Failed);
    }

    #[test]
    fn an_agent_that_waits_is_a_fault_with_the_command_that_mends_it() {
        let why = "/x does not exist; put the string there: install -m 600 /dev/stdin /x";
        let answer =
            answer(json!({"version": "0.1.0", "pid": 7, "uptimeSeconds": 9, "waiting": {"file": "/x", "why": why}}));
        let finding = waits(&answer, answer.waiting.as_ref().unwrap());
        insta::assert_snapshot!(finding.text(), @r"
        failed   agent              0.1.0 runs, pid 7, up 9 s; it waits for its credentials, and nothing is collected: /x does not exist
                                    what to do: put the string there: install -m 600 /dev/stdin /x; the agent notices it within seconds
        ");
    }

    #[test]
    fn storage_trouble_is_a_fault() {
        assert_eq!(here(&answer(json!({"storageTrouble": "disk full"}))).result, Verdict::Failed);
    }
}
