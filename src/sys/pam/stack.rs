//! Whether a stack lets somebody in who gives a wrong password, or whom nobody knows: every way through it is walked,
//! as the library of PAM would (its states are: nothing counted yet, a success, a failure).

use super::{Action, Rule};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Nothing,
    Success,
    Failure,
}

const STATES: [State; 3] = [State::Nothing, State::Success, State::Failure];

/// What a module may say to somebody with a wrong password.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Success,
    /// That it has nothing to say.
    Ignore,
    Failure,
}

/// Modules that always say yes.
const YES: [&str; 1] = ["pam_permit.so"];
/// Modules that ask for no password and may say yes or nothing, whoever it is.
const EITHER: &[&str] = &[
    "pam_access.so",
    "pam_cap.so",
    "pam_debug.so",
    "pam_echo.so",
    "pam_env.so",
    "pam_exec.so",
    "pam_faildelay.so",
    "pam_faillock.so",
    "pam_ftp.so",
    "pam_group.so",
    "pam_issue.so",
    "pam_keyinit.so",
    "pam_lastlog.so",
    "pam_limits.so",
    "pam_listfile.so",
    "pam_localuser.so",
    "pam_mail.so",
    "pam_motd.so",
    "pam_nologin.so",
    "pam_securetty.so",
    "pam_shells.so",
    "pam_succeed_if.so",
    "pam_tally.so",
    "pam_tally2.so",
    "pam_time.so",
    "pam_tty_audit.so",
    "pam_umask.so",
    "pam_usertype.so",
    "pam_warn.so",
    "pam_wheel.so",
];

/// Whether there is a way to success without a right password, for a known (`known`) or an unknown name.
#[must_use]
pub fn lets_in(rules: &[Rule], known: bool) -> bool {
    // For each line, in which states it can be reached; the last place is the end.
    let mut reached = vec![[false; 3]; rules.len() + 1];
    mark(&mut reached, 0, State::Nothing);
    for (at, rule) in rules.iter().enumerate() {
        let states = reached.get(at).copied().unwrap_or_default();
        for state in STATES.into_iter().zip(states).filter_map(|(state, here)| here.then_some(state)) {
            for answer in answers(&rule.module) {
                let (next, state) = step(rules, at, rule, *answer, known, state);
                mark(&mut reached, next, state);
            }
        }
    }
    reached.last().is_some_and(|[_, success, _]| *success)
}

fn mark(reached: &mut [[bool; 3]], at: usize, state: State) {
    if let Some(here) = reached.get_mut(at).and_then(|states| states.get_mut(state as usize)) {
        *here = true;
    }
}

fn answers(module: &str) -> &'static [Answer] {
    if YES.contains(&module) {
        &[Answer::Success]
    } else if EITHER.contains(&module) {
        &[Answer::Success, Answer::Ignore, Answer::Failure]
    } else {
        &[Answer::Failure]
    }
}

/// Where it goes on, and in what state.
fn step(rules: &[Rule], at: usize, rule: &Rule, answer: Answer, known: bool, state: State) -> (usize, State) {
    let action = match answer {
        Answer::Success => rule.control.success,
        Answer::Ignore => rule.control.nothing,
        Answer::Failure if known => rule.control.wrong,
        Answer::Failure => rule.control.unknown,
    };
    let good = matches!(answer, Answer::Success);
    // The first thing that counts decides; a failure stays one. That a failing module counts as `ok` does not make it
    // content.
    let counted = match (state, answer) {
        (_, Answer::Ignore) => state,
        (State::Failure, _) | (_, Answer::Failure) => State::Failure,
        (_, Answer::Success) => State::Success,
    };
    match action {
        Action::Ignore => (at + 1, state),
        Action::Done if counted == State::Success => (end_of_part(rules, at), counted),
        Action::Ok | Action::Done => (at + 1, counted),
        Action::Bad => (at + 1, State::Failure),
        Action::Die => (end_of_part(rules, at), State::Failure),
        Action::Reset => (at + 1, State::Nothing),
        Action::Jump(lines) => {
            let state = if good && state == State::Nothing { State::Success } else { state };
            skipped(rules, at, rule, lines).map_or_else(|| (end_of_part(rules, at), State::Failure), |to| (to, state))
        }
    }
}

/// The first line after the part that a line is in.
fn end_of_part(rules: &[Rule], at: usize) -> usize {
    let level = rules.get(at).map_or(0, |rule| rule.level);
    let part = rules.get(at).map_or(0, |rule| rule.part);
    let rest = rules.iter().enumerate().skip(at + 1);
    let mut outside = rest.filter(|(_, rule)| rule.level < level || (rule.level == level && rule.part != part));
    outside.next().map_or(rules.len(), |(at, _)| at)
}

/// The line after so many of the same part; a part within counts as one. `None` if there are not so many.
fn skipped(rules: &[Rule], at: usize, from: &Rule, lines: usize) -> Option<usize> {
    let end = end_of_part(rules, at);
    let (mut next, mut left) = (at + 1, lines);
    while left > 0 {
        let rule = rules.get(next).filter(|_| next < end)?;
        next += 1;
        if rule.level > from.level {
            while rules.get(next).is_some_and(|inner| inner.level > from.level && inner.part >= rule.part) && next < end
            {
                next += 1;
            }
        }
        left -= 1;
    }
    Some(next)
}
