//! Reading files of checks: TOML with `[[check]]`, and `[[skip]]` in local files (`docs/baseline.md`). Every problem of a
//! file is told at once, with its place; a check that has one is left out, the others of the file count.

mod condition;
mod fields;

use std::collections::BTreeSet;
use std::fmt;

use super::check::{Applies, Check};
use crate::model::payload::BaselineSeverity;
use fields::{Fields, Place};

/// A larger file is refused.
pub const FILE_LIMIT: usize = 256 * 1024;
/// More checks together are left out, and said so.
pub const CHECKS: usize = 1000;
/// More problems of a file are only counted.
const PROBLEMS: usize = 50;

/// What is wrong with a file of checks, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// The check: its id, or its number from 1 if it has none; empty if the whole file is meant.
    pub check: String,
    /// The key, dotted from the check; empty if the check is meant.
    pub key: String,
    /// What is wrong, and what is expected.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if !self.check.is_empty() {
            write!(f, "{}: ", self.check)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// A check that does not fit a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Its id.
    pub id: Box<str>,
    /// Why.
    pub reason: Box<str>,
}

/// What a file has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The checks that can be used.
    pub checks: Vec<Check>,
    /// What is not to be checked.
    pub skips: Vec<Skip>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Reads the bytes of a file; `local` ones may have `[[skip]]`. Ids that are in `taken` are refused; those of the
/// checks are added to it.
#[must_use]
pub fn parse(file: &str, bytes: &[u8], local: bool, taken: &mut BTreeSet<Box<str>>) -> Parsed {
    let mut parsed = Parsed::default();
    let whole = |text: String| Problem { file: file.to_owned(), check: String::new(), key: String::new(), text };
    let table = match table(bytes) {
        Ok(table) => table,
        Err(text) => {
            parsed.problems.push(whole(text));
            return parsed;
        }
    };
    for (key, value) in table {
        let entries = match (&*key, value) {
            ("check", toml::Value::Array(entries)) => entries,
            ("skip", toml::Value::Array(entries)) if local => entries,
            ("check", _) => {
                parsed.problems.push(whole("check: expected [[check]], once for each check".to_owned()));
                continue;
            }
            ("skip", _) if local => {
                parsed.problems.push(whole("skip: expected [[skip]], once for each check".to_owned()));
                continue;
            }
            _ => {
                let known = if local { "[[check]] and [[skip]]" } else { "[[check]]" };
                parsed.problems.push(whole(format!("{}: unknown, expected {known} only", fields::short(&key))));
                continue;
            }
        };
        for (number, entry) in entries.into_iter().enumerate() {
            let mut problems = Vec::new();
            if key == "skip" {
                let place = Place::new(file, format!("skip {}", number + 1), &mut problems);
                parsed.skips.extend(place.table(entry).and_then(skip));
            } else {
                let id = entry.get("id").and_then(toml::Value::as_str).map(fields::short);
                let name = id.unwrap_or_else(|| format!("check {}", number + 1));
                let place = Place::new(file, name, &mut problems);
                let check = place.table(entry).and_then(|fields| check(fields, taken));
                parsed.checks.extend(check.filter(|_| problems.is_empty()));
            }
            parsed.problems.append(&mut problems);
        }
    }
    if parsed.checks.len() > CHECKS {
        parsed.problems.push(whole(format!("has {} checks: all beyond {CHECKS} are left out", parsed.checks.len())));
        parsed.checks.truncate(CHECKS);
    }
    if parsed.problems.len() > PROBLEMS {
        let more = parsed.problems.len() - PROBLEMS;
        parsed.problems.truncate(PROBLEMS);
        parsed.problems.push(whole(format!("{more} more problems")));
    }
    parsed
}

fn table(bytes: &[u8]) -> Result<toml::Table, String> {
    if bytes.len() > FILE_LIMIT {
        return Err(format!("is larger than {} KiB", FILE_LIMIT / 1024));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    text.parse::<toml::Table>().map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        format!("{line}is not TOML: {}", error.message())
    })
}

fn skip(mut fields: Fields) -> Option<Skip> {
    let id = fields.id("id");
    let reason = fields.text("reason", 600);
    fields.end();
    Some(Skip { id: id?, reason: reason? })
}

fn check(mut fields: Fields, taken: &mut BTreeSet<Box<str>>) -> Option<Check> {
    let id = fields.id("id");
    let title = fields.text("title", 160);
    let why = fields.text("why", 600);
    let remediation = fields.text("remediation", 800);
    let severity = fields.word("severity", &["critical", "important", "warning", "informational"]);
    let cis = fields.optional_text("cis", 64);
    let cce = fields.optional_text("cce", 64);
    let applies = fields.inner("applies").map_or_else(Applies::default, applies);
    let expect = fields.conditions("expect", true);
    if let Some(id) = &id
        && !taken.insert(id.clone())
    {
        fields.problem("id", "is the id of another check already; expected one of its own");
    }
    fields.end();
    let severity = match severity? {
        "critical" => BaselineSeverity::Critical,
        "important" => BaselineSeverity::Important,
        "warning" => BaselineSeverity::Warning,
        _ => BaselineSeverity::Informational,
    };
    let (id, title, why, remediation) = (id?, title?, why?, remediation?);
    Some(Check { id, title, why, remediation, severity, cis, cce, applies, expect })
}

fn applies(mut fields: Fields) -> Applies {
    const ARCHITECTURES: [&str; 5] = ["x86", "x86_64", "arm", "aarch64", "riscv64"];
    let applies = Applies {
        architecture: fields.words("architecture", &ARCHITECTURES),
        distribution: fields.texts("distribution"),
        container: fields.flag("container"),
        systemd: fields.flag("systemd"),
        conditions: fields.conditions("if", false),
    };
    fields.end();
    applies
}

#[cfg(test)]
mod tests;
