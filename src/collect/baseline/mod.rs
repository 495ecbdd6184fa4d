//! OSBaseline: checks of how the machine is set up. The checks are data (`packaging/baseline`, `docs/baseline.md`); what
//! they can look at are the probes of this program, which change nothing and run nothing.
//!
//! The event has an item for each check that failed or could not be made; if all is well it is empty.

mod built_in;
mod check;
mod compare;
mod local;
mod machine;
mod parse;
mod probes;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::Found;
use crate::model::payload::{BaselineOutcome, BaselineResult, ExtraDetails, Payload};
use crate::settings::agent_config::BaselineCustomChecks;
use crate::sys::host::Host;
use machine::Machine;
use verdict::Verdict;

pub use check::Check;
pub use local::DIRECTORY;
pub use parse::{FILE_LIMIT, Parsed, Problem, parse};

/// Where a check that came with the program is from.
pub const SOURCE_BUILT_IN: &str = "builtin";

/// What was found is cut beyond this: lists of what is expected may be long.
const FOUND: usize = 1000;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Not as it should be.
    Failed,
    /// It could not be made.
    Unknown,
    /// As it should be.
    Passed,
    /// It is not for this machine.
    NotApplicable,
    /// The owner does not want it.
    Skipped,
}

/// A check, and what became of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The check; its conditions are dropped.
    pub check: Check,
    /// [`SOURCE_BUILT_IN`], or the name of its file.
    pub source: Box<str>,
    /// What became of it.
    pub outcome: Outcome,
    /// What was found and what was expected, why it could not be made, is not for this machine or not wanted; empty if
    /// it passed.
    pub found: String,
}

/// What became of all.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Those that were to be kept, the gravest first, then by id.
    pub results: Vec<Judged>,
    /// How many came to what.
    pub counts: BTreeMap<Outcome, usize>,
    /// What is wrong with the files of one's own, each a part of a sentence.
    pub problems: Vec<String>,
}

impl Report {
    /// How many checks came to this.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.counts.get(&outcome).copied().unwrap_or(0)
    }

    fn sort(mut self) -> Self {
        self.results.sort_by(|a, b| (a.check.severity as u8, &a.check.id).cmp(&(b.check.severity as u8, &b.check.id)));
        self
    }

    fn add(&mut self, judged: Judged, keep: &impl Fn(Outcome) -> bool) {
        *self.counts.entry(judged.outcome).or_default() += 1;
        if keep(judged.outcome) {
            self.results.push(judged);
        }
    }
}

/// Makes the checks that came with the program, and those of `/etc/twinward/baseline.d` that are wanted. Results for
/// which `keep` says no are only counted.
pub fn run(host: &Host, custom: &BaselineCustomChecks, keep: impl Fn(Outcome) -> bool) -> Report {
    run_all(host, built_in::texts(), custom, keep)
}

fn run_all<'a>(
    host: &Host,
    built_in: impl Iterator<Item = (&'a str, String)>,
    custom: &BaselineCustomChecks,
    keep: impl Fn(Outcome) -> bool,
) -> Report {
    let machine = Machine::new(host);
    let mut report = Report::default();
    let local = local::read(host, custom);
    report.problems = local.problems;
    let mut skips: BTreeMap<Box<str>, Box<str>> = BTreeMap::new();
    let (mut own, mut taken) = (Vec::new(), BTreeSet::new());
    for (name, parsed) in local.files {
        skips.extend(parsed.skips.into_iter().map(|skip| (skip.id, skip.reason)));
        own.push((name, parsed.checks));
    }
    // One file after the other, so that never more than one is in memory.
    for (_, text) in built_in {
        for check in parse(SOURCE_BUILT_IN, text.as_bytes(), false, &mut taken).checks {
            report.add(judge(&machine, check, SOURCE_BUILT_IN, &skips), &keep);
        }
    }
    let mut left_out = 0_usize;
    for (name, checks) in own {
        for check in checks {
            if !taken.insert(check.id.clone()) {
                report
                    .problems
                    .push(format!("{name}: {}: id: is the id of a check of twinward; expected another", check.id));
            } else if taken.len() > parse::CHECKS {
                left_out += 1;
            } else {
                report.add(judge(&machine, check, &name, &skips), &keep);
            }
        }
    }
    if left_out > 0 {
        report.problems.push(format!("{left_out} checks beyond {} are left out", parse::CHECKS));
    }
    report.sort()
}

/// What is wrong with the files of `/etc/twinward/baseline.d`, each a part of a sentence; no check is made.
#[must_use]
pub fn problems(host: &Host) -> Vec<String> {
    local::read(host, &BaselineCustomChecks { enabled: true, ..BaselineCustomChecks::default() }).problems
}

