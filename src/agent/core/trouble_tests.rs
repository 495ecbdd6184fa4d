//! The core when storage or the link does not work, or the machine is set anew: nothing is lost, and nothing spins.

use jiff::tz::TimeZone;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;
use crate::agent::diagnostics::{Sink, channel};
use crate::agent::storage::{RETRY, UNSTORED_GAPS};
use crate::model::ids::AgentId;
use crate::model::message::Message;
use crate::model::payload::{Diagnostic, DiagnosticSeverity, ExtraDetails, Payload};
use crate::model::units::{ByteSize, IsoDuration, Priority};
use crate::pipeline::schema::assert_valid_message;
use crate::spool::SpoolOptions;
use crate::sys::clock::ManualClock;

/// Both statistics.
pub(super) const STATISTICS: [EventName; 2] = [EventName::DroppedEventsStatistics, EventName::MessageStatistics];

pub(super) struct Board {
    pub(super) core: Core,
    pub(super) clock: Arc<ManualClock>,
    pub(super) link: mpsc::Receiver<ToHub>,
    state: tempfile::TempDir,
    runtime: tempfile::TempDir,
}

impl Board {
    pub(super) fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
        let (state, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = Arc::new(AgentConfig {
            high_priority_message_frequency: IsoDuration::from_secs(1),
            low_priority_message_frequency: IsoDuration::from_secs(1),
            ..AgentConfig::default()
        });
        let options = SpoolOptions {
            directory: state.path().join("state"),
            runtime_directory: Some(runtime.path().to_owned()),
            cache_limit: config.max_local_cache_size,
            commit_interval: Duration::from_secs(60),
            min_free: ByteSize::bytes(0),
        };
        let now = clock.now();
        let (spool, _) = Spool::open(options, now).unwrap();
        let (to_hub, link) = mpsc::channel(4);
        let core = Core::new(CoreParts {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            pipeline: Pipeline::new(&config, TimeZone::UTC, now),
            config,
            spool,
            root: MessageRoot::new("1.0", AgentId::random()),
            to_hub,
            heartbeat: Duration::from_secs(10),
        });
        Self { core, clock, link, state, runtime }
    }

    pub(super) fn give(&mut self, input: ToCore) {
        let now = self.clock.now();
        self.core.handle(input, now);
        self.core.turn(now);
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        let now = self.clock.now();
        self.core.turn(now);
    }

    /// One low event, stored at once.
    fn collect(&mut self) {
        let at = self.clock.now().wall;
        self.give(ToCore::Snapshot(Snapshot { name: EventName::SystemInformation, at, items: Vec::new() }));
    }

    /// The message that the link was given, which must be as published.
    fn sent(&mut self) -> Message {
        let Ok(ToHub::Send(message)) = self.link.try_recv() else { panic!("not sent") };
        assert_valid_message(&message.body);
        message
    }

    /// Asks for these statistics; whether they were made.
    pub(super) fn statistics(&mut self, names: &[EventName]) -> bool {
        let (done, mut made) = oneshot::channel();
        self.give(ToCore::Statistics { names: EventSet::of(names), done });
        made.try_recv().unwrap()
    }

    /// Takes the next message off the link and acknowledges it; `None` if there is none.
    pub(super) fn acknowledged(&mut self) -> Option<String> {
        let Ok(ToHub::Send(message)) = self.link.try_recv() else { return None };
        assert_valid_message(&message.body);
        self.give(ToCore::Delivered(message.id));
        Some(message.body)
    }

    /// How long the core would sleep now.
    fn sleep(&self) -> Duration {
        let now = self.clock.now().mono;
        self.core.next_deadline(now).since(now)
    }
}

#[test]
fn what_is_due_does_not_make_it_spin_while_storage_fails() {
    let mut board = Board::new();
    board.give(ToCore::LinkReady);
    board.core.storage.retry_at = Some(board.clock.now().mono.after(RETRY));
    // The message clocks fire meanwhile, and nothing can be sent.
    board.pass(2);
    assert_eq!(board.sleep(), Duration::from_secs(3));
}

#[test]
fn a_link_that_takes_nothing_is_asked_once_a_second() {
    let mut board = Board::new();
    board.give(ToCore::LinkReady);
    board.collect();
    board.link.close();
    board.pass(2);
    assert_eq!(board.sleep(), LINK_RETRY);
    assert_eq!(board.core.storage.spool().in_flight().len(), 1, "it waits for its turn");
}

#[test]
fn a_state_directory_that_is_gone_hinders_neither_storing_nor_sending() {
    let mut board = Board::new();
    board.give(ToCore::LinkReady);
    std::fs::remove_dir_all(board.state.path().join("state")).unwrap();
    board.collect();
    board.pass(61);
    assert!(board.core.storage.commit_trouble.is_some(), "the commit must fail");
    let first = board.sent();
    board.give(ToCore::Delivered(first.id));
    assert!(board.core.storage.commit_trouble.is_some(), "what works is not what failed");
    board.collect();
    assert_eq!(board.core.storage.unstored(), 0, "held in memory only");
    board.pass(1);
    board.sent();
    assert!(board.sleep() > Duration::ZERO);
    let balance = board.core.storage.spool().balance();
    assert_eq!((balance.low.collected, balance.low.delivered, balance.low.pending), (2, 1, 1));
}

