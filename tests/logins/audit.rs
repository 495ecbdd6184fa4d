//! The same attempts, told by the records that the programs and PAM send to the kernel's audit system.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use twinward::collect::Source;
use twinward::collect::lane::{self, Lane, SourceContext};
use twinward::model::event::{EventName, Observation};
use twinward::model::event_set::EventSet;
use twinward::model::payload::{Login, LoginResult};
use twinward::settings::ProcessSource;
use twinward::sys::clock::SystemClock;
use twinward::sys::host::Host;

use crate::audit_alone::Alone;
use crate::machine::{Machine, PASSWORD, RIGHT, UID, USER};
use crate::{TURN, assert_valid, brief, end, login};

/// Longer than the source holds back what may have a sequel.
const HELD: Duration = Duration::from_secs(11);

fn source(machine: &Machine) -> Box<dyn Source> {
    let clock = Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH));
    let plain = SourceContext::plain(Host::rooted(machine.root.path()), clock);
    let context = SourceContext { wanted: ProcessSource::Audit, ..plain };
    lane::open(Lane::Kernel, &context, EventSet::of(&[EventName::Login])).unwrap()
}

/// Everything, once the last attempt is there and nothing was held back.
#[expect(clippy::disallowed_methods, reason = "the test waits for real programs")]
fn drain(source: &mut dyn Source) -> Vec<Observation> {
    let mut all: Vec<Observation> = Vec::new();
    let patience = Instant::now() + Duration::from_secs(60);
    let is_end = |observation: &Observation| login(observation).user_name == "end";
    let mut until = patience;
    while Instant::now() < until {
        let drained = source.drain(Duration::from_secs(2), &mut all).unwrap();
        assert_eq!(drained.losses, []);
        if until == patience && all.iter().any(is_end) {
            until = Instant::now() + HELD;
        }
    }
    assert_eq!(all.iter().filter(|o| is_end(o)).count(), 1, "{all:#?}");
    all.retain(|observation| !is_end(observation));
    all
}

/// Takes the attempts of a user away, in their order.
fn of(all: &[Observation], user: &str, program: &str) -> Vec<(String, LoginResult)> {
    let ours = |l: &&Login| l.user_name == user && l.executable.ends_with(program);
    all.iter().map(login).filter(ours).map(|l| (l.operation.clone(), l.result)).collect()
}

#[test]
#[ignore = "needs root; run by CI"]
fn each_attempt_is_one_event_from_audit() {
    use LoginResult::{Fail, Success};
    let _turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
    let alone = Alone::new();
    let machine = Machine::start(false);
    let mut source = source(&machine);
    let key = format!("-oIdentityFile={}", machine.path("home/right").display());
    let other_key = format!("-oIdentityFile={}", machine.path("home/wrong").display());
    let (no_key, no_password) = ("-oPubkeyAuthentication=no", "-oPasswordAuthentication=no");
    let as_user = format!("setpriv --reuid={UID} --regid={UID} --clear-groups");
    let forged = "x res=success addr=192.0.2.9";
    let wrong = ("assword", "wrong horse");

    assert!(machine.ssh(USER, &[&key], "true").status.success());
    assert!(machine.ssh(USER, &[no_key, RIGHT, "-tt"], "true").status.success());
    assert!(machine.ssh(USER, &[&other_key, RIGHT], "true").status.success());
    assert!(!machine.ssh(USER, &[no_key], "true").status.success());
    assert!(!machine.ssh(USER, &[&other_key, no_password], "true").status.success());
    assert!(!machine.ssh("nobody-here", &[no_key], "true").status.success());
    assert!(!machine.ssh("nobody-with-key", &[&other_key, no_password], "true").status.success());
    assert!(!machine.ssh(forged, &[no_key], "true").status.success());
    machine.on_terminal(
        &format!("login -h 192.0.2.7 {USER}"),
        &[("assword: ", "wrong horse"), ("ogin: ", USER), ("assword: ", PASSWORD), ("$ ", "exit")],
    );
    machine.on_terminal(&format!("su {USER} -c true"), &[]);
    machine.on_terminal(&format!("{as_user} su {USER} -c true"), &[wrong]);
    machine.on_terminal(&format!("{as_user} su {USER} -c true"), &[("assword: ", PASSWORD)]);
    machine.on_terminal(&format!("{as_user} sudo /usr/bin/id"), &[("assword", PASSWORD)]);
    machine.on_terminal(&format!("{as_user} sudo -k /usr/bin/true"), &[("assword", PASSWORD)]);
    machine.on_terminal(&format!("{as_user} sudo -k /usr/bin/id"), &[wrong, wrong, wrong]);
    end(&machine);

    let all = drain(source.as_mut());
    let told = |operation: &str, result| (operation.to_owned(), result);
    let session = || [told("PAM:session_open", Success), told("logout", Success)];
    let refused = || told("PAM:authentication", Fail);

    // A key, a password, and a password after a key that did not fit; then both ways to be refused.
    let ssh: Vec<_> = [session(), session(), session()].into_iter().flatten().collect();
    assert_eq!(of(&all, USER, "/sshd"), [ssh, vec![refused(), told("login", Fail)]].concat(), "{all:#?}");
    assert_eq!(of(&all, "nobody-here", "/sshd"), [refused()]);
    assert_eq!(of(&all, forged, "/sshd"), [refused()], "{all:#?}");
    // The record hides the name.
    assert_eq!(of(&all, "", "/sshd"), [told("login", Fail)]);
    assert_eq!(of(&all, USER, "/login"), [vec![refused()], session().to_vec()].concat());
    assert_eq!(of(&all, USER, "/su"), [session().to_vec(), vec![refused()], session().to_vec()].concat());
    // Not allowed; and three passwords.
    let sudo = [session().to_vec(), vec![told("sudo", Fail), refused(), refused(), refused()]].concat();
    assert_eq!(of(&all, USER, "/sudo"), sudo);
    assert_eq!(all.len(), 8 + 3 + 3 + 5 + 6, "{:#?}", brief(&all));

    for attempt in all.iter().map(login) {
        let program = attempt.executable.rsplit('/').next().unwrap();
        let address = attempt.remote_address.map(|address| address.to_string());
        let from = match program {
            "sshd" => Some("127.0.0.1"),
            "login" => Some("192.0.2.7"),
            _ => None,
        };
        assert_eq!(address.as_deref(), from, "{attempt:?}");
        assert_eq!(attempt.user_id, (attempt.user_name == USER).then(|| UID.to_string()), "{attempt:?}");
        assert!(attempt.process_id > 0, "{attempt:?}");
        let terminal = attempt.extra_details.get("Terminal");
        assert_eq!(terminal.is_some_and(|name| name.starts_with("pts/")), program != "sshd", "{attempt:?}");
    }
    let detail = |program: &str, key: &str| -> Vec<_> {
        let of_program = all.iter().map(login).filter(|l| l.executable.ends_with(program));
        of_program.map(|l| l.extra_details.get(key).cloned().unwrap_or_default()).collect()
    };
    assert_eq!(detail("/su", "ByUser"), ["root", "root", USER, USER, USER]);
    assert_eq!(detail("/sudo", "TargetUser"), ["root", "root", "", "", "", ""]);
    assert_valid(&all);
    drop((source, machine));
    alone.assert_restored();
}
