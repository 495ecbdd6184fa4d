//! The members of a table, taken one by one; what is left at the end is unknown.

use toml::{Table, Value};

use super::super::check::Condition;
use super::{Problem, condition};

/// More entries of a list are refused.
const LIST: usize = 64;
/// Longer texts of conditions are refused.
const TEXT: usize = 256;

/// Where in a file we are, and where problems go.
pub(super) struct Place<'a> {
    file: &'a str,
    check: String,
    /// Dotted, up to here.
    path: String,
    /// How many combinators and lists of conditions this is within.
    pub(super) depth: usize,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Place<'a> {
    pub(super) fn new(file: &'a str, check: String, problems: &'a mut Vec<Problem>) -> Self {
        Self { file, check, path: String::new(), depth: 0, problems }
    }

    fn inner(&mut self, key: &str) -> Place<'_> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Place { file: self.file, check: self.check.clone(), path, depth: self.depth, problems: self.problems }
    }

    pub(super) fn problem(&mut self, text: impl Into<String>) {
        let (file, check) = (self.file.to_owned(), self.check.clone());
        self.problems.push(Problem { file, check, key: self.path.clone(), text: text.into() });
    }

    /// The value as a table.
    pub(super) fn table(mut self, value: Value) -> Option<Fields<'a>> {
        match value {
            Value::Table(table) => Some(Fields { place: self, table, asked: Vec::new() }),
            other => {
                self.problem(format!("is {}, expected a table", kind(&other)));
                None
            }
        }
    }
}

/// A table whose members are taken one by one.
pub(super) struct Fields<'a> {
    pub(super) place: Place<'a>,
    table: Table,
    asked: Vec<&'static str>,
}

