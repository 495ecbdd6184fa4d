//! The collectors on this machine: real processes and sockets, and events that the published schema accepts.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod schema;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use twinward::collect::lane::{self, Lane, SourceContext};
use twinward::collect::snapshot::{self, CollectError, SnapshotContext};
use twinward::collect::{Loss, SNAPSHOTS, Source};
use twinward::model::event::{Event, EventName, Observation};
use twinward::model::event_set::EventSet;
use twinward::model::ids::{AgentId, EventId};
use twinward::model::message::MessageRoot;
use twinward::model::payload::{ListeningPort, Payload, ProcessCreate};
use twinward::settings;
use twinward::sys::clock::{Clock, SystemClock};
use twinward::sys::host::Host;

/// Long enough for any machine; a test that works does not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The connector tells everybody everything: a storm of one test would drown the others.
static ONE_STORM: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_STORM.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH))
}

/// A process with a unique argument that lives until its standard input closes.
struct Marked {
    child: Child,
    marker: String,
}

impl Marked {
    fn start(marker: String) -> Self {
        Self::with(marker, &[])
    }

    #[expect(clippy::disallowed_methods, reason = "the test is about a real process")]
    fn with(marker: String, more: &[&str]) -> Self {
        // The shell stays: `read` is its own, so its argument stays visible.
        let child = Command::new("/bin/sh")
            .args(["-c", "read -r line; exit 0", &marker])
            .args(more)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, marker }
    }
}

fn marker() -> String {
    format!("twinward-{}", EventId::random())
}

impl Drop for Marked {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn open(wanted: settings::ProcessSource) -> Box<dyn Source> {
    let context = SourceContext { wanted, ..SourceContext::plain(Host::system(), clock()) };
    lane::open_for(&context, EventName::ProcessCreate).unwrap().0
}

/// Drains until `done` is content with what was seen; gives everything that was seen.
#[expect(clippy::disallowed_methods, reason = "the test's own end")]
fn drain_until(source: &mut dyn Source, done: impl Fn(&[ProcessCreate]) -> bool) -> Vec<Observation> {
    let end = Instant::now() + PATIENCE;
    let mut all: Vec<Observation> = Vec::new();
    loop {
        source.drain(Duration::from_secs(5), &mut all).unwrap();
        let seen: Vec<_> = all.iter().map(process).cloned().collect();
        if done(&seen) {
            return all;
        }
        assert!(Instant::now() < end, "not seen; saw {seen:?}");
    }
}

fn process(observation: &Observation) -> &ProcessCreate {
    match &observation.what {
        Payload::ProcessCreate(process) => process,
        other => panic!("{other:?}"),
    }
}

fn assert_valid(events: &[Event]) {
    let zone: TimeZone = TimeZone::fixed(jiff::tz::offset(-3));
    let bodies: Vec<String> = events.iter().map(|e| e.to_value(&zone).unwrap().to_string()).collect();
    let body = MessageRoot::new("0.1.0", AgentId::random()).body(&bodies);
    let body: Value = serde_json::from_str(&body).unwrap();
    let validator = schema::validator();
    let problems: Vec<String> = validator.iter_errors(&body).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?} in {body:#}");
}

fn event(observation: Observation) -> Event {
    Event {
        id: EventId::random(),
        name: EventName::ProcessCreate,
        at: observation.at,
        payload: vec![observation.what],
        hits: 1,
    }
}

fn sees_a_marked_process(wanted: settings::ProcessSource) {
    let mut source = open(wanted);
    let marked = Marked::start(marker());
    let all = drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.command_line.contains(&marked.marker)));
    let found = all.iter().map(process).find(|p| p.command_line.contains(&marked.marker)).unwrap();
    assert_eq!(found.process_id, marked.child.id());
    assert_eq!(found.parent_process_id, std::process::id());
    assert_eq!(found.user_id, rustix::process::getuid().as_raw().to_string());
    assert_eq!(found.extra_details["CommandLineSource"], "proc");
    assert!(found.executable.starts_with('/'), "{}", found.executable);
    let serials: Vec<u64> = all.iter().map(|o| o.serial).collect();
    assert_eq!(serials, (0..all.len() as u64).collect::<Vec<_>>());
    assert_valid(&all.into_iter().map(event).collect::<Vec<_>>());
}

#[test]
fn polling_sees_a_marked_process() {
    sees_a_marked_process(settings::ProcessSource::Poll);
}

