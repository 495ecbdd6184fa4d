//! The process connector; most of it needs root.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use twinward::collect::lane::{self, Lane, SourceContext};
use twinward::collect::{Loss, Source};
use twinward::model::event::{EventName, Observation};
use twinward::model::event_set::EventSet;
use twinward::model::payload::Payload;
use twinward::settings;
use twinward::sys::host::Host;

use crate::processes::sees_a_marked_process;
use crate::{Marked, PATIENCE, alone, clock, drain_until, marker, open, process};

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
