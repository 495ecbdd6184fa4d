//! From entries of the journal to sightings.
//!
//! Anybody may write to the journal under any name, but the daemon adds who it was: `_UID`, and `_EXE`, the program, if
//! the sender still lived. What root says is believed. What another user says is believed if the program is the one that
//! the name stands for and belongs to the system (su and sudo run as root for a user), and is left out if it is another
//! one; if the program is not known any more, the event is marked.

use super::sighting::{Origin, Said, Service, Sighting};
use super::words;
use crate::sys::journal::{Entry, Query};

/// What is asked for.
pub const QUERY: Query = Query {
    fields: &["SYSLOG_IDENTIFIER", "MESSAGE", "_PID", "SYSLOG_PID", "_UID", "_EXE"],
    wanted: |name| std::str::from_utf8(name).is_ok_and(|name| words::service(name).is_some()),
};

/// A text was too long to be kept as it is: the journal has compressed it, and it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed;

/// What an entry tells; `None` if nothing about a sign-in, or nothing to be believed.
///
/// # Errors
/// It may tell of one and cannot be read.
pub fn read(entry: &Entry) -> Result<Option<Sighting>, Compressed> {
    let Some(program) = entry.text(0) else { return Ok(None) };
    let number = |place| entry.text(place).and_then(|text| text.parse::<u32>().ok());
    let (uid, executable) = (number(4), entry.text(5));
    let root = uid == Some(0);
    let genuine = executable.as_deref().map(|path| is_genuine(&program, path));
    if !root && genuine == Some(false) {
        return Ok(None);
    }
    let Some(text) = entry.text(1) else {
        // PAM tells of sudo and su what a long command hides.
        let ssh = matches!(words::service(&program), Some(Service::Ssh | Service::Dropbear));
        return if ssh && root { Err(Compressed) } else { Ok(None) };
    };
    // Root may say for which process it speaks; that number is in auth.log too.
    let pid = if root { number(3).or(number(2)) } else { number(2) };
    let Ok(at) = jiff::Timestamp::from_microsecond(entry.at) else { return Ok(None) };
    Ok(words::read(&program, pid, &text).map(|said| {
        let executable = executable.filter(|_| genuine == Some(true));
        let said = Said { executable, unverified: !root && genuine.is_none(), ..said };
        Sighting { at, coarse: false, origin: Origin::Journal, said }
    }))
}

/// Whether this program of the system is the one that lets people in under that name.
fn is_genuine(name: &str, path: &str) -> bool {
    let of_the_system = ["/usr/", "/bin/", "/sbin/", "/nix/store/"].iter().any(|start| path.starts_with(start));
    let file = path.rsplit('/').next().unwrap_or_default();
    of_the_system && !path.contains("/../") && words::service(file).is_some_and(|of| words::service(name) == Some(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::logins::sighting::Act;
    use crate::sys::journal::Journal;

    fn entry(name: &str, text: &str, uid: &str, executable: Option<&str>) -> Entry {
        let field = |text: &str| Some(text.as_bytes().to_vec());
        let fields = vec![field(name), field(text), field("812"), None, field(uid), executable.and_then(field)];
        Entry { sequence: 1, at: 1_780_000_000_250_000, hash: 7, fields }
    }

    const ACCEPTED: &str = "Accepted password for root from 192.0.2.7 port 50022 ssh2";

    #[test]
    fn who_says_it_decides_whether_it_is_believed() {
        let told = |uid, executable| match read(&entry("sshd", ACCEPTED, uid, executable)) {
            Ok(Some(sighting)) => Some((sighting.said.unverified, sighting.said.executable)),
            _ => None,
        };
        assert_eq!(told("0", None), Some((false, None)));
        assert_eq!(told("0", Some("/usr/sbin/sshd")), Some((false, Some("/usr/sbin/sshd".into()))));
        assert_eq!(told("0", Some("/opt/ssh/sbin/sshd")), Some((false, None)));
        assert_eq!(told("1000", Some("/usr/bin/logger")), None);
        assert_eq!(told("1000", Some("/tmp/sshd")), None);
        assert_eq!(told("1000", Some("/usr/../tmp/sshd")), None);
        assert_eq!(told("1000", None), Some((true, None)));
        let sudo = "pi : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls";
        assert!(matches!(read(&entry("sudo", sudo, "1000", Some("/usr/bin/sudo"))), Ok(Some(_))));
    }

    #[test]
    fn a_real_journal_gives_its_sign_ins() {
        let file: &[u8] = include_bytes!("../../../tests/fixtures/journal/compact.journal");
        let mut journal = Journal::open(file, QUERY).unwrap();
        let (mut seen, mut compressed) = (Vec::new(), 0);
        while let Some(entry) = journal.next(&mut 1000).unwrap() {
            match read(&entry) {
                Ok(Some(sighting)) => seen.push(sighting.said),
                Err(Compressed) => compressed += 1,
                Ok(None) => panic!("{entry:?}"),
            }
        }
        let brief: Vec<_> = seen.iter().map(|said| (said.act, said.pid, said.user.as_deref())).collect();
        let [accepted, failed, sudo, closed] = brief.as_slice() else { panic!("{brief:?}") };
        assert_eq!(accepted, &(Act::Success, Some(812), Some("pi")));
        assert_eq!(failed, &(Act::Fail, Some(813), Some("admin")));
        assert_eq!((sudo.0, sudo.2), (Act::Success, Some("pi")));
        assert_eq!(closed, &(Act::Logout, Some(812), Some("pi")));
        assert_eq!(compressed, 1);
    }
}
