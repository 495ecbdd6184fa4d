//! The session with the hub as a state machine without I/O:
//!
//! ```text
//! Down ──▶ Connecting ──▶ Subscribing ──▶ GettingTwin ──▶ Ready ──▶ Draining ──▶ Stopped
//!  ▲            │              │               │            │
//!  └────────────┴──────────────┴───────────────┴────────────┘  any fault; then a wait by backoff
//! ```
//!
//! * A twin that cannot be had does not hold back messages: the session is ready as soon as the first GET was answered
//!   or has failed once, at the latest after 10 s; the GET goes on beside.
//! * MQTT cannot renew a token in place. At 80 to 85 % of its life the session signs in anew, as soon as nothing is
//!   unacknowledged and no caller waits for an answer, and sends nothing new until then; at 95 % in any case.
//! * A call of a method may come as soon as the hub has granted it, which is before we know: it is taken at once.
//! * A message counts as delivered on its own PUBACK on the connection that carried it, and at no other time.

use std::time::Duration;

use super::backoff::Backoff;
use super::calls::Calls;
use super::error::{LinkError, Wait};
use super::topics::Incoming;
use super::traffic::{FromHub, LinkState, MethodAnswer, ToHub};
use super::twin_sync::{TwinAction, TwinSync};
use super::window::Window;
use crate::model::ids::MessageId;
use crate::model::message::Message;
use crate::model::time::Mono;

/// MQTT keep-alive: four minutes is the usual idle cut of balancers.
pub const KEEP_ALIVE: Duration = Duration::from_secs(240);
/// A connection on which nothing was heard for 1.5 keep-alives is dead.
const SILENCE: Duration = Duration::from_secs(360);
/// Dialling has its own time-outs; this one only catches their failure.
const DIAL: Duration = Duration::from_secs(90);
const CONNACK: Duration = Duration::from_secs(30);
const SUBACK: Duration = Duration::from_secs(10);
const PUBACK: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(2);
/// A shorter life of a token would be renewal without pause.
const LEAST_SAS_LIFE: Duration = Duration::from_secs(2);

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed.
    Tick,
    /// An order.
    Order(ToHub),
    /// TCP and TLS stand; CONNECT goes out.
    Dialled,
    /// CONNACK 0.
    Connected,
    /// Both subscriptions to the twin were granted.
    Subscribed,
    /// A PUBLISH of the hub.
    Publish {
        /// Its topic.
        topic: Incoming,
        /// Its payload.
        payload: &'a [u8],
    },
    /// The PUBACK of this message.
    Acknowledged(MessageId),
    /// This message cannot be sent at all.
    Unsendable(MessageId, String),
    /// Any other packet.
    Heard,
    /// The connection failed or ended.
    Lost(LinkError),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Connect: TCP, TLS, CONNECT with a new token.
    Dial,
    /// Subscribe to both twin filters, and to calls of methods if they are wanted.
    Subscribe,
    /// Ask for the twin.
    GetTwin {
        /// `$rid`.
        rid: u32,
    },
    /// Patch the reported properties.
    Report {
        /// `$rid`.
        rid: u32,
        /// The merge patch.
        patch: String,
    },
    /// Answer a direct method.
    Answer(MethodAnswer),
    /// Send this message with QoS 1.
    Publish(Message),
    /// Send DISCONNECT, then close.
    Disconnect,
    /// Close without a word.
    Close,
    /// Tell the owner.
    Event(FromHub),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down { until: Mono },
    Connecting { until: Mono, what: Wait },
    Subscribing { until: Mono },
    GettingTwin,
    Ready,
    Draining { until: Mono },
    Stopped,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    backoff: Backoff,
    random: fastrand::Rng,
    sas_life: Duration,
    /// When the token was made, and the share of its life after which it is renewed.
    token: (Mono, f64),
    twin: TwinSync,
    calls: Calls,
    window: Window,
    heard: Mono,
}

impl Session {
    /// A session that dials at the first [`Input::Tick`]. The seed makes jitter repeatable.
    #[must_use]
    pub fn new(now: Mono, sas_life: Duration, seed: u64) -> Self {
        Self {
            phase: Phase::Down { until: now },
            backoff: Backoff::new(seed),
            random: fastrand::Rng::with_seed(seed.wrapping_add(2)),
            sas_life: sas_life.max(LEAST_SAS_LIFE),
            token: (now, 0.8),
            twin: TwinSync::new(seed.wrapping_add(3)),
            calls: Calls::default(),
            window: Window::default(),
            heard: now,
        }
    }

