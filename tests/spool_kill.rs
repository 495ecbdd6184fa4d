//! A process that stores events is killed with SIGKILL at any instant, again and again. Whatever it said it had stored
//! is there afterwards, whatever it said was acknowledged never comes again, and the books are true.
#![expect(clippy::disallowed_methods, reason = "the test runs itself as the process to be killed, on the real clocks")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the process reports to the test over its standard output")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use twinward::model::change::{Change, OpenAggregate, StoredEvent};
use twinward::model::ids::AgentId;
use twinward::model::loss::Queue;
use twinward::model::message::{MessageRoot, Riders, Room};
use twinward::model::time::{Mono, Now, Timestamp};
use twinward::model::units::ByteSize;
use twinward::spool::{Spool, SpoolOptions, Start};
use twinward::sys::clock::{Clock, SystemClock};

const DIRECTORY: &str = "SPOOL_KILL_DIRECTORY";

fn options(directory: &Path) -> SpoolOptions {
    SpoolOptions {
        directory: directory.join("cold"),
        runtime_directory: Some(directory.join("hot")),
        cache_limit: ByteSize::mebibytes(64),
        commit_interval: Duration::from_secs(1),
        min_free: ByteSize::bytes(0),
    }
}

fn now() -> Now {
    SystemClock::new(jiff::Timestamp::UNIX_EPOCH).now()
}

fn numbers(body: &str) -> Vec<u64> {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["Events"].as_array().unwrap().iter().map(|e| e["n"].as_u64().unwrap()).collect()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{line}").unwrap();
    out.flush().unwrap();
}

/// The process that is killed. Says `s N` when event N is stored, `i N` when it is about to be
/// acknowledged and `a N` when it is.
#[test]
#[ignore = "only as the child of killed_at_any_instant"]
fn writer() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (mut spool, recovery) = Spool::open(options(Path::new(&directory)), now()).unwrap();
    assert!(recovery.notes.is_empty(), "{:?}", recovery.notes);
    let root = MessageRoot::new("0.1.0", AgentId::random());
    let mut n = std::env::var("SPOOL_KILL_FROM").unwrap().parse::<u64>().unwrap();
    say("ready");
    loop {
        let mut changes = Vec::new();
        for _ in 0..3 {
            n += 1;
            let queue = if n % 2 == 0 { Queue::High } else { Queue::Low };
            let padding = "x".repeat(usize::try_from(n % 7).unwrap() * 150);
            changes.push(Change::Event(StoredEvent {
                queue,
                hits: 1,
                body: format!("{{\"n\":{n},\"x\":\"{padding}\"}}"),
            }));
        }
        let state = "s".repeat(300);
        changes.push(Change::Aggregate(OpenAggregate { key: "k".into(), queue: Queue::Low, hits: n, state }));
        spool.apply(&changes, now()).unwrap();
        for stored in n - 2..=n {
            say(&format!("s {stored}"));
        }
        if n % 4 == 0 {
            spool.commit(now()).unwrap();
        }
        if n % 5 == 0 {
            spool.assemble(Queue::High, Room::of(4096, Riders::All), &root, now()).unwrap();
        }
        if let Some(id) = spool.in_flight().first().copied().filter(|_| n % 2 == 0) {
            let message = spool.message(id, &root).unwrap().unwrap();
            let events = numbers(&message.body);
            for n in &events {
                say(&format!("i {n}"));
            }
            assert!(spool.acknowledge(id, message.body.len(), now()).unwrap());
            for n in &events {
                say(&format!("a {n}"));
            }
        }
    }
}

