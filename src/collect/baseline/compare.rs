//! Comparing a value that was found with what a check expects.

use std::fmt;

use super::verdict::{Verdict, clipped};

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// How they are compared.
    pub rule: Rule,
    /// Upper and lower case are told apart.
    pub exact: bool,
    /// Whether it holds if there is no value.
    pub absent_holds: bool,
}

/// How a value is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is this.
    Is(Box<str>),
    /// It is anything else.
    IsNot(Box<str>),
    /// It is one of these.
    OneOf(Vec<Box<str>>),
    /// It is none of these.
    NoneOf(Vec<Box<str>>),
    /// It is a number, and not less.
    AtLeast(i64),
    /// It is a number, and not more.
    AtMost(i64),
    /// This is part of it.
    Contains(Box<str>),
    /// This is no part of it.
    Lacks(Box<str>),
}

impl Comparison {
    /// Whether a value is as it must be. What is no number does not hold where one is expected.
    #[must_use]
    pub fn holds(&self, value: &str) -> bool {
        let number = value.trim().parse::<i64>().ok();
        self.holds_with(value, number)
    }

    /// As [`Comparison::holds`], for a value that is a number in its own way.
    #[must_use]
    pub fn holds_with(&self, value: &str, number: Option<i64>) -> bool {
        let same = |wanted: &str| self.same(value, wanted);
        match &self.rule {
            Rule::Is(wanted) => same(wanted),
            Rule::IsNot(wanted) => !same(wanted),
            Rule::OneOf(list) => list.iter().any(|wanted| same(wanted)),
            Rule::NoneOf(list) => !list.iter().any(|wanted| same(wanted)),
            Rule::AtLeast(least) => number.is_some_and(|n| n >= *least),
            Rule::AtMost(most) => number.is_some_and(|n| n <= *most),
            Rule::Contains(part) => has(value, part, self.exact),
            Rule::Lacks(part) => !has(value, part, self.exact),
        }
    }

    fn same(&self, value: &str, wanted: &str) -> bool {
        if self.exact { value == wanted } else { value.to_lowercase() == wanted.to_lowercase() }
    }

    /// Judges a value; `what` names it.
    #[must_use]
    pub fn judge(&self, what: &str, value: Option<&str>) -> Verdict {
        match value {
            None if self.absent_holds => Verdict::Holds,
            None => Verdict::fails(format!("{what} is not set, expected {self}")),
            Some(value) if self.holds(value) => Verdict::Holds,
            Some(value) => Verdict::fails(format!("{what} is \"{}\", expected {self}", clipped(value, 120))),
        }
    }
}

/// Whether a text has a part. An option of one letter, such as `-s`, is a word or one of several letters in a word.
#[must_use]
pub fn has(text: &str, part: &str, exact: bool) -> bool {
    if let Some(letter) =
        part.strip_prefix('-').and_then(|rest| rest.parse::<char>().ok()).filter(char::is_ascii_alphabetic)
    {
        let mut words = text.split([' ', '\t', '"', '\'']).filter_map(|word| word.strip_prefix('-'));
        return words.any(|letters| letters.bytes().all(|b| b.is_ascii_alphabetic()) && letters.contains(letter));
    }
    if exact { text.contains(part) } else { text.to_lowercase().contains(&part.to_lowercase()) }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[Box<str>]| values.iter().map(|v| format!("\"{v}\"")).collect::<Vec<_>>().join(", ");
        match &self.rule {
            Rule::Is(wanted) => write!(f, "\"{wanted}\""),
            Rule::IsNot(wanted) => write!(f, "anything but \"{wanted}\""),
            Rule::OneOf(values) => write!(f, "one of {}", list(values)),
            Rule::NoneOf(values) => write!(f, "none of {}", list(values)),
            Rule::AtLeast(least) => write!(f, "at least {least}"),
            Rule::AtMost(most) => write!(f, "at most {most}"),
            Rule::Contains(part) => write!(f, "one with \"{part}\" in it"),
            Rule::Lacks(part) => write!(f, "one without \"{part}\" in it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rule: Rule) -> Comparison {
        Comparison { rule, exact: false, absent_holds: false }
    }

    #[test]
    fn values_are_compared_without_case_and_numbers_as_numbers() {
        let list = || ["no".into(), "never".into()].to_vec();
        for (rule, good, bad) in [
            (Rule::Is("No".into()), "nO", "yes"),
            (Rule::IsNot("yes".into()), "no", "YES"),
            (Rule::OneOf(list()), "Never", ""),
            (Rule::NoneOf(list()), "x", "NO"),
            (Rule::AtLeast(2), "10", "1"),
            (Rule::AtMost(-1), " -2 ", "two"),
            (Rule::Contains("SHA".into()), "x-sha2", "md5"),
            (Rule::Lacks("cbc".into()), "ctr", "aes-CBC"),
        ] {
            let compare = of(rule);
            assert!(compare.holds(good) && !compare.holds(bad), "{compare}");
        }
        assert!(!Comparison { exact: true, ..of(Rule::Is("No".into())) }.holds("no"));
    }

    #[test]
    fn what_is_found_and_expected_is_told() {
        let compare = of(Rule::AtMost(4));
        assert_eq!(
            compare.judge("MaxAuthTries", Some("6")),
            Verdict::fails("MaxAuthTries is \"6\", expected at most 4")
        );
        assert_eq!(compare.judge("x", None), Verdict::fails("x is not set, expected at most 4"));
        assert_eq!(Comparison { absent_holds: true, ..compare }.judge("x", None), Verdict::Holds);
    }
}
