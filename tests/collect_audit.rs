//! The audit source on this machine: real programs and connections, and that nothing is left behind.
//!
//! The audit system is one for the whole machine, so these tests take turns, and each leaves it as it was.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are about real processes")]

#[path = "audit_alone/mod.rs"]
mod audit_alone;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit_alone::Alone;
use twinward::collect::lane::{self, Lane, SourceContext};
use twinward::collect::{Loss, Source};
use twinward::model::event::{EventName, Observation};
use twinward::model::event_set::EventSet;
use twinward::model::ids::EventId;
use twinward::model::payload::{ConnectionCreate, Direction, Payload, Port, ProcessCreate};
use twinward::settings::ProcessSource;
use twinward::sys::audit::rule::{EXIT, Field, Operator, Rule};
use twinward::sys::audit::{Change, Control, Status};
use twinward::sys::clock::SystemClock;
use twinward::sys::host::Host;

/// Long enough for any machine; a test that works does not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn marker() -> String {
    format!("twinward-{}", EventId::random())
}

fn context() -> SourceContext {
    let clock = Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH));
    let plain = SourceContext::plain(Host::system(), clock);
    SourceContext { wanted: ProcessSource::Audit, loopback_connections: true, ..plain }
}

fn open(events: &[EventName]) -> Box<dyn Source> {
    lane::open(Lane::Kernel, &context(), EventSet::of(events)).unwrap()
}

fn starts() -> Box<dyn Source> {
    open(&[EventName::ProcessCreate])
}

/// Everything that a source gave so far.
#[derive(Default)]
struct Seen {
    all: Vec<Observation>,
    losses: Vec<Loss>,
}

