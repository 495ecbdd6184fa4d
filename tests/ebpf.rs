//! The programs in the kernel of this machine: real processes, nothing lost, and what is lost is counted.

#![cfg(ebpf)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are about real processes, and end by themselves")]

use std::collections::{HashMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use twinward::collect::lane::{self, Lane, SourceContext};
use twinward::collect::{Loss, Source};
use twinward::model::event::{EventName, Observation};
use twinward::model::event_set::EventSet;
use twinward::model::ids::EventId;
use twinward::model::payload::{Payload, ProcessCreate, ProcessTerminate};
use twinward::settings::ProcessSource;
use twinward::sys::clock::SystemClock;
use twinward::sys::host::Host;

/// Long enough for any machine; a test that works does not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);
const STARTS: EventSet = EventSet::of(&[EventName::ProcessCreate]);
const ENDS: EventSet = EventSet::of(&[EventName::ProcessTerminate]);

/// The programs tell everybody everything: a storm of one test would fill the ring of the others.
static ONE_STORM: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_STORM.lock().unwrap_or_else(PoisonError::into_inner)
}

fn context() -> SourceContext {
    let clock = Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH));
    SourceContext { wanted: ProcessSource::Ebpf, ..SourceContext::plain(Host::system(), clock) }
}

fn open(events: EventSet) -> Box<dyn Source> {
    lane::open(Lane::Kernel, &context(), events).unwrap()
}

/// An argument that nobody else has.
fn marker() -> String {
    format!("twinward-{}", EventId::random())
}

fn run(arguments: &[&str]) -> u32 {
    let mut child = Command::new(arguments[0]).args(&arguments[1..]).stdin(Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

fn start(observation: &Observation) -> Option<&ProcessCreate> {
    match &observation.what {
        Payload::ProcessCreate(process) => Some(process),
        _ => None,
    }
}

fn end(observation: &Observation) -> Option<&ProcessTerminate> {
    match &observation.what {
        Payload::ProcessTerminate(process) => Some(process),
        _ => None,
    }
}

/// Drains until `done` is content with what was seen; gives everything that was seen, and what was lost.
fn drain_until(source: &mut dyn Source, done: impl Fn(&[Observation]) -> bool) -> (Vec<Observation>, Vec<Loss>) {
    let patience = Instant::now() + PATIENCE;
    let (mut all, mut losses) = (Vec::new(), Vec::new());
    while !done(&all) {
        assert!(Instant::now() < patience, "not seen among {}", all.len());
        losses.extend(source.drain(Duration::from_secs(5), &mut all).unwrap().losses);
    }
    (all, losses)
}

fn with<'a>(all: &'a [Observation], text: &str) -> Option<&'a ProcessCreate> {
    all.iter().filter_map(start).find(|process| process.command_line.contains(text))
}

