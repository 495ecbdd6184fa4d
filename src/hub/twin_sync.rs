//! Keeps the twin document and the reported properties in step with the hub: pure, one GET and one report at a time.
//!
//! * GET on every connection, and after each notice: a notice does not say what a replacement removed, so what it gives
//!   is announced when the answer has shown the whole. If that takes too long, what was merged is announced, and the
//!   answer corrects it (docs/decisions/0011-desired-confirmed-by-get.md).
//! * So changes in a burst become one, and what was between them need never be in force.
//! * Reports are differences against the hub's reported section, so the first GET comes before them.
//! * Answers are matched by `$rid`, a number that is never used twice in the life of the process; each request expires.

use std::time::Duration;

use serde_json::{Map, Value};

use super::pace::Pace;
use super::report_sync::{ReportSync, Verdict};
use super::traffic::FromHub;
use super::twin::{Answered, Step, TwinDocument, TwinProblem};
use crate::model::time::Mono;

/// How long an answer to a GET may take.
const ANSWER: Duration = Duration::from_secs(60);
/// How long messages wait for the first answer of a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a change waits for the answer that shows the whole: a change shall be in force within a second.
const WHOLE: Duration = Duration::from_millis(750);
/// Least time from an announcement to one that no answer has confirmed: a storm of notices must not become one of
/// configurations, each of which is a write to flash. Answers have a pace of their own.
const BETWEEN_ANNOUNCEMENTS: Duration = Duration::from_millis(500);
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
struct Get {
    rid: u32,
    sent: Mono,
}

#[derive(Debug)]
pub(super) struct TwinSync {
    document: TwinDocument,
    next_rid: u32,
    connected: bool,
    /// The first GET of this connection was answered, failed once, or took too long: messages need not wait for it any
    /// longer.
    tried: bool,
    /// When the first GET of this connection takes too long for them.
    patience_until: Option<Mono>,
    get: Option<Get>,
    get_at: Option<Mono>,
    pace: Pace,
    /// The document is not what was announced last, or nothing was announced on this connection.
    unannounced: bool,
    /// When it is announced even if no answer has shown the whole.
    announce_at: Option<Mono>,
    last_announced: Option<Mono>,
    /// A notice that cannot be read came, and no answer has shown yet what it said.
    unread: Option<TwinProblem>,
    report: ReportSync,
}

