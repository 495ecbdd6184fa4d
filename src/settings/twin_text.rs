//! The text of a twin document, before it means anything: its size and nesting are bounded, whoever wrote it.

use serde_json::{Map, Value};
use thiserror::Error;

use super::defaults;

/// Why a text is no twin document. None is worth a retry with the same text.
#[derive(Debug, Error)]
pub enum TwinTextError {
    /// More than the hub's two sections can hold.
    #[error("the twin document is larger than {limit} bytes: make it smaller", limit = defaults::TWIN_TEXT_LIMIT)]
    TooLarge,
    /// Nested deeper than the hub allows.
    #[error("the twin document is nested deeper than {limit} levels: flatten it", limit = defaults::TWIN_DEPTH)]
    TooDeep,
    /// Not JSON; says where.
    #[error("the twin document is not JSON: {0}")]
    NotJson(String),
    /// JSON, but a list, a text, a number.
    #[error("the twin document is {found}: it must be a JSON object")]
    NotAnObject {
        /// What it is, in words.
        found: &'static str,
    },
}

/// Reads a twin document, both sections or one.
///
/// # Errors
/// See [`TwinTextError`].
pub fn section_limits(bytes: &[u8]) -> Result<Map<String, Value>, TwinTextError> {
    bounded(bytes, defaults::TWIN_TEXT_LIMIT)
}

pub(super) fn bounded(bytes: &[u8], limit: usize) -> Result<Map<String, Value>, TwinTextError> {
    if bytes.len() > limit {
        return Err(TwinTextError::TooLarge);
    }
    if depth(bytes) > defaults::TWIN_DEPTH {
        return Err(TwinTextError::TooDeep);
    }
    match serde_json::from_slice(bytes).map_err(|e| TwinTextError::NotJson(e.to_string()))? {
        Value::Object(map) => Ok(map),
        Value::Array(_) => Err(TwinTextError::NotAnObject { found: "a list" }),
        Value::String(_) => Err(TwinTextError::NotAnObject { found: "a text" }),
        Value::Number(_) => Err(TwinTextError::NotAnObject { found: "a number" }),
        Value::Bool(_) => Err(TwinTextError::NotAnObject { found: "true or false" }),
        Value::Null => Err(TwinTextError::NotAnObject { found: "null" }),
    }
}

/// How deep brackets nest outside of strings; of text that is not JSON it is some number.
fn depth(bytes: &[u8]) -> usize {
    let (mut open, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !in_string => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_depth_form_and_kind_are_bounded() {
        let nested = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
        assert!(section_limits(nested(12).as_bytes()).is_ok());
        assert!(matches!(section_limits(nested(13).as_bytes()), Err(TwinTextError::TooDeep)));
        assert!(matches!(section_limits("[".repeat(60_000).as_bytes()), Err(TwinTextError::TooDeep)));
        let padded = |n: usize| format!("{{{}}}", " ".repeat(n - 2));
        assert!(section_limits(padded(65_536).as_bytes()).is_ok());
        assert!(matches!(section_limits(padded(65_537).as_bytes()), Err(TwinTextError::TooLarge)));
        assert!(matches!(section_limits(b"{\"a\":"), Err(TwinTextError::NotJson(_))));
        assert!(matches!(section_limits(b"{\"a\":\"\xff\"}"), Err(TwinTextError::NotJson(_))));
        assert!(matches!(section_limits(b"[]"), Err(TwinTextError::NotAnObject { found: "a list" })));
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let text = format!("{{\"a\\\"{}\":1}}", "{".repeat(100));
        assert!(section_limits(text.as_bytes()).is_ok());
    }
}
