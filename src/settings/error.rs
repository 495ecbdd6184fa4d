//! What can be wrong with the local configuration. Values of secret keys never appear in any of it.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::Origin;

/// Everything that is wrong with the local configuration, in the order in which it was read. Never worth a retry: a
/// person must act first.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SettingsError {
    /// At least one.
    pub problems: Vec<LocalProblem>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalProblem {
    /// The file or variable.
    pub origin: Option<Origin>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The key, dotted; empty if the whole file is meant.
    pub key: String,
    /// What is wrong and what was expected.
    pub fault: Fault,
}

impl fmt::Display for LocalProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}")?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.fault)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
        }
    }
}

/// What is wrong, what was expected, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The file or directory cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The file is not there.
    #[error("does not exist; {next}")]
    Absent {
        /// What to do next.
        next: String,
    },
    /// Too large for a configuration.
    #[error("is larger than 1 MiB: not a configuration file")]
    TooLarge,
    /// More drop-ins than are read.
    #[error("has more than {limit} files: remove those that are not needed")]
    TooManyFiles {
        /// How many are read.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// Not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// Nobody knows this key, section or variable.
    #[error("unknown {what}{}", .nearest.as_ref().map_or_else(String::new, |n| format!("; did you mean {n}?")))]
    Unknown {
        /// `key`, `section` or `variable`.
        what: &'static str,
        /// The most similar known one.
        nearest: Option<String>,
    },
    /// A value of another type.
    #[error("is {found}, expected {expected}")]
    WrongType {
        /// What it is, in words.
        found: &'static str,
        /// The expected form.
        expected: String,
    },
    /// A value that is out of bounds or does not parse.
    #[error("{given} is not accepted, expected {expected}")]
    BadValue {
        /// The value, or a stand-in for a secret one.
        given: String,
        /// The expected form.
        expected: String,
    },
    /// A value that a later version will know.
    #[error("{given} is not in this version, expected {expected}")]
    NotInThisVersion {
        /// The value.
        given: String,
        /// What this version knows.
        expected: String,
    },
    /// Both ways to give the connection string.
    #[error("identity.connection_string_file is also set ({other}): keep exactly one of the two")]
    TwoIdentities {
        /// Where the other one is set.
        other: Origin,
    },
    /// A file with an inline secret that others can read.
    #[error("the file has mode {mode:04o}: others could read the secret; run: chmod 600 {}", .path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file with an inline secret that belongs to somebody else.
    #[error("the file belongs to uid {owner}: it must belong to root or to uid {us}; run: chown {us} {}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// The layers do not merge into settings; only a fault of the program can cause it.
    #[error("the layers do not merge: {0}; please report this")]
    Unmergeable(String),
    /// More problems than are listed.
    #[error("{count} more problems are not listed: mend these first")]
    More {
        /// How many are not listed.
        count: usize,
    },
}

impl Fault {
    /// The expected form, if the fault is about one.
    #[must_use]
    pub fn expected(&self) -> Option<&str> {
        match self {
            Self::WrongType { expected, .. }
            | Self::BadValue { expected, .. }
            | Self::NotInThisVersion { expected, .. } => Some(expected),
            _ => None,
        }
    }

    /// The most similar known key, if the key is unknown and there is one.
    #[must_use]
    pub fn nearest(&self) -> Option<&str> {
        match self {
            Self::Unknown { nearest, .. } => nearest.as_deref(),
            _ => None,
        }
    }
}

/// At most `limit` characters of foreign text, with control characters made visible; a cut is marked with `…`.
#[must_use]
pub(super) fn clipped(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    for c in text.chars() {
        let (width, visible) = if c.is_control() {
            (c.escape_default().count(), c.escape_default().collect())
        } else {
            (1, String::from(c))
        };
        if length + width >= limit {
            // The last place is kept for the mark.
            out.push('…');
            return out;
        }
        out.push_str(&visible);
        length += width;
    }
    out
}

/// The candidate that is most similar to `text`, if any is similar enough to be a slip of the pen.
pub(super) fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison takes the product of both lengths, and the text may come from the twin.
    let length = text.chars().take(81).count();
    candidates
        .filter(|c| length <= 80 && length.min(c.len()) * 10 >= length.max(c.len()) * 6)
        .map(|c| (strsim::normalized_levenshtein(text, c), c))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_short_and_tame() {
        assert_eq!(clipped("größe\n", 20), "größe\\n");
        assert_eq!(clipped(&"x".repeat(500), 200).chars().count(), 200);
        assert_eq!(clipped(&"\u{1b}".repeat(500), 200).chars().last(), Some('…'));
        assert!(clipped(&"\u{1b}".repeat(500), 200).chars().count() <= 200);
    }

    #[test]
    fn only_similar_words_are_offered() {
        let known = ["hub.port", "hub.host"];
        assert_eq!(nearest("hub.prot", known.into_iter()), Some("hub.port"));
        assert_eq!(nearest("colour", known.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), known.into_iter()), None);
    }
}
