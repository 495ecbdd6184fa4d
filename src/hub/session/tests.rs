//! Tests of the session's state machine.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::hub::error::ConnackCode;
use crate::hub::traffic::WINDOW;
use crate::model::loss::Queue;
use crate::model::time::Timestamp;

mod calls;

const LIFE: Duration = Duration::from_secs(3600);

fn message() -> Message {
    Message { id: MessageId::random(), queue: Queue::Low, body: "{}".into(), hub_resource_id: String::new() }
}

fn closed() -> Input<'static> {
    Input::Lost(LinkError::ClosedByHub { why: "end".into() })
}

/// A session, its clock, and what the world around it must believe.
struct Bench {
    session: Session,
    now: Mono,
}

impl Bench {
    fn new(life: Duration) -> Self {
        let now = Mono::from_boot(Duration::from_secs(1000));
        Self { session: Session::new(now, life, 42), now }
    }

    fn ready(life: Duration) -> Self {
        let mut bench = Self::new(life);
        bench.sign_in(1);
        bench
    }

    fn sign_in(&mut self, rid: u32) {
        let dialling = [Action::Event(FromHub::State(LinkState::Connecting)), Action::Dial];
        assert!(self.give(Input::Tick).ends_with(&dialling) || matches!(self.session.phase, Phase::Connecting { .. }));
        self.finish_sign_in(rid);
    }

