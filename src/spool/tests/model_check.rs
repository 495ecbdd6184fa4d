//! Random histories, compared after each step with a model that keeps everything in plain lists.

use super::*;
use crate::spool::record::cost;

#[derive(Clone, Debug)]
enum Step {
    /// Events, each with the sizes of its parts.
    Apply(Vec<(Queue, Vec<usize>)>),
    Grow(u8, Queue, u64),
    Close(u8, Queue),
    Assemble(Queue, Room),
    Acknowledge(prop::sample::Index),
    Refuse(prop::sample::Index),
    Limit(u64),
    Alive,
    Resend,
    Commit,
    CommitThatFails,
    Crash,
    CrashInCommit,
    PowerCut,
    Restart {
        hot_lost: bool,
    },
}

fn queue() -> impl Strategy<Value = Queue> {
    prop::sample::select(Queue::ALL.to_vec())
}

fn room() -> impl Strategy<Value = Room> {
    let riders = prop_oneof![Just(Riders::None), Just(Riders::All), Just(Riders::Step { properties: 100 })];
    (600_usize..4000, 600_usize..4000, riders).prop_map(|(body, alone, riders)| Room { body, alone, riders })
}

/// Now and then more than the whole cache.
fn parts() -> impl Strategy<Value = Vec<usize>> {
    let size = || prop_oneof![0_usize..300, 300_usize..3000];
    prop_oneof![
        8 => size().prop_map(|size| vec![size]),
        1 => prop::collection::vec(size(), 2..5),
        1 => (3000_usize..40_000).prop_map(|size| vec![size]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec((queue(), parts()), 1..6).prop_map(Step::Apply),
        3 => (0_u8..3, queue(), 1_u64..9).prop_map(|(k, q, h)| Step::Grow(k, q, h)),
        2 => (0_u8..3, queue()).prop_map(|(k, q)| Step::Close(k, q)),
        6 => (queue(), room()).prop_map(|(q, limits)| Step::Assemble(q, limits)),
        5 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        1 => any::<prop::sample::Index>().prop_map(Step::Refuse),
        1 => (2_000_u64..40_000).prop_map(Step::Limit),
        1 => Just(Step::Alive),
        1 => Just(Step::Resend),
        3 => Just(Step::Commit),
        1 => Just(Step::CommitThatFails),
        2 => Just(Step::Crash),
        1 => Just(Step::CrashInCommit),
        1 => Just(Step::PowerCut),
        1 => any::<bool>().prop_map(|hot_lost| Step::Restart { hot_lost }),
    ]
}

/// A finished event: hits, text.
type Stored = (u64, String);

#[derive(Clone, Debug, Default)]
struct Model {
    ready: BTreeMap<Queue, Vec<Stored>>,
    flights: Vec<(Message, BTreeMap<Queue, Vec<Stored>>)>,
    aggregates: BTreeMap<u8, OpenAggregate>,
    balance: Balance,
    statistics: Statistics,
}

fn sum(stored: &[Stored]) -> (u64, u64) {
    stored.iter().fold((0, 0), |(hits, held), (h, body)| (hits + h, held + cost(body.len() as u64)))
}

impl Model {
    fn held(&self) -> u64 {
        let flying = self.flights.iter().flat_map(|(_, parts)| parts.values());
        let events: u64 = self.ready.values().chain(flying).map(|stored| sum(stored).1).sum();
        events + self.aggregates.values().map(|a| Known::of(a).cost).sum::<u64>()
    }

    fn collect(&mut self, queue: Queue, hits: u64) {
        let account = self.balance.of_mut(queue);
        account.collected += hits;
        account.pending += hits;
    }

    fn drop_hits(&mut self, queue: Queue, hits: u64, reason: DropReason) {
        if hits > 0 {
            let account = self.balance.of_mut(queue);
            account.pending -= hits;
            *account.dropped.entry(reason).or_default() += hits;
        }
    }

    /// Moves an aggregate's hits to another queue.
    fn requeue(&mut self, from: Queue, to: Queue, hits: u64) {
        let account = self.balance.of_mut(from);
        account.collected -= hits;
        account.pending -= hits;
        self.collect(to, hits);
    }

    /// A newcomer with its parts: all of it is stored, or none if it would not fit although all that goes before it went.
    fn enter(&mut self, queue: Queue, whole: Vec<Stored>, limit: u64) {
        let (hits, cost) = sum(&whole);
        let first_to_go = if queue == Queue::Low { &[Queue::Low][..] } else { &Queue::ALL };
        let going: u64 = first_to_go.iter().filter_map(|queue| self.ready.get(queue)).map(|ready| sum(ready).1).sum();
        if self.held() - going + cost > limit {
            self.drop_hits(queue, hits, DropReason::CacheFull);
        } else {
            self.ready.entry(queue).or_default().extend(whole);
        }
    }

    fn shrink(&mut self, limit: u64) {
        for queue in [Queue::Low, Queue::High] {
            while self.held() > limit && self.ready.get(&queue).is_some_and(|r| !r.is_empty()) {
                let (hits, _) = self.ready.get_mut(&queue).unwrap().remove(0);
                self.drop_hits(queue, hits, DropReason::CacheFull);
            }
        }
        while self.held() > limit && !self.flights.is_empty() {
            for (queue, stored) in self.flights.remove(0).1 {
                self.drop_hits(queue, sum(&stored).0, DropReason::CacheFull);
            }
        }
    }

    fn assemble(
        &mut self,
        lead: Queue,
        limits: Room,
        root: &MessageRoot,
    ) -> Option<(String, BTreeMap<Queue, Vec<Stored>>)> {
        let (mut bodies, mut parts) = (Vec::<String>::new(), BTreeMap::new());
        let second = if lead == Queue::High { Queue::Low } else { Queue::High };
        for queue in [lead, second] {
            if queue != lead && (limits.riders == Riders::None || bodies.is_empty()) {
                break;
            }
            let size = root.body_len(bodies.len(), bodies.iter().map(String::len).sum());
            let max = if queue == lead { limits.body } else { limits.with_riders(size) };
            while let Some((hits, body)) = self.ready.entry(queue).or_default().first().cloned() {
                let bytes = bodies.iter().map(String::len).sum::<usize>() + body.len();
                if root.body_len(1, body.len()) > max.max(limits.alone) {
                    self.drop_hits(queue, hits, DropReason::Oversize);
                } else if root.body_len(bodies.len() + 1, bytes) > max && !bodies.is_empty() {
                    break;
                } else {
                    bodies.push(body.clone());
                    parts.entry(queue).or_insert_with(Vec::new).push((hits, body));
                }
                self.ready.get_mut(&queue).unwrap().remove(0);
            }
        }
        (!bodies.is_empty()).then(|| (root.body(&bodies), parts))
    }
}

struct Run {
    board: Board,
    spool: Option<Spool>,
    model: Model,
    /// The model as it was at the last commit.
    durable: Model,
    number: u64,
}

impl Run {
    fn new() -> Self {
        let mut board = Board::new();
        board.limit = 30_000;
        let spool = Some(board.open().0);
        Self { board, spool, model: Model::default(), durable: Model::default(), number: 0 }
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    fn event(&mut self, queue: Queue, size: usize) -> StoredEvent {
        self.number += 1;
        event(queue, self.number, size)
    }

    fn apply(&mut self, changes: &[Change]) {
        let (now, limit) = (self.board.pass(SECOND), self.board.limit);
        self.spool().apply(changes, now).unwrap();
        self.model.shrink(limit);
    }

    fn opened(&mut self, (spool, recovery): (Spool, Recovery), start: Start) {
        assert_eq!(recovery.start, start);
        assert_eq!(recovery.notes, [""; 0]);
        assert!(recovery.gap.is_some_and(|gap| gap.start <= gap.end));
        assert_eq!(recovery.aggregates, self.model.aggregates.values().cloned().collect::<Vec<_>>());
        self.spool = Some(spool);
        self.model.shrink(self.board.limit);
        self.durable = self.model.clone();
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each step")]
    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(events) => {
                let mut changes = Vec::new();
                for (queue, sizes) in events {
                    let mut whole = Vec::new();
                    for (n, size) in sizes.into_iter().enumerate() {
                        let event = StoredEvent { hits: u64::from(n == 0), ..self.event(queue, size) };
                        whole.push((event.hits, event.body.clone()));
                        changes.push(Change::Event(event));
                    }
                    self.model.collect(queue, 1);
                    self.model.enter(queue, whole, self.board.limit);
                }
                self.apply(&changes);
            }
            Step::Grow(key, queue, more) => {
                let before = self.model.aggregates.get(&key).cloned();
                let hits = before.as_ref().map_or(0, |a| a.hits) + more;
                if let Some(before) = before {
                    self.model.requeue(before.queue, queue, before.hits);
                }
                self.model.collect(queue, more);
                let open = OpenAggregate { key: format!("k{key}"), queue, hits, state: "s".repeat(40) };
                self.model.aggregates.insert(key, open.clone());
                self.apply(&[Change::Aggregate(open)]);
            }
            Step::Close(key, queue) => {
                let Some(open) = self.model.aggregates.remove(&key) else { return };
                self.model.requeue(open.queue, queue, open.hits);
                let event = StoredEvent { hits: open.hits, ..self.event(queue, 100) };
                self.model.enter(queue, vec![(open.hits, event.body.clone())], self.board.limit);
                self.apply(&[Change::Close { key: open.key, event }]);
            }
            Step::Assemble(lead, limits) => {
                let (root, now) = (self.board.root.clone(), self.board.now);
                let got = self.spool().assemble(lead, limits, &root, now).unwrap();
                let expected = self.model.assemble(lead, limits, &root);
                assert_eq!(got.as_ref().map(|m| &m.body), expected.as_ref().map(|(body, _)| body));
                if let Some((message, (_, parts))) = got.zip(expected) {
                    let one = parts.values().map(Vec::len).sum::<usize>() == 1;
                    assert!(message.body.len() <= if one { limits.body.max(limits.alone) } else { limits.body });
                    assert_eq!(message.queue, lead);
                    self.model.flights.push((message, parts));
                }
            }
            Step::Acknowledge(_) | Step::Refuse(_) if self.model.flights.is_empty() => {}
            Step::Acknowledge(at) => {
                let (message, parts) = self.model.flights.remove(at.index(self.model.flights.len()));
                let now = self.board.now;
                assert!(self.spool().acknowledge(message.id, message.body.len(), now).unwrap());
                assert!(!self.spool().acknowledge(message.id, message.body.len(), now).unwrap());
                for (queue, stored) in parts {
                    let account = self.model.balance.of_mut(queue);
                    account.pending -= sum(&stored).0;
                    account.delivered += sum(&stored).0;
                }
                self.model.statistics.messages_sent += 1;
            }
            Step::Refuse(at) => {
                let (message, parts) = self.model.flights.remove(at.index(self.model.flights.len()));
                let now = self.board.now;
                assert!(self.spool().refuse(message.id, now).unwrap());
                for (queue, stored) in parts {
                    self.model.drop_hits(queue, sum(&stored).0, DropReason::Refused);
                }
                self.model.statistics.messages_failed += 1;
            }
            Step::Limit(limit) => {
                self.board.limit = limit;
                let now = self.board.now;
                self.spool().set_cache_limit(ByteSize::bytes(limit), now).unwrap();
                self.model.shrink(limit);
            }
            Step::Alive => {
                let now = self.board.pass(SECOND);
                self.spool().alive(now).unwrap();
            }
            Step::Resend => {
                self.spool().note_resend().unwrap();
                self.model.statistics.messages_failed += 1;
                // Alone it waits for the next commit; so that the model need not know, a change goes with it.
                self.apply(&[Change::Drop { queue: Queue::Low, hits: 1, reason: DropReason::StorageFailed }]);
                self.model.collect(Queue::Low, 1);
                self.model.drop_hits(Queue::Low, 1, DropReason::StorageFailed);
            }
            Step::Commit => {
                let now = self.board.now;
                self.spool().commit(now).unwrap();
                self.durable = self.model.clone();
            }
            Step::CommitThatFails => {
                let now = self.board.now;
                self.spool().cold.cap(0).unwrap();
                let result = self.spool().commit(now);
                self.spool().cap_cold().unwrap();
                if result.is_ok() {
                    self.durable = self.model.clone();
                }
            }
            Step::Crash => {
                let spool = self.spool.take().unwrap();
                let opened = self.board.crash(spool);
                self.opened(opened, Start::Crash);
            }
            Step::CrashInCommit => {
                let hot = copy(self.board.hot.path());
                let now = self.board.now;
                self.spool().commit(now).unwrap();
                let cold = copy(self.board.cold.path());
                self.spool = None;
                (self.board.cold, self.board.hot) = (cold, hot);
                let opened = self.board.open();
                assert_ne!(opened.1.start, Start::Fresh);
                let start = opened.1.start;
                self.opened(opened, start);
            }
            Step::PowerCut => {
                self.model = self.durable.clone();
                let spool = self.spool.take().unwrap();
                let opened = self.board.power_cut(spool);
                self.opened(opened, Start::PowerLoss);
            }
            Step::Restart { hot_lost } => {
                let now = self.board.pass(SECOND);
                self.spool.take().unwrap().close(now).unwrap();
                if hot_lost {
                    self.board.hot = tempfile::tempdir().unwrap();
                }
                let opened = self.board.open();
                self.opened(opened, Start::Clean);
            }
        }
    }

    fn check(&mut self) {
        let (root, limit) = (self.board.root.clone(), self.board.limit);
        let (model, spool) = (self.model.clone(), self.spool());
        assert_eq!(spool.balance(), model.balance);
        assert!(spool.balance().holds());
        assert_eq!(spool.statistics().messages_sent, model.statistics.messages_sent);
        assert_eq!(spool.statistics().messages_failed, model.statistics.messages_failed);
        assert_eq!(spool.books.held, model.held());
        assert!(model.held() <= limit || spool.backlog(Queue::Low).records + spool.backlog(Queue::High).records == 0);
        for queue in Queue::ALL {
            let ready = model.ready.get(&queue).map_or(&[][..], Vec::as_slice);
            let bytes = ready.iter().map(|(_, body)| body.len() as u64).sum();
            assert_eq!(spool.backlog(queue), Backlog { records: ready.len() as u64, bytes });
        }
        assert_eq!(spool.in_flight(), model.flights.iter().map(|(m, _)| m.id).collect::<Vec<_>>());
        for (message, _) in &model.flights {
            assert_eq!(spool.message(message.id, &root).unwrap().as_ref(), Some(message));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_breaks_the_books(steps in prop::collection::vec(step(), 1..60), any in any::<prop::sample::Index>()) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
            run.check();
        }
        for lead in Queue::ALL {
            while run.spool().backlog(lead).records > 0 {
                run.step(Step::Assemble(lead, Room::of(4000, Riders::All)));
            }
        }
        run.check();
        while !run.model.flights.is_empty() {
            run.step(Step::Acknowledge(any));
        }
        run.check();
    }
}
