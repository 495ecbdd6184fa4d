//! Keeps the twin document and the reported properties in step with the hub: pure, one request at a time.
//!
//! * GET on every connection, after a missed notice, and a few seconds after a change (a replaced document does not
//!   say what is gone).
//! * Of changes in a burst the first is announced at once and the last half a second later, whole; what was between
//!   them need never be in force.
//! * Reports are differences against the hub's reported section, so the GET comes first.
//! * Answers are matched by `$rid`, a number that is never used twice in the life of the process; each request expires.

use std::time::Duration;

use serde_json::{Map, Value};

use super::backoff::RequestBackoff;
use super::reported;
use super::traffic::FromHub;
use super::twin::{Step, TwinDocument};
use crate::model::time::Mono;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// How long messages wait for the first answer of a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after a change the twin is asked for, to learn what a replacement removed.
const CONFIRM: Duration = Duration::from_secs(5);
/// Least time between two announcements on one connection: a storm of notices must not become one of configurations,
/// each of which is a write to flash.
const BETWEEN_ANNOUNCEMENTS: Duration = Duration::from_millis(500);
/// Least time between two GETs, whatever the hub sends.
const BETWEEN_GETS: Duration = Duration::from_secs(5);
/// Longest piece of an error body that is passed on.
const MAX_DETAIL: usize = 200;

/// What to do on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TwinAction {
    Get { rid: u32 },
    Report { rid: u32, patch: String },
    Event(FromHub),
}

#[derive(Debug)]
enum Request {
    Get,
    Report(Map<String, Value>),
}

