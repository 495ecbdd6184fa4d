use std::sync::Arc;

use super::*;
use crate::collect::ebpf::connections::sample;
use crate::sys::bpf::record::{Closed, Socket, What};
use crate::sys::clock::{Clock, ManualClock};
use crate::sys::fixture::{self, Fixture};

const ALL: EventSet =
    EventSet::of(&[EventName::ProcessCreate, EventName::ProcessTerminate, EventName::ConnectionCreate]);

struct Bench {
    observer: Observer,
    clock: Arc<ManualClock>,
    _machine: Fixture,
}

fn bench() -> Bench {
    let machine = fixture::machine("board");
    let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
    let context = SourceContext::plain(machine.host.clone(), clock.clone());
    let mut observer = Observer::new(&context);
    observer.remember(true);
    Bench { observer, clock, _machine: machine }
}

impl Bench {
    fn take(&mut self, record: Record<'_>, wanted: EventSet) -> Option<Observation> {
        let mut out = Vec::new();
        self.observer.observe(record, wanted, self.clock.now(), &mut out);
        assert!(out.len() <= 1);
        out.pop()
    }

    fn start(&mut self, exec: Exec<'_>) -> ProcessCreate {
        match self.take(Record::Exec(exec), ALL).unwrap().what {
            Payload::ProcessCreate(process) => process,
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, exit: Exit<'_>) -> Option<ProcessTerminate> {
        match self.take(Record::Exit(exit), ALL)?.what {
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
    let exit =
        Exit { pid: 9999, when: 5_000_000, parent: Some(300), uid: Some(0), status: 0x0300, started: 2, name: b"ls" };
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
    assert_eq!(bench.end(Exit { pid: 300, ..Exit::default() }).unwrap().executable, "/opt/sensor/sensord");
}

#[test]
fn only_what_is_wanted_is_numbered_and_remembered() {
    let mut bench = bench();
    let ends = EventSet::of(&[EventName::ProcessTerminate]);
    assert_eq!(bench.take(Record::Exec(exec()), ends), None);
    let end = Exit { pid: 9999, when: 3_599_000_000_000, ..Exit::default() };
    let end = bench.take(Record::Exit(end), ends).unwrap();
    assert_eq!((end.serial, end.at.utc_text().as_str()), (0, "2026-07-01T09:29:59.000Z"));
    assert!(matches!(end.what, Payload::ProcessTerminate(process) if process.executable == "/bin/ls"));
    bench.observer.remember(false);
    bench.start(exec());
    bench.observer.remember(true);
    assert_eq!(bench.end(Exit { pid: 9999, started: 1, ..Exit::default() }).unwrap().executable, "");
}

#[test]
fn a_connection_is_told_with_its_end_or_when_its_time_is_up() {
    let mut bench = bench();
    let connection = sample(What::Out);
    let record = Record::Socket(Socket { pid: Some(9999), ..connection });
    let connected = |seen: Observation| match seen.what {
        Payload::ConnectionCreate(what) => (what.executable, what.command_line, what.extra_details),
        other => panic!("{other:?}"),
    };
    bench.start(exec());
    assert_eq!(bench.take(record, ALL), None);
    // It is gone before its connection is told.
    assert!(bench.end(Exit { pid: 9999, ..Exit::default() }).is_some());
    let end = Closed { when: connection.when, socket: 0xaa, opened: connection.when, sent: 3, received: 4 };
    let seen = bench.take(Record::Closed(end), ALL).unwrap();
    assert_eq!((seen.serial, seen.at.utc_text().as_str()), (2, "2026-07-01T09:29:59.000Z"));
    let (executable, line, details) = connected(seen);
    assert_eq!((executable.as_str(), line.as_deref()), ("/bin/ls", Some("ls -l /")));
    assert_eq!((details["BytesSent"].as_str(), details["BytesReceived"].as_str()), ("3", "4"));

    let mut out = Vec::new();
    let now = bench.clock.now().mono;
    assert_eq!(bench.take(Record::Socket(connection), ALL), None);
    assert_eq!(bench.observer.due(), Some(now));
    bench.observer.release(Some(now), &mut out);
    let (executable, line, details) = connected(out.pop().unwrap());
    assert_eq!((executable.as_str(), line.as_deref()), ("/opt/sensor/sensord", Some("/opt/sensor/sensord --bus 1")));
    assert!(details.is_empty(), "{details:?}");
    assert_eq!(bench.take(Record::Socket(connection), ALL), None);
    bench.observer.release(None, &mut out);
    assert_eq!((out.len(), bench.observer.due()), (1, None));
}

#[test]
fn after_a_loss_what_is_no_more_is_forgotten() {
    let mut bench = bench();
    let end = |bench: &mut Bench| bench.end(Exit { pid: 9999, ..Exit::default() }).unwrap().executable;
    for lost in [EventName::ProcessCreate, EventName::ProcessTerminate] {
        bench.start(exec());
        bench.observer.lost(EventSet::of(&[lost]));
        assert_eq!(end(&mut bench), "", "{lost}");
        bench.observer.recent_ends.clear();
    }
    bench.start(exec());
    bench.observer.lost(EventSet::of(&[EventName::ConnectionCreate]));
    assert_eq!(end(&mut bench), "/bin/ls");
    assert_eq!(bench.end(Exit { pid: 300, ..Exit::default() }).unwrap().executable, "/opt/sensor/sensord");
}

#[test]
fn the_last_ends_are_remembered_and_no_more() {
    let mut bench = bench();
    for pid in 0..1000 {
        bench.end(Exit { pid, ..Exit::default() });
    }
    assert_eq!(bench.observer.recent_ends.len(), RECENT_ENDS);
}
