//! The texts of login(1), su(1) and sudo(8): util-linux, shadow and BusyBox; sudo as `sudoers(5)` describes its log.

use super::super::sighting::{Act, Form, Said, Service};
use super::between;

/// What login says.
///
/// ```text
/// LOGIN ON tty1 BY pi [FROM host]            ROOT LOGIN ON tty1 [FROM host]             (util-linux)
/// FAILED LOGIN 1 FROM tty1 FOR pi, Authentication failure
/// FAILED LOGIN SESSION FROM tty1 FOR pi, …   TOO MANY LOGIN TRIES (3) FROM tty1 FOR pi, …
/// ROOT LOGIN  on '/dev/tty1' [from 'host']   FAILED LOGIN (1) on '/dev/tty1' [from 'host'] FOR 'pi', …    (shadow)
/// root login on 'tty1' [from 'host']         invalid password for 'root' on 'tty1'                        (BusyBox)
/// ```
///
/// In the second and third line of util-linux the host takes the place of the terminal if there is one.
pub(super) fn login(text: &str) -> Option<Said> {
    let success = || Said::new(Service::Login, Act::Success, Form::Verdict).with("password");
    let fail = || Said::new(Service::Login, Act::Fail, Form::Verdict).with("password");
    if let Some(rest) = text.strip_prefix("LOGIN ON ") {
        let (terminal, rest) = rest.split_once(" BY ")?;
        let (user, host) = rest.rsplit_once(" FROM ").unwrap_or((rest, ""));
        return Some(success().on(terminal).by(user).from(host));
    }
    if let Some(rest) = text.strip_prefix("ROOT LOGIN ON ") {
        let (terminal, host) = rest.split_once(" FROM ").unwrap_or((rest, ""));
        return Some(success().on(terminal).by("root").from(host));
    }
    if let Some(rest) = text.strip_prefix("ROOT LOGIN ").or_else(|| text.strip_prefix("root login ")) {
        let (terminal, host) = quoted(rest.trim_start().strip_prefix("on '")?);
        return Some(success().on(terminal).by("root").from(host));
    }
    if let Some(rest) = text.strip_prefix("FAILED LOGIN (") {
        let (place, user) = rest.split_once(") on '")?.1.split_once(" FOR '")?;
        let (terminal, host) = quoted(place);
        return Some(fail().on(terminal).from(host).by(user.rsplit_once("', ")?.0));
    }
    if let Some(inside) = between(text, "invalid password for '", "' on '") {
        return Some(fail().by(inside).on(text.rsplit_once("' on '")?.1.split('\'').next()?));
    }
    let rest = text.strip_prefix("FAILED LOGIN ").or_else(|| text.strip_prefix("TOO MANY LOGIN TRIES "))?;
    let (place, user) = rest.split_once("FROM ")?.1.split_once(" FOR ")?;
    let said = fail().by(user.rsplit_once(", ")?.0);
    let is_terminal = ["tty", "pts/", "console", "hvc"].iter().any(|start| place.starts_with(start));
    Some(if is_terminal { said.on(place) } else { said.from(place) })
}

/// `/dev/tty1' from 'host' …`: what stands in the first quotes, and in the second.
fn quoted(text: &str) -> (&str, &str) {
    let (terminal, rest) = text.split_once('\'').unwrap_or((text, ""));
    (terminal, rest.split_once("from '").map_or("", |(_, host)| host.split('\'').next().unwrap_or_default()))
}

/// What su says.
///
/// ```text
/// (to root) pi on pts/0        FAILED SU (to root) pi on pts/0        (util-linux)
/// Successful su for root by pi FAILED su for root by pi               (shadow)
/// ```
pub(super) fn su(text: &str) -> Option<Said> {
    let success = || Said::new(Service::Su, Act::Success, Form::Verdict);
    let fail = || Said::new(Service::Su, Act::Fail, Form::Verdict);
    if let Some(rest) = text.strip_prefix("Successful su for ") {
        let (user, asker) = rest.rsplit_once(" by ")?;
        return Some(success().by(user).and(asker));
    }
    if let Some(rest) = text.strip_prefix("FAILED su for ") {
        let (user, asker) = rest.rsplit_once(" by ")?;
        return Some(fail().by(user).and(asker));
    }
    let (said, rest) = match text.strip_prefix("FAILED SU ") {
        Some(rest) => (fail(), rest),
        None => (success(), text),
    };
    let (user, rest) = rest.strip_prefix("(to ")?.split_once(") ")?;
    let (asker, terminal) = rest.rsplit_once(" on ")?;
    Some(said.by(user).and(asker).on(terminal))
}

