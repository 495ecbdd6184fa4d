//! One event for each attempt, whoever tells of it.
//!
//! A wrong password over SSH stands in the journal, in auth.log and in btmp; a login at the console in wtmp and, in two
//! lines, in both logs. A *sighting* joins the attempt that it belongs to, or begins a new one. It belongs to an attempt
//! if it says the same outcome, contradicts nothing that is known of it (service, user, address, port, terminal, and the
//! process id where both mean the same process), has a process, user or terminal in common, is close enough in time, and
//! if its origin has not yet said this of the attempt in this form: a source that says the same thing twice means two
//! attempts. Of several the one with the same process id comes first, then the oldest.
//!
//! An attempt is told [`HOLD`] after its first sighting, so that most of what is known is in the event, and remembered
//! for some time, so that what is said later makes no second event.
//!
//! What an SSH client tries before a credential (names, keys) and how it hangs up after one are no attempts of their own
//! beside one: they join whatever happened on the connection. The same goes for PAM's word that a password did not fit
//! if the program lets the user in at once, for another module knew better.
//!
//! Everything is bounded: [`PENDING`] attempts that wait (the oldest is told early), [`REMEMBERED`] that were told.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sighting::{Act, Form, Origin, Said, Service, Sighting};
use crate::model::time::Mono;

/// How long an attempt waits for what others say about it. Less than the two seconds for which PAM holds up a caller
/// after a wrong password.
pub const HOLD: Duration = Duration::from_millis(1500);
/// How long one waits of which only a probe is known: the credential may follow.
pub const HOLD_PROBE: Duration = Duration::from_secs(10);
/// How far apart in time two sightings of one attempt may be.
pub const NEAR: Duration = Duration::from_secs(10);
/// The same, if the process id says that they belong together: longer than a client may take to sign in.
pub const NEAR_SAME_PROCESS: Duration = Duration::from_secs(150);
/// Attempts that wait, at most.
pub const PENDING: usize = 64;
/// Attempts that were told and are remembered, at most.
pub const REMEMBERED: usize = 1024;

/// What is known of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it happened.
    pub at: jiff::Timestamp,
    /// Whether that is known to the second only.
    pub coarse: bool,
    /// What is said of it, all sightings together.
    pub said: Said,
    /// Which origins said something in which form.
    seen: Vec<(Origin, Form)>,
}

impl Attempt {
    fn new(sighting: Sighting) -> Self {
        let Sighting { at, coarse, origin, said } = sighting;
        Self { at, coarse, seen: vec![(origin, said.form)], said }
    }

    /// The origins that told of it, the one that tells most first.
    pub fn origins(&self) -> impl Iterator<Item = Origin> {
        Origin::ALL.into_iter().filter(|origin| self.seen.iter().any(|(seen, _)| seen == origin))
    }

    fn has(&self, form: Form) -> bool {
        self.seen.iter().any(|(_, seen)| *seen == form)
    }

    /// Whether nothing but probes, or PAM's word, is known.
    fn is_only(&self, form: Form) -> bool {
        self.seen.iter().all(|(_, seen)| *seen == form)
    }

    /// Whether the sighting may belong to it.
    fn takes(&self, sighting: &Sighting) -> bool {
        let (ours, theirs) = (&self.said, &sighting.said);
        let apart = self.at.duration_since(sighting.at).unsigned_abs();
        let same_process = ours.pid.is_some() && ours.pid == theirs.pid;
        let same_user = ours.user.is_some() && same_name(ours, theirs);
        let same_terminal = ours.terminal.is_some() && ours.terminal == theirs.terminal;
        let both_pids = self.pid_is_common() && common_pid(theirs.form, sighting.origin, theirs.act);
        let contradiction = !ours.service.agrees(theirs.service)
            || (both_pids && conflict(ours.pid.as_ref(), theirs.pid.as_ref()))
            || conflict(ours.address.as_ref(), theirs.address.as_ref())
            || conflict(ours.port.as_ref(), theirs.port.as_ref())
            || conflict(ours.terminal.as_ref(), theirs.terminal.as_ref())
            || conflict(ours.uid.as_ref(), theirs.uid.as_ref())
            || (ours.user.is_some() && theirs.user.is_some() && !same_user);
        if contradiction || apart > if same_process { NEAR_SAME_PROCESS } else { NEAR } {
            return false;
        }
        if ours.act != theirs.act {
            return self.reconciles(sighting, same_process || same_user, apart);
        }
        let key = (sighting.origin, theirs.form);
        match theirs.form {
            Form::Probe => same_process,
            // How a connection ended belongs to what happened on it, or is all that is known.
            Form::Closing if theirs.act == Act::Fail => same_process,
            _ => (same_process || same_user || same_terminal) && !self.seen.contains(&key),
        }
    }

