//! The spool against a simple model, through crashes, power cuts and damage.

mod damage;
mod model_check;
mod sizes;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::change::{OpenAggregate, StoredEvent};
use crate::model::ids::AgentId;
use crate::model::message::Riders;
use crate::model::time::{Mono, Timestamp};

const SECOND: Duration = Duration::from_secs(1);

/// One installation: its two directories and its clock.
struct Board {
    cold: TempDir,
    hot: TempDir,
    now: Now,
    limit: u64,
    min_free: u64,
    root: MessageRoot,
}

impl Board {
    fn new() -> Self {
        Self {
            cold: tempfile::tempdir().unwrap(),
            hot: tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap(),
            now: Now {
                wall: Timestamp::trusted(jiff::Timestamp::from_second(1_800_000_000).unwrap()),
                mono: Mono::from_boot(100 * SECOND),
            },
            limit: 20 << 20,
            min_free: 0,
            root: MessageRoot::new("0.1.0", AgentId::random()),
        }
    }

    fn pass(&mut self, time: Duration) -> Now {
        self.now.mono = self.now.mono.after(time);
        self.now.wall.utc = self.now.wall.utc.checked_add(time).unwrap();
        self.now
    }

    fn open(&mut self) -> (Spool, Recovery) {
        let now = self.pass(SECOND);
        let options = SpoolOptions {
            directory: self.cold.path().into(),
            runtime_directory: Some(self.hot.path().into()),
            cache_limit: ByteSize::bytes(self.limit),
            commit_interval: 60 * SECOND,
            min_free: ByteSize::bytes(self.min_free),
        };
        Spool::open(options, now).unwrap()
    }

    /// What the files are at this instant is all that the next process finds.
    fn crash(&mut self, spool: Spool) -> (Spool, Recovery) {
        let (cold, hot) = (copy(self.cold.path()), copy(self.hot.path()));
        drop(spool);
        (self.cold, self.hot) = (cold, hot);
        self.open()
    }