#[derive(Debug)]
struct Pending {
    rid: u32,
    until: Mono,
    request: Request,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts; as one enum they would have 32 states")]
pub(super) struct TwinSync {
    document: TwinDocument,
    next_rid: u32,
    connected: bool,
    /// The first GET of this connection was answered, failed once, or took too long: messages need not wait for it any
    /// longer.
    tried: bool,
    /// When the first GET of this connection takes too long for them.
    patience_until: Option<Mono>,
    pending: Option<Pending>,
    get_at: Option<Mono>,
    last_get: Option<Mono>,
    get_backoff: RequestBackoff,
    /// The reported section in `document` is the hub's.
    fresh: bool,
    /// The document differs from what was announced, or nothing was announced on this connection.
    unannounced: bool,
    /// When a change that came soon after another is announced.
    announce_at: Option<Mono>,
    last_announced: Option<Mono>,
    wanted: Option<Map<String, Value>>,
    /// `wanted` may differ from the hub's side.
    dirty: bool,
    report_at: Option<Mono>,
    report_backoff: RequestBackoff,
}

impl TwinSync {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            document: TwinDocument::default(),
            next_rid: 1,
            connected: false,
            tried: false,
            patience_until: None,
            pending: None,
            get_at: None,
            last_get: None,
            get_backoff: RequestBackoff::new(seed),
            fresh: false,
            unannounced: true,
            announce_at: None,
            last_announced: None,
            wanted: None,
            dirty: false,
            report_at: None,
            report_backoff: RequestBackoff::new(seed.wrapping_add(1)),
        }
    }

    /// The link is subscribed.
    pub(super) fn connected(&mut self, now: Mono) {
        self.connected = true;
        self.tried = false;
        self.patience_until = Some(now.after(PATIENCE));
        self.fresh = false;
        self.unannounced = true;
        self.last_announced = None;
        self.last_get = None;
        self.get_at = Some(now);
        self.report_at = None;
    }

    /// The link is gone. What it told and was not yet announced is announced now.
    pub(super) fn disconnected(&mut self, now: Mono, out: &mut Vec<TwinAction>) {
        if self.announce_at.is_some() {
            self.announce_now(now, out);
        }
        self.connected = false;
        self.pending = None;
        self.document.forget_waiting();
    }

    pub(super) fn want(&mut self, wanted: Map<String, Value>) {
        self.wanted = Some(wanted);
        self.dirty = true;
    }

    pub(super) fn tried(&self) -> bool {
        self.tried
    }

    /// No request is under way.
    pub(super) fn quiet(&self) -> bool {
        self.pending.is_none()
    }

    /// Nothing is left to report that could be reported.
    pub(super) fn settled(&self) -> bool {
        let under_way = matches!(self.pending, Some(Pending { request: Request::Report(_), .. }));
        !(under_way || self.dirty && self.fresh && self.wanted.is_some())
    }

    pub(super) fn answer(&mut self, now: Mono, rid: u32, status: u16, payload: &[u8], out: &mut Vec<TwinAction>) {
        // A late or foreign answer says nothing.
        let Some(pending) = self.pending.take_if(|p| p.rid == rid) else { return };
        match pending.request {
            Request::Get => self.got(now, status, payload, out),
            Request::Report(patch) => self.reported(now, status, payload, &patch, out),
        }
    }

    pub(super) fn notice(&mut self, now: Mono, payload: &[u8], version: Option<u64>, out: &mut Vec<TwinAction>) {
        match self.document.notice(payload, version) {
            Ok(Step::Same) => {}
            Ok(Step::Changed | Step::Patched) => self.patched(now, out),
            Ok(Step::Ask) => self.ask_by(now),
            Err(problem) => {
                out.push(TwinAction::Event(FromHub::TwinUnreadable(problem.to_string())));
                self.ask_by(now);
            }
        }
    }

    /// Lets time pass. `last_words`: the link is about to end, only reports matter.
    pub(super) fn tick(&mut self, now: Mono, last_words: bool, out: &mut Vec<TwinAction>) {
        if !self.connected {
            return;
        }
        self.tried |= self.patience_until.is_some_and(|at| now >= at);
        if self.announce_at.is_some_and(|at| now >= at) {
            self.announce_now(now, out);
        }
        if let Some(pending) = self.pending.take_if(|p| now >= p.until) {
            let late = format!("no answer within {} s", ANSWER.as_secs());
            match pending.request {
                Request::Get => self.get_failed(now, FromHub::TwinUnavailable(format!("twin GET: {late}")), out),
                Request::Report(_) => self.report_failed(now, 0, late, out),
            }
        }
        if self.pending.is_some() {
            return;
        }
        if !last_words && self.get_at.is_some_and(|at| now >= at) {
            self.get_at = None;
            self.last_get = Some(now);
            self.document.asking();
            let rid = self.start(now, Request::Get);
            out.push(TwinAction::Get { rid });
            return;
        }
        self.report(now, out);
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        if !self.connected {
            return None;
        }
        let patience = self.patience_until.filter(|_| !self.tried);
        let request = if let Some(pending) = &self.pending {
            Some(pending.until)
        } else {
            let report = self.report_at.filter(|_| self.dirty && self.fresh && self.wanted.is_some());
            [self.get_at, report].into_iter().flatten().min()
        };
        [patience, self.announce_at, request].into_iter().flatten().min()
    }

    fn start(&mut self, now: Mono, request: Request) -> u32 {
        let rid = self.next_rid;
        self.next_rid = self.next_rid.wrapping_add(1);
        self.pending = Some(Pending { rid, until: now.after(ANSWER), request });
        rid
    }

    fn ask_by(&mut self, at: Mono) {
        let at = self.last_get.map_or(at, |last| at.max(last.after(BETWEEN_GETS)));
        self.get_at = Some(self.get_at.map_or(at, |planned| planned.min(at)));
    }

    /// A notice changed the document.
    fn patched(&mut self, now: Mono, out: &mut Vec<TwinAction>) {
        self.announce(now, out);
        self.ask_by(now.after(CONFIRM));
    }

    fn announce(&mut self, now: Mono, out: &mut Vec<TwinAction>) {
        match self.last_announced.map(|last| last.after(BETWEEN_ANNOUNCEMENTS)) {
            Some(at) if now < at => self.announce_at = Some(at),
            _ => self.announce_now(now, out),
        }
    }

    fn announce_now(&mut self, now: Mono, out: &mut Vec<TwinAction>) {
        self.announce_at = None;
        if let Some(version) = self.document.version() {
            self.unannounced = false;
            self.last_announced = Some(now);
            let section = self.document.desired().clone();
            out.push(TwinAction::Event(FromHub::Desired { section, version }));
        }
    }

    fn got(&mut self, now: Mono, status: u16, payload: &[u8], out: &mut Vec<TwinAction>) {
        if status != 200 {
            let why = format!("twin GET: status {status} {}", detail(payload));
            return self.get_failed(now, FromHub::TwinUnavailable(why), out);
        }
        match self.document.answer(payload) {
            Ok(step) => {
                self.tried = true;
                self.get_backoff.worked();
                self.fresh = true;
                self.dirty = true;
                match step {
                    Step::Ask => {
                        self.unannounced = true;
                        self.ask_by(now);
                    }
                    Step::Patched => self.patched(now, out),
                    Step::Changed => self.announce(now, out),
                    Step::Same if self.unannounced => self.announce(now, out),
                    Step::Same => {}
                }
            }
            Err(problem) => {
                self.unannounced = true;
                self.get_failed(now, FromHub::TwinUnreadable(problem.to_string()), out);
            }
        }
    }

    fn get_failed(&mut self, now: Mono, news: FromHub, out: &mut Vec<TwinAction>) {
        self.tried = true;
        out.push(TwinAction::Event(news));
        if self.document.give_up() == Step::Patched {
            self.announce(now, out);
        }
        self.get_at = Some(now.after(self.get_backoff.failed()));
    }

    fn report(&mut self, now: Mono, out: &mut Vec<TwinAction>) {
        if !self.dirty || !self.fresh || self.report_at.is_some_and(|at| now < at) {
            return;
        }
        self.report_at = None;
        self.dirty = false;
        let Some(wanted) = &self.wanted else { return };
        let theirs = self.document.reported();
        let patch = reported::patch(&reported::fit(wanted.clone(), theirs), theirs);
        if patch.is_empty() {
            return;
        }
        let text = Value::Object(patch.clone()).to_string();
        let rid = self.start(now, Request::Report(patch));
        out.push(TwinAction::Report { rid, patch: text });
    }

    fn reported(
        &mut self,
        now: Mono,
        status: u16,
        payload: &[u8],
        patch: &Map<String, Value>,
        out: &mut Vec<TwinAction>,
    ) {
        match status {
            200 | 204 => {
                self.report_backoff.worked();
                self.document.reported_was_patched(patch);
                out.push(TwinAction::Event(FromHub::Reported { ok: true, status, detail: String::new() }));
            }
            // The same again would be refused again. Something newer may have been wanted meanwhile.
            400 | 413 => {
                if !self.dirty {
                    self.wanted = None;
                }
                out.push(TwinAction::Event(FromHub::Reported { ok: false, status, detail: detail(payload) }));
            }
            _ => self.report_failed(now, status, detail(payload), out),
        }
    }

    fn report_failed(&mut self, now: Mono, status: u16, detail: String, out: &mut Vec<TwinAction>) {
        out.push(TwinAction::Event(FromHub::Reported { ok: false, status, detail }));
        self.dirty = true;
        let at = now.after(self.report_backoff.failed());
        self.report_at = Some(at);
        if status != 429 {
            // Nobody knows whether it was taken, or the versions moved: look before the next one.
            self.fresh = false;
            self.ask_by(at);
        }
    }
}

/// An error body as one short line.
fn detail(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload.get(..MAX_DETAIL).unwrap_or(payload));
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