#[test]
fn killed_at_any_instant() {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let root = MessageRoot::new("0.1.0", AgentId::random());
    let (mut stored, mut intended, mut acknowledged) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut next = 0;
    for round in 0..50 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["writer", "--exact", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env("SPOOL_KILL_FROM", u64::to_string(&next))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.by_ref().any(|line| line.ends_with("@ready")), "the writer did not start in round {round}");
        let mut seen = 0;
        let until = fastrand::usize(0..60);
        for line in lines {
            if let Some((kind, number)) = line.strip_prefix('@').and_then(|line| line.split_once(' ')) {
                let number = number.parse::<u64>().unwrap();
                match kind {
                    "s" => stored.insert(number),
                    "i" => intended.insert(number),
                    _ => acknowledged.insert(number),
                };
                next = next.max(number);
            }
            if seen == until {
                // The writer goes on while this runs: it dies wherever it is. What it still said is read to the end.
                child.kill().unwrap();
            }
            seen += 1;
        }
        child.wait().unwrap();
        assert!(seen > until, "the writer ended by itself in round {round}");
        // A batch may have been stored that the writer could not report any more.
        next += 3;
    }
    assert!(stored.len() > 100 && acknowledged.len() > 50);

    let (mut spool, recovery) = Spool::open(options(directory.path()), now()).unwrap();
    assert_eq!(recovery.start, Start::Crash);
    assert!(recovery.notes.is_empty(), "{:?}", recovery.notes);
    assert!(spool.balance().holds());
    let mut left = Vec::new();
    loop {
        for id in spool.in_flight() {
            let message = spool.message(id, &root).unwrap().unwrap();
            left.extend(numbers(&message.body));
            spool.acknowledge(id, message.body.len(), now()).unwrap();
        }
        let high = spool.assemble(Queue::High, Room::of(4096, Riders::All), &root, now()).unwrap();
        if high.is_none() && spool.assemble(Queue::Low, Room::of(4096, Riders::All), &root, now()).unwrap().is_none() {
            break;
        }
    }
    let left_set: BTreeSet<u64> = left.iter().copied().collect();
    assert_eq!(left.len(), left_set.len(), "no event is there twice");
    assert_eq!(left_set.intersection(&acknowledged).count(), 0, "nothing acknowledged comes again");
    let lost = stored.iter().filter(|n| !left_set.contains(n) && !intended.contains(n)).count();
    assert_eq!(lost, 0, "everything stored is there, unless the writer was about to acknowledge it");
    assert!(spool.balance().holds());
    assert_eq!(spool.balance().high.pending, 0);
    assert_eq!(spool.balance().low.pending, recovery.aggregates.iter().map(|a| a.hits).sum::<u64>());
    assert_eq!(spool.balance().high.dropped_total() + spool.balance().low.dropped_total(), 0);
    spool.close(now()).unwrap();
}

/// Writes a simulated day at one Low event a second and prints what reached the cold directory:
/// `cargo test --test spool_kill -- --ignored --nocapture bytes_per_event`.
#[test]
#[ignore = "a measurement: its figures are in docs/decisions/0002-spool.md"]
fn bytes_per_event() {
    for (name, queue, send_every) in [
        ("offline, Low", Queue::Low, u64::MAX),
        ("sent every 7 minutes, High", Queue::High, 7 * 60),
        ("sent every hour, Low", Queue::Low, 3600),
        ("sent every 30 s, Low", Queue::Low, 30),
    ] {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let hot = tempfile::tempdir_in("/dev/shm").unwrap();
        let runtime_directory = Some(hot.path().to_owned());
        let commit_interval = Duration::from_secs(60);
        let options = SpoolOptions { runtime_directory, commit_interval, ..options(directory.path()) };
        let root = MessageRoot::new("0.1.0", AgentId::random());
        let at = |second: u64| Now {
            wall: Timestamp::trusted(
                jiff::Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap()).unwrap(),
            ),
            mono: Mono::from_boot(Duration::from_secs(1000 + second)),
        };
        let before = written();
        let (mut spool, _) = Spool::open(options, at(0)).unwrap();
        let (mut reported, mut commits) = (0, 0);
        let events = 86_400;
        for second in 1..=events {
            let body = format!("{{\"n\":{second},\"x\":\"{}\"}}", "x".repeat(380));
            spool.apply(&[Change::Event(StoredEvent { queue, hits: 1, body })], at(second)).unwrap();
            if second % send_every == 0 {
                while let Some(m) = spool.assemble(queue, Room::of(262_144, Riders::All), &root, at(second)).unwrap() {
                    spool.acknowledge(m.id, m.body.len(), at(second)).unwrap();
                }
            }
            if spool.next_commit().is_some_and(|due| due <= at(second).mono) {
                reported += spool.commit(at(second)).unwrap().bytes;
                commits += 1;
            }
        }
        spool.close(at(events)).unwrap();
        let kernel = written() - before;
        println!(
            "{name}: {commits} commits, CommitReport {} bytes/event, kernel {} bytes/event",
            reported / events,
            kernel / events
        );
    }
}

/// Bytes that this process sent to storage, as the kernel counts them; those for a tmpfs are not among them.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.unwrap().parse().unwrap()
}
