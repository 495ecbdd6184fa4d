//! Process starts: from "this process started a program" to an observation. The sources differ only in how they learn
//! of it.

pub(super) mod command_line;
pub mod connector;
pub(super) mod container;
mod family;
pub mod poll;
pub(super) mod program_paths;
pub(super) mod taskstats;

use std::io;
use std::sync::Arc;

use crate::collect::lane::SourceContext;
use crate::collect::redact::Redactor;
use crate::model::event::Observation;
use crate::model::payload::{ExtraDetails, Payload, ProcessCreate, ProcessTerminate};
use crate::model::time::Timestamp;
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::passwd::Passwd;
use crate::sys::procfs::{self, Stat};
use command_line::CommandLine;

/// What a source says about a program that was started.
#[derive(Clone, Debug, Default)]
pub struct Started {
    /// The process.
    pub pid: u32,
    /// Its parent, if the source knows it; used if the process is gone.
    pub parent: Option<u32>,
    /// Its `stat`, if the source has read it already.
    pub stat: Option<Stat>,
}

/// Reads what `/proc` still has about a process and numbers the observations of one source.
pub struct Reader {
    host: Host,
    clock: Arc<dyn Clock>,
    redactor: Arc<Redactor>,
    command_line: usize,
    users: Passwd,
    serial: u64,
}

impl Reader {
    /// Reads the machine of `context`; the first observation has the serial number 0.
    pub fn new(context: &SourceContext) -> Self {
        let SourceContext { host, clock, redactor, command_line, .. } = context.clone();
        Self { users: Passwd::new(host.clone(), Arc::clone(&clock)), host, clock, redactor, command_line, serial: 0 }
    }

    /// Makes the observation. What the process left behind is read at once, the shortest-lived first: the command
    /// line ends with the process, the rest stands until the parent has noticed.
    ///
    /// `ExtraDetails`: `CommandLineSource` is `proc`, or `gone` if the process ended before it was read;
    /// what [`CommandLine::describe`] says about it; `ExecutableDeleted` if the file was removed; `ProcessName`, the
    /// kernel's short name, if the executable cannot be read; `ContainerId` if it is in one.
    pub fn observe(&mut self, started: Started) -> Observation {
        let pid = started.pid;
        let line = procfs::arguments(&self.host, pid, self.command_line + 1)
            .map(|bytes| CommandLine::read(&bytes, self.command_line, &self.redactor));
        let executable = procfs::executable(&self.host, pid);
        let stat = started.stat.or_else(|| procfs::stat(&self.host, pid));
        let user = procfs::user(&self.host, pid);
        let mut details = ExtraDetails::new();
        let mut note = |key: &str, value: String| {
            details.insert(key.to_owned(), value);
        };

        // A process that has ended and was not yet noticed shows an empty command line.
        let ended = executable.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::PermissionDenied);
        let line = line.filter(|line| !(line.text.is_empty() && (ended || stat.as_ref().is_none_or(Stat::is_dead))));
        note("CommandLineSource", if line.is_some() { "proc" } else { "gone" }.to_owned());
        let line = line.unwrap_or_default();
        if let (Err(_), Some(stat)) = (&executable, &stat) {
            note("ProcessName", stat.name.clone());
        }
        if executable.as_ref().is_ok_and(|program| program.deleted) {
            note("ExecutableDeleted", "true".to_owned());
        }
        // The last argument's end is not part of the line.
        let length = stat.as_ref().and_then(|s| s.arguments).map(|length| length.saturating_sub(1));
        line.describe(length, &mut details);
        let parent = stat.map(|s| s.parent).or(started.parent);
        if let Some(id) = container::of(&self.host, pid, parent) {
            details.insert("ContainerId".to_owned(), id);
        }
        let what = ProcessCreate {
            executable: executable.map(|program| program.path).unwrap_or_default(),
            process_id: pid,
            parent_process_id: parent.unwrap_or(0),
            user_id: user.map(|uid| uid.to_string()).unwrap_or_default(),
            user_name: user.and_then(|uid| self.users.name(uid)).map(str::to_owned),
            command_line: line.text,
            extra_details: details,
        };
        self.number(Payload::ProcessCreate(what))
    }

    /// Makes the observation of an end. `status` is that of `wait(2)`; the program is unknown if it was never read.
    pub fn ended(&mut self, pid: u32, status: u32, program: Option<&str>) -> Observation {
        let what = ProcessTerminate {
            executable: program.unwrap_or_default().to_owned(),
            process_id: pid,
            exit_status: exit_status(status),
            extra_details: ExtraDetails::new(),
        };
        self.number(Payload::ProcessTerminate(what))
    }

    /// Gives what was seen now its number.
    fn number(&mut self, what: Payload) -> Observation {
        self.number_at(self.clock.now().wall, what)
    }

    /// Gives what was seen at some time its number.
    pub fn number_at(&mut self, at: Timestamp, what: Payload) -> Observation {
        let serial = self.serial;
        self.serial += 1;
        Observation { at, serial, what }
    }

    /// The name of a user.
    pub fn user_name(&mut self, uid: u32) -> Option<String> {
        self.users.name(uid).map(str::to_owned)
    }

    /// The user id of a name.
    pub fn user_id(&mut self, name: &str) -> Option<u32> {
        self.users.id(name)
    }

    /// How many bytes of a command line are kept.
    pub const fn limit(&self) -> usize {
        self.command_line
    }

    /// What masks secrets.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The machine that is read.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The clock of the observations.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }
}