impl Fields<'_> {
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn problem(&mut self, key: &str, text: impl Into<String>) {
        self.place.inner(key).problem(text);
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.table.remove(key)
    }

    fn wrong<T>(&mut self, key: &str, value: &Value, expected: &str) -> Option<T> {
        self.problem(key, format!("is {}, expected {expected}", kind(value)));
        None
    }

    /// A text of at most `most` characters.
    pub(super) fn optional_text(&mut self, key: &'static str, most: usize) -> Option<Box<str>> {
        match self.take(key)? {
            Value::String(text) if text.trim().is_empty() => {
                self.problem(key, "is empty");
                None
            }
            Value::String(text) if text.chars().count() > most => {
                self.problem(key, format!("has {} characters, expected at most {most}", text.chars().count()));
                None
            }
            Value::String(text) => Some(text.into()),
            other => self.wrong(key, &other, "a text"),
        }
    }

    /// As [`Fields::optional_text`]; must be there.
    pub(super) fn text(&mut self, key: &'static str, most: usize) -> Option<Box<str>> {
        if !self.has(key) {
            self.asked.push(key);
            self.problem(key, "is missing");
            return None;
        }
        self.optional_text(key, most)
    }

    /// A value to compare with; may be empty.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Box<str>> {
        match self.take(key)? {
            Value::String(text) if text.len() <= TEXT => Some(text.into()),
            Value::String(text) => {
                self.problem(key, format!("has {} bytes, expected at most {TEXT}", text.len()));
                None
            }
            other => self.wrong(key, &other, "a text"),
        }
    }

    /// A name of a check.
    pub(super) fn id(&mut self, key: &'static str) -> Option<Box<str>> {
        let id = self.text(key, 256)?;
        let good = (3..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !good {
            self.problem(key, format!("is \"{}\", expected 3 to 64 of a-z, 0-9 and -", short(&id)));
        }
        good.then_some(id)
    }

    /// One of some words; must be there.
    pub(super) fn word(&mut self, key: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let given = self.text(key, 256)?;
        self.known(key, &given, words)
    }

    /// One of some words.
    pub(super) fn optional_word(&mut self, key: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let given = self.value(key)?;
        self.known(key, &given, words)
    }

    fn known(&mut self, key: &str, given: &str, words: &[&'static str]) -> Option<&'static str> {
        let known = words.iter().find(|word| **word == given).copied();
        if known.is_none() {
            self.problem(key, format!("is \"{}\", expected {}", short(given), words.join(", ")));
        }
        known
    }

    /// A text, or a list of texts; empty if it is not there.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<Box<str>> {
        let values = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(one) => vec![one],
        };
        if values.is_empty() || values.len() > LIST {
            self.problem(key, format!("has {} entries, expected 1 to {LIST}", values.len()));
            return Vec::new();
        }
        let mut texts = Vec::new();
        for value in values {
            match value {
                Value::String(text) if !text.is_empty() && text.len() <= TEXT => texts.push(text.into()),
                Value::String(text) => {
                    self.problem(key, format!("has a text of {} bytes, expected 1 to {TEXT}", text.len()));
                }
                other => {
                    self.wrong::<()>(key, &other, "a text or a list of texts");
                }
            }
        }
        texts
    }

    /// As [`Fields::texts`]; must be there, and an empty list is good.
    pub(super) fn texts_or_none(&mut self, key: &'static str) -> Vec<Box<str>> {
        match self.table.get(key) {
            Some(Value::Array(list)) if list.is_empty() => {
                self.take(key);
                return Vec::new();
            }
            None => self.problem(key, "is missing; expected a list of names"),
            _ => {}
        }
        self.texts(key)
    }

    /// As [`Fields::texts`], each one of some words.
    pub(super) fn words(&mut self, key: &'static str, words: &[&'static str]) -> Vec<Box<str>> {
        let given = self.texts(key);
        for word in &given {
            self.known(key, word, words);
        }
        given
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        match self.take(key)? {
            Value::Boolean(flag) => Some(flag),
            other => self.wrong(key, &other, "true or false"),
        }
    }

    pub(super) fn number(&mut self, key: &'static str) -> Option<i64> {
        match self.take(key)? {
            Value::Integer(number) => Some(number),
            other => self.wrong(key, &other, "a whole number"),
        }
    }

    /// Port numbers, one or a list.
    pub(super) fn ports(&mut self, key: &'static str) -> Vec<u16> {
        let values = match self.take(key) {
            Some(Value::Array(values)) if (1..=LIST).contains(&values.len()) => values,
            Some(one) => vec![one],
            None => Vec::new(),
        };
        let mut ports = Vec::new();
        for value in values {
            match value.as_integer().and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0) {
                Some(port) => ports.push(port),
                None => self.problem(key, "expected a port from 1 to 65535, or a list of them"),
            }
        }
        ports
    }

    /// Permission bits, as octal text.
    pub(super) fn mode(&mut self, key: &'static str) -> Option<u32> {
        let text = self.optional_text(key, 256)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777 && text.len() <= 5);
        if mode.is_none() {
            self.problem(key, format!("is \"{}\", expected an octal mode such as \"0640\"", short(&text)));
        }
        mode
    }

    /// A table within.
    pub(super) fn inner(&mut self, key: &'static str) -> Option<Fields<'_>> {
        let value = self.take(key)?;
        self.place.inner(key).table(value)
    }

    /// A list of conditions.
    pub(super) fn conditions(&mut self, key: &'static str, needed: bool) -> Vec<Condition> {
        let values = match self.take(key) {
            Some(Value::Array(values)) if (1..=LIST).contains(&values.len()) => values,
            None if !needed => return Vec::new(),
            None => {
                self.problem(key, "is missing; expected a list of conditions");
                return Vec::new();
            }
            Some(_) => {
                self.problem(key, format!("expected a list of 1 to {LIST} conditions"));
                return Vec::new();
            }
        };
        let mut conditions = Vec::new();
        for (number, value) in values.into_iter().enumerate() {
            let place = self.place.inner(&format!("{key}[{}]", number + 1));
            conditions.extend(condition::read(place, value));
        }
        conditions
    }

    /// A condition within.
    pub(super) fn condition(&mut self, key: &'static str) -> Option<Condition> {
        let value = self.take(key)?;
        condition::read(self.place.inner(key), value)
    }

    /// Whatever was not taken is a problem.
    pub(super) fn end(mut self) {
        let left: Vec<String> = self.table.keys().cloned().collect();
        for key in left {
            let known = self.asked.join(", ");
            self.problem(&short(&key), format!("is unknown; expected one of {known}"));
        }
    }
}

/// What a value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// The beginning of a text of somebody else's.
pub(super) fn short(text: &str) -> String {
    super::super::verdict::clipped(text, 64)
}
