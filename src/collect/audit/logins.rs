//! Sign-ins from the records that programs write themselves (PAM, sshd, login): one event for each attempt, although
//! several records tell of it.
//!
//! | type | record | what it means here |
//! |---|---|---|
//! | 1100 | `USER_AUTH` | failed: an attempt. Success only says that the password was right |
//! | 1101 | `USER_ACCT` | failed: an attempt of somebody who is known, and not let in |
//! | 1105 | `USER_START` | success: an attempt that was let in |
//! | 1106, 1113 | `USER_END`, `USER_LOGOUT` | the end of it |
//! | 1109 | `USER_ERR` | failed: an attempt with a name that does not exist |
//! | 1112 | `USER_LOGIN` | sshd and login say so again; alone it is an attempt, too |
//!
//! The records of one attempt have the same process id. sshd says `USER_LOGIN` before and after the `USER_AUTH` that it
//! belongs to, so a failed one waits a while for its fellow. Sessions of programs that start by themselves (cron, the
//! service manager of a user) are no sign-ins.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::payload::LoginResult;
use crate::model::time::Mono;
use crate::sys::audit::record::{self, Stamp, Value};

/// How long a failed `USER_LOGIN` waits for its `USER_AUTH`.
const FELLOW: Duration = Duration::from_secs(5);
/// After that a `USER_LOGIN` has nothing to do with the failure that was told: the process id may be another's by then.
const MEMORY: Duration = Duration::from_secs(120);
/// Processes that are remembered at most; the oldest is forgotten.
const PROCESSES: usize = 1024;
/// Programs that open sessions for nobody who signs in.
const NO_PEOPLE: [&str; 7] = ["cron", "crond", "anacron", "atd", "systemd", "systemd-executor", "runuser"];

/// What one record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) stamp: Stamp,
    pub(super) pid: u32,
    /// The user who signed in before, for su and sudo.
    pub(super) login_uid: Option<u32>,
    pub(super) session: Option<u32>,
    pub(super) operation: String,
    /// The name that was given; `None` if it is not known.
    pub(super) account: Option<String>,
    /// The user id, where it stands in place of the name.
    pub(super) id: Option<u32>,
    pub(super) executable: String,
    pub(super) address: Option<IpAddr>,
    pub(super) terminal: Option<String>,
    pub(super) success: bool,
}

impl Said {
    /// Reads a record; `None` if it has not the form of one about a sign-in.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (stamp, pairs) = record::parse(body)?;
        let mut said = Self { stamp, ..Self::default() };
        let mut message = None;
        for (key, value) in pairs {
            match (key, value) {
                (b"pid", _) => said.pid = value.id()?,
                (b"auid", _) => said.login_uid = value.id(),
                (b"ses", _) => said.session = value.id(),
                (b"msg", Value::Inner(text)) => message = Some(text),
                _ => {}
            }
        }
        let mut result = None;
        for (key, value) in record::inner(message?) {
            let text = || value.text().map(|text| String::from_utf8_lossy(&text).into_owned());
            match key {
                b"op" => said.operation = text().unwrap_or_default(),
                b"acct" => said.account = text().filter(|name| !name.starts_with('(')),
                b"id" => said.id = value.id(),
                b"exe" => said.executable = text().unwrap_or_default(),
                b"addr" => said.address = text().and_then(|text| text.parse().ok()),
                b"terminal" => said.terminal = text(),
                b"res" => result = Some(matches!(value.raw(), b"success" | b"1")),
                _ => {}
            }
        }
        said.success = result?;
        (said.pid != 0).then_some(said)
    }

    fn is_of_nobody(&self) -> bool {
        NO_PEOPLE.contains(&self.executable.rsplit('/').next().unwrap_or_default())
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Fail,
    Logout,
}

impl Outcome {
    pub(super) const fn result(self) -> LoginResult {
        match self {
            Self::Success | Self::Logout => LoginResult::Success,
            Self::Fail => LoginResult::Fail,
        }
    }
}

/// What is known of a process that lets people in.
#[derive(Debug)]
struct Process {
    /// When it last said something.
    last: Mono,
    /// Failures that were told, and of which it has not yet spoken again.
    told: u32,
    /// A failure that waits for its fellow.
    waits: Option<Said>,
    /// Sessions that it opened and has not closed.
    sessions: u32,
}

/// Puts the records of each attempt together.
#[derive(Debug, Default)]
pub(super) struct Logins(HashMap<u32, Process>);

