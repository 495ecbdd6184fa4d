//! From a record of the kernel to an observation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::connections::{Connections, Told};
use super::programs::{Known, Line, Programs, Reading};
use crate::collect::lane::SourceContext;
use crate::collect::process::command_line::CommandLine;
use crate::collect::process::container;
use crate::collect::process::exit_status;
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::payload::{ExtraDetails, Payload, ProcessCreate, ProcessTerminate};
use crate::model::time::{Mono, Now, Timestamp};
use crate::sys::bpf::record::{Exec, Exit, Record};
use crate::sys::passwd::Passwd;
use crate::sys::procfs;

/// The last ends that are compared with a new one: two threads that end at the same moment may both tell of it.
const RECENT_ENDS: usize = 64;

/// Makes observations, and numbers those of one source.
pub(super) struct Observer {
    reading: Reading,
    users: Passwd,
    /// Which programs run, if that is wanted.
    programs: Option<Programs>,
    connections: Connections,
    recent_ends: VecDeque<(u32, u64)>,
    serial: u64,
}

impl Observer {
    /// The first observation has the serial number 0.
    pub(super) fn new(context: &SourceContext) -> Self {
        Self {
            reading: Reading::new(context),
            users: Passwd::new(context.host.clone(), Arc::clone(&context.clock)),
            programs: None,
            connections: Connections::new(context),
            recent_ends: VecDeque::new(),
            serial: 0,
        }
    }

    /// Whether to remember which program a process runs. That needs the records of all starts and ends; what runs already
    /// is looked up.
    pub(super) fn remember(&mut self, remember: bool) {
        if remember == self.programs.is_some() {
            return;
        }
        self.programs = remember.then(|| {
            let mut programs = Programs::default();
            programs.learn(&self.reading);
            programs
        });
        self.connections.forget_listeners();
    }

    /// Records of these events were lost, and what came since was read: what they would have changed is found out.
    pub(super) fn lost(&mut self, events: EventSet) {
        if let Some(programs) = &mut self.programs {
            if events.contains(EventName::ProcessCreate) {
                programs.forget_all();
                programs.learn(&self.reading);
            } else if events.contains(EventName::ProcessTerminate) {
                let (living, _) = procfs::processes(&self.reading.host).unwrap_or_default();
                programs.retain(&living);
            }
        }
        self.connections.forget_listeners();
    }

    /// What a record says, if it is one of the `wanted` events.
    pub(super) fn observe(&mut self, record: Record<'_>, wanted: EventSet, now: Now, out: &mut Vec<Observation>) {
        let (when, what) = match record {
            Record::Exec(exec) => (exec.when, self.start(&exec, wanted.contains(EventName::ProcessCreate))),
            Record::Exit(exit) => (exit.when, self.end(&exit).filter(|_| wanted.contains(EventName::ProcessTerminate))),
            Record::Socket(socket) => {
                let at = wall(socket.when, now);
                let mut none = Programs::default();
                let programs = self.programs.as_mut().unwrap_or(&mut none);
                let told = self.connections.socket(&socket, at, now, programs, &self.reading);
                out.extend(told.map(|told| self.connection(told)));
                return;
            }
            Record::Closed(end) => {
                let told = self.connections.closed(&end);
                out.extend(told.map(|told| self.connection(told)));
                return;
            }
        };
        out.extend(what.map(|what| self.number(wall(when, now), what)));
    }

    /// Gives the connections that were held back long enough; all of them, if `now` is `None`.
    pub(super) fn release(&mut self, now: Option<Mono>, out: &mut Vec<Observation>) {
        while let Some(told) = self.connections.take_due(now) {
            out.push(self.connection(told));
        }
    }

    /// When [`Observer::release`] has something to do.
    pub(super) fn due(&self) -> Option<Mono> {
        self.connections.due()
    }

    fn connection(&mut self, (at, what): Told) -> Observation {
        self.number(at, Payload::ConnectionCreate(what))
    }

    fn number(&mut self, at: Timestamp, what: Payload) -> Observation {
        let serial = self.serial;
        self.serial += 1;
        Observation { at, serial, what }
    }

