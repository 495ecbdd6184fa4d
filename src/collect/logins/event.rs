//! From an attempt to the event.
//!
//! | field | holds |
//! |---|---|
//! | `ProcessId` | the process that let in or refused; 0 if unknown |
//! | `UserName` | the name that was given, also if nobody has it; for sudo the user who asks, for su the one that is become |
//! | `UserId` | that user's id, if the local user database has the name or the program wrote it |
//! | `Operation` | `ssh:METHOD` (`ssh:password`, `ssh:publickey`, …; `ssh` if no method is known), `login`, `su`, `sudo`, `logout` |
//! | `Executable` | the program: as the journal or `/proc` has it, else where it usually stands |
//! | `RemoteAddress`, `RemotePort` | the other side, if known |
//! | `Result` | `Success` or `Fail`; a logout is a success |
//!
//! `ExtraDetails`: `Source`, where it was read (`journal`, `auth.log`, `wtmp`, `btmp`; several with commas); `Method`;
//! `Terminal`; `RemoteHost`, if only a name is known; `ByUser`, who became somebody by su; `TargetUser`, as whom sudo
//! acts; `SenderVerified` = `false`, if the journal could not tell whether the program is what it says it is.

use crate::collect::logins::correlate::Attempt;
use crate::collect::logins::sighting::{Act, Origin, Said, Service};
use crate::model::payload::{ExtraDetails, Login, LoginResult, Port};
use crate::sys::host::Host;
use crate::sys::passwd::Passwd;
use crate::sys::procfs;

/// Makes the event's payload.
pub(super) fn make(attempt: &Attempt, host: &Host, users: &mut Passwd) -> Login {
    let said = &attempt.said;
    let user_name = match (&said.user, said.uid) {
        (Some(name), _) => name.clone(),
        (None, Some(uid)) => users.name(uid).unwrap_or_default().to_owned(),
        (None, None) => String::new(),
    };
    let user_id = said.uid.or_else(|| users.id(&user_name));
    let mut details = ExtraDetails::new();
    let mut note = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            details.insert(key.to_owned(), value);
        }
    };
    note("Source", Some(attempt.origins().map(Origin::as_str).collect::<Vec<_>>().join(",")));
    note("Method", said.method.clone());
    note("Terminal", said.terminal.clone());
    note("RemoteHost", said.host.clone().filter(|_| said.address.is_none()));
    note(if said.service == Service::Su { "ByUser" } else { "TargetUser" }, said.other_user.clone());
    note("SenderVerified", said.unverified.then(|| "false".to_owned()));
    Login {
        process_id: said.pid.unwrap_or(0),
        user_id: user_id.map(|uid| uid.to_string()),
        user_name,
        operation: operation(said),
        executable: said.executable.clone().unwrap_or_else(|| executable(said, host)),
        remote_address: said.address.map(Into::into),
        remote_port: said.port.map(Port),
        local_port: None,
        result: if said.act == Act::Fail { LoginResult::Fail } else { LoginResult::Success },
        extra_details: details,
    }
}

fn operation(said: &Said) -> String {
    match (said.act, said.service, &said.method) {
        (Act::Logout, ..) => "logout".to_owned(),
        (_, Service::Ssh | Service::Dropbear, Some(method)) => format!("ssh:{method}"),
        (_, Service::Ssh | Service::Dropbear, None) => "ssh".to_owned(),
        (_, Service::Su, _) => "su".to_owned(),
        (_, Service::Sudo, _) => "sudo".to_owned(),
        (_, Service::Login | Service::Desktop | Service::Unknown, _) => "login".to_owned(),
    }
}