    fn power_cut(&mut self, spool: Spool) -> (Spool, Recovery) {
        let cold = copy(self.cold.path());
        drop(spool);
        (self.cold, self.hot) = (cold, tempfile::tempdir().unwrap());
        self.now.mono = Mono::from_boot(5 * SECOND);
        self.open()
    }
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn event(queue: Queue, number: u64, size: usize) -> StoredEvent {
    StoredEvent { queue, hits: 1, body: format!("{{\"n\":{number},\"x\":\"{}\"}}", "x".repeat(size)) }
}

fn add(queue: Queue, number: u64) -> Change {
    Change::Event(event(queue, number, 20))
}

fn numbers(body: &str) -> Vec<u64> {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["Events"].as_array().unwrap().iter().map(|e| e["n"].as_u64().unwrap()).collect()
}

fn drain(spool: &mut Spool, board: &Board, lead: Queue) -> Vec<u64> {
    let mut seen = Vec::new();
    while let Some(m) = spool.assemble(lead, Room::of(4096, Riders::None), &board.root, board.now).unwrap() {
        seen.extend(numbers(&m.body));
        assert!(spool.acknowledge(m.id, m.body.len(), board.now).unwrap());
    }
    seen
}

#[test]
fn a_killed_process_loses_nothing_and_repeats_the_same_message() {
    let mut board = Board::new();
    let (mut spool, recovery) = board.open();
    assert_eq!(recovery.start, Start::Fresh);
    assert_eq!(recovery.gap, None);
    spool.apply(&[add(Queue::High, 1), add(Queue::Low, 2), add(Queue::High, 3)], board.now).unwrap();
    spool.commit(board.now).unwrap();
    spool.apply(&[add(Queue::High, 4), add(Queue::Low, 5)], board.now).unwrap();
    let sent = spool.assemble(Queue::High, Room::of(4096, Riders::All), &board.root, board.now).unwrap().unwrap();
    assert_eq!(numbers(&sent.body), [1, 3, 4, 2, 5]);
    let stored = board.now;
    let (mut spool, recovery) = board.crash(spool);
    assert_eq!(recovery.start, Start::Crash);
    let gap = recovery.gap.unwrap();
    assert_eq!((gap.start, gap.end), (stored.wall, board.now.wall));
    assert_eq!(spool.gaps_since_report(), [gap]);
    assert_eq!(spool.in_flight(), [sent.id]);
    assert_eq!(spool.message(sent.id, &board.root).unwrap().unwrap(), sent);
    assert!(spool.acknowledge(sent.id, sent.body.len(), board.now).unwrap());
    assert!(!spool.acknowledge(sent.id, sent.body.len(), board.now).unwrap());
    let (spool, _) = board.crash(spool);
    assert!(spool.in_flight().is_empty());
    let balance = spool.balance();
    assert!(balance.holds());
    assert_eq!((balance.high.delivered, balance.low.delivered), (3, 2));
    assert_eq!(spool.statistics().messages_under_4_kib, 1);
}

#[test]
fn a_commit_that_was_cut_in_the_middle_counts_once() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    spool.apply(&[add(Queue::Low, 1), add(Queue::Low, 2)], board.now).unwrap();
    spool.commit(board.now).unwrap();
    let first = spool.assemble(Queue::Low, Room::of(4096, Riders::None), &board.root, board.now).unwrap().unwrap();
    spool.acknowledge(first.id, 1, board.now).unwrap();
    spool.apply(&[add(Queue::Low, 3)], board.now).unwrap();
    let hot_before = copy(board.hot.path());
    spool.commit(board.now).unwrap();
    let cold_after = copy(board.cold.path());
    drop(spool);
    (board.cold, board.hot) = (cold_after, hot_before);
    let (mut spool, recovery) = board.open();
    assert!(recovery.notes.is_empty(), "{:?}", recovery.notes);
    assert_eq!(drain(&mut spool, &board, Queue::Low), [3]);
    assert_eq!(spool.balance().low.delivered, 3);
    assert!(spool.balance().holds());
}

#[test]
fn a_power_cut_loses_what_came_after_the_commit_and_says_when() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    spool.apply(&[add(Queue::Low, 1)], board.now).unwrap();
    let committed = board.now;
    spool.commit(board.now).unwrap();
    let later = board.pass(10 * SECOND);
    spool.apply(&[add(Queue::Low, 2)], later).unwrap();
    let (mut spool, recovery) = board.power_cut(spool);
    assert_eq!(recovery.start, Start::PowerLoss);
    assert_eq!(recovery.gap.unwrap().start, committed.wall);
    assert_eq!(drain(&mut spool, &board, Queue::Low), [1]);
    assert!(spool.balance().holds());
}

#[test]
fn a_clean_stop_outlives_a_restart_of_the_machine() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    let aggregate = OpenAggregate { key: "k".into(), queue: Queue::Low, hits: 3, state: "s".into() };
    spool.apply(&[add(Queue::Low, 1), Change::Aggregate(aggregate.clone())], board.now).unwrap();
    let sent = spool.assemble(Queue::Low, Room::of(4096, Riders::None), &board.root, board.now).unwrap().unwrap();
    let stopped = board.pass(SECOND);
    spool.close(stopped).unwrap();
    board.hot = tempfile::tempdir().unwrap();
    board.now.mono = Mono::from_boot(SECOND);
    // The clock was set back meanwhile.
    board.now.wall.utc = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    let (mut spool, recovery) = board.open();
    assert_eq!(recovery.start, Start::Clean);
    assert_eq!(recovery.aggregates, [aggregate]);
    let gap = recovery.gap.unwrap();
    assert!(gap.start <= gap.end);
    assert_eq!(gap.reason, "agent was not running");
    assert_eq!(spool.message(sent.id, &board.root).unwrap().unwrap(), sent);
    assert_eq!(spool.balance().low.pending, 4);
}