/// What sudo says: one line for each command, or for each refusal.
///
/// ```text
///       pi : TTY=pts/0 ; PWD=/home/pi ; USER=root ; COMMAND=/bin/ls
///       pi : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/home/pi ; USER=root ; COMMAND=/bin/ls
/// ```
pub(super) fn sudo(text: &str) -> Option<Said> {
    let (asker, rest) = text.trim_start().split_once(" : ")?;
    if asker.is_empty() || asker.contains(' ') {
        return None;
    }
    let key = rest.bytes().take_while(u8::is_ascii_uppercase).count();
    let allowed = key > 0 && rest.get(key..)?.starts_with('=');
    let fields = if allowed { rest } else { rest.split_once(" ; ")?.1 };
    let field = |name: &str| {
        fields.split(" ; ").take(16).find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    // Without a command it is another message.
    fields.contains("COMMAND=").then(|| {
        let act = if allowed { Act::Success } else { Act::Fail };
        Said::new(Service::Sudo, act, Form::Verdict).by(asker.trim()).and(field("USER")).on(field("TTY"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Act, user, other user, terminal, host.
    fn brief(said: Option<Said>) -> Option<(Act, String, String, String, String)> {
        let text = |value: Option<String>| value.unwrap_or_default();
        said.map(|s| {
            let host = s.address.map(|a| a.to_string()).or(s.host);
            (s.act, text(s.user), text(s.other_user), text(s.terminal), text(host))
        })
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands beside what may be nothing")]
    fn wanted(act: Act, rest: [&str; 4]) -> Option<(Act, String, String, String, String)> {
        let [user, other, terminal, host] = rest.map(str::to_owned);
        Some((act, user, other, terminal, host))
    }

    #[test]
    fn login_is_understood() {
        let (success, fail) = (Act::Success, Act::Fail);
        for (text, what) in [
            ("LOGIN ON tty1 BY pi", wanted(success, ["pi", "", "tty1", ""])),
            ("LOGIN ON pts/1 BY pi FROM 192.0.2.7", wanted(success, ["pi", "", "pts/1", "192.0.2.7"])),
            ("ROOT LOGIN ON ttyS0", wanted(success, ["root", "", "ttyS0", ""])),
            ("ROOT LOGIN  on '/dev/pts/1' from 'desk.example'", wanted(success, ["root", "", "pts/1", "desk.example"])),
            ("root login on 'ttyS0'", wanted(success, ["root", "", "ttyS0", ""])),
            ("FAILED LOGIN (1) on '/dev/tty1' FOR 'pi', Authentication failure", wanted(fail, ["pi", "", "tty1", ""])),
            (
                "FAILED LOGIN (2) on '/dev/pts/1' from 'h' FOR 'UNKNOWN', User not known",
                wanted(fail, ["", "", "pts/1", "h"]),
            ),
            ("FAILED LOGIN 1 FROM tty1 FOR pi, Authentication failure", wanted(fail, ["pi", "", "tty1", ""])),
            ("FAILED LOGIN SESSION FROM 192.0.2.7 FOR pi, x", wanted(fail, ["pi", "", "", "192.0.2.7"])),
            ("TOO MANY LOGIN TRIES (3) FROM tty1 FOR pi, x", wanted(fail, ["pi", "", "tty1", ""])),
            ("invalid password for 'pi' on 'tty1'", wanted(fail, ["pi", "", "tty1", ""])),
            ("FAILED LOGIN", None),
            ("x LOGIN ON tty1 BY pi", None),
        ] {
            assert_eq!(brief(login(text)), what, "{text}");
        }
    }

    #[test]
    fn su_is_understood() {
        for (text, what) in [
            ("(to root) pi on pts/0", wanted(Act::Success, ["root", "pi", "pts/0", ""])),
            ("FAILED SU (to root) pi on pts/0", wanted(Act::Fail, ["root", "pi", "pts/0", ""])),
            ("FAILED SU (to root) pi on none", wanted(Act::Fail, ["root", "pi", "none", ""])),
            ("Successful su for root by pi", wanted(Act::Success, ["root", "pi", "", ""])),
            ("FAILED su for root by pi", wanted(Act::Fail, ["root", "pi", "", ""])),
            ("+ /dev/pts/0 pi:root", None),
        ] {
            assert_eq!(brief(su(text)), what, "{text}");
        }
    }

    #[test]
    fn sudo_is_understood() {
        let end = "TTY=pts/0 ; PWD=/home/pi ; USER=root ; COMMAND=/bin/echo x : y ; USER=pi";
        for (text, act) in [
            (format!("      pi : {end}"), Some(Act::Success)),
            (format!("pi : HOST=board ; {end}"), Some(Act::Success)),
            (format!("pi : 3 incorrect password attempts ; {end}"), Some(Act::Fail)),
            (format!("pi : user NOT in sudoers ; {end}"), Some(Act::Fail)),
            (format!("pi : command not allowed ; {end}"), Some(Act::Fail)),
            ("unable to resolve host board: Name or service not known".into(), None),
            ("pi : problem with defaults entries ; TTY=pts/0 ; PWD=/home/pi".into(), None),
            ("two words : TTY=pts/0 ; COMMAND=x".into(), None),
        ] {
            let what = act.and_then(|act| wanted(act, ["pi", "root", "pts/0", ""]));
            assert_eq!(brief(sudo(&text)), what, "{text}");
        }
    }
}
