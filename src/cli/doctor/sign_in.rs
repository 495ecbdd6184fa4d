//! Signing in and taking the twin, by the agent's own link. Nothing is sent, and nothing is reported.
//!
//! A hub allows one connection for each identity: whoever signs in later throws the other one out. So this is for times
//! when no agent runs; otherwise [`super::running`] says what the agent knows.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::hub::link;
use crate::hub::options::LinkOptions;
use crate::hub::traffic::{FromHub, LinkState, ToHub};
use crate::model::problem::{Problem, ProblemKind};
use crate::settings::agent_config::AgentConfig;
use crate::settings::desired;

use super::finding::{Check, Finding};
use super::network::STEP;

/// How long the link may take to end; it waits for nothing, so this is ample.
const END: Duration = Duration::from_secs(5);

/// Signs in, takes the twin, signs out. The findings of both checks; those of the twin are absent without a sign-in.
pub(super) async fn sign_in(options: LinkOptions, object: &str) -> Vec<Finding> {
    let who =
        format!("{}/{} at {}", options.identity.device_id, options.identity.module_id, options.identity.host_name);
    let (orders, inbox) = mpsc::channel(1);
    let (news, mut heard) = mpsc::channel(8);
    let mut findings = Vec::new();
    let conversation = async {
        findings = listen(&mut heard, &who, object, STEP).await;
        // An ended link takes no orders, and needs none.
        let _ = orders.send(ToHub::Stop).await;
        while heard.recv().await.is_some() {}
    };
    // Listening is bounded by itself; this bounds the farewell.
    let _ = timeout(STEP * 2 + END, async { tokio::join!(link::run(options, inbox, news), conversation) }).await;
    findings
}

/// Hears the link until both questions are answered. The twin may come before the link says that it is ready.
async fn listen(heard: &mut mpsc::Receiver<FromHub>, who: &str, object: &str, step: Duration) -> Vec<Finding> {
    let (mut ready, mut twin) = (None, None);
    for check in [Check::SignIn, Check::Twin] {
        let answer = async {
            while (check == Check::SignIn && ready.is_none()) || (check == Check::Twin && twin.is_none()) {
                match heard.recv().await {
                    Some(FromHub::State(LinkState::Ready)) => {
                        ready = Some(Finding::ok(Check::SignIn, format!("{who}: accepted")));
                    }
                    Some(FromHub::Desired { section, version }) => twin = Some(judge(&section, object, version)),
                    Some(FromHub::TwinUnreadable(why) | FromHub::TwinUnavailable(why)) => twin = Some(no_twin(&why)),
                    Some(FromHub::State(LinkState::Down { error, .. })) if ready.is_none() => {
                        return Some(down(&error));
                    }
                    Some(FromHub::State(LinkState::Down { error, .. })) => twin = Some(no_twin(&error)),
                    Some(_) => {}
                    None => return Some(Finding::failed(check, "the link ended too early", "try again")),
                }
            }
            None
        };
        match timeout(step, answer).await {
            Ok(None) => {}
            Ok(Some(fault)) => return ready.into_iter().chain([fault]).collect(),
            Err(_) => {
                let fault = Finding::failed(check, silence(check), "try again; the hub may be throttling");
                return ready.into_iter().chain([fault]).collect();
            }
        }
    }
    ready.into_iter().chain(twin.unwrap_or_default()).collect()
}

/// The link is ready when it has tried to take the twin.
fn silence(check: Check) -> String {
    let what = if check == Check::Twin { "the twin" } else { "the sign-in, or to the request for the twin" };
    format!("no answer to {what} within {} s", STEP.as_secs())
}

/// The link's errors say what to do after the first semicolon.
pub(super) fn down(error: &str) -> Finding {
    let (detail, advice) =
        error.split_once("; ").unwrap_or((error, "it may pass by itself; try again in some minutes"));
    Finding::failed(Check::SignIn, detail, advice)
}

fn no_twin(why: &str) -> Vec<Finding> {
    vec![Finding::failed(Check::Twin, why, "look at the module twin in the hub")]
}

/// What a desired section is worth.
fn judge(section: &Map<String, Value>, object: &str, version: u64) -> Vec<Finding> {
    let applied = desired::apply(section, object, &AgentConfig::default());
    if !applied.object_found {
        return vec![Finding::warning(
            Check::Twin,
            format!("version {version} has no desired object {object}: the defaults are in force"),
            "add the object to properties.desired of the module twin, if you want other values",
        )];
    }
    let mut findings = vec![Finding::ok(Check::Twin, format!("version {version}: {}", count(applied.problems.len())))];
    findings.extend(applied.problems.iter().map(doubt));
    findings
}

