//! Sign-ins from the records that programs write themselves (PAM, sshd, login, sudo): one event for each attempt, although
//! several records tell of it.
//!
//! | type | record | what it means here |
//! |---|---|---|
//! | 1100 | `USER_AUTH` | failed: an attempt. Success only says that the password was right |
//! | 1101 | `USER_ACCT` | failed: an attempt of somebody who is known, and not let in |
//! | 1105 | `USER_START` | success: an attempt that was let in |
//! | 1106, 1113 | `USER_END`, `USER_LOGOUT` | the end of it |
//! | 1109 | `USER_ERR` | failed: PAM was asked for nothing. sshd goes so if no key fitted, or nothing was tried |
//! | 1112 | `USER_LOGIN` | sshd and login say so again; alone it is an attempt, too |
//! | 1123 | `USER_CMD` | failed: sudo does not let this user do it |
//!
//! The records of one attempt have the same process id. sshd says `USER_LOGIN` for each key that does not fit, twice for a
//! name that nobody has, and after the `USER_AUTH` of a wrong password; so a failed one waits a while for what follows,
//! and is nothing of its own beside a success. Sessions of programs that start by themselves (cron, the service manager
//! of a user) are no sign-ins.

use std::collections::HashMap;
use std::time::Duration;

use super::said::Said;
use crate::model::payload::LoginResult;
use crate::model::time::Mono;

/// How long a failed `USER_LOGIN` waits for what follows it: who types a password after keys that did not fit needs time.
const FELLOW: Duration = Duration::from_secs(10);
/// After that a `USER_LOGIN` has nothing to do with the failure that was told: the process id may be another's by then.
const MEMORY: Duration = Duration::from_secs(120);
/// Processes that are remembered at most; the oldest is forgotten.
const PROCESSES: usize = 1024;
/// Programs that open sessions for nobody who signs in.
const NO_PEOPLE: [&str; 7] = ["cron", "crond", "anacron", "atd", "systemd", "systemd-executor", "runuser"];
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
    /// A failure that waits for what follows, and since when.
    waits: Option<(Mono, Said)>,
    /// Sessions that it opened and has not closed.
    sessions: u32,
}

/// Puts the records of each attempt together.
#[derive(Debug, Default)]
pub(super) struct Logins(HashMap<u32, Process>);

impl Logins {
    /// Takes a record of this type; gives what it tells, and what must not wait any longer.
    pub(super) fn take(&mut self, kind: u16, said: Said, now: Mono) -> impl Iterator<Item = (Outcome, Said)> + use<> {
        let (mut evicted, mut told) = (None, None);
        if !NO_PEOPLE.contains(&said.program()) {
            let pid = said.pid;
            evicted = self.make_room(pid);
            let fresh = || Process { last: now, told: 0, waits: None, sessions: 0 };
            let process = self.0.entry(pid).or_insert_with(fresh);
            told = process.take(kind, said, now);
            if process.is_done() {
                self.0.remove(&pid);
            }
        }
        evicted.into_iter().chain(told)
    }

    /// Forgets the oldest process if there are too many; gives its failure that waited.
    fn make_room(&mut self, pid: u32) -> Option<(Outcome, Said)> {
        if self.0.len() < PROCESSES || self.0.contains_key(&pid) {
            return None;
        }
        let oldest = self.0.iter().min_by_key(|(_, process)| process.last).map(|(pid, _)| *pid)?;
        self.0.remove(&oldest)?.waits.map(|(_, said)| (Outcome::Fail, said))
    }

    /// Gives one failure that nothing followed in time.
    pub(super) fn expired(&mut self, now: Mono) -> Option<(Outcome, Said)> {
        let due = |process: &Process| process.waits.as_ref().is_some_and(|(since, _)| now.since(*since) >= FELLOW);
        let process = self.0.values_mut().find(|process| due(process))?;
        // Its end, which may follow, is no second one.
        process.told += 1;
        process.waits.take().map(|(_, said)| (Outcome::Fail, said))
    }

    /// How long to wait at most for what follows what waits; `None` if nothing does.
    pub(super) fn patience(&self, now: Mono) -> Option<Duration> {
        let waiting = self.0.values().filter_map(|process| process.waits.as_ref());
        waiting.map(|(since, _)| FELLOW.saturating_sub(now.since(*since))).min()
    }
}