/// The exit code; for an end by a signal 128 plus its number, as shells show it.
pub(in crate::collect) fn exit_status(status: u32) -> i32 {
    let (signal, code) = (status & 0x7f, (status >> 8) & 0xff);
    i32::try_from(if signal == 0 { code } else { 128 + signal }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::ManualClock;
    use crate::sys::fixture;

    fn observe(started: Started) -> ProcessCreate {
        let machine = fixture::machine("board");
        let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
        match Reader::new(&SourceContext::plain(machine.host.clone(), clock)).observe(started).what {
            Payload::ProcessCreate(p) => p,
            other => panic!("{other:?}"),
        }
    }

    fn of(pid: u32) -> ProcessCreate {
        observe(Started { pid, ..Started::default() })
    }

    #[test]
    fn a_living_process_is_read_whole() {
        let seen = of(300);
        assert_eq!(seen.executable, "/opt/sensor/sensord");
        assert_eq!(seen.command_line, "/opt/sensor/sensord --bus 1");
        assert_eq!((seen.process_id, seen.parent_process_id), (300, 1));
        assert_eq!((seen.user_id.as_str(), seen.user_name.as_deref()), ("1000", Some("pi")));
        assert_eq!(seen.extra_details, [("CommandLineSource".to_owned(), "proc".to_owned())].into());
    }

    #[test]
    fn an_end_has_the_status_that_shells_show() {
        for (status, shown) in [(0, 0), (0x0100, 1), (0xff00, 255), (9, 137), (0x8b, 139), (15, 143)] {
            assert_eq!(exit_status(status), shown, "{status:#x}");
        }
    }

    #[test]
    fn a_removed_program_is_marked() {
        let seen = of(301);
        assert_eq!(seen.executable, "/opt/old/updater");
        assert_eq!(seen.extra_details["ExecutableDeleted"], "true");
    }

    #[test]
    fn a_process_that_has_ended_is_still_an_observation() {
        let unnoticed = of(302);
        assert_eq!((unnoticed.executable.as_str(), unnoticed.command_line.as_str()), ("", ""));
        assert_eq!((unnoticed.parent_process_id, unnoticed.user_id.as_str()), (300, "1000"));
        assert_eq!(unnoticed.extra_details["CommandLineSource"], "gone");
        assert_eq!(unnoticed.extra_details["ProcessName"], "true");

        let gone = observe(Started { pid: 9999, parent: Some(300), stat: None });
        assert_eq!((gone.process_id, gone.parent_process_id), (9999, 300));
        assert_eq!(gone.extra_details, [("CommandLineSource".to_owned(), "gone".to_owned())].into());
    }
}