impl TwinSync {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            document: TwinDocument::default(),
            next_rid: 1,
            connected: false,
            tried: false,
            patience_until: None,
            get: None,
            get_at: None,
            pace: Pace::new(seed),
            unannounced: true,
            announce_at: None,
            last_announced: None,
            unread: None,
            report: ReportSync::new(seed.wrapping_add(1)),
        }
    }

    /// The link is subscribed.
    pub(super) fn connected(&mut self, now: Mono) {
        self.connected = true;
        self.tried = false;
        self.patience_until = Some(now.after(PATIENCE));
        self.unannounced = true;
        self.get_at = Some(now);
    }

    /// The link is gone. What it told and was not yet announced is announced now.
    pub(super) fn disconnected(&mut self, now: Mono, out: &mut Vec<TwinAction>) {
        if self.announce_at.is_some() {
            self.announce(now, out);
        }
        self.connected = false;
        self.get = None;
        self.unread = None;
        self.document.disconnected();
        self.report.disconnected();
    }

    pub(super) fn want(&mut self, wanted: Map<String, Value>) {
        self.report.want(wanted);
    }

    pub(super) fn tried(&self) -> bool {
        self.tried
    }

    /// No request is under way.
    pub(super) fn quiet(&self) -> bool {
        self.get.is_none() && !self.report.under_way()
    }

    /// Nothing is left to report that could be reported.
    pub(super) fn settled(&self) -> bool {
        self.report.settled()
    }

    pub(super) fn answer(&mut self, now: Mono, rid: u32, status: u16, payload: &[u8], out: &mut Vec<TwinAction>) {
        if self.get.take_if(|get| get.rid == rid).is_some() {
            self.got(now, status, payload, out);
        } else if let Some(verdict) = self.report.answer(now, rid, status) {
            let detail = if verdict == Verdict::Taken { String::new() } else { detail(payload) };
            self.reported(verdict, status, detail, out);
        }
        // Else it is late or foreign, and says nothing.
    }

    pub(super) fn notice(&mut self, now: Mono, payload: &[u8], version: Option<u64>) {
        match self.document.notice(payload, version) {
            Ok(step) => {
                if step.changed {
                    self.unannounced = true;
                    self.announce_soon(now);
                }
                if step.ask {
                    self.ask(now);
                }
            }
            Err(problem) => {
                self.unread = Some(problem);
                self.ask(now);
            }
        }
    }

    /// Lets time pass. `last_words`: the link is about to end, only reports matter.
    pub(super) fn tick(&mut self, now: Mono, last_words: bool, out: &mut Vec<TwinAction>) {
        if !self.connected {
            return;
        }
        self.tried |= self.patience_until.is_some_and(|at| now >= at);
        if self.get.take_if(|get| now >= get.sent.after(ANSWER)).is_some() {
            self.document.gave_up();
            let late = format!("twin GET: no answer within {} s", ANSWER.as_secs());
            self.get_failed(now, Some(late), out);
        }
        if let Some((verdict, late)) = self.report.late(now) {
            self.reported(verdict, 0, late, out);
        }
        if self.announce_at.is_some_and(|at| now >= at) {
            self.announce(now, out);
        }
        if !last_words && self.get.is_none() && self.get_at.is_some_and(|at| now >= at) {
            self.get_at = None;
            self.pace.sent(now);
            self.document.asking();
            self.report.asking();
            let rid = self.take_rid();
            self.get = Some(Get { rid, sent: now });
            out.push(TwinAction::Get { rid });
        }
        if let Some(patch) = self.report.tick(now, self.next_rid) {
            out.push(TwinAction::Report { rid: self.take_rid(), patch });
        }
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        if !self.connected {
            return None;
        }
        let patience = self.patience_until.filter(|_| !self.tried);
        let get = self.get.as_ref().map_or(self.get_at, |get| Some(get.sent.after(ANSWER)));
        [patience, self.announce_at, get, self.report.deadline()].into_iter().flatten().min()
    }

    fn take_rid(&mut self) -> u32 {
        let rid = self.next_rid;
        self.next_rid = self.next_rid.wrapping_add(1);
        rid
    }

    /// Asks for the twin as soon as may be, but not before `at`.
    fn ask(&mut self, at: Mono) {
        let at = self.pace.next(at);
        self.get_at = Some(self.get_at.map_or(at, |planned| planned.min(at)));
    }

    /// The document changed by a notice: sees to it that it is announced, with the answer that shows the whole if that
    /// can come in time.
    fn announce_soon(&mut self, now: Mono) {
        let in_time = now.after(WHOLE);
        let answer_may_come = match &self.get {
            Some(get) => now < get.sent.after(WHOLE),
            None => self.pace.next(now) < in_time,
        };
        let at = if answer_may_come { in_time } else { self.earliest_announcement(now) };
        // It is the first of the changes that waits the longest.
        self.announce_at = Some(self.announce_at.map_or(at, |planned| planned.min(at)));
    }

    fn earliest_announcement(&self, now: Mono) -> Mono {
        self.last_announced.map_or(now, |last| now.max(last.after(BETWEEN_ANNOUNCEMENTS)))
    }

    fn announce(&mut self, now: Mono, out: &mut Vec<TwinAction>) {
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
            self.document.gave_up();
            return self.get_failed(now, Some(format!("twin GET: status {status} {}", detail(payload))), out);
        }
        let Answered { desired, reported } = self.document.answer(payload);
        let reported = reported.map(|theirs| self.report.answered(theirs));
        match desired {
            Ok(step) => self.took(now, step, out),
            Err(problem) => {
                self.unread = Some(problem);
                return self.get_failed(now, None, out);
            }
        }
        match reported {
            Ok(()) => {
                self.tried = true;
                self.pace.worked();
            }
            // There is no report that could tell it.
            Err(problem) => self.get_failed(now, Some(format!("twin GET: nothing can be reported: {problem}")), out),
        }
    }

    /// An answer was taken into the document.
    fn took(&mut self, now: Mono, step: Step, out: &mut Vec<TwinAction>) {
        self.unannounced |= step.changed;
        if step.ask {
            if self.unannounced {
                self.announce_soon(now);
            }
            return self.ask(now);
        }
        if self.report.knows() {
            // Else a report has failed meanwhile, and another look is planned.
            self.get_at = None;
        }
        self.announce_at = None;
        self.unread = None;
        if self.unannounced {
            self.announce(now, out);
        }
    }

    fn get_failed(&mut self, now: Mono, why: Option<String>, out: &mut Vec<TwinAction>) {
        self.tried = true;
        out.extend(why.map(|why| TwinAction::Event(FromHub::TwinUnavailable(why))));
        if let Some(problem) = self.unread.take() {
            // The next good answer is announced even if it changes nothing: it says that all is well again.
            self.unannounced = true;
            out.push(TwinAction::Event(FromHub::TwinUnreadable(problem.to_string())));
        }
        if let Some(planned) = self.announce_at {
            self.announce_at = Some(planned.min(self.earliest_announcement(now)));
        }
        self.get_at = Some(self.pace.failed(now));
    }

    fn reported(&mut self, verdict: Verdict, status: u16, detail: String, out: &mut Vec<TwinAction>) {
        let ok = verdict == Verdict::Taken;
        out.push(TwinAction::Event(FromHub::Reported { ok, status, detail }));
        if let Verdict::Unknown(at) = verdict {
            self.ask(at);
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