impl Logins {
    /// Takes a record of this type; gives what it tells.
    pub(super) fn take(&mut self, kind: u16, said: Said, now: Mono) -> Option<(Outcome, Said)> {
        if said.is_of_nobody() {
            return None;
        }
        let pid = said.pid;
        let evicted = self.make_room(pid);
        let fresh = || Process { last: now, told: 0, waits: None, sessions: 0 };
        let process = self.0.entry(pid).or_insert_with(fresh);
        if now.since(process.last) >= MEMORY {
            process.told = 0;
        }
        process.last = now;
        let told = match (kind, said.success) {
            (1100 | 1101, false) => {
                process.told += 1;
                // Its fellow came first: it is the same attempt, and may know where from.
                let before = process.waits.take();
                let address = said.address.or_else(|| before.and_then(|before| before.address));
                Some((Outcome::Fail, Said { address, ..said }))
            }
            (1109 | 1112, false) if process.told > 0 => {
                process.told -= 1;
                None
            }
            (1109 | 1112, false) => {
                process.waits = Some(said);
                None
            }
            // It has a session of its own, which is told.
            (1112, true) if process.sessions > 0 => None,
            (1105 | 1112, true) => {
                process.sessions += 1;
                Some((Outcome::Success, said))
            }
            (1106 | 1113, _) if process.sessions > 0 => {
                process.sessions -= 1;
                Some((Outcome::Logout, said))
            }
            _ => None,
        };
        if process.is_done() {
            self.0.remove(&pid);
        }
        told.or(evicted)
    }

    /// Forgets the oldest process if there are too many; gives its failure that waited.
    fn make_room(&mut self, pid: u32) -> Option<(Outcome, Said)> {
        if self.0.len() < PROCESSES || self.0.contains_key(&pid) {
            return None;
        }
        let oldest = self.0.iter().min_by_key(|(_, process)| process.last).map(|(pid, _)| *pid)?;
        self.0.remove(&oldest)?.waits.map(|said| (Outcome::Fail, said))
    }

    /// Gives one failure whose fellow did not come in time.
    pub(super) fn expired(&mut self, now: Mono) -> Option<(Outcome, Said)> {
        let due = |process: &Process| process.waits.is_some() && now.since(process.last) >= FELLOW;
        let process = self.0.values_mut().find(|process| due(process))?;
        process.waits.take().map(|said| (Outcome::Fail, said))
    }

    /// How long to wait at most for the fellow of what waits; `None` if nothing does.
    pub(super) fn patience(&self, now: Mono) -> Option<Duration> {
        let waiting = self.0.values().filter(|process| process.waits.is_some());
        waiting.map(|process| FELLOW.saturating_sub(now.since(process.last))).min()
    }
}

