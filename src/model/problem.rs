//! What is wrong with one key of a configuration, local or from the twin.

use serde::Serialize;

/// The kinds of finding; the first three are the published `ErrorType` values of a `ConfigurationError` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ProblemKind {
    /// The value has another type, does not parse, or is out of bounds: refused.
    TypeMismatch,
    /// The value is applied, but another one would serve better.
    NotOptimal,
    /// Two values contradict each other: both are applied.
    Conflict,
    /// A form from before the published one: read, or ignored in favour of the published one. Not a published
    /// `ErrorType`; reported and logged, never sent as an event.
    Outdated,
    /// Nobody knows this key: ignored. Not a published `ErrorType`; reported, never sent as an event.
    Unknown,
}

/// One finding: which key, what it was, what it should be, and what is in force instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The key as the user wrote it, dotted below the root of its document.
    pub key: String,
    /// The kind of finding.
    pub kind: ProblemKind,
    /// The value that was given, as compact JSON or TOML text of at most 200 characters.
    pub given: String,
    /// The expected form, in words.
    pub expected: String,
    /// The value that is in force, as text; empty if there is none.
    pub in_force: String,
}

impl Problem {
    /// Whether the given value was not taken.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind, ProblemKind::TypeMismatch)
    }
}
