//! The texts of OpenSSH (`auth.c`, `auth2.c`, `packet.c`) and of Dropbear.
//!
//! The name of the user stands before `from ADDRESS port NUMBER`, which is followed by the program's own words only, so
//! the last place where that form stands is the true one. An address here is always one: sshd does not write names.
//! OpenSSH writes control characters in names as `\NNN`.

use std::net::IpAddr;

use super::super::sighting::{Act, Form, Said, Service, address};

/// What OpenSSH says.
pub(super) fn openssh(text: &str) -> Option<Said> {
    let text = text.strip_suffix(" [preauth]").unwrap_or(text);
    if let Some(rest) = text.strip_prefix("Accepted ") {
        return verdict(rest, Act::Success);
    }
    if let Some(rest) = text.strip_prefix("Failed ") {
        return verdict(rest, Act::Fail);
    }
    if let Some(rest) = text.strip_prefix("Invalid user ") {
        let (name, peer) = named(rest, " from ")?;
        return Some(peer.put(Said::new(Service::Ssh, Act::Fail, Form::Probe).by(name)));
    }
    if let Some(rest) = text.strip_prefix("Disconnected from user ") {
        let (name, peer) = named(rest, " ")?;
        return Some(peer.put(Said::new(Service::Ssh, Act::Logout, Form::Closing).by(name)));
    }
    let refused = ["Connection closed by ", "Connection reset by ", "Disconnected from ", "Disconnecting "]
        .iter()
        .find_map(|start| text.strip_prefix(start))?;
    let refused = refused.strip_prefix("authenticating user ").or_else(|| refused.strip_prefix("invalid user "))?;
    let (name, peer) = named(refused, " ")?;
    Some(peer.put(Said::new(Service::Ssh, Act::Fail, Form::Closing).by(name)))
}

/// `METHOD for [invalid user ]NAME from ADDRESS port NUMBER ssh2[: KEY]`.
fn verdict(rest: &str, act: Act) -> Option<Said> {
    let (method, rest) = rest.split_once(" for ")?;
    if method.contains(' ') {
        return None;
    }
    let (name, peer) = named(rest, " from ")?;
    // A name that begins like this belongs to nobody who could be let in.
    let name = if act == Act::Fail { name.strip_prefix("invalid user ").unwrap_or(name) } else { name };
    let method = method.split_once('/').map_or(method, |(method, _)| method);
    // Clients offer all keys they have, and `none` to ask what there is: no credential was refused yet.
    let probe = act == Act::Fail && matches!(method, "none" | "publickey" | "hostbased");
    let form = if probe { Form::Probe } else { Form::Verdict };
    let said = peer.put(Said::new(Service::Ssh, act, form).by(name));
    Some(if method == "none" { said } else { said.with(method) })
}

/// The other side.
struct Peer {
    address: IpAddr,
    port: u16,
}

impl Peer {
    fn put(&self, said: Said) -> Said {
        Said { address: Some(self.address), port: Some(self.port), ..said }
    }
}

/// A name, and where it comes from: the last place at which `mark`, an address and a port stand.
fn named<'a>(text: &'a str, mark: &str) -> Option<(&'a str, Peer)> {
    text.rmatch_indices(mark).find_map(|(at, _)| {
        let rest = text.get(at + mark.len()..)?;
        let (place, rest) = rest.split_once(" port ")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (port, end) = rest.split_at_checked(digits)?;
        let whole = end.is_empty() || end.starts_with(" ssh") || end.starts_with(':');
        let peer = Peer { address: address(place)?, port: port.parse().ok()? };
        whole.then_some((text.get(..at)?, peer))
    })
}

/// What Dropbear says. It writes `ADDRESS:PORT`, IPv6 without brackets, and names in quotes.
pub(super) fn dropbear(text: &str) -> Option<Said> {
    const TOLD: [(&str, &str, Act, &str); 6] = [
        ("Password auth succeeded for '", "' from ", Act::Success, "password"),
        ("Pubkey auth succeeded for '", "' with ", Act::Success, "publickey"),
        ("PAM password auth succeeded for '", "' from ", Act::Success, "password"),
        ("Bad password attempt for '", "' from ", Act::Fail, "password"),
        ("Bad PAM password attempt for '", "' from ", Act::Fail, "password"),
        ("Login attempt for nonexistent user from ", "", Act::Fail, ""),
    ];
    if let Some(rest) = text.strip_prefix("Exit (") {
        let (name, rest) = rest.rsplit_once(") from <")?;
        let (place, _) = rest.split_once('>')?;
        return Some(peer(place)?.put(Said::new(Service::Dropbear, Act::Logout, Form::Closing).by(name)));
    }
    let (start, mark, act, method) = TOLD.into_iter().find(|(start, ..)| text.starts_with(start))?;
    let name = if mark.is_empty() { "" } else { super::between(text, start, mark)? };
    let (_, place) = text.rsplit_once(" from ")?;
    Some(peer(place)?.put(Said::new(Service::Dropbear, act, Form::Verdict).by(name).with(method)))
}

