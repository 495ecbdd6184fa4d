//! From what audit tells to an observation.
//!
//! `ExtraDetails` of a start: `CommandLineSource` is `audit`; what [`CommandLine::describe`] says about the line, and
//! `CommandLineCut` also if records of it are missing; `AuditUserId`, the user who signed in, whoever it became since,
//! and `AuditSessionId`, the number of that sign-in, if a person started it; `Architecture` for a 32-bit program on a
//! 64-bit machine; `ExecutableDeleted` if the file was removed; `ContainerId` if the
//! process is in one.
//!
//! Of a connection the same, and `InProgress` if the program did not wait for the outcome, which may yet be a refusal;
//! `ProtocolAssumed` if the socket was gone before it could be looked at. The kernel gives 128 bytes of the command line.
//!
//! Of a sign-in `AuditUserId` and `AuditSessionId`, which before the session is open are those of who asks for it, and
//! `Terminal`. Of sudo the user is the one who asks, and `TargetUser` the one that is acted as; of su the user is the one
//! that is become, and `ByUser` who asks. An end is told with the operation `logout`.

use std::time::Duration;

use crate::collect::process::Reader;
use crate::collect::process::command_line::CommandLine;
use crate::collect::process::container;
use crate::model::event::Observation;
use crate::model::payload::{ConnectionCreate, Direction, ExtraDetails, Login, Payload, Port, ProcessCreate};
use crate::model::time::Timestamp;
use crate::sys::audit::assemble::{Caller, Connection, TITLE};
use crate::sys::audit::record::Stamp;
use crate::sys::host;
use crate::sys::procfs;

use super::connections::Resolved;
use super::logins::Outcome;
use super::said::Said;

/// A record that is older, or newer, was stamped before somebody set the clock: it was read a moment ago.
const PLAUSIBLE: Duration = Duration::from_secs(60);

/// Makes observations of what audit tells.
#[derive(Debug)]
pub(super) struct Observer {
    /// Whether 32-bit programs are the exception here.
    is_64_bit: bool,
}

impl Default for Observer {
    fn default() -> Self {
        Self { is_64_bit: host::machine().is_some_and(|machine| machine.ends_with("64")) }
    }
}

impl Observer {
    /// The observation of a start. `length` is that of all arguments, `None` if some are missing.
    pub(super) fn start(
        &mut self,
        reader: &mut Reader,
        caller: &Caller,
        arguments: &[u8],
        length: Option<u64>,
    ) -> Observation {
        let line = CommandLine::read_part(arguments, reader.limit(), length.is_none(), reader.redactor());
        let mut details = self.details(caller);
        details.insert("CommandLineSource".to_owned(), "audit".to_owned());
        line.describe(length, &mut details);
        if let Some(id) = container::of(reader.host(), caller.pid, Some(caller.parent)) {
            details.insert("ContainerId".to_owned(), id);
        }
        let executable = executable(reader, &caller.executable, &mut details);
        let what = ProcessCreate {
            executable,
            process_id: caller.pid,
            parent_process_id: caller.parent,
            user_id: caller.uid.map(|uid| uid.to_string()).unwrap_or_default(),
            user_name: caller.uid.and_then(|uid| reader.user_name(uid)),
            command_line: line.text,
            extra_details: details,
        };
        let at = moment(reader.clock().now().wall, caller.stamp);
        reader.number_at(at, Payload::ProcessCreate(what))
    }

    /// The observation of a connection.
    pub(super) fn connection(&mut self, reader: &mut Reader, resolved: Resolved) -> Observation {
        let Resolved { connection, peer, local, is_tcp, assumed } = resolved;
        let Connection { caller, accepted, title, in_progress, .. } = connection;
        let line = CommandLine::read_part(&title, reader.limit(), title.len() >= TITLE, reader.redactor());
        let mut details = self.details(&caller);
        line.describe(None, &mut details);
        for (key, holds) in [("InProgress", in_progress), ("ProtocolAssumed", assumed)] {
            if holds {
                details.insert(key.to_owned(), "true".to_owned());
            }
        }
        let executable = executable(reader, &caller.executable, &mut details);
        let what = ConnectionCreate {
            remote_address: peer.ip().into(),
            remote_port: Port(peer.port()),
            local_address: local.map(|local| local.ip().into()),
            local_port: local.map(|local| Port(local.port())),
            direction: if accepted { Direction::In } else { Direction::Out },
            protocol: if is_tcp { "tcp" } else { "udp" }.to_owned(),
            process_id: caller.pid,
            user_id: caller.uid.map(|uid| uid.to_string()),
            executable,
            command_line: (!line.text.is_empty()).then_some(line.text),
            extra_details: details,
        };
        let at = moment(reader.clock().now().wall, caller.stamp);
        reader.number_at(at, Payload::ConnectionCreate(what))
    }