#[test]
fn the_cache_limit_takes_low_first_then_high_then_what_is_in_flight() {
    let mut board = Board::new();
    board.limit = 8 * 1024;
    let (mut spool, _) = board.open();
    for n in 0..4 {
        spool
            .apply(&[Change::Event(event(Queue::Low, n, 900)), Change::Event(event(Queue::High, n, 900))], board.now)
            .unwrap();
    }
    let flying = spool.assemble(Queue::High, Room::of(2400, Riders::None), &board.root, board.now).unwrap().unwrap();
    assert_eq!(numbers(&flying.body), [0, 1]);
    let applied = spool.apply(&[Change::Event(event(Queue::High, 4, 900))], board.now).unwrap();
    assert_eq!(applied.dropped, [(Queue::Low, 1)].into());
    let applied = spool.set_cache_limit(ByteSize::bytes(3 * 1024), board.now).unwrap();
    assert_eq!(applied.dropped, [(Queue::High, 2), (Queue::Low, 3)].into());
    let applied = spool.set_cache_limit(ByteSize::bytes(1024), board.now).unwrap();
    assert_eq!(applied.dropped, [(Queue::High, 3)].into());
    assert!(spool.in_flight().is_empty() && spool.balance().holds());
    assert_eq!(spool.balance().high.dropped[&DropReason::CacheFull], 5);
    assert_eq!(spool.backlog(Queue::High), Backlog::default());
}

#[test]
fn an_oversize_event_does_not_block_the_line() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    let huge = Change::Event(event(Queue::High, 2, 5000));
    spool.apply(&[huge.clone(), add(Queue::High, 1), huge, add(Queue::High, 3)], board.now).unwrap();
    let m = spool.assemble(Queue::High, Room::of(4096, Riders::None), &board.root, board.now).unwrap().unwrap();
    assert_eq!(numbers(&m.body), [1, 3]);
    assert_eq!(spool.balance().high.dropped[&DropReason::Oversize], 2);
    assert!(spool.balance().holds());
}

#[test]
fn aggregates_book_only_their_growth() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    let grow = |queue, hits| Change::Aggregate(OpenAggregate { key: "k".into(), queue, hits, state: "s".into() });
    spool.apply(&[grow(Queue::Low, 2), grow(Queue::Low, 5)], board.now).unwrap();
    spool.commit(board.now).unwrap();
    spool.apply(&[grow(Queue::High, 6)], board.now).unwrap();
    assert_eq!((spool.balance().low.collected, spool.balance().high.collected), (0, 6));
    let event = StoredEvent { hits: 6, ..event(Queue::High, 1, 1) };
    spool.apply(&[Change::Close { key: "k".into(), event }], board.now).unwrap();
    let (mut spool, recovery) = board.crash(spool);
    assert!(recovery.aggregates.is_empty() && recovery.notes.is_empty(), "{:?}", recovery.notes);
    assert_eq!(drain(&mut spool, &board, Queue::High), [1]);
    assert_eq!(spool.balance().high.delivered, 6);
    assert!(spool.balance().holds());
}

#[test]
fn statistics_count_from_the_last_report_and_the_balance_goes_on() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    for first in [Change::DroppedEventsReported, Change::MessagesReported] {
        for body_len in [0, 4095, 4096, 200_000] {
            spool.apply(&[add(Queue::High, 1)], board.now).unwrap();
            let room = Room::of(4096, Riders::None);
            let message = spool.assemble(Queue::High, room, &board.root, board.now).unwrap().unwrap();
            spool.acknowledge(message.id, body_len, board.now).unwrap();
        }
        spool.note_resend().unwrap();
        let lost = Change::Drop { queue: Queue::Low, hits: 7, reason: DropReason::RateLimited };
        spool.apply(&[lost], board.now).unwrap();
        let seen = spool.statistics();
        assert_eq!((seen.messages_sent, seen.messages_under_4_kib, seen.messages_failed), (4, 2, 1));
        assert_eq!((seen.high.collected, seen.low.collected), (4, 7));
        assert_eq!(seen.low.dropped, [(DropReason::RateLimited, 7)].into());
        // Each report ends its own figures only.
        spool.apply(std::slice::from_ref(&first), board.now).unwrap();
        let (queues, messages) = (spool.statistics().high.collected, spool.statistics().messages_sent);
        assert_eq!((queues, messages), if first == Change::MessagesReported { (4, 0) } else { (0, 4) });
        spool.apply(&[Change::DroppedEventsReported, Change::MessagesReported], board.now).unwrap();
        assert_eq!(spool.statistics(), Statistics::default());
    }
    assert_eq!((spool.balance().high.delivered, spool.balance().low.collected), (8, 14));
}