    /// `ExtraDetails`: `CommandLineSource` is `kernel`; `proc` if it was read there later, or `gone` if it was not read
    /// in time either; what [`CommandLine::describe`] says about it. `EffectiveUserId` if it is another than the real
    /// one; `AuditUserId` and `AuditSessionId` of the sign-in that it comes from; `CgroupId`; `ContainerId` if the name
    /// of the cgroup holds one; `ContainerProcessId` and `PidNamespace` of a process that has another number in its
    /// container.
    fn start(&mut self, exec: &Exec<'_>, wanted: bool) -> Option<Payload> {
        let remembers = self.programs.is_some();
        if !wanted && !remembers {
            return None;
        }
        let executable = self.executable(exec);
        let (line, source) = match exec.arguments {
            Some(arguments) => {
                (Some(CommandLine::read(arguments, self.reading.command_line, &self.reading.redactor)), "kernel")
            }
            None => match self.reading.line(exec.pid) {
                Some(line) => (Some(line), "proc"),
                None => (None, "gone"),
            },
        };
        // The last argument's end is not part of the line.
        let length = Some(exec.argument_size.saturating_sub(1));
        let container = container::id_in(exec.cgroup_name);
        if let Some(programs) = &mut self.programs {
            let known = Known {
                executable: executable.as_str().into(),
                line: line.clone().map(|line| Box::new(Line { line, length })),
                container: container.map(Into::into),
            };
            programs.remember(exec.pid, known);
        }
        if !wanted {
            return None;
        }
        let mut details = ExtraDetails::new();
        let mut note = |key: &str, value: String| {
            details.insert(key.to_owned(), value);
        };
        for (key, value) in [
            ("EffectiveUserId", exec.euid.filter(|euid| Some(*euid) != exec.uid)),
            ("AuditUserId", exec.login_uid),
            ("AuditSessionId", exec.session),
            ("PidNamespace", exec.inner.map(|(namespace, _)| namespace)),
            ("ContainerProcessId", exec.inner.map(|(_, pid)| pid)),
        ] {
            if let Some(value) = value {
                note(key, value.to_string());
            }
        }
        note("CgroupId", exec.cgroup.to_string());
        if let Some(id) = container {
            note("ContainerId", id.to_owned());
        }
        note("CommandLineSource", source.to_owned());
        let line = line.unwrap_or_default();
        line.describe(length, &mut details);
        Some(Payload::ProcessCreate(ProcessCreate {
            executable,
            process_id: exec.pid,
            parent_process_id: exec.parent.unwrap_or(0),
            user_id: exec.uid.map(|uid| uid.to_string()).unwrap_or_default(),
            user_name: exec.uid.and_then(|uid| self.users.name(uid)).map(str::to_owned),
            command_line: line.text,
            extra_details: details,
        }))
    }

    /// The program as it was called. The kernel has the path as text only as the caller gave it: what is relative to the
    /// caller's directory, or a descriptor of the caller, is looked up while the process lives.
    fn executable(&self, exec: &Exec<'_>) -> String {
        let called = String::from_utf8_lossy(exec.program);
        if called.starts_with('/') && !called.starts_with("/dev/fd/") {
            return called.into_owned();
        }
        procfs::executable(&self.reading.host, exec.pid).map_or_else(|_| called.into_owned(), |program| program.path)
    }

    /// `ExtraDetails`: `ProcessName`, the kernel's short name, if the program is unknown; `ParentProcessId`, `UserId`;
    /// `RunTimeMilliseconds` since the process was made; `Signal` if it ended by one, and `CoreDumped`.
    fn end(&mut self, exit: &Exit<'_>) -> Option<Payload> {
        let mark = (exit.pid, exit.started);
        if self.recent_ends.contains(&mark) {
            return None;
        }
        self.recent_ends.truncate(RECENT_ENDS - 1);
        self.recent_ends.push_front(mark);

        let mut details = ExtraDetails::new();
        let mut note = |key: &str, value: String| {
            details.insert(key.to_owned(), value);
        };
        let executable = self.programs.as_mut().and_then(|programs| programs.forget(exit.pid));
        self.connections.process_ended(exit.pid);
        if executable.is_none() {
            note("ProcessName", String::from_utf8_lossy(exit.name).into_owned());
        }
        if let Some(parent) = exit.parent {
            note("ParentProcessId", parent.to_string());
        }
        if let Some(uid) = exit.uid {
            note("UserId", uid.to_string());
        }
        if exit.started > 0 {
            note("RunTimeMilliseconds", (exit.when.saturating_sub(exit.started) / 1_000_000).to_string());
        }
        let signal = exit.status & 0x7f;
        if signal != 0 {
            note("Signal", signal.to_string());
        }
        if exit.status & 0x80 != 0 {
            note("CoreDumped", "true".to_owned());
        }
        Some(Payload::ProcessTerminate(ProcessTerminate {
            executable: executable.map(String::from).unwrap_or_default(),
            process_id: exit.pid,
            exit_status: exit_status(exit.status),
            extra_details: details,
        }))
    }
}

/// The wall clock at a moment of the kernel, in nanoseconds since boot, seen from now.
fn wall(when: u64, now: Now) -> Timestamp {
    let age = now.mono.since(Mono::from_boot(Duration::from_nanos(when)));
    Timestamp { utc: now.wall.utc.checked_sub(age).unwrap_or(now.wall.utc), ..now.wall }
}

#[cfg(test)]
mod tests;