/// A long command line is cut and says so, with its true length.
#[test]
fn a_long_command_line_is_cut_and_marked() {
    let mut source = open(settings::ProcessSource::Poll);
    let long = format!("{}{}", marker(), "x".repeat(100_000));
    let marked = Marked::start(long);
    let pid = marked.child.id();
    let all = drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.process_id == pid));
    let found = all.iter().map(process).find(|p| p.process_id == pid).unwrap();
    assert_eq!(found.command_line.len(), 4096);
    assert_eq!(found.extra_details["CommandLineCut"], "true");
    let whole = format!("/bin/sh -c read -r line; exit 0 {}", marked.marker);
    assert_eq!(found.extra_details["CommandLineLength"], whole.len().to_string());
    assert!(whole.starts_with(&found.command_line));
}

/// A secret among the arguments of a real process is not in what is seen of it.
#[test]
fn a_secret_among_the_arguments_is_masked() {
    let mut source = open(settings::ProcessSource::Poll);
    let name = marker();
    let marked = Marked::with(name.clone(), &["--api-token", "hunter two"]);
    let pid = marked.child.id();
    let all = drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.process_id == pid));
    let found = all.iter().map(process).find(|p| p.process_id == pid).unwrap();
    assert_eq!(found.command_line, format!("/bin/sh -c read -r line; exit 0 {name} --api-token ***"));
    assert_eq!(found.extra_details["SecretsMasked"], "1");
    assert_valid(&all.into_iter().map(event).collect::<Vec<_>>());
}

#[test]
fn some_source_is_always_found() {
    let source = open(settings::ProcessSource::Auto);
    assert!(!source.choice().reason.is_empty());
}

#[test]
#[ignore = "needs root; run by CI"]
fn the_connector_sees_a_marked_process() {
    let _alone = alone();
    sees_a_marked_process(settings::ProcessSource::Connector);
}

/// Each of many programs that end at once is an observation, with its command line or marked as gone.
#[test]
#[ignore = "needs root; run by CI"]
#[expect(clippy::disallowed_methods, reason = "the test is about real processes")]
fn the_connector_misses_no_short_lived_process() {
    let _alone = alone();
    let mut source = open(settings::ProcessSource::Connector);
    let end = marker();
    let runner_end = end.clone();
    let runner = std::thread::spawn(move || {
        let mut pids = Vec::new();
        for _ in 0..300 {
            let mut child = Command::new("/bin/true").spawn().unwrap();
            pids.push(child.id());
            child.wait().unwrap();
        }
        // A last one that stays, so that there is an end to wait for.
        (pids, Marked::start(runner_end))
    });
    let all = drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.command_line.contains(&end)));
    let (pids, _last) = runner.join().unwrap();
    for pid in pids {
        let seen: Vec<_> = all.iter().map(process).filter(|p| p.process_id == pid).collect();
        assert!(!seen.is_empty(), "{pid} was missed");
        for process in seen {
            let gone = process.extra_details["CommandLineSource"] == "gone";
            assert_eq!(gone, process.command_line.is_empty());
            if gone {
                assert_eq!(process.parent_process_id, std::process::id());
            }
        }
    }
}

/// Drains until the start of `pid` was seen; gives everything that was seen.
#[expect(clippy::disallowed_methods, reason = "the test's own end")]
fn drain_until_started(source: &mut dyn Source, pid: u32) -> Vec<Payload> {
    let end = Instant::now() + PATIENCE;
    let mut all: Vec<Observation> = Vec::new();
    while !all.iter().any(|o| matches!(&o.what, Payload::ProcessCreate(p) if p.process_id == pid)) {
        assert!(Instant::now() < end, "the start of {pid} was not seen");
        source.drain(Duration::from_secs(5), &mut all).unwrap();
    }
    all.into_iter().map(|o| o.what).collect()
}