    /// The observation of a sign-in, or of its end.
    pub(super) fn login(reader: &mut Reader, outcome: Outcome, said: Said) -> Observation {
        let program = said.program().to_owned();
        let mut details = session(said.login_uid, said.session);
        if let Some(terminal) = said.terminal {
            details.insert("Terminal".to_owned(), terminal);
        }
        let asker = said.uid.and_then(|uid| reader.user_name(uid));
        let (name, id) = match (program.as_str(), said.account, asker) {
            ("sudo", account, Some(asker)) => {
                let target = account.filter(|account| outcome != Outcome::Fail || *account != asker);
                details.extend(target.map(|target| ("TargetUser".to_owned(), target)));
                (Some(asker), said.uid)
            }
            (program, account, asker) => {
                let by = asker.filter(|_| program == "su");
                details.extend(by.map(|by| ("ByUser".to_owned(), by)));
                (account.or_else(|| reader.user_name(said.id?)), said.id)
            }
        };
        let id = id.or_else(|| reader.user_id(name.as_deref()?));
        let operation = match outcome {
            Outcome::Logout => "logout".to_owned(),
            // sudo's own record has none.
            Outcome::Success | Outcome::Fail if said.operation.is_empty() => program,
            Outcome::Success | Outcome::Fail => said.operation,
        };
        let what = Login {
            process_id: said.pid,
            user_id: id.map(|id| id.to_string()),
            user_name: name.unwrap_or_default(),
            operation,
            executable: said.executable,
            remote_address: said.address.map(Into::into),
            remote_port: None,
            local_port: None,
            result: outcome.result(),
            extra_details: details,
        };
        let at = moment(reader.clock().now().wall, said.stamp);
        reader.number_at(at, Payload::Login(what))
    }

    /// What every event says about who did it.
    fn details(&self, caller: &Caller) -> ExtraDetails {
        let mut details = session(caller.login_uid, caller.session);
        if self.is_64_bit && caller.abi.is_32_bit {
            details.insert("Architecture".to_owned(), caller.abi.name.to_owned());
        }
        details
    }
}

fn session(login_uid: Option<u32>, session: Option<u32>) -> ExtraDetails {
    let known = [("AuditUserId", login_uid), ("AuditSessionId", session)];
    known.into_iter().filter_map(|(key, number)| Some((key.to_owned(), number?.to_string()))).collect()
}

fn executable(reader: &Reader, path: &str, details: &mut ExtraDetails) -> String {
    let program = procfs::named(reader.host(), path.to_owned());
    if program.deleted {
        details.insert("ExecutableDeleted".to_owned(), "true".to_owned());
    }
    program.path
}

