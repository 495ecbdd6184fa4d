//! Secrets in command lines are masked before anything is stored: whoever reads the events must not learn a password
//! from them. Each secret becomes `***`; what stands around it stays, so that the line can still be read and counted.
//!
//! | masked | example |
//! |---|---|
//! | the value of an option, a variable or a member with a telling name (`names.rs`) | `--password ***`, `DB_PASS=***`, `"token":"***"`, `Password: ***` |
//! | credentials in a URL | `https://user:***@host/` |
//! | keys of connection strings, signatures of tokens | `SharedAccessKey=***;`, `&sig=***` |
//! | what follows a scheme of the `Authorization` header | `Bearer ***` |
//! | tokens that can be told by their look, private keys | `ghp_…`, a JWT, `-----BEGIN PRIVATE KEY-----` |
//! | options that are secret in one program only (`programs.rs`) | `mysql -p***`, `curl -u user:***` |
//!
//! It is a net, not a wall: a secret that nothing tells from other words goes through.
//!
//! Arguments are looked at one by one, so that a value with blanks in it is masked whole. An argument that holds blanks
//! itself (`sh -c "…"`) is looked at word by word, so that a secret in it hides no more than itself. All of it is linear in the length of the line, which is bounded.

mod names;
mod programs;

use std::ops::Range;

use names::Names;

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// Masks secrets.
#[derive(Clone, Debug)]
pub struct Redactor {
    /// `None`: nothing is masked.
    names: Option<Names>,
}

/// A command line without its secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The arguments joined with blanks.
    pub text: String,
    /// How many secrets were masked.
    pub masked: usize,
}

/// What the argument after an option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// A secret.
    Secret,
    /// A user name, this character, and a secret.
    After(char),
}

impl Redactor {
    /// Masks what has a telling name, and what one of `more` names too.
    pub fn new<'a>(more: impl IntoIterator<Item = &'a str>) -> Self {
        Self { names: Some(Names::new(more)) }
    }

    /// Masks nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self { names: None }
    }

    /// Joins arguments with blanks. `cut` says that the last one is not whole.
    pub fn join<'a>(&self, arguments: impl IntoIterator<Item = &'a str>, cut: bool) -> Line {
        let mut line = Line::default();
        let mut arguments = arguments.into_iter().peekable();
        let mut program = "";
        let mut next = None;
        let mut position = 0;
        while let Some(argument) = arguments.next() {
            if position > 0 {
                line.text.push(' ');
            }
            if let Some(names) = &self.names {
                if position == 0 {
                    program = programs::name(argument);
                }
                let cut = cut && arguments.peek().is_none();
                let (ranges, value) = names.look(argument, program, position, next, cut);
                line.push(argument, &ranges);
                next = value;
            } else {
                line.text.push_str(argument);
            }
            position += 1;
        }
        line
    }
}

impl Line {
    /// Appends `text` with these parts of it masked.
    fn push(&mut self, text: &str, ranges: &[Range<usize>]) {
        let mut from = 0;
        for range in ranges {
            self.text.push_str(text.get(from..range.start).unwrap_or_default());
            self.text.push_str(MASK);
            self.masked += 1;
            from = range.end;
        }
        self.text.push_str(text.get(from..).unwrap_or_default());
    }
}

impl Names {
    /// The secrets of one argument, in order and apart; and what the next argument is. `expected` is what this one is
    /// said to be by the one before.
    fn look(
        &self,
        argument: &str,
        program: &str,
        position: usize,
        expected: Option<Value>,
        cut: bool,
    ) -> (Vec<Range<usize>>, Option<Value>) {
        match expected {
            // An option in place of the value: it was left out.
            Some(_) if argument.starts_with("--") && argument.len() > 2 => {}
            Some(Value::Secret) => return (whole(argument, 0), None),
            Some(Value::After(mark)) => {
                return (argument.find(mark).map(|at| whole(argument, at + 1)).unwrap_or_default(), None);
            }
            None => {}
        }
        match programs::look(program, position, argument) {
            programs::Look::Here(value) => {
                let from = match value {
                    (from, Value::Secret) => Some(from),
                    (from, Value::After(mark)) => {
                        argument.get(from..).and_then(|rest| rest.find(mark)).map(|at| from + at + 1)
                    }
                };
                return (from.map(|from| whole(argument, from)).unwrap_or_default(), None);
            }
            programs::Look::Next(value) => return (Vec::new(), Some(value)),
            programs::Look::Nothing => {}
        }
        if self.is_secret_option(argument) {
            return (Vec::new(), Some(Value::Secret));
        }
        if let Some((name, value)) = argument.split_once('=')
            && !programs::is_shell(program)
            && name.chars().all(is_name)
            && self.is_secret(name.trim_start_matches('-'))
        {
            return (whole(argument, argument.len() - value.len()), None);
        }
        let mut ranges = Vec::new();
        // Most arguments are one word, such as a path: only a token can hide in it.
        if !argument.bytes().all(|byte| byte == b'/' || is_name(byte.into())) {
            self.pairs(argument, &mut ranges);
            self.words(argument, &mut ranges);
            urls(argument, cut, &mut ranges);
        }
        tokens(argument, &mut ranges);
        (merged(ranges), None)
    }

    /// `-password`, `--db-password`: an option whose value stands behind it.
    fn is_secret_option(&self, word: &str) -> bool {
        word.starts_with('-') && word.chars().all(is_name) && self.is_secret(word.trim_start_matches('-'))
    }

