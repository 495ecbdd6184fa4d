//! `twinward baseline`: how this machine, or an image, is set up, and what to do about it.
//!
//! Exit codes: 0 no critical check failed, 1 one did, 2 there is no such directory, 78 the file of `--checks` has
//! problems.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::json;

use super::args::Global;
use super::exit::{self, CommandError};
use super::output::{self, printable};
use crate::collect::baseline::{self, FILE_LIMIT, Judged, Outcome, Report};
use crate::model::payload::BaselineSeverity;
use crate::settings::agent_config::BaselineCustomChecks;
use crate::sys::host::Host;

/// Arguments of `baseline`.
#[derive(Debug, ClapArgs)]
pub struct BaselineArgs {
    /// Show the checks that passed, do not apply or are skipped too.
    #[arg(long)]
    all: bool,
    /// Check the files below this directory, such as those of an unpacked image, instead of this machine.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Make only the checks of this file, wherever it is: to try one before it goes to /etc/twinward/baseline.d.
    #[arg(long, value_name = "FILE")]
    checks: Option<PathBuf>,
    /// Show no checks that are less severe.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::Informational)]
    severity: Level,
}

/// The values of `--severity`, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Level {
    Critical,
    Important,
    Warning,
    Informational,
}

impl Level {
    const fn of(severity: BaselineSeverity) -> Self {
        match severity {
            BaselineSeverity::Critical => Self::Critical,
            BaselineSeverity::Important => Self::Important,
            BaselineSeverity::Warning => Self::Warning,
            BaselineSeverity::Informational => Self::Informational,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Important => "important",
            Self::Warning => "warning",
            Self::Informational => "informational",
        }
    }
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failed => "fail",
        Outcome::Unknown => "err",
        Outcome::Passed => "pass",
        Outcome::NotApplicable => "not-applicable",
        Outcome::Skipped => "skipped",
    }
}

/// Runs the command.
///
/// # Errors
/// There is no such directory, the file of checks cannot be used, or standard output is closed.
pub fn run(args: &BaselineArgs, global: &Global) -> anyhow::Result<u8> {
    let host = match &args.root {
        None => Host::system(),
        Some(root) => Host::rooted(directory(root)?),
    };
    let keep = |outcome| args.all || matches!(outcome, Outcome::Failed | Outcome::Unknown);
    let report = match &args.checks {
        None => {
            let all = BaselineCustomChecks { enabled: true, ..BaselineCustomChecks::default() };
            baseline::run(&host, &all, keep)
        }
        Some(file) => of_file(&host, file, keep)?,
    };
    let critical = report
        .results
        .iter()
        .any(|judged| judged.outcome == Outcome::Failed && judged.check.severity == BaselineSeverity::Critical);
    for problem in &report.problems {
        writeln!(io::stderr().lock(), "twinward: checks of your own: {}", printable(problem))?;
    }
    let shown = report.results.iter().filter(|judged| Level::of(judged.check.severity) <= args.severity);
    if global.json {
        for judged in shown {
            output::json_line(&as_json(judged))?;
        }
    } else {
        let mut text: String = shown.map(as_text).collect();
        text.push_str(&summary(&report));
        io::stdout().lock().write_all(text.as_bytes())?;
    }
    Ok(if critical { exit::FAILED } else { exit::OK })
}

fn directory(root: &Path) -> anyhow::Result<PathBuf> {
    let real = root.canonicalize().ok().filter(|path| path.is_dir());
    let message = || format!("--root {}: there is no such directory", root.display());
    real.ok_or_else(|| CommandError { code: exit::USAGE, message: message() }.into())
}

fn of_file(host: &Host, path: &Path, keep: impl Fn(Outcome) -> bool) -> anyhow::Result<Report> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_LIMIT as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let report = baseline::run_file(host, &name, &bytes, keep);
    if report.problems.is_empty() {
        return Ok(report);
    }
    let many = if report.problems.len() == 1 { "1 problem" } else { &format!("{} problems", report.problems.len()) };
    let list = report.problems.join("\n  ");
    Err(CommandError::configuration(format!("{} has {many}:\n  {list}", path.display())).into())
}

fn as_json(judged: &Judged) -> serde_json::Value {
    let check = &judged.check;
    json!({
        "id": check.id,
        "title": check.title,
        "severity": Level::of(check.severity).as_str(),
        "result": word(judged.outcome),
        "found": judged.found,
        "remediation": check.remediation,
        "why": check.why,
        "cis": check.cis,
        "cce": check.cce,
        "source": judged.source,
    })
}

/// Severity, result and id in columns; the rest beneath the id.
fn as_text(judged: &Judged) -> String {
    const WIDTH: usize = 78;
    let check = &judged.check;
    let shown = if judged.outcome == Outcome::NotApplicable { "n/a" } else { word(judged.outcome) };
    let mut text = format!("{:<13}  {shown:<7}  {}\n", Level::of(check.severity).as_str(), check.id);
    let mut add = |label: &str, said: &str| {
        for line in wrapped(&format!("{label}{}", printable(said)), WIDTH) {
            text.push_str(&format!("{:24}{line}\n", ""));
        }
    };
    add("", &check.title);
    match judged.outcome {
        Outcome::Failed => {
            add("found: ", &judged.found);
            add("to do: ", &check.remediation);
        }
        Outcome::Unknown | Outcome::NotApplicable | Outcome::Skipped => add("because: ", &judged.found),
        Outcome::Passed => {}
    }
    text.push('\n');
    text
}

/// Lines of at most `width` characters, broken at blanks where there are any.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line, mut length) = (Vec::new(), String::new(), 0);
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let letters = word.chars().count();
        if length > 0 && length + 1 + letters > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += letters;
    }
    lines.push(line);
    lines
}

fn summary(report: &Report) -> String {
    format!(
        "{} passed, {} failed, {} could not be checked, {} not applicable, {} skipped\n",
        report.count(Outcome::Passed),
        report.count(Outcome::Failed),
        report.count(Outcome::Unknown),
        report.count(Outcome::NotApplicable),
        report.count(Outcome::Skipped),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a-very-long-word b", 4), ["a-very-long-word", "b"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