/// When it happened: by the kernel's stamp, which has the clock of then.
fn moment(now: Timestamp, stamp: Stamp) -> Timestamp {
    let stamped = i64::try_from(stamp.milliseconds).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match stamped {
        Some(utc) if now.utc.duration_since(utc).unsigned_abs() <= PLAUSIBLE => Timestamp { utc, ..now },
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::collect::lane::SourceContext;
    use crate::model::payload::LoginResult;
    use crate::sys::audit::arch;
    use crate::sys::clock::ManualClock;
    use crate::sys::fixture;

    const NOW: &str = "2026-07-01T09:30:00Z";

    fn caller() -> Caller {
        let milliseconds = NOW.parse::<jiff::Timestamp>().unwrap().as_millisecond().unsigned_abs() - 250;
        Caller {
            stamp: Stamp { milliseconds, serial: 1 },
            abi: arch::of_record(0x4000_0028).unwrap(),
            pid: 300,
            parent: 1,
            uid: Some(1000),
            login_uid: Some(1000),
            session: Some(3),
            executable: "/opt/gone (deleted)".to_owned(),
        }
    }

    fn start(caller: &Caller, arguments: &[u8], length: Option<u64>) -> Observation {
        with_reader(|observer, reader| observer.start(reader, caller, arguments, length))
    }

    fn with_reader(observe: impl FnOnce(&mut Observer, &mut Reader) -> Observation) -> Observation {
        let machine = fixture::machine("board");
        let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
        let mut reader = Reader::new(&SourceContext::plain(machine.host.clone(), clock));
        observe(&mut Observer { is_64_bit: true }, &mut reader)
    }

    #[test]
    fn a_start_is_told_whole() {
        let seen = start(&caller(), b"/opt/gone\0--token\0x", Some(19));
        assert_eq!(seen.at.utc_text(), "2026-07-01T09:29:59.750Z");
        let Payload::ProcessCreate(start) = seen.what else { panic!() };
        assert_eq!((start.process_id, start.parent_process_id), (300, 1));
        assert_eq!((start.user_id.as_str(), start.user_name.as_deref()), ("1000", Some("pi")));
        assert_eq!(start.executable, "/opt/gone");
        assert!(start.command_line.starts_with("/opt/gone --token ") && !start.command_line.ends_with(" x"));
        let details: Vec<_> = start.extra_details.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let expected = [
            "Architecture=arm",
            "AuditSessionId=3",
            "AuditUserId=1000",
            "CommandLineSource=audit",
            "ExecutableDeleted=true",
            "SecretsMasked=1",
        ];
        assert_eq!(details, expected);
    }

    #[test]
    fn what_is_missing_is_marked_as_cut() {
        let caller = Caller { uid: None, login_uid: None, session: None, ..caller() };
        let seen = start(&caller, b"", None);
        let Payload::ProcessCreate(start) = seen.what else { panic!() };
        assert_eq!((start.user_id.as_str(), start.command_line.as_str()), ("", ""));
        assert_eq!(start.extra_details["CommandLineCut"], "true");
        assert!(!start.extra_details.contains_key("CommandLineLength"));
    }

    #[test]
    fn a_connection_is_told_with_what_is_known() {
        let connection = Connection {
            caller: Caller { executable: "/usr/bin/curl".to_owned(), ..caller() },
            accepted: false,
            descriptor: Some(3),
            peer: None,
            title: b"curl\0--user\0pi:hunter2".to_vec(),
            in_progress: true,
        };
        let peer = "192.0.2.7:443".parse().unwrap();
        let resolved = Resolved { connection, peer, local: None, is_tcp: true, assumed: true };
        let seen = with_reader(|observer, reader| observer.connection(reader, resolved));
        let Payload::ConnectionCreate(seen) = seen.what else { panic!() };
        assert_eq!((seen.remote_address.to_string().as_str(), seen.remote_port), ("192.0.2.7", Port(443)));
        assert_eq!((seen.direction, seen.protocol.as_str(), seen.local_port), (Direction::Out, "tcp", None));
        assert_eq!((seen.process_id, seen.user_id.as_deref()), (300, Some("1000")));
        assert!(!seen.command_line.unwrap().contains("hunter2"));
        assert_eq!(seen.extra_details["InProgress"], "true");
        assert_eq!(seen.extra_details["ProtocolAssumed"], "true");
    }

    #[test]
    fn a_sign_in_has_the_name_or_what_the_user_database_says() {
        let body =
            "audit(1.2:3): pid=7 auid=1000 ses=3 msg='op=login id=1000 exe=\"/bin/login\" terminal=tty1 res=failed'";
        let said = Said::read(body.as_bytes()).unwrap();
        let login = |outcome, said| match with_reader(|_, reader| Observer::login(reader, outcome, said)).what {
            Payload::Login(login) => login,
            other => panic!("{other:?}"),
        };
        let seen = login(Outcome::Fail, said.clone());
        assert_eq!((seen.user_name.as_str(), seen.user_id.as_deref()), ("pi", Some("1000")));
        assert_eq!((seen.operation.as_str(), seen.result), ("login", LoginResult::Fail));
        assert_eq!(
            (seen.extra_details["Terminal"].as_str(), seen.extra_details["AuditSessionId"].as_str()),
            ("tty1", "3")
        );
        let named = |name: &str| Said { id: None, account: Some(name.to_owned()), ..said.clone() };
        assert_eq!(login(Outcome::Success, named("pi")).user_id.as_deref(), Some("1000"));
        let by_pi = |program: &str, account: Option<&str>| Said {
            uid: Some(1000),
            id: None,
            operation: String::new(),
            account: account.map(str::to_owned),
            executable: format!("/usr/bin/{program}"),
            ..said.clone()
        };
        let sudo = login(Outcome::Success, by_pi("sudo", Some("root")));
        assert_eq!((sudo.user_name.as_str(), sudo.user_id.as_deref()), ("pi", Some("1000")));
        assert_eq!((sudo.extra_details["TargetUser"].as_str(), sudo.operation.as_str()), ("root", "sudo"));
        let refused = [Some("pi"), None].map(|account| login(Outcome::Fail, by_pi("sudo", account)));
        assert!(refused.iter().all(|l| l.user_name == "pi" && !l.extra_details.contains_key("TargetUser")));
        let su = login(Outcome::Success, by_pi("su", Some("root")));
        assert_eq!((su.user_name.as_str(), su.extra_details["ByUser"].as_str()), ("root", "pi"));
        let stranger = login(Outcome::Logout, named("stranger"));
        assert_eq!((stranger.user_id, stranger.operation.as_str()), (None, "logout"));
    }

    #[test]
    fn a_stamp_from_before_the_clock_was_set_is_not_believed() {
        let now = Timestamp::trusted(NOW.parse().unwrap());
        for milliseconds in [0, u64::MAX] {
            assert_eq!(moment(now, Stamp { milliseconds, serial: 1 }), now);
        }
    }
}