impl Seen {
    /// Drains until `done` is content.
    fn until(&mut self, source: &mut dyn Source, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "not seen; saw {:?} and {:?}", self.all, self.losses);
            self.losses.extend(source.drain(Duration::from_secs(5), &mut self.all).unwrap().losses);
        }
    }

    fn starts(&self, marker: &str) -> Vec<&ProcessCreate> {
        let start = |o: &Observation| matches!(&o.what, Payload::ProcessCreate(p) if p.command_line.contains(marker));
        self.all
            .iter()
            .filter(|observation| start(observation))
            .map(|observation| match &observation.what {
                Payload::ProcessCreate(start) => start,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

impl Seen {
    /// The connections from or to one of these ports.
    fn connections(&self, ports: &[u16]) -> Vec<&ConnectionCreate> {
        let of = |port: Option<Port>| port.is_some_and(|port| ports.contains(&port.0));
        self.all
            .iter()
            .filter_map(|observation| match &observation.what {
                Payload::ConnectionCreate(c) if of(Some(c.remote_port)) || of(c.local_port) => Some(c),
                _ => None,
            })
            .collect()
    }
}

fn run(arguments: &[&str]) -> u32 {
    let mut child = Command::new("/bin/true").args(arguments).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

#[test]
#[ignore = "needs root; run by CI"]
fn a_marked_process_is_seen_whole() {
    let alone = Alone::new();
    let mut source = starts();
    let marker = marker();
    let pid = run(&["-x", "a b", "ö\"'", "", &marker]);
    let mut seen = Seen::default();
    seen.until(source.as_mut(), |seen| !seen.starts(&marker).is_empty());
    let [start] = seen.starts(&marker)[..] else { panic!("{:?}", seen.all) };
    assert_eq!(start.command_line, format!("/bin/true -x a b ö\"'  {marker}"));
    assert_eq!((start.process_id, start.parent_process_id), (pid, std::process::id()));
    assert!(start.executable.ends_with("/bin/true"), "{}", start.executable);
    assert_eq!(start.user_id, rustix::process::getuid().as_raw().to_string());
    assert_eq!(start.extra_details["CommandLineSource"], "audit");
    drop(source);
    alone.assert_restored();
}

#[test]
#[ignore = "needs root; run by CI"]
fn no_short_lived_process_is_missed() {
    let alone = Alone::new();
    let mut source = starts();
    let marker = marker();
    let theirs = marker.clone();
    let runner = std::thread::spawn(move || (0..300).map(|n| run(&[&theirs, &n.to_string()])).collect::<Vec<_>>());
    let mut seen = Seen::default();
    seen.until(source.as_mut(), |seen| seen.starts(&marker).len() >= 300);
    let pids = runner.join().unwrap();
    let told: Vec<_> = seen.starts(&marker).iter().map(|s| (s.process_id, s.command_line.clone())).collect();
    let expected: Vec<_> = pids.iter().enumerate().map(|(n, pid)| (*pid, format!("/bin/true {marker} {n}"))).collect();
    assert_eq!(told, expected);
    assert_eq!(seen.losses, []);
    let serials: Vec<u64> = seen.all.iter().map(|o| o.serial).collect();
    assert_eq!(serials, (0..seen.all.len() as u64).collect::<Vec<_>>());
    drop(source);
    alone.assert_restored();
}

#[test]
#[ignore = "needs root; run by CI"]
fn long_command_lines_are_cut_and_marked_and_the_next_one_is_whole() {
    let alone = Alone::new();
    let mut source = starts();
    let marker = marker();
    let kilobyte = "k".repeat(1024);
    let many: Vec<&str> = std::iter::once(marker.as_str()).chain(std::iter::repeat_n(kilobyte.as_str(), 100)).collect();
    run(&many);
    run(&[&marker, "between"]);
    let long = "l".repeat(100_000);
    run(&[&marker, &long]);
    run(&[&marker, "after"]);
    let mut seen = Seen::default();
    seen.until(source.as_mut(), |seen| seen.starts(&marker).len() >= 4);
    let whole = [many.join(" "), format!("{marker} between"), format!("{marker} {long}"), format!("{marker} after")];
    for (start, whole) in seen.starts(&marker).iter().zip(whole.map(|line| format!("/bin/true {line}"))) {
        if whole.len() <= 4096 {
            assert_eq!(start.command_line, whole);
            assert!(!start.extra_details.contains_key("CommandLineCut"));
        } else {
            assert_eq!(start.command_line, whole[..4096]);
            assert_eq!(start.extra_details["CommandLineCut"], "true");
            assert_eq!(start.extra_details["CommandLineLength"], whole.len().to_string());
        }
    }
    assert_eq!(seen.losses, []);
    drop(source);
    alone.assert_restored();
}

/// A program that makes connections, prints its ports in one line, and ends when its standard input does. The kernel
/// records nothing that the reader of the records does itself, so this is no thread of the test.
struct Peer {
    child: Child,
    ports: Vec<u16>,
}

impl Peer {
    fn start(script: &str) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, ports: line.split_whitespace().map(|port| port.parse().unwrap()).collect() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Both ways, waiting or not, with the peer asked for or not, and over a socket that takes both families.
#[test]
#[ignore = "needs root; run by CI"]
fn connections_are_seen_both_ways() {
    const SCRIPT: &str = "
import ctypes, socket, sys
plain = socket.create_server(('127.0.0.1', 0))
both = socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True) if socket.has_dualstack_ipv6() \
    else socket.create_server(('0.0.0.0', 0))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('127.0.0.1', 0))
waited = socket.create_connection(plain.getsockname())
first = plain.accept()
pending = socket.socket()
pending.setblocking(False)
pending.connect_ex(plain.getsockname())
second = ctypes.CDLL(None).accept(plain.fileno(), None, None)  # does not ask for the address
mapped = socket.create_connection(('127.0.0.1', both.getsockname()[1]))
third = both.accept()
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.connect(udp.getsockname())
print(*(s.getsockname()[1] for s in (plain, both, udp)), flush=True)
sys.stdin.read()
";
    let alone = Alone::new();
    let mut source = open(&[EventName::ConnectionCreate]);
    let peer = Peer::start(SCRIPT);
    let [plain, both, udp] = peer.ports[..] else { panic!("{:?}", peer.ports) };
    let mut seen = Seen::default();
    seen.until(source.as_mut(), |seen| seen.connections(&peer.ports).len() >= 7);
    let told: Vec<_> = seen
        .connections(&peer.ports)
        .iter()
        .map(|c| {
            assert_eq!(c.remote_address.to_string(), "127.0.0.1");
            assert_eq!(c.local_address.unwrap().to_string(), "127.0.0.1");
            assert_eq!(c.process_id, peer.child.id());
            assert!(c.executable.contains("python3"), "{}", c.executable);
            assert!(c.command_line.as_ref().unwrap().contains(" -c "));
            assert!(!c.extra_details.contains_key("ProtocolAssumed"));
            let port = if c.direction == Direction::In { c.local_port.unwrap() } else { c.remote_port };
            (c.direction, c.protocol.as_str(), port.0, c.extra_details.contains_key("InProgress"))
        })
        .collect();
    let expected = [
        (Direction::Out, "tcp", plain, false),
        (Direction::In, "tcp", plain, false),
        (Direction::Out, "tcp", plain, true),
        (Direction::In, "tcp", plain, false),
        (Direction::Out, "tcp", both, false),
        (Direction::In, "tcp", both, false),
        (Direction::Out, "udp", udp, false),
    ];
    assert_eq!(told, expected);
    drop(source);
    alone.assert_restored();
}

/// Connections that are over before anybody looks, each told once and each way.
#[test]
#[ignore = "needs root; run by CI"]
fn no_short_connection_is_missed() {
    const SCRIPT: &str = "
import socket, sys
listener = socket.create_server(('127.0.0.1', 0))
ports = []
for _ in range(300):
    ours = socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    ports.append(ours.getsockname()[1])
    ours.close()
    theirs.close()
print(listener.getsockname()[1], *ports, flush=True)
sys.stdin.read()
";
    let alone = Alone::new();
    let mut source = open(&[EventName::ConnectionCreate]);
    let peer = Peer::start(SCRIPT);
    let (listening, ports) = peer.ports.split_first().unwrap();
    let of = |seen: &Seen, direction| -> Vec<ConnectionCreate> {
        let ours = |c: &&ConnectionCreate| c.process_id == peer.child.id() && c.direction == direction;
        let all = seen.all.iter().filter_map(|observation| match &observation.what {
            Payload::ConnectionCreate(connection) => Some(connection),
            _ => None,
        });
        all.filter(ours).cloned().collect()
    };
    let mut seen = Seen::default();
    seen.until(source.as_mut(), |seen| {
        of(seen, Direction::Out).len() >= ports.len() && of(seen, Direction::In).len() >= ports.len()
    });
    let taken: Vec<u16> = of(&seen, Direction::In).iter().map(|c| c.remote_port.0).collect();
    assert_eq!(taken, ports);
    let made = of(&seen, Direction::Out);
    assert!(made.iter().all(|c| c.remote_port.0 == *listening && c.protocol == "tcp"), "{made:?}");
    assert_eq!(made.len(), ports.len());
    assert_eq!(seen.losses, []);
    drop(source);
    alone.assert_restored();
}

/// Rules of a run that was killed are removed at the next start, and what it found is what is gone back to.
#[test]
#[ignore = "needs root; run by CI"]
fn what_a_killed_run_left_is_cleaned_up() {
    let alone = Alone::new();
    let mut control = Control::open().unwrap();
    let Status { enabled, backlog_limit, backlog_wait_time, .. } = alone.before;
    // No process has this id.
    let key = format!("twinward-99999999-1-{enabled}-{backlog_limit}-{backlog_wait_time}");
    let left = Rule::new(EXIT).calls(&[59]).when(Field::Success, Operator::Equal, 1).key(&key).encode();
    control.add(&left).unwrap();
    control.set(Change::Enabled(1)).unwrap();
    control.set(Change::BacklogWaitTime(0)).unwrap();
    let source = starts();
    assert!(control.rules().unwrap().iter().all(|rule| rule.key() != Some(key.as_bytes())));
    drop(source);
    alone.assert_restored();
}

/// What was changed is written down in a rule also while sign-ins alone are watched, which need none.
#[test]
#[ignore = "needs root; run by CI"]
fn what_to_go_back_to_is_written_down_before_anything_is_changed() {
    let alone = Alone::new();
    let source = open(&[EventName::Login]);
    let Status { enabled, backlog_limit, backlog_wait_time, .. } = alone.before;
    let end = format!("-{enabled}-{backlog_limit}-{backlog_wait_time}");
    let ours = format!("twinward-{}-", std::process::id());
    let mut control = Control::open().unwrap();
    let noted = |key: &[u8]| key.starts_with(ours.as_bytes()) && key.ends_with(end.as_bytes());
    assert_eq!(control.rules().unwrap().iter().filter(|rule| rule.key().is_some_and(noted)).count(), 1);
    drop(source);
    alone.assert_restored();
}

/// Two sources, as when `collect` runs beside the agent: neither takes the other's rules for left over.
#[test]
#[ignore = "needs root; run by CI"]
fn a_second_source_listens_beside_the_first() {
    let alone = Alone::new();
    let mut first = starts();
    let mut second = starts();
    assert!(second.choice().reason.contains("beside"), "{}", second.choice().reason);
    let marker = marker();
    run(&[&marker]);
    for source in [first.as_mut(), second.as_mut()] {
        Seen::default().until(source, |seen| !seen.starts(&marker).is_empty());
    }
    drop(second);
    run(&[&marker, "again"]);
    Seen::default().until(first.as_mut(), |seen| !seen.starts(&format!("{marker} again")).is_empty());
    drop(first);
    alone.assert_restored();
}

/// As `doctor` does it beside the agent.
#[test]
#[ignore = "needs root; run by CI"]
fn asking_how_all_would_be_collected_takes_nothing_from_a_source() {
    let alone = Alone::new();
    let mut source = starts();
    let context = context();
    let planned = lane::plan(&context, lane::STREAMS);
    let by_audit = |(_, outcome): &&lane::Planned| outcome.as_ref().is_ok_and(|h| h.detail.contains("beside process"));
    assert_eq!(planned.iter().filter(by_audit).count(), 3, "{planned:#?}");
    let marker = marker();
    run(&[&marker]);
    let mut seen = Seen::default();
    seen.until(source.as_mut(), |seen| !seen.starts(&marker).is_empty());
    assert_eq!((seen.starts(&marker).len(), seen.losses), (1, vec![]));
    drop(source);
    alone.assert_restored();
}

/// A listener that lost its reader says so, and is then opened again by whoever runs it.
#[test]
#[ignore = "needs root; run by CI"]
fn audit_switched_off_breaks_the_source() {
    let alone = Alone::new();
    let mut source = starts();
    Control::open().unwrap().set(Change::Enabled(0)).unwrap();
    let end = Instant::now() + PATIENCE;
    let error = loop {
        assert!(Instant::now() < end, "not noticed");
        match source.drain(Duration::from_millis(200), &mut Vec::new()) {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("audit was switched off"), "{error}");
    drop(source);
    alone.assert_restored();
}

/// A real auditd with a configuration of its own.
struct Auditd {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Auditd {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let plugins = path.join("plugins.d");
        twinward::sys::files::private_directory(&plugins).unwrap();
        let text = format!(
            "local_events = yes\nwrite_logs = yes\nlog_file = {}/audit.log\nlog_format = RAW\nflush = NONE\n\
             max_log_file = 8\nnum_logs = 2\nspace_left = 2\nadmin_space_left = 1\nspace_left_action = IGNORE\n\
             admin_space_left_action = IGNORE\ndisk_full_action = IGNORE\ndisk_error_action = IGNORE\n\
             plugin_dir = {}\n",
            path.display(),
            plugins.display(),
        );
        twinward::sys::files::write_atomic(&path.join("auditd.conf"), text.as_bytes(), 0o640).unwrap();
        let child = Command::new("auditd")
            .args(["-n", "-s", "enable", "-c"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("auditd must be installed: {error}"));
        let mut auditd = Self { child, _directory: directory };
        let end = Instant::now() + PATIENCE;
        let mut control = Control::open().unwrap();
        loop {
            let status = control.status().unwrap();
            if status.pid == auditd.child.id() && status.enabled == 1 {
                return auditd;
            }
            assert!(auditd.child.try_wait().unwrap().is_none(), "auditd ended");
            assert!(Instant::now() < end, "auditd did not start");
            std::thread::yield_now();
        }
    }
}

impl Drop for Auditd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "needs root; run by CI"]
fn beside_auditd_it_listens_and_leaves_auditd_as_it_was() {
    let alone = Alone::new();
    let auditd = Auditd::start();
    let mut control = Control::open().unwrap();
    let before = control.status().unwrap();
    let mut source = starts();
    assert!(source.choice().reason.contains(&auditd.child.id().to_string()), "{}", source.choice().reason);
    let marker = marker();
    let pid = run(&[&marker]);
    let mut seen = Seen::default();
    seen.until(source.as_mut(), |seen| !seen.starts(&marker).is_empty());
    assert_eq!(seen.starts(&marker)[0].process_id, pid);
    drop(source);
    let after = control.status().unwrap();
    assert_eq!((after.pid, after.enabled), (before.pid, before.enabled));
    assert_eq!(after.backlog_limit, before.backlog_limit);
    assert_eq!(control.rules().unwrap().len(), alone.rules);
}
