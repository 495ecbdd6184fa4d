//! Process ends from task statistics. Needs root.

#![expect(clippy::disallowed_methods, reason = "the tests are about real processes")]

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use twinward::collect::Source;
use twinward::collect::lane::{self, Lane, SourceContext};
use twinward::model::event::{EventName, Observation};
use twinward::model::event_set::EventSet;
use twinward::model::payload::{Payload, ProcessTerminate};
use twinward::settings::ProcessSource;
use twinward::sys::host::Host;

use crate::{PATIENCE, alone, assert_valid, clock, event};

fn open() -> Box<dyn Source> {
    let context = SourceContext { wanted: ProcessSource::Fanotify, ..SourceContext::plain(Host::system(), clock()) };
    let source = lane::open(Lane::Ends, &context, EventSet::of(&[EventName::ProcessTerminate])).unwrap();
    assert_eq!(source.choice().name, "task statistics");
    source
}

fn end(seen: &Observation) -> &ProcessTerminate {
    match &seen.what {
        Payload::ProcessTerminate(end) => end,
        other => panic!("{other:?}"),
    }
}

/// Drains until the end of `pid` was seen; gives all ends.
fn ends_until(source: &mut dyn Source, pid: u32) -> Vec<Observation> {
    let patience = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while !all.iter().any(|seen| end(seen).process_id == pid) {
        assert!(Instant::now() < patience, "the end of {pid} was not seen");
        let drained = source.drain(Duration::from_secs(5), &mut all).unwrap();
        assert_eq!(drained.losses, []);
    }
    all
}

fn run(script: &str) -> (u32, i32) {
    let mut child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap();
    let status = child.wait().unwrap();
    (child.id(), status.code().unwrap_or_else(|| 128 + status.signal().unwrap()))
}

#[test]
#[ignore = "needs root; run by CI"]
fn each_end_is_told_once_with_its_status() {
    let _alone = alone();
    let mut source = open();
    let mut expected = Vec::new();
    for script in ["exit 0", "exit 7", "exit 255", "kill -9 $$", "kill -15 $$"] {
        expected.push(run(script));
    }
    // The shell runs by now, so its path was learned when the source was opened, if it did so before.
    let uid = rustix_uid();
    for _ in 0..300 {
        expected.push(run("exit 3"));
    }
    let (last, _) = *expected.last().unwrap();
    let all = ends_until(source.as_mut(), last);
    let mut seen: HashMap<u32, Vec<&ProcessTerminate>> = HashMap::new();
    for one in &all {
        seen.entry(end(one).process_id).or_default().push(end(one));
    }
    for (pid, status) in expected {
        let [told] = seen.get(&pid).map(Vec::as_slice).unwrap_or_default() else {
            panic!("{pid}: {:?}", seen.get(&pid));
        };
        assert_eq!(told.exit_status, status, "{told:?}");
        assert_eq!(told.extra_details["ParentProcessId"], std::process::id().to_string());
        assert_eq!(told.extra_details["UserId"], uid);
        let signal = (status > 128 && status != 255).then(|| (status - 128).to_string());
        assert_eq!(told.extra_details.get("Signal"), signal.as_ref());
        assert!(!told.executable.is_empty() || told.extra_details["ProcessName"] == "sh", "{told:?}");
        assert!(told.extra_details["RunTimeMilliseconds"].parse::<u64>().unwrap() < 60_000);
    }
    let events: Vec<_> = all.into_iter().take(100).map(event).collect();
    assert_valid(&events);
}

fn rustix_uid() -> String {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid().to_string()
}

/// Threads end before, after and with the first one of their process; each process ends once.
#[test]
#[ignore = "needs root; run by CI"]
fn the_end_of_a_thread_is_not_that_of_its_process() {
    let _alone = alone();
    let mut source = open();
    let mut expected = Vec::new();
    for (body, status) in [
        ("[t.join() for t in ts]; os._exit(5)", 5),
        ("os._exit(6)", 6),
        ("os.kill(os.getpid(), 9)", 137),
        // The first thread ends alone; the others stay a moment.
        ("ctypes.CDLL(None).pthread_exit(None)", 0),
    ] {
        let program = format!(
            "import ctypes, os, threading, time\n\
             ts = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range(8)]\n\
             [t.start() for t in ts]; {body}"
        );
        let mut child = Command::new("python3").args(["-c", &program]).stdin(Stdio::null()).spawn().unwrap();
        child.wait().unwrap();
        expected.push((child.id(), status));
    }
    let (last, _) = run("exit 0");
    let all = ends_until(source.as_mut(), last);
    for (pid, status) in expected {
        let told: Vec<_> = all.iter().map(end).filter(|end| end.process_id == pid).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].exit_status, status, "{told:?}");
    }
}

/// A reader that sleeps while more ends than the buffer holds tells that it missed some.
#[test]
#[ignore = "needs root; run by CI"]
fn ends_that_a_full_buffer_lost_are_a_loss() {
    let _alone = alone();
    let clock = clock();
    let mut source = open();
    let begin = clock.now();
    for _ in 0..30_000 {
        std::thread::spawn(|| {}).join().unwrap();
    }
    let end = clock.now();
    let (mut losses, mut seen) = (Vec::new(), Vec::new());
    while losses.is_empty() {
        assert!(clock.now().mono.since(end.mono) < PATIENCE, "no loss was told");
        losses.extend(source.drain(Duration::from_millis(10), &mut seen).unwrap().losses);
    }
    assert_eq!(losses[0].events, EventSet::of(&[EventName::ProcessTerminate]));
    assert!(losses[0].start <= begin.wall && losses[0].end >= end.wall, "{losses:?}");
}