#[test]
#[ignore = "needs root; run by CI"]
fn a_marked_process_is_seen_whole_although_it_is_gone() {
    let _alone = alone();
    let mut source = open(STARTS);
    let marker = marker();
    let pid = run(&["/bin/sh", "-c", "exit 0", &marker]);
    let (all, _) = drain_until(source.as_mut(), |all| with(all, &marker).is_some());
    let seen = with(&all, &marker).unwrap();
    assert_eq!((seen.process_id, seen.parent_process_id), (pid, std::process::id()));
    assert_eq!(
        (seen.executable.as_str(), seen.command_line.clone()),
        ("/bin/sh", format!("/bin/sh -c exit 0 {marker}"))
    );
    assert_eq!(seen.user_id, rustix::process::getuid().as_raw().to_string());
    assert_eq!(seen.extra_details["CommandLineSource"], "kernel");
    // Ends were not asked for, and what is seen is numbered without a hole.
    assert!(all.iter().all(|observation| start(observation).is_some()));
    let serials: Vec<u64> = all.iter().map(|o| o.serial).collect();
    assert_eq!(serials, (0..all.len() as u64).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs root; run by CI"]
fn no_short_lived_process_is_missed_and_each_command_line_is_whole() {
    let _alone = alone();
    let mut source = open(STARTS);
    let marker = marker();
    let theirs = marker.clone();
    let runner = std::thread::spawn(move || {
        (0..300).map(|number| (run(&["/bin/true", &format!("{theirs}-{number}-")]), number)).collect::<HashMap<_, _>>()
    });
    let last = format!("{marker}-299-");
    let (all, losses) = drain_until(source.as_mut(), |all| with(all, &last).is_some());
    let pids = runner.join().unwrap();
    let seen: HashSet<(u32, String)> =
        all.iter().filter_map(start).map(|process| (process.process_id, process.command_line.clone())).collect();
    for (pid, number) in pids {
        assert!(seen.contains(&(pid, format!("/bin/true {marker}-{number}-"))), "{number} was missed");
    }
    assert_eq!(losses, []);
}

#[test]
#[ignore = "needs root; run by CI"]
fn a_long_command_line_is_cut_and_marked_and_the_next_is_whole() {
    let _alone = alone();
    let mut source = open(STARTS);
    let (long, short) = (marker(), marker());
    let filler = "x".repeat(1024);
    let mut arguments = vec!["/bin/true", &long];
    arguments.extend(std::iter::repeat_n(filler.as_str(), 100));
    run(&arguments);
    run(&["/bin/true", &short]);
    let (all, losses) = drain_until(source.as_mut(), |all| with(all, &short).is_some());
    let seen = with(&all, &long).unwrap();
    let whole = arguments.join(" ");
    assert_eq!(seen.command_line.len(), 4096);
    assert!(whole.starts_with(&seen.command_line));
    assert_eq!(seen.extra_details["CommandLineCut"], "true");
    assert_eq!(seen.extra_details["CommandLineLength"], whole.len().to_string());
    let seen = with(&all, &short).unwrap();
    assert_eq!(seen.command_line, format!("/bin/true {short}"));
    assert!(!seen.extra_details.contains_key("CommandLineCut"));
    assert_eq!(losses, []);
}

#[test]
#[ignore = "needs root; run by CI"]
fn the_length_of_a_command_line_is_configurable() {
    let _alone = alone();
    for length in [256, 32 << 10] {
        let context = SourceContext { command_line: length, ..context() };
        let mut source = lane::open(Lane::Kernel, &context, STARTS).unwrap();
        let marker = marker();
        run(&["/bin/true", &marker, &"y".repeat(100_000)]);
        let (all, _) = drain_until(source.as_mut(), |all| with(all, &marker).is_some());
        assert_eq!(with(&all, &marker).unwrap().command_line.len(), length);
    }
}

#[test]
#[ignore = "needs root; run by CI"]
fn each_end_is_seen_with_its_program_and_its_status() {
    let _alone = alone();
    let mut source = open(ENDS);
    let exited = run(&["/bin/sh", "-c", "exit 42"]);
    let mut child = Command::new("/bin/sh").args(["-c", "kill -9 $$"]).spawn().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let killed = child.id();
    // The first thread ends long before the process does.
    let threaded = {
        let script = "import ctypes, threading, time, os\n\
                      threading.Thread(target=lambda: (time.sleep(0.3), os._exit(7))).start()\n\
                      ctypes.CDLL(None).pthread_exit(None)";
        let mut child = Command::new("python3").args(["-c", script]).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        child.id()
    };
    let of = |all: &[Observation], pid| -> Vec<ProcessTerminate> {
        all.iter().filter_map(end).filter(|process| process.process_id == pid).cloned().collect()
    };
    let (all, losses) = drain_until(source.as_mut(), |all| !of(all, threaded).is_empty());
    assert!(all.iter().all(|observation| end(observation).is_some()));
    for (pid, status) in [(exited, 42), (killed, 128 + 9), (threaded, 7)] {
        let [seen] = &of(&all, pid)[..] else { panic!("{:?}", of(&all, pid)) };
        assert_eq!(seen.exit_status, status);
        assert!(seen.executable.starts_with('/'), "{seen:?}");
        assert_eq!(seen.extra_details["ParentProcessId"], std::process::id().to_string());
    }
    let [seen] = &of(&all, threaded)[..] else { panic!() };
    assert!(seen.extra_details["RunTimeMilliseconds"].parse::<u64>().unwrap() >= 300, "{seen:?}");
    assert_eq!(of(&all, killed)[0].extra_details["Signal"], "9");
    assert_eq!(losses, []);
}

#[test]
#[ignore = "needs root; run by CI"]
fn what_is_switched_on_later_is_seen_from_then_on() {
    let _alone = alone();
    let mut source = open(STARTS);
    let before = run(&["/bin/true", "before"]);
    source.want(STARTS.with(ENDS)).unwrap();
    let pid = run(&["/bin/true", "after"]);
    let seen = |all: &[Observation], pid| all.iter().filter_map(end).any(|process| process.process_id == pid);
    let (all, _) = drain_until(source.as_mut(), |all| seen(all, pid));
    assert!(!seen(&all, before));
    assert!(all.iter().filter_map(start).any(|process| process.process_id == before));
    source.want(ENDS).unwrap();
    let pid = run(&["/bin/true"]);
    let (all, _) = drain_until(source.as_mut(), |all| seen(all, pid));
    assert!(!all.iter().filter_map(start).any(|process| process.process_id == pid));
}

/// Nobody reads while more is started than the ring holds. What was kept and what was counted make up the whole, and what
/// comes afterwards is seen.
#[test]
#[ignore = "needs root; run by CI"]
fn what_a_full_ring_lost_is_counted() {
    let _alone = alone();
    let mut source = open(STARTS);
    let (storm, after) = (marker(), marker());
    let filler = "z".repeat(4096);
    for _ in 0..300 {
        run(&["/bin/true", &storm, &filler]);
    }
    let kept = |all: &[Observation]| all.iter().filter_map(start).filter(|p| p.command_line.contains(&storm)).count();
    let (mut all, mut losses) = drain_until(source.as_mut(), |all| kept(all) > 0);
    run(&["/bin/true", &after]);
    let (rest, more) = drain_until(source.as_mut(), |all| with(all, &after).is_some());
    all.extend(rest);
    losses.extend(more);
    let missed: u64 = losses.iter().map(|loss| loss.at_most.unwrap()).sum();
    let kept = kept(&all) as u64;
    assert!(kept < 300, "the ring held all of it");
    // Other programs of the machine may be among the missed ones.
    assert!(kept + missed >= 300, "{kept} kept, {missed} missed");
    let loss = losses.first().unwrap();
    assert!(loss.events == STARTS && loss.start < loss.end, "{loss:?}");
}

/// What found no room in the ring and still lives is found in `/proc`, once, and marked.
#[test]
#[ignore = "needs root; run by CI"]
fn a_living_process_that_was_lost_is_found_again() {
    let _alone = alone();
    let mut source = open(STARTS);
    let (storm, living) = (marker(), marker());
    let filler = "z".repeat(4096);
    for _ in 0..300 {
        run(&["/bin/true", &storm, &filler]);
    }
    // It waits for its standard input. As long as the others, so that it does not fit where they do not.
    let arguments = ["-c", "read line", &living, &filler];
    let mut lost = Command::new("/bin/sh").args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let (mut all, losses) = drain_until(source.as_mut(), |all| with(all, &living).is_some());
    // It is not told again by what came through later.
    let after = marker();
    run(&["/bin/true", &after]);
    all.extend(drain_until(source.as_mut(), |all| with(all, &after).is_some()).0);
    drop(lost.stdin.take());
    lost.wait().unwrap();
    assert!(!losses.is_empty());
    let seen: Vec<_> = all.iter().filter_map(start).filter(|process| process.command_line.contains(&living)).collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].process_id, lost.id());
    assert!(seen[0].command_line.starts_with(&format!("/bin/sh -c read line {living} zzz")));
    assert_eq!(seen[0].extra_details["FoundAfterLoss"], "true");
}

/// A machine that does nothing is not disturbed: a drain that waits sleeps, and ends when it is called.
#[test]
#[ignore = "needs root; run by CI"]
fn a_call_ends_the_wait() {
    let _alone = alone();
    let mut source = open(EventSet::NONE.with(STARTS));
    source.want(EventSet::NONE).unwrap();
    source.drain(Duration::ZERO, &mut Vec::new()).unwrap();
    let waker = source.waker();
    let reader = std::thread::spawn(move || source.drain(Duration::from_secs(3600), &mut Vec::new()).unwrap().losses);
    waker.wake();
    assert_eq!(reader.join().unwrap(), []);
}