    /// Whether a refusal that says no more than that something was tried belongs to the success on the same process,
    /// whichever of the two comes first.
    fn reconciles(&self, sighting: &Sighting, same: bool, apart: Duration) -> bool {
        let theirs = &sighting.said;
        let pair = |form: Form| match form {
            Form::Probe => theirs.pid.is_some() && theirs.pid == self.said.pid,
            Form::Module => same && apart < HOLD,
            _ => false,
        };
        match (self.said.act, theirs.act) {
            (Act::Fail, Act::Success) => [Form::Probe, Form::Module].into_iter().any(|f| self.is_only(f) && pair(f)),
            // The other origins say again what this one said before the success.
            (Act::Success, Act::Fail) => {
                self.has(theirs.form) && !self.seen.contains(&(sighting.origin, theirs.form)) && pair(theirs.form)
                    || theirs.form == Form::Probe && pair(Form::Probe)
            }
            _ => false,
        }
    }

    /// Whether its process id is one that other sightings of the same thing would have too.
    fn pid_is_common(&self) -> bool {
        self.seen.iter().any(|(origin, form)| common_pid(*form, *origin, self.said.act))
    }

    fn join(&mut self, sighting: Sighting) {
        let Sighting { at, coarse, origin, said: theirs } = sighting;
        let key = (origin, theirs.form);
        if !self.seen.contains(&key) {
            self.seen.push(key);
        }
        if self.coarse && !coarse {
            (self.at, self.coarse) = (at, coarse);
        }
        let ours = &mut self.said;
        // The program's own word decides; a record has the process that came out of it.
        let own_word = matches!(theirs.form, Form::Verdict | Form::Session);
        ours.act = if theirs.act == Act::Success { Act::Success } else { ours.act };
        if ours.service == Service::Unknown {
            ours.service = theirs.service;
        }
        if own_word && theirs.pid.is_some() {
            ours.pid = theirs.pid;
        }
        prefer(&mut ours.user, theirs.user, own_word);
        prefer(&mut ours.method, theirs.method, own_word);
        prefer(&mut ours.executable, theirs.executable, own_word);
        prefer(&mut ours.pid, theirs.pid, false);
        prefer(&mut ours.uid, theirs.uid, false);
        prefer(&mut ours.other_user, theirs.other_user, false);
        prefer(&mut ours.address, theirs.address, false);
        prefer(&mut ours.host, theirs.host, false);
        prefer(&mut ours.port, theirs.port, false);
        prefer(&mut ours.terminal, theirs.terminal, false);
        ours.unverified &= theirs.unverified;
    }
}

/// Takes what is new, or better.
fn prefer<T>(ours: &mut Option<T>, theirs: Option<T>, better: bool) {
    if ours.is_none() || (better && theirs.is_some()) {
        *ours = theirs;
    }
}

fn conflict<T: PartialEq>(ours: Option<&T>, theirs: Option<&T>) -> bool {
    ours.is_some() && theirs.is_some() && ours != theirs
}

/// A record holds the first 32 bytes of a name.
fn same_name(ours: &Said, theirs: &Said) -> bool {
    let (Some(a), Some(b)) = (&ours.user, &theirs.user) else { return false };
    a == b || (a.len().min(b.len()) >= 32 && (a.starts_with(b.as_str()) || b.starts_with(a.as_str())))
}