#[test]
fn commits_are_due_when_promised_and_write_nothing_without_a_change() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    assert_eq!(spool.next_commit(), None);
    assert_eq!(spool.commit(board.now).unwrap(), CommitReport::default());
    let start = board.now.mono;
    spool.apply(&[add(Queue::Low, 1)], board.now).unwrap();
    assert_eq!(spool.next_commit(), Some(start.after(60 * SECOND)));
    let later = board.pass(5 * SECOND);
    spool.apply(&[add(Queue::High, 1)], later).unwrap();
    assert_eq!(spool.next_commit(), Some(start.after(6 * SECOND)));
    assert!(spool.link_down(later).unwrap().bytes > 0);
    spool.alive(later).unwrap();
    assert_eq!(spool.next_commit(), None);
}

#[test]
fn a_short_disk_stops_the_growth_of_the_cold_file() {
    let mut board = Board::new();
    board.min_free = u64::MAX;
    let (mut spool, _) = board.open();
    for n in 0..2000 {
        spool.apply(&[Change::Event(event(Queue::Low, n, 900))], board.now).unwrap();
        if n % 100 == 0 {
            assert!(spool.commit(board.now).unwrap().short_of_space);
        }
    }
    spool.commit(board.now).unwrap();
    let size = fs::metadata(board.cold.path().join("spool.db")).unwrap().len();
    assert!(size < 512 * 1024, "{size}");
    assert!(spool.balance().low.dropped[&DropReason::CacheFull] > 1500);
    assert!(spool.balance().holds());
}

#[test]
fn a_failed_commit_keeps_everything_and_is_repeated() {
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    spool.apply(&[add(Queue::Low, 1)], board.now).unwrap();
    spool.commit(board.now).unwrap();
    // The cold file may not grow any more: the engine says that the disk is full.
    spool.cold.cap(0).unwrap();
    let many: Vec<_> = (2..402).map(|n| Change::Event(event(Queue::Low, n, 900))).collect();
    spool.apply(&many, board.now).unwrap();
    let error = spool.commit(board.now).unwrap_err();
    assert!(error.is_retryable() && matches!(error, SpoolError::Full { .. }), "{error}");
    assert_eq!(spool.next_commit(), Some(board.now.mono.after(10 * SECOND)));
    let m = spool.assemble(Queue::Low, Room::of(4096, Riders::None), &board.root, board.now).unwrap().unwrap();
    spool.acknowledge(m.id, m.body.len(), board.now).unwrap();
    let first = numbers(&m.body);
    let (mut spool, recovery) = board.crash(spool);
    assert!(recovery.notes.is_empty(), "{:?}", recovery.notes);
    let rest = drain(&mut spool, &board, Queue::Low);
    assert_eq!([first, rest].concat(), (1..402).collect::<Vec<_>>());
    assert!(spool.balance().holds());
}

#[test]
fn a_second_user_is_refused() {
    let mut board = Board::new();
    let (spool, _) = board.open();
    let error = Spool::open(spool.options.clone(), board.now).unwrap_err();
    assert!(matches!(error, SpoolError::Locked { .. }), "{error}");
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let mut board = Board::new();
    let (mut spool, _) = board.open();
    spool.apply(&[add(Queue::Low, 1)], board.now).unwrap();
    for directory in [board.cold.path(), board.hot.path()] {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }
}