    /// How long a token lives.
    #[must_use]
    pub fn sas_life(&self) -> Duration {
        self.sas_life
    }

    /// Whether orders are taken; while this is false they wait in their channel.
    #[must_use]
    pub fn takes_orders(&self) -> bool {
        !self.window.is_full()
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// Takes in what happened, and says what to do, in this order.
    pub fn handle(&mut self, now: Mono, input: Input<'_>) -> Vec<Action> {
        let mut out = Vec::new();
        if self.stopped() {
            return out;
        }
        match input {
            Input::Tick => {}
            Input::Order(order) => self.order(now, order, &mut out),
            Input::Lost(error) => self.fail(now, &error, &mut out),
            packet => {
                self.heard = now;
                self.packet(now, packet, &mut out);
            }
        }
        self.advance(now, &mut out);
        out
    }

    /// When the next [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match self.phase {
            Phase::Stopped => None,
            Phase::Down { until }
            | Phase::Connecting { until, .. }
            | Phase::Subscribing { until }
            | Phase::Draining { until } => Some(until),
            Phase::GettingTwin | Phase::Ready => {
                let oldest = self.window.oldest().map(|sent| sent.after(PUBACK));
                [oldest, self.twin.deadline(), Some(self.heard.after(SILENCE)), Some(self.renewal())]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }

    fn order(&mut self, now: Mono, order: ToHub, out: &mut Vec<Action>) {
        match order {
            ToHub::Send(message) => {
                if self.phase == Phase::Ready {
                    self.window.take(message);
                }
            }
            ToHub::Report(wanted) => self.twin.want(wanted),
            ToHub::Answer(answer) => out.extend(self.calls.go(answer).map(Action::Answer)),
            ToHub::Stop => match self.phase {
                Phase::Ready => self.phase = Phase::Draining { until: now.after(DRAIN) },
                Phase::Draining { .. } | Phase::Stopped => {}
                Phase::Down { .. } | Phase::Connecting { .. } => self.stop(now, Action::Close, out),
                Phase::Subscribing { .. } | Phase::GettingTwin => self.stop(now, Action::Disconnect, out),
            },
        }
    }

    fn packet(&mut self, now: Mono, packet: Input<'_>, out: &mut Vec<Action>) {
        match (self.phase, packet) {
            (Phase::Connecting { .. }, Input::Dialled) => {
                self.phase = Phase::Connecting { until: now.after(CONNACK), what: Wait::ConnAck };
            }
            (Phase::Connecting { .. }, Input::Connected) => {
                self.backoff.up(now);
                self.phase = Phase::Subscribing { until: now.after(SUBACK) };
                out.push(Action::Subscribe);
            }
            (Phase::Subscribing { .. }, Input::Subscribed) => {
                self.twin.connected(now);
                self.phase = Phase::GettingTwin;
            }
            (
                Phase::Subscribing { .. } | Phase::GettingTwin | Phase::Ready | Phase::Draining { .. },
                Input::Publish { topic, payload },
            ) => self.published(now, topic, payload, out),
            // Only what is in flight can be acknowledged, and only a ready link has something in flight.
            (_, Input::Acknowledged(id)) if self.window.settle(id) => out.push(Action::Event(FromHub::Delivered(id))),
            (_, Input::Unsendable(id, why)) if self.window.settle(id) => {
                out.push(Action::Event(FromHub::Undeliverable { id, why }));
            }
            _ => {}
        }
    }

    fn published(&mut self, now: Mono, topic: Incoming, payload: &[u8], out: &mut Vec<Action>) {
        let mut actions = Vec::new();
        match topic {
            Incoming::Method { name, rid } => match self.calls.come(name, rid, payload) {
                Some(Ok(call)) => out.push(Action::Event(FromHub::Called(call))),
                Some(Err(answer)) => out.push(Action::Answer(answer)),
                None => {}
            },
            // The GET that follows the subscription tells the same.
            _ if matches!(self.phase, Phase::Subscribing { .. }) => {}
            Incoming::TwinAnswer { status, rid } => self.twin.answer(now, rid, status, payload, &mut actions),
            Incoming::Desired { version } => self.twin.notice(now, payload, version),
        }
        out.extend(actions.into_iter().map(Action::from));
    }

    /// Does everything that is due.
    fn advance(&mut self, now: Mono, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Down { until } if now >= until => self.dial(now, out),
            Phase::Connecting { until, what } if now >= until => self.late(now, what, CONNACK, out),
            Phase::Subscribing { until } if now >= until => self.late(now, Wait::SubAck, SUBACK, out),
            Phase::Stopped | Phase::Down { .. } | Phase::Connecting { .. } | Phase::Subscribing { .. } => {}
            Phase::GettingTwin | Phase::Ready => self.advance_link(now, out),
            Phase::Draining { until } => {
                self.fill_window(now, out);
                self.advance_twin(now, true, out);
                if self.window.is_empty() && self.twin.settled() || now >= until {
                    self.stop(now, Action::Disconnect, out);
                }
            }
        }
    }

