//! The text of a twin document, before it means anything: its size and nesting are bounded, whoever wrote it.

use serde_json::{Map, Value};
use thiserror::Error;

use super::defaults;

/// Why a text is no twin document. None is worth a retry with the same text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TwinTextError {
    /// More than a twin can hold.
    #[error("the twin has more than {limit} bytes: remove what is not needed from the desired properties")]
    TooLarge {
        /// What is taken.
        limit: usize,
    },
    /// Nested deeper than the hub allows.
    #[error("the twin is nested deeper than {limit} levels: flatten the desired properties", limit = defaults::TWIN_DEPTH)]
    TooDeep,
    /// Not JSON; says where.
    #[error("the twin is not JSON: {0}")]
    NotJson(String),
    /// JSON, but a list, a text, a number.
    #[error("the twin is {found}: it must be a JSON object")]
    NotAnObject {
        /// What it is, in words.
        found: &'static str,
    },
}

/// Reads a twin document, or a section of it, of at most `limit` bytes (see [`defaults`]).
///
/// # Errors
/// See [`TwinTextError`].
pub fn read(bytes: &[u8], limit: usize) -> Result<Map<String, Value>, TwinTextError> {
    if bytes.len() > limit {
        return Err(TwinTextError::TooLarge { limit });
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
        let read = |text: &[u8]| read(text, 65_536);
        assert!(read(nested(defaults::TWIN_DEPTH).as_bytes()).is_ok());
        assert_eq!(read(nested(defaults::TWIN_DEPTH + 1).as_bytes()), Err(TwinTextError::TooDeep));
        assert_eq!(read("[".repeat(60_000).as_bytes()), Err(TwinTextError::TooDeep));
        let padded = |n: usize| format!("{{{}}}", " ".repeat(n - 2));
        assert!(read(padded(65_536).as_bytes()).is_ok());
        assert_eq!(read(padded(65_537).as_bytes()), Err(TwinTextError::TooLarge { limit: 65_536 }));
        assert!(matches!(read(b"{\"a\":"), Err(TwinTextError::NotJson(_))));
        assert!(matches!(read(b"{\"a\":\"\xff\"}"), Err(TwinTextError::NotJson(_))));
        assert_eq!(read(b"[]"), Err(TwinTextError::NotAnObject { found: "a list" }));
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let text = format!("{{\"a\\\"{}\":1}}", "{".repeat(100));
        assert!(read(text.as_bytes(), 1000).is_ok());
        assert_eq!(depth(br#"{"a":"[[[\"[[[","b":[{}]}"#), 3);
    }
}