impl Process {
    const fn is_done(&self) -> bool {
        self.sessions == 0 && self.told == 0 && self.waits.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Mono = Mono::from_boot(Duration::from_secs(100));

    fn said(pid: u32, message: &str) -> Said {
        let body = format!("audit(1795573476.071:3824): pid={pid} uid=0 auid=4294967295 ses=2 msg='{message}'");
        Said::read(body.as_bytes()).unwrap()
    }

    fn sshd(op: &str, account: &str, result: &str) -> String {
        format!(
            "op={op} grantors=? acct=\"{account}\" exe=\"/usr/sbin/sshd\" hostname=? addr=192.0.2.7 terminal=ssh \
             res={result}"
        )
    }

    /// What is told, at the end also of what waits.
    fn run(records: &[(u16, String)]) -> Vec<(Outcome, Option<String>, String)> {
        let mut logins = Logins::default();
        let mut told: Vec<_> =
            records.iter().filter_map(|(kind, message)| logins.take(*kind, said(7, message), NOW)).collect();
        told.extend(std::iter::from_fn(|| logins.expired(NOW.after(FELLOW))));
        assert_eq!(logins.patience(NOW), None);
        told.into_iter().map(|(outcome, said)| (outcome, said.account, said.operation)).collect()
    }

    fn told(outcome: Outcome, account: &str, operation: &str) -> (Outcome, Option<String>, String) {
        (outcome, Some(account.to_owned()).filter(|account| !account.is_empty()), operation.to_owned())
    }

    #[test]
    fn a_record_is_read() {
        let read = said(7, &sshd("PAM:authentication", "pi", "failed"));
        assert_eq!((read.pid, read.login_uid, read.session), (7, None, Some(2)));
        assert_eq!((read.account.as_deref(), read.executable.as_str()), (Some("pi"), "/usr/sbin/sshd"));
        assert_eq!(read.address, Some("192.0.2.7".parse().unwrap()));
        assert_eq!((read.terminal.as_deref(), read.success), (Some("ssh"), false));
        let hex = said(7, "op=login acct=6E6F626F6479 exe=\"/bin/login\" addr=? terminal=? res=1");
        assert_eq!((hex.account.as_deref(), hex.terminal, hex.success), (Some("nobody"), None, true));
        assert_eq!(said(7, "op=login acct=\"(unknown)\" res=failed").account, None);
        assert_eq!(said(7, "op=login id=1000 res=success").id, Some(1000));
        for bad in ["audit(1.2:3): pid=7 msg='op=login'", "audit(1.2:3): pid=7 res=success", "x", ""] {
            assert_eq!(Said::read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_session_is_one_success_and_one_end() {
        let records = [
            (1100, sshd("PAM:authentication", "pi", "success")),
            (1101, sshd("PAM:accounting", "pi", "success")),
            (1103, sshd("PAM:setcred", "pi", "success")),
            (1105, sshd("PAM:session_open", "pi", "success")),
            (1112, sshd("login", "pi", "success")),
            (1106, sshd("PAM:session_close", "pi", "success")),
            (1113, sshd("login", "pi", "success")),
        ];
        let expected =
            [told(Outcome::Success, "pi", "PAM:session_open"), told(Outcome::Logout, "pi", "PAM:session_close")];
        assert_eq!(run(&records), expected);
    }

    #[test]
    fn each_wrong_password_is_one_failure() {
        let records = [
            (1112, sshd("login", "(unknown)", "failed")),
            (1100, sshd("PAM:authentication", "pi", "failed")),
            (1112, sshd("login", "pi", "failed")),
            (1100, sshd("PAM:authentication", "pi", "failed")),
            (1112, sshd("login", "pi", "failed")),
        ];
        assert_eq!(
            run(&records),
            [told(Outcome::Fail, "pi", "PAM:authentication"), told(Outcome::Fail, "pi", "PAM:authentication")]
        );
        // Alone it is a failure, after a while.
        let alone = [(1112, sshd("login", "(unknown)", "failed"))];
        assert_eq!(run(&alone), [told(Outcome::Fail, "", "login")]);
        let locked =
            [(1100, sshd("PAM:authentication", "pi", "success")), (1101, sshd("PAM:accounting", "pi", "failed"))];
        // So is one that comes much later than the last of its process.
        let mut logins = Logins::default();
        logins.take(1100, said(7, &sshd("x", "pi", "failed")), NOW).unwrap();
        let later = NOW.after(MEMORY);
        assert_eq!(logins.take(1112, said(7, &sshd("x", "pi", "failed")), later), None);
        assert!(logins.expired(later.after(FELLOW)).is_some());
        assert_eq!(run(&locked), [told(Outcome::Fail, "pi", "PAM:accounting")]);
    }

    #[test]
    fn what_starts_by_itself_signs_nobody_in() {
        let cron = "op=PAM:session_open acct=\"root\" exe=\"/usr/sbin/cron\" addr=? terminal=cron res=success";
        assert_eq!(run(&[(1105, cron.to_owned())]), []);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~]{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Said::read(format!("audit(1.2:3): pid=7 msg='{text}'").as_bytes());
            let _ = Said::read(&bytes);
        }

        /// Whatever comes: no more outcomes than records, and never more ends than beginnings.
        #[test]
        fn attempts_are_not_invented(
            records in prop::collection::vec((1098_u16..1115, 1_u32..2000, any::<bool>()), 0..3000),
        ) {
            let mut logins = Logins::default();
            let (mut begun, mut ended, mut all) = (0_usize, 0_usize, 0_usize);
            for (kind, pid, success) in &records {
                let message = sshd("x", "pi", if *success { "success" } else { "failed" });
                if let Some((outcome, _)) = logins.take(*kind, said(*pid, &message), NOW) {
                    all += 1;
                    begun += usize::from(outcome == Outcome::Success);
                    ended += usize::from(outcome == Outcome::Logout);
                }
                prop_assert!(logins.0.len() <= PROCESSES);
            }
            all += std::iter::from_fn(|| logins.expired(NOW.after(FELLOW))).count();
            prop_assert!(ended <= begun && all <= records.len());
        }
    }
}