/// Makes the checks of one file, wherever it is; what is wrong with the file is in the report.
pub fn run_file(host: &Host, name: &str, bytes: &[u8], keep: impl Fn(Outcome) -> bool) -> Report {
    let machine = Machine::new(host);
    let parsed = parse(name, bytes, true, &mut BTreeSet::new());
    let skips = parsed.skips.into_iter().map(|skip| (skip.id, skip.reason)).collect();
    let mut report =
        Report { problems: parsed.problems.iter().map(ToString::to_string).collect(), ..Report::default() };
    for check in parsed.checks {
        report.add(judge(&machine, check, name, &skips), &keep);
    }
    report.sort()
}

fn judge(machine: &Machine, mut check: Check, source: &str, skips: &BTreeMap<Box<str>, Box<str>>) -> Judged {
    let (outcome, found) = match skips.get(&check.id) {
        Some(reason) => (Outcome::Skipped, reason.to_string()),
        None => made(machine, &check),
    };
    let found = verdict::clipped(&found, FOUND);
    check.applies = check::Applies::default();
    check.expect = Vec::new();
    Judged { check, source: source.into(), outcome, found }
}

fn made(machine: &Machine, check: &Check) -> (Outcome, String) {
    let applies = &check.applies;
    let platform = machine.platform();
    let one_of = |wanted: &[Box<str>], words: &[String]| {
        wanted.is_empty() || wanted.iter().any(|word| words.iter().any(|found| **found == **word))
    };
    let architecture: Vec<String> = platform.architecture.iter().cloned().collect();
    let beside = if !one_of(&applies.architecture, &architecture) {
        Some("it is for other processors")
    } else if !one_of(&applies.distribution, &platform.distributions) {
        Some("it is for other distributions")
    } else if applies.container.is_some_and(|wanted| wanted != platform.container) {
        Some(if platform.container { "this is a container" } else { "this is no container" })
    } else if applies.systemd.is_some_and(|wanted| wanted != platform.systemd) {
        Some(if platform.systemd { "systemd runs this machine" } else { "systemd does not run this machine" })
    } else {
        None
    };
    if let Some(why) = beside {
        return (Outcome::NotApplicable, why.to_owned());
    }
    match Verdict::all(applies.conditions.iter().map(|condition| probes::judge(machine, condition))) {
        Verdict::Holds => {}
        Verdict::Fails(why) | Verdict::Beside(why) => return (Outcome::NotApplicable, why),
        Verdict::Unknown(why) => return (Outcome::Unknown, why),
    }
    match Verdict::all(check.expect.iter().map(|condition| probes::judge(machine, condition))) {
        Verdict::Holds => (Outcome::Passed, String::new()),
        Verdict::Fails(why) => (Outcome::Failed, why),
        Verdict::Unknown(why) => (Outcome::Unknown, why),
        Verdict::Beside(why) => (Outcome::NotApplicable, why),
    }
}

pub(super) fn collect(host: &Host, custom: &BaselineCustomChecks) -> Found {
    found(run(host, custom, told))
}

/// What the event tells.
fn told(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::Unknown)
}

fn found(report: Report) -> Found {
    const NAMED: usize = 3;
    let mut missing = Vec::new();
    let mut unknown = report.results.iter().filter(|judged| judged.outcome == Outcome::Unknown);
    if let Some(first) = unknown.next() {
        let count = report.count(Outcome::Unknown);
        missing.push(format!("{count} check(s) could not be made (one of them: {}: {})", first.check.id, first.found));
    }
    if !report.problems.is_empty() {
        let named = report.problems.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        let more = report.problems.len().saturating_sub(NAMED);
        let more = if more > 0 { format!("; and {more} more problems") } else { String::new() };
        missing.push(format!("custom checks: {named}{more}"));
    }
    let made: usize = [Outcome::Passed, Outcome::Failed, Outcome::Unknown].iter().map(|o| report.count(*o)).sum();
    let source = match report.count(Outcome::Skipped) {
        0 => format!("{made} checks"),
        skipped => format!("{made} checks, {skipped} skipped"),
    };
    let items = report.results.into_iter().map(|judged| Payload::BaselineResult(item(judged))).collect();
    Found { items, source, missing, ..Found::default() }
}

fn item(judged: Judged) -> BaselineResult {
    let Judged { check, source, outcome, found } = judged;
    let id = String::from(check.id);
    let mut details = ExtraDetails::from([
        ("CheckId".to_owned(), id.clone()),
        ("Why".to_owned(), check.why.into()),
        ("Remediation".to_owned(), check.remediation.into()),
        ("Source".to_owned(), source.into()),
    ]);
    details.extend(check.cis.map(|number| ("Cis".to_owned(), number.into())));
    BaselineResult {
        description: check.title.into(),
        cce_id: check.cce.map_or(id, String::from),
        result: if outcome == Outcome::Failed { BaselineOutcome::Fail } else { BaselineOutcome::Err },
        error: found,
        severity: check.severity,
        extra_details: details,
    }
}

#[cfg(test)]
mod tests;