#[test]
fn a_message_in_flight_comes_again_as_it_was_though_the_limit_is_smaller_now() {
    let mut board = Board::new();
    for _ in 0..60 {
        board.collect();
    }
    board.give(ToCore::LinkReady);
    board.pass(2);
    let first = board.sent();
    assert!(first.body.len() > 8192, "{}", first.body.len());
    board.give(ToCore::LinkDown);
    let smaller = AgentConfig { max_message_size: ByteSize::bytes(8192), ..(*board.core.config).clone() };
    board.give(ToCore::Configure(Arc::new(smaller)));
    for _ in 0..60 {
        board.collect();
    }
    board.give(ToCore::LinkReady);
    board.pass(2);
    assert_eq!(board.sent(), first);
    let next = board.sent();
    assert!(next.id != first.id && next.body.len() <= 8192, "{}", next.body.len());
}

#[test]
fn gaps_and_acknowledgements_wait_for_storage() {
    let mut board = Board::new();
    board.give(ToCore::LinkReady);
    board.collect();
    board.pass(2);
    let message = board.sent();
    board.core.storage.retry_at = Some(board.clock.now().mono.after(RETRY));
    board.give(ToCore::Delivered(message.id));
    let at = board.clock.now().wall;
    for number in 0..100 {
        let source = format!("source {number}");
        board.give(ToCore::Gap(Gap { source, start: at, end: at, reason: "test".into(), missed_at_most: None }));
    }
    assert!(!board.statistics(&STATISTICS));
    assert_eq!(board.core.storage.gaps.len(), UNSTORED_GAPS);
    assert_eq!(board.core.storage.changes, [], "figures without what is held in memory");
    assert_eq!(board.core.storage.spool().balance().low.delivered, 0);
    board.pass(5);
    assert_eq!(board.core.storage.spool().recent_gaps().len(), UNSTORED_GAPS);
    assert_eq!(
        (board.core.storage.spool().balance().low.delivered, board.core.storage.spool().in_flight().len()),
        (1, 0)
    );
}

#[test]
fn the_gap_after_a_stop_begins_when_the_watch_ended() {
    let Board { mut core, clock, link: _link, state, runtime } = Board::new();
    let watched_until = clock.now().wall;
    let (done, _) = oneshot::channel();
    core.handle(ToCore::Settle { watched_until, done }, clock.now());
    // Acknowledgements are waited for.
    clock.advance(Duration::from_secs(3));
    let (min_free, limit) = (ByteSize::bytes(0), core.config.max_local_cache_size);
    core.stop().unwrap();
    let options = SpoolOptions {
        directory: state.path().join("state"),
        runtime_directory: Some(runtime.path().to_owned()),
        cache_limit: limit,
        commit_interval: Duration::from_secs(60),
        min_free,
    };
    clock.advance(Duration::from_secs(5));
    let (_, recovery) = Spool::open(options, clock.now()).unwrap();
    assert_eq!(recovery.gap.map(|gap| gap.start), Some(watched_until));
}

#[test]
fn a_changed_time_zone_is_taken_within_a_minute() {
    let mut board = Board::new();
    // As without a runtime directory.
    board.core.heartbeat = Duration::from_secs(3600);
    board.core.heartbeat_due = board.clock.now().mono.after(board.core.heartbeat);
    board.give(ToCore::LinkReady);
    for (zone, local) in [("UTC0", "+00:00\""), ("IST-5:30", "+05:30\""), ("CET-1CEST,M3.5.0,M10.5.0/3", "+01:00\"")] {
        board.clock.set_zone(TimeZone::posix(zone).unwrap());
        assert!(board.sleep() <= Duration::from_secs(60));
        board.pass(60);
        assert!(board.statistics(&STATISTICS));
        board.pass(2);
        let body = board.acknowledged().unwrap();
        assert!(body.contains(local), "{body}");
    }
}

/// Hands each line to the sink, as the log of the program does.
struct Lines(Sink);

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let severity = match *event.metadata().level() {
            tracing::Level::ERROR => DiagnosticSeverity::Error,
            tracing::Level::WARN => DiagnosticSeverity::Warning,
            _ => DiagnosticSeverity::Debug,
        };
        self.0.line(severity, event.metadata().target(), || format!("{event:?}"));
    }
}

fn line(board: &Board) -> ToCore {
    let what = Payload::Diagnostic(Diagnostic {
        severity: DiagnosticSeverity::Warning,
        message: "a line".into(),
        process_id: 1,
        thread_id: 1,
        correlation_id: None,
        extra_details: ExtraDetails::new(),
    });
    ToCore::Diagnostic(Observation { at: board.clock.now().wall, serial: 1, what })
}

#[test]
fn a_storage_that_fails_is_told_once_even_if_a_diagnostic_event_meets_it_first() {
    let mut board = Board::new();
    let (sink, source) = channel(DiagnosticSeverity::Warning, Arc::clone(&board.clock) as Arc<dyn Clock>);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(Lines(sink)), || {
        for _ in 0..5 {
            board.core.storage.fault = true;
            let line = line(&board);
            board.give(line);
            board.pass(RETRY.as_secs());
        }
    });
    let said = source.said();
    assert!(said.len() == 1 && said[0].contains("storage failed"), "{said:?}");
    board.core.storage.fault = false;
    board.pass(RETRY.as_secs());
    assert_eq!(board.core.storage.unstored(), 0, "nothing is lost");
    assert_eq!(board.core.storage.spool().balance().low.pending, 5);
}

#[test]
fn lines_that_were_left_out_before_the_switch_are_booked_after_it() {
    let mut board = Board::new();
    let with = |priority| {
        let mut config = AgentConfig::default();
        config.priorities.insert(EventName::Diagnostic, priority);
        ToCore::Configure(Arc::new(config))
    };
    board.give(with(Priority::High));
    board.give(with(Priority::Off));
    board.give(ToCore::LinesLeftOut(7));
    let balance = board.core.storage.spool().balance();
    assert_eq!(balance.high.dropped, BTreeMap::from([(DropReason::RateLimited, 7)]));
    assert!(balance.holds());
}