    fn finish_sign_in(&mut self, rid: u32) {
        assert_eq!(self.give(Input::Dialled), []);
        assert_eq!(self.give(Input::Connected), [Action::Subscribe]);
        assert_eq!(self.give(Input::Subscribed), [Action::GetTwin { rid }]);
        let actions = self.answer(rid, 200, r#"{"desired":{"$version":1},"reported":{}}"#);
        assert!(matches!(actions[0], Action::Event(FromHub::Desired { version: 1, .. })), "{actions:?}");
        assert_eq!(actions[1..], [Action::Event(FromHub::State(LinkState::Ready))]);
    }

    fn give(&mut self, input: Input<'_>) -> Vec<Action> {
        self.session.handle(self.now, input)
    }

    fn answer(&mut self, rid: u32, status: u16, payload: &str) -> Vec<Action> {
        self.give(Input::Publish { topic: Incoming::TwinAnswer { status, rid }, payload: payload.as_bytes() })
    }

    fn send(&mut self, message: &Message) -> Vec<Action> {
        self.give(Input::Order(ToHub::Send(message.clone())))
    }

    /// Goes to the next deadline and ticks.
    fn wait(&mut self) -> Vec<Action> {
        self.now = self.session.deadline().unwrap();
        self.give(Input::Tick)
    }

    fn later(&mut self, seconds: u64) -> Vec<Action> {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.give(Input::Tick)
    }
}

fn is_down(action: &Action, text: &str) -> bool {
    matches!(action, Action::Event(FromHub::State(LinkState::Down { error, .. })) if error.contains(text))
}

#[test]
fn messages_go_out_when_ready_and_count_on_their_own_puback() {
    let mut bench = Bench::new(LIFE);
    let (a, b) = (message(), message());
    assert_eq!(bench.send(&a).last(), Some(&Action::Dial), "an order before the link is ignored, but time passes");
    bench.finish_sign_in(1);
    assert_eq!(bench.send(&a), [Action::Publish(a.clone())]);
    assert_eq!(bench.send(&a), [], "already under way");
    assert_eq!(bench.send(&b), [Action::Publish(b.clone())]);
    assert_eq!(bench.give(Input::Acknowledged(b.id)), [Action::Event(FromHub::Delivered(b.id))]);
    assert_eq!(bench.give(Input::Acknowledged(b.id)), []);
    assert_eq!(
        bench.give(Input::Unsendable(a.id, "too large".into())),
        [Action::Event(FromHub::Undeliverable { id: a.id, why: "too large".into() })]
    );
}

#[test]
fn the_window_is_kept_and_the_rest_waits() {
    let mut bench = Bench::ready(LIFE);
    let messages: Vec<_> = (0..2 * WINDOW).map(|_| message()).collect();
    let sent: usize = messages.iter().map(|m| bench.send(m).len()).sum();
    assert_eq!(sent, WINDOW);
    assert!(!bench.session.takes_orders());
    let actions = bench.give(Input::Acknowledged(messages[3].id));
    assert_eq!(actions, [Action::Event(FromHub::Delivered(messages[3].id)), Action::Publish(messages[WINDOW].clone())]);
    assert!(bench.session.takes_orders());
}

#[test]
fn a_lost_link_forgets_what_was_under_way() {
    let mut bench = Bench::ready(LIFE);
    let a = message();
    bench.send(&a);
    let actions = bench.give(closed());
    assert_eq!(actions[0], Action::Close);
    assert!(is_down(&actions[1], "closed by the other side"), "{actions:?}");
    assert_eq!(bench.give(Input::Acknowledged(a.id)), [], "a PUBACK of the old connection");
    assert_eq!(bench.send(&a), []);
    let actions = bench.wait();
    assert_eq!(actions, [Action::Event(FromHub::State(LinkState::Connecting)), Action::Dial]);
    bench.finish_sign_in(2);
    assert_eq!(bench.send(&a), [Action::Publish(a)]);
}

#[test]
fn refused_sign_ins_go_the_slow_lane() {
    let mut bench = Bench::new(LIFE);
    bench.give(Input::Tick);
    for _ in 0..20 {
        bench.give(Input::Dialled);
        let at = Timestamp::trusted("2026-07-01T09:30:00Z".parse().unwrap());
        let error = LinkError::Refused { code: ConnackCode::NotAuthorized, at };
        let actions = bench.give(Input::Lost(error));
        let Action::Event(FromHub::State(LinkState::Down { error, retry_in, permanent_hint })) = &actions[1] else {
            panic!("{actions:?}")
        };
        assert!(error.contains("CONNACK 5") && *permanent_hint);
        assert!((30..=300).contains(&retry_in.as_secs()), "{retry_in:?}");
        assert_eq!(bench.wait().last(), Some(&Action::Dial), "for ever");
    }
}

#[test]
fn each_wait_ends() {
    let mut bench = Bench::new(LIFE);
    bench.give(Input::Tick);
    bench.give(Input::Dialled);
    assert!(is_down(&bench.later(30)[1], "no CONNACK within 30 s"));
    bench.wait();
    bench.give(Input::Connected);
    assert!(is_down(&bench.later(10)[1], "no SUBACK within 10 s"));
    bench.wait();
    bench.finish_sign_in(1);
    let (a, b) = (message(), message());
    bench.send(&a);
    assert_eq!(bench.later(30), []);
    bench.send(&b);
    bench.give(Input::Heard);
    assert!(is_down(&bench.later(30)[1], "no PUBACK for a message within 60 s"));
    bench.wait();
    bench.finish_sign_in(2);
    assert_eq!(bench.later(359), []);
    assert!(is_down(&bench.later(1)[1], "nothing heard from the hub within 360 s"));
}

#[test]
fn a_twin_that_does_not_come_does_not_hold_back_messages() {
    let mut bench = Bench::new(LIFE);
    bench.give(Input::Tick);
    bench.give(Input::Dialled);
    bench.give(Input::Connected);
    bench.give(Input::Subscribed);
    let a = message();
    assert_eq!(bench.send(&a), [], "not ready yet");
    let actions = bench.answer(1, 500, "");
    assert!(matches!(actions[0], Action::Event(FromHub::TwinUnavailable(_))));
    assert_eq!(actions[1], Action::Event(FromHub::State(LinkState::Ready)));
    assert_eq!(bench.send(&a), [Action::Publish(a.clone())]);
    bench.give(Input::Acknowledged(a.id));
    assert_eq!(bench.wait(), [Action::GetTwin { rid: 2 }]);
}

#[test]
fn the_token_is_renewed_on_a_quiet_moment() {
    let mut bench = Bench::ready(LIFE);
    let mut ticks = 0;
    loop {
        bench.give(Input::Heard);
        ticks += 30;
        let actions = bench.later(30);
        if !actions.is_empty() {
            assert!((2880..=3090).contains(&ticks), "{ticks}");
            assert_eq!(actions[0], Action::Disconnect);
            assert!(is_down(&actions[1], "new token"));
            assert_eq!(actions[2..], [Action::Event(FromHub::State(LinkState::Connecting)), Action::Dial]);
            break;
        }
    }
    bench.finish_sign_in(2);
}

#[test]
fn renewal_waits_for_pubacks_but_not_for_ever() {
    for acknowledged in [true, false] {
        let mut bench = Bench::ready(Duration::from_secs(100));
        let (a, b) = (message(), message());
        bench.later(75);
        bench.send(&a);
        assert_eq!(bench.later(11), []);
        assert_eq!(bench.send(&b), [], "held back for the renewal");
        let actions = if acknowledged {
            let mut actions = bench.give(Input::Acknowledged(a.id));
            assert_eq!(actions.remove(0), Action::Event(FromHub::Delivered(a.id)));
            actions
        } else {
            assert_eq!(bench.later(8), []);
            bench.later(1)
        };
        assert_eq!(actions.first(), Some(&Action::Disconnect), "{acknowledged}");
        assert_eq!(actions.last(), Some(&Action::Dial));
    }
}

#[test]
fn stopping_drains_reports_and_disconnects() {
    let mut bench = Bench::ready(LIFE);
    let a = message();
    bench.send(&a);
    let mut report = Map::new();
    report.insert("twinward".into(), json!({"v": 1}));
    assert!(matches!(bench.give(Input::Order(ToHub::Report(report)))[..], [Action::Report { rid: 2, .. }]));
    assert_eq!(bench.give(Input::Order(ToHub::Stop)), []);
    assert_eq!(bench.send(&message()), [], "nothing new");
    assert_eq!(bench.give(Input::Acknowledged(a.id)), [Action::Event(FromHub::Delivered(a.id))]);
    let actions = bench.answer(2, 204, "");
    assert!(matches!(actions[0], Action::Event(FromHub::Reported { ok: true, .. })));
    assert_eq!(actions[1..], [Action::Disconnect, Action::Event(FromHub::State(LinkState::Stopped))]);
    assert!(bench.session.stopped());
    assert_eq!((bench.session.deadline(), bench.give(Input::Tick)), (None, vec![]));
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let mut bench = Bench::ready(LIFE);
    bench.send(&message());
    bench.give(Input::Order(ToHub::Stop));
    assert_eq!(bench.later(1), []);
    let stopped = Action::Event(FromHub::State(LinkState::Stopped));
    assert_eq!(bench.later(1), [Action::Disconnect, stopped.clone()]);
    let mut bench = Bench::new(LIFE);
    bench.give(Input::Tick);
    assert_eq!(bench.give(Input::Order(ToHub::Stop)), [Action::Close, stopped]);
}

#[derive(Clone, Debug)]
enum Move {
    Send(u8),
    Report(u8),
    Dialled,
    Connected,
    Subscribed,
    Answer(u8, u16, u8),
    Notice(u8),
    Acknowledge(u8),
    Lose,
    Wait,
    Pass(u16),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        12 => any::<u8>().prop_map(Move::Send),
        1 => any::<u8>().prop_map(Move::Report),
        2 => Just(Move::Dialled),
        4 => Just(Move::Connected),
        4 => Just(Move::Subscribed),
        4 => (0_u8..8, prop_oneof![Just(200_u16), Just(204), Just(429), Just(400)], 0_u8..5)
            .prop_map(|(r, s, v)| Move::Answer(r, s, v)),
        2 => (0_u8..6).prop_map(Move::Notice),
        4 => any::<u8>().prop_map(Move::Acknowledge),
        1 => Just(Move::Lose),
        3 => Just(Move::Wait),
        2 => (0_u16..400).prop_map(Move::Pass),
    ];
    prop::collection::vec(one, 0..200)
}