/// The program of the process while it lives, if it is one that lets people in; else where it usually stands.
fn executable(said: &Said, host: &Host) -> String {
    let (names, places): (&[&str], &[&str]) = match said.service {
        Service::Ssh => (&["sshd", "sshd-session", "sshd-auth"], &["/usr/sbin/sshd", "/usr/bin/sshd"]),
        Service::Dropbear => (&["dropbear", "dropbearmulti"], &["/usr/sbin/dropbear", "/usr/bin/dropbear"]),
        Service::Su => (&["su"], &["/usr/bin/su", "/bin/su"]),
        Service::Sudo => (&["sudo"], &["/usr/bin/sudo", "/usr/local/bin/sudo"]),
        // A session with an address that no program tells of: most likely it came over SSH.
        Service::Unknown if said.address.is_some() => (&["sshd", "sshd-session"], &["/usr/sbin/sshd", "/bin/login"]),
        Service::Login | Service::Unknown => (&["login"], &["/usr/bin/login", "/bin/login"]),
        Service::Desktop => (&[], &[]),
    };
    let living = said.pid.and_then(|pid| procfs::executable(host, pid).ok()).map(|program| program.path);
    let fits = |path: &String| names.contains(&path.rsplit('/').next().unwrap_or_default());
    if let Some(path) = living.filter(fits) {
        return path;
    }
    let there = places.iter().find(|place| host.path(place).exists());
    there.or(places.first()).map(|place| (*place).to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::logins::correlate::Correlator;
    use crate::collect::logins::sighting::{Form, Sighting};
    use crate::model::time::Mono;
    use crate::sys::clock::ManualClock;
    use crate::sys::fixture;

    fn made(said: Said) -> Login {
        let machine = fixture::machine("board");
        let mut correlator = Correlator::default();
        let at = "2026-07-01T09:30:00Z".parse().unwrap();
        correlator.see(Sighting { at, coarse: false, origin: Origin::Journal, said }, Mono::default());
        let attempt = correlator.due(Mono::from_boot(std::time::Duration::from_secs(99))).remove(0);
        let clock = std::sync::Arc::new(ManualClock::new(at));
        make(&attempt, &machine.host, &mut Passwd::new(machine.host.clone(), clock))
    }

    #[test]
    fn an_ssh_attempt_says_how_and_where_from() {
        let said = Said::new(Service::Ssh, Act::Fail, Form::Verdict).by("pi").from("192.0.2.7").with("password");
        let login = made(Said { port: Some(50022), pid: Some(9999), ..said });
        assert_eq!((login.operation.as_str(), login.user_id.as_deref()), ("ssh:password", Some("1000")));
        assert_eq!((login.executable.as_str(), login.result), ("/usr/sbin/sshd", LoginResult::Fail));
        assert_eq!(login.extra_details["Source"], "journal");
        assert_eq!(serde_json::to_value(&login).unwrap()["RemoteAddress"], "192.0.2.7");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let login = made(Said::new(Service::Login, Act::Fail, Form::Verdict).by("nobody here").on("tty1"));
        assert_eq!((login.user_name.as_str(), login.user_id), ("nobody here", None));
        assert_eq!(
            (login.process_id, login.remote_address, login.extra_details["Terminal"].as_str()),
            (0, None, "tty1")
        );
        let named = made(Said::new(Service::Login, Act::Success, Form::Verdict).by("pi").from("desk.example"));
        assert_eq!(named.extra_details["RemoteHost"], "desk.example");
    }

    #[test]
    fn su_and_sudo_name_both_users() {
        let sudo = made(Said { uid: Some(1000), ..Said::new(Service::Sudo, Act::Success, Form::Session).and("root") });
        assert_eq!((sudo.user_name.as_str(), sudo.extra_details["TargetUser"].as_str()), ("pi", "root"));
        let su = made(Said::new(Service::Su, Act::Success, Form::Verdict).by("root").and("pi"));
        assert_eq!((su.operation.as_str(), su.extra_details["ByUser"].as_str()), ("su", "pi"));
        let ended = made(Said::new(Service::Login, Act::Logout, Form::Session).by("pi"));
        assert_eq!((ended.operation.as_str(), ended.result), ("logout", LoginResult::Success));
    }
}
