//! A process, the users and the machine as `/proc` and `/etc` show them, through the source that looks at processes and
//! the snapshot of the system. The files are apart by two bytes 1: `stat`, `status` and `cmdline` of process 7, `passwd`,
//! `meminfo`, `mounts`, `os-release`. There is at most one start, and what it says is bounded.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use twinward::collect::lane::{self, Lane, SourceContext};
use twinward::collect::snapshot::{self, SnapshotContext};
use twinward::model::event::EventName;
use twinward::model::event_set::EventSet;
use twinward::model::payload::Payload;
use twinward::settings::ProcessSource;
use twinward::sys::clock::ManualClock;
use twinward::sys::host::Host;

const FILES: [&str; 7] =
    ["proc/7/stat", "proc/7/status", "proc/7/cmdline", "etc/passwd", "proc/meminfo", "proc/mounts", "etc/os-release"];
/// Of a command line.
const LIMIT: usize = 64;

/// Below `target`, so that nothing is left elsewhere: a fuzzer does not end by returning.
fn root() -> &'static PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/proc_tree"));
        for directory in ["proc/7", "etc"] {
            fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        root
    })
}

fuzz_target!(|data: &[u8]| {
    let root = root();
    let host = Host::rooted(root);
    let write = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).expect("a file");
    let clock = Arc::new(ManualClock::new("2026-07-01T12:00:00Z".parse().expect("a time")));
    write(FILES[0], b"");
    let plain = SourceContext::plain(host.clone(), clock.clone());
    let context = SourceContext { wanted: ProcessSource::Poll, command_line: LIMIT, ..plain };
    let starts = EventSet::of(&[EventName::ProcessCreate]);
    let mut source = lane::open(Lane::Kernel, &context, starts).expect("a source");

    let mut parts = split(data);
    for name in FILES {
        write(name, parts.next().unwrap_or_default());
    }
    clock.advance(Duration::from_secs(2));
    let mut seen = Vec::new();
    source.drain(Duration::ZERO, &mut seen).expect("a drain");
    assert!(seen.len() <= 1, "{seen:?}");
    for observation in seen {
        let Payload::ProcessCreate(start) = observation.what else { panic!("{:?}", observation.what) };
        assert!(start.command_line.len() <= LIMIT);
        assert!(start.user_name.is_none_or(|name| !name.is_empty() && !name.contains([':', '\n'])));
    }

    let context = SnapshotContext::plain(host, clock);
    let taken = snapshot::take(EventName::SystemInformation, &context).expect("a snapshot");
    let [Payload::SystemInformation(system)] = taken.snapshot.items.as_slice() else {
        panic!("{:?}", taken.snapshot.items)
    };
    assert!([&system.os_name, &system.os_version].into_iter().flatten().all(|text| !text.is_empty()));
    let memory = data.windows(8).any(|window| window == b"MemTotal");
    assert!(memory || system.total_physical_memory_kib.is_none());
});

/// The parts between two bytes 1 each.
fn split(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let all = rest?;
        match all.windows(2).position(|pair| pair == [1, 1]) {
            Some(at) => {
                rest = Some(&all[at + 2..]);
                Some(&all[..at])
            }
            None => {
                rest = None;
                Some(all)
            }
        }
    })
}
