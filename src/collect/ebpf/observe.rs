//! From a record of the kernel to an observation.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::collect::lane::SourceContext;
use crate::collect::process::command_line::CommandLine;
use crate::collect::process::exit_status;
use crate::collect::redact::Redactor;
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::payload::{ExtraDetails, Payload, ProcessCreate, ProcessTerminate};
use crate::model::time::{Mono, Now, Timestamp};
use crate::sys::bpf::record::{Exec, Exit, Record};
use crate::sys::host::Host;
use crate::sys::passwd::Passwd;
use crate::sys::procfs;

/// The programs of so many processes are remembered until they end; beyond it, which one ended stays unknown.
const PROGRAMS: usize = 4096;
/// The last ends that are compared with a new one: two threads that end at the same moment may both tell of it.
const RECENT_ENDS: usize = 64;

/// Makes observations, and numbers those of one source.
pub(super) struct Observer {
    host: Host,
    redactor: Arc<Redactor>,
    command_line: usize,
    users: Passwd,
    programs: HashMap<u32, Box<str>>,
    recent_ends: VecDeque<(u32, u64)>,
    serial: u64,
}

impl Observer {
    /// The first observation has the serial number 0.
    pub(super) fn new(context: &SourceContext) -> Self {
        Self {
            host: context.host.clone(),
            redactor: Arc::clone(&context.redactor),
            command_line: context.command_line,
            users: Passwd::new(context.host.clone(), Arc::clone(&context.clock)),
            programs: HashMap::new(),
            recent_ends: VecDeque::new(),
            serial: 0,
        }
    }

    /// Remembers the programs of the processes that run already, so that it is known which one ends.
    pub(super) fn learn(&mut self) {
        let (pids, _) = procfs::processes(&self.host).unwrap_or_default();
        for pid in pids {
            if let Ok(program) = procfs::executable(&self.host, pid) {
                self.remember(pid, &program.path);
            }
        }
    }

    fn remember(&mut self, pid: u32, program: &str) {
        if self.programs.len() < PROGRAMS || self.programs.contains_key(&pid) {
            self.programs.insert(pid, program.into());
        }
    }

    /// What a record says, if it is one of the `wanted` events.
    pub(super) fn observe(&mut self, record: Record<'_>, wanted: EventSet, now: Now) -> Option<Observation> {
        let (when, what) = match record {
            Record::Exec(exec) => (exec.when, self.start(&exec, wanted.contains(EventName::ProcessCreate))?),
            Record::Exit(exit) => {
                (exit.when, self.end(&exit).filter(|_| wanted.contains(EventName::ProcessTerminate))?)
            }
        };
        let serial = self.serial;
        self.serial += 1;
        Some(Observation { at: wall(when, now), serial, what })
    }

