//! Sign-ins for real: sshd, login, su and sudo on a machine of the test, each attempt exactly one event.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod audit;
#[path = "../audit_alone/mod.rs"]
mod audit_alone;
mod machine;
#[path = "../schema/mod.rs"]
mod schema;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::tz::TimeZone;
use machine::{Machine, PASSWORD, RIGHT, UID, USER};
use twinward::collect::Source;
use twinward::collect::lane::{self, Lane, SourceContext};
use twinward::model::event::{Event, EventName, Observation};
use twinward::model::event_set::EventSet;
use twinward::model::ids::{AgentId, EventId};
use twinward::model::message::MessageRoot;
use twinward::model::payload::{Login, LoginResult, Payload};
use twinward::sys::clock::SystemClock;
use twinward::sys::host::Host;

/// Audit sees what the others do: they may run side by side, and it runs alone.
static TURN: RwLock<()> = RwLock::new(());

fn source(machine: &Machine) -> Box<dyn Source> {
    let clock = Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH));
    let context = SourceContext::plain(Host::rooted(machine.root.path()), clock);
    // Also where the first lane has a source that sees sign-ins.
    lane::open(Lane::Logins, &context, EventSet::of(&[EventName::Login])).unwrap()
}

/// Everything up to and with a refused user of the name `end`, which the caller has just tried.
fn drain(source: &mut dyn Source) -> Vec<Observation> {
    let mut all = Vec::new();
    let is_end = |observation: &Observation| login(observation).user_name == "end";
    for _ in 0..60 {
        let drained = source.drain(Duration::from_secs(2), &mut all).unwrap();
        assert_eq!(drained.losses, []);
        if all.iter().any(is_end) {
            // What would be told twice would be told now.
            for _ in 0..2 {
                source.drain(Duration::from_secs(3), &mut all).unwrap();
            }
            assert_eq!(all.iter().filter(|o| is_end(o)).count(), 1, "{all:#?}");
            all.retain(|observation| !is_end(observation));
            return all;
        }
    }
    panic!("the end was not seen; saw {all:#?}");
}

fn login(observation: &Observation) -> &Login {
    match &observation.what {
        Payload::Login(login) => login,
        other => panic!("{other:?}"),
    }
}

fn end(machine: &Machine) {
    machine.ssh("end", &["-oPubkeyAuthentication=no"], "true");
}

/// Operation, user, result.
fn brief(all: &[Observation]) -> Vec<(&str, &str, bool)> {
    all.iter()
        .map(login)
        .map(|l| (l.operation.as_str(), l.user_name.as_str(), l.result == LoginResult::Success))
        .collect()
}

fn assert_valid(all: &[Observation]) {
    let bodies: Vec<String> = all
        .iter()
        .map(|o| Event {
            id: EventId::random(),
            name: EventName::Login,
            at: o.at,
            payload: vec![o.what.clone()],
            hits: 1,
        })
        .map(|event| event.to_value(&TimeZone::UTC).unwrap().to_string())
        .collect();
    let body = MessageRoot::new("0.1.0", AgentId::random()).body(&bodies);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let problems: Vec<String> = schema::validator().iter_errors(&body).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?} in {body:#}");
}