/// Each end has its program and the status that a shell would show, and is told only while it is wanted.
#[test]
#[ignore = "needs root; run by CI"]
#[expect(clippy::disallowed_methods, reason = "the test is about real processes")]
fn the_connector_sees_how_processes_end() {
    let _alone = alone();
    let wanted = settings::ProcessSource::Connector;
    let context = SourceContext { wanted, ..SourceContext::plain(Host::system(), clock()) };
    let starts = EventSet::of(&[EventName::ProcessCreate]);
    let both = starts.with(EventSet::of(&[EventName::ProcessTerminate]));
    let mut source = lane::open(Lane::Kernel, &context, both).unwrap();
    let mut expected = Vec::new();
    let mut seen = Vec::new();
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("exit 255", 255)] {
        let script = format!("read -r line; {script}");
        let mut child = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        // It does not end before its program was seen.
        seen.extend(drain_until_started(source.as_mut(), child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        expected.push((child.id(), status));
    }
    let last = Marked::start(marker());
    seen.extend(drain_until_started(source.as_mut(), last.child.id()));
    let ends: Vec<_> = seen
        .iter()
        .filter_map(|what| match what {
            Payload::ProcessTerminate(p) => Some((p.process_id, p.exit_status, p.executable.starts_with('/'))),
            _ => None,
        })
        .collect();
    for (pid, status) in expected {
        assert!(ends.contains(&(pid, status, true)), "{pid}: {ends:?}");
    }

    source.want(starts).unwrap();
    drop(Marked::start(marker()));
    let last = Marked::start(marker());
    let seen = drain_until_started(source.as_mut(), last.child.id());
    assert!(seen.iter().all(|what| matches!(what, Payload::ProcessCreate(_))), "{seen:?}");
}

/// A reader that sleeps while more happens than the kernel's buffer holds is told how much it missed, and when.
#[test]
#[ignore = "needs root; run by CI"]
fn the_connector_counts_what_a_full_buffer_lost() {
    let _alone = alone();
    let clock = clock();
    let mut source = open(settings::ProcessSource::Connector);
    let begin = clock.now();
    // Each thread is a clone and an exit; nobody reads meanwhile.
    for _ in 0..30_000 {
        std::thread::spawn(|| {}).join().unwrap();
    }
    let end = clock.now();
    // The next message of a CPU tells what was lost before it.
    let mut losses = Vec::new();
    while losses.iter().all(|loss: &Loss| loss.at_most.is_none()) {
        assert!(clock.now().mono.since(end.mono) < PATIENCE, "{losses:?}");
        std::thread::spawn(|| {}).join().unwrap();
        losses.extend(source.drain(Duration::from_millis(10), &mut Vec::new()).unwrap().losses);
    }
    let told = losses.iter().find(|loss| loss.at_most.is_some()).unwrap();
    assert!(told.at_most > Some(1000), "{told:?}");
    assert!(begin.wall < told.start && told.start < end.wall && told.start < told.end, "{told:?}");
}

fn take(name: EventName) -> snapshot::Taken {
    snapshot::take(name, &SnapshotContext { host: Host::system(), clock: clock() }).unwrap()
}

#[test]
fn bound_sockets_are_found_with_their_process() {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connected = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    connected.connect(peer.local_addr().unwrap()).unwrap();
    let established = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let mut expected: Vec<(&str, SocketAddr, String)> = vec![
        ("tcp", tcp.local_addr().unwrap(), "*".to_owned()),
        ("udp", udp.local_addr().unwrap(), "*".to_owned()),
        ("udp", connected.local_addr().unwrap(), peer.local_addr().unwrap().port().to_string()),
    ];
    // A machine without IPv6 has none to show.
    let tcp6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
    let udp6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok();
    let mapped = TcpListener::bind((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 0)).ok();
    expected.extend(mapped.iter().map(|s| ("tcp6", s.local_addr().unwrap(), "*".to_owned())));
    expected.extend(tcp6.iter().map(|s| ("tcp6", s.local_addr().unwrap(), "*".to_owned())));
    expected.extend(udp6.iter().map(|s| ("udp6", s.local_addr().unwrap(), "*".to_owned())));

    let taken = take(EventName::ListeningPorts);
    let ports: Vec<&ListeningPort> = taken
        .snapshot
        .items
        .iter()
        .map(|item| match item {
            Payload::ListeningPort(port) => port,
            other => panic!("{other:?}"),
        })
        .collect();
    for (protocol, address, peer) in expected {
        let port = address.port().to_string();
        let found: Vec<_> = ports.iter().filter(|p| p.protocol == protocol && p.local_port == port).collect();
        let [found] = found[..] else { panic!("{protocol} {address}: {found:?}") };
        assert_eq!(found.local_address, address.ip().to_string());
        assert_eq!(found.remote_port, peer);
        assert_eq!(found.extra_details["Pid"], std::process::id().to_string());
        assert_eq!(found.extra_details["UserId"], rustix::process::getuid().as_raw().to_string());
        assert_eq!(found.extra_details["Executable"], std::env::current_exe().unwrap().to_str().unwrap());
    }
    // A connection is no listening port.
    let ours = established.local_addr().unwrap().port().to_string();
    assert!(!ports.iter().any(|p| p.protocol.starts_with("tcp") && p.local_port == ours));
}

/// Both ways to the same table say the same.
#[test]
fn the_kernel_and_proc_agree() {
    use twinward::sys::sockets::Transport;
    use twinward::sys::{procnet, sock_diag};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let only_ours = |all: Vec<_>| -> Vec<_> {
        all.into_iter().filter(|s: &twinward::sys::sockets::BoundSocket| s.local_port == port).collect()
    };
    let by_proc = only_ours(procnet::waiting(&Host::system(), Transport::Tcp).unwrap());
    assert_eq!(by_proc.len(), 1);
    match sock_diag::waiting(Transport::Tcp) {
        Ok(sockets) => assert_eq!(only_ours(sockets), by_proc),
        // Then the fallback is what is used.
        Err(error) => assert!(take(EventName::ListeningPorts).health.source == "/proc/net", "{error}"),
    }
}

#[test]
fn snapshots_of_this_machine_are_valid_messages() {
    let events: Vec<Event> = SNAPSHOTS
        .iter()
        .map(|name| {
            let taken = take(*name);
            Event { id: EventId::random(), name: *name, at: taken.snapshot.at, payload: taken.snapshot.items, hits: 1 }
        })
        .collect();
    assert_valid(&events);
    let system = &events.iter().find(|e| e.name == EventName::SystemInformation).unwrap().payload[..];
    let [Payload::SystemInformation(system)] = system else { panic!("{system:?}") };
    assert_eq!(system.host_name.as_deref(), rustix::system::uname().nodename().to_str().ok());
    assert_eq!(system.os_architecture.as_deref(), rustix::system::uname().machine().to_str().ok());
    assert!(system.total_physical_memory_kib > Some(1024));
}

#[test]
fn names_without_a_snapshot_are_refused() {
    let context = SnapshotContext { host: Host::system(), clock: clock() };
    assert!(matches!(snapshot::take(EventName::Login, &context), Err(CollectError::NoCollector(EventName::Login))));
}

/// The validator itself: it must accept what is right and refuse what is not, also in formats.
#[test]
fn the_validator_can_refuse() {
    let validator = schema::validator();
    let good = json!({
        "AgentVersion": "0.1.0", "AgentId": AgentId::random(), "MessageSchemaVersion": "1.0",
        "Events": [{
            "Id": EventId::random(), "TimestampUTC": "2026-07-01T09:30:00.250Z",
            "TimestampLocal": "2026-07-01T11:30:00.250+02:00", "Category": "Periodic", "Name": "ListeningPorts",
            "EventType": "Security", "IsEmpty": false, "PayloadSchemaVersion": "1.0",
            "Payload": [{"LocalAddress": "::1", "LocalPort": "1", "Protocol": "tcp6"}],
        }],
    });
    assert!(validator.is_valid(&good), "{:?}", validator.iter_errors(&good).map(|e| e.to_string()).collect::<Vec<_>>());
    for (path, value) in [
        ("/AgentId", json!("short")),
        ("/Events", json!([])),
        ("/Events/0/TimestampUTC", json!("2026-07-01 09:30:00")),
        ("/Events/0/TimestampLocal", json!("2026-07-01T11:30:00")),
        ("/Events/0/Name", json!("Nonsense")),
        ("/Events/0/Payload/0/LocalAddress", json!("localhost")),
        ("/Events/0/Payload/0/LocalAddress", json!("fe80::1%eth0")),
        ("/Events/0/Payload/0/LocalPort", json!(1)),
        ("/Events/0/Payload/0/ExtraDetails", json!({"Pid": 1})),
    ] {
        let mut bad = good.clone();
        match bad.pointer_mut(path) {
            Some(place) => *place = value,
            None => bad["Events"][0]["Payload"][0]["ExtraDetails"] = value,
        }
        assert!(!validator.is_valid(&bad), "{path}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the command line is tested as a user calls it")]
fn twinward(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinward"));
    command.args(arguments);
    command
}

#[test]
fn collect_prints_events_as_they_would_be_sent() {
    let output = twinward(&["collect", "SystemInformation", "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    let body = json!({
        "AgentVersion": "0.1.0", "AgentId": AgentId::random(), "MessageSchemaVersion": "1.0", "Events": [event],
    });
    assert!(schema::validator().is_valid(&body), "{body:#}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("source: "));
}

#[test]
fn collect_explains_names_it_cannot_serve() {
    let unknown = twinward(&["collect", "Nonsense"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    let text = String::from_utf8(unknown.stderr).unwrap();
    assert!(text.contains("ListeningPorts") && text.contains("ProcessCreate"), "{text}");

    let later = twinward(&["collect", "Login"]).output().unwrap();
    assert_eq!(later.status.code(), Some(1));
    assert!(String::from_utf8(later.stderr).unwrap().contains("Login has no collector in this version"));
}

#[test]
fn collect_follows_and_ends_cleanly_on_interrupt() {
    let mut child = twinward(&["collect", "ProcessCreate", "--source", "poll", "--for", "1h", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so once it follows; then processes are starts.
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    said.by_ref().map(Result::unwrap).find(|line| line.starts_with("following for")).unwrap();
    let marked = Marked::start(marker());
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let found = events.by_ref().find(|line| line.contains(&marked.marker)).unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["Payload"][0]["ProcessId"], marked.child.id());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(said.map(Result::unwrap).any(|line| line.contains("starts seen")));
}