proptest! {
    #[test]
    fn the_promises_hold_whatever_happens(moves in moves(), life in 2_u64..4000, begin_ready: bool, stop: bool) {
        let life = Duration::from_secs(life);
        let mut bench = if begin_ready { Bench::ready(life) } else { Bench::new(life) };
        let pool: Vec<_> = (0..20).map(|_| message()).collect();
        let (mut open, mut ready, mut stopped) = (begin_ready, begin_ready, false);
        let mut in_flight: Vec<MessageId> = Vec::new();
        let mut rid = u32::from(begin_ready);
        let end = if stop { vec![Move::Wait; 4] } else { Vec::new() };
        let count = moves.len();
        for (i, step) in moves.into_iter().chain(end).enumerate() {
            let text;
            let input = match step {
                _ if i == count => Input::Order(ToHub::Stop),
                Move::Send(n) => Input::Order(ToHub::Send(pool[usize::from(n) % pool.len()].clone())),
                Move::Report(n) => Input::Order(ToHub::Report(Map::from_iter([("twinward".into(), json!({"n": n}))]))),
                Move::Dialled => Input::Dialled,
                Move::Connected => Input::Connected,
                Move::Subscribed => Input::Subscribed,
                Move::Answer(back, status, version) => {
                    text = json!({"desired": {"$version": version}, "reported": {}}).to_string();
                    let topic = Incoming::TwinAnswer { status, rid: u32::saturating_sub(rid, back.into()) };
                    Input::Publish { topic, payload: text.as_bytes() }
                }
                Move::Notice(version) => {
                    text = json!({"$version": version}).to_string();
                    Input::Publish { topic: Incoming::Desired { version: None }, payload: text.as_bytes() }
                }
                Move::Acknowledge(n) => Input::Acknowledged(pool[usize::from(n) % pool.len()].id),
                Move::Lose => closed(),
                Move::Wait => {
                    bench.now = bench.session.deadline().unwrap_or(bench.now).max(bench.now);
                    Input::Tick
                }
                Move::Pass(seconds) => {
                    bench.now = bench.now.after(Duration::from_secs(seconds.into()));
                    Input::Tick
                }
            };
            for action in bench.give(input) {
                prop_assert!(!stopped, "nothing after the end");
                match action {
                    Action::Dial => {
                        prop_assert!(!open, "the old socket is closed before dialling");
                        open = true;
                    }
                    Action::Close | Action::Disconnect => {
                        open = false;
                        ready = false;
                        in_flight.clear();
                    }
                    Action::Publish(message) => {
                        prop_assert!(open && ready);
                        prop_assert!(!in_flight.contains(&message.id));
                        in_flight.push(message.id);
                        prop_assert!(in_flight.len() <= WINDOW);
                    }
                    Action::GetTwin { rid: r } | Action::Report { rid: r, .. } => {
                        prop_assert!(open && r > rid, "a request id is used once");
                        rid = r;
                    }
                    Action::Subscribe | Action::Answer(_) => prop_assert!(open),
                    Action::Event(FromHub::Delivered(id)) => {
                        prop_assert!(in_flight.contains(&id), "only what is under way can be delivered");
                        in_flight.retain(|known| *known != id);
                    }
                    Action::Event(FromHub::State(LinkState::Ready)) => {
                        prop_assert!(open && !ready);
                        ready = true;
                    }
                    Action::Event(FromHub::State(LinkState::Stopped)) => stopped = true,
                    Action::Event(_) => {}
                }
            }
            prop_assert_eq!(bench.session.stopped(), stopped);
            match bench.session.deadline() {
                Some(at) => prop_assert!(at > bench.now, "nothing that is due is left, so nothing spins"),
                None => prop_assert!(stopped),
            }
        }
        prop_assert_eq!(stopped, stop);
    }
}