    fn advance_link(&mut self, now: Mono, out: &mut Vec<Action>) {
        if now.since(self.heard) >= SILENCE {
            return self.late(now, Wait::AnyPacket, SILENCE, out);
        }
        if self.window.oldest().is_some_and(|sent| now.since(sent) >= PUBACK) {
            return self.late(now, Wait::PubAck, PUBACK, out);
        }
        self.advance_twin(now, false, out);
        if self.phase == Phase::GettingTwin && self.twin.tried() {
            self.phase = Phase::Ready;
            out.push(Action::Event(FromHub::State(LinkState::Ready)));
        }
        if now >= self.renewal() {
            self.renew(now, out);
        } else if now < self.renewal_wanted() {
            self.fill_window(now, out);
        }
    }

    fn advance_twin(&mut self, now: Mono, last_words: bool, out: &mut Vec<Action>) {
        let mut actions = Vec::new();
        self.twin.tick(now, last_words, &mut actions);
        out.extend(actions.into_iter().map(Action::from));
    }

    fn fill_window(&mut self, now: Mono, out: &mut Vec<Action>) {
        while let Some(message) = self.window.next(now) {
            out.push(Action::Publish(message));
        }
    }

    fn dial(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.token = (now, 0.8 + 0.05 * self.random.f64());
        self.heard = now;
        self.phase = Phase::Connecting { until: now.after(DIAL), what: Wait::Tcp };
        out.push(Action::Event(FromHub::State(LinkState::Connecting)));
        out.push(Action::Dial);
    }

    /// From here on nothing new is sent, so that the quiet moment comes.
    fn renewal_wanted(&self) -> Mono {
        let (made, share) = self.token;
        made.after(self.sas_life.mul_f64(share))
    }

    /// When to sign in with a new token: later if something is under way, but not too late.
    fn renewal(&self) -> Mono {
        if self.window.quiet() && self.twin.quiet() && self.calls.quiet() {
            self.renewal_wanted()
        } else {
            self.token.0.after(self.sas_life.mul_f64(0.95))
        }
    }

    fn renew(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.backoff.renewed(now);
        self.forget(now, out);
        out.push(Action::Disconnect);
        out.push(Action::Event(FromHub::State(LinkState::Down {
            error: "signing in again with a new token".to_owned(),
            retry_in: Duration::ZERO,
            permanent_hint: false,
        })));
        self.dial(now, out);
    }

    fn late(&mut self, now: Mono, what: Wait, limit: Duration, out: &mut Vec<Action>) {
        let seconds = if what == Wait::Tcp { DIAL.as_secs() } else { limit.as_secs() };
        self.fail(now, &LinkError::Timeout { what, seconds }, out);
    }

    fn fail(&mut self, now: Mono, error: &LinkError, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Down { .. } | Phase::Stopped => return,
            Phase::Draining { .. } => return self.stop(now, Action::Close, out),
            Phase::Connecting { .. } | Phase::Subscribing { .. } | Phase::GettingTwin | Phase::Ready => {}
        }
        self.forget(now, out);
        let retry_in = self.backoff.down(now, error.lane());
        self.phase = Phase::Down { until: now.after(retry_in) };
        out.push(Action::Close);
        out.push(Action::Event(FromHub::State(LinkState::Down {
            error: error.to_string(),
            retry_in,
            permanent_hint: !error.is_retryable(),
        })));
    }

    fn stop(&mut self, now: Mono, how: Action, out: &mut Vec<Action>) {
        self.forget(now, out);
        self.phase = Phase::Stopped;
        out.push(how);
        out.push(Action::Event(FromHub::State(LinkState::Stopped)));
    }

    fn forget(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.window.clear();
        self.calls.forget();
        let mut actions = Vec::new();
        self.twin.disconnected(now, &mut actions);
        out.extend(actions.into_iter().map(Action::from));
    }
}

impl From<TwinAction> for Action {
    fn from(action: TwinAction) -> Self {
        match action {
            TwinAction::Get { rid } => Self::GetTwin { rid },
            TwinAction::Report { rid, patch } => Self::Report { rid, patch },
            TwinAction::Event(event) => Self::Event(event),
        }
    }
}

#[cfg(test)]
mod tests;
