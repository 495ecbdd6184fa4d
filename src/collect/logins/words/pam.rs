//! The texts of `pam_unix`, which every program that asks PAM writes under its own name:
//!
//! ```text
//! pam_unix(su:auth): authentication failure; logname=pi uid=1000 euid=0 tty=/dev/pts/0 ruser=pi rhost=  user=root
//! pam_unix(su-l:session): session opened for user root(uid=0) by pi(uid=1000)
//! pam_unix(login:session): session closed for user pi
//! ```
//!
//! `user=` stands last, and is missing for a name that nobody has. For OpenSSH only the end of a session is taken: it
//! says the rest in words of its own. The end of su and sudo is that of a program, not of a sign-in.

use super::super::sighting::{Act, Form, Said, Service};
use super::service;

/// What PAM says.
pub(super) fn read(text: &str) -> Option<Said> {
    let rest = text.strip_prefix("pam_unix(")?;
    let (place, what) = rest.split_once("): ")?;
    let (name, kind) = place.rsplit_once(':')?;
    let service = service(name)?;
    match kind {
        "auth" if service != Service::Ssh => refused(service, what.strip_prefix("authentication failure; ")?),
        "session" => {
            if let Some(who) = what.strip_prefix("session closed for user ") {
                let told = matches!(service, Service::Ssh | Service::Dropbear | Service::Login | Service::Desktop);
                return told.then(|| Said::new(service, Act::Logout, Form::Session).by(who));
            }
            let who = what.strip_prefix("session opened for user ")?;
            (!matches!(service, Service::Ssh | Service::Dropbear)).then(|| opened(service, who))?
        }
        _ => None,
    }
}

fn refused(service: Service, rest: &str) -> Option<Said> {
    let (rest, user) = rest.rsplit_once(" user=").unwrap_or((rest, ""));
    let (rest, host) = rest.split_once(" rhost=")?;
    let (rest, asker) = rest.split_once(" ruser=")?;
    let (_, terminal) = rest.split_once(" tty=")?;
    let said = Said::new(service, Act::Fail, Form::Module).by(user).from(host.trim_end()).on(terminal);
    Some(if service == Service::Su { said.and(asker) } else { said })
}

/// `root(uid=0) by pi(uid=1000)`; older versions have no uid after the first name.
fn opened(service: Service, who: &str) -> Option<Said> {
    let (whom, by) = who.rsplit_once(" by ")?;
    let ((whom, whom_id), (by, by_id)) = (with_id(whom), with_id(by));
    let said = Said::new(service, Act::Success, Form::Session);
    Some(match service {
        Service::Sudo => Said { uid: by_id, ..said.by(by).and(whom) },
        Service::Su => Said { uid: whom_id, ..said.by(whom).and(by) },
        _ => Said { uid: whom_id, ..said.by(whom) },
    })
}

fn with_id(who: &str) -> (&str, Option<u32>) {
    let Some((name, id)) = who.trim_end().rsplit_once("(uid=") else { return (who, None) };
    (name, id.strip_suffix(')').and_then(|id| id.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_says_who_and_how_it_ended() {
        let failed = read("pam_unix(su:auth): authentication failure; logname=pi uid=1000 euid=0 tty=/dev/pts/0 ruser=pi rhost=  user=root").unwrap();
        assert_eq!((failed.act, failed.service), (Act::Fail, Service::Su));
        assert_eq!((failed.user.as_deref(), failed.other_user.as_deref()), (Some("root"), Some("pi")));
        assert_eq!(failed.terminal.as_deref(), Some("pts/0"));

        let unknown = read(
            "pam_unix(login:auth): authentication failure; logname= uid=0 euid=0 tty=/dev/tty1 ruser= rhost=192.0.2.7",
        )
        .unwrap();
        assert_eq!((unknown.user, unknown.terminal.as_deref()), (None, Some("tty1")));
        assert_eq!(unknown.address, "192.0.2.7".parse().ok());

        let sudo = read("pam_unix(sudo:session): session opened for user root(uid=0) by pi(uid=1000)").unwrap();
        assert_eq!(
            (sudo.user.as_deref(), sudo.uid, sudo.other_user.as_deref()),
            (Some("pi"), Some(1000), Some("root"))
        );
        let su = read("pam_unix(su-l:session): session opened for user root(uid=0) by (uid=1000)").unwrap();
        assert_eq!((su.user.as_deref(), su.uid, su.other_user), (Some("root"), Some(0), None));
        let old = read("pam_unix(login:session): session opened for user pi by LOGIN(uid=0)").unwrap();
        assert_eq!((old.user.as_deref(), old.uid, old.act), (Some("pi"), None, Act::Success));
        let closed = read("pam_unix(sshd:session): session closed for user pi").unwrap();
        assert_eq!((closed.act, closed.user.as_deref()), (Act::Logout, Some("pi")));
    }

    #[test]
    fn what_is_no_sign_in_is_left_out() {
        for text in [
            "pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
            "pam_unix(systemd-user:session): session opened for user pi(uid=1000) by (uid=0)",
            "pam_unix(sudo:session): session closed for user root",
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7  user=pi",
            "pam_unix(sshd:session): session opened for user pi(uid=1000) by (uid=0)",
            "pam_unix(login:auth): check pass; user unknown",
            "pam_unix(login:auth): authentication failure; odd",
            "pam_unix(",
            "pam_env(login:session): x",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