impl Process {
    fn take(&mut self, kind: u16, said: Said, now: Mono) -> Option<(Outcome, Said)> {
        if now.since(self.last) >= MEMORY {
            self.told = 0;
        }
        self.last = now;
        match (kind, said.success) {
            (1100 | 1101, false) => {
                self.told += 1;
                // What came first is the same attempt, and may know where from.
                let before = self.waits.take().map(|(_, before)| before);
                Some((Outcome::Fail, said.and(before)))
            }
            // A failure before this one has been spoken of, or never will be.
            (1100, true) => {
                self.told = 0;
                None
            }
            // The last word after wrong passwords.
            (1123, false) if self.told > 0 => {
                self.told = 0;
                None
            }
            (1109 | 1112, false) if self.told > 0 => {
                self.told -= 1;
                None
            }
            (1112, false) => {
                let (since, first) = match self.waits.take() {
                    Some((since, first)) => (since, first.and(Some(said))),
                    None => (now, said),
                };
                self.waits = Some((since, first));
                None
            }
            (1109 | 1123, false) => {
                // Some versions of sshd say `USER_LOGIN` after it.
                self.told += u32::from(kind == 1109);
                Some((
                    Outcome::Fail,
                    match self.waits.take() {
                        Some((_, first)) => first.and(Some(said)),
                        None => said,
                    },
                ))
            }
            // It has a session of its own, which is told.
            (1112, true) if self.sessions > 0 => None,
            (1105 | 1112, true) => {
                self.waits = None;
                self.sessions += 1;
                Some((Outcome::Success, said))
            }
            (1106 | 1113, _) if self.sessions > 0 => {
                self.sessions -= 1;
                Some((Outcome::Logout, said))
            }
            _ => None,
        }
    }

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
            records.iter().flat_map(|(kind, message)| logins.take(*kind, said(7, message), NOW)).collect();
        told.extend(std::iter::from_fn(|| logins.expired(NOW.after(FELLOW))));
        assert_eq!(logins.patience(NOW), None);
        told.into_iter().map(|(outcome, said)| (outcome, said.account, said.operation)).collect()
    }

    fn told(outcome: Outcome, account: &str, operation: &str) -> (Outcome, Option<String>, String) {
        (outcome, Some(account.to_owned()).filter(|account| !account.is_empty()), operation.to_owned())
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
        assert_eq!(logins.take(1100, said(7, &sshd("x", "pi", "failed")), NOW).count(), 1);
        let later = NOW.after(MEMORY);
        assert_eq!(logins.take(1112, said(7, &sshd("x", "pi", "failed")), later).count(), 0);
        assert!(logins.expired(later.after(FELLOW)).is_some());
        assert_eq!(run(&locked), [told(Outcome::Fail, "pi", "PAM:accounting")]);
    }

    /// What sshd and PAM of Debian 12 say, in this order.
    #[test]
    fn keys_that_do_not_fit_are_one_failure_or_none() {
        let refused = || (1112, sshd("login", "pi", "failed"));
        let left = || (1109, sshd("PAM:bad_ident", "?", "failed"));
        assert_eq!(run(&[refused(), refused(), left()]), [told(Outcome::Fail, "pi", "login")]);
        let nobody = || (1112, sshd("login", "(invalid user)", "failed"));
        assert_eq!(run(&[nobody(), nobody(), left()]), [told(Outcome::Fail, "", "login")]);
        let wrong = || (1100, sshd("PAM:authentication", "nobody", "failed"));
        let expected = [told(Outcome::Fail, "nobody", "PAM:authentication")];
        assert_eq!(run(&[nobody(), nobody(), wrong(), nobody()]), expected);
        // One that fits follows, at once or after a while.
        let opened = || (1105, sshd("PAM:session_open", "pi", "success"));
        assert_eq!(run(&[refused(), opened()]), [told(Outcome::Success, "pi", "PAM:session_open")]);
        // Nothing was tried.
        assert_eq!(run(&[left()]), [told(Outcome::Fail, "", "PAM:bad_ident")]);
        // It was told before the end.
        let mut logins = Logins::default();
        assert_eq!(logins.take(1112, said(7, &refused().1), NOW).count(), 0);
        let later = NOW.after(FELLOW);
        assert!(logins.expired(later).is_some());
        assert_eq!(logins.take(1109, said(7, &left().1), later).count(), 0);
    }

    #[test]
    fn sudo_refuses_once_for_what_is_not_allowed_and_for_each_wrong_password() {
        let sudo = |kind, op: &str, result: &str| {
            let text = format!("{op} exe=\"/usr/bin/sudo\" terminal=pts/0 res={result}");
            (kind, text)
        };
        let password = |result| sudo(1100, "op=PAM:authentication acct=\"pi\"", result);
        let command = |result| sudo(1123, "cwd=\"/\" cmd=\"/usr/bin/id\"", result);
        let wrong = || told(Outcome::Fail, "pi", "PAM:authentication");
        assert_eq!(run(&[password("failed"), password("failed"), command("failed")]), [wrong(), wrong()]);
        assert_eq!(run(&[password("success"), command("failed")]), [told(Outcome::Fail, "", "")]);
        let both = [password("failed"), password("success"), command("failed")];
        assert_eq!(run(&both), [wrong(), told(Outcome::Fail, "", "")]);
        assert_eq!(run(&[password("success"), command("success")]), []);
    }

    #[test]
    fn what_starts_by_itself_signs_nobody_in() {
        let cron = "op=PAM:session_open acct=\"root\" exe=\"/usr/sbin/cron\" addr=? terminal=cron res=success";
        assert_eq!(run(&[(1105, cron.to_owned())]), []);
    }

    proptest! {
        /// Whatever comes: no more outcomes than records, and never more ends than beginnings.
        #[test]
        fn attempts_are_not_invented(
            records in prop::collection::vec((prop_oneof![1098_u16..1115, Just(1123)], 1_u32..2000, any::<bool>()), 0..3000),
        ) {
            let mut logins = Logins::default();
            let (mut begun, mut ended, mut all) = (0_usize, 0_usize, 0_usize);
            for (kind, pid, success) in &records {
                let message = sshd("x", "pi", if *success { "success" } else { "failed" });
                for (outcome, _) in logins.take(*kind, said(*pid, &message), NOW) {
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
