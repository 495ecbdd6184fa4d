//! What a section of a twin may hold, and the merge of patches.
//!
//! Names: at most 1024 bytes, no control characters, no `.`, `$` or blank. Values: objects, arrays, strings of at most
//! 4096 bytes, numbers (integers from -2^52 to 2^52-1), booleans; null deletes, so arrays hold none. Ten levels of named
//! objects below the section. 32 KiB a section: names and strings count their bytes, numbers 8, booleans 4.

use serde_json::{Map, Value};
use thiserror::Error;

/// A section of a twin: desired or reported, without `$version`.
pub(super) type Section = Map<String, Value>;

const DEEPEST: usize = 10;
const LARGEST: usize = 32 * 1024;
const LONGEST_NAME: usize = 1024;
const LONGEST_TEXT: usize = 4096;
const INTEGERS: std::ops::Range<i64> = -(1 << 52)..(1 << 52);

/// Why the hub does not take a change of a twin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TwinError {
    /// The body is not a JSON object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// A name is too long, or holds a control character, `.`, `$` or a blank.
    #[error("the property name {0:?} is not allowed")]
    Name(String),
    /// More than ten levels.
    #[error("{0} lies deeper than 10 levels")]
    Depth(String),
    /// A text longer than 4 KiB, an integer out of range, or a null in an array.
    #[error("the value of {0} is not allowed: {1}")]
    Value(String, &'static str),
    /// `$version` of the request is no number.
    #[error("the $version asked for is not a number")]
    Condition,
    /// `$version` of the request is not the one in force.
    #[error("the request is for version {given}, the section has {in_force}")]
    Version {
        /// The version asked for.
        given: u64,
        /// The version there is.
        in_force: u64,
    },
    /// The section would pass 32 KiB.
    #[error("the section would have {0} bytes; 32768 are allowed")]
    Size(usize),
    /// No such module.
    #[error("there is no module {0}")]
    NoModule(String),
}

impl TwinError {
    /// The status the hub answers with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Version { .. } => 412,
            Self::Size(_) => 413,
            Self::NoModule(_) => 404,
            _ => 400,
        }
    }
}

/// Judges a patch, or a whole section, without its size.
///
/// # Errors
/// The first rule that is broken.
pub(super) fn check(section: &Section) -> Result<(), TwinError> {
    members(section, 0, false)
}

fn members(object: &Section, depth: usize, in_array: bool) -> Result<(), TwinError> {
    for (name, value) in object {
        if name.len() > LONGEST_NAME || name.chars().any(|c| c.is_control() || ".$ ".contains(c)) {
            return Err(TwinError::Name(name.chars().take(64).collect()));
        }
        judge(name, value, depth, in_array)?;
    }
    Ok(())
}

fn judge(name: &str, value: &Value, depth: usize, in_array: bool) -> Result<(), TwinError> {
    let wrong = |why| Err(TwinError::Value(name.to_owned(), why));
    match value {
        Value::Object(_) | Value::Array(_) if depth == DEEPEST => Err(TwinError::Depth(name.to_owned())),
        Value::Object(object) => members(object, depth + 1, in_array),
        Value::Array(items) => items.iter().try_for_each(|item| judge(name, item, depth + 1, true)),
        Value::Null if in_array => wrong("null inside an array"),
        Value::String(text) if text.len() > LONGEST_TEXT => wrong("a text of more than 4096 bytes"),
        Value::Number(n) if !n.is_f64() && !n.as_i64().is_some_and(|i| INTEGERS.contains(&i)) => {
            wrong("an integer outside of -2^52 to 2^52-1")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Merges a patch that was checked, and judges the size of the outcome (RFC 7396).
///
/// # Errors
/// The section would be too large.
pub(super) fn merged(section: &Section, patch: &Section) -> Result<Section, TwinError> {
    let mut merged = section.clone();
    merge(&mut merged, patch);
    match size(&merged) {
        bytes if bytes > LARGEST => Err(TwinError::Size(bytes)),
        _ => Ok(merged),
    }
}

fn merge(target: &mut Section, patch: &Section) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.remove(name)),
            Value::Object(inner) => {
                let slot = target.entry(name.as_str()).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Section::new());
                }
                if let Value::Object(object) = slot {
                    merge(object, inner);
                }
            }
            other => drop(target.insert(name.clone(), other.clone())),
        }
    }
}

fn size(object: &Section) -> usize {
    object.iter().map(|(name, value)| name.len() + weight(value)).sum()
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(object) => size(object),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn section(value: Value) -> Section {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    fn judged(value: Value) -> Result<(), TwinError> {
        check(&section(value))
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!({"property": "value"}), |inner, _| json!({ "n": inner }))
    }

    #[test]
    fn ten_named_levels_are_the_most() {
        assert_eq!(judged(nested(10)), Ok(()));
        assert!(matches!(judged(nested(11)), Err(TwinError::Depth(_))));
        assert!(matches!(judged(nested(100)), Err(TwinError::Depth(_))));
    }

    #[test]
    fn names_and_values_have_their_limits() {
        for name in ["a.b", "$a", "a b", "a\u{7}", "a\u{85}", &"n".repeat(1025)] {
            assert!(matches!(judged(json!({"x": {name: 1}})), Err(TwinError::Name(_))), "{name}");
        }
        assert_eq!(judged(json!({ "n".repeat(1024): "t".repeat(4096), "urn:a_b-c#": true })), Ok(()));
        let low = -4_503_599_627_370_496_i64;
        assert_eq!(
            judged(json!({"a": low, "b": 4_503_599_627_370_495_i64, "c": 1e300, "d": null, "e": [1, {"f": []}]})),
            Ok(())
        );
        for value in [
            json!(low - 1),
            json!(4_503_599_627_370_496_i64),
            json!(u64::MAX),
            json!([null]),
            json!([{"a": null}]),
            json!("t".repeat(4097)),
        ] {
            assert!(matches!(judged(json!({ "x": value })), Err(TwinError::Value(..))), "{value}");
        }
    }

    #[test]
    fn a_patch_merges_as_rfc_7396_says() {
        let before = section(json!({"a": {"b": 1, "c": 2}, "d": [1], "e": 5}));
        let patch = section(json!({"a": {"b": null, "x": {"y": null}}, "d": [2, 3], "e": {"f": 1}, "g": null}));
        let after = section(json!({"a": {"c": 2, "x": {}}, "d": [2, 3], "e": {"f": 1}}));
        assert_eq!(merged(&before, &patch), Ok(after));
    }

    #[test]
    fn a_section_holds_32_kib_counted_by_names_and_values() {
        let texts =
            |count: usize| -> Section { (0..count).map(|i| (format!("{i:08}"), json!("t".repeat(4088)))).collect() };
        let full = merged(&Section::new(), &texts(8)).unwrap();
        assert_eq!(size(&full), LARGEST);
        assert_eq!(merged(&full, &section(json!({ "n": true }))), Err(TwinError::Size(LARGEST + 5)));
        assert!(merged(&full, &section(json!({ "00000000": 1 }))).is_ok());
        assert_eq!(size(&section(json!({"ab": [1, true, "xyz", {"c": 2.5}]}))), 2 + 8 + 4 + 3 + 1 + 8);
    }
}
