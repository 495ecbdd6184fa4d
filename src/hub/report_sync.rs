//! Keeps the reported section as it shall be: pure, one report at a time.
//!
//! A report is what differs from the hub's section, so that must be known first. What the hub put off (429, 5xx, no
//! answer) is tried again after growing pauses; what it refused for what it is (400, 413) is not, for it would be refused
//! again.
//!
//! A report and a request for the twin may be under way together. If the report is answered first, the other answer may
//! be from before it: then its reported section says nothing.

use std::time::Duration;

use serde_json::{Map, Value};

use super::backoff::RequestBackoff;
use super::reported;
use super::twin::merge;
use crate::model::time::Mono;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// What the hub said to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is taken.
    Taken,
    /// It will never be taken.
    Refused,
    /// It is tried again, and nothing has changed.
    PutOff,
    /// It is tried again at that time, and nobody knows what has changed: look first.
    Unknown(Mono),
}

/// See the top of this file.
#[derive(Debug)]
pub(super) struct ReportSync {
    wanted: Option<Map<String, Value>>,
    /// The hub's side, if it is known on this connection.
    theirs: Option<Map<String, Value>>,
    /// `wanted` may differ from it.
    dirty: bool,
    /// A report was answered since the twin was asked for.
    overtaken: bool,
    pending: Option<Pending>,
    /// A pause after a failure.
    not_before: Option<Mono>,
    backoff: RequestBackoff,
}

#[derive(Debug)]
struct Pending {
    rid: u32,
    until: Mono,
    patch: Map<String, Value>,
}

impl ReportSync {
    /// The seed makes pauses repeatable.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            wanted: None,
            theirs: None,
            dirty: false,
            overtaken: false,
            pending: None,
            not_before: None,
            backoff: RequestBackoff::new(seed),
        }
    }

    /// This is what the section shall be.
    pub(super) fn want(&mut self, wanted: Map<String, Value>) {
        self.wanted = Some(wanted);
        self.dirty = true;
    }

    /// The twin is asked for.
    pub(super) fn asking(&mut self) {
        self.overtaken = false;
    }

    /// The answer has this section.
    pub(super) fn answered(&mut self, theirs: Map<String, Value>) {
        if !self.overtaken {
            self.theirs = Some(theirs);
            self.dirty = true;
        }
    }

    /// Whether the hub's side is known.
    pub(super) fn knows(&self) -> bool {
        self.theirs.is_some()
    }

    /// The connection is gone, and a report that was under way with it.
    pub(super) fn disconnected(&mut self) {
        self.theirs = None;
        self.pending = None;
        self.not_before = None;
    }

    /// A report is under way.
    pub(super) fn under_way(&self) -> bool {
        self.pending.is_some()
    }

    /// Nothing is left to report that could be reported.
    pub(super) fn settled(&self) -> bool {
        !(self.under_way() || self.may_differ())
    }

    fn may_differ(&self) -> bool {
        self.dirty && self.knows() && self.wanted.is_some()
    }

    /// When [`Self::tick`] or [`Self::late`] has something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        match &self.pending {
            Some(pending) => Some(pending.until),
            None => self.not_before.filter(|_| self.may_differ()),
        }
    }

    /// The patch to send now as `rid`, if one is due.
    pub(super) fn tick(&mut self, now: Mono, rid: u32) -> Option<String> {
        if self.under_way() || !self.may_differ() || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let (wanted, theirs) = (self.wanted.as_ref()?, self.theirs.as_ref()?);
        let patch = reported::patch(&reported::fit(wanted.clone(), theirs), theirs);
        self.not_before = None;
        self.dirty = false;
        if patch.is_empty() {
            return None;
        }
        let text = Value::Object(patch.clone()).to_string();
        self.pending = Some(Pending { rid, until: now.after(ANSWER), patch });
        Some(text)
    }

    /// The answer with this `rid`; `None` if no report waits for it.
    pub(super) fn answer(&mut self, now: Mono, rid: u32, status: u16) -> Option<Verdict> {
        let Pending { patch, .. } = self.pending.take_if(|pending| pending.rid == rid)?;
        self.overtaken = true;
        Some(match status {
            200 | 204 => {
                self.backoff.worked();
                if let Some(theirs) = &mut self.theirs {
                    merge(theirs, patch);
                }
                Verdict::Taken
            }
            400 | 413 => {
                // Something newer may have been wanted meanwhile.
                if !self.dirty {
                    self.wanted = None;
                }
                Verdict::Refused
            }
            429 => {
                self.put_off(now);
                Verdict::PutOff
            }
            _ => self.unknown(now),
        })
    }

    /// What is to be said if the answer does not come.
    pub(super) fn late(&mut self, now: Mono) -> Option<(Verdict, String)> {
        self.pending.take_if(|pending| now >= pending.until)?;
        self.overtaken = true;
        Some((self.unknown(now), format!("no answer within {} s", ANSWER.as_secs())))
    }

    fn unknown(&mut self, now: Mono) -> Verdict {
        self.theirs = None;
        Verdict::Unknown(self.put_off(now))
    }

    fn put_off(&mut self, now: Mono) -> Mono {
        self.dirty = true;
        let at = now.after(self.backoff.failed());
        self.not_before = Some(at);
        at
    }
}
