//! Who is let in by PAM: the stack of a service as `pam.conf(5)` has it, from `/etc/pam.d`.
//!
//! A line is `TYPE CONTROL MODULE ARGUMENTS`; a `-` in front of the type lets the module be missing; a backslash at the
//! end joins the next line. CONTROL is a word or `[value=action …]`; `include` takes the lines of another file in place,
//! `substack` too, but what ends there ends only that part. `@include FILE` takes a whole file (Debian).

mod stack;

use super::host::Host;
use super::text_file::{self, Unreadable};

pub use stack::lets_in;

const DIRECTORIES: [&str; 3] = ["/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d"];
const LIMIT: usize = 64 * 1024;
const DEPTH: usize = 8;
/// More lines than any stack has.
const RULES: usize = 512;
/// More files than a stack has; a file may name itself, and more than once.
const FILES: usize = 128;

/// One line of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What its results lead to.
    pub control: Control,
    /// File name of the module.
    pub module: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// How many `substack` lines it is within.
    pub level: usize,
    /// Which of the substacks it is in.
    pub part: usize,
}

/// What a result leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It does not count.
    Ignore,
    /// It counts as a success, unless something failed before.
    Ok,
    /// As [`Action::Ok`], and the stack ends.
    Done,
    /// The stack fails, at its end.
    Bad,
    /// The stack fails at once.
    Die,
    /// All before is forgotten.
    Reset,
    /// So many lines are skipped.
    Jump(usize),
}

/// Actions for the results that make a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// The module is content.
    pub success: Action,
    /// The module has nothing to say.
    pub nothing: Action,
    /// The password is wrong.
    pub wrong: Action,
    /// Nobody has this name.
    pub unknown: Action,
}

/// The lines of a type (`auth`, `account`, `password`, `session`) of a service; `None` if there is no such service.
///
/// # Errors
/// A file cannot be read.
pub fn stack(host: &Host, service: &str, kind: &str) -> Result<Option<Vec<Rule>>, Unreadable> {
    let mut reader = Reader { host, kind, rules: Vec::new(), parts: 0, files: 0 };
    Ok(reader.file(service, DEPTH, (0, 0))?.then_some(reader.rules))
}

struct Reader<'a> {
    host: &'a Host,
    kind: &'a str,
    rules: Vec<Rule>,
    parts: usize,
    files: usize,
}

impl Reader<'_> {
    fn file(&mut self, service: &str, depth: usize, (level, part): (usize, usize)) -> Result<bool, Unreadable> {
        // A name from a file: it must not lead elsewhere.
        let name = service.strip_prefix("/etc/pam.d/").unwrap_or(service);
        if name.contains('/') || name.starts_with('.') || depth == 0 || self.files == FILES {
            return Ok(false);
        }
        self.files += 1;
        let mut text = None;
        for directory in DIRECTORIES {
            text = text_file::read(self.host, format!("{directory}/{name}"), LIMIT)?;
            if text.is_some() {
                break;
            }
        }
        let Some(text) = text else { return Ok(false) };
        for line in text.replace("\\\n", " ").lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(name) = line.strip_prefix("@include").filter(|rest| rest.starts_with([' ', '\t'])) {
                self.file(name.trim(), depth - 1, (level, part))?;
                continue;
            }
            let Some((kind, control, module, arguments)) = fields(line) else { continue };
            if !kind.trim_start_matches('-').eq_ignore_ascii_case(self.kind) || self.rules.len() >= RULES {
                continue;
            }
            match &*control.to_ascii_lowercase() {
                "include" => {
                    self.file(&module, depth - 1, (level, part))?;
                }
                "substack" => {
                    self.parts += 1;
                    let inner = (level + 1, self.parts);
                    self.file(&module, depth - 1, inner)?;
                }
                control => {
                    let module = module.rsplit('/').next().unwrap_or_default().to_owned();
                    self.rules.push(Rule { control: control_of(control), module, arguments, level, part });
                }
            }
        }
        Ok(true)
    }
}

/// Type, control, module, arguments.
fn fields(line: &str) -> Option<(&str, &str, String, Vec<String>)> {
    let (kind, rest) = line.split_once(|c: char| c.is_ascii_whitespace())?;
    let rest = rest.trim_start();
    let (control, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => rest.split_once(|c: char| c.is_ascii_whitespace())?,
    };
    let mut words = Vec::new();
    let mut rest = rest.trim_start();
    while !rest.is_empty() {
        // An argument with blanks stands in brackets.
        let bracket = rest.strip_prefix('[').and_then(|inner| inner.split_once(']'));
        let (word, after) =
            bracket.or_else(|| rest.split_once(|c: char| c.is_ascii_whitespace())).unwrap_or((rest, ""));
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    let mut words = words.into_iter();
    Some((kind, control, words.next()?, words.collect()))
}

fn control_of(text: &str) -> Control {
    use Action::{Bad, Die, Done, Ignore, Ok};
    let all = |success, failure| Control { success, nothing: Ignore, wrong: failure, unknown: failure };
    match text {
        "required" => all(Ok, Bad),
        "requisite" => all(Ok, Die),
        "sufficient" => all(Done, Ignore),
        "optional" => all(Ok, Ignore),
        pairs => {
            let of = |names: &[&str]| {
                let pair = |name: &&str| {
                    pairs.split_ascii_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                };
                match names.iter().find_map(pair) {
                    Some("ignore") => Ignore,
                    Some("ok") => Ok,
                    Some("done") => Done,
                    Some("die") => Die,
                    Some("reset") => Action::Reset,
                    Some(number) => number.parse().ok().filter(|n| *n > 0).map_or(Bad, Action::Jump),
                    None => Bad,
                }
            };
            Control {
                success: of(&["success", "default"]),
                nothing: of(&["ignore", "default"]),
                wrong: of(&["auth_err", "default"]),
                unknown: of(&["user_unknown", "default"]),
            }
        }
    }
}

#[cfg(test)]
mod tests;