    /// `ExtraDetails`: `CommandLineSource` is `kernel`; `proc` if it was read there later, or `gone` if it was not read
    /// in time either; what [`CommandLine::describe`] says about it. `EffectiveUserId` if it is another than the real
    /// one; `AuditUserId` and `AuditSessionId` of the sign-in that it comes from; `CgroupId`; `ContainerId` if the name
    /// of the cgroup holds one; `ContainerProcessId` and `PidNamespace` of a process that has another number in its
    /// container.
    fn start(&mut self, exec: &Exec<'_>, wanted: bool) -> Option<Payload> {
        let executable = self.executable(exec);
        self.remember(exec.pid, &executable);
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
        if let Some(id) = container_id(exec.cgroup_name) {
            note("ContainerId", id.to_owned());
        }
        let read_later = || procfs::arguments(&self.host, exec.pid, self.command_line + 1).filter(|a| !a.is_empty());
        let (line, source) = match exec.arguments {
            Some(arguments) => (CommandLine::read(arguments, self.command_line, &self.redactor), "kernel"),
            None => match read_later() {
                Some(arguments) => (CommandLine::read(&arguments, self.command_line, &self.redactor), "proc"),
                None => (CommandLine::default(), "gone"),
            },
        };
        note("CommandLineSource", source.to_owned());
        // The last argument's end is not part of the line.
        line.describe(Some(exec.argument_size.saturating_sub(1)), &mut details);
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
        procfs::executable(&self.host, exec.pid).map_or_else(|_| called.into_owned(), |program| program.path)
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
        let executable = self.programs.remove(&exit.pid);
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

/// The id of a container in the name of its cgroup: 64 hexadecimal digits, as Docker, containerd, CRI-O and Podman have
/// them, alone or as in `docker-….scope`.
fn container_id(cgroup: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(cgroup).ok()?;
    name.split(|c: char| !c.is_ascii_hexdigit()).find(|part| part.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::{Clock, ManualClock};
    use crate::sys::fixture::{self, Fixture};

    const ALL: EventSet = EventSet::of(&[EventName::ProcessCreate, EventName::ProcessTerminate]);

    struct Bench {
        observer: Observer,
        clock: Arc<ManualClock>,
        _machine: Fixture,
    }

    fn bench() -> Bench {
        let machine = fixture::machine("board");
        let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
        let context = SourceContext::plain(machine.host.clone(), clock.clone());
        Bench { observer: Observer::new(&context), clock, _machine: machine }
    }

    impl Bench {
        fn start(&mut self, exec: Exec<'_>) -> ProcessCreate {
            match self.observer.observe(Record::Exec(exec), ALL, self.clock.now()).unwrap().what {
                Payload::ProcessCreate(process) => process,
                other => panic!("{other:?}"),
            }
        }

        fn end(&mut self, exit: Exit<'_>) -> Option<ProcessTerminate> {
            match self.observer.observe(Record::Exit(exit), ALL, self.clock.now())?.what {
                Payload::ProcessTerminate(process) => Some(process),
                other => panic!("{other:?}"),
            }
        }
    }

    fn exec() -> Exec<'static> {
        Exec {
            pid: 9999,
            parent: Some(300),
            uid: Some(1000),
            euid: Some(1000),
            cgroup: 7,
            argument_size: 8,
            arguments: Some(b"ls\0-l\0/\0"),
            program: b"/bin/ls",
            ..Exec::default()
        }
    }

    #[test]
    fn a_process_that_is_gone_is_still_seen_whole() {
        let mut bench = bench();
        let seen = bench.start(exec());
        assert_eq!((seen.executable.as_str(), seen.command_line.as_str()), ("/bin/ls", "ls -l /"));
        assert_eq!((seen.process_id, seen.parent_process_id), (9999, 300));
        assert_eq!((seen.user_id.as_str(), seen.user_name.as_deref()), ("1000", Some("pi")));
        let details = [("CgroupId", "7"), ("CommandLineSource", "kernel")];
        assert_eq!(seen.extra_details, details.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn what_is_special_about_a_start_is_said() {
        let id = "0123456789abcdef".repeat(4);
        let name = format!("docker-{id}.scope");
        let arguments = vec![b'x'; 4097];
        let seen = bench().start(Exec {
            euid: Some(0),
            login_uid: Some(1001),
            session: Some(3),
            inner: Some((77, 12)),
            cgroup_name: name.as_bytes(),
            arguments: Some(&arguments),
            argument_size: 9001,
            ..exec()
        });
        assert_eq!(seen.command_line.len(), 4096);
        for (key, value) in [
            ("EffectiveUserId", "0"),
            ("AuditUserId", "1001"),
            ("AuditSessionId", "3"),
            ("PidNamespace", "77"),
            ("ContainerProcessId", "12"),
            ("ContainerId", id.as_str()),
            ("CommandLineCut", "true"),
            ("CommandLineLength", "9000"),
        ] {
            assert_eq!(seen.extra_details[key], value, "{key}");
        }
        assert_eq!(container_id(b"session-1.scope"), None);
        assert_eq!(container_id(id.as_bytes()), Some(id.as_str()));
        assert_eq!(container_id(format!("{id}0").as_bytes()), None);
    }

    #[test]
    fn what_the_kernel_could_not_read_is_looked_up() {
        let unread = Exec { arguments: None, argument_size: 20, ..exec() };
        let seen = bench().start(Exec { pid: 300, program: b"./sensord", ..unread });
        assert_eq!(
            (seen.executable.as_str(), seen.command_line.as_str()),
            ("/opt/sensor/sensord", "/opt/sensor/sensord --bus 1")
        );
        assert_eq!(seen.extra_details["CommandLineSource"], "proc");
        let seen = bench().start(Exec { program: b"./gone", ..unread });
        assert_eq!((seen.executable.as_str(), seen.command_line.as_str()), ("./gone", ""));
        assert_eq!(seen.extra_details["CommandLineSource"], "gone");
    }

    #[test]
    fn an_end_knows_its_program() {
        let mut bench = bench();
        bench.start(exec());
        let exit = Exit {
            pid: 9999,
            when: 5_000_000,
            parent: Some(300),
            uid: Some(0),
            status: 0x0300,
            started: 2,
            name: b"ls",
        };
        let seen = bench.end(exit).unwrap();
        assert_eq!((seen.executable.as_str(), seen.process_id, seen.exit_status), ("/bin/ls", 9999, 3));
        let details = [("ParentProcessId", "300"), ("RunTimeMilliseconds", "4"), ("UserId", "0")];
        assert_eq!(seen.extra_details, details.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        // The other of two threads that ended at once.
        assert_eq!(bench.end(exit), None);
        // The same process id again is another process.
        let seen = bench.end(Exit { started: 3, status: 0x8b, ..exit }).unwrap();
        assert_eq!((seen.executable.as_str(), seen.exit_status), ("", 128 + 11));
        assert_eq!(seen.extra_details["ProcessName"], "ls");
        assert_eq!((seen.extra_details["Signal"].as_str(), seen.extra_details["CoreDumped"].as_str()), ("11", "true"));
    }

    #[test]
    fn what_ran_before_is_known_when_it_ends() {
        let mut bench = bench();
        bench.observer.learn();
        assert_eq!(bench.end(Exit { pid: 300, ..Exit::default() }).unwrap().executable, "/opt/sensor/sensord");
    }

    #[test]
    fn only_what_is_wanted_is_numbered() {
        let mut bench = bench();
        let ends = EventSet::of(&[EventName::ProcessTerminate]);
        let now = bench.clock.now();
        assert_eq!(bench.observer.observe(Record::Exec(exec()), ends, now), None);
        let end = Exit { pid: 9999, when: 3_599_000_000_000, ..Exit::default() };
        let end = bench.observer.observe(Record::Exit(end), ends, now).unwrap();
        assert_eq!((end.serial, end.at.utc_text().as_str()), (0, "2026-07-01T09:29:59.000Z"));
        assert!(matches!(end.what, Payload::ProcessTerminate(process) if process.executable == "/bin/ls"));
    }

    #[test]
    fn memory_for_programs_has_an_end() {
        let mut bench = bench();
        for pid in 0..10_000 {
            bench.observer.remember(pid, "/bin/x");
        }
        assert_eq!(bench.observer.programs.len(), PROGRAMS);
        for pid in 0..1000 {
            bench.end(Exit { pid, ..Exit::default() });
        }
        assert_eq!(bench.observer.recent_ends.len(), RECENT_ENDS);
    }
}