/// A session's record names the process of the session, and ends are told by several: those ids are none in common.
fn common_pid(form: Form, origin: Origin, act: Act) -> bool {
    act != Act::Logout && !(form == Form::Record && origin == Origin::Wtmp)
}

/// An attempt that waits.
#[derive(Clone, Debug)]
struct Waiting {
    attempt: Attempt,
    due: Mono,
}

/// What outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Attempts that were not yet told, the oldest first.
    pub pending: Vec<Attempt>,
    /// The newest of those that were told.
    pub told: Vec<Attempt>,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Correlator {
    waiting: VecDeque<Waiting>,
    told: VecDeque<Attempt>,
}

impl Correlator {
    /// Goes on where another one ended.
    #[must_use]
    pub fn resume(memory: Memory, now: Mono) -> Self {
        let due = now.after(HOLD);
        let waiting = memory.pending.into_iter().take(PENDING).map(|attempt| Waiting { attempt, due }).collect();
        Self { waiting, told: memory.told.into_iter().take(REMEMBERED).collect() }
    }

    /// What another one needs to go on: all that waits, and the newest `limit` of what was told.
    #[must_use]
    pub fn memory(&self, limit: usize) -> Memory {
        let skip = self.told.len().saturating_sub(limit);
        Memory {
            pending: self.waiting.iter().map(|waiting| waiting.attempt.clone()).collect(),
            told: self.told.iter().skip(skip).cloned().collect(),
        }
    }

    /// Takes a sighting. Gives the oldest attempt if too many wait.
    pub fn see(&mut self, sighting: Sighting, now: Mono) -> Option<Attempt> {
        // One that was told cannot change any more: a success after a told refusal is an event of its own.
        let may_swallow = |told: &&mut Attempt| sighting.said.act != Act::Success || told.said.act == Act::Success;
        let waiting = self.waiting.iter_mut().map(|waiting| &mut waiting.attempt);
        // The oldest first: what is said late is said of the earlier one.
        if let Some(attempt) = best(self.told.iter_mut().filter(may_swallow).chain(waiting), &sighting) {
            attempt.join(sighting);
            self.hurry(now);
            return None;
        }
        let hold = if sighting.said.form == Form::Probe { HOLD_PROBE } else { HOLD };
        self.waiting.push_back(Waiting { attempt: Attempt::new(sighting), due: now.after(hold) });
        if self.waiting.len() <= PENDING { None } else { self.waiting.pop_front().map(|oldest| self.tell(oldest)) }
    }

    /// What was a probe and has become more need not wait for it any longer.
    fn hurry(&mut self, now: Mono) {
        for waiting in self.waiting.iter_mut().filter(|waiting| !waiting.attempt.is_only(Form::Probe)) {
            waiting.due = waiting.due.min(now.after(HOLD));
        }
    }

    /// The attempts that have waited long enough, the oldest first.
    pub fn due(&mut self, now: Mono) -> Vec<Attempt> {
        let (due, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| waiting.due <= now);
        self.waiting = rest;
        due.into_iter().map(|waiting| self.tell(waiting)).collect()
    }

    /// When [`Correlator::due`] has something to give.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        self.waiting.iter().map(|waiting| waiting.due).min()
    }

    fn tell(&mut self, waiting: Waiting) -> Attempt {
        if self.told.len() >= REMEMBERED {
            self.told.pop_front();
        }
        self.told.push_back(waiting.attempt.clone());
        waiting.attempt
    }
}

/// The attempt that the sighting belongs to.
fn best<'a>(attempts: impl Iterator<Item = &'a mut Attempt>, sighting: &Sighting) -> Option<&'a mut Attempt> {
    let pid = sighting.said.pid;
    let mut first = None;
    for attempt in attempts.filter(|attempt| attempt.takes(sighting)) {
        if pid.is_some() && attempt.said.pid == pid {
            return Some(attempt);
        }
        first = first.or(Some(attempt));
    }
    first
}

#[cfg(test)]
mod tests;