/// Each way to be let in or refused over SSH.
fn ssh(journal: bool) {
    let _turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
    let machine = Machine::start(journal);
    let mut source = source(&machine);
    assert!(source.choice().covers[0].complete, "{:?}", source.choice());
    let key = format!("-oIdentityFile={}", machine.path("home/right").display());
    let other_key = format!("-oIdentityFile={}", machine.path("home/wrong").display());
    let (no_key, no_password) = ("-oPubkeyAuthentication=no", "-oPasswordAuthentication=no");
    let forged = "x from 192.0.2.9 port 1 ssh2";

    assert!(machine.ssh(USER, &[&key], "true").status.success());
    assert!(machine.ssh(USER, &[no_key, RIGHT, "-tt"], "true").status.success());
    assert!(!machine.ssh(USER, &[no_key], "true").status.success());
    assert!(!machine.ssh(USER, &[&other_key, no_password], "true").status.success());
    assert!(!machine.ssh("nobody-here", &[no_key], "true").status.success());
    assert!(!machine.ssh("nobody-with-key", &[&other_key, no_password], "true").status.success());
    assert!(!machine.ssh(forged, &[no_key], "true").status.success());
    end(&machine);

    let all = drain(source.as_mut());
    let mut seen = brief(&all);
    seen.sort_unstable();
    let mut wanted = vec![
        ("ssh:publickey", USER, true),
        ("logout", USER, true),
        ("ssh:password", USER, true),
        ("logout", USER, true),
        ("ssh:password", USER, false),
        ("ssh", USER, false),
        ("ssh:password", "nobody-here", false),
        ("ssh", "nobody-with-key", false),
        ("ssh:password", forged, false),
    ];
    wanted.sort_unstable();
    assert_eq!(seen, wanted, "{all:#?}");
    for attempt in all.iter().map(login) {
        assert_eq!(attempt.remote_address.unwrap().to_string(), "127.0.0.1", "{attempt:?}");
        assert!(machine.ports.borrow().contains(&attempt.remote_port.unwrap().0), "{attempt:?}");
        assert_eq!(attempt.user_id, (attempt.user_name == USER).then(|| UID.to_string()), "{attempt:?}");
        assert!(attempt.executable.contains("/sshd") && attempt.process_id > 0, "{attempt:?}");
    }
    let source_of = |operation: &str, user: &str, success| {
        let found = all.iter().map(login).find(|l| {
            (l.operation.as_str(), l.user_name.as_str(), l.result == LoginResult::Success) == (operation, user, success)
        });
        found.unwrap().extra_details["Source"].clone()
    };
    let logs = if journal { "journal,auth.log" } else { "auth.log" };
    assert_eq!(source_of("ssh:password", USER, true), format!("{logs},wtmp"));
    assert_eq!(source_of("ssh:password", USER, false), format!("{logs},btmp"));
    assert_valid(&all);
}

#[test]
#[ignore = "needs root; run by CI"]
fn each_ssh_attempt_is_one_event_without_the_journal() {
    ssh(false);
}

#[test]
#[ignore = "needs root; run by CI"]
fn each_ssh_attempt_is_one_event_with_the_journal() {
    ssh(true);
}

/// What happens on a terminal of the machine.
fn local(journal: bool) {
    let _turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
    let machine = Machine::start(journal);
    let mut source = source(&machine);
    let as_user = format!("setpriv --reuid={UID} --regid={UID} --clear-groups");

    machine.on_terminal(
        &format!("login -h 192.0.2.7 {USER}"),
        &[("assword: ", "wrong horse"), ("ogin: ", USER), ("assword: ", PASSWORD), ("$ ", "exit")],
    );
    machine.on_terminal(&format!("su {USER} -c true"), &[]);
    machine.on_terminal(&format!("{as_user} su {USER} -c true"), &[("assword: ", "wrong horse")]);
    machine.on_terminal(&format!("{as_user} su {USER} -c true"), &[("assword: ", PASSWORD)]);
    machine.on_terminal(&format!("{as_user} sudo /usr/bin/id"), &[("assword", PASSWORD)]);
    machine.on_terminal(&format!("{as_user} sudo -k /usr/bin/true"), &[("assword", PASSWORD)]);
    let wrong = ("assword", "wrong horse");
    machine.on_terminal(&format!("{as_user} sudo -k /usr/bin/id"), &[wrong, wrong, wrong]);
    end(&machine);

    let all = drain(source.as_mut());
    let mut seen = brief(&all);
    seen.sort_unstable();
    let mut wanted = vec![
        ("login", USER, false),
        ("login", USER, true),
        ("logout", USER, true),
        ("su", USER, true),
        ("su", USER, false),
        ("su", USER, true),
        ("sudo", USER, true),
        ("sudo", USER, false),
        ("sudo", USER, false),
    ];
    wanted.sort_unstable();
    assert_eq!(seen, wanted, "{all:#?}");
    let attempts = || all.iter().map(login);
    for attempt in attempts().filter(|l| l.operation == "login") {
        assert_eq!(attempt.remote_address.unwrap().to_string(), "192.0.2.7", "{attempt:?}");
        assert!(attempt.extra_details["Terminal"].starts_with("pts/"), "{attempt:?}");
    }
    for attempt in attempts().filter(|l| l.operation == "sudo") {
        assert_eq!(attempt.extra_details["TargetUser"], "root", "{attempt:?}");
    }
    assert!(attempts().all(|l| l.user_id == Some(UID.to_string()) && !l.executable.is_empty()), "{all:#?}");
    assert_valid(&all);
}

#[test]
#[ignore = "needs root; run by CI"]
fn each_attempt_on_a_terminal_is_one_event_without_the_journal() {
    local(false);
}

#[test]
#[ignore = "needs root; run by CI"]
fn each_attempt_on_a_terminal_is_one_event_with_the_journal() {
    local(true);
}
