//! From the records of wtmp and btmp to sightings.
//!
//! A record of an end has the terminal and no user, so the open sessions are remembered, by terminal, with their user.
//! sshd writes two records for a name that nobody has: one when it hears the name, one when a password is refused. So the
//! first one of a process is no more than a [`Form::Probe`] if the local user database does not have the name.
//!
//! Windows of terminal programs (`tmux(…)`, `mosh [`, `:0` on a pseudo-terminal) write records of sessions too, but
//! nobody signed in.

use std::collections::{HashMap, VecDeque};

use super::sighting::{Act, Form, Origin, Said, Service, Sighting};
use crate::sys::utmp::{Kind, Record};

/// Sessions that are remembered, at most.
const SESSIONS: usize = 512;
/// Processes whose first record is remembered, at most.
const HEARD: usize = 256;

/// The sessions of wtmp that are open.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<String, Record>);

impl Sessions {
    /// Takes a record of wtmp.
    pub fn take(&mut self, record: Record) -> Option<Sighting> {
        match record.kind {
            Kind::Boot => {
                self.0.clear();
                None
            }
            Kind::Session if is_window(&record) => None,
            Kind::Session => {
                let sighting = sighting(&record, Origin::Wtmp, Act::Success);
                if self.0.len() < SESSIONS || self.0.contains_key(&record.terminal) {
                    self.0.insert(record.terminal.clone(), record);
                }
                Some(sighting)
            }
            Kind::End => {
                let session = self.0.remove(&record.terminal)?;
                Some(sighting(&Record { at: record.at, ..session }, Origin::Wtmp, Act::Logout))
            }
            Kind::Prompt | Kind::Other => None,
        }
    }
}

/// The processes of sshd that were heard a name from which nobody has.
#[derive(Debug, Default)]
pub struct Refusals(VecDeque<u32>);

impl Refusals {
    /// Takes a record of btmp; `exists` tells whether the local user database has a name.
    pub fn take(&mut self, record: &Record, exists: impl FnOnce(&str) -> bool) -> Option<Sighting> {
        if !matches!(record.kind, Kind::Session | Kind::Prompt) {
            return None;
        }
        let mut seen = sighting(record, Origin::Btmp, Act::Fail);
        if seen.said.service == Service::Ssh && !self.0.contains(&record.pid) && !exists(&record.user) {
            seen.said.form = Form::Probe;
            if self.0.len() >= HEARD {
                self.0.pop_front();
            }
            self.0.push_back(record.pid);
        }
        Some(seen)
    }
}

fn is_window(record: &Record) -> bool {
    let on_pty = record.terminal.starts_with("pts/") || record.terminal.starts_with("tty") && record.host.contains('(');
    let host = &record.host;
    on_pty && (host.starts_with(':') || host.starts_with("tmux(") || host.contains("mosh [") || host.contains(":S."))
}

fn sighting(record: &Record, origin: Origin, act: Act) -> Sighting {
    let service = if record.terminal.starts_with("ssh:") { Service::Ssh } else { Service::Unknown };
    let pid = (record.pid != 0).then_some(record.pid);
    let said = Said { pid, ..Said::new(service, act, Form::Record).by(&record.user).on(&record.terminal) };
    let said = match record.address {
        Some(address) => Said { address: Some(address), ..said },
        None => said.from(&record.host),
    };
    // Seconds are whole in some records; a fraction of exactly zero is rare enough.
    Sighting { at: record.at, coarse: record.at.subsec_nanosecond() == 0, origin, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, terminal: &str, user: &str, host: &str) -> Record {
        let at = "2026-07-01T09:30:00.25Z".parse().unwrap();
        let (terminal, user, host) = (terminal.into(), user.into(), host.into());
        Record { kind, pid: 812, terminal, user, host, address: None, at }
    }

    #[test]
    fn an_end_has_the_user_of_its_session() {
        let mut sessions = Sessions::default();
        let begun = sessions.take(record(Kind::Session, "pts/0", "pi", "192.0.2.7")).unwrap();
        assert_eq!((begun.said.act, begun.said.address), (Act::Success, "192.0.2.7".parse().ok()));
        assert_eq!(sessions.take(record(Kind::End, "pts/1", "", "")), None);
        let ended = sessions.take(record(Kind::End, "pts/0", "", "")).unwrap();
        assert_eq!((ended.said.act, ended.said.user.as_deref()), (Act::Logout, Some("pi")));
        assert_eq!(sessions.take(record(Kind::End, "pts/0", "", "")), None);
        sessions.take(record(Kind::Session, "tty1", "pi", ""));
        assert_eq!(sessions.take(record(Kind::Boot, "~", "reboot", "6.1")), None);
        assert_eq!(sessions.take(record(Kind::End, "tty1", "", "")), None);
    }

    #[test]
    fn windows_are_no_sign_ins() {
        for host in [":0", "tmux(812).%0", "mosh [812]", ":pts/0:S.0"] {
            assert_eq!(Sessions::default().take(record(Kind::Session, "pts/3", "pi", host)), None, "{host}");
        }
        assert!(Sessions::default().take(record(Kind::Session, ":0", "pi", ":0")).is_some());
    }

    #[test]
    fn a_refused_attempt_has_what_is_known() {
        let mut refusals = Refusals::default();
        let ssh = refusals.take(&record(Kind::Prompt, "ssh:notty", "pi", "host.example"), |_| true).unwrap();
        assert_eq!((ssh.said.service, ssh.said.form, ssh.said.terminal), (Service::Ssh, Form::Record, None));
        assert_eq!(ssh.said.host.as_deref(), Some("host.example"));
        let mut unknown = || refusals.take(&record(Kind::Prompt, "ssh:notty", "x", ""), |_| false).unwrap().said.form;
        assert_eq!([unknown(), unknown(), unknown()], [Form::Probe, Form::Record, Form::Record]);
        let console = refusals.take(&record(Kind::Prompt, "tty1", "UNKNOWN", ""), |_| false).unwrap();
        assert_eq!((console.said.user, console.said.terminal.as_deref()), (None, Some("tty1")));
    }
}