    /// `name=value`, `name: value`, `"name":"value"`.
    fn pairs(&self, text: &str, ranges: &mut Vec<Range<usize>>) {
        let mut covered = 0;
        for (at, mark) in text.match_indices(['=', ':']) {
            // A value that holds names itself ends where they do: each byte is looked at once.
            if at + 1 < covered {
                continue;
            }
            let before = text.get(..at).unwrap_or_default();
            let before = before.strip_suffix(['"', '\'']).unwrap_or(before);
            let start = before.rfind(|c: char| !is_name(c)).map_or(0, |i| i + len_at(before, i));
            let name = before.get(start..).unwrap_or_default();
            let query = mark == "=" && name == "sig" && before.get(..start).is_some_and(|b| b.ends_with(['&', '?']));
            let header = name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("proxy-authorization");
            if !(query || header && mark == ":" || self.is_secret(name.trim_start_matches('-'))) {
                continue;
            }
            let rest = text.get(at + 1..).unwrap_or_default();
            let blanks = if mark == ":" { rest.len() - rest.trim_start().len() } else { 0 };
            let mut from = at + 1 + blanks;
            if header {
                from += scheme(text.get(from..).unwrap_or_default());
            }
            // A header goes on to its end; everything else ends with the word.
            let end = end_of_value(text, from, mark == ":" && blanks > 0);
            if end > from {
                ranges.push(from..end);
                covered = end;
            }
        }
    }

    /// Words of an argument that holds a command line itself: `--password secret`, `Bearer secret`.
    fn words(&self, text: &str, ranges: &mut Vec<Range<usize>>) {
        let mut secret = false;
        let mut at = 0;
        for word in text.split(char::is_whitespace) {
            let start = at;
            at += word.len() + text.get(at + word.len()..).and_then(|t| t.chars().next()).map_or(0, char::len_utf8);
            if word.is_empty() {
                continue;
            }
            if secret && !(word.starts_with("--") && word.len() > 2) {
                ranges.push(start..end_of_value(text, start, false));
            }
            let bare = word.trim_matches(['"', '\'']);
            secret = bare.eq_ignore_ascii_case("bearer") || self.is_secret_option(bare);
        }
    }
}

/// Where the value at `from` ends: at its closing quote, at the end of the text for a header (`to_the_end`), else at the
/// first character that no value holds.
fn end_of_value(text: &str, from: usize, to_the_end: bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let quoted = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let length = match quoted {
        Some(quote) => rest.get(1..).and_then(|inner| inner.find(quote)).map(|end| end + 2),
        None if to_the_end => rest.find(['"', '\'']),
        None => rest.find(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | ',' | '"' | '\'' | '}' | ')' | '|')),
    };
    from + length.unwrap_or(rest.len())
}

/// The length of an authentication scheme and the blanks behind it.
fn scheme(text: &str) -> usize {
    let Some((word, rest)) = text.split_once(' ') else { return 0 };
    let known = ["basic", "bearer", "digest", "token", "negotiate", "sharedaccesssignature"];
    if !known.iter().any(|k| word.eq_ignore_ascii_case(k)) {
        return 0;
    }
    word.len() + 1 + rest.len() - rest.trim_start().len()
}

/// `scheme://user:secret@host`. Of a text that was `cut`, what may be the start of a secret is taken for one.
fn urls(text: &str, cut: bool, ranges: &mut Vec<Range<usize>>) {
    for (at, mark) in text.match_indices("://") {
        let start = at + mark.len();
        let rest = text.get(start..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\''));
        let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let user = authority.rfind('@').or((cut && end.is_none()).then_some(authority.len()));
        let Some(user) = user.and_then(|user| authority.get(..user)) else { continue };
        if let Some(colon) = user.find(':').filter(|colon| colon + 1 < user.len()) {
            ranges.push(start + colon + 1..start + user.len());
        }
    }
}

/// Tokens that can be told by their look.
fn tokens(text: &str, ranges: &mut Vec<Range<usize>>) {
    const PREFIXES: [&str; 12] = [
        "ghp_",
        "gho_",
        "ghs_",
        "ghu_",
        "ghr_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "xoxp-",
        "xoxa-",
        "sk_live_",
        "npm_",
    ];
    if let Some(start) = text.find("-----BEGIN ").filter(|start| {
        text.get(*start..).is_some_and(|t| t.lines().next().unwrap_or_default().contains("PRIVATE KEY"))
    }) {
        ranges.push(start..text.len());
    }
    let mut end = 0;
    // A character of a name is one byte, and no part of another character is.
    for word in text.as_bytes().split(|byte| !is_name((*byte).into())) {
        let at = end;
        end = at + word.len() + 1;
        if word.len() < 16 {
            continue;
        }
        let jwt = word.starts_with(b"eyJ") && word.len() >= 30 && word.split(|byte| *byte == b'.').count() == 3;
        if jwt || PREFIXES.iter().any(|prefix| word.starts_with(prefix.as_bytes())) {
            ranges.push(at..at + word.len());
        }
    }
}

/// What a name is written with.
fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn len_at(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8)
}

/// Everything from `from` on, if there is anything.
fn whole(argument: &str, from: usize) -> Vec<Range<usize>> {
    (from < argument.len()).then_some(from..argument.len()).into_iter().collect()
}

/// In order, with those that touch each other as one.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|later, earlier| {
        let touch = later.start <= earlier.end;
        if touch {
            earlier.end = earlier.end.max(later.end);
        }
        touch
    });
    ranges
}

#[cfg(test)]
mod tests;