fn peer(text: &str) -> Option<Peer> {
    let (place, port) = text.trim_end().rsplit_once(':')?;
    Some(Peer { address: address(place)?, port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn brief(said: &Said) -> (Act, Form, &str, String, &str) {
        let from = said.address.zip(said.port).map(|(address, port)| format!("{address} {port}")).unwrap_or_default();
        (said.act, said.form, said.user.as_deref().unwrap_or("-"), from, said.method.as_deref().unwrap_or("-"))
    }

    #[test]
    fn openssh_is_understood() {
        let peer = || "192.0.2.7 50022".to_owned();
        for (text, wanted) in [
            (
                "Accepted password for pi from 192.0.2.7 port 50022 ssh2",
                (Act::Success, Form::Verdict, "pi", peer(), "password"),
            ),
            (
                "Accepted publickey for root from ::ffff:192.0.2.7 port 50022 ssh2: ED25519 SHA256:abc",
                (Act::Success, Form::Verdict, "root", peer(), "publickey"),
            ),
            (
                "Accepted keyboard-interactive/pam for pi from fe80::1%eth0 port 5 ssh2",
                (Act::Success, Form::Verdict, "pi", "fe80::1 5".into(), "keyboard-interactive"),
            ),
            (
                "Failed password for pi from 192.0.2.7 port 50022 ssh2",
                (Act::Fail, Form::Verdict, "pi", peer(), "password"),
            ),
            (
                "Failed password for invalid user nobody here from 192.0.2.7 port 50022 ssh2",
                (Act::Fail, Form::Verdict, "nobody here", peer(), "password"),
            ),
            (
                "Failed none for invalid user x from 192.0.2.7 port 50022 ssh2",
                (Act::Fail, Form::Probe, "x", peer(), "-"),
            ),
            (
                "Failed publickey for pi from 192.0.2.7 port 50022 ssh2: RSA SHA256:abc",
                (Act::Fail, Form::Probe, "pi", peer(), "publickey"),
            ),
            ("Invalid user  from 192.0.2.7 port 50022", (Act::Fail, Form::Probe, "-", peer(), "-")),
            ("Invalid user admin from 192.0.2.7 port 50022", (Act::Fail, Form::Probe, "admin", peer(), "-")),
            (
                "Connection closed by authenticating user root 192.0.2.7 port 50022 [preauth]",
                (Act::Fail, Form::Closing, "root", peer(), "-"),
            ),
            (
                "Connection reset by invalid user a b 192.0.2.7 port 50022 [preauth]",
                (Act::Fail, Form::Closing, "a b", peer(), "-"),
            ),
            (
                "Disconnecting authenticating user pi 192.0.2.7 port 50022: Too many authentication failures [preauth]",
                (Act::Fail, Form::Closing, "pi", peer(), "-"),
            ),
            ("Disconnected from user pi 192.0.2.7 port 50022", (Act::Logout, Form::Closing, "pi", peer(), "-")),
        ] {
            assert_eq!(openssh(text).as_ref().map(brief), Some(wanted), "{text}");
        }
        for other in [
            "Server listening on 0.0.0.0 port 22.",
            "Connection closed by 192.0.2.7 port 50022 [preauth]",
            "Received disconnect from 192.0.2.7 port 50022:11: disconnected by user",
            "Accepted password for pi",
            "Accepted password for pi from here port 1 ssh2",
            "Postponed publickey for pi from 192.0.2.7 port 50022 ssh2",
            "error: Received disconnect from 192.0.2.7 port 1:3: Accepted password for pi from 192.0.2.7 port 1 ssh2",
        ] {
            assert_eq!(openssh(other), None, "{other}");
        }
    }

    #[test]
    fn dropbear_is_understood() {
        for (text, wanted) in [
            (
                "Password auth succeeded for 'root' from 192.0.2.7:50022",
                (Act::Success, Form::Verdict, "root", "192.0.2.7 50022".to_owned(), "password"),
            ),
            (
                "Pubkey auth succeeded for 'root' with ssh-ed25519 key SHA256:abc from 2001:db8::7:50022",
                (Act::Success, Form::Verdict, "root", "2001:db8::7 50022".into(), "publickey"),
            ),
            (
                "Bad password attempt for 'root' from 192.0.2.7:50022",
                (Act::Fail, Form::Verdict, "root", "192.0.2.7 50022".into(), "password"),
            ),
            (
                "Login attempt for nonexistent user from 192.0.2.7:50022",
                (Act::Fail, Form::Verdict, "-", "192.0.2.7 50022".into(), "-"),
            ),
            (
                "Exit (root) from <192.0.2.7:50022>: Disconnect received",
                (Act::Logout, Form::Closing, "root", "192.0.2.7 50022".into(), "-"),
            ),
        ] {
            assert_eq!(dropbear(text).as_ref().map(brief), Some(wanted), "{text}");
        }
        assert_eq!(dropbear("Child connection from 192.0.2.7:50022"), None);
    }

    proptest! {
        /// Whatever name is typed: the outcome is that of the program, and so are address and port.
        #[test]
        fn no_name_forges_an_outcome(
            name in "(Accepted password for root from 198[.]51[.]100[.]1 port 1 ssh2|invalid user |[ -~]{0,20}| from 198[.]51[.]100[.]1 port 1 ssh2(: x)?| 198[.]51[.]100[.]1 port 1){0,4}",
            start in prop::sample::select(vec![
                ("Failed password for invalid user ", " from ", " ssh2"),
                ("Failed none for invalid user ", " from ", " ssh2"),
                ("Invalid user ", " from ", ""),
                ("Connection closed by invalid user ", " ", " [preauth]"),
                ("Disconnecting invalid user ", " ", ": Too many authentication failures [preauth]"),
            ]),
        ) {
            let (start, mark, end) = start;
            let said = openssh(&format!("{start}{name}{mark}192.0.2.7 port 50022{end}")).unwrap();
            prop_assert_eq!(said.act, Act::Fail);
            prop_assert_eq!((said.address, said.port), (address("192.0.2.7"), Some(50022)));
        }

        #[test]
        fn dropbear_is_not_forged_either(name in "('|[ -~]{0,20}|' from 198[.]51[.]100[.]1:1){0,4}") {
            let said = dropbear(&format!("Bad password attempt for '{name}' from 192.0.2.7:50022")).unwrap();
            prop_assert_eq!((said.act, said.address, said.port), (Act::Fail, address("192.0.2.7"), Some(50022)));
        }
    }
}