/// How many keys of a twin are worth a word.
pub(super) fn count(problems: usize) -> String {
    match problems {
        0 => "every key is in force".to_owned(),
        1 => "1 key is refused, doubtful or unknown".to_owned(),
        n => format!("{n} keys are refused, doubtful or unknown"),
    }
}

fn doubt(p: &Problem) -> Finding {
    let kind = match p.kind {
        ProblemKind::TypeMismatch => "refused",
        ProblemKind::NotOptimal => "in force, but not optimal",
        ProblemKind::Conflict => "in force, but in conflict",
        ProblemKind::Outdated => "of an older form",
        ProblemKind::Unknown => "unknown and ignored",
    };
    doubtful(&p.key, kind, [&p.given, &p.expected, &p.in_force])
}

/// One key of a twin that is worth a word; `given`, `expected` and `in_force` may be empty.
pub(super) fn doubtful(key: &str, kind: &str, values: [&str; 3]) -> Finding {
    let mut detail = format!("{key} is {kind}");
    for (name, value) in ["given", "expected", "in force"].iter().zip(values) {
        if !value.is_empty() {
            detail.push_str(&format!("; {name}: {value}"));
        }
    }
    Finding::warning(Check::Twin, detail, "change it in properties.desired of the module twin")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Verdict;
    use super::*;
    use crate::settings::twin_keys::OBJECT;

    fn lines(section: &Value) -> String {
        judge(section.as_object().unwrap(), OBJECT, 3).iter().map(Finding::text).collect()
    }

    #[test]
    fn a_twin_without_the_object_is_a_warning() {
        assert!(lines(&json!({"other": 1})).starts_with("warning  twin               version 3 has no desired object"));
    }

    #[test]
    fn each_refused_key_is_named() {
        let good = json!({OBJECT: {"snapshotFrequency": {"value": "PT1H"}}});
        assert_eq!(lines(&good), "ok       twin               version 3: every key is in force\n");
        let text = lines(&json!({OBJECT: {"snapshotFrequency": {"value": 5}}}));
        assert!(text.starts_with("ok       twin               version 3: 1 key is"), "{text}");
        assert!(text.contains("warning  twin               snapshotFrequency is refused; given: "), "{text}");
    }

    #[test]
    fn the_links_advice_is_split_off() {
        let finding = down("the hub refused the sign-in (CONNACK 5): wrong key; compare; and the clock");
        assert_eq!(finding.detail, "the hub refused the sign-in (CONNACK 5): wrong key");
        assert_eq!(finding.advice, "compare; and the clock");
    }

    async fn told(news: Vec<FromHub>) -> Vec<(Check, Verdict)> {
        let (tell, mut heard) = mpsc::channel(8);
        for item in news {
            tell.send(item).await.unwrap();
        }
        drop(tell);
        listen(&mut heard, "d/m at h", OBJECT, STEP).await.iter().map(|f| (f.check, f.result)).collect()
    }

    #[tokio::test]
    async fn both_questions_are_answered_in_either_order() {
        use super::super::finding::Verdict::{Failed, Ok, Warning};
        let ready = || FromHub::State(LinkState::Ready);
        let desired = || FromHub::Desired { section: Map::new(), version: 1 };
        let down = || {
            FromHub::State(LinkState::Down { error: "no; do".into(), retry_in: Duration::ZERO, permanent_hint: true })
        };
        let connecting = || FromHub::State(LinkState::Connecting);
        let good = [(Check::SignIn, Ok), (Check::Twin, Warning)];
        assert_eq!(told(vec![connecting(), ready(), desired()]).await, good);
        assert_eq!(told(vec![connecting(), desired(), ready()]).await, good);
        assert_eq!(told(vec![connecting(), down()]).await, [(Check::SignIn, Failed)]);
        assert_eq!(told(vec![connecting()]).await, [(Check::SignIn, Failed)]);
        let bad = [(Check::SignIn, Ok), (Check::Twin, Failed)];
        assert_eq!(told(vec![ready(), FromHub::TwinUnreadable("too deep".into())]).await, bad);
        assert_eq!(told(vec![ready(), down()]).await, bad);
        assert_eq!(told(vec![ready()]).await, bad);
    }

    #[tokio::test]
    async fn silence_ends() {
        let (_tell, mut heard) = mpsc::channel(1);
        let findings = listen(&mut heard, "", OBJECT, Duration::ZERO).await;
        assert_eq!((findings.len(), findings[0].result), (1, Verdict::Failed));
    }
}
